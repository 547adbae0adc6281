//! What makes a machine of the devices: configuration, memory layout, tree, boot, vCPUs and the event loop.
//!
//! The way of a machine: [`config::Config`] says what is asked for; [`load::load`] makes guest memory of it that is
//! ready to run; [`machine::Machine`] adds KVM, the devices of the [`platform`]'s list and the vCPUs, and runs
//! until something ends it; [`report::Report`] says how that went.

pub mod api;
pub mod arch;
pub mod check;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod doctor;
pub mod experiment;
pub mod fdt;
pub mod frames;
pub mod guest_agent;
pub mod guest_areas;
pub mod images;
pub mod input;
pub mod kernel_file;
pub mod load;
pub mod machine;
pub mod memory;
pub mod model;
pub mod numa;
pub mod output;
pub mod platform;
pub mod replay;
pub mod report;
pub mod serial_log;
pub mod signals;
pub mod snapshot;
pub mod terminal;
pub mod timeline;
pub mod vcpu;
pub mod wakeups;
