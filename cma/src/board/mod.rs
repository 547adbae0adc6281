//! A board from afar: what its kernel log and copies of its files say about its CMA windows and the requests that failed there.
//!
//! [`Board`] gathers the facts, [`Diagnosis`] judges them. `minivmm diagnose` prints a diagnosis, as text, JSON or a page.

mod case;
mod cases;
mod cause;
mod diagnosis;
mod error;
mod facts;
mod files;
mod html;
mod kernel;
mod live_tree;
pub mod log;
mod remedies;
mod text;
mod windows;

pub use case::{Case, Moment, Question};
pub use cause::Cause;
pub use diagnosis::{Diagnosis, WindowState};
pub use error::BoardError;
pub use facts::Board;
pub use files::Files;
pub use remedies::{Effort, Remedy};
pub use windows::KnownWindow;
