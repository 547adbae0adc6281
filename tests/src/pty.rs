//! A terminal for programs that are tested in one: a pseudoterminal (pty(7)).

use std::{ffi::CString, fs::File, io, os::fd::OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A pseudoterminal.
#[derive(Debug)]
pub struct Pty {
    /// Our side: the screen and the keyboard.
    pub ours: File,
    name: CString,
}

impl Pty {
    /// Makes one.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new() -> io::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        Ok(Self { ours: ours.into(), name })
    }

    /// Opens the other side, the terminal. As long as one of them is open it keeps its settings.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn device(&self) -> io::Result<OwnedFd> {
        let name = self.name.to_str().map_err(io::Error::other)?;
        File::options().read(true).write(true).open(name).map(OwnedFd::from)
    }
}
