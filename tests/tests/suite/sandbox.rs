//! The sandbox: each thread of a machine is confined, and what an intruder in one of them tries fails, is named, and ends the
//! machine.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use guest_images::Kind;
use rustix::process::{Signal, geteuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tests::{
    bare_metal::BareMetal,
    guest::{self, exec, text},
    harness::{Group, Place},
    injection::{self, Argument, Argument::Number},
    tests,
};
use vmm::{
    observe::report::{MachineOutcome, Report},
    sandbox::landlock_abi,
};

/// Tests with bare-metal guests.
pub(crate) fn group() -> Group {
    Group {
        name: "sandbox",
        place: Place::Kvm,
        tests: tests![
            every_thread_is_confined,
            a_forbidden_call_of_any_thread_fails_and_ends_the_machine,
            an_intruder_reaches_no_other_files,
            root_becomes_the_owner_of_the_folders_or_nobody,
            without_landlock_the_rest_is_in_force,
            without_the_sandbox_no_thread_is_confined,
        ],
    }
}

/// Tests with Linux.
pub(crate) fn linux() -> Group {
    Group {
        name: "sandbox_of_linux",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![a_guest_does_its_work_in_the_sandbox],
    }
}

/// A machine with a thread of each kind, in `folder`.
struct Machine {
    child: Child,
    folder: tempfile::TempDir,
}

/// The names of its threads. Two threads have the name `output`, because there is a console log.
const THREADS: [&str; 14] = [
    "camera0",
    "capture",
    "disk",
    "files",
    "isp1",
    "log",
    "minivmm",
    "msgdma0",
    "output",
    "recording",
    "stdin",
    "vcpu0",
    "vcpu1",
    "watch",
];

impl Machine {
    fn start(more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more)
    }

    fn start_in(folder: tempfile::TempDir, more: &[&str]) -> Self {
        Self::start_as(Command::new(guest::minivmm()), folder, more)
    }

    /// `minivmm` is the program, without arguments.
    fn start_as(mut minivmm: Command, folder: tempfile::TempDir, more: &[&str]) -> Self {
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("out")).unwrap();
        minivmm.args(["--any-host", "--memory", "64M", "--cpus", "2", "--cma", "16M", "--device", "msgdma"]);
        minivmm.arg("--camera").arg(format!("record={},threads=2", path("clip.y4m").display()));
        minivmm.arg("--kernel").arg(BareMetal::new("spin").build(folder.path()).config.kernel);
        minivmm.args(["--exec", "true"]).args(more);
        for (option, name) in [
            ("--out", "out"),
            ("--report", "report.json"),
            ("--console-log", "console"),
            ("--api-socket", "socket"),
        ] {
            minivmm.arg(option).arg(path(name));
        }
        // Standard input stays open, so that its thread does.
        let child = guest::spawn(minivmm.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()));
        let machine = Self { child, folder };
        // The guest runs when the API answers.
        machine.wait("the machine", || machine.ctl("status"));
        machine
    }

    fn ctl(&self, verb: &str) -> bool {
        let socket = self.folder.path().join("socket");
        Command::new(guest::minivmm()).arg("ctl").arg(socket).arg(verb).output().unwrap().status.success()
    }

    fn wait(&self, what: &str, mut come: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !come() {
            assert!(Instant::now() < end, "{what} did not come; {}", guest::waits(self.child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its threads: the number, the name and the status of each.
    fn threads(&self) -> Vec<(u32, String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let read = |task: &Path, file| fs::read_to_string(task.join(file)).unwrap();
        let thread = |task: fs::DirEntry| {
            let name = read(&task.path(), "comm").trim().to_owned();
            (task.file_name().to_str().unwrap().parse().unwrap(), name, read(&task.path(), "status"))
        };
        tasks.map(|task| thread(task.unwrap())).collect()
    }

    /// Has the thread `name` make a system call.
    fn inject(&self, name: &str, number: libc::c_long, arguments: &[Argument<'_>]) -> i64 {
        let threads = self.threads();
        let (tid, ..) = threads.iter().find(|(_, known, _)| known == name).unwrap();
        injection::call(self.child.id(), *tid, number, arguments).unwrap()
    }

    fn wait_for_end(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "no end; {}", guest::waits(self.child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end. Returns the status, its messages and the report.
    fn end(mut self) -> (Option<i32>, String, Report) {
        self.wait_for_end();
        let mut messages = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut messages).unwrap();
        let status = self.child.wait().unwrap().code();
        let report = fs::read(self.folder.path().join("report.json")).unwrap();
        assert!(!self.folder.path().join("socket").exists(), "the API's socket is gone");
        (status, messages, serde_json::from_slice(&report).unwrap())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // After a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

fn every_thread_is_confined() {
    let machine = Machine::start(&[]);
    let threads = machine.threads();
    // Newer kernels have a thread of KVM's here.
    let names = threads.iter().map(|(_, name, _)| name.as_str()).filter(|name| !name.starts_with("kvm-"));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, THREADS);
    for (_, name, status) in &threads {
        assert_eq!((field(status, "Seccomp"), field(status, "NoNewPrivs")), ("2", "1"), "{name}: {status}");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(field(status, set), "0000000000000000", "{name}: {set}");
        }
        if geteuid().is_root() {
            assert_eq!(field(status, "CapBnd"), "0000000000000000", "{name}");
            assert_eq!(field(status, "Groups"), "", "{name}");
            // The test's folder belongs to root, so the threads that create files there have its user.
            let writes = ["minivmm", "files", "recording"].contains(&name.as_str());
            assert_eq!(field(status, "Uid").starts_with("65534\t65534\t"), !writes, "{name}: {status}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", machine.child.id())).unwrap();
    let limit = |name: &str| -> Vec<&str> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().take(2).collect()
    };
    assert_eq!((limit("Max processes"), limit("Max core file size")), (vec!["0", "0"], vec!["0", "0"]));
    assert!(limit("Max open files")[1].parse::<u32>().unwrap() < 400, "{limits}");

    guest::kill(machine.child.id(), Signal::TERM);
    let (status, messages, report) = machine.end();
    assert_eq!(status, Some(143), "{messages}");
    let sandbox = report.sandbox.unwrap();
    assert!(sandbox.seccomp && sandbox.no_new_privs, "{sandbox:?}");
    assert_eq!((sandbox.capabilities.as_str(), sandbox.landlock_abi), ("0000000000000000", landlock_abi()));
    assert_eq!(sandbox.users.len(), 11, "one for each kind of thread outside the lab: {sandbox:?}");
    let says = |what: &str| sandbox.notes.iter().any(|note| note.contains(what));
    assert_eq!(says("this kernel has no Landlock"), landlock_abi().is_none(), "{sandbox:?}");
    assert_eq!(
        says("the files thread runs as root without capabilities: "),
        geteuid().is_root(),
        "{sandbox:?}"
    );
    assert_eq!(messages.contains("this kernel has no Landlock"), landlock_abi().is_none(), "{messages}");
}

fn a_forbidden_call_of_any_thread_fails_and_ends_the_machine() {
    for (name, kind) in [
        ("camera0", "device"),
        ("capture", "capture"),
        ("disk", "disk"),
        ("files", "files"),
        ("isp1", "device"),
        ("log", "log"),
        ("minivmm", "main"),
        ("msgdma0", "device"),
        ("output", "output"),
        ("recording", "recording"),
        ("stdin", "input"),
        ("vcpu1", "vCPU"),
        ("watch", "watch"),
    ] {
        let machine = Machine::start(&[]);
        let arguments = [Number(libc::AF_INET.into()), Number(libc::SOCK_STREAM.into()), Number(0)];
        let result = machine.inject(name, libc::SYS_socket, &arguments);
        assert_eq!(result, -i64::from(libc::EPERM), "{name}");
        let (status, messages, report) = machine.end();
        let sentence = format!("the {kind} thread called socket(2), which the sandbox forbids");
        assert!(messages.contains(&format!("minivmm: {sentence}\n")), "{name}: {messages}");
        assert_eq!((status, report.exit.status), (Some(125), 125), "{name}: {messages}");
        assert_eq!(report.outcome, MachineOutcome::Failed { reason: sentence }, "{name}");
    }
}

/// The threads that never open a file, and the one that unpacks files for --out.
fn an_intruder_reaches_no_other_files() {
    let flags = libc::O_CREAT | libc::O_WRONLY;
    let open = |machine: &Machine, thread: &str, path: &Path| {
        let path = path.to_str().unwrap();
        let arguments =
            [Number(libc::AT_FDCWD.into()), Argument::Text(path), Number(flags.into()), Number(0o600)];
        machine.inject(thread, libc::SYS_openat, &arguments)
    };
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("file");

    let machine = Machine::start(&[]);
    assert!(open(&machine, "files", &machine.folder.path().join("out/new")) >= 0);
    if landlock_abi().is_some() {
        let refused = -i64::from(libc::EACCES);
        for path in
            [&outside, &machine.folder.path().join("beside"), Path::new("/etc/passwd"), Path::new("/dev/kvm")]
        {
            assert_eq!(open(&machine, "files", path), refused, "{}", path.display());
        }
        assert_eq!(open(&machine, "recording", &outside), refused);
        assert!(open(&machine, "recording", &machine.folder.path().join("clip-2.y4m")) >= 0);
        // The main thread may replace files beside its report, but no others.
        let arguments = [Argument::Text("/etc/passwd"), Argument::Text("/etc/shadow")];
        let there = Number(libc::AT_FDCWD.into());
        let rename = [there, arguments[0], there, arguments[1]];
        assert_eq!(machine.inject("minivmm", libc::SYS_renameat, &rename), refused);
    } else {
        eprintln!("this kernel has no Landlock: only the system calls are tested");
    }
    guest::kill(machine.child.id(), Signal::TERM);
    assert_eq!(machine.end().0, Some(143));

    let machine = Machine::start(&[]);
    assert_eq!(open(&machine, "vcpu0", &outside), -i64::from(libc::EPERM));
    let (status, messages, _) = machine.end();
    assert!(
        messages.contains("minivmm: the vCPU thread called openat(2), which the sandbox forbids\n"),
        "{messages}"
    );
    assert_eq!(status, Some(125));
    assert!(!outside.exists());
}

fn root_becomes_the_owner_of_the_folders_or_nobody() {
    const OWNER: u32 = 12_345;
    if !geteuid().is_root() {
        eprintln!("not tested: this test does not run as root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    for path in [folder.path(), &folder.path().join("out")] {
        chown(path, Some(OWNER), Some(OWNER)).unwrap();
    }
    let mut machine = Machine::start_in(folder, &[]);
    for (_, name, status) in machine.threads() {
        let writes = ["minivmm", "files", "recording"].contains(&name.as_str());
        let user = if writes { OWNER } else { 65534 };
        assert_eq!(field(&status, "Uid"), [user; 4].map(|user| user.to_string()).join("\t"), "{name}");
    }
    let report = machine.folder.path().join("report.json");
    guest::kill(machine.child.id(), Signal::TERM);
    machine.wait_for_end();
    assert_eq!(fs::metadata(&report).unwrap().uid(), OWNER);
    let (status, messages, report) = machine.end();
    assert_eq!(status, Some(143), "{messages}");
    assert_eq!(report.sandbox.unwrap().notes.len(), usize::from(landlock_abi().is_none()));
}

/// A seccomp filter makes the kernel answer as one without Landlock (ENOSYS).
fn without_landlock_the_rest_is_in_force() {
    let calls = BTreeMap::from([(libc::SYS_landlock_create_ruleset, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, absent, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let mut minivmm = Command::new(guest::minivmm());
    let install = move || seccompiler::apply_filter(&filter).map_err(io::Error::other);
    // SAFETY: the closure makes two system calls, and allocates only if one of them fails.
    unsafe { minivmm.pre_exec(install) };
    let machine = Machine::start_as(minivmm, tempfile::tempdir().unwrap(), &[]);
    for (_, name, status) in machine.threads() {
        assert_eq!((field(&status, "Seccomp"), field(&status, "NoNewPrivs")), ("2", "1"), "{name}");
        assert_eq!(field(&status, "CapEff"), "0000000000000000", "{name}");
    }
    let arguments = [Number(libc::AF_INET.into()), Number(libc::SOCK_STREAM.into()), Number(0)];
    assert_eq!(machine.inject("vcpu0", libc::SYS_socket, &arguments), -i64::from(libc::EPERM));
    let (status, messages, report) = machine.end();
    assert_eq!(status, Some(125), "{messages}");
    let lines = messages.lines().filter(|line| line.contains("Landlock"));
    let [line] = lines.collect::<Vec<_>>()[..] else { panic!("one line says it: {messages}") };
    assert!(
        line.contains("this kernel has no Landlock, so only the sandbox's system calls and users"),
        "{line}"
    );
    let sandbox = report.sandbox.unwrap();
    assert_eq!((sandbox.seccomp, sandbox.landlock_abi), (true, None));
    assert!(sandbox.notes.iter().any(|note| note.contains("no Landlock")), "{sandbox:?}");
}

fn without_the_sandbox_no_thread_is_confined() {
    let machine = Machine::start(&["--sandbox", "off"]);
    for (_, name, status) in machine.threads() {
        assert_eq!((field(&status, "Seccomp"), field(&status, "NoNewPrivs")), ("0", "0"), "{name}");
    }
    guest::kill(machine.child.id(), Signal::TERM);
    assert_eq!(machine.end().2.sandbox, None);
}

/// Streams, a recording, files, captures and a plan of faults; a report with what was in force.
fn a_guest_does_its_work_in_the_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (report, out, trace, timeline) = (path("report"), path("out"), path("trace"), path("timeline"));
    fs::write(
        path("plan"),
        "[[rule]]\nname = \"r\"\non = \"frame.start\"\naction = \"spurious\"\nwhen = { nth = 3 }\n",
    )
    .unwrap();
    let arguments = format!(
        "--cma 64M --camera record={0}/clip.y4m,timing=stall,threads=2 --report {1} --out {2} --trace {3} --timeline {4} --faults {0}/plan",
        folder.path().display(),
        report.display(),
        out.display(),
        trace.display(),
        timeline.display(),
    );
    let work = "set -e
        v4l2-ctl -v width=320,height=240 --stream-mmap=4 --stream-count=8 > /dev/null 2>&1
        v4l2-ctl -v width=640,height=480 --stream-mmap=4 --stream-count=8 > /dev/null 2>&1
        mkdir -p /out/a/b; cp /proc/meminfo /out/a/b/c; dd if=/dev/zero of=/out/large bs=1M count=20 2> /dev/null
        seq 1 10000";
    let output = exec(&arguments, work);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 10_000);
    let report: Report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let sandbox = report.sandbox.unwrap();
    assert!(sandbox.seccomp && sandbox.no_new_privs && sandbox.landlock_abi.is_some(), "{sandbox:?}");
    assert_eq!(fs::metadata(out.join("large")).unwrap().len(), 20 << 20);
    assert!(out.join("a/b/c").exists() && path("clip-2.y4m").exists() && trace.exists() && timeline.exists());
}
