//! `minivmm reproduce`: makes a board's failed request fail again in a guest, whose window has the board's pages in use.

mod error;
mod plan;
mod steps;

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Output, Stdio},
};

use clap::{Args, ValueEnum as _};
use cma::board::{
    Board, Case, Cause, Diagnosis, Question,
    log::{Failure, Log},
};
use serde::Serialize;

use super::diagnose;
use crate::lab::{self, Host};
pub use error::ReproduceError;
use plan::Plan;

/// The program that runs in the guest.
const HOLD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hold"));
/// Where its files are in the guest.
const FOLDER: &str = "/reproduce";
/// The time that a guest has.
const LIMIT: &str = "5m";
/// The line before the guest's kernel log.
const LOG: &str = "== kernel log ==";

/// The arguments of `minivmm reproduce`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ReproduceArgs {
    /// An archive of `minivmm collect`, a folder with its files, or a kernel log; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The failed request for this number of pages [default: the first one that can be reproduced]
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(u64).range(1..))]
    request: Option<u64>,
    /// Guest image [default: the built one whose kernel is nearest to the board's]
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say what the guest would be, without booting it
    #[arg(long)]
    print: bool,
    #[arg(long, value_name = "WHERE", value_enum, default_value_t, hide_possible_values = true, help = lab::HELP)]
    host: Host,
}

/// Examples and exit status, for the end of the help.
const HELP: &str = "\
Examples:
  minivmm reproduce board.tar                     the board's first failure, in the guest
  minivmm reproduce board.tar --request 1519      the failure of a request for 1519 pages
  minivmm reproduce board.tar --print             the guest's options, and what cannot be the same

The guest's window has the same pages in use as the board's, held by buffers of a dma-buf heap. Where pages were busy, pages in
pipes take their place. The guest then makes the same request.
Exit status: 0 if the guest's kernel gives the board's answer; 1 if not; 2 for a bad request.";

/// What the guest did.
#[derive(Debug, Serialize)]
struct Reproduction {
    version: u32,
    /// The board's failure in words.
    board: String,
    #[serde(flatten)]
    plan: Plan,
    /// The guest's answer: the last failure in its log; null without a run, or if it did not fail.
    failure: Option<Failure>,
    /// Whether it is the board's answer to a request for as many pages.
    same: bool,
    /// The last lines of the guest.
    lines: Vec<String>,
}

