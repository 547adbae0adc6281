//! No rings and descriptors, and no change of them while they are read, give a device a chain that is too long, has buffers outside
//! memory, or is endless. The device of this target only looks at its chains.

#![no_main]

use std::io::{Read as _, Write as _};

use devices::virtio::{
    VirtioDevice,
    queue::{MAX_CHAIN_BYTES, QueueError, Queues},
};
use fuzz::{Start, virtio};

/// Looks at chains: reads and writes the first bytes of each.
struct Looker;

impl VirtioDevice for Looker {
    fn id(&self) -> u32 {
        4
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![16; 2]
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(mut chain) = queues.pop(index)? {
            let bytes = chain.reader.available_bytes() + chain.writer.available_bytes();
            assert!(bytes as u64 <= MAX_CHAIN_BYTES, "a chain has {bytes} bytes");
            let mut start = [0; 16];
            let length = chain.reader.read(&mut start).expect("the buffers are in memory");
            let written = chain.writer.write(&start).expect("the buffers are in memory");
            assert!(length <= 16 && written <= 16 && chain.writer.bytes_written() == written);
            queues.push(index, &chain)?;
        }
        Ok(())
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [virtio::seeds(2, &[]), virtio::seeds_of_changes()].concat()
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let mut rig = virtio::drive(Looker, true, bytes, &|_| Vec::new(), &mut |_| {});
    assert_eq!(rig.ask::<5>(1, b"hello"), *b"hello", "the device echoes");
});
