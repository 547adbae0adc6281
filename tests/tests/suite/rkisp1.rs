//! Tests that boot Linux with the camera rkisp1: the kernel's own drivers rkisp1, i2c-rk3x, phy-rockchip-dphy-rx0, and those of the sensors.

use std::{fs, path::Path, process::Command, sync::atomic::AtomicBool};

use devices::{
    media::{
        Pattern, Phase, RawSource, SensorSpec,
        isp::Rect,
        rkisp1::{Frame, Isp, Params, Statistics},
        sensor::{BITS, BLACK, Settings},
    },
    sensors::Model,
};
use guest_images::Kind;
use tests::{
    guest::{self, LIMIT, minivmm, run_within, text},
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::observe::report::Report;

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests = tests![linux_streams_by_both_paths];
    let others = tests![drivers_come_and_go, two_cameras_stream_beside_ours];
    tests.extend(others.into_iter().map(Test::the_same_everywhere));
    let long = tests![
        every_format_streams,
        streams_begin_and_end,
        drivers_are_unbound_from_a_stream,
        a_slow_path_is_written_after_its_stop
    ];
    tests.extend(long.into_iter().map(Test::only_if_thorough));
    Group { name: "rkisp1", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// Shell functions for the guest. `modules` loads the drivers and waits for the graph. `sensor CODE SIZE` and `isp CODE SIZE` set the
/// formats up to the ISP's input and at its output, `path PATH CODE SIZE CODE SIZE` those of a resizer, and `only PATH` (or
/// `only both`) its links. `set_up` does all this for NV12 of 640x480 from the main path. `stream PATH WIDTH HEIGHT FORMAT COUNT FILE`
/// captures, and prints the numbers of the frames. `quiet` prints the warnings in the kernel log, but not that a driver was built out of the
/// kernel's tree.
pub(crate) const FUNCTIONS: &str = r#"
    modules() {
        # Debian's image has loaded them.
        [ ! -d /lib/modules/$(uname -r) ] || for module in i2c-rk3x phy-rockchip-dphy-rx0 imx219 imx290 rockchip-isp1; do modprobe $module; done
        tries=100
        until [ "$(cat /sys/class/video4linux/v4l-subdev*/name | grep -c imx)" = "${1:-1}" ]; do
            tries=$((tries - 1)); [ $tries -gt 0 ] || { echo no graph; exit 3; }
            usleep 50000
        done
    }
    format() { media-ctl -d ${media:-0} -V "\"$1\":$2 [fmt:$3/$4 ${5:+crop:(0,0)/$5}]" || exit 4; }
    sensor() {
        format "$(media-ctl -d ${media:-0} -p | sed -n 's/^- entity.*: \(imx[0-9]* [^ ]*\) .*/\1/p')" 0 $1 $2
        format rkisp1_csi 0 $1 $2; format rkisp1_isp 0 $1 $2 $2
    }
    isp() { format rkisp1_isp 2 $1 $2 $2; }
    path() { format rkisp1_resizer_$1 0 $2 $3 $3; format rkisp1_resizer_$1 1 $4 $5; }
    only() {
        for path in mainpath selfpath; do
            [ $1 = both ] || [ $1 = $path ] && on=1 || on=0
            media-ctl -d ${media:-0} -l "\"rkisp1_isp\":2 -> \"rkisp1_resizer_$path\":0 [$on]" || exit 5
        done
    }
    set_up() {
        only mainpath; sensor SRGGB10_1X10 640x480; isp YUYV8_2X8 640x480
        path mainpath YUYV8_2X8 640x480 YUYV8_1_5X8 640x480
    }
    stream() {
        timeout 300 v4l2-ctl -d $(media-ctl -d ${media:-0} -e rkisp1_$1) -v width=$2,height=$3,pixelformat=$4 --verbose \
            --stream-mmap=${buffers:-6} --stream-count=$5 ${6:+--stream-to=/out/$6} > /tmp/$1.log 2>&1 || { cat /tmp/$1.log; exit 6; }
        echo "$1 $4:" $(sed -n 's/.*seq: *\([0-9]*\) .*/\1/p' /tmp/$1.log)
    }
    quiet() {
        dmesg | grep -E "WARNING|BUG|Oops|nobody cared|rk3x-i2c|imx219|imx290|rkisp1|rk_dphy|regulator" | grep -vE "registered rkisp1_|Consider updating driver imx| STATUS |taint"
    }
"#;

/// The program in the guest that does more with buffers than v4l2-ctl, see tests/guest.
pub(crate) const BUFFERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rkisp1-buffers"));

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

/// The size of the self path's pictures.
const SELF_SIZE: [usize; 2] = [320, 240];

/// The readout of IMX290 in the driver's mode of 1280x720: the middle of the recording pixels. The driver of 6.1 leaves the exposure at a
/// frame less a line, of 3300 periods of 148.5 MHz.
const IMX290_SETTINGS: Settings = Settings {
    crop: [332, 188],
    size: [1280, 720],
    binning: 1,
    flip_x: false,
    flip_y: false,
    exposure_ns: 24_977_777,
    analogue_gain: 256,
    digital_gain: 256,
    black: 240,
};

/// The exposure of the driver's default of 1600 lines, each of 3448 pixels at 182.4 MHz, in nanoseconds.
const EXPOSURE_NS: u32 = 30_245_614;

/// The readout of the driver's mode of 640x480: the middle of the array, 2x2 pixels to one.
const SETTINGS: Settings = Settings {
    crop: [1000, 752],
    size: [WIDTH, HEIGHT],
    binning: 2,
    flip_x: false,
    flip_y: false,
    exposure_ns: EXPOSURE_NS,
    analogue_gain: 256,
    digital_gain: 256,
    black: BLACK,
};

/// What a machine printed and reported.
struct Ran {
    printed: String,
    report: Report,
}

impl Ran {
    fn counter(&self, path: &str) -> u64 {
        self.report.counter(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    /// The numbers of the frames of a line that `stream` printed.
    fn sequences(&self, line: &str) -> Vec<u32> {
        let line = self.printed.lines().find_map(|printed| printed.strip_prefix(line));
        let line = line.unwrap_or_else(|| panic!("{}", self.printed));
        line.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }
}

/// Runs `script` in a machine with `options`, whose /out is `out`. The kernel log has no warning.
#[track_caller]
fn run(options: &str, script: &str, out: &Path) -> Ran {
    let report = out.join("report.json");
    let out_options = format!("--out {} --report {}", out.join("out").display(), report.display());
    let mut minivmm = Command::new(minivmm());
    minivmm.args(format!("--cma 96M {options} --seed 7 {out_options}").split_whitespace()).arg("--exec");
    minivmm.arg(format!("{FUNCTIONS}{script}\n[ -z \"$(quiet)\" ] || {{ quiet; exit 9; }}"));
    // Thousands of frames in a lab take longer than other guests.
    let limit = if Extent::asked() == Extent::Thorough { 15 * LIMIT } else { LIMIT };
    let output = run_within(&mut minivmm, limit);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    Ran { printed, report: serde_json::from_slice(&fs::read(report).unwrap()).unwrap() }
}

/// Frames in a row, without a gap.
#[track_caller]
fn assert_in_row(sequences: &[u32], count: usize) {
    assert_eq!(sequences.len(), count, "{sequences:?}");
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
}

/// The samples of a frame of a sensor, of 12 bits.
fn raw(sensor: Model, pattern: Pattern, settings: &Settings) -> Vec<Vec<u16>> {
    let spec = SensorSpec { noise: false, ..SensorSpec::default() };
    let mut source = RawSource::new(&spec, pattern, sensor.array(), 7).unwrap();
    assert!(source.expose(settings, Phase::Rggb, 0, &AtomicBool::new(false)));
    let line = |y| {
        let mut samples = vec![0; settings.size[0] as usize];
        source.read_line(settings, 0, y, &mut samples);
        samples
    };
    (0..settings.size[1]).map(line).collect()
}

/// The raw frames in `file` have these samples: a byte each for 8 bits, else in the lower bits of 16.
#[track_caller]
fn assert_raw(file: &[u8], samples: &[Vec<u16>], bits: u32) {
    let bytes = if bits == 8 { 1 } else { 2 };
    let samples = samples.iter().flatten();
    let expected: Vec<u8> =
        samples.flat_map(|sample| (sample >> (BITS - bits)).to_le_bytes().into_iter().take(bytes)).collect();
    assert!(!file.is_empty() && file.len().is_multiple_of(expected.len()), "{} bytes", file.len());
    for frame in file.chunks(expected.len()) {
        assert!(frame == expected, "a raw frame differs from the sensor's samples");
    }
}

/// Y, Cb and Cr in 4:2:2 of the picture that the blocks of a reset make of `samples` with 10 bits each.
fn picture(samples: &[Vec<u16>]) -> [Vec<u8>; 3] {
    let window = Rect { left: 0, top: 0, width: WIDTH, height: HEIGHT };
    let frame = Frame { size: [WIDTH, HEIGHT], phase: devices::media::Phase::Rggb, window };
    let mut planes: [Vec<u8>; 3] = Default::default();
    let mut read = |y: u32, line: &mut [u16]| {
        for (to, from) in line.iter_mut().zip(&samples[y as usize]) {
            *to = from >> (BITS - 10) << (BITS - 10);
        }
    };
    let mut write = |_: u32, line: &devices::media::rkisp1::Line<'_>| {
        planes.iter_mut().zip([line.y, line.cb, line.cr]).for_each(|(plane, line)| plane.extend(line));
    };
    // The driver's initial parameters measure, and leave the picture alone; it sets the threshold of the demosaicing.
    let mut params = Params::default();
    params.demosaic.threshold = 0xc;
    let aborted = AtomicBool::new(false);
    assert!(Isp::default().process(
        &frame,
        &params,
        &mut read,
        &mut write,
        &mut Statistics::default(),
        &aborted
    ));
    planes
}

/// `plane` of size `from` with size `to`: its samples are spread evenly from the first to the last, and lie linearly between two, as the
/// driver sets the resizers up (`rkisp1_rsz_config_regs`).
fn scaled(plane: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<f64> {
    let place = |axis: usize, index: usize| {
        let (steps, last) = (from[axis] - 1, (to[axis] - 1).max(1));
        let first = (index * steps / last).min(from[axis].saturating_sub(2));
        (first, (index * steps - first * last) as f64 / last as f64)
    };
    let between = |a: f64, b: f64, part: f64| a * (1.0 - part) + b * part;
    let sample = |x: usize, y: usize| {
        let ((column, across), (line, down)) = (place(0, x), place(1, y));
        let at = |line: usize| {
            let two = &plane[line * from[0] + column..][..2];
            between(two[0].into(), two[1].into(), across)
        };
        between(at(line), at(line + 1), down)
    };
    (0..to[1]).flat_map(|y| (0..to[0]).map(move |x| sample(x, y))).collect()
}

/// The codes by which a resized sample may differ: its place is rounded to a 64th of the way, in both directions, and the value is, too.
const RESIZED: f64 = 2.0;

/// The codes by which red, green and blue of resized samples may differ: chroma counts twice and more.
const RESIZED_RGB: f64 = 6.0;

/// Each sample is within this tolerance of the expected one.
#[track_caller]
fn assert_near(what: &str, samples: &[u8], expected: &[f64], tolerance: f64) {
    assert_eq!(samples.len(), expected.len(), "{what}");
    let off = |(&sample, &expected): (&u8, &f64)| (f64::from(sample) - expected).abs();
    let wrong = samples.iter().zip(expected).position(|pair| off(pair) > tolerance);
    if let Some(at) = wrong {
        let most = samples.iter().zip(expected).map(off).fold(0.0, f64::max);
        panic!("{what}: {} not {} at {at}; the most is {most} off", samples[at], expected[at]);
    }
}

/// Y, Cb and Cr are those of `whole` of 640x480 in 4:2:2, resized to `size`, and chroma to `chroma`.
#[track_caller]
fn assert_resized(
    what: &str,
    planes: &[Vec<u8>; 3],
    whole: &[Vec<u8>; 3],
    size: [usize; 2],
    chroma: [usize; 2],
) {
    let [full, half] = [[WIDTH as usize, HEIGHT as usize], [WIDTH as usize / 2, HEIGHT as usize]];
    assert_near(what, &planes[0], &scaled(&whole[0], full, size), RESIZED);
    assert_near(what, &planes[1], &scaled(&whole[1], half, chroma), RESIZED);
    assert_near(what, &planes[2], &scaled(&whole[2], half, chroma), RESIZED);
}

/// Red, green and blue of what the self path makes of `whole`: 320x240, by BT.601 in limited range, with a sample of chroma for two pixels.
fn rgb(whole: &[Vec<u8>; 3]) -> Vec<[f64; 3]> {
    let [full, half] = [[WIDTH as usize, HEIGHT as usize], [WIDTH as usize / 2, HEIGHT as usize]];
    let luma = scaled(&whole[0], full, SELF_SIZE);
    let [cb, cr] = [1, 2].map(|plane| scaled(&whole[plane], half, [SELF_SIZE[0] / 2, SELF_SIZE[1]]));
    let pixel = |(index, luma): (usize, f64)| {
        let (y, cb, cr) = (1.164 * (luma - 16.0), cb[index / 2] - 128.0, cr[index / 2] - 128.0);
        [y + 1.596 * cr, y - 0.392 * cb - 0.813 * cr, y + 2.017 * cb].map(|value| value.clamp(0.0, 255.0))
    };
    luma.into_iter().enumerate().map(pixel).collect()
}

/// The frame in `bytes` of this format has red, green and blue of `expected`.
#[track_caller]
fn assert_rgb(bytes: &[u8], format: &str, expected: &[[f64; 3]]) {
    // The bits that RGB565 has not are a loss of up to 8 and 4 codes.
    let (pixels, lost): (Vec<[u8; 3]>, [u8; 3]) = match format {
        "XR24" => (bytes.as_chunks::<4>().0.iter().map(|&[b, g, r, _]| [r, g, b]).collect(), [0; 3]),
        _ => {
            let split = |&bytes: &[u8; 2]| {
                let word = u16::from_le_bytes(bytes);
                [word >> 11 << 3, word >> 5 << 2 & 0xff, word << 3 & 0xff].map(|value| value.to_le_bytes()[0])
            };
            (bytes.as_chunks::<2>().0.iter().map(split).collect(), [4, 2, 4])
        }
    };
    for colour in 0..3 {
        let samples: Vec<u8> = pixels.iter().map(|pixel| pixel[colour] + lost[colour]).collect();
        let expected: Vec<f64> = expected.iter().map(|pixel| pixel[colour]).collect();
        assert_near(format, &samples, &expected, RESIZED_RGB + f64::from(lost[colour]));
    }
}

/// The pages that the camera wrote are in the window, and there are as many as `buffers` of `bytes` take.
#[track_caller]
fn assert_in_window(ran: &Ran, buffers: usize, bytes: usize) {
    let window = &ran.report.windows[0];
    let expected = buffers * bytes.div_ceil(4096);
    assert!(window.pages_written >= expected as u64, "{:?}", window.runs_written);
    assert_eq!(ran.counter("rkisp10.bus_errors"), 0);
}

fn linux_streams_by_both_paths() {
    streams_by_both_paths("");
}

/// Two cameras, one for each sensor, in a guest with this image: raw samples of 10 and 12 bits, both paths at once.
pub(crate) fn streams_by_both_paths(image: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (count, raw_count) = if Extent::asked() == Extent::Thorough { (300, 300) } else { (6, 2) };
    let script = format!(
        "modules 2
        for at in 0 1; do media-ctl -d $at -p | grep -q imx290 && imx290=$at || media=$at; done
        media-ctl -d $media -p | grep -E 'imx219|rkisp1_csi' | head -20
        only mainpath
        sensor SRGGB10_1X10 640x480; isp SRGGB10_1X10 640x480; path mainpath SRGGB10_1X10 640x480 SRGGB10_1X10 640x480
        stream mainpath 640 480 RG10 3 raw
        only both; isp YUYV8_2X8 640x480
        path mainpath YUYV8_2X8 640x480 YUYV8_1_5X8 640x480; path selfpath YUYV8_2X8 640x480 YUYV8_2X8 320x240
        v4l2-ctl -d $(media-ctl -d $media -e rkisp1_mainpath) -v width=640,height=480,pixelformat=NV12 || exit 6
        v4l2-ctl -d $(media-ctl -d $media -e rkisp1_selfpath) -v width=320,height=240,pixelformat=XR24 || exit 6
        stream selfpath 320 240 XR24 {count} rgb & stream mainpath 640 480 NV12 {count} nv12; wait
        media=$imx290; only mainpath
        sensor SRGGB12_1X12 1280x720; isp SRGGB12_1X12 1280x720; path mainpath SRGGB12_1X12 1280x720 SRGGB12_1X12 1280x720
        stream mainpath 1280 720 RG12 {raw_count} raw12"
    );
    let scene = "scene=gradient,noise=no";
    let options =
        format!("{image} --camera none --device rkisp1,{scene} --device rkisp1,sensor=imx290,{scene}");
    let ran = run(&options, &script, folder.path());
    assert!(ran.printed.contains("<- \"imx219 0-0010\":0 [ENABLED]"), "{}", ran.printed);
    let file = |name: &str| fs::read(folder.path().join("out").join(name)).unwrap();

    // Raw samples are the sensor's, to the bit.
    assert_in_row(&ran.sequences("mainpath RG10:"), 3);
    let samples = raw(Model::Imx219, Pattern::Gradient, &SETTINGS);
    assert_raw(&file("raw"), &samples, 10);
    assert_in_row(&ran.sequences("mainpath RG12:"), raw_count);
    assert_raw(&file("raw12"), &raw(Model::Imx290, Pattern::Gradient, &IMX290_SETTINGS), 12);

    // Luma is the pipeline's, to the bit; chroma is resized.
    assert_in_row(&ran.sequences("mainpath NV12:"), count);
    let planes = picture(&samples);
    let (size, luma) = ((WIDTH * HEIGHT * 3 / 2) as usize, (WIDTH * HEIGHT) as usize);
    let frames = file("nv12");
    assert_eq!(frames.len(), size * count);
    for frame in frames.chunks(size) {
        assert!(frame[..luma] == planes[0][..], "luma differs from the pipeline's");
    }
    let main = self::planes(&frames[..size], "NV12", [640, 480]);
    assert_resized("NV12", &main, &planes, [640, 480], [320, 240]);

    // The self path has half the size, in RGB.
    assert_in_row(&ran.sequences("selfpath XR24:"), count);
    let rgb = file("rgb");
    assert_eq!(rgb.len(), 320 * 240 * 4 * count);
    let expected = self::rgb(&planes);
    rgb.chunks(320 * 240 * 4).for_each(|frame| assert_rgb(frame, "XR24", &expected));
    assert_in_window(&ran, 6, size);
}

fn every_format_streams() {
    streams_in_every_format("");
}

/// Each format of each path, in a guest with this image.
pub(crate) fn streams_in_every_format(image: &str) {
    let folder = tempfile::tempdir().unwrap();
    let count = 300;
    let mut script = "modules; only mainpath".to_owned();
    // The sensor's codes and the formats of the main path.
    for (code, format) in [("SRGGB8_1X8", "RGGB"), ("SRGGB10_1X10", "RG10")] {
        script += &format!(
            "\nsensor {code} 640x480; isp {code} 640x480; path mainpath {code} 640x480 {code} 640x480
            stream mainpath 640 480 {format} {count}; stream mainpath 640 480 {format} 1 {format} > /dev/null"
        );
    }
    script += "\nisp YUYV8_2X8 640x480";
    for (code, formats) in
        [("YUYV8_2X8", &["YUYV", "NV16", "422P"][..]), ("YUYV8_1_5X8", &["NV12", "NV21", "YU12"])]
    {
        script += &format!("\nonly mainpath; path mainpath YUYV8_2X8 640x480 {code} 640x480");
        for format in formats {
            script += &format!(
                "\nstream mainpath 640 480 {format} {count}; stream mainpath 640 480 {format} 1 main-{format} > /dev/null"
            );
        }
        script += &format!("\nonly selfpath; path selfpath YUYV8_2X8 640x480 {code} 320x240");
        let rgb = if code == "YUYV8_2X8" { &["XR24", "RGBP"][..] } else { &[] };
        for format in formats.iter().chain(rgb) {
            script += &format!(
                "\nstream selfpath 320 240 {format} {count}; stream selfpath 320 240 {format} 1 self-{format} > /dev/null"
            );
        }
    }
    let options = format!("{image} --camera none --device rkisp1,scene=gradient,noise=no");
    let ran = run(&options, &script, folder.path());
    let mut streams = 0;
    for line in ran.printed.lines().filter_map(|line| line.split_once(": ")) {
        let sequences: Vec<u32> = line.1.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_in_row(&sequences, count);
        streams += 1;
    }
    assert_eq!(streams, 2 + 12 + 2, "{}", ran.printed);

    let file = |name: &str| fs::read(folder.path().join("out").join(name)).unwrap();
    let samples = raw(Model::Imx219, Pattern::Gradient, &SETTINGS);
    assert_raw(&file("RGGB"), &samples, 8);
    assert_raw(&file("RG10"), &samples, 10);
    // The sensor's last format has 10 bits.
    let expected = picture(&samples);
    for format in ["YUYV", "NV16", "422P"] {
        assert!(planes(&file(&format!("main-{format}")), format, [640, 480]) == expected, "{format}");
    }
    for format in ["NV12", "NV21", "YU12"] {
        let main = planes(&file(&format!("main-{format}")), format, [640, 480]);
        assert!(main[0] == expected[0], "the luma of {format}");
        assert_resized(format, &main, &expected, [640, 480], [320, 240]);
    }
    for (formats, chroma) in [(["YUYV", "NV16", "422P"], [160, 240]), (["NV12", "NV21", "YU12"], [160, 120])]
    {
        for format in formats {
            let second = planes(&file(&format!("self-{format}")), format, SELF_SIZE);
            assert_resized(format, &second, &expected, SELF_SIZE, chroma);
        }
    }
    let rgb = rgb(&expected);
    ["XR24", "RGBP"]
        .into_iter()
        .for_each(|format| assert_rgb(&file(&format!("self-{format}")), format, &rgb));
}

/// Y, Cb and Cr of a frame of this format and size.
fn planes(frame: &[u8], format: &str, [width, height]: [usize; 2]) -> [Vec<u8>; 3] {
    let every =
        |bytes: &[u8], first: usize, step: usize| bytes.iter().skip(first).step_by(step).copied().collect();
    let (luma, chroma) = frame.split_at(width * height);
    let half = chroma.len() / 2;
    match format {
        "YUYV" => [every(frame, 0, 2), every(frame, 1, 4), every(frame, 3, 4)],
        "NV12" | "NV16" => [luma.into(), every(chroma, 0, 2), every(chroma, 1, 2)],
        "NV21" => [luma.into(), every(chroma, 1, 2), every(chroma, 0, 2)],
        _ => [luma.into(), chroma[..half].into(), chroma[half..].into()],
    }
}

fn streams_begin_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules; set_up
        for turn in $(seq 200); do stream mainpath 640 480 NV12 1 || exit 7; done";
    let ran = run("--camera none --device rkisp1", script, folder.path());
    assert_eq!(ran.printed.lines().filter(|line| line.starts_with("mainpath NV12:")).count(), 200);
}

/// A driver is unbound while a program streams. The buffers go with the program, and the camera streams when the driver is bound again.
fn drivers_are_unbound_from_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let script = "used() { cat /sys/kernel/debug/cma/*/used; }
        modules; set_up; before=$(used)
        for turn in 1 2 3; do for driver in i2c/drivers/imx219 platform/drivers/rkisp1; do
            driver=/sys/bus/$driver; device=$(ls $driver | grep -E '^0-0010$|[.]isp$')
            stream mainpath 640 480 NV12 100000 > /dev/null & program=$!
            until [ \"$(used)\" != \"$before\" ]; do usleep 50000; done
            usleep 1000000
            echo $device > $driver/unbind || exit 7
            usleep 500000; killall v4l2-ctl 2> /dev/null; wait $program
            [ \"$(used)\" = \"$before\" ] || { echo \"buffers are left: $(used)\"; exit 8; }
            echo $device > $driver/bind || exit 7
            modules; set_up; stream mainpath 640 480 NV12 2
        done; done";
    let ran = run("--camera none --device rkisp1", script, folder.path());
    assert_eq!(ran.printed.matches("mainpath NV12: 0 1").count(), 6, "{}", ran.printed);
}

/// A mistake of Linux's driver up to 7.2. A path that is switched off writes until the frame after has ended. The driver waits a second
/// for that, and then frees the path's buffers. If frames take longer and the other path streams on, the camera writes a frame to memory
/// that belongs to somebody else: here, to a program that takes memory of the window.
fn a_slow_path_is_written_after_its_stop() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules; set_up; only both; path selfpath YUYV8_2X8 640x480 YUYV8_2X8 640x480
        main=$(media-ctl -e rkisp1_mainpath); self=$(media-ctl -e rkisp1_selfpath)
        v4l2-ctl -d $main -v width=640,height=480,pixelformat=NV12 || exit 7
        v4l2-ctl -d $self -v width=640,height=480,pixelformat=XR24 || exit 7
        for blank in 1000 50000; do
            v4l2-ctl -d $(media-ctl -e 'imx219 0-0010') --set-ctrl vertical_blanking=$blank || exit 7
            v4l2-ctl -d $main --stream-mmap=4 --stream-count=100000 > /tmp/main.log 2>&1 & program=$!
            usleep 3000000
            echo $blank $(rkisp1-buffers stop $self /dev/dma_heap/cma* 3)
            kill $program; wait $program
        done
        echo timeouts $(cat /sys/kernel/debug/*.isp/sp_stop_timeout)";
    let initrd = guest::initramfs_with(Kind::DEFAULT, &[("bin/rkisp1-buffers", BUFFERS)]);
    let options = format!("--camera none --device rkisp1,scene=flat --initrd {}", initrd.path().display());
    let ran = run(&options, script, folder.path());
    let written = |blank: &str| {
        let line = ran.printed.lines().find(|line| line.starts_with(blank));
        let bytes = line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        bytes.unwrap_or_else(|| panic!("{}", ran.printed))
    };
    assert_eq!(written("1000 "), 0, "frames that are fast enough");
    // A pixel of this grey frame has three bytes that are not 0. Pages of the buffer that the kernel gave to other programs are not counted.
    assert!((1..=WIDTH * HEIGHT * 3).contains(&written("50000 ")), "{}", ran.printed);
    assert!(ran.printed.contains("timeouts 1"), "{}", ran.printed);
}

/// What v4l2-compliance of Debian 12 finds on all nodes of rkisp1 and imx219 in Linux 6.1. The first is the program's, which has the old
/// name of NV21, in its code. The others are the driver's: the pads of parameters and statistics have the code
/// `MEDIA_BUS_FMT_METADATA_FIXED` alone, rkisp1_isp_enum_mbus_code() returns -EINVAL for an index above 0 and not for a reserved field,
/// and the frames of metadata have no size.
const COMPLIANCE: [(&str, usize); 4] = [
    ("description mismatch: was 'Y/VU 4:2:0', expected 'Y/CrCb 4:2:0'", 2),
    ("VIDIOC_SUBDEV_ENUM_MBUS_CODE, &mbus_core_enum) != EINVAL", 2),
    ("fmt.width == 0 || fmt.width > 65536", 4),
    ("checkMBusFrameFmt(node, fmt.format)", 4),
];

fn drivers_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules; v4l2-compliance -m /dev/media0 | grep -E 'fail:|^Grand'
        set_up; stream mainpath 640 480 NV12 2
        rmmod rockchip-isp1 imx219 && modules; set_up; stream mainpath 640 480 NV12 2
        rmmod rockchip-isp1 imx219 i2c-rk3x phy-rockchip-dphy-rx0 && modules; set_up; stream mainpath 640 480 NV12 2";
    let ran = run("--camera none --device rkisp1", script, folder.path());
    assert_eq!(ran.printed.matches("mainpath NV12: 0 1").count(), 3, "{}", ran.printed);
    for (failure, count) in COMPLIANCE {
        assert_eq!(ran.printed.matches(failure).count(), count, "{failure}: {}", ran.printed);
    }
    let known: usize = COMPLIANCE.iter().map(|(_, count)| count).sum();
    assert_eq!(ran.printed.matches("fail:").count(), known, "{}", ran.printed);
    assert!(ran.printed.contains("Succeeded: 473, Failed: 8, Warnings: 0"), "{}", ran.printed);
}

fn two_cameras_stream_beside_ours() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules 2
        ours=$(grep -l minivmm /sys/class/video4linux/video*/name | head -1); ours=/dev/$(basename $(dirname $ours))
        cameras=$(for media in 0 1 2; do media-ctl -d $media -p | grep -q rkisp1_isp && echo $media; done)
        for media in $cameras; do set_up; done
        for media in $cameras; do (stream mainpath 640 480 NV12 3 rkisp1-$media > /tmp/$media) & done
        v4l2-ctl -d $ours --stream-mmap --stream-count=5 > /dev/null 2>&1 || exit 8
        wait; cat /tmp/[012]";
    let options =
        "--camera scene=bars --device rkisp1,scene=flat,noise=no --device rkisp1,scene=checker,noise=no";
    let ran = run(options, script, folder.path());
    assert_eq!(ran.printed.matches("mainpath NV12: ").count(), 2, "{}", ran.printed);
    for id in ["rkisp10", "rkisp11"] {
        assert!(ran.counter(&format!("{id}.frames")) >= 3);
    }
    // Each shows its own scene: a flat one has few values of luma in a line, squares have dark and light ones.
    let mut spreads = Vec::new();
    for name in fs::read_dir(folder.path().join("out")).unwrap() {
        let frames = fs::read(name.unwrap().path()).unwrap();
        let line = &frames[(HEIGHT / 2 * WIDTH) as usize..][..WIDTH as usize];
        spreads.push(line.iter().max().unwrap() - line.iter().min().unwrap());
    }
    spreads.sort_unstable();
    assert!(spreads[0] < 16 && spreads[1] > 150, "{spreads:?}");
}
