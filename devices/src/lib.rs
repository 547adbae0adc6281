//! Everything that the guest can access: the contract of a device, the devices, and their faults.
//!
//! This crate knows guest memory. It knows neither KVM nor the architecture: an interrupt is an eventfd that the machine
//! connects, and an address range is where the machine placed a device.

// They panic if the stream is closed.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]
// Such a thread is not confined.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod bus;
pub mod camera;
pub mod dma;
pub mod exit;
pub mod faults;
pub mod helper;
pub mod i2c;
pub mod irq;
pub mod lcdif;
pub mod machine_events;
pub mod msgdma;
pub mod platform;
pub mod pvpanic;
pub mod register_table;
pub mod rkisp1;
pub mod sensors;
pub mod serial;
pub mod socket;
pub mod vepu;
pub mod virtio;

/// Imaging without registers. It is a separate crate, so that an edit of a device does not compile its kernels again.
pub use media;

/// The devices that `--device NAME` adds to a machine, each by one line.
pub static REGISTRY: &[&platform::Registration] = &[
    &camera::REGISTRATION,
    &msgdma::REGISTRATION,
    &rkisp1::REGISTRATION,
    &lcdif::REGISTRATION,
    &vepu::REGISTRATION,
    &virtio::block::REGISTRATION,
    &virtio::vhost_user::share::REGISTRATION,
    &virtio::vhost_user::REGISTRATION,
    &virtio::net::REGISTRATION,
    &virtio::vsock::REGISTRATION,
    &virtio::balloon::REGISTRATION,
];

/// What can go wrong with the devices, for the parser of plans of faults.
pub fn fault_tables() -> Vec<&'static faults::Table> {
    REGISTRY.iter().map(|registration| registration.faults).chain([&virtio::FAULTS]).collect()
}
