//! One run of an experiment: starts a minivmm of its own, and collects the evidence that it leaves.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use devices::{
    faults::{Firing, Plan},
    media::stamp,
};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::{
    expect::{Expect, Frames},
    file::Case,
};
use crate::observe::{
    frames::{self, FrameError},
    report::Report,
};

/// The time that a minivmm has for its report after it was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// The evidence that a run left. A run that broke off leaves a part of it.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The exit status of minivmm; none if it did not end by itself.
    pub status: Option<ExitStatus>,
    /// The report.
    pub report: Option<Report>,
    /// The output of the workload and of minivmm.
    pub output: String,
    /// The guest's kernel log from dmesg. If the workload never ended, it is the one on the serial console: warnings and worse, unless
    /// the machine's --cmdline says otherwise.
    pub log: String,
    /// The serial console, which also has the messages after the workload's end.
    pub console: String,
    /// The file of frames that the experiment names.
    pub frames: Option<Looked>,
    /// The time that the run took, in seconds.
    pub seconds: f64,
}

/// The content of a file of frames.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Looked {
    /// Number of frames in the file.
    pub count: u64,
    /// The bad frames: their index, from 0, and the reason.
    pub bad: Vec<(u64, String)>,
    /// Number of frames that are missing between those in the file, by the frames' numbers.
    pub lost: u64,
    /// The numbers of the whole frames, in the order of the file.
    pub good: Vec<u32>,
}

/// Names of the files in a run's folder.
pub mod names {
    /// A copy of the experiment.
    pub const EXPERIMENT: &str = "experiment.toml";
    /// The plan of faults.
    pub const PLAN: &str = "plan.toml";
    /// minivmm's --report.
    pub const REPORT: &str = "report.json";
    /// minivmm's --trace.
    pub const TRACE: &str = "trace.jsonl";
    /// minivmm's --console-log.
    pub const CONSOLE: &str = "console.log";
    /// The output of the workload and of minivmm.
    pub const OUTPUT: &str = "output.txt";
    /// minivmm's --out.
    pub const OUT: &str = "out";
    /// The guest's dmesg, in [`OUT`].
    pub const LOG: &str = "dmesg.txt";
}

/// Runs `case` with `plan`, and leaves its files in `folder`. None if a `stop` ended it early.
///
/// # Errors
/// If the folder cannot be written, or minivmm cannot be started.
pub fn run(case: &Case, plan: &Plan, folder: &Path, stop: &AtomicBool) -> io::Result<Option<Evidence>> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let path = |name: &str| folder.join(name);
    let output = File::create(path(names::OUTPUT))?;
    let mut minivmm = Command::new(std::env::current_exe()?);
    minivmm.args(arguments(case, plan, folder));
    if !plan.rules.is_empty() {
        fs::write(path(names::PLAN), &plan.text)?;
    }
    // Ctrl-C goes to this process alone, which ends the run in order.
    minivmm.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    // The machine does not outlive this process.
    let prepare = || set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from);
    // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
    unsafe { minivmm.pre_exec(prepare) };
    let start = Instant::now();
    let mut child = minivmm.spawn()?;
    let status = end_within(&mut child, Duration::from_secs(case.timeout), stop)?;
    if status.is_none() && stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Some(Evidence { status, seconds, ..look(&case.expect, folder) }))
}

/// The arguments of minivmm.
fn arguments(case: &Case, plan: &Plan, folder: &Path) -> Vec<OsString> {
    let path = |name: &str| folder.join(name).into_os_string();
    let mut words: Vec<OsString> = vec!["run".into()];
    words.extend(case.machine.iter().map(OsString::from));
    // The kernel's log is saved and the status handed on, whatever the workload does.
    let log = names::LOG;
    let exec = format!("(\n{}\n); status=$?; dmesg > /out/{log}; exit $status", case.workload);
    let options: [(&str, OsString); 6] = [
        ("--exec", exec.into()),
        ("--seed", case.seed.to_string().into()),
        ("--out", path(names::OUT)),
        ("--report", path(names::REPORT)),
        ("--console-log", path(names::CONSOLE)),
        ("--log", "error".into()),
    ];
    let faults = [("--faults", path(names::PLAN)), ("--trace", path(names::TRACE))];
    let faults = faults.into_iter().filter(|_| !plan.rules.is_empty());
    // Each character on the serial console is an exit of the guest, and a boot log of informational messages a third of a
    // short run. Warnings and errors are still printed; the log of /out has everything.
    let has_cmdline = case.machine.iter().any(|word| word.starts_with("--cmdline"));
    let warnings = (!has_cmdline).then(|| ("--cmdline", "loglevel=5".into()));
    let all = options.into_iter().chain(faults).chain(warnings);
    words.extend(all.flat_map(|(option, value)| [option.into(), value]));
    words
}

/// Waits for the end of `child`. After `limit`, or on a `stop`, ends it and returns no status.
fn end_within(child: &mut Child, limit: Duration, stop: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    let ended = wait(child, limit, stop)?;
    if ended.is_none() {
        kill_process(Pid::from_child(child), Signal::TERM)?;
        if wait(child, GRACE, &AtomicBool::new(false))?.is_none() {
            child.kill()?;
            child.wait()?;
        }
    }
    Ok(ended)
}

