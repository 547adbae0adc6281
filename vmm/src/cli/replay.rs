//! `minivmm replay REPORT`: runs the machine of a report again, with the same plan of faults and seed, and compares the firings.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use devices::faults::{Firing, Trace};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::observe::{exit_status::Reason, report::Report, words::counted};

/// The arguments of `minivmm replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The --report of a run with faults
    report: PathBuf,
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The report cannot be read.
    #[error("the report {} cannot be read: {source}; name the --report of a run with --faults", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The run had no faults.
    #[error("the report {} has no faults; name the --report of a run with --faults", .0.display())]
    NoFaults(PathBuf),
    /// The machine cannot be run.
    #[error("the machine cannot be run again: {0}; its messages are above")]
    Run(io::Error),
    /// The result cannot be printed.
    #[error("the result cannot be printed: {0}")]
    Print(io::Error),
}

impl ReplayError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Read { .. } | Self::NoFaults(_) => Reason::BadRequest,
            Self::Run(_) | Self::Print(_) => Reason::Failed,
        }
    }
}

/// Runs the machine again, and says whether the same rules fired at the same events.
///
/// # Errors
/// If the report cannot be read, or the machine leaves none.
pub fn main(args: &ReplayArgs) -> Result<ExitCode, ReplayError> {
    let read = |path: &Path| -> io::Result<Report> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let report =
        read(&args.report).map_err(|source| ReplayError::Read { path: args.report.clone(), source })?;
    let Some(before) = &report.faults else { return Err(ReplayError::NoFaults(args.report.clone())) };
    let again = || -> io::Result<Report> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plan.toml"), &before.plan)?;
        let mut minivmm = Command::new(env::current_exe()?);
        minivmm.args(machine(&report.arguments)).arg("--faults").arg(path("plan.toml"));
        minivmm.arg("--seed").arg(before.seed.to_string()).arg("--report").arg(path("report.json"));
        if report.arguments.iter().any(|word| word.starts_with("--exec")) {
            // The files of the second run are dropped.
            minivmm.arg("--out").arg(path("out"));
        }
        let prepare = || set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from);
        // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
        unsafe { minivmm.pre_exec(prepare) };
        minivmm.status()?;
        read(&path("report.json"))
    };
    let after = again().map_err(ReplayError::Run)?.faults;
    let (said, status) = match difference(before, after.as_ref()) {
        None => {
            let firings = counted(before.firings.len() as u64, "fault");
            (format!("the same {firings} with seed {}", before.seed), ExitCode::SUCCESS)
        }
        Some(difference) => (difference, ExitCode::FAILURE),
    };
    writeln!(io::stdout(), "{said}").map_err(ReplayError::Print)?;
    Ok(status)
}

/// The words of a command line without the options that a replay sets itself, and without the files of recordings.
fn machine(arguments: &[String]) -> Vec<String> {
    const OWN: [&str; 12] = [
        "--faults",
        "--trace",
        "--timeline",
        "--seed",
        "--report",
        "--out",
        "--console-log",
        "--api-socket",
        "--metrics",
        "--gdb",
        "--dump-dtb",
        "--dump-on-panic",
    ];
    let mut words = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(word) = arguments.next() {
        if OWN.contains(&word.as_str()) {
            arguments.next();
        } else if word == "--camera" || word == "--device" {
            words.push(word.clone());
            words.extend(arguments.next().map(|device| without_recording(device)));
        } else if word.starts_with("--camera=") || word.starts_with("--device=") {
            words.push(without_recording(word));
        } else if !OWN.iter().any(|own| word.strip_prefix(own).is_some_and(|rest| rest.starts_with('='))) {
            words.push(word.clone());
        }
    }
    words
}

/// The options of a device without `record=`: a recording of the first run stays as it is.
fn without_recording(device: &str) -> String {
    let kept: Vec<&str> = device.split(',').filter(|option| !option.starts_with("record=")).collect();
    kept.join(",")
}

/// The first difference between two traces, in a sentence.
fn difference(before: &Trace, after: Option<&Trace>) -> Option<String> {
    let none = Vec::new();
    let after = after.map_or(&none, |trace| &trace.firings);
    let before = &before.firings;
    let shown = |firing: Option<&Firing>| {
        firing.and_then(|firing| serde_json::to_string(firing).ok()).unwrap_or_else(|| "nothing".to_owned())
    };
    let length = before.len().max(after.len());
    let index = (0..length).find(|&index| before.get(index) != after.get(index))?;
    Some(format!(
        "fault {} of {} differs: it was {}, and now is {}",
        index + 1,
        before.len(),
        shown(before.get(index)),
        shown(after.get(index))
    ))
}

#[cfg(test)]
mod tests {
    use devices::faults::{Event, FaultHandle, Faults, Plan, fault_point};

    use super::*;
    use crate::boot::tree_faults::fault_tables;

    #[test]
    fn options_of_a_replay_are_its_own() {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let arguments = words(
            "run --cma 16M --faults p --seed=3 --report r --add a:/b --module c.ko --exec true --out o --numa 2",
        );
        assert_eq!(machine(&arguments), words("run --cma 16M --add a:/b --module c.ko --exec true --numa 2"));
    }

    #[test]
    fn recordings_of_the_first_run_are_kept() {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        let arguments = words(
            "--camera timing=stall,record=a.y4m --device=camera,record=%d.png,sensor=yes --camera record=b.y4m",
        );
        let left = machine(&arguments);
        assert_eq!(left, ["--camera", "timing=stall", "--device=camera,sensor=yes", "--camera", ""]);
    }

    #[test]
    fn the_first_difference_is_told() {
        fault_point! {
            /// A frame.
            enum FrameDma = "frame.dma" [frame] {
                /// It goes astray.
                Previous = "previous",
            }
        }
        let trace = |frames: &[u32]| {
            let plan = "[[rule]]\nname = \"r\"\non = \"frame.dma\"\naction = \"previous\"\n";
            let faults = Faults::new(Plan::read(plan, &fault_tables()).unwrap(), 1);
            let handle = FaultHandle::new(faults.clone(), "grabber0");
            for &frame in frames {
                assert!(handle.consult::<FrameDma>(Event::of_frame(frame)).is_some());
            }
            faults.trace()
        };
        assert_eq!(difference(&trace(&[1, 2]), Some(&trace(&[1, 2]))), None);
        let told = difference(&trace(&[1, 2]), Some(&trace(&[1, 3]))).unwrap();
        assert!(told.starts_with("fault 2 of 2 differs: it was {") && told.contains("\"frame\":3"), "{told}");
        assert!(difference(&trace(&[1]), None).unwrap().ends_with("and now is nothing"));
    }
}
