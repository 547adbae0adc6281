//! Fast tests of boot, bus, interrupts and the camera's registers: bare-metal guests on this machine's /dev/kvm, or
//! in the lab if there is no /dev/kvm.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit},
    termios::{LocalModes, tcgetattr},
};
use tests::{
    bare_metal::BareMetal,
    guest,
    harness::{Group, Place, Test},
    programs,
    pty::Pty,
    supervision::Supervision,
    tests,
};
use vmm::{
    machine::config::DeviceRequest,
    observe::report::{MachineOutcome, Report},
};

static MINIVMM: LazyLock<PathBuf> = LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

/// The tests.
pub(crate) fn group() -> Group {
    // These depend on no architecture: they test the host's side of streams.
    let same = tests![
        a_signal_ends_a_machine_that_nobody_reads_from,
        a_signal_at_any_time_of_the_start_ends_the_machine,
        a_request_stops_a_machine_that_nobody_reads_from,
        a_guest_that_provokes_warnings_stops_nothing,
        a_part_that_does_not_end_is_named,
        a_limit_of_file_sizes_is_an_error,
        a_limit_of_descriptors_is_an_error_before_the_guest_runs,
    ];
    let same = same.into_iter().map(Test::the_same_everywhere);
    Group {
        name: "bare_metal",
        place: Place::Kvm,
        tests: tests![
            hello_marks_its_boot_prints_and_ends,
            the_bus_survives_every_width,
            a_log_that_is_no_terminal_has_no_colours,
            a_halted_guest_ends_the_machine,
            a_triple_fault_is_a_reset,
            a_guest_that_does_not_come_up_ends_with_123,
            the_camera_keeps_to_its_registers,
            a_free_frame_clock_drops_frames,
            a_stream_has_every_frame,
            machines_leave_nothing_behind,
            the_terminal_is_raw_meanwhile_and_restored,
        ]
        .into_iter()
        .chain(same)
        .collect(),
    }
}

fn run(guest: BareMetal) -> (Report, String) {
    let folder = tempfile::tempdir().unwrap();
    guest.build(folder.path()).run()
}

fn exits_with(guest: BareMetal, status: u8) -> (Report, String) {
    let (report, printed) = run(guest);
    assert_eq!(report.outcome, MachineOutcome::Exit { status }, "{printed}");
    (report, printed)
}

fn hello_marks_its_boot_prints_and_ends() {
    let (report, printed) = exits_with(BareMetal::new("hello"), 42);
    assert_eq!(printed, "hello\n");
    assert!(report.seconds_to_boot_mark.is_some());
    assert!(report.overhead_at_boot_mark.unwrap() > 0);
}

fn the_bus_survives_every_width() {
    exits_with(BareMetal::new("bus"), 0);
}

/// Loads from addresses without a device are in the log.
fn a_log_that_is_no_terminal_has_no_colours() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(&*MINIVMM)
        .args(["--any-host", "--camera", "none", "--memory", "64M", "--log", "debug", "--kernel"])
        .arg(BareMetal::new("bus").build(folder.path()).config.kernel)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("DEBUG") && log.contains("which no device has"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

fn a_halted_guest_ends_the_machine() {
    assert_eq!(run(BareMetal::new("halt")).0.outcome, MachineOutcome::Halted);
    let mut two = BareMetal::new("halt");
    two.config.cpus = 2;
    assert_eq!(run(two).0.outcome, MachineOutcome::Halted);
}

fn a_triple_fault_is_a_reset() {
    assert_eq!(run(BareMetal::new("reset")).0.outcome, MachineOutcome::Reset);
}

/// Guests without a boot mark and without a kernel's configuration: one halts at once, and one loops without end.
fn a_guest_that_does_not_come_up_ends_with_123() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    for (guest, ending, reason) in [
        (
            "halt",
            "the guest halted",
            "the kernel printed nothing on its serial console and embeds no configuration",
        ),
        ("stuck", "the guest did not come up within 2 s", "the kernel embeds no configuration"),
    ] {
        let output = Command::new(&*MINIVMM)
            .args([
                "--any-host",
                "--camera",
                "none",
                "--memory",
                "64M",
                "--exec",
                "true",
                "--boot-timeout",
                "2s",
            ])
            .arg("--kernel")
            .arg(BareMetal::new(guest).build(folder.path()).config.kernel)
            .arg("--report")
            .arg(&report)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(123), "{guest}: {stderr}");
        assert!(stderr.starts_with(&format!("minivmm: {ending}")), "{guest}: {stderr}");
        assert!(stderr.contains(&format!("minivmm: likely reason: {reason}")), "{guest}: {stderr}");
        assert_eq!(
            stderr.contains("the last lines of its console:\n  stuck\n"),
            guest == "stuck",
            "{stderr}"
        );
        let read: Report = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        assert!(read.boot_failure.unwrap().starts_with(reason) && read.exit.status == 123, "{guest}");
    }
}

