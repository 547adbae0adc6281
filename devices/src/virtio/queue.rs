//! The queues as a device sees them: chains of buffers that are checked before it touches them.

use std::{
    slice,
    sync::atomic::{Ordering, fence},
};

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT, Reader, Writer, desc::split::Descriptor};
use vm_memory::{Address as _, Bytes as _, GuestAddress};

use super::{faults, request::Request};
use crate::{
    dma::DmaPort,
    faults::{Event, FaultHandle},
};

/// The largest chain that is accepted, in bytes. Linux' drivers for these devices stay below one MiB.
pub const MAX_CHAIN_BYTES: u64 = 16 << 20;

/// What a device may take from its queues in one go before the event loop serves others, in bytes.
const BUDGET: u64 = 1 << 20;

/// The cost of a chain in addition to its bytes, so that empty chains are not free.
const CHAIN_COST: u64 = 4096;

/// Something in a queue that the driver should not have put there.
#[derive(Debug, thiserror::Error)]
#[error("queue {queue} is malformed: {reason}")]
pub struct QueueError {
    queue: usize,
    reason: Malformed,
}

/// What is wrong with a queue.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The rings cannot be used.
    #[error("{0}")]
    Rings(#[from] virtio_queue::Error),
    /// The chain does not end where it should.
    #[error("a chain loops, or continues at a descriptor that does not exist")]
    Endless,
    /// More descriptors than the queue has, or more bytes than [`MAX_CHAIN_BYTES`].
    #[error("a chain has more than {MAX_CHAIN_BYTES} bytes, or more descriptors than the queue")]
    TooLong,
    /// The driver's part of a chain comes first.
    #[error("a buffer for the device to read follows one for it to write")]
    Order,
    /// A buffer is not in memory.
    #[error("a buffer lies outside the memory that the device may touch")]
    Memory,
    /// The writable buffers are too small for the device's answer.
    #[error("there is no room to write {0} bytes")]
    TooSmall(usize),
}

/// A chain of buffers that the driver handed over.
pub struct Chain<'a> {
    head: u16,
    /// What the driver says.
    pub reader: Reader<'a>,
    /// Where the device answers.
    pub writer: Writer<'a>,
}

/// All queues of a device, during one call of it.
pub struct Queues<'a> {
    queues: &'a mut [Queue],
    /// The way to the rings.
    rings: &'a DmaPort,
    /// The way to the buffers of requests, with faults.
    buffers: &'a DmaPort,
    /// The driver is ready and nothing is wrong; otherwise nothing is in the queues.
    running: bool,
    faults: &'a FaultHandle,
    budget: u64,
    outcome: Outcome,
}

/// What the transport must do after a device's call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    /// The budget was used up: call again.
    pub(super) again: bool,
    /// The driver wants to know about buffers that were used.
    pub(super) interrupt: bool,
    /// The configuration space changed.
    pub(super) config_changed: bool,
}

impl<'a> Queues<'a> {
    pub(super) fn new(
        queues: &'a mut [Queue],
        rings: &'a DmaPort,
        buffers: &'a DmaPort,
        running: bool,
        faults: &'a FaultHandle,
    ) -> Self {
        Self { queues, rings, buffers, running, faults, budget: BUDGET, outcome: Outcome::default() }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Takes the next chain from queue `index`; every chain must be given back by [`push`](Self::push). If the queue is
    /// empty, the driver notifies when it adds a chain.
    ///
    /// None also ends a pass that took its share: the device is called again after others.
    ///
    /// # Errors
    /// If the rings or the chain are malformed. A chain that is returned is finite, and its buffers are memory.
    pub fn pop(&mut self, index: usize) -> Result<Option<Chain<'a>>, QueueError> {
        let malformed = |reason| QueueError { queue: index, reason };
        let Some(chain) = self.take(index)? else { return Ok(None) };
        walk(chain.clone(), self.queues[index].size(), MAX_CHAIN_BYTES, |_| ()).map_err(malformed)?;
        let head = chain.head_index();
        let reader = chain.clone().reader(self.buffers).map_err(|_| malformed(Malformed::Memory))?;
        let writer = chain.writer(self.buffers).map_err(|_| malformed(Malformed::Memory))?;
        // The driver can change the descriptors after the check. The reader and the writer keep the buffers that they found.
        let bytes = (reader.available_bytes() + writer.available_bytes()) as u64;
        if bytes > MAX_CHAIN_BYTES {
            return Err(malformed(Malformed::TooLong));
        }
        self.budget = self.budget.saturating_sub(bytes + CHAIN_COST);
        Ok(Some(Chain { head, reader, writer }))
    }

