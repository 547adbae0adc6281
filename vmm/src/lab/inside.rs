//! Whether this process runs in a lab.

use std::env;

/// Set in the lab's environment: there is no lab in a lab, and nothing is built there.
pub const IN_LAB: &str = "MINIVMM_IN_LAB";

/// Whether this process runs in a lab.
pub fn is_inside() -> bool {
    env::var_os(IN_LAB).is_some()
}
