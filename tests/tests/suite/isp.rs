//! The ISP's nodes in Linux: statistics and parameters, and a loop of both.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use guest_images::Kind;
use tests::{
    compliance,
    guest::{self, counter, exec, layout, printed},
    harness::{Group, Place, Test},
    tests,
};
use vmm::observe::frames;

/// The tests.
pub(crate) fn group() -> Group {
    // These depend on no architecture: they test the devices and the portable part of our driver.
    let same = tests![
        bad_parameters_are_told_and_change_nothing,
        exposure_and_white_balance_come_by_a_loop_in_the_guest,
    ];
    let long = tests![v4l2_compliance_with_an_isp].into_iter().map(Test::only_if_thorough);
    Group {
        name: "isp",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![nodes_of_metadata_let_go_while_streaming]
            .into_iter()
            .chain(same.into_iter().map(Test::the_same_everywhere))
            .chain(long)
            .collect(),
    }
}

/// The programs in guests, see tests/guest.
const LOOP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mcam-3a"));
const PARAMS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mcam-params"));

/// Runs a command in a guest with these files besides, a camera, and a folder /out. What it printed.
fn run(camera: &str, files: &[(&str, &[u8])], out: &Path, command: &str) -> String {
    let initrd = guest::initramfs_with(Kind::DEFAULT, files);
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--cma", "64M", "--camera", camera, "--exec", command]);
    minivmm.arg("--initrd").arg(initrd.path()).arg("--out").arg(out);
    printed(&guest::run(&mut minivmm))
}

/// The mean red, green and blue of frame `index` of a file of such frames of 160x120.
fn means(file: &Path, index: u64) -> [i32; 3] {
    let frame = frames::read_frame(file, &layout("RGB3", 160, 120), index).unwrap();
    // Not the stamp, which is at the top.
    let pixels = frame[frame.len() / 2..].as_chunks::<3>().0;
    let count = i32::try_from(pixels.len()).unwrap();
    [0, 1, 2].map(|channel| pixels.iter().map(|pixel| i32::from(pixel[channel])).sum::<i32>() / count)
}

/// A buffer of parameters with this version and `data_size`, and words of 16 bits for the rest.
fn buffer(version: u32, data_size: u32, rest: &[u16]) -> String {
    let bytes = [version, data_size].into_iter().flat_map(u32::to_le_bytes);
    bytes.chain(rest.iter().flat_map(|word| word.to_le_bytes())).fold(String::new(), |mut line, byte| {
        let _ = write!(line, "{byte:02x}");
        line
    })
}

/// What is wrong, what a driver says of it as tests/guest/mcam-params.c prints it, and the buffer. A block of white balance is
/// of type 5, and one of black level of type 1; the reasons are the constants of devices/src/camera/METADATA.md.
fn bad_buffers() -> Vec<(&'static str, &'static str, String)> {
    let white_balance = |gain: u16| [5, 0, 16, 0, gain, gain, gain, gain];
    let two = [white_balance(1), white_balance(2)].concat();
    vec![
        ("less than a header", "refused 22", "01000000".into()),
        ("an unknown version", "wrong 1 0 0 0", buffer(2, 16, &white_balance(1))),
        ("more data than the buffer has", "wrong 2 0 0 4", buffer(1, 24, &white_balance(1))),
        ("a block that is cut off", "wrong 3 5 8 12", buffer(1, 12, &white_balance(1))),
        ("a block's header that is cut off", "wrong 3 0 24 24", buffer(1, 20, &two)),
        ("an unknown type", "wrong 4 99 8 8", buffer(1, 16, &[99, 0, 16, 0, 1, 1, 1, 1])),
        ("a reserved flag", "wrong 5 5 8 10", buffer(1, 16, &[5, 4, 16, 0, 1, 1, 1, 1])),
        ("both flags", "wrong 5 5 8 10", buffer(1, 16, &[5, 3, 16, 0, 1, 1, 1, 1])),
        ("a wrong size", "wrong 6 5 8 12", buffer(1, 16, &[5, 0, 12, 0, 1, 1, 1, 1])),
        ("a size that is not aligned", "wrong 6 5 8 12", buffer(1, 16, &[5, 0, 15, 0, 1, 1, 1, 1])),
        ("a second block of its type", "wrong 7 5 24 24", buffer(1, 32, &two)),
        ("a value out of range", "wrong 8 1 24 38", {
            let black_level = [1, 0, 16, 0, 0, 0, 0, 0x4000];
            buffer(1, 32, &[white_balance(1), black_level].concat())
        }),
        ("what is reserved", "wrong 8 2 8 22", buffer(1, 16, &[2, 0, 16, 0, 0, 0, 0, 1])),
    ]
}

