//! The sandbox of a running machine: it takes from each thread everything that the thread does not need on the host.
//!
//! A guest that takes over a thread of minivmm can then use what the machine has open, and little else. Each thread confines
//! itself when it starts ([`start`]), before the guest runs; the main thread does so last ([`enter_main`]). A thread
//!
//! - can gain no rights by starting a program (`no_new_privs`), and has no capabilities and, if root started minivmm, the
//!   user of nobody or that of the folder it writes to: `credentials`;
//! - reaches the files of that folder only, where the kernel has Landlock: `landlock`;
//! - may make the system calls that its [`Kind`] needs: `seccomp`. A forbidden call fails and ends the machine: [`violation`].
//!
//! Threads share memory, so an intruder in one can have another act for it: the sandbox as a whole is as wide as all its threads
//! together. That is: what is open, and the files below the folders that the options name.
//!
//! The sandbox is a property of the process and cannot be taken off. So only a program that runs one machine enters it, by
//! [`begin`]; `minivmm run` does. Without that call all functions here do nothing, and the library can run many machines.

mod credentials;
mod kind;
mod landlock;
mod seccomp;
pub mod violation;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    slice,
    sync::{Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use clap::ValueEnum;
use devices::media::threads::{self, Role};
use schemars::JsonSchema;
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

pub use self::{
    kind::{Kind, Work},
    landlock::abi as landlock_abi,
};
use crate::observe::process::status_of_main_thread;

/// Whether a machine is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Its threads are in the sandbox
    #[default]
    On,
    /// They keep all rights, as a debugger needs it
    Off,
}

/// Why a machine cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A filter is malformed.
    #[error("the sandbox's filter of system calls cannot be made: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The host refused a part of it.
    #[error("the host refused the sandbox: {0}; --sandbox off runs the machine without it")]
    Host(#[from] io::Error),
}

/// The sandbox that is in force.
struct Sandbox {
    filters: BTreeMap<Kind, BpfProgram>,
    /// The folders in which the main thread replaces and removes files.
    folders: Vec<PathBuf>,
    found: Mutex<Found>,
}

/// What the threads report when they are confined.
#[derive(Default)]
struct Found {
    users: BTreeMap<&'static str, u32>,
    notes: Vec<String>,
}

static IN_FORCE: OnceLock<Sandbox> = OnceLock::new();

/// What the sandbox of a machine was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxReport {
    /// Whether a seccomp filter limited the system calls of the main thread. Each other thread has one of its own kind.
    pub seccomp: bool,
    /// Whether the main thread could not gain rights (`no_new_privs`).
    pub no_new_privs: bool,
    /// The capabilities that the main thread had, as a bitmap in hexadecimal digits.
    pub capabilities: String,
    /// The version of the kernel's Landlock ABI, which limited the files; null if the kernel has no Landlock.
    pub landlock_abi: Option<u32>,
    /// The user id of each kind of thread.
    pub users: BTreeMap<String, u32>,
    /// Sentences about the rights that remained, and why.
    pub notes: Vec<String>,
}

/// Prepares the sandbox of this process, in which one machine is about to start. Threads that [`start`] starts from now on, and the
/// threads of devices, confine themselves. In `folders` the main thread may replace and remove files. The threads may do
/// what this `work` needs.
///
/// # Errors
/// If the host lacks a part that every Linux host has.
pub fn begin(folders: Vec<PathBuf>, work: Work) -> Result<(), SandboxError> {
    let filters = Kind::ALL.into_iter().map(|kind| Ok((kind, seccomp::filter(kind, work)?)));
    let filters = filters.collect::<Result<_, seccompiler::BackendError>>()?;
    violation::watch()?;
    warm_allocator_up()?;
    let mut found = Found::default();
    if landlock_abi().is_none() {
        tracing::warn!("{}", landlock::WITHOUT);
        found.notes.push(landlock::WITHOUT.to_owned());
    }
    // A second call changes nothing.
    let _ = IN_FORCE.set(Sandbox { filters, folders, found: Mutex::new(found) });
    threads::confine_with(|role| match role {
        Role::Device => enter(Kind::Device, &[]),
        Role::Disk => enter(Kind::Disk, &[]),
        Role::Backend => enter(Kind::Backend, &[]),
        Role::Network => enter(Kind::Network, &[]),
        Role::Memory => enter(Kind::Memory, &[]),
        Role::Sockets(folder) => enter(Kind::Sockets, slice::from_ref(folder)),
        Role::Recording(folder) => enter(Kind::Recording, slice::from_ref(folder)),
    });
    Ok(())
}

/// Starts a thread of a machine, and returns when it is confined. It may write to `folder` if its kind writes to one.
///
/// # Errors
/// If the host refuses the thread, or its confinement.
pub fn start<T: Send + 'static>(
    kind: Kind,
    folder: Option<&Path>,
    builder: thread::Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let folders: Vec<PathBuf> = folder.map(Path::to_owned).into_iter().collect();
    threads::start_confined(builder, move || enter(kind, &folders), work)
}

/// Confines the calling thread, which is the main thread, and limits the resources of the process. No further thread can start.
///
/// # Errors
/// If the host refuses a part.
pub fn enter_main() -> io::Result<()> {
    let Some(sandbox) = IN_FORCE.get() else { return Ok(()) };
    credentials::limit_resources()?;
    enter(Kind::Main, &sandbox.folders)
}

/// Confines the calling thread.
fn enter(kind: Kind, folders: &[PathBuf]) -> io::Result<()> {
    let Some(sandbox) = IN_FORCE.get() else { return Ok(()) };
    violation::this_thread_is(kind);
    rustix::thread::set_no_new_privs(true)?;
    // The rules are made with the rights that the thread still has.
    landlock::restrict(kind, folders)?;
    let (user, note) = credentials::give_up(folders)?;
    {
        let mut found = sandbox.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.users.insert(kind.name(), user);
        found.notes.extend(
            note.map(|why| format!("the {} thread runs as root without capabilities: {why}", kind.name())),
        );
    }
    seccompiler::apply_filter(&sandbox.filters[&kind]).map_err(io::Error::other)
}

/// What is in force, once the main thread is confined. None without a sandbox.
pub fn report() -> Option<SandboxReport> {
    let found = IN_FORCE.get()?.found.lock().unwrap_or_else(PoisonError::into_inner);
    let status = status_of_main_thread();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    Some(SandboxReport {
        seccomp: field("Seccomp") == "2",
        no_new_privs: field("NoNewPrivs") == "1",
        capabilities: field("CapEff"),
        landlock_abi: landlock::ABI.get().copied().flatten(),
        users: found.users.iter().map(|(kind, user)| ((*kind).to_owned(), *user)).collect(),
        notes: found.notes.clone(),
    })
}

/// Has glibc's allocator read now what it reads once: the number of CPUs when the first thread allocates, and
/// /proc/sys/vm/overcommit_memory when such a thread first gives memory back (malloc/arena.c). A confined thread could not.
fn warm_allocator_up() -> io::Result<()> {
    let blocks = || drop(std::hint::black_box([0; 16].map(|_: u8| Vec::<u8>::with_capacity(64 << 10))));
    // The calling thread waits for its end, so this is a thread only for glibc.
    let thread = threads::start_confined(thread::Builder::new(), || Ok(()), blocks)?;
    thread.join().map_err(|_| io::Error::other("the thread that allocates memory panicked"))
}

#[cfg(test)]
mod tests;
