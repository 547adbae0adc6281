//! `--metrics`: the figures of a running machine for Prometheus, in a file that is written every few seconds, or at a socket.

pub mod exposition;
pub mod figures;
pub mod file;
pub mod http;
pub mod output;
pub mod place;
pub mod server;
