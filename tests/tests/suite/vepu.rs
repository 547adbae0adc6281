//! Tests that boot Linux with the JPEG encoder vepu: the kernel's own driver hantro-vpu.

use std::{fs, path::Path, process::Command};

use devices::media::jpeg;
use guest_images::Kind;
use tests::{
    guest::{self, LIMIT, minivmm, run_within, text},
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::observe::report::Report;
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests = tests![linux_encodes_each_format];
    tests.extend(
        tests![programs_and_drivers_come_and_go, faults_do_what_the_manual_says]
            .into_iter()
            .map(Test::the_same_everywhere),
    );
    tests.extend(tests![a_hundred_pictures_are_right].into_iter().map(Test::only_if_thorough));
    Group { name: "vepu", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// The program in the guest that has pictures encoded, see tests/guest.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vepu-encode"));

/// Shell functions for the guest. `modules` loads the driver and waits for its node. `encode FORMAT QUALITY COUNT NAME` has the first COUNT
/// pictures of /FORMAT encoded into /out/NAME, or only their first WIDTH columns and HEIGHT lines by two more arguments. `quiet` prints the
/// warnings in the kernel log.
const FUNCTIONS: &str = "
    modules() {
        modprobe hantro-vpu
        tries=100
        until [ -e /dev/video0 ]; do
            tries=$((tries - 1)); [ $tries -gt 0 ] || { echo no node; exit 3; }
            usleep 50000
        done
    }
    encode() {
        timeout 300 vepu-encode /dev/video0 $1 $2 $3 /$1 /out/$4 $5 $6 > /tmp/log 2>&1 || { cat /tmp/log; exit 4; }
    }
    quiet() { dmesg | grep -E 'WARNING|BUG|Oops|nobody cared|hantro|vepu' | grep -vE 'registered .* as /dev/video|Removing|taint'; }
";

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

/// The length of the header that the driver writes (`JPEG_HEADER_SIZE`), and where it has the divisors of luma and chroma, in zigzag order.
const HEADER: usize = 624;
const DIVISORS: [usize; 2] = [25, 90];

/// A picture: a gradient, rings and a fine grid, each picture another one.
#[derive(Clone, Copy)]
struct Scene {
    number: usize,
    size: [usize; 2],
}

impl Scene {
    fn luma(self, x: usize, y: usize) -> u8 {
        let rings = (x * x + y * y + 97 * self.number) / 512 % 64;
        let grid = if (x / 3 + y / 5).is_multiple_of(7) { 40 } else { 0 };
        (16 + x * 100 / WIDTH + rings + grid).to_le_bytes()[0]
    }

    /// Cb and Cr of two by two pixels.
    fn chroma(self, x: usize, y: usize) -> [u8; 2] {
        [64 + x * 128 / (WIDTH / 2), 192 - (y + self.number) % 240 * 128 / 240]
            .map(|value| value.to_le_bytes()[0])
    }

    /// The picture in a format of V4L2.
    fn bytes(self, format: &str) -> Vec<u8> {
        let luma = || (0..HEIGHT).flat_map(move |y| (0..WIDTH).map(move |x| self.luma(x, y)));
        let pairs = || (0..HEIGHT / 2).flat_map(move |y| (0..WIDTH / 2).map(move |x| self.chroma(x, y)));
        let packed = |order: [usize; 4]| -> Vec<u8> {
            let places = (0..HEIGHT).flat_map(|y| (0..WIDTH / 2).map(move |x| (x, y)));
            let samples = |(x, y)| {
                let [cb, cr] = self.chroma(x, y / 2);
                let samples = [self.luma(2 * x, y), cb, self.luma(2 * x + 1, y), cr];
                order.map(|index| samples[index])
            };
            places.flat_map(samples).collect()
        };
        match format {
            "YM12" => luma().chain(pairs().map(|pair| pair[0])).chain(pairs().map(|pair| pair[1])).collect(),
            "NM12" => luma().chain(pairs().flatten()).collect(),
            "YUYV" => packed([0, 1, 2, 3]),
            _ => packed([1, 0, 3, 2]),
        }
    }
}

impl jpeg::Picture for Scene {
    fn size(&self) -> [u16; 2] {
        self.size.map(|length| u16::try_from(length).unwrap())
    }

    fn line(&self, y: u16, [luma, cb, cr]: [&mut Vec<u8>; 3]) {
        let (y, width) = (usize::from(y), self.size[0]);
        luma.extend((0..width).map(|x| self.luma(x, y)));
        cb.extend((0..width).map(|x| self.chroma(x / 2, y / 2)[0]));
        cr.extend((0..width).map(|x| self.chroma(x / 2, y / 2)[1]));
    }
}

/// Runs `script` in a guest that has `count` pictures of each format, with the machine's /out in `out`. The kernel log has no warning.
#[track_caller]
fn run(options: &str, count: usize, script: &str, folder: &Path) -> Report {
    let pictures = |format| {
        (0..count).flat_map(|number| Scene { number, size: [WIDTH, HEIGHT] }.bytes(format)).collect()
    };
    let files = FORMATS.map(|format| -> (&str, Vec<u8>) { (format, pictures(format)) });
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    files.push(("bin/vepu-encode", PROGRAM));
    let initrd = guest::initramfs_with(Kind::DEFAULT, &files);
    let report = folder.join("report.json");
    let mut minivmm = Command::new(minivmm());
    minivmm.args(format!("--cma 64M --camera none {options} --seed 7").split_whitespace());
    minivmm
        .arg("--initrd")
        .arg(initrd.path())
        .arg("--out")
        .arg(folder.join("out"))
        .arg("--report")
        .arg(&report);
    minivmm.arg("--exec").arg(format!("{FUNCTIONS}{script}\n[ -z \"$(quiet)\" ] || {{ quiet; exit 9; }}"));
    let limit = if Extent::asked() == Extent::Thorough { 5 * LIMIT } else { LIMIT };
    let output = run_within(&mut minivmm, limit);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&fs::read(report).unwrap()).unwrap()
}

const FORMATS: [&str; 4] = ["YM12", "NM12", "YUYV", "UYVY"];

/// The places of a block, line by line, in zigzag order: along the diagonals, up and down by turns.
fn zigzag() -> Vec<usize> {
    let mut places: Vec<usize> = (0..64).collect();
    places.sort_by_key(|place| {
        let (row, column) = (place / 8, place % 8);
        let diagonal = row + column;
        (diagonal, if diagonal % 2 == 0 { column } else { row })
    });
    places
}

/// The file begins with a JPEG of `scene`: the header is the driver's, and the scan what the header's divisors make of the picture. Returns
/// what follows.
#[track_caller]
fn assert_encoded<'a>(file: &'a [u8], scene: Scene, what: &str) -> &'a [u8] {
    assert_quality(file, scene, what, 34.0)
}

