//! The tests of minivmm: tests that boot Linux, the demo, the benchmarks.

pub mod bare_metal;
pub mod colours;
pub mod compliance;
pub mod core_dump;
pub mod cross;
pub mod data;
pub mod demo;
pub mod differential;
pub mod exposition;
pub mod guest;
pub mod harness;
pub mod host;
pub mod imports;
pub mod injection;
pub mod kernels;
pub mod libcamera;
pub mod programs;
pub mod pty;
pub mod python;
pub mod qcow2;
pub mod reserved;
pub mod scenario;
pub mod schema;
pub mod soak;
pub mod steps;
pub mod supervision;

pub use vmm::lab;
