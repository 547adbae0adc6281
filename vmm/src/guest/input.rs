//! Standard input on its way to the guest: holds input that the guest has no room for, and takes escape keys out of a terminal's.

use std::{
    collections::VecDeque,
    io::{self, Read, Write as _},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    thread::Builder,
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{
    guest::terminal::{Key, Keys, RawMode},
    sandbox::{self, Kind},
};

/// Size of one read, in bytes.
const PIECE: usize = 4096;
/// The most input that waits here for the guest, in bytes. The rest waits in the terminal or in the pipe.
const WAITING_MAX: usize = 64 << 10;

/// Standard input. A thread of its own reads it, because a file cannot be polled.
#[derive(Debug)]
pub struct Input {
    pieces: Receiver<Vec<u8>>,
    event: EventFd,
    /// The escape keys; a command's input has none, and every byte of it goes to the guest.
    keys: Option<Keys>,
    waiting: VecDeque<u8>,
    /// The stream has ended.
    ended: bool,
    /// Restores the terminal when dropped.
    _raw: Option<RawMode>,
}

impl Input {
    /// Starts to read what a user types for the guest's terminal, in raw mode if stdin is a terminal. The thread ends with the
    /// stream or the process.
    ///
    /// # Errors
    /// If the terminal cannot be set, or the host refuses a thread.
    pub fn of_terminal() -> io::Result<Self> {
        let raw = RawMode::enter()?;
        Self::start(Some(Keys::default()), raw)
    }

    /// Starts to read the input of the guest's command.
    ///
    /// # Errors
    /// If the host refuses a thread.
    pub fn of_command() -> io::Result<Self> {
        Self::start(None, None)
    }

    fn start(keys: Option<Keys>, raw: Option<RawMode>) -> io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        let wake = event.try_clone()?;
        let (sender, pieces) = sync_channel(1);
        let builder = Builder::new().name("stdin".to_owned());
        sandbox::start(Kind::Input, None, builder, move || {
            let mut buffer = vec![0; PIECE];
            while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
                let _ = wake.write(1);
            }
            drop(sender);
            let _ = wake.write(1);
        })?;
        Ok(Self { pieces, event, keys, waiting: VecDeque::new(), ended: false, _raw: raw })
    }

    /// Becomes readable when there is input.
    pub fn eventfd(&self) -> &EventFd {
        &self.event
    }

    /// Whether the stream has ended and the guest has taken all of it.
    pub fn is_at_end(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// Hands the input to `send`, which takes as many bytes as it has room for and returns their number. Returns true if the user
    /// asked minivmm to quit.
    pub fn pump(&mut self, mut send: impl FnMut(&[u8]) -> usize) -> bool {
        let _ = self.event.read();
        // Goes on although the guest takes nothing, because the user may press the keys that end the machine.
        while self.waiting.len() < WAITING_MAX {
            let piece = match self.pieces.try_recv() {
                Ok(piece) => piece,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    break;
                }
            };
            let Some(keys) = &mut self.keys else {
                self.waiting.extend(piece);
                continue;
            };
            for byte in piece {
                match keys.take(byte) {
                    Key::Guest(byte) => self.waiting.push_back(byte),
                    Key::Quit => return true,
                    Key::Help => {
                        // The terminal that sent the key shows it, or is gone.
                        let _ = io::stderr()
                            .write_all(b"\r\nCtrl-A x: stop the machine; Ctrl-A Ctrl-A: send Ctrl-A\r\n");
                    }
                    Key::Nothing => {}
                }
            }
        }
        if !self.waiting.is_empty() {
            let taken = send(self.waiting.make_contiguous());
            self.waiting.drain(..taken);
        }
        false
    }
}
