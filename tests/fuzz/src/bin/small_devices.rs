//! No sequence of stores and loads makes the serial port, the exit device or the panic device panic or grow.

#![no_main]

use std::{io, sync::Arc};

use devices::{
    bus::BusDevice as _, exit::ExitDevice, irq::IrqLine, machine_events::MachineEvents,
    platform::PlatformDevice, pvpanic::PvPanic, serial::SerialDevice,
};
use fuzz::{Input, Start};

fn seeds() -> Vec<Vec<u8>> {
    // Interrupts on, input, a read of each register, loopback, output.
    vec![
        [
            &[1, 1, 1, 0xf, 2, 5, b'h', b'e', b'l', b'l', b'o'][..],
            &[0, 0, 0, 2, 0, 5],
            &[1, 4, 1, 0x10, 1, 0, 1, b'x'],
        ]
        .concat(),
        vec![3, 4, 4, 0, 1, 0, 0, 3, 0, 4, 1, 0, 0, 0, 4, 0, 1, 1],
    ]
}

fuzz::target!(Start { seeds: seeds(), heap: Some(1 << 20), ..Start::default() }, |bytes| {
    let line = IrqLine::new().expect("there are descriptors");
    let serial = SerialDevice::new(line.clone(), Box::new(io::sink())).expect("there are descriptors");
    let events = Arc::new(MachineEvents::new().expect("there are descriptors"));
    let (exit, panic) = (ExitDevice::new(events.clone()), PvPanic::new(events.clone()));
    let mut input = Input(bytes);
    while !input.has_ended() {
        let kind = input.byte();
        let offset = u64::from(input.byte() % 16);
        match kind % 6 {
            0 => serial.read(offset, &mut [0; 8][..usize::from(kind >> 4 & 7)]),
            1 => {
                let length = input.byte() % 9;
                serial.write(offset, input.bytes(length.into()));
            }
            2 => {
                let given = input.bytes(offset as usize);
                assert!(serial.enqueue(given) <= given.len());
            }
            device @ (3 | 4) => {
                let device: &dyn PlatformDevice = if device == 3 { &exit } else { &panic };
                let length = input.byte() % 9;
                device.store(0, offset, input.bytes(length.into()));
                device.load(0, offset, &mut [0; 8][..length.into()]);
                device.reset();
            }
            _ => {
                line.take();
                serial.is_open();
            }
        }
    }
    events.reported();
});
