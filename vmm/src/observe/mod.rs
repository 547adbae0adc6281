//! What a run leaves for people and programs to read: the report, the timeline, the metrics, frames and captures.

pub mod boot_failure;
pub mod capture;
pub mod exit_status;
pub mod frames;
pub mod guest_windows;
pub mod json_lines;
pub mod kernel_memory;
pub mod log;
pub mod memory_dump;
pub mod metrics;
pub mod page_runs;
pub mod process;
pub mod report;
pub mod timeline;
pub mod touched_memory;
pub mod vmcoreinfo;
pub mod words;
