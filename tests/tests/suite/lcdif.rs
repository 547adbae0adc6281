//! Tests that boot Linux with the display controller lcdif: the kernel's own drivers mxsfb and panel-simple.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
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
    let mut tests = tests![linux_shows_what_programs_draw];
    let others = tests![a_running_machine_shows_its_panel, drivers_come_and_go, every_panel_has_its_picture];
    tests.extend(others.into_iter().map(Test::the_same_everywhere));
    let long = tests![
        flips_begin_and_end,
        an_unbound_driver_lets_a_flip_panic,
        a_format_changes_with_the_mode_alone
    ];
    tests.extend(long.into_iter().map(Test::only_if_thorough));
    Group { name: "lcdif", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// Shell functions for the guest. `modules` loads the drivers and waits for the devices of `$1` displays. `draw N` writes random bytes to
/// /dev/fb0 and to /out/fbN, and waits until the panel has shown them. `show SIZE FORMAT SECONDS` has modetest draw its test pattern, and
/// flip between two pages with `-v`. `memory FILE BYTES` copies the pages of the frame that the controller shows. `crcs` prints checksums
/// of a second. `without_fbdev` takes /dev/fb0 away: the driver takes no other format while the display is on. `quiet`
/// prints the warnings in the kernel log, but not that panel-simple has no connector type for the default panel, nor that a frame took more
/// than 100 ms, as on a busy host.
const FUNCTIONS: &str = r#"
    modules() {
        modprobe panel-simple && modprobe mxsfb
        tries=100
        until [ "$(ls /dev/dri/card* /dev/fb* 2> /dev/null | wc -l)" = $((2 * ${1:-1})) ]; do
            tries=$((tries - 1)); [ $tries -gt 0 ] || { echo no display; exit 3; }
            usleep 50000
        done
    }
    draw() {
        dd if=/dev/urandom of=/out/fb$1 bs=${2:-522240} count=1 2> /dev/null
        cat /out/fb$1 > /dev/fb0; usleep 500000
    }
    show() { (sleep $3) | timeout 60 modetest -M mxsfb-drm -s DPI-1:$1@$2 $4 > /tmp/modetest 2>&1 || { cat /tmp/modetest; exit 4; }; }
    memory() {
        base=0x$(ls /sys/bus/platform/drivers/mxsfb | sed -n 's/.display-controller//p')
        address=$(devmem $((base + 0x40)))
        dd if=/dev/mem of=/out/$1 bs=4096 skip=$((address / 4096)) count=$((($2 + 4095) / 4096)) 2> /dev/null || exit 5
    }
    without_fbdev() {
        driver=/sys/bus/platform/drivers/mxsfb; device=$(ls $driver | grep display-controller)
        echo N > /sys/module/drm_kms_helper/parameters/fbdev_emulation
        echo $device > $driver/unbind && echo $device > $driver/bind || exit 6
    }
    crcs() { timeout 1 cat /sys/kernel/debug/dri/0/crtc-0/crc/data | tr -d '\0' | awk '{ print "crc", $2 }'; }
    quiet() {
        dmesg | sed '/vblank wait timed out/,/end trace/d' | grep -E "WARNING|BUG|Oops|nobody cared|mxsfb|panel|drm" |
            grep -vE "Initialized mxsfb-drm|frame buffer device|Specify missing connector_type|Fixed dependency cycle"
    }
"#;

/// Pixels of the default panel.
const PIXELS: usize = 480 * 272;

/// What a machine printed and reported.
struct Ran {
    printed: String,
    report: Report,
    /// The folder of its /out and of its pictures.
    folder: PathBuf,
}

impl Ran {
    fn counter(&self, name: &str) -> u64 {
        self.report.counter(&format!("lcdif0.{name}")).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// A file of the guest's /out.
    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join("out").join(name)).unwrap()
    }

    /// The pictures that were recorded as `NAMEnumber.png`, in their order.
    fn pictures(&self, name: &str) -> Vec<Vec<u8>> {
        (0..)
            .map(|number| self.folder.join(format!("{name}{number}.png")))
            .take_while(|path| path.exists())
            .map(|path| picture(&path))
            .collect()
    }

    /// The checksums that `crcs` printed.
    fn crcs(&self) -> Vec<u32> {
        let crcs = self.printed.lines().filter_map(|line| line.strip_prefix("crc 0x"));
        crcs.map(|crc| u32::from_str_radix(crc, 16).unwrap()).collect()
    }
}

/// The pixels of a PNG, three bytes each.
fn picture(path: &Path) -> Vec<u8> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

/// The pixels of a frame of XRGB8888.
fn xrgb(memory: &[u8]) -> Vec<u8> {
    memory.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
}

/// The pixels of a frame of RGB565, whose lower bits are its upper ones.
fn rgb565(memory: &[u8]) -> Vec<u8> {
    let pixel = |bytes: &[u8]| {
        let [low, high] = [u32::from(bytes[0]), u32::from(bytes[1])];
        let (red, green, blue) = (high >> 3, (high & 7) << 3 | low >> 5, low & 0x1f);
        [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2]
            .map(|value| value.to_le_bytes()[0])
    };
    memory.chunks_exact(2).flat_map(pixel).collect()
}

