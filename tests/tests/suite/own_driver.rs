//! The page YOUR-DRIVER.md: its commands, as printed, build a driver and capture a frame.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use devices::media::stamp;
use serde_json::Value;
use tests::{
    guest,
    harness::{Group, Place},
    programs, tests,
};

/// The tests. The module is built on this machine, so the test runs outside of labs.
pub(crate) fn group() -> Group {
    Group {
        name: "own_driver",
        place: Place::OutsideOfLabs,
        tests: tests![the_pages_commands_capture_a_frame],
    }
}

const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The lines between ```` ```sh ```` and ```` ``` ```` of a page.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.collect()
}

fn the_pages_commands_capture_a_frame() {
    let page = fs::read_to_string(Path::new(CHECKOUT).join("devices/src/camera/YOUR-DRIVER.md")).unwrap();
    let commands = commands(&page);
    assert_eq!(commands.matches("\nminivmm ").count(), 1, "{commands}");

    // A folder with the checkout's entries, so that the commands leave nothing in the checkout.
    let folder = tempfile::tempdir().unwrap();
    let checkout = fs::canonicalize(CHECKOUT).unwrap();
    for entry in fs::read_dir(&checkout).unwrap().map(Result::unwrap) {
        symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let builder = programs::build("guest-images", "guest-images").expect("cargo builds guest-images");
    // Functions take the place of the README's alias and of cargo, which builds the program that it runs.
    let script = format!(
        "set -e
        minivmm() {{ {} \"$@\"; }}
        cargo() {{ [ \"$1 $2 $3 $4 $5\" = 'run -q -p guest-images --' ] && shift 5 && {} \"$@\"; }}
        {commands}",
        guest::minivmm().display(),
        builder.display()
    );
    let output = Command::new("sh").arg("-c").arg(&script).current_dir(folder.path()).output().unwrap();
    let (stdout, stderr) = (guest::text(&output.stdout), guest::text(&output.stderr));
    assert!(output.status.success(), "{}: {stdout}{stderr}", output.status);

    // The driver's line: `frame of BYTES bytes at ADDRESS`.
    let line = stdout.lines().find(|line| line.contains("frame of 307200 bytes at 0x"));
    let address =
        line.and_then(|line| line.rsplit_once("0x")).map(|(_, digits)| u64::from_str_radix(digits, 16));
    let address = address.unwrap_or_else(|| panic!("{stdout}{stderr}")).unwrap();
    let report = fs::read(folder.path().join("my-driver/report.json")).unwrap();
    let window = &serde_json::from_slice::<Value>(&report).unwrap()["windows"][0];
    let (base, size) = (window["base"].as_u64().unwrap(), window["size"].as_u64().unwrap());
    assert!((base..base + size - 307_200).contains(&address), "{address:#x} is not in {window}");

    let picture = fs::read(folder.path().join("my-driver/out/frame.pgm")).unwrap();
    let pixels = picture.strip_prefix(b"P5\n640 480\n255\n").expect("it is a picture of the frame's size");
    let stamp = stamp::check(pixels, &guest::layout("GREY", 640, 480)).expect("the frame is whole");
    assert_eq!(stamp.sequence, 0);
}
