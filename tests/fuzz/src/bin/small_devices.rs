//! No sequence of stores and loads at any address makes the bus, the serial port, the exit device or the panic device panic or grow.

#![no_main]

use std::{io, sync::Arc};

use devices::{
    bus::{Bus, RegionDevice},
    exit::{self, ExitDevice},
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::PlatformDevice,
    pvpanic::{self, PvPanic},
    serial::{self, SerialDevice},
};
use fuzz::{Input, Start};

/// Where the devices are, without gaps.
const SERIAL: u64 = 0x1000;
const EXIT: u64 = SERIAL + serial::SIZE;
const PANIC: u64 = EXIT + exit::SIZE;
const END: u64 = PANIC + pvpanic::SIZE;

fn seeds() -> Vec<Vec<u8>> {
    // Interrupts on, input, a read of each register, loopback, output.
    vec![
        [
            &[1, 1, 1, 0xf, 2, 5, b'h', b'e', b'l', b'l', b'o'][..],
            &[0x10, 0, 0x10, 2, 0x10, 5, 1, 4, 1, 0x10, 1, 0, 1, b'x'],
        ]
        .concat(),
        vec![3, 0, 4, 0, 1, 0, 0, 3, 4, 4, 0, 1, 0, 0, 4, 0, 1, 1, 5, 6],
    ]
}

fuzz::target!(Start { seeds: seeds(), heap: Some(1 << 20), ..Start::default() }, |bytes| {
    let line = IrqLine::new().expect("there are descriptors");
    let serial = SerialDevice::new(line.clone(), Box::new(io::sink())).expect("there are descriptors");
    let events = Arc::new(MachineEvents::new().expect("there are descriptors"));
    let serial = Arc::new(serial);
    let mut bus = Bus::new();
    let devices: [(u64, u64, Arc<dyn PlatformDevice>); 3] = [
        (SERIAL, EXIT, serial.clone()),
        (EXIT, PANIC, Arc::new(ExitDevice::new(events.clone()))),
        (PANIC, END, Arc::new(PvPanic::new(events.clone()))),
    ];
    for (start, end, device) in &devices {
        let region = RegionDevice { device: device.clone(), region: 0 };
        bus.insert("device", *start..*end, Arc::new(region)).expect("the ranges are apart");
    }
    let mut input = Input(bytes);
    while !input.has_ended() {
        let kind = input.byte();
        match kind % 8 {
            place @ (0 | 1 | 3 | 4) => {
                // At a register of a device, or around it.
                let start = [SERIAL, SERIAL, 0, EXIT, PANIC][usize::from(place)];
                let address = start.wrapping_add_signed(input.byte().cast_signed().into());
                let length = if place == 0 { kind >> 4 } else { input.byte() } % 9;
                if place == 0 {
                    bus.read(address, &mut [0; 8][..length.into()]);
                } else {
                    bus.write(address, input.bytes(length.into()));
                }
            }
            2 => {
                let length = input.byte();
                let given = input.bytes((length % 32).into());
                assert!(serial.enqueue(given) <= given.len());
            }
            5 => {
                let address = u64::from_le_bytes(input.array()) >> (kind >> 3);
                let mut data = [0; 8];
                let data = &mut data[..usize::from(kind >> 5)];
                let is_there = bus.read(address, data);
                assert_eq!(bus.write(address, data), is_there);
            }
            6 => {
                line.take();
                serial.is_open();
            }
            _ => devices.iter().for_each(|(.., device)| device.reset()),
        }
    }
    events.reported();
});
