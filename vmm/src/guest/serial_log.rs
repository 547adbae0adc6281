//! The output of the guest's serial port: goes to the terminal and to a file; its end is kept for reports.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

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
    stdout: Option<Output>,
    file: Option<File>,
    last: VecDeque<u8>,
}

impl SerialLog {
    /// A log that also goes to `stdout` and to `file`, where they are given.
    ///
    /// # Errors
    /// The error of eventfd(2).
    pub fn new(stdout: Option<Output>, file: Option<File>) -> io::Result<(Self, SerialSink)> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), event: EventFd::new(EFD_NONBLOCK)? });
        let sink = SerialSink(shared.clone());
        Ok((Self { shared, stdout, file, last: VecDeque::new() }, sink))
    }

    /// Becomes readable when output waits for [`pump`](Self::pump).
    pub fn eventfd(&self) -> &EventFd {
        &self.shared.event
    }

    /// Moves on the output that waits.
    ///
    /// # Errors
    /// Those of writing to the file.
    pub fn pump(&mut self) -> io::Result<()> {
        let _ = self.shared.event.read();
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
        if let Some(file) = &mut self.file {
            file.write_all(&data)?;
        }
        match &mut self.stdout {
            Some(stdout) => stdout.write_all(&data),
            None => Ok(()),
        }
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
        let (mut log, mut sink) = SerialLog::new(None, None).unwrap();
        for line in 0..20_000 {
            write!(sink, "line {line}\r\n").unwrap();
        }
        log.pump().unwrap();
        assert_eq!(log.last_lines(2), ["line 19998", "line 19999"]);
        assert!(log.last.len() <= KEPT);
    }

    #[test]
    fn what_is_lost_is_told() {
        let (mut log, mut sink) = SerialLog::new(None, None).unwrap();
        sink.write_all(&[b'x'; WAITING_MAX]).unwrap();
        sink.write_all(b"lost").unwrap();
        log.pump().unwrap();
        assert_eq!(log.last_lines(1), ["[minivmm: 4 bytes of the guest's output were lost]"]);
        sink.write_all(b"on").unwrap();
        log.pump().unwrap();
        assert_eq!(log.last_lines(1), ["on"]);
    }
}
