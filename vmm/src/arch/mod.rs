//! The differences between architectures. Every architecture's module offers the same items, and no code outside this folder
//! asks for the architecture.

mod create;
mod exit;
mod fitness;
pub mod stops;
pub mod tables;

pub use create::create_vm;
pub use exit::VcpuEnd;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
