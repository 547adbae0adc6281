//! A kernel of the user's, from Debian's plain source with the options of `minivmm image config`.

use std::{path::Path, process::Command};

use guest_images::{Arch, Kind, debian};
use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
    programs,
};

/// The tests. The kernel is built on this machine, in minutes.
pub(crate) fn group() -> Group {
    let test = Test::new("a_plain_kernel_with_the_options_boots", a_plain_kernel_with_the_options_boots);
    Group { name: "own_kernel", place: Place::OutsideOfLabs, tests: vec![test.only_if_thorough()] }
}

/// Runs `command`, which has to succeed. Returns its output.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn a_plain_kernel_with_the_options_boots() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = folder.path();
    let source = debian::unpacked("linux-source-6.1").unwrap().join("usr/src/linux-source-6.1.tar.xz");
    output(Command::new("tar").args(["--strip-components=1", "-xJf"]).arg(source).arg("-C").arg(kernel));
    let make = |target: &[&str]| output(Command::new("make").arg("-C").arg(kernel).args(target));
    let minivmm = || Command::new(programs::minivmm().unwrap());
    let doctor = || minivmm().args(["doctor", "--kernel"]).arg(kernel).output().unwrap();
    make(&["tinyconfig"]);

    // What it lacks is named, before the boot and by the boot.
    let lacking = text(&doctor().stdout);
    assert!(lacking.contains("BAD  it lacks CONFIG_OF=y: reads the device tree\n"), "{lacking}");
    let needs_tests = lacking.contains("BAD  it lacks CONFIG_OF_EARLY_FLATTREE=y: takes the device tree");
    assert_eq!(needs_tests, Arch::host().name == "x86_64", "{lacking}");
    // Linux has these two for its own drivers alone. A patch of ours offers them.
    let refused = output(minivmm().args(["image", "config", "--merge", "--for"]).arg(kernel));
    assert_eq!(refused, "CONFIG_VIDEO_V4L2_SUBDEV_API=y\nCONFIG_VIDEOBUF2_DMA_CONTIG=y\n");
    let doctor = doctor();
    assert!(doctor.status.success(), "{}", text(&doctor.stdout));

    make(&["-j2", if Arch::host().name == "aarch64" { "Image" } else { "vmlinux" }]);
    let image = guest_images::current(Arch::host(), Kind::DEFAULT).unwrap();
    let mut boot = minivmm();
    boot.args(["--camera", "none", "--cma", "64M", "--cma-mode", "cmdline", "--initrd"]).arg(image.initramfs);
    boot.arg("--kernel").arg(Path::new(kernel)).args(["--exec", "uname -r; grep CmaTotal /proc/meminfo"]);
    let output = guest::run(&mut boot);
    let said = text(&output.stdout);
    assert!(said.starts_with("6.1.") && !said.contains("minivmm"), "{said}{}", text(&output.stderr));
    assert!(said.ends_with("\nCmaTotal:          65536 kB\n"), "{said}");
}