/// The status of `child`, if it ends within `limit` and before a `stop`.
fn wait(child: &mut Child, limit: Duration, stop: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || start.elapsed() > limit || stop.load(Ordering::Relaxed) {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The most that is read of a file that the guest fills, in bytes.
const EVIDENCE_MAX: u64 = 64 << 20;

/// Collects the evidence in a run's folder. Only the first `EVIDENCE_MAX` bytes of a text from the guest count.
pub fn look(expect: &Expect, folder: &Path) -> Evidence {
    let read = |path: PathBuf| -> Option<String> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(EVIDENCE_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let out = folder.join(names::OUT);
    let console = read(folder.join(names::CONSOLE)).unwrap_or_default();
    // A guest that dies at the wrong moment leaves an empty file.
    let log = read(out.join(names::LOG)).filter(|log| !log.is_empty());
    Evidence {
        report: fs::read(folder.join(names::REPORT)).ok().and_then(|json| serde_json::from_slice(&json).ok()),
        output: read(folder.join(names::OUTPUT)).unwrap_or_default(),
        log: log.unwrap_or_else(|| console.clone()),
        console,
        frames: expect.frames.as_ref().and_then(|frames| look_at(frames, &out).ok()),
        ..Evidence::default()
    }
}

fn look_at(frames: &Frames, out: &Path) -> io::Result<Looked> {
    let file = out.join(&frames.file);
    let checked = frames::check_file(&file, &frames.layout)?;
    let mut good = Vec::new();
    for index in 0..checked.frames {
        // The last frame of a file may be incomplete.
        let Ok(frame) = frames::read_frame(&file, &frames.layout, index) else { break };
        good.extend(stamp::check(&frame, &frames.layout).map(|stamp| stamp.sequence));
    }
    let lost = checked.bad.iter().map(|(_, error)| match error {
        FrameError::Sequence { found, expected } => found.saturating_sub(*expected).into(),
        FrameError::Stamp(_) => 0,
    });
    let lost = lost.sum();
    let bad = checked.bad.into_iter().map(|(index, error)| (index, error.to_string())).collect();
    Ok(Looked { count: checked.frames, bad, lost, good })
}

impl Evidence {
    /// The faults that fired.
    pub fn firings(&self) -> &[Firing] {
        self.report.as_ref().and_then(|report| report.faults.as_ref()).map_or(&[], |trace| &trace.firings)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn sh(command: &str) -> Child {
        Command::new("sh").args(["-c", command]).spawn().unwrap()
    }

    #[test]
    fn a_child_that_does_not_end_is_ended() {
        let limit = Duration::from_millis(300);
        let stop = AtomicBool::new(false);
        assert!(end_within(&mut sh("exit 0"), Duration::from_secs(20), &stop).unwrap().unwrap().success());
        // It may leave a report first.
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report");
        let mut child =
            sh(&format!("trap 'echo x > {}; exit 0' TERM; while :; do sleep 0.1; done", report.display()));
        assert_eq!(end_within(&mut child, limit, &stop).unwrap(), None);
        assert!(child.try_wait().unwrap().is_some() && report.exists(), "it is gone, and left its report");
        let mut child = sh("trap '' TERM; while :; do sleep 0.1; done");
        assert_eq!(end_within(&mut child, limit, &stop).unwrap(), None);
        assert!(child.try_wait().unwrap().is_some(), "it is gone");
    }

    #[test]
    fn who_stops_does_not_wait_for_the_limit() {
        let start = Instant::now();
        let mut child = sh("exec sleep 100");
        assert_eq!(end_within(&mut child, Duration::from_secs(60), &AtomicBool::new(true)).unwrap(), None);
        assert!(child.try_wait().unwrap().is_some() && start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_machine_without_faults_gets_no_plan() {
        let case = Case {
            name: "seed=1".into(),
            machine: vec!["--cma".into(), "16M".into()],
            workload: "true".into(),
            seed: 1,
            rules: Vec::new(),
            expect: Expect::default(),
            timeout: 1,
        };
        let words = arguments(&case, &Plan::default(), Path::new("/x"));
        assert!(words.starts_with(&["run".into(), "--cma".into(), "16M".into(), "--exec".into()]));
        assert!(words[4].to_str().unwrap().contains("(\ntrue\n)") && !words.contains(&"--faults".into()));
        assert!(words.ends_with(&["--cmdline".into(), "loglevel=5".into()]));
    }

    #[test]
    fn an_empty_folder_is_no_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = look(&Expect::default(), folder.path());
        assert!(evidence.report.is_none() && evidence.firings().is_empty() && evidence.frames.is_none());
    }

    #[test]
    fn only_the_beginning_of_a_guests_text_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(names::OUT);
        fs::create_dir(&out).unwrap();
        // A hole of 1 TiB takes no space; a guest makes one with truncate(1).
        for path in [out.join(names::LOG), folder.path().join(names::CONSOLE)] {
            let file = File::create(path).unwrap();
            file.set_len(1 << 40).unwrap();
            file.write_all_at(b"the beginning", 0).unwrap();
            file.write_all_at(b"the end", EVIDENCE_MAX).unwrap();
        }
        let evidence = look(&Expect::default(), folder.path());
        for text in [&evidence.log, &evidence.console] {
            assert_eq!(text.len() as u64, EVIDENCE_MAX);
            assert!(text.starts_with("the beginning") && text.ends_with('\0'));
        }
    }

    #[test]
    fn the_console_stands_for_a_log_that_was_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(names::OUT);
        fs::create_dir(&out).unwrap();
        fs::write(folder.path().join(names::CONSOLE), "a panic").unwrap();
        fs::write(out.join(names::LOG), "").unwrap();
        assert_eq!(look(&Expect::default(), folder.path()).log, "a panic");
        fs::write(out.join(names::LOG), "all is well").unwrap();
        let evidence = look(&Expect::default(), folder.path());
        assert_eq!((evidence.log.as_str(), evidence.console.as_str()), ("all is well", "a panic"));
    }
}
