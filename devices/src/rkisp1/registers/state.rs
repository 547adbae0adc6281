//! The state of the register file, its status registers and its interrupt line.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    clock::Clock,
    lens_tables::LensTables,
    paths::{PATHS, Shadow},
};
use crate::{
    faults::{Event, FaultHandle},
    irq::IrqLine,
    rkisp1::{
        counters::Count,
        faults::Irq,
        regs::{self, *},
    },
};

/// Entries of a resizer's table of weights.
pub(super) const WEIGHTS: usize = 64;

/// The register file.
pub(in crate::rkisp1) struct Registers {
    pub(super) words: Box<[u32]>,
    pub(super) line: IrqLine,
    pub(super) faults: FaultHandle,
    pub(super) lens: LensTables,
    pub(super) weights: [[u8; WEIGHTS]; PATHS],
    pub(super) shadows: [Shadow; PATHS],
    /// `ISP_ENABLE` and `ISP_INFORM` as they were latched.
    pub(super) enabled: bool,
    pub(super) clock: Clock,
    /// The last event raised no interrupt, by a fault.
    pub(super) is_silent: bool,
    /// Reads of `MI_MIS` until which the line stays high, by a fault.
    storm: u32,
    /// Bits of `MIPI_RIS` that are set again when the guest clears them, by a fault.
    pub(super) held: u32,
    /// Set while the frame in work is to be abandoned.
    pub(super) abandon: Arc<AtomicBool>,
    pub(in crate::rkisp1) count: Count,
}

impl Registers {
    /// The registers after power-on, with the level-triggered line that they drive.
    pub(in crate::rkisp1) fn new(line: IrqLine, faults: FaultHandle) -> Self {
        Self {
            words: regs::reset_values(),
            line,
            faults,
            lens: LensTables::default(),
            weights: [[0; WEIGHTS]; PATHS],
            shadows: [Shadow::default(); PATHS],
            enabled: false,
            clock: Clock::default(),
            is_silent: false,
            storm: 0,
            held: 0,
            abandon: Arc::new(AtomicBool::new(false)),
            count: Count::default(),
        }
    }

    /// The flag that the worker looks at while it makes a frame.
    pub(in crate::rkisp1) fn abandon(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandon)
    }

    /// Puts the registers into the state after power-on. Counters go on.
    pub(in crate::rkisp1) fn reset(&mut self) {
        self.words = regs::reset_values();
        self.lens = LensTables::default();
        self.weights = [[0; WEIGHTS]; PATHS];
        self.shadows = [Shadow::default(); PATHS];
        self.switch_off();
        self.clock.restart();
        self.storm = 0;
        self.update_line();
    }

    /// The value of the register at `offset`.
    pub(super) fn get(&self, offset: u32) -> u32 {
        self.words[offset as usize / 4]
    }

    pub(super) fn put(&mut self, offset: u32, value: u32) {
        self.words[offset as usize / 4] = value;
    }

    /// Sets bits of a status register, which may raise the line.
    pub(super) fn raise(&mut self, status: u32, bits: u32) {
        let value = self.get(status) | bits;
        self.put(status, value);
    }

    /// Clears bits of a status register.
    pub(super) fn clear(&mut self, status: u32, bits: u32) {
        let value = self.get(status) & !bits;
        self.put(status, value);
    }

    /// Abandons the frame in work: its end is not reported.
    pub(super) fn switch_off(&mut self) {
        self.enabled = false;
        self.held = 0;
        self.abandon.store(true, Ordering::Relaxed);
        self.clock.abandon();
    }

    /// Whether an enabled interrupt is pending.
    pub(super) fn is_interrupting(&self) -> bool {
        [(ISP_RIS, ISP_IMSC), (MI_RIS, MI_IMSC), (MIPI_RIS, MIPI_IMSC)]
            .iter()
            .any(|&(status, mask)| self.get(status) & self.get(mask) != 0)
    }

    /// Takes the line to the level that the registers say.
    pub(super) fn update_line(&self) {
        self.line.set(self.is_interrupting() && !self.is_silent || self.storm > 0);
    }

    /// The same after an event of the device, where a fault can take effect.
    pub(super) fn interrupt(&mut self) {
        if self.is_interrupting() {
            self.is_silent = false;
            match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
                Some(Irq::Lose) => self.is_silent = true,
                Some(Irq::Storm { count }) => self.storm = count,
                None => {}
            }
            if !self.is_silent {
                self.count.irqs += 1;
                self.faults.interrupted();
            }
        }
        self.update_line();
    }

    /// The guest has read `MI_MIS`, which its handler does once.
    pub(super) fn note_handler(&mut self) {
        if self.storm > 0 {
            self.storm -= 1;
            self.update_line();
        }
    }
}
