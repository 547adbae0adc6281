//! No backend of vhost-user makes the front end panic, hang or take much memory, whatever it answers. The driver starts and resets the
//! device meanwhile.

#![no_main]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
};

use devices::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice as _},
    virtio::vhost_user::{Backend, ConfigSpace, Face, VhostUser},
};
use fuzz::{Input, Start};
use virtio_bindings::virtio_mmio::*;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

const RAM: u64 = 1 << 16;

/// Requests that have an answer, with its size: features, the base of a ring, features of the protocol, the number of queues.
const ANSWERED: [(u32, u32); 4] = [(1, 8), (11, 8), (15, 8), (17, 8)];
const GET_CONFIG: u32 = 24;
const NEEDS_ANSWER: u32 = 8;

/// Answers each request with what the script has for it, and closes the connection at the script's end.
fn answer(mut socket: UnixStream, script: &[u8]) -> Option<()> {
    let mut script = Input(script);
    loop {
        let mut header = [0; 12];
        socket.read_exact(&mut header).ok()?;
        let [request, flags, size] =
            [0, 4, 8].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte])));
        let mut body = vec![0; usize::try_from(size).ok()?];
        socket.read_exact(&mut body).ok()?;
        let known = ANSWERED.iter().find(|(answered, _)| *answered == request).map(|(_, size)| *size);
        let size = match known {
            Some(size) => size,
            None if request == GET_CONFIG => size,
            None if flags & NEEDS_ANSWER != 0 => 8,
            None => continue,
        };
        if script.has_ended() {
            return None;
        }
        let manner = script.byte();
        let mut answer = match manner % 8 {
            // Zeroes: an acknowledgement.
            0..=2 => vec![0; usize::try_from(size).ok()?],
            3 | 4 if request == GET_CONFIG => body,
            _ => script.bytes(usize::try_from(size).ok()?).to_vec(),
        };
        answer.resize(usize::try_from(size).ok()?, 0xff);
        let mut message = [request, 5, size].map(u32::to_le_bytes).concat();
        if manner % 16 == 15 {
            message = script.bytes(12).to_vec();
        }
        message.extend(answer);
        socket.write_all(&message).ok()?;
        if manner % 16 >= 14 {
            // An answer of another size, and then nothing more.
            return None;
        }
    }
}

fn parts() -> Parts {
    let file = File::from(
        rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory"),
    );
    file.set_len(RAM).expect("there is memory");
    let range = (GuestAddress(0), RAM as usize, Some(FileOffset::new(file, 0)));
    let memory = GuestMemoryMmap::from_ranges_with_files([range]).expect("the file can be mapped");
    Parts {
        id: "vhost-user0".into(),
        interrupts: vec![IrqLine::new().expect("there are descriptors")],
        dma: Some(DmaPort::unrestricted(memory)),
        seed: None,
        faults: FaultHandle::none(),
        events: Arc::new(MachineEvents::new().expect("there are descriptors")),
    }
}

fn drive(device: &VhostUser) {
    let store = |register: u32, value: u32| device.store(0, register.into(), &value.to_le_bytes());
    let load = |register: u32| {
        let mut bytes = [0; 4];
        device.load(0, register.into(), &mut bytes);
        u32::from_le_bytes(bytes)
    };
    for _ in 0..2 {
        store(VIRTIO_MMIO_STATUS, 3);
        for half in 0..2 {
            store(VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
            store(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            store(VIRTIO_MMIO_DRIVER_FEATURES, load(VIRTIO_MMIO_DEVICE_FEATURES));
        }
        store(VIRTIO_MMIO_STATUS, 11);
        for queue in 0..2 {
            store(VIRTIO_MMIO_QUEUE_SEL, queue);
            store(VIRTIO_MMIO_QUEUE_NUM, 16);
            store(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
            store(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000);
            store(VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000);
            store(VIRTIO_MMIO_QUEUE_READY, 1);
        }
        store(VIRTIO_MMIO_STATUS, 15);
        store(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
        let _ = (load(VIRTIO_MMIO_CONFIG), load(VIRTIO_MMIO_INTERRUPT_STATUS));
        store(VIRTIO_MMIO_STATUS, 0);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let number = |number: u64| [&[5][..], &number.to_le_bytes()].concat();
    let features = |features: u64| {
        [number(1 << 32 | 1 << 30 | features), number(1 | 1 << 3 | 1 << 9), number(2)].concat()
    };
    let well = [features(1 << 29), vec![0, 3], vec![0; 40]].concat();
    let plain = [number(1 << 32), vec![0; 40]].concat();
    let refusing = [features(0), vec![0, 3], vec![0; 3], number(1), vec![0; 20]].concat();
    vec![well, plain, refusing, vec![14], vec![15; 40]]
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors");
    thread::scope(|scope| {
        scope.spawn(|| answer(theirs, bytes));
        let size = u32::from(bytes.first().copied().unwrap_or(0) % 3) * 8;
        let face = Face { id: 2, queues: 2, queue_size: 16, config: ConfigSpace::OfBackend(size) };
        let parts = parts();
        if let Ok(backend) = Backend::open(ours, None, &face, &parts) {
            let device = VhostUser::new(backend, face, parts).expect("there are descriptors");
            drive(&device);
            device.stop();
        }
    });
});
