//! `minivmm diagnose`: says what is wrong with a board's contiguous memory, from an archive of `minivmm collect` or a kernel log.

pub mod archive;

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use cma::board::{Board, BoardError, Diagnosis, Question};

use crate::observe::exit_status::Reason;
use archive::{ArchiveError, Limits};

/// The arguments of `minivmm diagnose`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DiagnoseArgs {
    /// An archive of `minivmm collect`, a folder with its files, or a kernel log; - for stdin
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Also say whether a request for this number of pages would pass
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(u64).range(1..))]
    request: Option<u64>,
    /// Alignment of the request, as an order of pages [default: that of the DMA API]
    #[arg(long, value_name = "ORDER", requires = "request", value_parser = clap::value_parser!(u32).range(..52))]
    align: Option<u32>,
    /// The window of the request [default: the first one in debugfs]
    #[arg(long, value_name = "NAME", requires = "request")]
    window: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also write the diagnosis into this file, as a page that can be attached to a report of a bug
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Examples and exit status, for the end of the help.
const HELP: &str = "\
Examples:
  minivmm diagnose board.tar                         an archive that `minivmm collect` made
  dmesg | minivmm diagnose -                         a log alone; prefixes of any kind do no harm
  minivmm diagnose board.tar --request 1519          whether 1519 pages could be allocated
  minivmm diagnose board.tar --html board.html       a page to attach to a report

Exit status: 0 if nothing is wrong; 1 if a request failed or the boot or the device tree has an error; 2 for a bad request.";

/// Why a board could not be diagnosed.
#[derive(Debug, thiserror::Error)]
pub enum DiagnoseError {
    /// The files cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// They do not describe one board.
    #[error("{}: {source}", path.display())]
    Board {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: BoardError,
    },
    /// The board has no such window.
    #[error("the board has no window {name} whose state is known{}", others(found))]
    Window {
        /// The name.
        name: String,
        /// Those that it has.
        found: Vec<String>,
    },
    /// The page cannot be written.
    #[error("the page {} cannot be written: {source}; choose a writable folder", path.display())]
    Html {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be written to.
    #[error("standard output cannot be written: {0}")]
    Print(#[from] io::Error),
}

fn others(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!("; it has {}", found.join(", ")) }
}

impl DiagnoseError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Print(_) => Reason::Failed,
            _ => Reason::BadRequest,
        }
    }
}

/// Reads the board in `path`. What an archive that is cut short does not have is among the missing.
///
/// # Errors
/// If the files cannot be read, or do not describe one board.
pub(super) fn board(path: &Path) -> Result<Board, DiagnoseError> {
    let contents = archive::read(path, Limits::USUAL)?;
    let mut board = Board::of_files(&contents.files)
        .map_err(|source| DiagnoseError::Board { path: path.to_owned(), source })?;
    board.missing.extend(contents.cut.map(|cut| format!("{cut}; what follows is not in it")));
    Ok(board)
}

/// Diagnoses the board and prints what is wrong. The status is 1 if something is.
///
/// # Errors
/// If the files cannot be read or do not describe one board, or if the output cannot be written.
pub fn main(args: &DiagnoseArgs) -> Result<ExitCode, DiagnoseError> {
    let board = board(&args.file)?;
    if let Some(name) = &args.window {
        let known = board.windows.iter().filter(|window| window.now.is_some());
        let found: Vec<_> = known.map(|window| window.name.clone()).collect();
        if !found.contains(name) {
            return Err(DiagnoseError::Window { name: name.clone(), found });
        }
    }
    let question = Question { pages: args.request, align: args.align, window: args.window.clone() };
    let diagnosis = Diagnosis::of(&board, &question);
    if let Some(path) = &args.html {
        fs::write(path, diagnosis.to_html())
            .map_err(|source| DiagnoseError::Html { path: path.clone(), source })?;
    }
    match print(&diagnosis, args.json, BufWriter::new(io::stdout().lock())) {
        // A reader may close the pipe early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if diagnosis.is_wrong() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(diagnosis: &Diagnosis, json: bool, mut out: impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut out, diagnosis)?;
        writeln!(out)?;
    } else {
        write!(out, "{diagnosis}")?;
    }
    out.flush()
}
