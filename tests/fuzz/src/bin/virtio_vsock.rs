//! No driver and no program of the host make the socket device panic, hang, or write outside the buffers that it was given. After a
//! reset it works.

#![no_main]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::LazyLock,
};

use devices::{socket::Socket, virtio::vsock::Vsock};
use fuzz::{Input, Start, virtio};

/// The guest's address.
const CID: u32 = 3;

/// The folder of the sockets, and a program that listens for port 1.
static HOST: LazyLock<(PathBuf, UnixListener)> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("minivmm-fuzz-vsock-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder is writable");
    let _ = std::fs::remove_file(folder.join("v_1"));
    let listener = UnixListener::bind(folder.join("v_1")).expect("the folder is writable");
    listener.set_nonblocking(true).expect("it is a socket");
    (folder, listener)
});

/// A packet's header, mostly of a stream between few ports.
fn packet(input: &mut Input<'_>) -> Vec<u8> {
    let [ports, op, length, flags, credit, odd] = input.array();
    let mut header = [u64::from(CID), 2].map(u64::to_le_bytes).concat();
    header.extend(
        [u32::from(ports % 4), u32::from(ports >> 4) % 2, length.into()].map(u32::to_le_bytes).concat(),
    );
    header.extend([1, u16::from(op % 9)].map(u16::to_le_bytes).concat());
    header.extend([u32::from(flags % 4), u32::from(credit) << 4, 0].map(u32::to_le_bytes).concat());
    if odd >= 0xf0 {
        header[usize::from(input.byte() % 44)] = input.byte();
    }
    header
}

fuzz::target!(Start { seeds: virtio::seeds(2, &[0x10, 1, 0, 0, 9, 0]), ..Start::default() }, |bytes| {
    let (folder, listener) = &*HOST;
    let socket = Socket::bind("socket", &folder.join("v")).expect("the folder is writable");
    let mut programs: Vec<UnixStream> = Vec::new();
    let mut host = |input: &mut Input<'_>| {
        let kind = input.byte();
        match kind % 4 {
            0 => {
                let Ok(mut program) = UnixStream::connect(folder.join("v")) else { return };
                let line = [&b"CONNECT 1\nhello"[..], b"CONNECT x\n", b"CON", b"CONNECT 2\n"];
                let _ = program.set_nonblocking(true);
                let _ = program.write(line[usize::from(kind >> 2) % 4]);
                programs.push(program);
            }
            1 => programs.extend(listener.accept().map(|(program, _)| program)),
            2 => {
                for program in &mut programs {
                    let _ = program.set_nonblocking(true);
                    let _ = program.read(&mut [0; 4096]);
                    let _ = program.write(&vec![kind; usize::from(input.half() % 5000)]);
                }
            }
            _ => drop(programs.pop()),
        }
        // The listening program has a short queue.
        if programs.len() > 40 {
            programs.clear();
        }
    };
    let vsock = Vsock::new(socket, CID).expect("there are descriptors");
    let mut rig = virtio::drive(vsock, false, bytes, &packet, &mut host);
    // A packet from nobody is used, and has no answer.
    rig.ask::<0>(1, &[0; 44]);
});
