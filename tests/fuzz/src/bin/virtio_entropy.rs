//! No driver makes the entropy device panic, hang, or write outside the buffers that it was given. After a reset it works.

#![no_main]

use devices::virtio::rng::Entropy;
use fuzz::{Start, virtio};

fuzz::target!(Start { seeds: virtio::seeds(1, &[]), ..Start::default() }, |bytes| {
    let mut rig = virtio::drive(Entropy::seeded(1), false, bytes, &|_| Vec::new(), &mut |_| {});
    assert_ne!(rig.ask::<32>(0, &[]), [0; 32], "the device gives random bytes");
});
