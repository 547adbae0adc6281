//! Hosts as minivmm judges them: a fit one of each architecture, and two unusual aarch64 hosts: one whose KVM has no GICv3, and
//! one that was not started at EL2.

use std::{ffi::OsString, time::Duration};

use guest_images::{Arch, Kind};
use tests::{
    cross,
    harness::{Group, Place, Test},
    lab::{IN_LAB, Lab, Output},
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests = tests![a_fit_host_is_found_fit];
    let unusual = tests![a_host_with_a_gicv2_alone, a_host_without_el2];
    tests.extend(unusual.into_iter().map(Test::only_if_thorough));
    Group { name: "hosts", place: Place::OutsideOfLabs, tests }
}

/// Time limit of one lab.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs `script` in a lab with these properties. `minivmm` in it is the program for aarch64. None if this machine has no such lab.
fn on_a_host_with(properties: &str, script: &str) -> Option<Output> {
    let arch = &Arch::AARCH64;
    if !cross::architectures().iter().any(|known| known.name == arch.name) {
        eprintln!("There is no lab of aarch64 on this machine: NOTHING IS RUN.");
        return None;
    }
    guest_images::build(arch, Kind::DEFAULT).unwrap();
    let minivmm = cross::minivmm(arch).unwrap();
    let lab = Lab::new().arch(arch).machine(properties).timeout(Some(LIMIT));
    let lab = lab.programs(minivmm.parent().unwrap());
    Some(lab.output(["sh", "-c", script].map(OsString::from), &[]).unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A tiny guest shows that a KVM is fit, where nothing says that it is the lab's.
fn a_fit_host_is_found_fit() {
    for arch in cross::architectures() {
        let minivmm = cross::minivmm(arch).unwrap();
        let command = ["env", "-u", IN_LAB].map(OsString::from).into_iter();
        let command = command.chain([minivmm.into(), "doctor".into()]);
        let output = Lab::new().arch(arch).timeout(Some(LIMIT)).output(command, &[]).unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("ok   Linux can run on it: a tiny guest's system call came to"), "{said}");
    }
}

fn a_host_with_a_gicv2_alone() {
    let guest = "grep -c GIC-0.*arch_timer /proc/interrupts; grep -c ^processor /proc/cpuinfo
                 v4l2-ctl --stream-mmap=3 --stream-count=5 > /dev/null 2>&1 && grep -c camera /proc/interrupts";
    let script = format!(
        "minivmm --cma 64M --cpus 2 --camera timing=stall --exec '{guest}' || exit
        minivmm --gic 3 --exec true && exit 3
        minivmm --cpus 9 --exec true && exit 4
        minivmm doctor"
    );
    let Some(Output { status, stdout, stderr }) = on_a_host_with("gic-version=2", &script) else { return };
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert_eq!(status, 0, "{stdout}{stderr}");
    assert!(stdout.starts_with("1\n2\n1\n"), "{stdout}{stderr}");
    for sentence in
        ["this host's KVM has no GICv3 for guests; leave out --gic, or give --gic 2", "--cpus must be 1 to 8"]
    {
        assert!(stderr.contains(sentence), "{sentence} is missing in\n{stderr}");
    }
}

fn a_host_without_el2() {
    let script = "minivmm --exec true; echo $?; minivmm doctor; echo $?";
    let Some(Output { stdout, stderr, .. }) = on_a_host_with("virtualization=off", script) else { return };
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    let sentence = "there is no /dev/kvm on this host: KVM needs a Linux that was started at EL2";
    assert!(stderr.contains(sentence) && stdout.contains(sentence), "{stdout}{stderr}");
    assert!(stdout.starts_with("125\n") && stdout.ends_with("\n1\n"), "{stdout}");
}
