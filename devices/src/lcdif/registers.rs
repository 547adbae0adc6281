//! The registers as a state machine, without threads and without memory.
//!
//! The guest comes in by [`Registers::guest_reads`] and [`Registers::guest_writes`], the worker by [`Registers::poll`] and
//! [`Registers::finished`]. Every call is short: the caller holds a lock meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use media::display::Pixel;

use super::{
    counters::Count,
    faults::{Checksum, Flip, Scan, Vsync},
    regs::*,
};
use crate::{
    faults::{Event, FaultHandle, flip_bits},
    irq::IrqLine,
    register_table::Access,
};

/// The number of registers, with the places that have none.
const WORDS: usize = (CRC_STAT / SPACING) as usize + 1;

/// The access mode of each; none where there is no register.
const ACCESS: [Option<Access>; WORDS] = {
    let mut table = [None; WORDS];
    let mut at = 0;
    while at < REGISTERS.len() {
        table[(REGISTERS[at].offset / SPACING) as usize] = Some(REGISTERS[at].access);
        at += 1;
    }
    table
};

/// The bits of CTRL that hold the controller.
const HELD: u32 = CTRL_SFTRST | CTRL_CLKGATE;

/// The shortest time that the panel takes for a frame. The guest can program none.
const SHORTEST: Duration = Duration::from_millis(1);

/// What the worker has to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Scan this frame out.
    Scan(Job),
    /// Wait until a register was written.
    Wait,
    /// Wait until then, or until a register was written.
    WaitUntil(Instant),
    /// End: the controller was switched off.
    Off,
}

/// A frame that is scanned out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// The number of the frame since the controller was switched on, with those that nothing was read of.
    pub(super) number: u32,
    pub(super) address: u32,
    /// Width and height in pixels.
    pub(super) size: [u32; 2],
    /// None: the controller does not read such pixels.
    pub(super) pixel: Option<Pixel>,
    /// How long the panel takes for it.
    pub(super) interval: Duration,
    /// What goes wrong with it.
    pub(super) fault: Option<Scan>,
}

/// How the scan-out of a frame went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The checksum of the picture; none if there is no picture.
    pub(super) crc: Option<u32>,
    /// The first address that the bus refused.
    pub(super) refused: Option<u64>,
    /// Memory was too slow.
    pub(super) is_short: bool,
    /// Bytes that were read.
    pub(super) bytes: u64,
}

/// The clock of the panel.
#[derive(Debug, Default)]
struct Clock {
    /// When the current frame began; none while the controller does not run.
    began: Option<Instant>,
    /// The number of the current frame.
    number: u32,
    /// The current frame is being read.
    is_busy: bool,
    /// A frame that is reported later.
    pending: Option<(Instant, Outcome)>,
    is_off: bool,
    is_paused: bool,
    /// Frames that may still end; none for all.
    steps: Option<u32>,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers {
    words: [u32; WORDS],
    /// The pixel clock in hertz.
    pixel_clock: u32,
    line: IrqLine,
    /// Whether the interrupt line is high.
    is_high: bool,
    faults: FaultHandle,
    clock: Clock,
    /// Set while the frame that is being read is of no use.
    abandon: Arc<AtomicBool>,
    pub(super) count: Count,
}

impl Registers {
    pub(super) fn new(pixel_clock: u32, line: IrqLine, faults: FaultHandle) -> Self {
        let mut registers = Self {
            words: [0; WORDS],
            pixel_clock,
            line,
            is_high: false,
            faults,
            clock: Clock::default(),
            abandon: Arc::default(),
            count: Count::default(),
        };
        registers.set_defaults();
        registers
    }

    /// Set while the frame that is being read is of no use.
    pub(super) fn abandon(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandon)
    }

    fn get(&self, register: u32) -> u32 {
        self.words[(register / SPACING) as usize]
    }

    fn put(&mut self, register: u32, value: u32) {
        self.words[(register / SPACING) as usize] = value;
    }

    fn set_defaults(&mut self) {
        for register in REGISTERS {
            self.put(register.offset, register.reset);
        }
    }

    /// The guest reads the word at `offset`.
    pub(super) fn guest_reads(&mut self, offset: u32) -> u32 {
        let value = self.words.get((offset / SPACING) as usize).copied().unwrap_or(0);
        self.faults.read_register(offset, value)
    }

