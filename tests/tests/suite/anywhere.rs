//! `minivmm` alone, where this host's KVM cannot run Linux: an installed program in an empty folder runs its guests in the lab,
//! and all that they leave reaches the host.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use guest_images::{Arch, Kind};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::{
    exposition, guest,
    harness::{Group, Place},
    host, schema, tests,
};
use vmm::{
    experiment::results::Summary,
    observe::report::{MachineOutcome, Report},
};

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "anywhere",
        place: Place::OutsideOfLabs,
        tests: tests![
            what_a_guest_leaves_reaches_the_host,
            requests_and_signals_reach_the_guest,
            an_experiment_runs_in_one_lab,
            a_guest_that_is_interrupted_early_leaves_nothing,
            commands_without_a_guest_need_nothing,
        ],
    }
}

/// An installed minivmm, and an empty folder to run it in.
struct Installed {
    folder: TempDir,
}

impl Installed {
    fn new() -> Self {
        guest_images::build(Arch::host(), Kind::DEFAULT).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "empty"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::copy(guest::minivmm(), folder.path().join("bin/minivmm")).unwrap();
        Self { folder }
    }

    /// The file or folder of that name in the folder.
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("empty").join(name)
    }

    /// minivmm with an environment that knows neither cargo nor the checkout. A host that can run Linux is asked for the lab.
    fn minivmm(&self, words: &[&str]) -> Command {
        let mut minivmm = Command::new(self.folder.path().join("bin/minivmm"));
        minivmm.args(words).current_dir(self.folder.path().join("empty"));
        minivmm.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        for name in ["HOME", "MINIVMM_CACHE", "XDG_CACHE_HOME"] {
            minivmm.envs(env::var_os(name).map(|value| (name, value)));
        }
        if host::unfit().is_none() && ["experiment", "run"].contains(&words[0]) {
            minivmm.args(["--host", "lab"]);
        }
        minivmm
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(path: &Path) -> Report {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn what_a_guest_leaves_reaches_the_host() {
    let installed = Installed::new();
    let guest = "cat given; grep CmaTotal /proc/meminfo; echo kept > /out/file; v4l2-ctl --stream-mmap=3 --stream-count=5 2> /dev/null; exit 7";
    let words = "run --cma 64M --camera timing=stall,record=clips/clip.y4m --out out --report reports/report.json \
                 --console-log console.log --dump-dtb tree.dtb --timeline timeline.json --metrics reports/machine.prom --add given:/root/ --exec";
    fs::write(installed.at("given"), "given\n").unwrap();
    for name in ["clips", "reports"] {
        fs::create_dir(installed.at(name)).unwrap();
    }
    let words: Vec<&str> = words.split_whitespace().chain([guest]).collect();
    let output = guest::run_within(&mut installed.minivmm(&words), Duration::from_secs(300));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{stdout}{stderr}");
    assert_eq!(
        stdout.split_whitespace().collect::<Vec<_>>()[..4],
        ["given", "CmaTotal:", "65536", "kB"],
        "{stderr}"
    );
    assert_eq!(stderr.matches("running in the lab").count(), 1, "{stderr}");
    assert_eq!(fs::read_to_string(installed.at("out/file")).unwrap(), "kept\n");
    assert_eq!(report(&installed.at("reports/report.json")).outcome, MachineOutcome::Exit { status: 7 });
    schema::check("observe/report.schema.json", &[installed.at("reports/report.json")]);
    let figures = fs::read_to_string(installed.at("reports/machine.prom")).unwrap();
    let figures = exposition::samples(&figures).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(exposition::value(&figures, "minivmm_exit_status", &[]), 7.0);
    assert!(exposition::value(&figures, "minivmm_device_frames_total", &[]) >= 5.0);
    for name in ["console.log", "tree.dtb", "timeline.json", "clips/clip.y4m"] {
        assert!(fs::metadata(installed.at(name)).unwrap().len() > 0, "{name} is empty");
    }
}

/// Waits for what `look` finds.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(300);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The emulator that a minivmm started.
fn emulator(minivmm: &Child) -> u32 {
    let id = minivmm.id();
    wait("the emulator", || {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let is_emulator = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu"))
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).find(is_emulator)
    })
}

fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn signal(minivmm: &Child, signal: Signal) {
    kill_process(Pid::from_child(minivmm), signal).unwrap();
}

fn end(mut minivmm: Child) -> Output {
    wait("minivmm's end", || minivmm.try_wait().unwrap());
    minivmm.wait_with_output().unwrap()
}

fn requests_and_signals_reach_the_guest() {
    let installed = Installed::new();
    let socket = installed.at("vm.sock");
    let plan = "[[rule]]\nname = \"torn\"\non = \"frame.dma\"\naction = \"torn\"\nlines = 1\nwhen = { nth = 1000 }\n";
    fs::write(installed.at("plan.toml"), plan).unwrap();
    let words = "run --cma 64M --camera fps=1 --faults plan.toml --report report.json --api-socket vm.sock --metrics unix:figures.sock --exec";
    let words: Vec<&str> = words.split_whitespace().chain(["v4l2-ctl --stream-mmap; sleep 1000"]).collect();
    let mut machine = installed.minivmm(&words);
    let machine = guest::spawn(machine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let emulator = emulator(&machine);
    let ask = |words: &[&str]| {
        let words = [&["ctl", "vm.sock"][..], words].concat();
        guest::run_within(&mut installed.minivmm(&words), Duration::from_secs(60))
    };
    let status = wait("the guest's boot mark", || {
        let said = text(&ask(&["status"]).stdout);
        said.contains("booted after").then_some(said)
    });
    assert!(status.contains("window ") && status.contains("64M"), "{status}");
    // Several clients at a time, each with its own answer.
    thread::scope(|scope| {
        let asked: Vec<_> =
            ["cma", "devices", "cma", "devices"].map(|verb| scope.spawn(move || (verb, ask(&[verb])))).into();
        for asked in asked {
            let (verb, output) = asked.join().unwrap();
            let said = text(&output.stdout);
            let part = if verb == "cma" { "pages" } else { "camera0:" };
            assert!(said.contains(part), "{verb}: {said}{}", text(&output.stderr));
        }
    });
    check_answers(&socket, installed.folder.path());
    check_figures(&installed.at("figures.sock"));
    signal(&machine, Signal::TERM);
    let output = end(machine);
    assert_eq!(output.status.code(), Some(128 + 15), "{}", text(&output.stderr));
    // The machine ended in order, and left its report.
    assert_eq!(report(&installed.at("report.json")).outcome, MachineOutcome::Signal { signal: 15 });
    assert!(!is_running(emulator) && !socket.exists() && !installed.at("figures.sock").exists());
}

/// Reads the figures of a machine with Linux as users do.
fn check_figures(socket: &Path) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--unix-socket"]).arg(socket);
    let output = guest::run_within(curl.arg("http://localhost/metrics"), Duration::from_secs(60));
    let text = guest::printed(&output);
    let figures = exposition::samples(&text).unwrap_or_else(|error| panic!("{error}"));
    let of = |name: &str| exposition::value(&figures, name, &[]);
    assert_eq!((of("minivmm_running"), of("minivmm_window_bytes")), (1.0, f64::from(64 << 20)));
    assert_eq!(of("minivmm_cma_area_pages"), f64::from(64 << 20 >> 12));
    // The buffers of the stream.
    assert!(of("minivmm_cma_area_allocated_pages") > 100.0, "{text}");
    assert!(exposition::value(&figures, "minivmm_device_frames_total", &[("device", "camera0")]) > 0.0);
    assert_eq!(exposition::value(&figures, "minivmm_fault_rule_firings_total", &[("rule", "torn")]), 0.0);
}

/// Sends requests to a machine, and checks them and the answers by their schemas.
fn check_answers(socket: &Path, folder: &Path) {
    let requests = [
        (r#"{"verb":"status"}"#, "status"),
        (r#"{"verb":"devices","device":"camera0"}"#, "devices"),
        (r#"{"verb":"cma"}"#, "cma"),
        (r#"{"verb":"faults","faults":"list"}"#, "faults"),
        (r#"{"verb":"faults","faults":{"trigger":"none"}}"#, "error"),
        (r#"{"verb":"capture"}"#, "capture"),
        (r#"{"verb":"frames","frames":{"step":1}}"#, "done"),
        (r#"{"verb":"frames","frames":"resume"}"#, "done"),
        (r#"{"verb":"pause"}"#, "done"),
        (r#"{"verb":"resume"}"#, "done"),
        (r#"{"verb":"events"}"#, "status"),
    ];
    let mut stream = guest::connect(socket).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut answers = String::new();
    for (request, expected) in requests {
        writeln!(stream, "{request}").unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert!(answer.starts_with(&format!("{{\"{expected}\":")), "{request}: {answer}");
        answers += &(answer + "\n");
    }
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        [path]
    };
    let requests = requests.map(|(request, _)| request).join("\n");
    schema::check("api/request.schema.json", &file("requests.jsonl", &requests));
    schema::check("api/answer.schema.json", &file("answers.jsonl", &answers));
}

fn an_experiment_runs_in_one_lab() {
    let installed = Installed::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/torn.toml");
    let words = ["experiment", "run", file];
    let output = guest::run_within(&mut installed.minivmm(&words), Duration::from_secs(300));
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{}{stderr}", text(&output.stdout));
    assert_eq!(stderr.matches("running in the lab").count(), 1, "{stderr}");
    let results = installed.at("experiment-results");
    for name in ["report.json", "junit.xml", "index.html"] {
        assert!(results.join(name).exists(), "{name} is missing");
    }
    schema::check("experiment/results.schema.json", &[results.join("report.json")]);
    let summary: Summary = serde_json::from_slice(&fs::read(results.join("report.json")).unwrap()).unwrap();
    let run = results.join(&summary.runs[0].folder);
    schema::check("observe/report.schema.json", &[run.join("report.json")]);
    schema::check("observe/trace.schema.json", &[run.join("trace.jsonl")]);
}

fn a_guest_that_is_interrupted_early_leaves_nothing() {
    let installed = Installed::new();
    let words = ["run", "--api-socket", "vm.sock", "--exec", "sleep 1000"];
    let mut machine = installed.minivmm(&words);
    let machine = guest::spawn(machine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let emulator = emulator(&machine);
    signal(&machine, Signal::INT);
    let output = end(machine);
    assert_eq!(output.status.code(), Some(128 + 2), "{}", text(&output.stderr));
    assert!(!is_running(emulator) && !installed.at("vm.sock").exists());
}

/// No lab, and no program of the host's.
fn commands_without_a_guest_need_nothing() {
    let installed = Installed::new();
    for words in [
        &["dtb", "--cma", "64M"][..],
        &["check", "--cma", "64M"],
        &["model", "--frames", "1080p:NV12", "--window", "64M"],
    ] {
        let mut minivmm = installed.minivmm(words);
        let output = guest::run_within(minivmm.env("PATH", "/no/programs"), Duration::from_secs(60));
        let stderr = text(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{words:?}: {stderr}");
        assert!(!output.stdout.is_empty(), "{words:?}");
    }
}
