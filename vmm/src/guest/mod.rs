//! What the guest and the host say to each other: the agent's ports, the serial port and the host's terminal.

pub mod agent;
pub mod areas;
pub mod files;
pub mod input;
pub mod out_disk;
mod out_folder;
pub mod output;
pub mod serial_log;
pub mod terminal;
pub mod whole_file;
