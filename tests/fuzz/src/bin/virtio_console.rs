//! No driver makes the console panic, hang, grow, or write outside the buffers that it was given. After a reset it works. The host
//! sends input meanwhile, closes ports, and stops to take output.

#![no_main]

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use devices::virtio::console::{Console, Sink};
use fuzz::{Input, Start, virtio};

/// The host's end of a port: how it takes output is shared by all ports.
#[derive(Clone, Default)]
struct Port {
    /// 0: it takes output; 1: it has no room; 2: it is broken.
    state: Arc<AtomicU8>,
    taken: Arc<AtomicU64>,
}

impl Sink for Port {
    fn has_room(&mut self) -> bool {
        self.state.load(Ordering::Relaxed) != 1
    }
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state.load(Ordering::Relaxed) == 2 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PORTS: usize = 3;
const OUTPUT: usize = 1;

/// A control message: port, event, value.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let [port, event, value] = input.array();
    [
        u32::from(port).to_le_bytes().as_slice(),
        &u16::from(event).to_le_bytes(),
        &u16::from(value).to_le_bytes(),
    ]
    .concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = virtio::seeds(2 * PORTS as u8 + 2, &[1, 3, 1]);
    // DEVICE_READY, and then PORT_READY and PORT_OPEN of each port, on the control queue; buffers for input.
    let mut opened = vec![2, 0x80];
    for (port, event) in [(0, 0), (0, 3), (0, 6), (1, 3), (1, 6), (2, 3), (2, 6)] {
        opened.extend([4, 2, 0, 1, 0, 0x30, 64, 7, 3, port, event, 1, 0, 0, 0]);
    }
    opened.extend([
        10, 0, 5, b'h', b'e', b'l', b'l', b'o', 4, 0, 0, 1, 0, 0x30, 64, 10, 1, 4, 2, 0, 1, 0, 0x30, 64,
    ]);
    seeds.push(opened);
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let port = Port::default();
    let named = ["stdout", "agent"].map(|name| (name.to_owned(), Box::new(port.clone()) as Box<dyn Sink>));
    let console = Console::new(Box::new(port.clone()), named.into()).expect("there are descriptors");
    let handle = console.handle();
    let mut host = |input: &mut Input<'_>| {
        let what = input.byte();
        let chosen = usize::from(what >> 3) % PORTS;
        match what % 8 {
            0 | 1 => {
                let length = input.byte();
                let bytes = input.bytes(length.into());
                assert!(handle.send(chosen, bytes) <= bytes.len());
            }
            2 => _ = handle.send(chosen, &[b'x'; 4096]),
            3 => handle.close(chosen),
            4 => handle.set_size(input.byte().into(), input.byte().into()),
            5 => port.state.store(input.byte() % 3, Ordering::Relaxed),
            6 => handle.resume_output(),
            _ => _ = handle.is_open(chosen) && handle.is_driven(),
        }
    };
    let mut rig = virtio::drive(console, false, bytes, &message, &mut host);
    let was_broken = port.state.swap(0, Ordering::Relaxed) == 2;
    let before = port.taken.load(Ordering::Relaxed);
    let _: [u8; 0] = rig.ask(OUTPUT, b"hello");
    let taken = port.taken.load(Ordering::Relaxed) - before;
    assert!(taken == 5 || was_broken || taken == 0, "the host takes what the guest sends");
});
