//! A pseudoterminal (pty(7)) for tests of programs that use a terminal.

use std::{ffi::CString, fs::File, io, os::fd::OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A pseudoterminal.
#[derive(Debug)]
pub struct Pty {
    /// The test's side: screen and keyboard.
    pub ours: File,
    name: CString,
}

impl Pty {
    /// Creates one.
    ///
    /// # Errors
    /// The errors of the system calls.
    pub fn new() -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        Ok(Self { ours: ours.into(), name })
    }

    /// Opens the other side, the terminal. It keeps its settings while it is open.
    ///
    /// # Errors
    /// The errors of open(2).
    pub fn device(&self) -> io::Result<OwnedFd> {
        let name = self.name.to_str().map_err(io::Error::other)?;
        File::options().read(true).write(true).open(name).map(OwnedFd::from)
    }
}
