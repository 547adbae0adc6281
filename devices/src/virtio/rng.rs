//! The entropy device: random bytes for the guest, the host's or a reproducible stream.

use std::{io::Write, sync::Arc};

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng},
};
use tracing::error;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::{
    device::VirtioDevice,
    mmio::MmioTransport,
    platform,
    queue::{QueueError, Queues},
};

use crate::platform::{BuildError, DeviceSpec, Node, Parts, PlatformDevice, Resources, Specification};

const QUEUE_SIZE: u16 = 64;

/// The most that one request gets, in bytes; the specification lets a device give less than was asked for.
const MAX_REQUEST: usize = 4096;

enum Source {
    Host,
    Seeded(Box<ChaCha20Rng>),
}

/// The entropy device of a machine: a reproducible stream if the machine has a seed.
#[derive(Debug)]
pub struct EntropySpec;

impl Specification for EntropySpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

impl DeviceSpec for EntropySpec {
    fn build(&self, mut parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let device = parts.seed.map_or_else(Entropy::host, Entropy::seeded);
        let transport = MmioTransport::new(device, parts.dma()?, parts.interrupt()?);
        let transport = transport.map_err(|error| BuildError::new(parts.id, error))?;
        Ok(Arc::new(transport.with_faults(parts.faults)))
    }
}

/// The entropy device.
pub struct Entropy(Source);

impl Entropy {
    /// Hands out the host's random bytes.
    pub fn host() -> Self {
        // A static program may read them from /dev/urandom, and a confined thread could not open that later.
        let _ = getrandom::fill(&mut [0]);
        Self(Source::Host)
    }

    /// Hands out a stream that `seed` determines: the same in every run, and no secret.
    pub fn seeded(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(Source::Seeded(Box::new(ChaCha20Rng::from_seed(key))))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        match &mut self.0 {
            Source::Host => getrandom::fill(bytes)?,
            Source::Seeded(stream) => stream.fill_bytes(bytes),
        }
        Ok(())
    }
}

impl VirtioDevice for Entropy {
    fn id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let mut buffer = [0; MAX_REQUEST];
        while let Some(mut chain) = queues.pop(index)? {
            let bytes = &mut buffer[..chain.writer.available_bytes().min(MAX_REQUEST)];
            match self.fill(bytes) {
                Ok(()) => chain.writer.write_all(bytes).map_err(|_| queues.too_small(index, bytes.len()))?,
                // The driver sees a request that gave nothing.
                Err(error) => error!("the host has no random bytes for the guest: {error}"),
            }
            queues.push(index, &chain)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

    use super::*;
    use crate::{
        faults::{FaultHandle, Faults, testing},
        virtio::testing::{Driver, Part},
    };

    fn draw(device: Entropy, requests: &[u32]) -> Vec<Vec<u8>> {
        let mut driver = Driver::ready(device, 0);
        for len in requests {
            driver.offer(0, &[Part::In(*len)]);
        }
        driver.notify(0);
        assert!(driver.line.take());
        driver.collect(0)
    }

    #[test]
    fn requests_are_filled_as_far_as_a_request_goes() {
        for device in [Entropy::host(), Entropy::seeded(7)] {
            let answers = draw(device, &[64, 1, 0, 100_000, 64]);
            assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [64, 1, 0, MAX_REQUEST, 64]);
            assert_ne!(answers[0], answers[4]);
            assert_ne!(answers[3][..MAX_REQUEST / 2], answers[3][MAX_REQUEST / 2..]);
        }
    }

    #[test]
    fn requests_stall_and_interrupts_are_lost_on_purpose() {
        let entropy = |action: &str| {
            let rule = format!(
                "[[rule]]\nname = \"r\"\non = \"queue\"\naction = \"{action}\"\ndevice = \"entropy\"\nwhen = {{ nth = 2 }}\n"
            );
            let faults = Faults::new(testing::plan(&rule), 1);
            // A driver that wants each interrupt.
            let handle = FaultHandle::new(faults.clone(), "entropy");
            let mut driver = Driver::with_faults(Entropy::seeded(7), handle);
            driver.set_up(1 << VIRTIO_RING_F_EVENT_IDX);
            (driver, faults)
        };
        let ask = |driver: &mut Driver<Entropy>| {
            driver.offer(0, &[Part::In(8)]);
            driver.notify(0);
            let raised = driver.line.take();
            (driver.collect(0).len(), raised)
        };
        let (mut stalled, faults) = entropy("stall");
        assert_eq!([(); 3].map(|()| ask(&mut stalled)), [(1, true), (0, false), (1, true)]);
        let firing = &faults.trace().firings[0];
        assert_eq!((firing.device.as_deref(), firing.channel), (Some("entropy"), Some(0)));
        let (mut lost, _) = entropy("lose");
        assert_eq!([(); 3].map(|()| ask(&mut lost)), [(1, true), (1, false), (1, true)]);
    }

    #[test]
    fn answers_are_lost_on_the_bus_on_purpose() {
        let rule = "[[rule]]\nname = \"r\"\non = \"dma.write\"\naction = \"lost\"\ndevice = \"entropy\"\nwhen = { nth = 2 }\n";
        let faults = Faults::new(testing::plan(rule), 1);
        let handle = FaultHandle::new(faults.clone(), "entropy");
        let mut driver = Driver::with_faults(Entropy::seeded(7), handle);
        driver.set_up(0);
        for _ in 0..3 {
            driver.offer(0, &[Part::In(8)]);
        }
        driver.notify(0);
        let answers = driver.collect(0);
        assert_eq!(answers.len(), 3, "each is given back");
        assert!(answers[0] != [0; 8] && answers[1] == [0; 8] && answers[2] != [0; 8], "{answers:?}");
        assert_eq!(faults.trace().firings.len(), 1);
    }

    #[test]
    fn a_seed_determines_the_stream() {
        let requests = [64, 3, 500];
        assert_eq!(draw(Entropy::seeded(7), &requests), draw(Entropy::seeded(7), &requests));
        assert_ne!(draw(Entropy::seeded(7), &requests), draw(Entropy::seeded(8), &requests));
        assert_ne!(draw(Entropy::host(), &requests), draw(Entropy::host(), &requests));
        // The first block of ChaCha20 with this key: the stream does not change from one version to the next.
        assert_eq!(draw(Entropy::seeded(7), &[8])[0], [241, 158, 227, 185, 101, 66, 152, 68]);
    }
}