/// Reproduces a failure of the board. The status is 1 if the guest's kernel gives another answer.
///
/// # Errors
/// If the board cannot be read, if its failure cannot be reproduced, or if the guest does not run.
pub fn main(args: &ReproduceArgs) -> Result<ExitCode, ReproduceError> {
    let board = diagnose::board(&args.file)?;
    let (case, plan) = choose(&board, args)?;
    let board = format!(
        "a request for {} pages in {} failed with {}: {}",
        case.pages, case.window, case.errno, case.sentence
    );
    let mut reproduction =
        Reproduction { version: 1, board, plan, failure: None, same: false, lines: Vec::new() };
    if args.print {
        print(&reproduction, args);
        return Ok(ExitCode::SUCCESS);
    }
    let output = boot(&reproduction.plan, args.host)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((before, log)) = said.split_once(LOG).filter(|_| output.status.success()) else {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = |text: &str| text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
        return Err(ReproduceError::Guest {
            status: output.status.code().unwrap_or(-1),
            said: last(&said).or_else(|| last(&errors)).unwrap_or_else(|| "it said nothing".to_owned()),
        });
    };
    reproduction.failure = Log::read(log).failures.pop();
    let plan = &reproduction.plan;
    reproduction.same = reproduction
        .failure
        .as_ref()
        .is_some_and(|failure| (failure.pages, failure.errno) == (plan.pages, plan.errno));
    reproduction.lines =
        before.lines().chain(log.lines()).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    print(&reproduction, args);
    Ok(if reproduction.same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The failure to reproduce, and its guest.
fn choose(board: &Board, args: &ReproduceArgs) -> Result<(Case, Plan), ReproduceError> {
    let failed = Diagnosis::of(board, &Question { pages: args.request, ..Question::default() });
    let mut cases: Vec<Case> = failed.cases.into_iter().filter(|case| case.errno != 0).collect();
    if let Some(pages) = args.request {
        cases.retain(|case| case.pages == pages);
    }
    // A request that could not be judged comes last.
    cases.sort_by_key(|case| case.cause == Cause::Unknown);
    let mut first = None;
    for case in cases {
        match Plan::new(board, &case, args.image.as_deref()) {
            Ok(plan) => return Ok((case, plan)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| ReproduceError::NoCase { path: args.file.clone(), pages: args.request }))
}

/// Boots the guest.
fn boot(plan: &Plan, host: Host) -> Result<Output, ReproduceError> {
    let failed = |what| move |source| ReproduceError::Host { what, source };
    let files = failed("the files for the guest cannot be written");
    let folder = tempfile::tempdir().map_err(files)?;
    let write = |name: &str, content: &[u8]| -> io::Result<()> {
        let path = folder.path().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
    };
    write("hold", HOLD).map_err(files)?;
    write("steps", plan.steps.as_bytes()).map_err(files)?;
    write("bitmap", plan.bitmap.as_bytes()).map_err(files)?;
    let program = env::current_exe().map_err(failed("minivmm is not found again"))?;
    let host = host.to_possible_value().map_or_else(|| "auto".to_owned(), |host| host.get_name().to_owned());
    Command::new(program)
        .arg("run")
        .args(["--image", &plan.image, "--host", &host, "--timeout", LIMIT, "--log", "error"])
        .args(&plan.machine)
        .args(["--add", &format!("{}:{FOLDER}", folder.path().display())])
        .args(["--exec", &script(plan)])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(failed("minivmm cannot be run"))
}

/// What the guest runs.
fn script(plan: &Plan) -> String {
    let others: String = plan
        .others
        .iter()
        .filter(|(_, used)| *used > 0)
        .map(|(name, used)| format!("echo {used} > $(echo /sys/kernel/debug/cma/{name}*)/alloc\n"))
        .collect();
    // Linux 7.2 also gives the heap of the default window a fixed name (drivers/dma-buf/heaps/cma_heap.c).
    format!(
        "{others}window=$(echo /sys/kernel/debug/cma/{}*)
        heap=/dev/dma_heap/${{window##*/}}
        [ -e $heap ] || heap=/dev/dma_heap/default_cma_region
        {FOLDER}/hold $window $heap {FOLDER}/steps || exit 9
        echo '{LOG}'
        dmesg | tail -n 60 | grep -v -e 'cma_alloc(' -e 'cma_release(' | grep -e cma -e '@' -e 'total pages'",
        plan.window
    )
}

fn print(reproduction: &Reproduction, args: &ReproduceArgs) {
    let text = if args.json {
        serde_json::to_string_pretty(reproduction).unwrap_or_default() + "\n"
    } else {
        text(reproduction, args.print)
    };
    // A reader may close the pipe early.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn text(reproduction: &Reproduction, only_planned: bool) -> String {
    let plan = &reproduction.plan;
    let mut text = format!("On the board {}\n\nNot the same in the guest:\n", reproduction.board);
    plan.differences.iter().for_each(|difference| text += &format!("- {difference}\n"));
    text += &format!("\nminivmm run --image {} {}\n", plan.image, plan.machine.join(" "));
    if only_planned {
        return text;
    }
    text.push('\n');
    reproduction.lines.iter().for_each(|line| text += &format!("  {line}\n"));
    text += &match &reproduction.failure {
        Some(failure) if reproduction.same => {
            format!(
                "\nThe guest's kernel gives the board's answer: req-size: {} pages, ret: {}\n",
                failure.pages, failure.errno
            )
        }
        Some(failure) => format!(
            "\nThe guest's kernel gives another answer: req-size: {} pages, ret: {}; the board's is {}\n",
            failure.pages, failure.errno, plan.errno
        ),
        None => "\nThe guest's kernel granted the request, or refused it without a message\n".to_owned(),
    };
    text
}
