//! The files of a board, as its archive has them.

use std::collections::BTreeMap;

/// The files of a board, by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;
