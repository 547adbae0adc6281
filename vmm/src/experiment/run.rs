//! One run of an experiment: a minivmm of its own, and what it left.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use devices::{
    camera::stamp,
    faults::{Firing, Plan},
};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::file::{Case, Expect, Experiment, Frames};
use crate::{frames, report::Report};

/// What a run left, as far as it did.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Of minivmm's; none if it had to be killed.
    pub status: Option<ExitStatus>,
    /// Its --report.
    pub report: Option<Report>,
    /// What the workload printed, and minivmm.
    pub output: String,
    /// The guest's kernel log: as dmesg has it, or, if the workload never ended, as the serial console had it.
    pub log: String,
    /// The frames that the experiment looks at.
    pub frames: Option<Looked>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A file of frames that was looked at.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Looked {
    /// Frames in it.
    pub count: u64,
    /// The bad ones: which, from 0, and why.
    pub bad: Vec<(u64, String)>,
    /// The sensor's numbers of those that are whole, whichever they are.
    pub good: Vec<u32>,
}

/// Names of the files in a run's folder.
pub mod names {
    /// The plan of faults.
    pub const PLAN: &str = "plan.toml";
    /// minivmm's --report.
    pub const REPORT: &str = "report.json";
    /// minivmm's --trace.
    pub const TRACE: &str = "trace.jsonl";
    /// minivmm's --console-log.
    pub const CONSOLE: &str = "console.log";
    /// What was printed.
    pub const OUTPUT: &str = "output.txt";
    /// What came out of the guest.
    pub const OUT: &str = "out";
    /// The guest's dmesg, in [`OUT`].
    pub const LOG: &str = "dmesg.txt";
}

/// Runs `case` of `experiment` with `plan`, and leaves all there is of it in `folder`.
///
/// # Errors
/// If the folder cannot be written, or no minivmm be started.
pub fn run(experiment: &Experiment, case: &Case, plan: &Plan, folder: &Path) -> io::Result<Evidence> {
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
    minivmm.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    // A machine does not outlive who started it.
    let prepare = || set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from);
    // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
    unsafe { minivmm.pre_exec(prepare) };
    let start = Instant::now();
    let mut child = minivmm.spawn()?;
    let status = end_within(&mut child, Duration::from_secs(experiment.timeout))?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Evidence { status, seconds, ..look(&experiment.expect, folder) })
}

/// The arguments of a minivmm.
fn arguments(case: &Case, plan: &Plan, folder: &Path) -> Vec<OsString> {
    let path = |name: &str| folder.join(name).into_os_string();
    let mut words: Vec<OsString> = vec!["run".into()];
    words.extend(case.machine.iter().map(OsString::from));
    // Whatever the workload does, the kernel's log is kept, and its status handed on.
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
    words.extend(options.into_iter().chain(faults).flat_map(|(option, value)| [option.into(), value]));
    words
}

/// Waits for the end of `child`, and makes one after `limit`: then there is no status.
fn end_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What there is in a run's folder.
pub fn look(expect: &Expect, folder: &Path) -> Evidence {
    let read = |path: PathBuf| fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let out = folder.join(names::OUT);
    let log = read(out.join(names::LOG)).or_else(|| read(folder.join(names::CONSOLE)));
    Evidence {
        report: read(folder.join(names::REPORT)).and_then(|text| serde_json::from_str(&text).ok()),
        output: read(folder.join(names::OUTPUT)).unwrap_or_default(),
        log: log.unwrap_or_default(),
        frames: expect.frames.as_ref().and_then(|frames| look_at(frames, &out).ok()),
        ..Evidence::default()
    }
}

fn look_at(frames: &Frames, out: &Path) -> io::Result<Looked> {
    let file = out.join(&frames.file);
    let checked = frames::check_file(&file, &frames.layout)?;
    let mut good = Vec::new();
    for index in 0..checked.frames {
        // Also one after a gap, and none at the end of a file that is cut short.
        let Ok(frame) = frames::read_frame(&file, &frames.layout, index) else { break };
        good.extend(stamp::check(&frame, &frames.layout).map(|stamp| stamp.sequence));
    }
    let bad = checked.bad.into_iter().map(|(index, error)| (index, error.to_string())).collect();
    Ok(Looked { count: checked.frames, bad, good })
}

impl Evidence {
    /// What went wrong on purpose.
    pub fn firings(&self) -> &[Firing] {
        self.report.as_ref().and_then(|report| report.faults.as_ref()).map_or(&[], |trace| &trace.firings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_does_not_end_is_ended() {
        let sleep = |seconds: &str| Command::new("sleep").arg(seconds).spawn().unwrap();
        let limit = Duration::from_millis(200);
        assert!(end_within(&mut sleep("0"), Duration::from_secs(20)).unwrap().unwrap().success());
        let mut child = sleep("100");
        assert_eq!(end_within(&mut child, limit).unwrap(), None);
        assert!(child.try_wait().unwrap().is_some(), "it is gone");
    }

    #[test]
    fn a_machine_without_faults_gets_no_plan() {
        let case = Case {
            name: "seed=1".into(),
            machine: vec!["--cma".into(), "16M".into()],
            workload: "true".into(),
            seed: 1,
        };
        let words = arguments(&case, &Plan::default(), Path::new("/x"));
        assert!(words.starts_with(&["run".into(), "--cma".into(), "16M".into(), "--exec".into()]));
        assert!(words[4].to_str().unwrap().contains("(\ntrue\n)") && !words.contains(&"--faults".into()));
    }

    #[test]
    fn an_empty_folder_is_no_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = look(&Expect::default(), folder.path());
        assert!(evidence.report.is_none() && evidence.firings().is_empty() && evidence.frames.is_none());
    }
}
