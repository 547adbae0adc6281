//! The command line: its commands, and the dispatch to them.

pub mod check;
pub mod collect;
pub mod ctl;
pub mod diagnose;
pub mod doctor;
mod duration;
mod environment;
mod error;
pub mod image;
mod machine_args;
pub mod model;
mod output;
pub mod pages;
pub mod replay;
pub mod reproduce;
mod run;
mod top;
mod usage;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use cma::check::Tree;
use tracing::Level;

use crate::{
    boot::load::load_with,
    experiment::{self, ExperimentArgs},
    observe::{exit_status, log::Format},
};
use check::{CheckArgs, CheckError};
use collect::CollectArgs;
use ctl::CtlArgs;
use diagnose::DiagnoseArgs;
use doctor::DoctorArgs;
use error::CliError;
use image::ImageArgs;
use machine_args::{GuestArgs, MachineArgs, config, device_help};
use model::ModelArgs;
use output::{print, write};
use replay::ReplayArgs;
use reproduce::ReproduceArgs;
use run::{RunArgs, run};
use top::TopArgs;

/// Boots a Linux guest with CMA windows and DMA devices, such as a camera that writes frames into a window.
#[derive(Debug, Parser)]
#[command(
    name = "minivmm",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "`minivmm --help` has all options, examples and the exit statuses.",
    after_long_help = long_help()
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// The end of `--help`.
fn long_help() -> String {
    format!(
        "\
Examples:
  minivmm --cma 256M                                   a shell in a guest with a 256 MiB window and /dev/video0
  minivmm --cma 256M --exec 'cat /proc/meminfo'        one command's output, and its exit status
  minivmm --cma 64M --cma size=32M,name=isp --camera window=isp,timing=stall
  minivmm dtb --cma 256M                               the device tree that this guest would get
  minivmm check board.dtb                              how Linux handles a board's reserved memory, and why
  minivmm --cma 256M --exec 'wc -c' --timeout 1m < f   a command with input, and a time limit
  minivmm --cma 256M --api-socket vm.sock              a guest that `minivmm ctl vm.sock status` asks for its state
  minivmm model fill.cma                               a model of the kernel's allocator, without a guest
  minivmm experiment run torn.toml                     fault injection, and a verdict on the guest's driver
  minivmm image build                                  the guest image, which is built once

Keys: Ctrl-A x stops the machine, Ctrl-A h lists the keys.

{}",
        exit_status::table()
    )
}

impl Cli {
    /// The machine options, where the command takes some.
    fn machine(&self) -> Option<&MachineArgs> {
        match &self.command {
            None => Some(&self.run.machine),
            Some(Command::Run(run)) => Some(&run.machine),
            Some(Command::Dtb { machine, .. } | Command::Check { machine, .. }) => Some(machine),
            Some(_) => None,
        }
    }