/// The same; and the luma that a decoder finds has at least this peak signal-to-noise ratio, in decibels.
#[track_caller]
fn assert_quality<'a>(file: &'a [u8], scene: Scene, what: &str, least: f64) -> &'a [u8] {
    let mut tables = [[0; 64]; 2];
    for (table, at) in tables.iter_mut().zip(DIVISORS) {
        for (place, &divisor) in zigzag().into_iter().zip(&file[at..]) {
            table[place] = divisor;
        }
    }
    let mut scan = Vec::new();
    jpeg::scan(&scene, &tables, &mut scan).unwrap();
    assert!(file[HEADER..].starts_with(&scan), "{what}: the scan differs");
    let end = HEADER + scan.len();

    // Another program's decoder finds the picture.
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::YCbCr);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&file[..end]), options);
    let decoded = decoder.decode().unwrap();
    let size = decoder.info().map(|info| [usize::from(info.width), usize::from(info.height)]);
    assert_eq!(size, Some(scene.size), "{what}");
    let places = (0..scene.size[1]).flat_map(|y| (0..scene.size[0]).map(move |x| (x, y)));
    let squares = decoded.chunks_exact(3).zip(places).map(|(pixel, (x, y))| {
        let off = f64::from(pixel[0]) - f64::from(scene.luma(x, y));
        off * off
    });
    let mean = squares.sum::<f64>() / (scene.size[0] * scene.size[1]) as f64;
    let psnr = 10.0 * (255.0_f64 * 255.0 / mean).log10();
    assert!(psnr > least, "{what}: {} bytes, {psnr:.1} dB", scan.len());
    &file[end..]
}

