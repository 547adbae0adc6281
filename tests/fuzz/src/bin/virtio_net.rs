//! No driver and no peer on the host make the network device panic, hang, or write outside the buffers that it was given. After a reset
//! it works.

#![no_main]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use devices::virtio::net::Net;
use fuzz::{Input, Start, virtio};

/// The header of a frame, and the beginning of it.
fn frame(input: &mut Input<'_>) -> Vec<u8> {
    let length = usize::from(input.byte());
    vec![input.byte(); length]
}

fuzz::target!(Start { seeds: virtio::seeds(2, &[40, 7]), ..Start::default() }, |bytes| {
    let (ours, mut peer) = UnixStream::pair().expect("there are descriptors");
    peer.set_nonblocking(true).expect("it is a socket");
    let net = Net::on_stream(ours, [2, 0, 0, 0, 0, 1]).expect("there are descriptors");
    let mut host = |input: &mut Input<'_>| {
        // A frame, also with a wrong length. A socket without room takes less, and so breaks the stream.
        let (kind, length) = (input.byte(), input.half() % 2000);
        let said = if kind % 8 == 7 { input.word() } else { length.into() };
        let _ = peer.write(&[&said.to_be_bytes()[..], &vec![kind; length.into()]].concat());
        let _ = peer.read(&mut [0; 1 << 16]);
    };
    let mut rig = virtio::drive(net, true, bytes, &frame, &mut host);
    let request = [[0; 12].as_slice(), &[9; 60]].concat();
    rig.ask::<0>(1, &request);
});