    /// The guest writes the word at `offset`. True if the worker has to look at the registers.
    pub(super) fn guest_writes(&mut self, offset: u32, value: u32) -> bool {
        let before = (self.is_running(), self.interval());
        let written = self.faults.write_register(offset, value);
        if let Some(value) = written.value {
            self.write(offset, value);
        }
        self.update_line();
        if written.spurious {
            self.line.raise();
        }
        before != (self.is_running(), self.interval())
    }

    fn write(&mut self, offset: u32, value: u32) {
        let register = offset & !(SPACING - 1);
        let Some(Some(Access::Rw)) = ACCESS.get((register / SPACING) as usize) else { return };
        let before = self.get(register);
        let value = match offset - register {
            SET => before | value,
            CLR => before & !value,
            TOG => before ^ value,
            _ => value,
        };
        let is_held = self.get(CTRL) & HELD != 0;
        match register {
            CTRL if value & CTRL_SFTRST != 0 => {
                if before & CTRL_SFTRST == 0 {
                    self.faults.was_reset();
                }
                self.reset();
            }
            CTRL if is_held => self.put(CTRL, before & !HELD | value & HELD),
            CTRL => {
                let stops = value & CTRL_DOTCLK_MODE == 0 && before & CTRL_DOTCLK_MODE != 0;
                self.put(CTRL, if stops { value & !CTRL_RUN } else { value });
                if !self.is_running() {
                    self.switch_off();
                }
            }
            _ if is_held => {}
            _ => self.put(register, value),
        }
    }

    /// Puts the controller into the state after power-on. Counters go on.
    pub(super) fn reset(&mut self) {
        self.set_defaults();
        self.switch_off();
        self.update_line();
    }

    /// The frame that is being read, or reported later, is of no use.
    fn switch_off(&mut self) {
        let Clock { is_off, is_paused, steps, .. } = self.clock;
        let is_busy = self.clock.is_busy || self.clock.pending.is_some();
        self.count.abandoned += u64::from(is_busy);
        self.abandon.store(true, Ordering::Relaxed);
        self.clock = Clock { is_off, is_paused, steps, ..Clock::default() };
    }

    /// Whether frames are scanned out.
    fn is_running(&self) -> bool {
        let both = CTRL_RUN | CTRL_DOTCLK_MODE;
        self.get(CTRL) & (HELD | both) == both
    }

    /// How long the panel takes for a frame.
    fn interval(&self) -> Duration {
        let period = u64::from(self.get(VDCTRL1));
        let clocks = if self.get(VDCTRL0) & VDCTRL0_VSYNC_PERIOD_UNIT != 0 {
            period * u64::from(self.get(VDCTRL2) & VDCTRL2_HSYNC_PERIOD)
        } else {
            period
        };
        let nanoseconds = u128::from(clocks) * 1_000_000_000 / u128::from(self.pixel_clock.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).max(SHORTEST)
    }

    /// The pixels that are read; none if these are not read here.
    fn pixel(&self) -> Option<Pixel> {
        let control = self.get(CTRL);
        if control & CTRL_MASTER == 0 {
            return None;
        }
        let packing = self.get(CTRL1) & CTRL1_BYTE_PACKING;
        match control & CTRL_WORD_LENGTH {
            CTRL_WORD_LENGTH_16 if control & CTRL_DATA_FORMAT_16 == 0 => Some(Pixel::Rgb565),
            CTRL_WORD_LENGTH_24 if packing == CTRL1_BYTE_PACKING_XRGB => Some(Pixel::Xrgb8888),
            _ => None,
        }
    }

