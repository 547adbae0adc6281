//! Makes a machine of the devices, runs it, and says how that went.
//!
//! The way of a machine: [`cli`] reads the options into a [`Config`](machine::config::Config);
//! [`boot`] makes guest memory of it that is ready to run ([`load`](boot::load::load)); [`machine`] adds KVM, the
//! devices of the [`platform`](boot::platform)'s list and the vCPUs, and runs until something ends it;
//! [`observe`] says how that went ([`Report`](observe::report::Report)). While it runs, [`guest`] talks with
//! the programs inside and [`api`] answers the programs outside. [`experiment`] tests drivers by fault injection and
//! judges them. All that one architecture has is in [`arch`]. Where this host's KVM cannot run Linux, minivmm runs itself in
//! the [`lab`].

// They panic if the stream is closed.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]
// Such a thread is not confined.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod api;
pub mod arch;
pub mod boot;
pub mod cli;
pub mod clients;
pub mod experiment;
#[cfg(test)]
mod formats;
pub mod guest;
pub mod lab;
pub mod machine;
pub mod observe;
pub mod sandbox;
