//! A board from afar: what its kernel log and copies of its files say about its CMA windows and the requests that failed there.
//!
//! [`Board`] gathers the facts, [`Diagnosis`] judges them. `minivmm diagnose` prints a diagnosis, as text, JSON or a page.

mod cases;
mod diagnosis;
mod facts;
mod html;
mod kernel;
mod live_tree;
pub mod log;
mod remedies;
mod text;
mod windows;

use std::collections::BTreeMap;

pub use diagnosis::{Case, Cause, Diagnosis, Moment, Question, WindowState};
pub use facts::{Board, BoardError};
pub use remedies::{Effort, Remedy};
pub use windows::KnownWindow;

/// The files of a board, by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;
