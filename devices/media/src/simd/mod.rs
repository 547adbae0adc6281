//! Kernels for several instruction sets: which sets a machine has, and the vectors that kernels compute with.

mod level;
pub(crate) mod vector;

pub use level::Level;
pub(crate) use level::{Kind, kernel};
pub(crate) use vector::{LANES, Vector};
