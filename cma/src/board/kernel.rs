//! The kernel and the boot of a board, for the check of its device tree.

use super::facts::Board;
use crate::check::{
    Arch, Boot, Kernel, Report, Tree, TreeError, check,
    config::{Config, Given},
};

/// The kernel that the files describe. What they do not say is as in Debian's kernel of that version and architecture.
pub(super) fn kernel(board: &Board, assumed: &mut Vec<String>) -> Option<Kernel> {
    // Without a tree nothing depends on them but the pageblock.
    let mut assume = |what: String| assumed.extend(board.tree.as_ref().map(|_| what));
    let arch = board.machine.as_deref().and_then(|machine| machine.parse().ok()).unwrap_or_else(|| {
        assume("the architecture arm64".to_owned());
        Arch::Arm64
    });
    let debian = Kernel::debian(board.rules, arch, board.page_size).ok()?;
    let Some(config) = &board.config else {
        assume(format!("the configuration of Debian's kernel {}", board.rules));
        return Some(debian);
    };
    // The release says more than the header of the configuration, which can be missing.
    let header =
        board.release.iter().map(|release| format!("# Linux/board {release} Kernel Configuration\n"));
    let config = header.collect::<String>() + config;
    let given = Given { rules: Some(board.rules), arch: Some(arch), page_size: Some(board.page_size) };
    Config::read(&config).kernel(given).ok().or(Some(debian))
}

/// What Linux makes of the board's device tree. None without a tree.
///
/// # Errors
/// If it is malformed.
pub(super) fn report(board: &Board, kernel: &Kernel) -> Result<Option<Report>, TreeError> {
    let Some(blob) = &board.tree else { return Ok(None) };
    let tree = Tree::read(blob)?;
    // The live tree has the memory nodes that the boot loader wrote. A board that boots by EFI has none.
    let ram =
        if tree.to_source().contains("device_type = \"memory\"") { Vec::new() } else { board.ram.clone() };
    let boot = Boot { ram, cmdline: board.cmdline.clone() };
    Ok(Some(check(&tree, kernel, &boot)))
}
