//! Our terminal in raw mode, so that every key reaches the program in the lab.

use std::{io, os::fd::BorrowedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode, until this is dropped.
pub(super) struct RawTerminal<'a> {
    terminal: BorrowedFd<'a>,
    saved: Termios,
}

impl<'a> RawTerminal<'a> {
    /// Puts `terminal` into raw mode.
    pub(super) fn new(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let saved = tcgetattr(terminal)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, saved })
    }
}

impl Drop for RawTerminal<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.saved);
    }
}

/// The size of `terminal` as the lab's init takes it: "ROWS COLUMNS". None if it does not know its size.
pub(super) fn size(terminal: BorrowedFd<'_>) -> Option<String> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then(|| format!("{} {}", size.ws_row, size.ws_col))
}

/// Watches what is typed for the key that ends the lab: Ctrl-], three times within a second.
#[derive(Default)]
pub(super) struct Escape {
    times: Vec<std::time::Instant>,
}

impl Escape {
    /// Whether the last of `typed`, at `now`, completes the three.
    pub(super) fn completes(&mut self, typed: &[u8], now: std::time::Instant) -> bool {
        for &byte in typed {
            if byte != 0x1d {
                self.times.clear();
                continue;
            }
            self.times.push(now);
            if let [.., first, _, _] = self.times[..]
                && now.duration_since(first).as_secs() < 1
            {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn three_escapes_in_a_second_end_the_lab() {
        let now = Instant::now();
        assert!(Escape::default().completes(b"\x1d\x1d\x1d", now));
        let mut escape = Escape::default();
        assert!(!escape.completes(b"a\x1d\x1db\x1d", now));
        assert!(!escape.completes(b"\x1d", now + Duration::from_millis(900)));
        assert!(!escape.completes(b"\x1d", now + Duration::from_millis(1500)));
        assert!(escape.completes(b"\x1d", now + Duration::from_millis(1600)));
    }
}
