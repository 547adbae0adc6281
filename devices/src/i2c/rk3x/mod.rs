//! The I2C controller `rockchip,rk3399-i2c`, which Linux's driver `drivers/i2c/busses/i2c-rk3x.c` drives.
//!
//! [`Controller`] is a plain state machine. The device that owns it passes the guest's accesses on and drives its interrupt line
//! by [`Controller::is_interrupting`] after each. A transfer is over when the store that begins it returns: the bus takes no time.
//! [`regs`] has the registers.

mod faults;
pub mod regs;
#[cfg(test)]
mod tests;

pub use faults::Message;

use super::bus::{Bus, Chip, READ};
use crate::faults::{Event, Fault, FaultHandle, flip_bits};

/// Words of a data buffer.
const WORDS: usize = regs::BUFFER_BYTES as usize / 4;

/// Bits of CON that keep what is written.
const CON_BITS: u32 = regs::CON_EN
    | regs::CON_MOD
    | regs::CON_START
    | regs::CON_STOP
    | regs::CON_LASTACK
    | regs::CON_ACTACK
    | regs::CON_TUNING;

/// Bits of MRXADDR and MRXRADDR that keep what is written: three bytes, and a bit for each that says whether it is valid.
const ADDRESS_BITS: u32 = 0x07ff_ffff;

/// How far the message on the bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Progress {
    /// No message.
    #[default]
    Idle,
    /// Its address byte comes next.
    Started,
    /// Its data comes next.
    Addressed,
    /// A fault keeps it where it is.
    Stuck,
}

/// All that a reset puts back.
#[derive(Debug, Default)]
struct State {
    con: u32,
    clkdiv: u32,
    mrxaddr: u32,
    mrxraddr: u32,
    mtxcnt: u32,
    mrxcnt: u32,
    ien: u32,
    ipd: u32,
    fcnt: u32,
    tx: [u32; WORDS],
    rx: [u32; WORDS],
    progress: Progress,
}

/// A controller with its bus.
#[derive(Debug)]
pub struct Controller<C> {
    bus: Bus<C>,
    faults: FaultHandle,
    state: State,
}

impl<C: Chip> Controller<C> {
    /// A controller of this bus, after power-on. It consults `faults` at the point [`Message`].
    pub fn new(bus: Bus<C>, faults: FaultHandle) -> Self {
        Self { bus, faults, state: State::default() }
    }

    /// The bus.
    pub const fn bus(&self) -> &Bus<C> {
        &self.bus
    }

    /// Whether the interrupt line is high.
    pub const fn is_interrupting(&self) -> bool {
        self.state.ipd & self.state.ien != 0
    }

    /// Puts the controller and the chips of its bus into the state that they have after power-on.
    pub fn reset(&mut self) {
        self.state = State::default();
        self.bus.reset();
    }

    /// The guest loads the 32-bit register at this offset. Where none is, it reads as zero.
    pub fn load(&self, offset: u32) -> u32 {
        let state = &self.state;
        match offset {
            regs::CON => state.con,
            regs::CLKDIV => state.clkdiv,
            regs::MRXADDR => state.mrxaddr,
            regs::MRXRADDR => state.mrxraddr,
            regs::MTXCNT => state.mtxcnt,
            regs::MRXCNT => state.mrxcnt,
            regs::IEN => state.ien,
            regs::IPD => state.ipd,
            regs::FCNT => state.fcnt,
            _ => {
                let read = |base, words: &[u32; WORDS]| words.get(word(offset, base)?).copied();
                read(regs::TXDATA, &state.tx).or_else(|| read(regs::RXDATA, &state.rx)).unwrap_or(0)
            }
        }
    }

    /// The guest stores to the 32-bit register at this offset. Where none is, it has no effect.
    pub fn store(&mut self, offset: u32, value: u32) {
        let state = &mut self.state;
        match offset {
            regs::CON => self.control(value & CON_BITS),
            regs::CLKDIV => state.clkdiv = value,
            regs::MRXADDR => state.mrxaddr = value & ADDRESS_BITS,
            regs::MRXRADDR => state.mrxraddr = value & ADDRESS_BITS,
            regs::MTXCNT => {
                state.mtxcnt = value & regs::COUNT;
                self.transmit();
            }
            regs::MRXCNT => {
                state.mrxcnt = value & regs::COUNT;
                self.receive();
            }
            regs::IEN => state.ien = value & regs::INT_ALL,
            regs::IPD => state.ipd &= !value,
            _ => {
                if let Some(slot) = word(offset, regs::TXDATA).and_then(|index| state.tx.get_mut(index)) {
                    *slot = value;
                }
            }
        }
    }

    fn control(&mut self, con: u32) {
        let before = std::mem::replace(&mut self.state.con, con);
        let rises = |bit| {
            let bits = regs::CON_EN | bit;
            con & bits == bits && before & bits != bits
        };
        if con & regs::CON_EN == 0 {
            self.state.progress = Progress::Idle;
        }
        if rises(regs::CON_START) && self.state.progress != Progress::Stuck {
            self.bus.release();
            self.state.progress = Progress::Started;
            self.state.ipd |= regs::INT_START;
        }
        if rises(regs::CON_STOP) {
            self.bus.release();
            self.state.progress = Progress::Idle;
            self.state.ipd |= regs::INT_STOP;
        }
    }