/// Runs `script` in a machine with `options`, whose /out and pictures are below `folder`. The kernel log has no warning.
#[track_caller]
fn run(options: &str, script: &str, folder: &Path) -> Ran {
    let report = folder.join("report.json");
    let out_options = format!("--out {} --report {}", folder.join("out").display(), report.display());
    let mut minivmm = Command::new(minivmm());
    minivmm.args(format!("--cma 64M --camera none {options} --seed 7 {out_options}").split_whitespace());
    minivmm.arg("--exec").arg(format!("{FUNCTIONS}{script}\n[ -z \"$(quiet)\" ] || {{ quiet; exit 9; }}"));
    let limit = if Extent::asked() == Extent::Thorough { 5 * LIMIT } else { LIMIT };
    let output = run_within(&mut minivmm, limit);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    let report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    Ran { printed, report, folder: folder.to_owned() }
}

/// A machine whose controller records pictures in `folder`.
fn recording(folder: &Path) -> String {
    format!("--device lcdif,record={}", folder.join("a%d.png").display())
}

/// Pictures of the frame buffer device and of modetest, in both formats, are those that the panel shows, and so are their checksums in
/// debugfs. Pages are flipped at each vertical synchronisation.
fn linux_shows_what_programs_draw() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules; grep mxsfb-drm /proc/interrupts; draw 0
        show 480x272 XR24 2 & usleep 1500000; memory XR24 522240; wait
        show 480x272 XR24 3 -v & usleep 1000000; crcs; wait; cat /tmp/modetest
        without_fbdev; show 480x272 RG16 2 & usleep 1500000; memory RG16 261120; wait";
    let ran = run(&recording(folder.path()), script, folder.path());
    let pictures = ran.pictures("a");
    assert!(pictures.iter().all(|picture| picture.len() == 3 * PIXELS));
    let is_shown = |picture: Vec<u8>| pictures.contains(&picture);
    assert!(is_shown(xrgb(&ran.file("fb0"))), "the frame buffer device");
    let (test_pattern, of_16_bits) =
        (xrgb(&ran.file("XR24")[..4 * PIXELS]), rgb565(&ran.file("RG16")[..2 * PIXELS]));
    // The first bars of SMPTE's colour bars.
    assert_eq!([&test_pattern[..3], &test_pattern[3 * 70..][..3]], [[192; 3], [192, 192, 0]]);
    assert!(is_shown(test_pattern), "modetest with 32 bits a pixel");
    assert!(is_shown(of_16_bits), "modetest with 16 bits a pixel");

    // Two pages by turns. A page that is late stays for another frame.
    let crcs = ran.crcs();
    let shown: BTreeSet<u32> = pictures.iter().map(|picture| crc32fast::hash(picture)).collect();
    let seen: BTreeSet<u32> = crcs.iter().copied().collect();
    assert!(seen.len() == 2 && seen.is_subset(&shown), "{seen:x?} of {shown:x?}");
    assert!(crcs.len() >= 20, "{crcs:x?}");
    let flips = crcs.windows(2).filter(|two| two[0] != two[1]).count();
    assert!(flips >= crcs.len() / 2, "{crcs:x?}");
    assert!(ran.printed.contains("freq: "), "{}", ran.printed);

    // The driver takes the interrupt as level-triggered: "fasteoi" of the I/O APIC, "Level" of the GIC.
    let line = ran.printed.lines().find(|line| line.contains("mxsfb-drm")).unwrap();
    assert!(line.contains("-fasteoi") || line.contains(" Level "), "{line}");
    // All frames were in the window, outside of which the bus refuses them.
    assert_eq!([ran.counter("bus_errors"), ran.counter("underruns")], [0, 0]);
    assert!(ran.counter("flips") >= flips as u64 && ran.counter("irqs") >= crcs.len() as u64);
}

/// A picture of the running machine is the frame buffer's. A pause holds the panel's clock, and steps let frames pass.
fn a_running_machine_shows_its_panel() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, png) = (folder.path().join("api.sock"), folder.path().join("a.png"));
    let script =
        format!("{FUNCTIONS}modules; yes | head -c 522240 > /dev/fb0; usleep 500000; echo drawn; sleep 1000");
    let mut machine = Command::new(minivmm());
    machine.args([
        "--cma",
        "64M",
        "--camera",
        "none",
        "--device",
        "lcdif",
        "--exec",
        &script,
        "--api-socket",
    ]);
    let mut machine = guest::spawn(machine.arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped()));
    let said = BufReader::new(machine.stdout.take().unwrap());
    assert!(said.lines().any(|line| line.unwrap() == "drawn"));
    let ctl = |words: &[&str]| {
        guest::printed(&guest::run(Command::new(minivmm()).arg("ctl").arg(&socket).args(words)))
    };
    ctl(&["capture", "--device", "lcdif0", "--png", png.to_str().unwrap()]);
    // Blue, green and red are "y", a line feed and "y".
    assert!(picture(&png) == [b'y', b'\n', b'y'].repeat(PIXELS));
    let frames = || -> u64 {
        let counters = ctl(&["devices", "--device", "lcdif0"]);
        let count =
            counters.strip_prefix("lcdif0: frames ").and_then(|rest| rest.split(',').next()?.parse().ok());
        count.unwrap_or_else(|| panic!("{counters}"))
    };
    ctl(&["frames", "pause"]);
    let paused = frames();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(frames(), paused);
    ctl(&["frames", "step", "3"]);
    let begun = Instant::now();
    while frames() < paused + 3 {
        assert!(begun.elapsed() < LIMIT, "no steps");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(200));
    assert_eq!(frames(), paused + 3);
    ctl(&["stop"]);
    assert_eq!(machine.wait().unwrap().code(), Some(143));
}