/// A guest with a camera and a window.
fn with_camera(name: &'static str, camera: &str) -> BareMetal {
    let mut guest = BareMetal::new(name);
    guest.config.windows = vec!["16M".parse().unwrap()];
    guest.config.devices = vec![DeviceRequest::new("camera", camera).unwrap()];
    guest
}

/// A counter of the first camera.
fn camera(report: &Report, counter: &str) -> u64 {
    report.counter(&format!("camera0.{counter}")).unwrap()
}

fn the_camera_keeps_to_its_registers() {
    let (report, _) = exits_with(with_camera("camera", "timing=stall"), 0);
    let camera = |counter| camera(&report, counter);
    assert_eq!((camera("bus_errors"), camera("config_errors")), (5, 0));
    // The guest resets the camera, possibly while the last frame is in work.
    assert!((6..=7).contains(&camera("frames")));
    // There are two buffers of five pages. The refused frames write nothing.
    assert_eq!(report.windows[0].pages_written, 10);
}

fn a_free_frame_clock_drops_frames() {
    let (report, _) = exits_with(with_camera("drops", ""), 0);
    assert_eq!(camera(&report, "frames"), 1);
    assert!(camera(&report, "drops") >= 3);
}

fn a_stream_has_every_frame() {
    let stream = with_camera("stream", "timing=stall")
        .with("FORMAT", u32::from_le_bytes(*b"NV12").into())
        .with("WIDTH", 640)
        .with("HEIGHT", 480)
        .with("PLANES", 2)
        .with("BUFFERS", 3)
        .with("WARM_UP", 10)
        .with("MEASURED", 100);
    let (report, printed) = exits_with(stream, 0);
    let numbers: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert!(matches!(numbers[..], [nanoseconds, 0] if nanoseconds > 0), "{printed}");
    let camera = |counter| camera(&report, counter);
    // The guest ends while the next frame is in work.
    assert!((111..=113).contains(&camera("frames")));
    assert_eq!(camera("bytes"), camera("frames") * 640 * 480 * 3 / 2);
    assert_eq!(camera("drops"), 0);
}

fn machines_leave_nothing_behind() {
    let count = |what: &str| std::fs::read_dir(Path::new("/proc/self").join(what)).unwrap().count();
    let folder = tempfile::tempdir().unwrap();
    let hello = BareMetal::new("hello").build(folder.path());
    hello.run();
    // Other tests run in this process at the same time, so a separate process is examined.
    let program = std::env::current_exe().unwrap();
    if std::env::var_os("BARE_METAL_ALONE").is_none() {
        let status = std::process::Command::new(program)
            .args(["bare_metal::machines_leave_nothing_behind", "--exact", "--test-threads=1"])
            .env("BARE_METAL_ALONE", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    // A thread that was waited for is in the folder a moment longer.
    let settled = || {
        let start = Instant::now();
        while count("task") > 1 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        (count("fd"), count("task"))
    };
    let before = settled();
    for _ in 0..20 {
        hello.run();
    }
    assert_eq!(settled(), before);
}

/// A minivmm for the guest `name`, which is built in `folder`, without input.
fn minivmm(name: &'static str, folder: &Path) -> Command {
    let mut minivmm = Command::new(&*MINIVMM);
    minivmm.args(["--any-host", "--camera", "none", "--memory", "64M", "--kernel"]);
    minivmm.arg(BareMetal::new(name).build(folder).config.kernel).stdin(Stdio::null());
    minivmm
}

/// Whether the last page of a pipe is in use: then its writer waits for the reader.
fn is_full(pipe: impl AsFd) -> bool {
    let size = rustix::pipe::fcntl_getpipe_size(&pipe).unwrap();
    usize::try_from(rustix::io::ioctl_fionread(&pipe).unwrap()).unwrap() + 2 * 4096 > size
}

fn a_signal_ends_a_machine_that_nobody_reads_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = guest::spawn(minivmm("chatter", folder.path()).stdout(Stdio::piped()));
    let mut stdout = machine.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 8]).unwrap();
    wait("a full pipe", || is_full(&stdout));
    std::thread::sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(machine.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    wait("the machine's end", || machine.try_wait().unwrap().is_some());
    assert_eq!(machine.wait().unwrap().code(), Some(143));
}