    /// Takes the next chain as [`pop`](Self::pop) does, for a device that carries it out later; every request must be given back
    /// by [`push_request`](Self::push_request). The request has a copy of the descriptors, which the driver cannot change.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn pop_request(&mut self, index: usize) -> Result<Option<Request>, QueueError> {
        self.pop_within(index, MAX_CHAIN_BYTES)
    }

    /// Takes the next chain as [`pop_request`](Self::pop_request) does, for a device that transfers none of its bytes: the buffers may
    /// be of any length.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn pop_extents(&mut self, index: usize) -> Result<Option<Request>, QueueError> {
        self.pop_within(index, u64::MAX)
    }

    /// Takes the next chain, of at most `most` bytes, with a copy of its descriptors.
    fn pop_within(&mut self, index: usize, most: u64) -> Result<Option<Request>, QueueError> {
        let malformed = |reason| QueueError { queue: index, reason };
        let Some(chain) = self.take(index)? else { return Ok(None) };
        let mut request = Request::new(chain.head_index());
        let mut is_memory = true;
        walk(chain, self.queues[index].size(), most, |descriptor| {
            let (address, length) = (descriptor.addr().0, descriptor.len());
            is_memory &= self.buffers.check(address, length.into()).is_ok();
            let is_writable = descriptor.is_write_only();
            let buffers = if is_writable { &mut request.writable } else { &mut request.readable };
            buffers.add(address, length);
        })
        .map_err(malformed)?;
        if !is_memory {
            return Err(malformed(Malformed::Memory));
        }
        self.budget = self.budget.saturating_sub(CHAIN_COST);
        Ok(Some(request))
    }

    /// The next chain of queue `index`, unless the pass has taken its share.
    fn take(&mut self, index: usize) -> Result<Option<DescriptorChain<&'a DmaPort>>, QueueError> {
        if !self.running || !self.queues[index].ready() {
            return Ok(None);
        }
        if self.budget == 0 {
            self.outcome.again = true;
            return Ok(None);
        }
        self.next(index).map_err(|error| QueueError { queue: index, reason: error.into() })
    }

    fn next(&mut self, index: usize) -> Result<Option<DescriptorChain<&'a DmaPort>>, virtio_queue::Error> {
        let queue = &mut self.queues[index];
        let next = queue.iter(self.rings)?.next();
        // A chain that came before the driver was asked to notify comes without a notification.
        if next.is_none() && queue.enable_notification(self.rings)? {
            return Ok(queue.iter(self.rings)?.next());
        }
        Ok(next)
    }

    /// Gives `chain` back to the driver, with as many bytes as were written to it.
    ///
    /// # Errors
    /// If the rings are malformed.
    pub fn push(&mut self, index: usize, chain: &Chain<'_>) -> Result<(), QueueError> {
        self.give_back(index, &[(chain.head, chain.writer.bytes_written() as u64)])
    }

    /// Gives a request back to the driver that was taken from queue `index`. A device that stopped meanwhile gives nothing back.
    ///
    /// # Errors
    /// If the rings are malformed.
    pub fn push_request(&mut self, index: usize, request: &Request) -> Result<(), QueueError> {
        self.push_requests(index, slice::from_ref(request))
    }

    /// Gives a request back as [`push_request`](Self::push_request) does, in whose buffers the device has written nothing.
    ///
    /// # Errors
    /// If the rings are malformed.
    pub fn push_unwritten(&mut self, index: usize, request: &Request) -> Result<(), QueueError> {
        if self.running { self.give_back(index, &[(request.head, 0)]) } else { Ok(()) }
    }

    /// Gives several requests back as [`push_request`](Self::push_request) does. The driver sees all of them at once, or none.
    ///
    /// # Errors
    /// If the rings are malformed.
    pub fn push_requests(&mut self, index: usize, requests: &[Request]) -> Result<(), QueueError> {
        if !self.running {
            return Ok(());
        }
        let used: Vec<_> = requests.iter().map(|request| (request.head, request.writable.used())).collect();
        self.give_back(index, &used)
    }

    /// The way to the buffers of requests.
    pub fn memory(&self) -> &'a DmaPort {
        self.buffers
    }

    /// Gives chains back, of which each has its head and the number of bytes that were written to it.
    fn give_back(&mut self, index: usize, chains: &[(u16, u64)]) -> Result<(), QueueError> {
        let fault = self.faults.consult(Event::PLAIN.on_channel(index));
        let is_reported = match fault.map(|fault| fault.action) {
            None => true,
            Some(faults::Queue::Lose) => false,
            Some(faults::Queue::Stall) => return Ok(()),
        };
        self.buffers.finish_slices();
        let notify = publish(&mut self.queues[index], self.rings, chains)
            .map_err(|error| QueueError { queue: index, reason: error.into() })?;
        self.outcome.interrupt |= notify && is_reported;
        Ok(())
    }

    /// Has the device called again after others, although it has not taken its share.
    pub fn come_again(&mut self) {
        self.outcome.again = true;
    }

    /// Tells the driver that the configuration space changed.
    pub fn config_changed(&mut self) {
        self.outcome.config_changed = true;
    }

    /// The error for a chain from queue `index` that has no room for `bytes` bytes.
    pub fn too_small(&self, index: usize, bytes: usize) -> QueueError {
        QueueError { queue: index, reason: Malformed::TooSmall(bytes) }
    }
}

