//! Signals of the process: those that end the machine in order, and SIGWINCH, which resizes its terminal.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

/// The signals that end the machine.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Lets a write beyond the limit of file sizes (RLIMIT_FSIZE) fail with an error. Otherwise a signal would end the process.
pub fn ignore_file_size_signal() {
    // SAFETY: no handler is installed, and no memory is touched.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// A flag that is set by a signal that would end the process; the process goes on. For programs without [`Signals`].
///
/// # Errors
/// If the host refuses a handler.
pub fn ended() -> io::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        signal_hook::flag::register(signal, ended.clone())?;
    }
    Ok(ended)
}

/// The process' signals as an event source. Their default action is never restored, so that there is one per process.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// Set by the handlers of signals that end the machine.
    ended: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over the signals.
    ///
    /// # Errors
    /// If the host refuses a socket or a handler.
    pub fn take_over() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let delivery =
            SignalDelivery::with_pipe(read, write, SignalOnly, ENDING.into_iter().chain([SIGWINCH]))?;
        // Last: a signal that only set the flag would wake nobody, and the machine would run on.
        let ended = ended()?;
        Ok(Self { delivery, ended })
    }

    /// A writer to `stream` that waits while the reader takes nothing. After a signal that ends the machine, and after the time
    /// `until`, it waits no more and drops its input.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn writer(
        &self,
        stream: &impl AsFd,
        until: Option<Instant>,
    ) -> io::Result<impl Write + Send + 'static> {
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        Ok(Patient { file, ended: self.ended.clone(), until })
    }

    /// A flag that is set when a signal ends the machine, or when the writers wait no more.
    pub fn ended(&self) -> Arc<AtomicBool> {
        self.ended.clone()
    }

    /// Lets the writers wait no more, as after a signal that ends the machine.
    pub fn give_up(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Takes the pending signals: one that ends the machine, if there is one, and whether the terminal changed its size.
    pub fn pending(&mut self) -> (Option<i32>, bool) {
        let mut end = None;
        let mut resized = false;
        for signal in self.delivery.pending() {
            if signal == SIGWINCH {
                resized = true;
            } else {
                end = end.or(Some(signal));
            }
        }
        if end.is_some() {
            // It came before the flag had its handlers.
            self.give_up();
        }
        (end, resized)
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.delivery.get_read().as_raw_fd()
    }
}

struct Patient {
    file: File,
    ended: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl Write for Patient {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // A pipe that poll calls writable takes this many bytes without waiting (pipe(7), PIPE_BUF).
        const STEP: usize = 4096;
        // A signal may come to another thread, or before the wait: the wait ends at intervals, to look.
        const LOOK_AGAIN_MS: i32 = 100;
        let mut waiting = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        loop {
            // After the end output that the stream does not take at once is lost: there can be much of it.
            let is_over =
                self.ended.load(Ordering::Relaxed) || self.until.is_some_and(|until| Instant::now() >= until);
            let wait = if is_over { 0 } else { LOOK_AGAIN_MS };
            // SAFETY: one structure of ours.
            let ready = unsafe { libc::poll(&raw mut waiting, 1, wait) };
            // The write that follows meets an error of poll, too. EINTR says nothing.
            if ready > 0 || (ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted) {
                return self.file.write(&data[..data.len().min(STEP)]);
            }
            if is_over {
                return Ok(data.len());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
