//! The controller under a driver that goes by interrupts, as Linux's does, and under hostile accesses.

use super::*;
use crate::{
    faults::{FaultPoint as _, Faults, Ids, Plan, Table},
    register_table::Access,
};
use media::random::split_mix;

const ADDRESS: u8 = 0x50;

/// A memory of 256 bytes. The first byte that is written to it is the address of the next. It acknowledges no data at 0xf0.
struct Memory {
    bytes: Vec<u8>,
    at: u8,
    takes_address: bool,
    starts: Vec<bool>,
}

impl Memory {
    fn new() -> Self {
        Self { bytes: (0..=255).collect(), at: 0, takes_address: false, starts: Vec::new() }
    }
}

impl Chip for Memory {
    fn start(&mut self, read: bool) {
        self.takes_address = !read;
        self.starts.push(read);
    }

    fn write(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.takes_address) {
            self.at = byte;
            return true;
        }
        if self.at == 0xf0 {
            return false;
        }
        self.bytes[usize::from(self.at)] = byte;
        self.at = self.at.wrapping_add(1);
        true
    }

    fn read(&mut self) -> u8 {
        let byte = self.bytes[usize::from(self.at)];
        self.at = self.at.wrapping_add(1);
        byte
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

static FAULTS: Table = Table {
    title: "Controller",
    ids: Ids::Numbered("i2c"),
    windows: false,
    channels: 0,
    channel_names: &[],
    points: &[Message::POINT],
};

fn controller() -> Controller<Memory> {
    Controller::new(Bus::new(vec![(ADDRESS, Memory::new())]), FaultHandle::none())
}

/// A controller in which this action happens at the message with this number.
fn faulty(action: &str, message: u32) -> Controller<Memory> {
    let plan = format!("[[rule]]\nname = 'r'\non = 'i2c'\naction = {action}\nwhen = {{ nth = {message} }}");
    let faults = Faults::new(Plan::read(&plan, &[&FAULTS]).unwrap(), 1);
    Controller::new(Bus::new(vec![(ADDRESS, Memory::new())]), FaultHandle::new(faults, "i2c0"))
}

fn memory(controller: &Controller<Memory>) -> &Memory {
    controller.bus().chip(ADDRESS).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    NotAcknowledged,
    TimedOut,
}

/// The error of a driver whose interrupt does not come: it generates STOP without interrupts.
fn time_out(controller: &mut Controller<Memory>) -> Failure {
    assert!(!controller.is_interrupting());
    controller.store(regs::IEN, 0);
    controller.store(regs::CON, regs::CON_EN | regs::CON_STOP);
    Failure::TimedOut
}

/// Takes the one interrupt that the driver waits for, with exactly the flags `expected`, and acknowledges it.
fn take(controller: &mut Controller<Memory>, enabled: u32, expected: u32) -> Result<(), Failure> {
    if !controller.is_interrupting() {
        return Err(time_out(controller));
    }
    let pending = controller.load(regs::IPD);
    if enabled & pending & regs::INT_NAKRCV != 0 {
        assert_eq!(pending, regs::INT_NAKRCV);
        controller.store(regs::IPD, regs::INT_NAKRCV);
        stop(controller)?;
        return Err(Failure::NotAcknowledged);
    }
    assert_eq!(pending, expected);
    controller.store(regs::IPD, expected);
    assert!(!controller.is_interrupting());
    Ok(())
}

fn start(controller: &mut Controller<Memory>, mode: u32) -> Result<(), Failure> {
    controller.store(regs::IPD, regs::INT_ALL);
    controller.store(regs::IEN, regs::INT_START);
    let con = regs::CON_EN | mode | regs::CON_ACTACK;
    controller.store(regs::CON, con | regs::CON_START);
    take(controller, 0, regs::INT_START)?;
    controller.store(regs::CON, con);
    Ok(())
}

fn stop(controller: &mut Controller<Memory>) -> Result<(), Failure> {
    controller.store(regs::IEN, regs::INT_STOP);
    let con = controller.load(regs::CON);
    controller.store(regs::CON, con | regs::CON_STOP);
    take(controller, 0, regs::INT_STOP)?;
    controller.store(regs::CON, con);
    Ok(())
}

/// Writes a message.
fn write(controller: &mut Controller<Memory>, address: u8, data: &[u8]) -> Result<(), Failure> {
    start(controller, regs::MOD_TX)?;
    let enabled = regs::INT_MBTF | regs::INT_NAKRCV;
    controller.store(regs::IEN, enabled);
    let message: Vec<u8> = [&[address << 1], data].concat();
    for chunk in message.chunks(32) {
        for (bytes, offset) in chunk.chunks(4).zip((regs::TXDATA..).step_by(4)) {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            controller.store(offset, u32::from_le_bytes(word));
        }
        controller.store(regs::MTXCNT, u32::try_from(chunk.len()).unwrap());
        take(controller, enabled, regs::INT_MBTF)?;
    }
    stop(controller)
}

/// Reads `len` bytes, from the register `register` on if it is given.
fn read(
    controller: &mut Controller<Memory>,
    address: u8,
    register: Option<u8>,
    len: usize,
) -> Result<Vec<u8>, Failure> {
    let (direction, mrxraddr, mut flags) = match register {
        Some(register) => (0, u32::from(register) | regs::VALID, regs::INT_MBRF | regs::INT_START),
        None => (1, 0, regs::INT_MBRF),
    };
    controller.store(regs::MRXADDR, u32::from(address << 1 | direction) | regs::VALID);
    controller.store(regs::MRXRADDR, mrxraddr);
    start(controller, regs::MOD_REGISTER_TX)?;
    let enabled = regs::INT_MBRF | regs::INT_NAKRCV;
    controller.store(regs::IEN, enabled);
    let mut data = Vec::new();
    while data.len() < len {
        let chunk = (len - data.len()).min(32);
        let mode = if data.is_empty() { regs::MOD_REGISTER_TX } else { regs::MOD_RX };
        let last = if data.len() + chunk == len { regs::CON_LASTACK } else { 0 };
        controller.store(regs::CON, regs::CON_EN | mode | regs::CON_ACTACK | last);
        controller.store(regs::MRXCNT, u32::try_from(chunk).unwrap());
        take(controller, enabled, flags)?;
        flags = regs::INT_MBRF;
        for offset in (regs::RXDATA..).step_by(4).take(chunk.div_ceil(4)) {
            data.extend(controller.load(offset).to_le_bytes());
        }
        data.truncate(data.len().next_multiple_of(32).min(len));
    }
    stop(controller)?;
    Ok(data)
}

#[test]
fn registers_have_their_reset_values_and_access() {
    let mut controller = controller();
    for register in regs::REGISTERS {
        assert_eq!(controller.load(register.offset), register.reset, "{}", register.name);
        if register.access != Access::Rw {
            controller.store(register.offset, u32::MAX);
            assert_eq!(controller.load(register.offset), register.reset, "{}", register.name);
        }
    }
    let kept = [
        (regs::CON, 0xff7f),
        (regs::CLKDIV, u32::MAX),
        (regs::MRXADDR, 0x07ff_ffff),
        (regs::MRXRADDR, 0x07ff_ffff),
        (regs::MTXCNT, 0x3f),
        (regs::MRXCNT, 0x3f),
        (regs::IEN, 0x7f),
        (regs::TXDATA, u32::MAX),
        (regs::TXDATA + 28, u32::MAX),
    ];
    for (offset, value) in kept {
        controller.store(offset, u32::MAX);
        assert_eq!(controller.load(offset), value, "{offset:#x}");
    }
    for offset in [2, regs::TXDATA + 30, regs::TXDATA + 32, regs::RXDATA + 32, regs::SIZE, u32::MAX] {
        controller.store(offset, u32::MAX);
        assert_eq!(controller.load(offset), 0, "{offset:#x}");
    }
    controller.reset();
    assert!(regs::REGISTERS.iter().all(|register| controller.load(register.offset) == register.reset));
}

#[test]
fn a_message_is_written_in_chunks_of_the_buffer() {
    let mut controller = controller();
    write(&mut controller, ADDRESS, &[0x20, 1, 2, 3]).unwrap();
    assert_eq!(memory(&controller).bytes[0x1f..0x24], [0x1f, 1, 2, 3, 0x23]);
    // The address byte, the register and these are 72 bytes: chunks of 32, 32 and 8.
    let long: Vec<u8> = (100..170).collect();
    write(&mut controller, ADDRESS, &[&[0x40], &long[..]].concat()).unwrap();
    assert_eq!(memory(&controller).bytes[0x40..0x86], long);
    assert_eq!(controller.load(regs::FCNT), 8);
    assert_eq!(memory(&controller).starts, [false, false]);
}

#[test]
fn a_register_is_read_behind_a_repeated_start() {
    let mut controller = controller();
    assert_eq!(read(&mut controller, ADDRESS, Some(0x12), 2).unwrap(), [0x12, 0x13]);
    assert_eq!(memory(&controller).starts, [false, true]);
    // Two address bytes, the register and two bytes of data.
    assert_eq!(controller.load(regs::FCNT), 5);
    let expected: Vec<u8> = (0x20..0x20 + 70).collect();
    assert_eq!(read(&mut controller, ADDRESS, Some(0x20), 70).unwrap(), expected);
}

#[test]
fn a_plain_read_goes_on_where_the_chip_is() {
    let mut controller = controller();
    write(&mut controller, ADDRESS, &[0x30]).unwrap();
    assert_eq!(read(&mut controller, ADDRESS, None, 3).unwrap(), [0x30, 0x31, 0x32]);
    assert_eq!(memory(&controller).starts, [false, true]);
}

#[test]
fn three_bytes_of_the_registers_address_are_sent_lowest_first() {
    let mut controller = controller();
    controller.store(regs::MRXADDR, u32::from(ADDRESS << 1) | regs::VALID);
    controller.store(regs::MRXRADDR, 0x07_22_11_40);
    start(&mut controller, regs::MOD_REGISTER_TX).unwrap();
    controller.store(regs::MRXCNT, 1);
    assert_eq!(memory(&controller).bytes[0x40..0x43], [0x11, 0x22, 0x42]);
    assert_eq!(controller.load(regs::RXDATA), 0x42);
}

#[test]
fn a_byte_that_is_not_acknowledged_ends_the_transfer() {
    let mut controller = controller();
    assert_eq!(write(&mut controller, 0x51, &[0, 1]), Err(Failure::NotAcknowledged));
    assert_eq!(controller.load(regs::FCNT), 1);
    assert_eq!(read(&mut controller, 0x51, Some(0), 1), Err(Failure::NotAcknowledged));
    assert_eq!(read(&mut controller, 0x51, None, 1), Err(Failure::NotAcknowledged));
    assert_eq!(write(&mut controller, ADDRESS, &[0xee, 1, 2, 3, 4]), Err(Failure::NotAcknowledged));
    assert_eq!(memory(&controller).bytes[0xee..0xf2], [1, 2, 0xf0, 0xf1]);
    write(&mut controller, ADDRESS, &[0, 9]).unwrap();
    assert_eq!(memory(&controller).bytes[0], 9);
}

#[test]
fn without_actack_a_transfer_goes_on() {
    let mut controller = controller();
    controller.store(regs::CON, regs::CON_EN | regs::CON_START);
    controller.store(regs::TXDATA, u32::from_le_bytes([0x51 << 1, 1, 2, 3]));
    controller.store(regs::MTXCNT, 4);
    assert_eq!(controller.load(regs::IPD), regs::INT_START | regs::INT_NAKRCV | regs::INT_MBTF);
    assert_eq!(controller.load(regs::FCNT), 4);
}

#[test]
fn the_line_is_high_while_an_enabled_flag_is_pending() {
    let mut controller = controller();
    controller.store(regs::CON, regs::CON_EN | regs::CON_START);
    assert_eq!(controller.load(regs::IPD), regs::INT_START);
    assert!(!controller.is_interrupting());
    controller.store(regs::IEN, regs::INT_START);
    assert!(controller.is_interrupting());
    // The bit that stays set generates no second START.
    controller.store(regs::IPD, regs::INT_START);
    controller.store(regs::CON, regs::CON_EN | regs::CON_START | regs::CON_LASTACK);
    assert!(!controller.is_interrupting());
}

#[test]
fn a_controller_that_is_disabled_transfers_nothing() {
    let mut controller = controller();
    controller.store(regs::CON, regs::CON_START | regs::CON_STOP);
    assert_eq!(controller.load(regs::IPD), 0);
    controller.store(regs::CON, regs::CON_EN | regs::CON_START);
    assert_eq!(controller.load(regs::IPD), regs::INT_START);
    controller.store(regs::CON, 0);
    controller.store(regs::CON, regs::CON_EN);
    controller.store(regs::TXDATA, u32::from(ADDRESS << 1));
    controller.store(regs::MTXCNT, 1);
    assert_eq!(controller.load(regs::IPD), regs::INT_START);
    assert!(memory(&controller).starts.is_empty());
}

#[test]
fn a_reset_reaches_the_chips() {
    let mut controller = controller();
    write(&mut controller, ADDRESS, &[0, 9]).unwrap();
    controller.reset();
    assert_eq!(memory(&controller).bytes[0], 0);
}

#[test]
fn faults_happen_to_the_message_that_they_name() {
    let mut controller = faulty("'nack'", 2);
    write(&mut controller, ADDRESS, &[0, 7]).unwrap();
    assert_eq!(write(&mut controller, ADDRESS, &[0, 8]), Err(Failure::NotAcknowledged));
    assert_eq!(memory(&controller).bytes[0], 7);
    write(&mut controller, ADDRESS, &[0, 9]).unwrap();
    assert_eq!(memory(&controller).bytes[0], 9);

    let mut controller = faulty("'nack'", 1);
    assert_eq!(read(&mut controller, ADDRESS, Some(0), 1), Err(Failure::NotAcknowledged));
    assert_eq!(read(&mut controller, ADDRESS, Some(3), 1).unwrap(), [3]);
}

#[test]
fn a_stuck_bus_comes_free_with_a_stop() {
    let mut controller = faulty("'stuck'", 1);
    assert_eq!(write(&mut controller, ADDRESS, &[0, 7]), Err(Failure::TimedOut));
    assert_eq!(memory(&controller).bytes[0], 0);
    write(&mut controller, ADDRESS, &[0, 8]).unwrap();
    assert_eq!(memory(&controller).bytes[0], 8);

    // Without STOP it stays.
    let mut controller = faulty("'stuck'", 1);
    start(&mut controller, regs::MOD_TX).unwrap();
    controller.store(regs::TXDATA, u32::from(ADDRESS << 1));
    controller.store(regs::MTXCNT, 1);
    controller.store(regs::CON, regs::CON_EN | regs::CON_START);
    controller.store(regs::MTXCNT, 1);
    assert_eq!(controller.load(regs::IPD), 0);
    controller.store(regs::CON, 0);
    assert_eq!(read(&mut controller, ADDRESS, Some(3), 1).unwrap(), [3]);
}

#[test]
fn a_lost_flag_leaves_the_data() {
    let mut controller = faulty("'lose'", 1);
    assert_eq!(write(&mut controller, ADDRESS, &[0, 7]), Err(Failure::TimedOut));
    assert_eq!(memory(&controller).bytes[0], 7);
    let mut controller = faulty("'lose'", 1);
    assert_eq!(read(&mut controller, ADDRESS, Some(5), 1), Err(Failure::TimedOut));
    assert_eq!(controller.load(regs::RXDATA), 5);
}

#[test]
fn bits_flip_on_the_way_in_both_directions() {
    let mut controller = faulty("'flip'\nbits = 1", 2);
    write(&mut controller, ADDRESS, &[5]).unwrap();
    let read = read(&mut controller, ADDRESS, None, 4).unwrap();
    let changed = |data: [u8; 4]| (u32::from_le_bytes(data) ^ 0x0807_0605).count_ones();
    assert_eq!(changed(read.try_into().unwrap()), 1);
    assert_eq!(memory(&controller).bytes[5..9], [5, 6, 7, 8]);

    let mut controller = faulty("'flip'\nbits = 1", 2);
    write(&mut controller, ADDRESS, &[5, 5]).unwrap();
    write(&mut controller, ADDRESS, &[0x10]).unwrap();
    assert_eq!((memory(&controller).at ^ 0x10).count_ones(), 1);
}

#[test]
fn hostile_accesses_leave_the_controller_in_order() {
    let offsets = [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x100, 0x11c, 0x200, 0x21c, 3, 0xfff_fffc];
    for seed in 0..1000 {
        let mut controller = faulty("'stuck'", 40);
        for step in 0..200 {
            let random = split_mix(seed, step);
            let offset = offsets[usize::try_from(random % offsets.len() as u64).unwrap()];
            // Values of all sizes: small ones have most modes and counts.
            let value = u32::try_from(random >> 32).unwrap() >> (random >> 8 & 31);
            controller.store(offset, value);
            controller.load(offset);
            assert!(controller.load(regs::FCNT) <= 5 + regs::BUFFER_BYTES);
            assert!((controller.load(regs::IPD) | controller.load(regs::IEN)) <= regs::INT_ALL);
        }
        controller.reset();
        write(&mut controller, ADDRESS, &[0, 7])
            .or_else(|_| write(&mut controller, ADDRESS, &[0, 7]))
            .unwrap();
        assert_eq!(memory(&controller).bytes[0], 7);
    }
}