    /// Whether a message is in progress, and the mode is one of these.
    fn is_ready(&self, modes: &[u32]) -> bool {
        matches!(self.state.progress, Progress::Started | Progress::Addressed)
            && modes.contains(&(self.state.con & regs::CON_MOD))
    }

    /// MTXCNT was written.
    fn transmit(&mut self) {
        if !self.is_ready(&[regs::MOD_TX]) {
            return;
        }
        self.state.fcnt = 0;
        let mut buffer = [0; regs::BUFFER_BYTES as usize];
        for (bytes, word) in buffer.as_chunks_mut().0.iter_mut().zip(self.state.tx) {
            *bytes = word.to_le_bytes();
        }
        let mut data = &mut buffer[..count(self.state.mtxcnt)];
        let mut fault = None;
        if self.state.progress == Progress::Started {
            let Some((address, rest)) = data.split_first_mut() else { return };
            fault = self.faults.consult(Event::PLAIN);
            if !self.address(*address, fault.as_ref()) {
                return;
            }
            data = rest;
        }
        flip(data, &mut fault);
        for byte in data {
            let is_acknowledged = self.bus.write(*byte);
            if !self.goes_on(is_acknowledged) {
                return;
            }
        }
        self.finish(regs::INT_MBTF, fault.as_ref());
    }

    /// MRXCNT was written.
    fn receive(&mut self) {
        if !self.is_ready(&[regs::MOD_REGISTER_TX, regs::MOD_RX]) {
            return;
        }
        self.state.fcnt = 0;
        let mut flags = regs::INT_MBRF;
        let mut fault = None;
        let selects = self.state.con & regs::CON_MOD == regs::MOD_REGISTER_TX
            && self.state.progress == Progress::Started;
        if selects && let Some(address) = valid_bytes(self.state.mrxaddr).next() {
            fault = self.faults.consult(Event::PLAIN);
            if !self.address(address, fault.as_ref()) {
                return;
            }
            if address & READ == 0 {
                if !self.select_register(address) {
                    return;
                }
                // The driver clears it together with INT_MBRF. Earlier it would take it for the START of a message.
                flags |= regs::INT_START;
            }
        }
        let mut buffer = [0; regs::BUFFER_BYTES as usize];
        let data = &mut buffer[..count(self.state.mrxcnt)];
        for byte in data.iter_mut() {
            *byte = self.bus.read();
            self.state.fcnt += 1;
        }
        flip(data, &mut fault);
        for (word, bytes) in self.state.rx.iter_mut().zip(buffer.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        self.finish(flags, fault.as_ref());
    }

    /// Sends the address byte of a message. Whether the transfer goes on.
    fn address(&mut self, byte: u8, fault: Option<&Fault<Message>>) -> bool {
        self.state.progress = Progress::Addressed;
        let is_acknowledged = match fault.map(|fault| fault.action) {
            Some(Message::Stuck) => {
                self.state.progress = Progress::Stuck;
                return false;
            }
            Some(Message::Nack) => false,
            Some(Message::Flip { .. } | Message::Lose) | None => self.bus.select(byte),
        };
        self.goes_on(is_acknowledged)
    }

    /// Sends the address of a register, and the chip's address byte for reading after a repeated START. Whether the transfer goes
    /// on.
    fn select_register(&mut self, address: u8) -> bool {
        for byte in valid_bytes(self.state.mrxraddr) {
            let is_acknowledged = self.bus.write(byte);
            if !self.goes_on(is_acknowledged) {
                return false;
            }
        }
        let is_acknowledged = self.bus.select(address | READ);
        self.goes_on(is_acknowledged)
    }

    /// A byte was transmitted. Whether the transfer goes on.
    fn goes_on(&mut self, is_acknowledged: bool) -> bool {
        self.state.fcnt += 1;
        if is_acknowledged {
            return true;
        }
        self.state.ipd |= regs::INT_NAKRCV;
        self.state.con & regs::CON_ACTACK == 0
    }

    /// All bytes are transferred.
    fn finish(&mut self, flags: u32, fault: Option<&Fault<Message>>) {
        if !matches!(fault, Some(Fault { action: Message::Lose, .. })) {
            self.state.ipd |= flags;
        }
    }
}

/// The word of the buffer at `base` that is at `offset`.
fn word(offset: u32, base: u32) -> Option<usize> {
    let distance = offset.checked_sub(base).filter(|distance| distance.is_multiple_of(4))?;
    usize::try_from(distance / 4).ok()
}

/// The number of bytes that MTXCNT or MRXCNT asks for.
fn count(register: u32) -> usize {
    register.min(regs::BUFFER_BYTES) as usize
}

/// The bytes of MRXADDR or MRXRADDR that are valid.
fn valid_bytes(register: u32) -> impl Iterator<Item = u8> {
    let [bytes @ .., _] = register.to_le_bytes();
    (0..).zip(bytes).filter(move |(index, _)| register & regs::VALID << index != 0).map(|(_, byte)| byte)
}

/// Flips the bits that the fault flips.
fn flip(data: &mut [u8], fault: &mut Option<Fault<Message>>) {
    if let Some(Fault { action: Message::Flip { bits }, random, .. }) = fault {
        flip_bits(data, *bits, random, None);
    }
}
