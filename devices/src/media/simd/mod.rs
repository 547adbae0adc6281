//! Kernels for several instruction sets: which sets a machine has, and the vectors that kernels compute with.

mod level;
pub(in crate::media) mod vector;

pub use level::Level;
pub(in crate::media) use level::{Kind, kernel};
pub(in crate::media) use vector::{LANES, Vector};
