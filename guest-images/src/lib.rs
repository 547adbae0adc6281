//! Guest images: their parts, their cache, and their builder.

// They panic if the stream is closed.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

mod arch;
mod builder;
mod built;
pub mod cache;
mod command;
pub mod cpio;
pub mod debian;
mod driver;
mod error;
pub mod fragment;
mod image;
mod initramfs;
mod kernel;
pub mod module;
mod progress;
mod recipe;
mod release;
mod sources;
mod stock;
mod trees;
pub mod userland;
mod versions;

pub use arch::Arch;
pub use builder::{build, clean, update};
pub use built::{Image, current, list, remove};
pub use error::Error;
pub use image::Kind;
pub use release::Release;
pub use stock::{Stock, stock};
pub use trees::device_trees;

/// The Debian packages that building images for `arch` needs on this machine.
pub fn packages(arch: &Arch) -> Vec<&'static str> {
    arch.packages()
}