/// Puts chains into the used ring, and then counts them all as used at once. Returns whether the driver wants an interrupt.
fn publish(queue: &mut Queue, rings: &DmaPort, chains: &[(u16, u64)]) -> Result<bool, virtio_queue::Error> {
    // Fits: a chain has at most MAX_CHAIN_BYTES.
    let length = |written: u64| u32::try_from(written).unwrap_or(u32::MAX);
    let Some(((last, written), others)) = chains.split_last() else { return Ok(false) };
    let overflow = || virtio_queue::Error::AddressOverflow;
    let first = queue.next_used();
    for (head, written) in others {
        // The elements follow two fields of 16 bits: the flags and the index.
        let offset = 4 + 8 * u64::from(queue.next_used() % queue.size());
        let at = GuestAddress(queue.used_ring()).checked_add(offset).ok_or_else(overflow)?;
        let element = [u32::from(*head), length(*written)].map(u32::to_le_bytes).concat();
        rings.write_slice(&element, at).map_err(virtio_queue::Error::GuestMemory)?;
        queue.set_next_used(queue.next_used().wrapping_add(1));
    }
    // This stores the index.
    queue.add_used(rings, *last, length(*written))?;
    fence(Ordering::SeqCst);
    if !queue.event_idx_enabled() {
        return Ok(true);
    }
    // The driver's used_event follows the ring of available chains. It asks for the interrupt when that element is used.
    let offset = 4 + 2 * u64::from(queue.size());
    let at = GuestAddress(queue.avail_ring()).checked_add(offset).ok_or_else(overflow)?;
    let event = u16::from_le(rings.load(at, Ordering::Relaxed).map_err(virtio_queue::Error::GuestMemory)?);
    Ok(event.wrapping_sub(first) < queue.next_used().wrapping_sub(first))
}

/// Walks `chain`, which has to be finite, orderly and of at most `most` bytes, and hands over `each` descriptor.
fn walk(
    chain: DescriptorChain<&DmaPort>,
    queue_size: u16,
    most: u64,
    mut each: impl FnMut(Descriptor),
) -> Result<(), Malformed> {
    let mut bytes = 0;
    let mut last = None;
    for (count, descriptor) in chain.enumerate() {
        bytes += u64::from(descriptor.len());
        if count >= usize::from(queue_size) || bytes > most {
            return Err(Malformed::TooLong);
        }
        let writable = descriptor.is_write_only();
        if last.is_some_and(|(was_writable, _)| was_writable && !writable) {
            return Err(Malformed::Order);
        }
        last = Some((writable, descriptor.has_next()));
        each(descriptor);
    }
    match last {
        Some((_, false)) => Ok(()),
        // The iterator ends early at whatever it cannot follow.
        _ => Err(Malformed::Endless),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        thread,
        time::{Duration, Instant},
    };

    use vm_memory::GuestMemoryMmap;

    use super::*;
    use crate::virtio::testing::{INDIRECT, NEXT, describe_at};

    /// A second vCPU of the driver replaces a short indirect table by one of 32 MiB, and back.
    #[test]
    fn a_chain_that_changes_meanwhile_keeps_its_limit() {
        const PART: u32 = 4 << 20;
        const TABLE: u32 = 0x1000;
        const AVAIL: u32 = 0x2000;
        const USED: u32 = 0x4000;
        const SHORT: u64 = 0x1_0000;
        const LONG: u64 = 0x1_1000;
        let table = u64::from(TABLE);
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
        let port = DmaPort::unrestricted(ram);
        describe_at(&port, SHORT, 0x10_0000, 16, 0, 0);
        for part in 0..8 {
            let flags = if part < 7 { NEXT } else { 0 };
            describe_at(&port, LONG + 16 * u64::from(part), 0x10_0000, PART, flags, part + 1);
        }
        describe_at(&port, table, SHORT, 128, INDIRECT, 0);
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    for indirect in [LONG, SHORT] {
                        port.write_obj(indirect, GuestAddress(table)).unwrap();
                        (0..50).for_each(|_| std::hint::spin_loop());
                    }
                }
            });
            let (mut taken, begun) = (0, Instant::now());
            while taken < 2000 && begun.elapsed() < Duration::from_secs(20) {
                let mut queue = Queue::new(16).unwrap();
                queue.set_desc_table_address(Some(TABLE), None);
                queue.set_avail_ring_address(Some(AVAIL), None);
                queue.set_used_ring_address(Some(USED), None);
                queue.set_ready(true);
                port.write_obj(1_u16, GuestAddress(u64::from(AVAIL) + 2)).unwrap();
                let (faults, mut queues) = (FaultHandle::none(), [queue]);
                let mut queues = Queues::new(&mut queues, &port, &port, true, &faults);
                // The long chain is refused; the short one, or one that changed to be short, is taken.
                let Ok(Some(chain)) = queues.pop(0) else { continue };
                let bytes = chain.reader.available_bytes() + chain.writer.available_bytes();
                assert!(bytes as u64 <= MAX_CHAIN_BYTES, "a chain of {bytes} bytes");
                taken += 1;
            }
            ended.store(true, Ordering::Relaxed);
        });
    }
}
