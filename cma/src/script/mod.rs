//! The language of the scripts of `minivmm model`: operations on a CMA area, one a line.
//!
//! [`Script::HELP`] lists the verbs. The whole script is checked, with its repeats unrolled, before it runs.
//!
//! An `alloc` is a call of cma_alloc. [`crate::dma`] models the DMA API around it: the choice of the window, the other source of
//! requests of a page or less by devices without a window, and the fallbacks after a failure.

mod parse;
mod run;
mod steps;
#[cfg(test)]
mod tests;

pub use parse::{DEFAULT_BASE, MAX_STEPS, Problem, ScriptError};
pub use run::{Event, EventKind, Repeated, Run};
pub use steps::Script;
