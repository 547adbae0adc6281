//! The lab: a machine with a KVM that has no quirks, emulated, in which a command of the host's runs.
//!
//! The lab's root is the host's, read-only over 9p with an overlay in memory above: every program and file is there,
//! and what the command writes is gone afterwards, except in the folders named by [`Lab::writable`]. The command
//! has our environment (see [`IN_LAB`]), our working directory and the user id 0. There is no network but the loopback.

mod error;
mod flow;
mod host_cpu;
mod image;
pub(crate) mod inside;
mod place;
mod qemu;
mod reach;
mod recipe;
mod relay;
mod run;
mod script;
mod session;
mod settings;
mod state;
mod terminal;

use guest_images::Arch;

pub use error::LabError;
pub use inside::{IN_LAB, is_inside};
pub use place::{HELP, Host, HostError, Place, place, run_in_lab};
pub use reach::{is_read, is_written};
pub use relay::{API, Bridge, GDB, METRICS};
pub use settings::{Lab, Note, Output};

/// The Debian packages that a lab for `arch` needs on this machine.
pub fn packages(arch: &Arch) -> &'static [&'static str] {
    recipe::Recipe::of(arch).packages
}