fn bad_parameters_are_told_and_change_nothing() {
    let out = tempfile::tempdir().unwrap();
    let bad = bad_buffers();
    let lines = |buffers: &[String]| buffers.join("\n") + "\n";
    let bad_lines = lines(&bad.iter().map(|(_, _, buffer)| buffer.clone()).collect::<Vec<_>>());
    // A quarter of the light; then a buffer that says nothing, and one that disables what came before.
    let quarter = [5, 2, 16, 0, 0x1000, 0x1000, 0x1000, 0x1000];
    let good = lines(&[buffer(1, 16, &quarter), buffer(0, 0, &[])]);
    let command = "set -e
        capture() {
          v4l2-ctl -d /dev/video0 -v width=160,height=120,pixelformat=RGB3 --stream-mmap=3 --stream-count=2 \
              --stream-to=/out/$1.raw 2> /tmp/log || { cat /tmp/log >&2; exit 1; }
        }
        while_streaming() {
          v4l2-ctl -d /dev/video0 --stream-mmap --stream-count=1000000 > /dev/null 2>&1 & stream=$!
          mcam-params /dev/video3 < /$1
          { kill $stream; wait $stream; } 2> /dev/null || true
        }
        capture before; while_streaming bad; capture after; while_streaming good; capture changed
        cat /sys/kernel/debug/minivmm-camera/*/counters; dmesg | grep -e WARNING -e BUG || true";
    let files = [("bin/mcam-params", PARAMS), ("bad", bad_lines.as_bytes()), ("good", good.as_bytes())];
    let output = run("timing=stall,sensor=yes,scene=gradient,noise=no", &files, out.path(), command);
    let mut said = output.lines();
    for (what, says, _) in &bad {
        assert_eq!(said.next(), Some(*says), "{what}: {output}");
    }
    assert_eq!((said.next(), said.next()), (Some("taken"), Some("taken")), "{output}");
    assert_eq!(counter(&output, "params_drops "), bad.len() as u64 - 1, "{output}");
    assert_eq!(counter(&output, "params_frames "), 2, "{output}");
    assert!(!output.contains("WARNING") && !output.contains("BUG"), "{output}");
    let frames = |name: &str| fs::read(out.path().join(name)).unwrap();
    assert!(frames("before.raw") == frames("after.raw"), "bad parameters changed the picture");
    let [before, changed] = ["before.raw", "changed.raw"].map(|name| means(&out.path().join(name), 1));
    assert!((0..3).all(|channel| changed[channel] * 3 < before[channel] * 2), "{changed:?} after {before:?}");
}

/// Dim and yellow light at first; grey, as light as 18 %, at last.
fn exposure_and_white_balance_come_by_a_loop_in_the_guest() {
    let out = tempfile::tempdir().unwrap();
    let command = "set -e
        mcam-3a /dev/video2 /dev/video3 40 > /tmp/3a & loop=$!
        until grep -q '^2 ' /sys/kernel/debug/minivmm-camera/*/buffers-statistics; do usleep 10000; done
        v4l2-ctl -d /dev/video0 -v width=160,height=120,pixelformat=RGB3 --stream-mmap=3 --stream-count=80 \
            --stream-to=/out/frames.raw 2> /tmp/log || { cat /tmp/log >&2; exit 1; }
        wait $loop; cat /tmp/3a";
    let camera = "timing=stall,sensor=yes,scene=flat,lamp=0.3:0.25:0.13";
    let output = run(camera, &[("bin/mcam-3a", LOOP)], out.path(), command);
    let file = out.path().join("frames.raw");
    let checked = frames::check_file(&file, &layout("RGB3", 160, 120)).unwrap();
    assert!(checked.bad.is_empty() && checked.frames == 80, "{checked:?}");
    assert_eq!(output.lines().filter(|line| line.starts_with("frame ")).count(), 40, "{output}");

    let [first, last] = [0, 79].map(|index| means(&file, index));
    println!("first {first:?}, last {last:?}\n{}", output.lines().last().unwrap_or_default());
    // 18 % of light is 118 in sRGB.
    let spread = |[r, g, b]: [i32; 3]| r.max(g).max(b) - r.min(g).min(b);
    assert!(first[1] < 80 && spread(first) > 20, "{first:?} in dim and yellow light");
    assert!(last.iter().all(|mean| (mean - 118).abs() <= 6) && spread(last) <= 4, "{last:?}\n{output}");
}

/// Statistics and parameters stream with the frames and without, and unbinding ends all.
fn nodes_of_metadata_let_go_while_streaming() {
    let command = "set -e
        driver=/sys/bus/platform/drivers/minivmm-camera
        device=$(basename $(echo $driver/*.camera))
        counters=$(echo /sys/kernel/debug/minivmm-camera/*/counters)
        v4l2-ctl -d /dev/video0 -v width=160,height=120
        media-ctl -p | grep -e 'minivmm statistics' -e 'minivmm parameters'
        # Without frames there are no statistics, and a stream of them ends nevertheless.
        v4l2-ctl -d /dev/video2 --stream-mmap --stream-count=1 > /dev/null 2>&1 & waiting=$!
        usleep 300000; kill $waiting; { wait $waiting; } 2> /dev/null || true
        everywhere() {
          v4l2-ctl -d /dev/video0 --stream-mmap --stream-count=1000000 > /dev/null 2>&1 &
          v4l2-ctl -d /dev/video2 --stream-mmap --stream-count=1000000 > /dev/null 2>&1 &
          v4l2-ctl -d /dev/video3 --stream-out-mmap --stream-count=1000000 > /dev/null 2>&1 &
          until grep -q 'params_frames [1-9]' $counters && grep -q 'statistics_frames [1-9]' $counters; do
            usleep 50000
          done
        }
        everywhere
        cat $counters
        echo $device > $driver/unbind; wait || true
        [ ! -e /dev/video0 ] && [ ! -e /dev/video2 ] && [ ! -e /dev/video3 ] && [ ! -e /dev/media0 ]
        echo $device > $driver/bind
        v4l2-ctl --stream-mmap=3 --stream-count=5 --stream-to=/dev/null > /dev/null 2>&1
        dmesg";
    let output = printed(&exec("--cma 64M --camera sensor=yes,timing=stall", command));
    for links in ["minivmm statistics", "minivmm parameters"] {
        assert!(output.contains(links), "{output}");
    }
    let counts = ["processed_frames ", "statistics_frames ", "params_frames "];
    assert!(counts.iter().all(|name| counter(&output, name) > 0), "{output}");
    for bad in ["WARNING", "BUG", "Oops", "resetting", "still busy"] {
        assert!(!output.contains(bad), "{bad} in {output}");
    }
}

fn v4l2_compliance_with_an_isp() {
    compliance::passes_with_isp();
}
