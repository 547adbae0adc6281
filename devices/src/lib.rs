//! What the guest can touch: bus, interrupt line, serial, virtio-mmio devices, the DMA port and the camera, and what goes wrong with them on purpose.
//!
//! This crate knows guest memory. It knows nothing of KVM, nor of the architecture: an interrupt is an eventfd
//! that somebody else connects, an address range is where somebody else placed a device.

pub mod bus;
pub mod camera;
pub mod dma;
pub mod exit;
pub mod faults;
pub mod irq;
pub mod machine_events;
pub mod media;
pub mod platform;
pub mod pvpanic;
pub mod register_table;
pub mod serial;
pub mod virtio;

/// What can go wrong with the devices, for the parser of plans of faults.
pub fn fault_tables() -> &'static [&'static faults::Table] {
    const TABLES: &[&faults::Table] = &[&camera::FAULTS, &virtio::FAULTS];
    TABLES
}
