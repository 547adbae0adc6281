//! Starts the threads of devices. A program can have each of them confine itself before it works.

use std::{
    io,
    panic::resume_unwind,
    path::PathBuf,
    sync::{OnceLock, mpsc::sync_channel},
    thread::{Builder, JoinHandle},
};

/// The use that a device's thread makes of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It uses no file.
    Device,
    /// It reads and writes a file that is open.
    Disk,
    /// It talks to a program of the host by a socket that is open.
    Backend,
    /// It moves data between open sockets, or a tap device, and the guest.
    Network,
    /// As [`Network`](Self::Network), and it connects to sockets in this folder.
    Sockets(PathBuf),
    /// It waits for the guest, and gives memory of the guest back to the host.
    Memory,
    /// It creates, writes and removes files in this folder.
    Recording(PathBuf),
}

/// Takes from the calling thread everything that the role does not need.
pub type Confine = fn(&Role) -> io::Result<()>;

static CONFINE: OnceLock<Confine> = OnceLock::new();

/// Has each thread of a device that starts from now on call `confine` first. Only the first call of this function counts.
pub fn confine_with(confine: Confine) {
    let _ = CONFINE.set(confine);
}

/// Starts a thread of a device.
///
/// # Errors
/// If the host refuses the thread, or its confinement.
pub fn start<T: Send + 'static>(
    role: Role,
    builder: Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let confine = CONFINE.get();
    start_confined(builder, move || confine.map_or(Ok(()), |confine| confine(&role)), work)
}

/// Starts a thread that confines itself by `confine`, and returns when it has done that. Then the thread does its `work`.
///
/// # Errors
/// If the host refuses the thread, or its confinement.
pub fn start_confined<T: Send + 'static>(
    builder: Builder,
    confine: impl FnOnce() -> io::Result<()> + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let (sender, confined) = sync_channel(1);
    let run = move || {
        let result = confine();
        let fails = result.is_err();
        let _ = sender.send(result);
        if fails {
            // The thread ends without its work, and without the message of a panic.
            resume_unwind(Box::new("the thread is not confined"));
        }
        drop(sender);
        work()
    };
    #[expect(clippy::disallowed_methods, reason = "all other threads of a machine start here")]
    let thread = builder.spawn(run)?;
    // The sender is gone without a result only if `confine` panicked.
    let panicked = || Err(io::Error::other("the thread panicked before its work"));
    confined.recv().unwrap_or_else(|_| panicked())?;
    Ok(thread)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn a_thread_works_when_it_is_confined() {
        let is_confined = Arc::new(AtomicBool::new(false));
        let (confined, seen) = (is_confined.clone(), is_confined.clone());
        let confine = move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            confined.store(true, Ordering::SeqCst);
            Ok(())
        };
        let thread = start_confined(Builder::new(), confine, move || seen.load(Ordering::SeqCst)).unwrap();
        assert!(is_confined.load(Ordering::SeqCst));
        assert!(thread.join().unwrap());
    }

    #[test]
    fn a_thread_that_cannot_be_confined_does_not_work() {
        let works = Arc::new(AtomicBool::new(false));
        let work = works.clone();
        let refused = || Err(io::ErrorKind::PermissionDenied.into());
        let error =
            start_confined(Builder::new(), refused, move || work.store(true, Ordering::SeqCst)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let panics = || panic!("confine panics");
        assert!(start_confined(Builder::new(), panics, || ()).is_err());
        assert!(!works.load(Ordering::SeqCst));
    }
}
