//! No sequence of stores and loads makes the DMA engine panic, hang, grow, or write outside the destinations of its descriptors. After a
//! reset it copies. The engine is stepped: accesses come also in the middle of a copy.

#![no_main]

use std::sync::Arc;

use devices::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    msgdma::{Msgdma, MsgdmaSpec, Stepper, regs},
    platform::{Parts, PlatformDevice as _, Trigger},
};
use fuzz::{Input, Start, guest::Guest};

/// Where each region begins in the table of registers. The fourth does not exist.
const REGIONS: [u32; 4] = [0, regs::DESCRIPTOR, regs::RESPONSE, 1 << 31];
/// Bytes of a descriptor.
const DESCRIPTOR: usize = regs::DESCRIPTOR_SIZE as usize;

struct Rig {
    device: Msgdma,
    stepper: Stepper,
    guest: Guest,
    line: IrqLine,
    /// The bytes of the descriptor registers.
    staged: [u8; DESCRIPTOR],
    /// The destinations of all descriptors: addresses and lengths.
    destinations: Vec<(u64, u64)>,
}

impl Rig {
    fn new() -> Self {
        let guest = Guest::new();
        let line = IrqLine::with_trigger(Trigger::Level).expect("there are descriptors");
        let parts = Parts {
            id: "msgdma0".into(),
            interrupts: vec![line.clone()],
            dma: Some(DmaPort::unrestricted(guest.memory.clone())),
            seed: None,
            faults: FaultHandle::none(),
            events: Arc::new(MachineEvents::new().expect("there are descriptors")),
        };
        let spec = MsgdmaSpec { descriptors: 8, ..MsgdmaSpec::default() };
        let (device, stepper) = Msgdma::stepped(&spec, parts).expect("all parts are there");
        Self { device, stepper, guest, line, staged: [0; DESCRIPTOR], destinations: Vec::new() }
    }

    fn store(&mut self, region: usize, offset: u16, bytes: &[u8]) {
        self.device.store(region, offset.into(), bytes);
        let flat = REGIONS[region % 4] + u32::from(offset);
        for (at, byte) in (flat..).zip(bytes) {
            let at = at.checked_sub(regs::DESCRIPTOR).map(|at| at as usize);
            let Some(staged) = at.and_then(|at| self.staged.get_mut(at)) else { continue };
            *staged = *byte;
            if at == Some(DESCRIPTOR - 1) && byte & 0x80 != 0 {
                self.post();
            }
        }
        // A store can touch several registers.
        let control =
            (regs::CONTROL).checked_sub(flat).and_then(|at| bytes.get(at as usize..at as usize + 4));
        if control.is_some_and(|control| u32::from(control[0]) & regs::CONTROL_RESET != 0) {
            self.staged = [0; DESCRIPTOR];
        }
    }

    /// A descriptor was committed.
    fn post(&mut self) {
        let word = |index: usize| u32::from_le_bytes(self.staged.as_chunks().0[index]);
        let address = u64::from(word(6)) << 32 | u64::from(word(1));
        let (length, stride) = (u64::from(word(2)), u64::from(word(4) >> 16));
        self.destinations.push((address, length.max(4).saturating_mul(stride.max(1))));
    }

    fn descriptor(&mut self, source: u64, destination: u64, length: u32, strides: u32, control: u32) {
        let high = |address: u64| (address >> 32) as u32;
        let words = [source as u32, destination as u32, length, 7, strides, high(source), high(destination)];
        let bytes = words.map(u32::to_le_bytes);
        self.store(1, 0, bytes.as_flattened());
        self.store(1, 28, &(control | regs::DESC_GO).to_le_bytes());
    }

