//! The host's terminal: raw mode while the guest uses it, restored on every way out, and the escape key.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsRawFd, RawFd},
};

/// The key that begins a command to minivmm itself: Ctrl-A, as in QEMU and screen.
const ESCAPE: u8 = 0x01;

/// Raw mode on stdin until it is dropped, also by a panic.
#[derive(Debug)]
pub struct RawMode {
    fd: RawFd,
    saved: libc::termios,
}

impl RawMode {
    /// Puts stdin into raw mode. None if stdin is not a terminal.
    ///
    /// # Errors
    /// Those of tcgetattr(3) and tcsetattr(3).
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let fd = stdin.as_raw_fd();
        // SAFETY: termios is plain data for which all zeroes is a value.
        let mut saved: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: fd is open, the structure is ours.
        if unsafe { libc::tcgetattr(fd, &raw mut saved) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut raw = saved;
        // SAFETY: the structure is ours.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // Output processing stays on, because minivmm's own messages have plain line ends.
        raw.c_oflag = saved.c_oflag;
        // SAFETY: fd is open, the structure is a valid termios.
        if unsafe { libc::tcsetattr(fd, libc::TCSANOW, &raw const raw) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Some(Self { fd, saved }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // SAFETY: stdin's descriptor; the structure is what tcgetattr gave.
        unsafe { libc::tcsetattr(self.fd, libc::TCSANOW, &raw const self.saved) };
    }
}

/// The size of the terminal on stdout in columns and rows, if it is one.
pub fn size() -> Option<(u16, u16)> {
    // SAFETY: winsize is plain data for which all zeroes is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the ioctl fills the structure, or fails.
    let failed = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } != 0;
    (!failed && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// The meaning of a typed byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// It is for the guest.
    Guest(u8),
    /// The escape key and x: stop the machine.
    Quit,
    /// The escape key and h: print the keys.
    Help,
    /// No meaning yet.
    Nothing,
}

/// Separates the guest's keys from minivmm's.
#[derive(Debug, Default)]
pub struct Keys {
    escaped: bool,
}

impl Keys {
    /// Takes one typed byte.
    ///
    /// ```
    /// use vmm::guest::terminal::{Key, Keys};
    /// let mut keys = Keys::default();
    /// assert_eq!(keys.take(b'x'), Key::Guest(b'x'));
    /// assert_eq!(keys.take(1), Key::Nothing);
    /// assert_eq!(keys.take(b'x'), Key::Quit);
    /// ```
    pub fn take(&mut self, byte: u8) -> Key {
        if !std::mem::take(&mut self.escaped) {
            if byte == ESCAPE {
                self.escaped = true;
                return Key::Nothing;
            }
            return Key::Guest(byte);
        }
        match byte {
            b'x' | b'X' => Key::Quit,
            b'h' | b'H' | b'?' => Key::Help,
            ESCAPE => Key::Guest(ESCAPE),
            _ => Key::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_key_typed_twice_reaches_the_guest() {
        let mut keys = Keys::default();
        let seen: Vec<Key> = [1, 1, b'a', 1, b'q', b'h', 1, b'h'].map(|byte| keys.take(byte)).into();
        use Key::{Guest, Help, Nothing};
        assert_eq!(seen, [Nothing, Guest(1), Guest(b'a'), Nothing, Nothing, Guest(b'h'), Nothing, Help]);
    }
}