/// The drivers are unloaded and loaded, but not while a program flips pages, and unbound and bound. The display is there again, and its
/// memory was given back.
fn drivers_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let script = "used() { cat /sys/kernel/debug/cma/*/used; }
        gone() { [ \"$(used)\" = \"$before\" ] || { echo \"frames are left: $(used)\"; exit 7; }; }
        before=$(used); modules; draw 0
        show 480x272 XR24 2 -v & usleep 1000000; rmmod mxsfb 2> /dev/null && exit 8; wait
        rmmod mxsfb && rmmod panel_simple || exit 6
        gone; modules; draw 1
        driver=/sys/bus/platform/drivers/mxsfb; device=$(ls $driver | grep display-controller)
        for turn in 2 3; do
            echo $device > $driver/unbind || exit 8
            gone; echo $device > $driver/bind || exit 8
            modules; draw $turn
        done";
    let ran = run(&recording(folder.path()), script, folder.path());
    let pictures = ran.pictures("a");
    for number in 0..4 {
        assert!(pictures.contains(&xrgb(&ran.file(&format!("fb{number}")))), "picture {number}");
    }
}

/// A mistake of Linux's driver: it does not unplug its device when it is unbound. A program that flips pages makes the kernel panic.
fn an_unbound_driver_lets_a_flip_panic() {
    let script = "modules; (sleep 10) | modetest -M mxsfb-drm -s DPI-1:480x272 -v > /tmp/modetest 2>&1 &
        until grep -q freq /tmp/modetest; do usleep 50000; done
        driver=/sys/bus/platform/drivers/mxsfb
        ls $driver | grep display-controller > $driver/unbind; sleep 5";
    let output = guest::exec("--cma 64M --camera none --device lcdif", &format!("{FUNCTIONS}{script}"));
    assert_eq!(output.status.code(), Some(123), "{}", text(&output.stdout));
    let said = text(&output.stderr);
    assert!(said.contains("drm_mode_page_flip_ioctl"), "{said}");
}

/// Two controllers with the larger panels, of which Linux warns about nothing.
fn every_panel_has_its_picture() {
    let folder = tempfile::tempdir().unwrap();
    let record = |name: &str| folder.path().join(format!("{name}%d.png")).display().to_string();
    let options = format!(
        "--device lcdif,panel=640x480,record={} --device lcdif,panel=800x480,record={}",
        record("a"),
        record("b")
    );
    let script = "modules 2
        for number in 0 1; do
            set -- $(tr , ' ' < /sys/class/graphics/fb$number/virtual_size)
            echo fb$number $1x$2; head -c $(($1 * $2 * 4)) /dev/urandom > /out/$1; cat /out/$1 > /dev/fb$number
        done
        usleep 500000; dmesg | grep -c connector_type";
    let ran = run(&options, script, folder.path());
    assert!(ran.printed.contains("640x480") && ran.printed.contains("800x480"), "{}", ran.printed);
    assert_eq!(ran.printed.lines().last(), Some("0"), "{}", ran.printed);
    for (name, file) in [("a", "640"), ("b", "800")] {
        assert!(ran.pictures(name).contains(&xrgb(&ran.file(file))), "{file}");
    }
}

/// A mistake of Linux's driver: it programs the format of pixels with the mode alone. Where the frame buffer device shows 32 bits a pixel, a
/// program with 16 bits and the same mode is shown with 32, too.
fn a_format_changes_with_the_mode_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules; draw 0; show 480x272 RG16 2 & usleep 1500000; memory RG16 522240; wait";
    let ran = run(&recording(folder.path()), script, folder.path());
    let memory = ran.file("RG16");
    let pictures = ran.pictures("a");
    assert!(!pictures.contains(&rgb565(&memory[..2 * PIXELS])));
    let half = xrgb(&memory[..2 * PIXELS]);
    assert!(pictures.iter().any(|picture| picture[..half.len()] == half), "the upper half is the frame");
}

fn flips_begin_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let script = "modules
        for turn in $(seq 50); do for format in XR24 RG16; do show 480x272 $format 0.2 -v; done; done; draw 0";
    let ran = run(&recording(folder.path()), script, folder.path());
    assert!(ran.pictures("a").last() == Some(&xrgb(&ran.file("fb0"))));
}