/// It comes at each call of the start that installs a handler or makes a socket, an eventfd or a thread.
fn a_signal_at_any_time_of_the_start_ends_the_machine() {
    const CALLS: [libc::c_long; 4] =
        [libc::SYS_rt_sigaction, libc::SYS_socketpair, libc::SYS_eventfd2, libc::SYS_clone3];
    const LIFE: Duration = Duration::from_secs(2);
    let folder = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    for moment in 1.. {
        let mut command = minivmm("spin", folder.path());
        command.args(["--timeout", "2"]).stdout(Stdio::null()).stderr(Stdio::null());
        let supervision = Supervision::prepare(&mut command, &CALLS).unwrap();
        let mut machine = guest::spawn(&mut command);
        drop(command);
        let pid = Pid::from_raw(machine.id().cast_signed()).unwrap();
        let begun = Instant::now();
        let supervised = supervision.begin((0, None), move |(calls, sent), _| {
            *calls += 1;
            if *calls == moment {
                let _ = kill_process(pid, Signal::TERM);
                *sent = Some(begun.elapsed());
            }
            0
        });
        let status = machine.wait().unwrap();
        let (_, sent) = supervised.unwrap().end().unwrap();
        // The call belongs to the end of a machine that has run for its whole life.
        if sent.is_none_or(|sent| sent >= LIFE) {
            assert_eq!(status.code(), Some(124));
            break;
        }
        ends.push(status.code().or(status.signal().map(|signal| -signal)));
    }
    // Before minivmm has its handlers, the signal kills it.
    let first = ends.iter().position(|end| *end != Some(-libc::SIGTERM)).unwrap();
    assert!(first > 0 && ends.len() > first + 10, "{ends:?}");
    assert!(ends[first..].iter().all(|end| *end == Some(128 + libc::SIGTERM)), "{ends:?}");
}

/// Neither its standard output nor its console log is read.
fn a_request_stops_a_machine_that_nobody_reads_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let log = path("log");
    let made = Command::new("mkfifo").arg(&log).status().unwrap();
    assert!(made.success());
    // Opened for reading and writing, so that the open does not block.
    let reader = std::fs::File::options().read(true).write(true).open(&log).unwrap();
    let mut machine = guest::spawn(
        minivmm("chatter", folder.path())
            .arg("--console-log")
            .arg(&log)
            .arg("--api-socket")
            .arg(path("socket"))
            .stdout(Stdio::piped()),
    );
    let mut stdout = machine.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 8]).unwrap();
    wait("full pipes", || is_full(&stdout) && is_full(&reader));
    let ctl = |verb| Command::new(&*MINIVMM).arg("ctl").arg(path("socket")).arg(verb).output().unwrap();
    let status = ctl("status");
    assert!(status.status.success(), "{status:?}");
    assert!(ctl("stop").status.success());
    wait("the machine's end", || machine.try_wait().unwrap().is_some());
}

