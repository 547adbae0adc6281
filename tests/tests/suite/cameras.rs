//! Tests that boot Linux with several cameras, or none.

use std::{
    fmt::Write as _,
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use devices::{
    camera::regs,
    media::{FORMATS, Format, Layout},
};
use guest_images::Kind;
use tests::{
    colours,
    guest::{self, exec, printed, run, text},
    harness::{Group, Place, Test},
    tests,
};
use vmm::observe::{frames, report::Report};

/// The tests.
pub(crate) fn group() -> Group {
    // These depend on no architecture: they test the devices and the portable part of our driver.
    let same = tests![a_sensor_looks_at_a_picture, a_capture_is_what_the_camera_wrote,];
    Group {
        name: "cameras",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![
            two_cameras_stream_from_their_windows,
            cameras_share_a_window,
            a_machine_without_a_camera,
        ]
        .into_iter()
        .chain(same.into_iter().map(Test::the_same_everywhere))
        .collect(),
    }
}

/// Streams from all cameras at once in a guest, each with a different format, and writes the drivers' lists of buffers to
/// files named after the cameras. `camera N` prints the processed node of the Nth camera of the tree.
const STREAM: &str = r#"set -e
    camera() {
        set -- $1 /sys/bus/platform/drivers/minivmm-camera/*.camera
        shift $1
        set -- $1/video4linux/video*
        basename $1
    }
    stream() {
        node=$(camera $1)
        v4l2-ctl -d /dev/$node -v width=$2,height=$3,pixelformat=$4 --stream-mmap=3 --stream-count=8 \
            --stream-to=/out/$1.raw > /tmp/$1.log 2>&1 || { cat /tmp/$1.log >&2; exit 1; }
    }
    stream 1 640 480 YUYV & first=$!
    stream 2 320 240 NV12 & second=$!
    wait $first; wait $second
    i=0; for file in /sys/kernel/debug/minivmm-camera/*/extent; do i=$((i + 1)); cat $file > /out/$i.extent; done"#;

/// Streams from the two cameras of a machine with `arguments`, and checks the frames. Returns the report, and the addresses of
/// each camera's buffers.
fn stream(arguments: &str) -> (Report, [[u64; 2]; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let (out, json) = (folder.path().join("out"), folder.path().join("report.json"));
    let paths = format!("--out {} --report {}", out.display(), json.display());
    let output = exec(&format!("{arguments} {paths}"), STREAM);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for (file, fourcc, width, height) in [("1.raw", b"YUYV", 640, 480), ("2.raw", b"NV12", 320, 240)] {
        let layout = Layout::new(u32::from_le_bytes(*fourcc), width, height).unwrap();
        let checked = frames::check_file(&out.join(file), &layout).unwrap();
        assert!(checked.bad.is_empty() && checked.frames == 8, "{file}: {checked:?}");
    }
    let extent = |file: &str| {
        let text = fs::read_to_string(out.join(file)).unwrap();
        let mut addresses = text.split_whitespace().map(|word| {
            u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text}"))
        });
        [addresses.next().unwrap(), addresses.next().unwrap()]
    };
    let extents = [extent("1.extent"), extent("2.extent")];
    (serde_json::from_slice(&fs::read(json).unwrap()).unwrap(), extents)
}

fn two_cameras_stream_from_their_windows() {
    let (report, extents) = stream(
        "--cma 16M,default --cma 16M,name=front --cma 16M,name=back \
         --camera window=front,timing=stall,scene=gradient --camera window=back,timing=stall,scene=zone-plate",
    );
    let [default, front, back] = &report.windows[..] else { panic!("{:?}", report.windows) };
    for (window, [start, end]) in [front, back].into_iter().zip(extents) {
        assert!(
            window.base <= start && start < end && end <= window.base + window.size,
            "{start:#x} to {end:#x} is not in {window:?}"
        );
        assert!(window.pages_written > 0, "{window:?}");
    }
    assert_eq!(default.pages_written, 0);
    let frames: Vec<u64> = report.devices.iter().map(|device| device.counters["frames"]).collect();
    assert!(frames.len() == 2 && frames.iter().all(|frames| *frames >= 8), "{frames:?}");
}

/// The written pages of a window are those of all its cameras. Their buffers can be interleaved, but do not overlap:
/// the checksum of each frame shows this.
fn cameras_share_a_window() {
    let (report, [[first, first_end], [second, second_end]]) =
        stream("--cma 32M --camera timing=stall --camera timing=stall");
    let [window] = &report.windows[..] else { panic!("{:?}", report.windows) };
    // At least the frames of each camera.
    let pages = (640 * 480 * 2_u64).div_ceil(4096) + (320 * 240 * 3 / 2_u64).div_ceil(4096);
    assert!(window.pages_written >= pages, "{} of {pages}", window.pages_written);
    let written = |start: u64, end: u64| {
        let range = (start - window.base) / 4096..(end - window.base) / 4096;
        window.runs_written.iter().any(|(page, count)| *page < range.end && page + count > range.start)
    };
    assert!(written(first, first_end) && written(second, second_end), "{:?}", window.runs_written);
}

fn a_machine_without_a_camera() {
    let nodes = printed(&exec("--cma 16M --camera none", "ls /dev | grep -c -e video -e media || true"));
    assert_eq!(nodes, "0\n");
}

/// A picture of two colours passes lens, sensor, ISP, DMA and driver, in every format.
fn a_sensor_looks_at_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let (picture, out) = (flag(folder.path()), folder.path().join("out"));
    let arguments = format!(
        "--cma 16M --camera timing=stall,defects=20,scene={} --out {}",
        picture.display(),
        out.display()
    );
    let mut command = String::from("set -e\n");
    for format in FORMATS {
        let (code, node) = (code(format), regs::channel_of_format(format));
        let _ = writeln!(
            command,
            "v4l2-ctl -d /dev/video{node} -v width=320,height=240,pixelformat={code} --stream-mmap=3 --stream-count=4 \
                --stream-to=/out/{code}.raw 2> /tmp/log || {{ cat /tmp/log >&2; exit 1; }}",
        );
    }
    let output = exec(&arguments, &command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for format in FORMATS {
        let layout = Layout::new(format.fourcc, 320, 240).unwrap();
        let frames = out.join(format!("{}.raw", code(format)));
        let checked = frames::check_file(&frames, &layout).unwrap();
        assert!(checked.bad.is_empty() && checked.frames == 4, "{}: {checked:?}", format.name);
        let frame = frames::read_frame(&frames, &layout, 3).unwrap();
        check_flag(&frame, &layout, tolerance(format));
    }
}

/// The two halves of a scene.
const FLAG: [[u8; 3]; 2] = [[200, 60, 40], [40, 90, 180]];

/// A picture of 320x240 with two halves.
fn flag(folder: &Path) -> PathBuf {
    let picture = folder.join("flag.png");
    let mut encoder = png::Encoder::new(fs::File::create(&picture).unwrap(), 320, 240);
    encoder.set_color(png::ColorType::Rgb);
    let line = FLAG.map(|colour| colour.repeat(160)).concat();
    encoder.write_header().unwrap().write_image_data(&line.repeat(240)).unwrap();
    picture
}

/// Checks that the frame shows that picture, within `limit` codes.
fn check_flag(frame: &[u8], layout: &Layout, limit: f64) {
    let name = layout.format().name;
    for (x, scene) in [72, 232].into_iter().zip(FLAG) {
        let seen = colours::of_patch(frame, layout, [x, 112]);
        // The exposure shows nine tenths of the light.
        let mut expected = scene.map(|value| f64::from(value) * 0.953);
        if name == "GREY" {
            expected = [colours::luma(expected); 3];
        }
        let close = seen.iter().zip(expected).all(|(seen, expected)| (seen - expected).abs() <= limit);
        assert!(close, "{name} at {x}: {seen:.1?} instead of {expected:.1?}");
    }
}

fn a_capture_is_what_the_camera_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, png) = (folder.path().join("socket"), folder.path().join("capture.png"));
    let arguments = format!(
        "--cma 16M --camera fps=10,scene={} --api-socket {}",
        flag(folder.path()).display(),
        socket.display()
    );
    let stream = "v4l2-ctl -v width=320,height=240,pixelformat=NV12 --stream-mmap=3 --stream-count=1000000 2> /dev/null";
    let machine = thread::spawn(move || exec(&arguments, stream));
    let ctl = |words: &[&str]| run(Command::new(guest::minivmm()).arg("ctl").arg(&socket).args(words));
    let begun = Instant::now();
    let said = loop {
        let output = ctl(&["capture", "--png", png.to_str().unwrap()]);
        if output.status.success() {
            break text(&output.stdout);
        }
        // The socket or the stream does not exist yet.
        assert!(begun.elapsed() < guest::LIMIT && !machine.is_finished(), "{}", text(&output.stderr));
        thread::sleep(Duration::from_millis(200));
    };
    assert!(said.starts_with("camera0, frame ") && said.contains(", NV12: "), "{said}");
    let mut reader = png::Decoder::new(BufReader::new(fs::File::open(&png).unwrap())).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!((info.width, info.height), (320, 240));
    let layout = Layout::new(u32::from_le_bytes(*b"RGB3"), 320, 240).unwrap();
    check_flag(&rgb, &layout, 8.0);

    // Drawn as blocks, on 80 columns and 24 rows without a terminal.
    let drawn = printed(&ctl(&["capture", "--device", "camera0"]));
    assert_eq!((drawn.lines().count(), drawn.matches('\u{2580}').count()), (20 + 1, 53 * 20), "{drawn}");
    let refused = ctl(&["capture", "--device", "camera1"]);
    assert!(
        text(&refused.stderr)
            .contains("'camera1' is not one of the machine's devices that make frames; they are camera0"),
        "{refused:?}"
    );
    printed(&ctl(&["stop"]));
    assert_eq!(machine.join().unwrap().status.code(), Some(143));
}

/// V4L2's code of a format, as text.
fn code(format: &Format) -> String {
    text(&format.fourcc.to_le_bytes())
}

/// The largest difference between the mean of a patch and the scene, of 255, for a format.
fn tolerance(format: &Format) -> f64 {
    match format.name {
        // The ISP's rounding and its noise reduction.
        "RGB24" | "BGR24" | "XRGB32" | "XBGR32" | "GREY" => 6.0,
        "YUYV" | "UYVY" | "NV12" | "NV16" | "YUV420" => 7.0,
        // In the dark, a step of linear light with eight bits is several steps of sRGB.
        "SRGGB8" | "SGRBG8" | "SGBRG8" | "SBGGR8" => 8.0,
        // Only noise.
        _ => 5.0,
    }
}
