//! `minivmm collect`: gathers what describes a machine's reserved memory, by a shell script that runs on any board.

use std::{
    io,
    process::{Command, ExitStatus},
};

use clap::Args;

/// The script.
pub const SCRIPT: &str = include_str!("collect.sh");

/// The arguments of `minivmm collect`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CollectArgs {
    /// Print the script instead of running it, for a board without minivmm
    #[arg(long)]
    pub print: bool,
}

/// Examples, for the end of the help.
const HELP: &str = "\
Examples:
  minivmm collect > board.tar                                 this machine
  minivmm collect --print | ssh root@board sh > board.tar     a board, which needs a shell and tar
  tar -xf board.tar
  minivmm check board/board.dtb                               how Linux handles its reserved memory
  minivmm model --import board/cma/linux,cma --request 1519   why a request fails there

The archive has the device tree, the windows in debugfs, the kernel's messages about CMA, and from /proc:
buddyinfo, cmdline, iomem, meminfo, pagetypeinfo and version.";

/// Runs the script on this machine. The archive is its standard output.
///
/// # Errors
/// If there is no shell.
pub fn run() -> io::Result<ExitStatus> {
    Command::new("sh").args(["-c", SCRIPT]).status()
}