/// Its stderr is closed, or a full pipe, or read. A signal ends it in order, and the log is short.
fn a_guest_that_provokes_warnings_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    for (reader, seconds) in [("closed", 1), ("stuck", 2), ("read", 3)] {
        let mut machine = guest::spawn(
            minivmm("flood", folder.path())
                .arg("--report")
                .arg(&report)
                .stdout(Stdio::null())
                .stderr(Stdio::piped()),
        );
        let mut stderr = machine.stderr.take().unwrap();
        stderr.read_exact(&mut [0; 8]).unwrap();
        // A stuck reader keeps its end of the pipe.
        let (mut kept, mut reading) = (None, None);
        match reader {
            "closed" => drop(stderr),
            "stuck" => {
                rustix::pipe::fcntl_setpipe_size(&stderr, 4096).unwrap();
                kept = Some(stderr);
            }
            _ => {
                reading = Some(std::thread::spawn(move || {
                    let mut log = String::new();
                    stderr.read_to_string(&mut log).unwrap();
                    log
                }));
            }
        }
        std::thread::sleep(Duration::from_secs(seconds));
        assert_eq!(machine.try_wait().unwrap(), None, "{reader}");
        kill_process(Pid::from_raw(machine.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
        wait("the machine's end", || machine.try_wait().unwrap().is_some());
        assert_eq!(machine.wait().unwrap().code(), Some(143), "{reader}");
        let report: Report = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
        assert!(matches!(report.outcome, MachineOutcome::Signal { .. }), "{reader}: {report:?}");
        drop(kept);
        if let Some(reading) = reading {
            let log = reading.join().unwrap();
            let warnings = log.lines().filter(|line| line.contains("a virtio device needs a reset")).count();
            assert!((1..200).contains(&warnings), "{warnings} warnings");
            assert!(log.contains(" more messages like this were not printed"), "{log}");
        }
    }
}

/// Its report goes to a pipe that is full and that nobody reads.
fn a_part_that_does_not_end_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    assert!(Command::new("mkfifo").arg(&report).status().unwrap().success());
    let mut options = std::fs::File::options();
    let mut reader = options.read(true).write(true).open(&report).unwrap();
    let capacity = rustix::pipe::fcntl_getpipe_size(&reader).unwrap();
    reader.write_all(&vec![b' '; capacity]).unwrap();
    let mut machine = guest::spawn(
        minivmm("hello", folder.path())
            .arg("--report")
            .arg(&report)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    machine.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(machine.try_wait().unwrap(), None);
    kill_process(Pid::from_raw(machine.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let start = Instant::now();
    wait("the machine's end", || machine.try_wait().unwrap().is_some());
    assert!(start.elapsed() > Duration::from_secs(15), "{:?}", start.elapsed());
    let output = machine.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("minivmm: the report did not end in time"), "{said}");
}

/// Guest memory is a file.
fn a_limit_of_file_sizes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = minivmm("hello", folder.path());
    let limit = Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    let set = move || setrlimit(Resource::Fsize, limit).map_err(io::Error::from);
    // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
    unsafe { machine.pre_exec(set) };
    let output = machine.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{} {said}", output.status);
    assert!(said.starts_with("minivmm: ") && said.contains("File too large"), "{said}");
}

/// How a machine in a terminal ends.
enum Way {
    Keys(&'static [u8]),
    Signal(Signal),
    Itself,
}

fn the_terminal_is_raw_meanwhile_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = |name| BareMetal::new(name).build(folder.path()).config.kernel;
    for (way, status) in [
        (Way::Keys(b"\x01x"), 0),
        // Ctrl-C goes to the guest.
        (Way::Keys(b"\x03\x01\x01x\x01x"), 0),
        (Way::Signal(Signal::TERM), 143),
        (Way::Signal(Signal::INT), 130),
        (Way::Signal(Signal::HUP), 129),
        (Way::Signal(Signal::QUIT), 131),
        (Way::Itself, 42),
    ] {
        let mut terminal = Pty::new().unwrap();
        let device = || terminal.device().unwrap();
        let kept = device();
        let before = tcgetattr(&kept).unwrap().local_modes;
        assert!(before.contains(LocalModes::ISIG | LocalModes::ECHO | LocalModes::ICANON));

        let guest = if matches!(way, Way::Itself) { "hello" } else { "spin" };
        let mut machine = guest::spawn(
            Command::new(&*MINIVMM)
                .args(["--any-host", "--camera", "none", "--memory", "64M", "--kernel"])
                .arg(kernel(guest))
                .stdin(device())
                .stdout(device())
                .stderr(device()),
        );
        let modes = || tcgetattr(&kept).unwrap().local_modes;
        if !matches!(way, Way::Itself) {
            wait("raw mode", || {
                !modes().intersects(LocalModes::ISIG | LocalModes::ECHO | LocalModes::ICANON)
            });
        }
        match way {
            Way::Keys(keys) => terminal.ours.write_all(keys).unwrap(),
            Way::Signal(signal) => {
                let pid = Pid::from_raw(machine.id().cast_signed()).unwrap();
                kill_process(pid, signal).unwrap();
            }
            Way::Itself => {}
        }
        wait("the machine's end", || machine.try_wait().unwrap().is_some());
        assert_eq!(machine.wait().unwrap().code(), Some(status));
        assert_eq!(modes(), before, "the terminal after status {status}");
    }
}

fn wait(what: &str, mut come: impl FnMut() -> bool) {
    // On an emulated CPU a guest needs some time to fill a pipe.
    let end = Instant::now() + Duration::from_secs(120);
    while !come() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// With each number of descriptors a machine either does its work or does not begin, and leaves nothing.
fn a_limit_of_descriptors_is_an_error_before_the_guest_runs() {
    let (mut refused, mut worked) = (0, 0);
    for most in 20..70 {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, results) = (folder.path(), tempfile::tempdir().unwrap());
        let mut machine = minivmm("hello", kernel);
        for name in ["report", "timeline", "api-socket"] {
            machine.arg(format!("--{name}")).arg(results.path().join(name));
        }
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        let set = move || setrlimit(Resource::Nofile, limit).map_err(io::Error::from);
        // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
        unsafe { machine.pre_exec(set) };
        let output = machine.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let names = std::fs::read_dir(results.path()).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        if output.status.code() == Some(42) {
            assert_eq!(names, ["report", "timeline"], "{most}: {said}");
            worked += 1;
        } else {
            assert!(output.stdout.is_empty() && names.is_empty(), "{most}: {names:?} {said}");
            assert!(matches!(output.status.code(), Some(1 | 2)), "{most}: {} {said}", output.status);
            assert!(said.starts_with("minivmm: ") && said.contains("Too many open files"), "{most}: {said}");
            refused += 1;
        }
    }
    assert!(refused > 5 && worked > 5, "{refused} {worked}");
}
