//! A virtio device as a platform device: its resources, its node, and its transport.

use std::sync::Arc;

use event_manager::EventSubscriber;

use super::{
    device::VirtioDevice,
    mmio::{self, MmioTransport, QUEUE_NOTIFY},
};
use crate::{
    bus::BusDevice,
    platform::{
        DmaNeeds, Doorbell, Interrupt, Node, PlatformDevice, Region, Resources, Trigger, WindowChoice,
    },
};

/// What every virtio-mmio device needs.
pub(super) fn resources() -> Resources {
    Resources {
        regions: vec![Region::unnamed(mmio::SIZE.next_multiple_of(0x1000))],
        interrupts: vec![Interrupt::unnamed(Trigger::Edge)],
        clocks: Vec::new(),
        // The driver's rings and buffers lie anywhere in memory.
        dma: Some(DmaNeeds { address_bits: 64, window: WindowChoice::Anywhere, ..DmaNeeds::default() }),
    }
}

/// The node of every virtio-mmio device (Documentation/devicetree/bindings/virtio/mmio.yaml).
pub(super) fn node() -> Node {
    Node::new("virtio").compatible(&["virtio,mmio"])
}

impl<D: VirtioDevice + 'static> PlatformDevice for MmioTransport<D> {
    fn load(&self, _region: usize, offset: u64, data: &mut [u8]) {
        BusDevice::read(self, offset, data);
    }

    fn store(&self, _region: usize, offset: u64, data: &[u8]) {
        BusDevice::write(self, offset, data);
    }

    fn reset(&self) {
        MmioTransport::reset(self);
    }

    /// A stopped device is one that was reset: it looks at no queue.
    fn stop(&self) {
        MmioTransport::reset(self);
    }

    fn set(&self, key: &str, value: &str) -> Result<(), String> {
        MmioTransport::set(self, key, value)
    }

    /// Queue notifications go to the event loop.
    fn doorbells(&self) -> Vec<Doorbell<'_>> {
        let events = self.queue_events().iter().zip(0..);
        events.map(|(event, value)| Doorbell { region: 0, offset: QUEUE_NOTIFY, value, event }).collect()
    }

    fn subscriber(self: Arc<Self>) -> Option<Arc<dyn EventSubscriber + Send + Sync>> {
        Some(self)
    }
}
