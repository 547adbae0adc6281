//! The output of the guest's serial port: goes to the terminal and to a file; its end is kept for reports.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use devices::virtio::console::Sink;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::guest::output::Output;

/// How much of the end is kept, in bytes: enough for the oops and call trace of a panic.
const KEPT: usize = 64 << 10;
/// The most output that waits for the event loop, in bytes. Further output is lost, and a mark says so.
const WAITING_MAX: usize = 4 << 20;

/// The end of the log on vCPU threads: puts a byte into a buffer and wakes the event loop. It never waits.
#[derive(Debug)]
pub struct SerialSink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    event: EventFd,
}

#[derive(Debug, Default)]
struct Waiting {
    data: Vec<u8>,
    /// Number of bytes for which there was no room.
    lost: u64,
}

impl Write for SerialSink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.data.len() < WAITING_MAX {
            let first = waiting.data.is_empty();
            waiting.data.extend_from_slice(data);
            if first {
                // The only error is EAGAIN at a full counter; then the loop is awake already.
                let _ = self.0.event.write(1);
            }
        } else {
            waiting.lost += data.len() as u64;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of the log on the event loop.
pub struct SerialLog {
    shared: Arc<Shared>,
    /// Where it goes: the terminal, a file.
    outputs: Vec<Output>,
    last: VecDeque<u8>,
}

impl SerialLog {
    /// A log that also goes to `outputs`.
    ///
    /// # Errors
    /// The error of eventfd(2).
    pub fn new(outputs: Vec<Output>) -> io::Result<(Self, SerialSink)> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), event: EventFd::new(EFD_NONBLOCK)? });
        let sink = SerialSink(shared.clone());
        Ok((Self { shared, outputs, last: VecDeque::new() }, sink))
    }

    /// Becomes readable when output waits for [`pump`](Self::pump).
    pub fn eventfd(&self) -> &EventFd {
        &self.shared.event
    }

    /// Moves on the output that waits, if there is room for it.
    ///
    /// # Errors
    /// The first error of an output.
    pub fn pump(&mut self) -> io::Result<()> {
        let _ = self.shared.event.read();
        if let Some(error) = self.outputs.iter().find_map(Output::error) {
            return Err(error);
        }
        if !self.outputs.iter_mut().all(Sink::has_room) {
            return Ok(());
        }
        let Waiting { mut data, lost } =
            std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if lost > 0 {
            data.extend_from_slice(
                format!("\r\n[minivmm: {lost} bytes of the guest's output were lost]\r\n").as_bytes(),
            );
        }
        self.last.extend(&data);
        let surplus = self.last.len().saturating_sub(KEPT);
        self.last.drain(..surplus);
        self.outputs.iter_mut().try_for_each(|output| output.write_all(&data))
    }

    /// Whether nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The last `lines` lines.
    pub fn last_lines(&self, lines: usize) -> Vec<String> {
        let text: Vec<u8> = self.last.iter().copied().collect();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
        all[all.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let (mut log, mut sink) = SerialLog::new(Vec::new()).unwrap();
        for line in 0..20_000 {
            write!(sink, "line {line}\r\n").unwrap();
        }
        log.pump().unwrap();
        assert_eq!(log.last_lines(2), ["line 19998", "line 19999"]);
        assert!(log.last.len() <= KEPT);
    }

    #[test]
    fn what_is_lost_is_told() {
        let (mut log, mut sink) = SerialLog::new(Vec::new()).unwrap();
        sink.write_all(&[b'x'; WAITING_MAX]).unwrap();
        sink.write_all(b"lost").unwrap();
        log.pump().unwrap();
        assert_eq!(log.last_lines(1), ["[minivmm: 4 bytes of the guest's output were lost]"]);
        sink.write_all(b"on").unwrap();
        log.pump().unwrap();
        assert_eq!(log.last_lines(1), ["on"]);
    }
}
