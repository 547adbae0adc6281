//! The promises of vmm/PROMISES.md: what a standard machine takes of its host, and how fast it starts and ends.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tests::{
    bare_metal::BareMetal,
    guest,
    harness::{Group, Place},
    tests,
};
use vmm::{machine::config::DeviceRequest, observe::report::Report};

/// Resident memory beyond the guest's, in bytes: the promise, for a release build. Other builds have larger code.
const MEMORY: u64 = 5 << 20;
const MEMORY_DEBUG: u64 = 16 << 20;

/// The number of file descriptors.
const DESCRIPTORS: usize = 56;

/// The times are wide: a test is not a measurement, and an emulated host is slow.
const TO_BOOT_MARK: f64 = 5.0;
const TO_STOP: Duration = Duration::from_secs(5);

/// The threads of a machine with one CPU and a camera, an API socket and a console log.
const THREADS: [&str; 9] =
    ["camera0", "capture", "log", "minivmm", "output", "output", "stdin", "vcpu0", "watch"];

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "promises",
        place: Place::Kvm,
        tests: tests![
            a_standard_machine_takes_what_is_promised,
            a_machine_is_fast_to_its_guest_and_small,
            a_page_has_the_promises,
        ],
    }
}

/// The command of a standard machine for the guest `name`, with its files in `folder`.
fn machine(name: &'static str, folder: &Path) -> Command {
    let mut guest = BareMetal::new(name);
    guest.config.windows = vec!["16M".parse().unwrap()];
    guest.config.devices = vec![DeviceRequest::new("camera", "").unwrap()];
    let inputs = folder.join("inputs");
    fs::create_dir_all(&inputs).unwrap();
    let mut machine = Command::new(guest::minivmm());
    machine.args(["--any-host", "--host", "kvm", "--memory", "64M", "--cma", "16M", "--kernel"]);
    machine.arg(guest.build(&inputs).config.kernel);
    for option in ["--report", "--console-log", "--api-socket"] {
        machine.arg(option).arg(folder.join(option.trim_start_matches('-')));
    }
    machine.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    machine
}

fn report(folder: &Path) -> Report {
    serde_json::from_slice(&fs::read(folder.join("report")).unwrap()).unwrap()
}

/// The content of a file of /proc for the machine.
fn proc(machine: &Child, path: &str) -> std::path::PathBuf {
    Path::new("/proc").join(machine.id().to_string()).join(path)
}

fn threads(machine: &Child) -> Vec<String> {
    let names = fs::read_dir(proc(machine, "task")).unwrap().flatten();
    let names = names.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    // KVM has a thread of its own in each process that has a machine (kvm-nx-lpage-recovery).
    let names = names.map(|name| name.trim().to_owned()).filter(|name| !name.starts_with("kvm-"));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The open files of the machine: paths, and the number of each kind of the others.
fn descriptors(machine: &Child) -> (Vec<String>, BTreeMap<String, usize>) {
    let (mut paths, mut others) = (Vec::new(), BTreeMap::new());
    for entry in fs::read_dir(proc(machine, "fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        if target.starts_with('/') && !target.starts_with("/memfd:") {
            paths.push(target);
        } else {
            let kind = target.split([' ', '[']).next().unwrap_or_default();
            let kind = if kind == "anon_inode:" { &target } else { kind.split(':').next().unwrap() };
            *others.entry(kind.trim_start_matches("anon_inode:").to_owned()).or_default() += 1;
        }
    }
    paths.sort();
    (paths, others)
}

fn a_standard_machine_takes_what_is_promised() {
    for how in ["SIGTERM", "ctl stop"] {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = guest::spawn(&mut machine("spin", folder.path()));
        let ctl = |verb| {
            let mut ctl = Command::new(guest::minivmm());
            ctl.arg("ctl").arg(folder.path().join("api-socket")).arg(verb);
            ctl.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        let start = Instant::now();
        while !ctl("status") {
            assert!(start.elapsed() < guest::LIMIT, "there is no answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        // The client is gone, and its connection soon, too.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(threads(&machine), THREADS);
        let (paths, others) = descriptors(&machine);
        let count = paths.len() + others.values().sum::<usize>();
        assert!(count <= DESCRIPTORS, "{count}: {paths:?} {others:?}");
        // Files: the streams, KVM, what the kernel tells of this process, and those that the command line names. A static build
        // keeps the host's random bytes open.
        let ours = folder.path().to_string_lossy().into_owned();
        for path in &paths {
            let is_known = ["/dev/null", "/dev/kvm", "/dev/urandom"].contains(&path.as_str())
                || path.starts_with("/proc/")
                || path.starts_with(&ours);
            assert!(is_known, "{path} is open");
        }
        let start = Instant::now();
        if how == "SIGTERM" {
            guest::kill(machine.id(), Signal::TERM);
        } else {
            assert!(ctl("stop"));
        }
        while machine.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < TO_STOP, "{how}: no end");
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{how}: {:?}; {count} descriptors: {paths:?} {others:?}", start.elapsed());
        // It leaves the files that the command line names.
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["console-log", "inputs", "report"]);
    }
}

fn a_machine_is_fast_to_its_guest_and_small() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(machine("hello", folder.path()).status().unwrap().code(), Some(42));
    let report = report(folder.path());
    let (seconds, memory) = (report.seconds_to_boot_mark.unwrap(), report.overhead_at_boot_mark.unwrap());
    println!("boot mark after {seconds:.3} s, {:.1} MiB", memory as f64 / f64::from(1 << 20));
    assert!(seconds < TO_BOOT_MARK, "{seconds}");
    let limit = if cfg!(debug_assertions) { MEMORY_DEBUG } else { MEMORY };
    assert!(memory <= limit, "{memory} bytes");
}

/// The page and this file have the same numbers.
fn a_page_has_the_promises() {
    let page = include_str!("../../../vmm/PROMISES.md");
    let mebibytes = MEMORY >> 20;
    for promise in [format!("at most {mebibytes} MiB"), format!("at most {DESCRIPTORS} |")] {
        assert!(page.contains(&promise), "{promise}");
    }
    for thread in THREADS {
        assert!(page.contains(&format!("`{thread}`")), "{thread}");
    }
}