    /// Says what the worker does at the time `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Task {
        if self.clock.is_off {
            return Task::Off;
        }
        if !self.is_running() {
            return Task::Wait;
        }
        if self.clock.is_paused {
            // The frames of a pause are none of the panel's.
            self.clock.began = None;
            return Task::Wait;
        }
        if let Some((then, outcome)) = self.clock.pending {
            if now < then {
                return Task::WaitUntil(then);
            }
            self.clock.pending = None;
            self.clock.began = None;
            self.report(&outcome, true);
        }
        if self.clock.steps == Some(0) {
            self.clock.began = None;
            return Task::Wait;
        }
        let interval = self.interval();
        let next = *self.clock.began.get_or_insert(now) + interval;
        if now < next {
            return Task::WaitUntil(next);
        }
        // Frames whose time has passed are not scanned out.
        let late = now.duration_since(next).as_nanos() / interval.as_nanos();
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.count.late += u64::from(late);
        self.clock.began = Some(if late == 0 { next } else { now });
        let number = self.clock.number.wrapping_add(late);
        self.clock.number = number.wrapping_add(1);
        if let Some(steps) = &mut self.clock.steps {
            *steps -= 1;
        }
        self.clock.is_busy = true;
        self.abandon.store(false, Ordering::Relaxed);
        let count = self.get(TRANSFER_COUNT);
        Task::Scan(Job {
            number,
            address: self.get(CUR_BUF),
            size: [count & 0xffff, count >> 16],
            pixel: self.pixel(),
            interval,
            fault: self.faults.consult(Event::PLAIN).map(|fault| fault.action),
        })
    }

    /// A frame was scanned out. False if it was abandoned meanwhile.
    pub(super) fn finished(&mut self, outcome: Outcome, now: Instant) -> bool {
        if !std::mem::take(&mut self.clock.is_busy) {
            return false;
        }
        match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
            None => self.report(&outcome, true),
            Some(Vsync::Lose) => self.report(&outcome, false),
            Some(Vsync::Late { milliseconds }) => {
                let then = now + Duration::from_millis(milliseconds.into());
                self.clock.pending = Some((then, outcome));
            }
        }
        true
    }

    /// Reports a frame to the guest. Its interrupts are set if it `is_seen`.
    fn report(&mut self, outcome: &Outcome, is_seen: bool) {
        self.count.frames += 1;
        self.count.bytes += outcome.bytes;
        let mut status = self.get(CTRL1);
        if let Some(address) = outcome.refused {
            self.count.bus_errors += 1;
            status |= CTRL1_BM_ERROR_IRQ;
            self.put(BM_ERROR_STAT, u32::try_from(address).unwrap_or(u32::MAX));
        }
        if outcome.is_short {
            self.count.underruns += 1;
            status |= CTRL1_UNDERFLOW_IRQ;
        }
        if let Some(crc) = outcome.crc {
            let crc = self.checksum(crc);
            self.put(CRC_STAT, crc);
        }
        self.flip();
        if is_seen {
            status |= CTRL1_VSYNC_EDGE_IRQ | CTRL1_CUR_FRAME_DONE_IRQ;
        }
        self.put(CTRL1, status);
        self.update_line();
    }

    /// What goes into `CRC_STAT` for a picture with this checksum.
    fn checksum(&self, crc: u32) -> u32 {
        match self.faults.consult(Event::PLAIN) {
            None => crc,
            Some(mut fault) => {
                let Checksum::Flip { bits } = fault.action;
                let mut bytes = crc.to_le_bytes();
                flip_bits(&mut bytes, bits, &mut fault.random, None);
                u32::from_le_bytes(bytes)
            }
        }
    }

    /// Goes on with the next frame's address.
    fn flip(&mut self) {
        match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
            Some(Flip::Stuck) => {}
            None => {
                let next = self.get(NEXT_BUF);
                self.count.flips += u64::from(self.get(CUR_BUF) != next);
                self.put(CUR_BUF, next);
            }
        }
    }

    /// Takes the interrupt line to where the registers say it is.
    fn update_line(&mut self) {
        let status = self.get(CTRL1);
        let is_high = status & (status & CTRL1_IRQ_ENABLES) >> 4 != 0
            || status & CTRL1_BM_ERROR_IRQ != 0 && status & CTRL1_BM_ERROR_IRQ_EN != 0;
        if is_high && !self.is_high {
            self.count.irqs += 1;
            self.faults.interrupted();
        }
        self.is_high = is_high;
        self.line.set(is_high);
    }

    /// Holds the panel's clock, or lets it go on.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.clock.is_paused = is_paused;
    }

    /// Lets this many frames more end; none for all.
    pub(super) fn step(&mut self, frames: Option<u32>) {
        self.clock.steps = frames;
    }

    /// Abandons the frame that is being read, and ends the worker.
    pub(super) fn shut_down(&mut self) {
        self.switch_off();
        self.clock.is_off = true;
    }
}