    fn load(&self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.device.load((register >> 8) as usize, (register & 0xff).into(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        match kind % 12 {
            0 => {
                let offset = u16::from(input.byte() % 5) * 4;
                let value = input.array::<4>();
                self.store(0, offset, &value);
            }
            1 => {
                let (region, offset, length) = (input.byte() % 4, input.half(), input.byte() % 9);
                self.device.load(region.into(), offset.into(), &mut [0; 8][..length.into()]);
            }
            2..=4 => {
                let address = |input: &mut Input<'_>| {
                    Guest::BASE.wrapping_add_signed(input.half().cast_signed().into())
                };
                let (source, destination) = (address(input), address(input) + 0x4000);
                let length = if kind & 0x80 == 0 { input.byte().into() } else { u32::from(input.half()) };
                let strides = [0x1_0001, 0x1_0000, 1, 0x2_0001, 0x1_0003, 0, 0xffff_ffff, 0x1_0001];
                let far = if kind & 0x70 == 0x70 { u64::from(input.word()) << 32 } else { 0 };
                let control = input.word();
                self.descriptor(
                    source | far,
                    destination,
                    length,
                    strides[usize::from(kind >> 4 & 7)],
                    control,
                );
            }
            5 => {
                let (region, offset, length) = (input.byte() % 4, input.half() % 0x140, 1 + input.byte() % 8);
                let bytes = input.array::<8>();
                self.store(region.into(), offset, &bytes[..length.into()]);
            }
            6 => _ = self.stepper.begin(),
            7 => self.stepper.finish(input.byte().into()),
            8 => {
                while self.stepper.begin() && !input.has_ended() {
                    self.stepper.finish(input.byte().into());
                }
            }
            9 => match kind >> 6 {
                0 => self.device.pause(),
                1 => self.device.resume(),
                2 => self.line.end_of_interrupt(),
                _ => _ = self.line.take(),
            },
            10 => {
                self.load(regs::RESP_BYTES);
                self.load(regs::RESP_STATUS);
            }
            _ => {
                let status = self.load(regs::STATUS);
                self.store(0, 0, &status.to_le_bytes());
            }
        }
    }

    fn check(&mut self) {
        self.guest.check(self.destinations.drain(..), false);
        self.device.resume();
        self.store(0, 4, &regs::CONTROL_RESET.to_le_bytes());
        // An abandoned copy ends at its next piece.
        self.stepper.finish(1);
        assert_eq!(
            self.load(regs::STATUS),
            regs::STATUS_DESC_EMPTY | regs::STATUS_RESP_EMPTY,
            "as after power-on"
        );
        let text = *b"copied after a reset";
        self.guest.write(Guest::BASE, &text);
        self.descriptor(Guest::BASE, Guest::BASE + 0x8001, text.len() as u32, 0x1_0001, 0);
        while self.stepper.begin() {
            self.stepper.finish(16);
        }
        assert_eq!(
            [regs::RESP_BYTES, regs::RESP_STATUS].map(|register| self.load(register)),
            [text.len() as u32, 0]
        );
        assert_eq!(self.guest.read(Guest::BASE + 0x8001), text);
    }
}

/// Copies with each stride, in one go and in pieces, with a stop, a reset and a pause in the middle.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for strides in 0..8 {
        for middle in [&[][..], &[0, 1, 1, 0, 0, 0], &[0, 1, 2, 0, 0, 0], &[9], &[0, 1, 0x1c, 0, 0, 0]] {
            let mut seed = vec![0, 1, 0x10, 0, 0, 0];
            for _ in 0..2 {
                seed.extend([2 | strides << 4, 0, 1, 0x40, 0, 200]);
                seed.extend([0, 0xc0, 0xff, 0x80]);
            }
            seed.extend([6, 7, 1, 6]);
            seed.extend(middle);
            seed.extend([7, 1, 9 | 1 << 6, 0, 1, 0x10, 0, 0, 0, 8, 255, 255, 255, 10, 11]);
            seeds.push(seed);
        }
    }
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let mut rig = Rig::new();
    let mut input = Input(bytes);
    while !input.has_ended() {
        rig.act(&mut input);
    }
    rig.check();
});
