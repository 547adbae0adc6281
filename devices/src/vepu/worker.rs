//! The encoder's thread: waits for a picture, encodes it, and writes its scan.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use media::jpeg;

use super::{
    picture::Picture,
    registers::{Job, Outcome, Registers, Task},
};
use crate::dma::DmaPort;

/// What the vCPU threads and the worker share.
pub(super) struct Shared {
    registers: Mutex<Registers>,
    wake: Condvar,
}

impl Shared {
    pub(super) fn new(registers: Registers) -> Self {
        Self { registers: Mutex::new(registers), wake: Condvar::new() }
    }

    /// The registers. The caller holds the lock for a short time only.
    pub(super) fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the worker look at the registers.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a picture; none if the encoder was switched off.
    fn next_job(&self) -> Option<Job> {
        let mut registers = self.registers();
        loop {
            let now = Instant::now();
            registers = match registers.poll(now) {
                Task::Encode(job) => return Some(job),
                Task::Off => return None,
                Task::Wait => self.wake.wait(registers).unwrap_or_else(PoisonError::into_inner),
                Task::WaitUntil(then) => {
                    let wait = then.saturating_duration_since(now);
                    self.wake.wait_timeout(registers, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Bytes of a scan that are written at once: one event for the faults of `dma.write`.
const PIECE: usize = 64 << 10;

/// What encodes pictures.
pub(super) struct Worker {
    dma: DmaPort,
    abandon: Arc<AtomicBool>,
    /// A line of the picture.
    line: Vec<u8>,
    /// A piece of the scan.
    piece: Vec<u8>,
}

impl Worker {
    pub(super) fn new(dma: DmaPort, abandon: Arc<AtomicBool>) -> Self {
        Self { dma, abandon, line: Vec::new(), piece: Vec::with_capacity(PIECE) }
    }

    /// Encodes pictures until the encoder is switched off.
    pub(super) fn run(mut self, shared: &Shared) {
        while let Some(job) = shared.next_job() {
            let outcome = self.encode(&job);
            shared.registers().finished(outcome, Instant::now());
        }
    }

    /// Encodes the picture of `job`. It holds no lock meanwhile.
    pub(super) fn encode(&mut self, job: &Job) -> Outcome {
        let Self { dma, abandon, line, piece } = self;
        piece.clear();
        let Ok(picture) = Picture::begin(job.place, dma, line) else { return Outcome::BusError };
        let mut stream = Stream { dma, abandon, job, piece, written: 0, is_refused: false };
        // Only the stream has errors.
        let is_complete = jpeg::scan(&picture, &job.tables, &mut stream).is_ok();
        let is_written = stream.flush().is_ok();
        let bytes = stream.written;
        let read = picture.bytes;
        *line = picture.into_line();
        match (is_written, is_complete) {
            (false, _) => Outcome::BusError,
            (true, false) => Outcome::Full,
            (true, true) => Outcome::Ready { bytes, read },
        }
    }
}

/// A scan that is being written.
struct Stream<'a> {
    dma: &'a DmaPort,
    abandon: &'a AtomicBool,
    job: &'a Job,
    piece: &'a mut Vec<u8>,
    /// Bytes in memory.
    written: u32,
    /// The bus refused an address.
    is_refused: bool,
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.abandon.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Other.into());
        }
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        let room = (self.job.limit - self.written) as usize - self.piece.len();
        let count = bytes.len().min(room).min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        // If none fits, the caller makes an error of it.
        Ok(count)
    }

    /// Writes the piece to memory.
    fn flush(&mut self) -> io::Result<()> {
        let address = u64::from(self.job.output) + u64::from(self.written);
        let length = self.piece.len() as u64;
        let write = if self.is_refused { None } else { self.dma.begin_write(address, length).ok() };
        let Some(write) = write else {
            self.is_refused = true;
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        write.write(0, self.piece);
        write.publish();
        self.written += u32::try_from(length).unwrap_or_default();
        self.piece.clear();
        Ok(())
    }
}