/// Pictures in each format, of which quality and with a part cut off, are what the encoder should make of them.
fn linux_encodes_each_format() {
    let folder = tempfile::tempdir().unwrap();
    let mut script =
        "modules; grep hantro /proc/interrupts; used=$(cat /sys/kernel/debug/cma/*/used)".to_owned();
    for format in FORMATS {
        script += &format!("\nencode {format} 80 2 {format}");
    }
    script += "\nencode NM12 20 1 q20; encode NM12 100 1 q100; encode NM12 80 1 crop 628 470
        [ \"$(cat /sys/kernel/debug/cma/*/used)\" = \"$used\" ] || { echo buffers are left; exit 7; }";
    let report = run("--device vepu", 2, &script, folder.path());
    let file = |name: &str| fs::read(folder.path().join("out").join(name)).unwrap();
    let scene = |number| Scene { number, size: [WIDTH, HEIGHT] };
    for format in FORMATS {
        let both = file(format);
        let second = assert_encoded(&both, scene(0), format);
        assert_eq!(assert_encoded(second, scene(1), format), [0; 0], "{format}: behind the last scan");
    }
    let [low, high] = ["q20", "q100"].map(file);
    assert!(2 * low.len() < high.len(), "{} and {} bytes", low.len(), high.len());
    assert_quality(&low, scene(0), "quality 20", 28.0);
    assert_quality(&high, scene(0), "quality 100", 50.0);
    assert_encoded(&file("crop"), Scene { number: 0, size: [628, 470] }, "a part");
    let counter = |name: &str| report.counter(&format!("vepu0.{name}")).unwrap();
    assert_eq!(["bus_errors", "overflows", "refused", "abandoned"].map(counter), [0; 4]);
    assert_eq!((counter("pictures"), counter("irqs")), (2 * 4 + 3, 2 * 4 + 3));
    assert!(report.windows[0].pages_written > 0, "the scans are not in the window");
}

/// Two programs encode at once, and the driver is unbound and unloaded.
fn programs_and_drivers_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules
        encode NM12 80 2 first & encode YUYV 80 2 second; wait
        driver=/sys/bus/platform/drivers/hantro-vpu
        for turn in 1 2 3; do
            for device in $(ls $driver | grep video-codec); do echo $device > $driver/unbind && echo $device > $driver/bind || exit 5; done
            encode NM12 80 1 bound$turn
            rmmod hantro-vpu || exit 6
            modules; encode YUYV 80 1 loaded$turn
        done";
    run("--device vepu", 2, script, folder.path());
    let file = |name: &str| fs::read(folder.path().join("out").join(name)).unwrap();
    let scene = |number| Scene { number, size: [WIDTH, HEIGHT] };
    for name in ["first", "second"] {
        let both = file(name);
        assert_encoded(assert_encoded(&both, scene(0), name), scene(1), name);
    }
    for turn in 1..=3 {
        for name in ["bound", "loaded"] {
            assert_encoded(&file(&format!("{name}{turn}")), scene(0), name);
        }
    }
}

/// A fault of each kind for one picture each, what a program gets then, and one more picture without a fault.
fn faults_do_what_the_manual_says() {
    let faults: [(&str, &str, u32, &str); 6] = [
        ("encode", "\"stuck\"", 1, "0 bytes, 2 errors"),
        ("encode", "\"timeout\"", 2, "0 bytes, 2 errors"),
        ("encode", "\"limit\"\nbytes = 1000", 3, "0 bytes, 2 errors"),
        // Pictures that never end, or end without pixels, are no event of this point.
        ("end", "\"lose\"", 2, "0 bytes, 2 errors"),
        ("end", "\"length\"\nbytes = 1000", 3, "1624 bytes, 0 errors"),
        ("dma.read", "\"bus-error\"", 7, "0 bytes, 2 errors"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let rules = faults.map(|(on, action, nth, _)| {
        format!("[[rule]]\nname = \"{on} {nth}\"\ndevice = \"vepu0\"\non = \"{on}\"\naction = {action}\nwhen = {{ nth = {nth} }}\n")
    });
    fs::write(&plan, rules.concat()).unwrap();
    let script = "modules; encode NM12 80 7 all; cat /tmp/log > /out/log; dmesg -c > /out/dmesg";
    let report = run(&format!("--device vepu --faults {}", plan.display()), 7, script, folder.path());
    let file = |name: &str| fs::read(folder.path().join("out").join(name)).unwrap();
    let printed = text(&file("log"));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..6], faults.map(|(.., printed)| printed), "{printed}");
    assert!(lines[6].ends_with(" bytes, 0 errors") && lines.len() == 7, "{printed}");
    let all = file("all");
    assert_encoded(&all[1624..], Scene { number: 6, size: [WIDTH, HEIGHT] }, "the picture without a fault");
    // The driver's watchdog ends the two pictures of which it hears nothing.
    assert_eq!(text(&file("dmesg")).matches("frame processing timed out").count(), 2);
    let counter = |name: &str| report.counter(&format!("vepu0.{name}")).unwrap();
    assert_eq!(["abandoned", "overflows", "bus_errors", "pictures"].map(counter), [1, 1, 1, 3]);
}

fn a_hundred_pictures_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let report = run("--memory 1G --device vepu", 100, "modules; encode NM12 75 100 all", folder.path());
    let all = fs::read(folder.path().join("out/all")).unwrap();
    let end = (0..100).fold(&all[..], |rest, number| {
        assert_encoded(rest, Scene { number, size: [WIDTH, HEIGHT] }, &format!("picture {number}"))
    });
    assert_eq!(end, [0; 0]);
    assert_eq!(report.counter("vepu0.pictures"), Some(100));
}
