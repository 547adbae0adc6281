//! Whether this process runs in a lab.

use std::env;

/// Set in the lab's environment: there is no lab in a lab, and nothing is built there. Its value has the names of the sockets that the host
/// has for a machine in the lab, each after a comma.
pub const IN_LAB: &str = "MINIVMM_IN_LAB";

/// Whether this process runs in a lab.
pub fn is_inside() -> bool {
    env::var_os(IN_LAB).is_some()
}

/// Whether this process runs in a lab whose host has the socket `name` for a machine in it.
pub(super) fn has_socket(name: &str) -> bool {
    env::var(IN_LAB).is_ok_and(|value| value.split(',').any(|of| of == name))
}
