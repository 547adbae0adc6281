//! The page YOUR-DRIVER.md: its commands, as printed, build a driver and capture a frame.

use std::{fs, process::Command};

use devices::media::stamp;
use serde_json::Value;
use tests::{
    guest,
    harness::{Group, Place},
    schema, tests,
};

use crate::tour::{FreshClone, YOUR_DRIVER};

/// The tests. The module is built on this machine, so the test runs outside of labs.
pub(crate) fn group() -> Group {
    Group {
        name: "own_driver",
        place: Place::OutsideOfLabs,
        tests: tests![the_pages_commands_capture_a_frame],
    }
}

fn the_pages_commands_capture_a_frame() {
    let clone = FreshClone::new();
    let output = clone.tour(&[YOUR_DRIVER]);
    let (stdout, stderr) = (guest::text(&output.stdout), guest::text(&output.stderr));

    // The driver's line: `frame of BYTES bytes at ADDRESS`.
    let line = stdout.lines().find(|line| line.contains("frame of 307200 bytes at 0x"));
    let address =
        line.and_then(|line| line.rsplit_once("0x")).map(|(_, digits)| u64::from_str_radix(digits, 16));
    let address = address.unwrap_or_else(|| panic!("{stdout}{stderr}")).unwrap();
    let report = fs::read(clone.path("my-driver/report.json")).unwrap();
    schema::check("observe/report.schema.json", &[clone.path("my-driver/report.json")]);
    let window = &serde_json::from_slice::<Value>(&report).unwrap()["windows"][0];
    let (base, size) = (window["base"].as_u64().unwrap(), window["size"].as_u64().unwrap());
    assert!((base..base + size - 307_200).contains(&address), "{address:#x} is not in {window}");

    // The same module for another version of the kernel is refused before the boot, with the command that the page has.
    let built = fs::read(clone.path("my-driver/first-frame.ko")).unwrap();
    let version = built.windows(12).position(|bytes| bytes == b"vermagic=6.1").unwrap() + b"vermagic=".len();
    let other = [&built[..version], b"5", &built[version + 1..]].concat();
    fs::write(clone.path("my-driver/first-frame.ko"), other).unwrap();
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--module", "my-driver/first-frame.ko", "--exec", "true"]).current_dir(clone.path(""));
    let refused = minivmm.output().unwrap();
    let stderr = guest::text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{stderr}");
    let page = fs::read_to_string(clone.path(YOUR_DRIVER)).unwrap();
    let command = page.lines().find(|line| line.starts_with("minivmm image module ")).unwrap();
    assert!(stderr.contains("for the kernel '5.1.") && stderr.contains(command), "{stderr}");

    let picture = fs::read(clone.path("my-driver/out/frame.pgm")).unwrap();
    let pixels = picture.strip_prefix(b"P5\n640 480\n255\n").expect("it is a picture of the frame's size");
    // Its sequence number is not always 0: in free timing, a host that is late for the first tick drops its frame.
    stamp::check(pixels, &guest::layout("GREY", 640, 480)).expect("the frame is whole");
}
