//! The register file as a state machine, without a thread and without memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    counters::Count,
    faults::{Encode, End},
    picture::{Format, Place},
    regs::*,
};
use crate::{
    faults::{Event, FaultHandle},
    irq::IrqLine,
};

const WORDS: usize = SIZE as usize / 4;

/// Whether the guest can write a register.
const IS_REGISTER: [bool; WORDS] = {
    let mut is_register = [false; WORDS];
    let mut index = 0;
    while index < REGISTERS.len() {
        is_register[REGISTERS[index].offset as usize / 4] = true;
        index += 1;
    }
    // The tables of divisors, of which REGISTERS has the first word.
    let mut word = 0;
    while word < QUANT_WORDS as usize {
        is_register[LUMA_QUANT as usize / 4 + word] = true;
        is_register[CHROMA_QUANT as usize / 4 + word] = true;
        word += 1;
    }
    is_register
};

/// What the worker has to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Encode a picture.
    Encode(Job),
    /// Wait until this time, or until it is woken.
    WaitUntil(Instant),
    /// Wait until it is woken.
    Wait,
    /// End.
    Off,
}

/// A picture to encode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) place: Place,
    /// The divisors of luma and of chroma, line by line of a block.
    pub(super) tables: [[u8; 64]; 2],
    /// Where the scan goes, and how many bytes it may have.
    pub(super) output: u32,
    pub(super) limit: u32,
}

/// How a picture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The bytes of the scan, and those that the picture has in memory.
    Ready { bytes: u32, read: u64 },
    /// The scan does not fit.
    Full,
    /// The bus refused an address.
    BusError,
}

/// Where the picture in work is.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// No picture is in work.
    None,
    /// The worker can take it.
    Waiting(Job),
    /// The worker has it.
    Encoding,
    /// It is reported at this time: bits of INTERRUPT, and the length in bytes.
    Ending(Instant, u32, u32),
    /// By a fault it never ends.
    Stuck,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers {
    words: [u32; WORDS],
    line: IrqLine,
    is_high: bool,
    faults: FaultHandle,
    work: Work,
    is_off: bool,
    is_paused: bool,
    /// Set while the picture in work is of no use.
    abandon: Arc<AtomicBool>,
    pub(super) count: Count,
}

impl Registers {
    pub(super) fn new(line: IrqLine, faults: FaultHandle) -> Self {
        Self {
            words: [0; WORDS],
            line,
            is_high: false,
            faults,
            work: Work::None,
            is_off: false,
            is_paused: false,
            abandon: Arc::default(),
            count: Count::default(),
        }
    }