    /// The form of messages on stderr.
    fn log_format(&self) -> Format {
        match &self.command {
            None => self.run.log_format,
            Some(Command::Run(run)) => run.log_format,
            Some(_) => Format::default(),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a guest (the default command)
    #[command(after_long_help = exit_status::table())]
    Run(Box<RunArgs>),
    /// Print the device tree that a guest with these options gets
    Dtb {
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        guest: GuestArgs,
        /// Write the flattened tree (DTB) to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check the reserved-memory nodes of a device tree: how Linux handles each, and why
    ///
    /// The tree is a file's, or the one that a guest with the machine options gets.
    #[command(after_long_help = check::HELP)]
    Check {
        #[command(flatten)]
        check: CheckArgs,
        #[command(flatten, next_help_heading = "The machine, instead of FILE")]
        machine: MachineArgs,
    },
    /// Run an allocation script on a model of the kernel's CMA allocator
    Model(ModelArgs),
    /// Send a request to a running machine, through its --api-socket
    Ctl(CtlArgs),
    /// Watch a running machine in the terminal: its CMA windows, devices and faults
    #[command(after_long_help = top::HELP)]
    Top(TopArgs),
    /// Run the machine of a report again with the same faults, and compare which fired
    Replay(ReplayArgs),
    /// Test a guest's driver by fault injection, and judge the results
    Experiment(ExperimentArgs),
    /// Examine whether this host can run Linux guests, and say what to do if not
    #[command(
        after_help = "Exit status: 0 if Linux guests boot here, on this host's KVM or in the lab, otherwise 1."
    )]
    Doctor(DoctorArgs),
    /// Build, list and remove guest images, and build kernel modules for them
    Image(ImageArgs),
    /// Gather what describes the reserved memory of this machine, or of a board, as a tar archive
    Collect(CollectArgs),
    /// Say why requests for contiguous memory failed on a board, from such an archive or a kernel log
    Diagnose(DiagnoseArgs),
    /// Make a board's failed request for contiguous memory fail again, in a guest
    Reproduce(ReproduceArgs),
    /// Write the manual pages of minivmm and of its commands into a folder
    ///
    /// `minivmm man ~/.local/share/man/man1`, then `man minivmm`.
    Man {
        /// The folder, which is created if necessary
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the completions for a shell
    ///
    /// `minivmm completions bash > ~/.local/share/bash-completion/completions/minivmm`
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut format = asked_format(env::args_os().skip(1));
    let result = match Cli::try_parse() {
        Ok(cli) => {
            format = cli.log_format();
            command(cli)
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Err(CliError::Usage(usage::sentence(&error))),
        },
    };
    result.unwrap_or_else(|error| {
        // A closed stderr is no reason to panic.
        let _ = io::stderr().write_all(format.line(Level::ERROR, &error.to_string()).as_bytes());
        ExitCode::from(error.reason().status(asks_for_a_command(env::args_os().skip(1))))
    })
}

/// The form of messages that these words ask for (`--log-format`), where they are no valid command line.
fn asked_format(words: impl Iterator<Item = OsString>) -> Format {
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let is_json = words.iter().any(|word| word == "--log-format=json")
        || words.windows(2).any(|pair| pair == ["--log-format", "json"]);
    if is_json { Format::Json } else { Format::Text }
}

/// Whether these words ask for a guest that runs one command (`--exec`).
fn asks_for_a_command(words: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let is_other =
        words.first().is_some_and(|first| first != "run" && Cli::command().find_subcommand(first).is_some());
    !is_other && words.iter().any(|word| word == "--exec" || word.starts_with("--exec="))
}

/// Runs a command.
fn command(cli: Cli) -> Result<ExitCode, CliError> {
    if let Some(help) = cli.machine().and_then(|machine| device_help(&machine.device)) {
        return Ok(print(&help));
    }
    match cli.command {
        None => run(cli.run),
        Some(Command::Run(args)) => run(*args),
        Some(Command::Dtb { machine, guest, out }) => dtb(machine, guest, out.as_deref()),
        Some(Command::Check { check, machine }) => self::check(&check, machine),
        Some(Command::Model(args)) => model::main(&args).map_err(CliError::Model),
        Some(Command::Ctl(args)) => ctl::main(&args).map_err(CliError::Ctl),
        Some(Command::Top(args)) => top::main(&args).map(|text| print(&text)).map_err(CliError::Top),
        Some(Command::Replay(args)) => replay::main(&args).map_err(CliError::Replay),
        Some(Command::Experiment(args)) => experiment::main(args, machine_of).map_err(CliError::Experiment),
        Some(Command::Doctor(args)) => doctor(&args),
        Some(Command::Image(args)) => image::main(&args).map(|text| print(&text)).map_err(CliError::Builder),
        Some(Command::Collect(args)) => collect(&args),
        Some(Command::Reproduce(args)) => reproduce::main(&args).map_err(CliError::Reproduce),
        Some(Command::Diagnose(args)) => diagnose::main(&args).map_err(CliError::Diagnose),
        Some(Command::Man { folder }) => pages::write_manual(Cli::command(), &folder)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|source| CliError::Write { path: folder, source }),
        Some(Command::Completions { shell }) => Ok(print(&pages::completions(Cli::command(), shell))),
    }
}

fn doctor(args: &DoctorArgs) -> Result<ExitCode, CliError> {
    if let Some(purpose) = args.packages {
        return Ok(print(&doctor::packages(purpose)));
    }
    let (report, boots) = match &args.kernel {
        Some(kernel) => doctor::examine_kernel(kernel).map_err(CliError::Usage)?,
        None => doctor::examine(),
    };
    print(&report);
    Ok(if boots { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn collect(args: &CollectArgs) -> Result<ExitCode, CliError> {
    if args.print {
        return Ok(print(collect::SCRIPT));
    }
    let status = collect::run().map_err(CliError::Shell)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn dtb(machine: MachineArgs, guest: GuestArgs, out: Option<&Path>) -> Result<ExitCode, CliError> {
    let (tree, _) = tree(machine, guest)?;
    match out {
        Some(path) => write(path, &tree)?,
        None => print_source(&tree)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(check: &CheckArgs, machine: MachineArgs) -> Result<ExitCode, CliError> {
    let done = if let Some(file) = &check.file {
        check::file(file, machine.pageblock, &machine.cmdline, check)
    } else {
        let image = machine.kernel.is_none().then(|| machine.image.clone());
        let (tree, pageblock) = tree(machine, GuestArgs::default())?;
        check::guest(&tree, pageblock, image.as_deref(), check)
    };
    done.map_err(CliError::Check)
}

/// The generated tree, and the pageblock for which it is made.
fn tree(machine: MachineArgs, guest: GuestArgs) -> Result<(Vec<u8>, u64), CliError> {
    // The tree can be printed before an image is built: only the places of windows depend on it.
    let kernel = machine.kernel.clone();
    let (config, image) = config(machine, guest)?;
    let kernel = kernel.or_else(|| image.is_ok().then(|| config.kernel.clone()));
    let tree = load_with(&config, kernel.as_deref()).map_err(CliError::Request)?.tree;
    Ok((tree, config.pageblock))
}

/// Prints a tree of ours as source.
fn print_source(tree: &[u8]) -> Result<(), CliError> {
    let tree = Tree::read(tree)
        .map_err(|source| CliError::Check(CheckError::Tree { path: "of these options".into(), source }))?;
    print(&tree.to_source());
    Ok(())
}

/// The machine of an experiment, which has these options and those that the experiment adds.
///
/// # Errors
/// A sentence, if these are not options of `minivmm run`, or if the experiment sets one of them.
fn machine_of(words: &[String]) -> Result<experiment::Machine, String> {
    let cli = Cli::try_parse_from(["minivmm", "run"].into_iter().chain(words.iter().map(String::as_str)));
    let run = match cli {
        Ok(Cli { command: Some(Command::Run(run)), .. }) => *run,
        Ok(_) => return Err("they are not options of minivmm run".to_owned()),
        Err(error) => return Err(usage::sentence(&error)),
    };
    let RunArgs { machine, guest, out, report, trace, console_log, .. } = &run;
    let own = out.is_some() || report.is_some() || trace.is_some() || console_log.is_some();
    if own || guest.exec.is_some() || machine.seed.is_some() || machine.faults.is_some() {
        return Err("--exec, --seed, --faults, --trace, --out, --report and --console-log are set by the experiment; omit them"
            .to_owned());
    }
    // The run's own minivmm refuses an image that was not built, and names it.
    let (config, _) = config(run.machine, run.guest).map_err(|error| error.to_string())?;
    let added = config.added.into_iter().map(|added| added.host).chain(config.modules);
    let files = [config.kernel].into_iter().chain(config.initrd).chain(added).collect();
    Ok(experiment::Machine { memory: config.memory, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_tree_in_a_file_has_no_machine_options() {
        let mut command = Cli::command();
        command.build();
        let arguments = |name| command.find_subcommand(name).unwrap().get_arguments();
        let machine: Vec<_> = arguments("dtb").map(clap::Arg::get_id).collect();
        let file = arguments("check").find(|argument| argument.get_id() == "file").unwrap();
        let conflicts = command.find_subcommand("check").unwrap().get_arg_conflicts_with(file);
        for argument in arguments("check").map(clap::Arg::get_id).filter(|id| machine.contains(id)) {
            let conflict = conflicts.iter().any(|other| other.get_id() == argument);
            assert_eq!(
                conflict,
                !["pageblock", "cmdline", "help"].contains(&argument.as_str()),
                "{argument}"
            );
        }
    }

    #[test]
    fn statuses_for_exec_are_those_of_a_guest_that_is_run() {
        let asks = |text: &str| asks_for_a_command(text.split(' ').map(OsString::from));
        assert!(asks("--cma 16M --exec true") && asks("run --exec=true") && asks("--bad --exec true"));
        assert!(!asks("--cma 16M") && !asks("dtb --exec true"));
    }

    #[test]
    fn the_lab_knows_each_option_that_names_a_file() {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        let experiment = command.find_subcommand("experiment").unwrap().find_subcommand("run").unwrap();
        for argument in run.get_arguments().chain(experiment.get_arguments()) {
            let values = argument.get_value_names().unwrap_or_default();
            let names_a_file =
                values.iter().any(|value| ["FILE", "FILE.ko", "DIR", "HOST:GUEST"].contains(&value.as_str()));
            if let Some(option) = argument.get_long().filter(|_| names_a_file) {
                let option = format!("--{option}");
                assert_ne!(crate::lab::is_written(&option), crate::lab::is_read(&option), "{option}");
            }
        }
    }

    #[test]
    fn a_run_depends_on_the_files_that_its_machine_adds() {
        let words = ["--add", "tests:/opt", "--module", "my-driver/x.ko"].map(str::to_owned);
        let files = machine_of(&words).unwrap().files;
        assert!(files.ends_with(&["tests".into(), "my-driver/x.ko".into()]), "{files:?}");
    }

    #[test]
    fn run_is_the_default_command() {
        let cli = Cli::parse_from(["minivmm", "--cma", "256M", "--cpus", "2"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.run.machine.cma, ["256M".parse().unwrap()]);
        assert!(matches!(
            Cli::parse_from(["minivmm", "run", "--cma", "1G"]).command,
            Some(Command::Run(args)) if args.machine.cma[0].size == 1 << 30
        ));
        assert!(Cli::try_parse_from(["minivmm", "--cma", "0"]).is_err());
        assert!(Cli::try_parse_from(["minivmm", "--colour"]).is_err());
        assert!(Cli::try_parse_from(["minivmm", "--out", "x"]).is_err());
    }
}
