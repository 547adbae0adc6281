//! `minivmm check`: how Linux handles each reserved-memory node of a device tree, and why.
//!
//! The rules are transcribed from the kernel, version by version: each finding names its source file and function.

mod activate;
mod allocated;
mod cmdline;
pub mod config;
mod cycles;
mod default_window;
mod dma;
mod early;
mod finding;
mod kernel;
mod mapping;
mod memblock;
mod misplaced;
mod names;
mod order;
mod overlap;
mod place;
mod print;
mod ram;
mod ranges;
mod references;
mod regions;
mod report;
mod set_up;
mod source;
#[cfg(test)]
mod tests;
mod tree;

pub use crate::area::{Rules, RulesError};
pub use finding::{Finding, Level};
pub use kernel::{Arch, ArchError, Boot, Kernel, KernelError, Options, SizeSelection};
pub use report::{DefaultWindow, Memory, NodeOutcome, Origin, Reference, Region, Report, User};
pub use tree::{Tree, TreeError};

/// Applies the rules of `kernel` to a tree, with what the boot adds to it.
pub fn check(tree: &Tree<'_>, kernel: &Kernel, boot: &Boot) -> Report {
    let mut findings = Vec::new();
    let regions::Outcome { mut regions, window, panics, may_panic, memory } =
        regions::check(tree, kernel, boot, &mut findings);
    regions.iter_mut().for_each(|region| misplaced::look_at_region(tree, region));
    let users = references::check(tree, kernel, &regions);
    let regions = regions.into_iter().map(|region| region.region).collect();
    Report {
        rules: format!("Linux {}", kernel.rules),
        kernel: kernel.clone(),
        boot: boot.clone(),
        assumed: kernel::assumed(kernel, boot),
        findings,
        regions,
        default_window: window,
        panics,
        may_panic,
        memory,
        users,
    }
}