    /// Set while the picture in work is of no use.
    pub(super) fn abandon(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandon)
    }

    fn get(&self, register: u32) -> u32 {
        self.words[(register / 4) as usize]
    }

    fn put(&mut self, register: u32, value: u32) {
        self.words[(register / 4) as usize] = value;
    }

    /// The guest reads the word at `offset`.
    pub(super) fn guest_reads(&mut self, offset: u32) -> u32 {
        let value = self.words.get((offset / 4) as usize).copied().unwrap_or(0);
        self.faults.read_register(offset, value)
    }

    /// The guest writes the word at `offset`. True if the worker has to look at the registers.
    pub(super) fn guest_writes(&mut self, offset: u32, value: u32) -> bool {
        let written = self.faults.write_register(offset, value);
        let wakes = written.value.is_some_and(|value| self.write(offset, value));
        self.update_line();
        if written.spurious {
            self.line.raise();
        }
        wakes
    }

    fn write(&mut self, offset: u32, value: u32) -> bool {
        if !IS_REGISTER.get((offset / 4) as usize).is_some_and(|is_register| *is_register) {
            return false;
        }
        match offset {
            INTERRUPT => {
                let status = self.get(INTERRUPT) & INTERRUPT_STATUS & value;
                self.put(INTERRUPT, value & !INTERRUPT_STATUS | status);
                false
            }
            ENCODE_START => {
                let was_enabled = self.get(ENCODE_START) & START_ENABLE != 0;
                self.put(ENCODE_START, value);
                match (was_enabled, value & START_ENABLE != 0) {
                    (false, true) => self.start(),
                    (true, false) => self.break_off(),
                    _ => return false,
                }
                true
            }
            _ => {
                self.put(offset, value);
                false
            }
        }
    }

    /// Takes over a picture.
    fn start(&mut self) {
        // The driver's watchdog disables the interrupt and never enables it: on the RK3568 the encoder is then without power for a while.
        self.put(INTERRUPT, self.get(INTERRUPT) & !INTERRUPT_DISABLE);
        let fault = self.faults.consult(Event::PLAIN).map(|fault| fault.action);
        let Some(mut job) = self.job() else {
            self.count.refused += 1;
            return self.report(INTERRUPT_PENDING | INTERRUPT_FUSE, None);
        };
        match fault {
            Some(Encode::Stuck) => {
                self.work = Work::Stuck;
                return;
            }
            Some(Encode::Timeout) => return self.report(INTERRUPT_PENDING | INTERRUPT_TIMEOUT, None),
            Some(Encode::Limit { bytes }) => job.limit = job.limit.min(bytes),
            None => {}
        }
        self.abandon.store(false, Ordering::Relaxed);
        self.work = Work::Waiting(job);
    }

    /// What the registers describe; none if the encoder does not have the codec or the format, or the picture has no pixels.
    fn job(&self) -> Option<Job> {
        let start = self.get(ENCODE_START);
        if start & START_FORMAT != START_FORMAT_JPEG {
            return None;
        }
        let format = Format::of(self.get(ENC_CTRL1))?;
        let blocks = [start & START_WIDTH, start & START_HEIGHT]
            .into_iter()
            .zip([START_WIDTH, START_HEIGHT])
            .map(|(value, field)| value >> field.trailing_zeros());
        let over_fill = self.get(OVER_FILL);
        let over = [
            4 * ((over_fill & OVER_FILL_RIGHT) >> OVER_FILL_RIGHT.trailing_zeros()),
            over_fill & OVER_FILL_BOTTOM,
        ];
        let mut size = [0; 2];
        for ((length, blocks), over) in size.iter_mut().zip(blocks).zip(over) {
            *length = u16::try_from(blocks * 16)
                .ok()?
                .checked_sub(u16::try_from(over).ok()?)
                .filter(|length| *length > 0)?;
        }
        Some(Job {
            place: Place {
                format,
                planes: [IN_PLANE_0, IN_PLANE_1, IN_PLANE_2].map(|plane| self.get(plane)),
                row: self.get(LUMA_INFO) & LUMA_INFO_ROW,
                size,
            },
            tables: [LUMA_QUANT, CHROMA_QUANT].map(|table| self.divisors(table)),
            output: self.get(OUTPUT_STREAM),
            limit: self.get(STR_BUF_LIMIT),
        })
    }

    /// The divisors at `table`, line by line of a block.
    fn divisors(&self, table: u32) -> [u8; 64] {
        let mut divisors = [0; 64];
        for index in 0..QUANT_WORDS {
            for (byte, divisor) in (4 * index..).zip(self.get(table + 4 * index).to_be_bytes()) {
                divisors[natural(byte)] = divisor;
            }
        }
        divisors
    }

    /// Ends the picture in work without a report.
    fn break_off(&mut self) {
        if !matches!(self.work, Work::None) {
            self.count.abandoned += 1;
        }
        self.work = Work::None;
        self.abandon.store(true, Ordering::Relaxed);
    }

    /// Puts the encoder into the state after power-on. Counters go on.
    pub(super) fn reset(&mut self) {
        self.words = [0; WORDS];
        self.break_off();
        self.update_line();
    }

    /// Says what the worker does at the time `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Task {
        match self.work {
            _ if self.is_off => Task::Off,
            Work::Waiting(job) if !self.is_paused => {
                self.work = Work::Encoding;
                Task::Encode(job)
            }
            Work::Ending(then, ..) if now < then => Task::WaitUntil(then),
            Work::Ending(_, bits, length) => {
                self.report(bits, Some(length));
                Task::Wait
            }
            Work::None | Work::Waiting(_) | Work::Encoding | Work::Stuck => Task::Wait,
        }
    }

    /// The worker has encoded the picture in work.
    pub(super) fn finished(&mut self, outcome: Outcome, now: Instant) {
        if !matches!(self.work, Work::Encoding) {
            return;
        }
        let (mut bits, mut length) = match outcome {
            Outcome::Ready { bytes, read } => {
                self.count.pictures += 1;
                self.count.bytes_read += read;
                self.count.bytes_written += u64::from(bytes);
                (INTERRUPT_FRAME_READY, bytes)
            }
            Outcome::Full => {
                self.count.overflows += 1;
                (INTERRUPT_BUFFER_FULL, 0)
            }
            Outcome::BusError => {
                self.count.bus_errors += 1;
                (INTERRUPT_BUS_ERROR, 0)
            }
        };
        bits |= INTERRUPT_PENDING;
        match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
            Some(End::Lose) => bits &= !INTERRUPT_PENDING,
            Some(End::Late { milliseconds }) => {
                self.work = Work::Ending(now + Duration::from_millis(milliseconds.into()), bits, length);
                return;
            }
            Some(End::Length { bytes }) => length = bytes,
            None => {}
        }
        self.report(bits, Some(length));
    }

    /// Reports the end of a picture, and the length of its scan in bytes if something was encoded.
    fn report(&mut self, bits: u32, length: Option<u32>) {
        self.work = Work::None;
        self.put(ENCODE_START, self.get(ENCODE_START) & !START_ENABLE);
        if let Some(length) = length {
            self.put(STR_BUF_LIMIT, 8 * length);
        }
        self.put(INTERRUPT, self.get(INTERRUPT) | bits);
        self.update_line();
    }

    /// Takes the interrupt line to where the registers say it is.
    fn update_line(&mut self) {
        let interrupt = self.get(INTERRUPT);
        let is_high = interrupt & INTERRUPT_PENDING != 0 && interrupt & INTERRUPT_DISABLE == 0;
        if is_high && !self.is_high {
            self.count.irqs += 1;
            self.faults.interrupted();
        }
        self.is_high = is_high;
        self.line.set(is_high);
    }

    /// Holds the next picture back, or takes it.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Ends the picture in work, and the worker.
    pub(super) fn shut_down(&mut self) {
        self.break_off();
        self.is_off = true;
    }
}

/// The place in a block, line by line, of divisor `index` in the encoder's order (`hw_reorder` of the driver): parts of 4x4, those of the
/// left half first, two columns at a time, each from the top down.
fn natural(index: u32) -> usize {
    let row = index % 4 + 4 * (index / 8 % 2);
    let column = 2 * (index / 16) + index / 4 % 2;
    (8 * row + column) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_divisors_is_the_drivers() {
        // The first and the last lines of hw_reorder in hantro_jpeg.c.
        let order: Vec<usize> = (0..64).map(natural).collect();
        assert_eq!(order[..16], [0, 8, 16, 24, 1, 9, 17, 25, 32, 40, 48, 56, 33, 41, 49, 57]);
        assert_eq!(order[48..], [6, 14, 22, 30, 7, 15, 23, 31, 38, 46, 54, 62, 39, 47, 55, 63]);
        assert_eq!(order.iter().collect::<std::collections::BTreeSet<_>>().len(), 64);
    }
}
