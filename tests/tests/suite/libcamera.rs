//! libcamera on the camera rkisp1, as Debian packages it: it finds the camera, captures without a gap, and its exposure and white balance
//! make the same picture in any light.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
    libcamera::{Frame, by_hand, minivmm, take},
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    let tests = tests![
        cam_captures_at_each_size,
        lc_compliance_is_content,
        any_start_and_any_light_make_the_same_picture,
        another_light_is_followed,
    ];
    let tests = tests.into_iter().map(Test::only_if_thorough).collect();
    Group { name: "libcamera", place: Place::OutsideOfLabs, tests }
}

/// The time of a guest in a lab. `lc-compliance` takes most of it.
const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);

/// The camera's identifier: its place in the device tree.
const CAMERA: &str = "/base/soc/i2c@10070000/camera-sensor@10";

/// What the guest prints.
fn printed(keys: &str, script: &str, out: &Path) -> String {
    let output = guest::run_within(&mut minivmm(keys, script, out).unwrap(), PATIENCE);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    said
}

fn frames(said: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    said.lines().for_each(|line| take(line, &mut frames));
    frames
}

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const FORMAT: &str = "width=640,height=480,pixelformat=NV12";

/// The means of Y, Cb and Cr of a frame in NV12, in the middle three quarters: what libcamera measures.
fn means(file: &Path) -> [f64; 3] {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(bytes.len(), WIDTH * HEIGHT * 3 / 2, "{}", file.display());
    let (luma, chroma) = bytes.split_at(WIDTH * HEIGHT);
    let mean = |plane: &[u8], lines: usize, first: usize, step: usize| {
        let line = |y: usize| &plane[y * WIDTH..][WIDTH / 8..WIDTH * 7 / 8];
        let values: Vec<f64> = (lines / 8..lines * 7 / 8)
            .flat_map(|y| line(y).iter().skip(first).step_by(step))
            .map(|&value| f64::from(value))
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    [mean(luma, HEIGHT, 0, 1), mean(chroma, HEIGHT / 2, 0, 2), mean(chroma, HEIGHT / 2, 1, 2)]
}

/// `cam` lists one camera, and captures 120 whole frames of each size, in order. A guest in a lab can be too slow for each frame.
fn cam_captures_at_each_size() {
    const SIZES: [[u32; 2]; 3] = [[640, 480], [1280, 720], [1920, 1080]];
    const FRAMES: usize = 120;
    let captures: String = SIZES
        .iter()
        .map(|[width, height]| {
            format!("cam -c1 --capture={FRAMES} -s width={width},height={height},pixelformat=NV12 2> /out/{width}\n")
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let said = printed("scene=bars", &format!("cam -l 2> /out/list\n{captures}"), folder.path());
    let expected = format!("Available cameras:\n1: 'imx219' ({CAMERA})\n");
    let captured = said.strip_prefix(&expected).unwrap_or_else(|| panic!("{said}"));
    assert!(!captured.contains("adjusted"), "{captured}");
    let parts: Vec<&str> = captured.split(&format!("cam0: Capture {FRAMES} frames\n")).skip(1).collect();
    assert_eq!(parts.len(), SIZES.len(), "{captured}");
    for (part, [width, height]) in parts.into_iter().zip(SIZES) {
        let sequence: Vec<u32> = frames(part).iter().map(|frame| frame.sequence).collect();
        assert!(sequence.len() == FRAMES && sequence.is_sorted_by(|a, b| a < b), "{sequence:?}");
        let bytes = format!("bytesused: {}/{}", width * height, width * height / 2);
        assert_eq!(part.matches(&bytes).count(), FRAMES, "{part}");
        println!("{width}x{height}: {} frames, the last is number {:?}", sequence.len(), sequence.last());
    }
}

/// All of libcamera's own tests: up to 89 requests in each role, with the sizes that libcamera takes by default: up to the sensor's
/// 3280x2464. libcamera skips those with fewer requests than the pipeline needs. A scene without noise takes the lab less time.
fn lc_compliance_is_content() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("lc-compliance -c {CAMERA} 2> /out/log || echo failed\n");
    let said = printed("scene=flat,noise=no", &script, folder.path());
    println!("{said}");
    assert!(said.contains("[  PASSED  ] ") && !said.contains("FAILED") && !said.contains("failed"), "{said}");
}

/// The exposures with which the guest starts, in microseconds and with an analogue gain: too dark, about right, and too bright. None is so
/// dark that all measurements are 0: libcamera 0.4 asks for a hundred million times the exposure then, and takes a fifth of that back with
/// each frame.
const STARTS: [(u32, f64); 3] = [(1000, 1.0), (4000, 1.0), (33_000, 8.0)];

/// The lights: daylight, an incandescent lamp, and shade.
const LIGHTS: [[f64; 3]; 3] = [[1.0, 1.0, 1.0], [1.4, 1.0, 0.6], [0.8, 1.0, 1.3]];

/// The mean luma of a converged picture differs by at most this from that of another light and start, of 255.
const LUMA_TOLERANCE: f64 = 5.0;

/// The means of Cb and Cr of a grey scene differ by at most this from 128.
const GREY_TOLERANCE: f64 = 3.0;

fn lamp([red, green, blue]: [f64; 3]) -> String {
    format!("lamp={red}:{green}:{blue}")
}

/// The first eight frames have an exposure by hand, from there on libcamera's AGC chooses it. It changes an exposure by a fifth of what
/// is missing with each frame.
fn any_start_and_any_light_make_the_same_picture() {
    const FRAMES: usize = 150;
    let script: String = STARTS
        .iter()
        .enumerate()
        .map(|(number, &(exposure_us, gain))| {
            let script = by_hand(exposure_us, gain, None);
            format!(
                "{script}
                cam -c1 --capture={FRAMES} -s {FORMAT} --metadata --script=/tmp/script --file=/tmp/frame-# 2> /out/log{number}
                mv $(ls /tmp/frame-* | sed -n 6p) /out/start{number}
                mv $(ls /tmp/frame-* | tail -n 1) /out/end{number}
                rm /tmp/frame-*\n"
            )
        })
        .collect();
    let mut ends = Vec::new();
    for light in LIGHTS {
        let folder = tempfile::tempdir().unwrap();
        let said = printed(&format!("scene=checker,{}", lamp(light)), &script, folder.path());
        let [dark, right, bright] =
            ["start0", "start1", "start2"].map(|name| means(&folder.path().join(name))[0]);
        assert!(dark + 20.0 < right && right + 20.0 < bright, "the starts are {dark}, {right}, {bright}");
        for (number, part) in said.split(&format!("cam0: Capture {FRAMES} frames\n")).skip(1).enumerate() {
            let end = means(&folder.path().join(format!("end{number}")));
            println!("{light:?}, {:?}: {end:?}, {:?}", STARTS[number], frames(part).last());
            ends.push(end);
        }
    }
    assert_eq!(ends.len(), STARTS.len() * LIGHTS.len());
    for [luma, cb, cr] in &ends {
        assert!((luma - ends[0][0]).abs() <= LUMA_TOLERANCE, "{ends:?}");
        assert!([cb, cr].iter().all(|chroma| (**chroma - 128.0).abs() <= GREY_TOLERANCE), "{ends:?}");
    }
}

/// From daylight to a darker, redder light: libcamera exposes longer, takes red back, and the picture is the same again.
fn another_light_is_followed() {
    const BEFORE: usize = 80;
    const FRAMES: usize = 200;
    const DIM: [f64; 3] = [0.7, 0.5, 0.3];
    let folder = tempfile::tempdir().unwrap();
    let (socket, out) = (folder.path().join("api"), folder.path().join("out"));
    // The first frames have an exposure by hand: libcamera's own start can have a black frame, by an exposure of 0.
    let script = by_hand(STARTS[1].0, STARTS[1].1, None);
    let script = format!(
        "{script}
        cam -c1 --capture={FRAMES} -s {FORMAT} --metadata --script=/tmp/script --file=/tmp/frame-# 2> /out/log
        mv $(ls /tmp/frame-* | sed -n {BEFORE}p) /out/before
        mv $(ls /tmp/frame-* | tail -n 1) /out/after"
    );
    let mut minivmm = minivmm("scene=checker", &script, &out).unwrap();
    minivmm.args(["--timeout", "1200", "--api-socket"]).arg(&socket);
    let mut child = guest::spawn(minivmm.stdin(Stdio::null()).stdout(Stdio::piped()));
    let mut frames = Vec::new();
    let mut is_dim = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        take(&line.unwrap(), &mut frames);
        if frames.len() > BEFORE && !is_dim {
            is_dim = true;
            let mut ctl = Command::new(guest::minivmm());
            let output = guest::run(ctl.arg("ctl").arg(&socket).args(["set", "rkisp10", &lamp(DIM)]));
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(frames.len(), FRAMES);
    let [before, after] = ["before", "after"].map(|name| means(&out.join(name)));
    let (first, last) = (&frames[BEFORE - 1], &frames[FRAMES - 1]);
    println!("{before:?} with {first:?}, then {after:?} with {last:?}");
    assert!((before[0] - after[0]).abs() <= LUMA_TOLERANCE, "{before:?}, {after:?}");
    assert!(after[1..].iter().all(|chroma| (chroma - 128.0).abs() <= GREY_TOLERANCE), "{after:?}");
    assert!(last.exposure_us * last.gain > 1.5 * first.exposure_us * first.gain, "{first:?}, {last:?}");
    assert!(
        last.colours[0] < 0.8 * first.colours[0] && last.colours[1] > 1.2 * first.colours[1],
        "{first:?}, {last:?}"
    );
}
