//! The balloon device: what the driver says in its queues, and the configuration space.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
    time::Duration,
};

use rustix::fs::{OFlags, fcntl_setfl};
use tracing::warn;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_queue::{Queue, QueueT as _};
use vmm_sys_util::timerfd::TimerFd;

use super::{
    pages::{PAGE, Pages, runs},
    size,
    statistics::{self, Statistics},
};
use crate::{
    dma::DmaPort,
    platform::{Counters, unchangeable},
    virtio::{
        VirtioDevice,
        queue::{QueueError, Queues},
        request::Request,
    },
};

/// Pages that the driver puts into the balloon.
pub(super) const INFLATE: usize = 0;
/// Pages that the driver takes out.
pub(super) const DEFLATE: usize = 1;
/// Statistics of memory, if that is agreed on.
pub(super) const STATISTICS: usize = 2;
/// Free pages that are in no balloon, if that is agreed on (virtio 1.2, section 5.5.2).
pub(super) const REPORTING: usize = 4;
/// The number of queues.
const QUEUES: usize = 5;
/// Linux reports up to 32 blocks at a time (PAGE_REPORTING_CAPACITY).
pub(super) const QUEUE_SIZE: u16 = 128;

/// The features (virtio 1.2, section 5.5.3), as bits.
pub(super) mod feature {
    pub(in super::super) const STATISTICS: u64 = 1 << 1;
    pub(in super::super) const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub(in super::super) const PAGE_POISON: u64 = 1 << 4;
    pub(in super::super) const REPORTING: u64 = 1 << 5;
}

/// The names of its counters.
pub(super) const COUNTERS: [&str; 9] = [
    "inflated",
    "deflated",
    "reported",
    "refused",
    "statistics",
    "swapped_in",
    "swapped_out",
    "major_faults",
    "minor_faults",
];

/// The page numbers that are read at a time. Linux has 256 in a request (VIRTIO_BALLOON_ARRAY_PFNS_MAX).
const PIECE: usize = 1024;
/// The most memory that goes back in one call of the host's kernel, in bytes.
const MOST: u64 = 16 << 20;
/// What a pass may do before other work has its turn, in bytes that go back.
pub(super) const SHARE: u64 = 16 << 20;
/// What a call of the host's kernel, or a piece of a request, costs beside its bytes.
const CALL: u64 = 16 << 10;

/// What the user chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The size that the host asks for, in bytes: whole pages of 4 KiB, less than 2^32 of them.
    pub size: u64,
    /// Whether the guest takes pages back before it kills a program.
    pub deflates_on_oom: bool,
    /// Whether the guest reports free pages.
    pub reports: bool,
    /// The seconds from one report of statistics to the next; 0: the guest sends one at its start.
    pub interval: u32,
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Inflate,
    Deflate,
    Statistics,
    Report,
    /// Its feature is not agreed on.
    Nothing,
}

/// The configuration space (virtio 1.2, section 5.5.4).
#[derive(Debug, Default)]
struct Config {
    /// The pages that the host asks for.
    target: u32,
    /// The pages that the driver says are in the balloon.
    actual: [u8; 4],
    /// What the driver expects in free pages.
    poison: [u8; 4],
}

impl Config {
    const ACTUAL: u64 = 4;
    const POISON: u64 = 12;

    fn bytes(&self) -> Vec<u8> {
        // The third field is for the migration of machines.
        [self.target.to_le_bytes(), self.actual, [0; 4], self.poison].concat()
    }

    /// Takes what the driver writes to its two fields, byte by byte.
    fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            for (start, field) in [(Self::ACTUAL, &mut self.actual), (Self::POISON, &mut self.poison)] {
                let place = at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
                if let Some(place) = place.and_then(|place| field.get_mut(place)) {
                    *place = *byte;
                }
            }
        }
    }
}

/// What the device did, in pages of 4 KiB.
#[derive(Debug, Default)]
struct Done {
    inflated: u64,
    deflated: u64,
    reported: u64,
    /// Pages that are no RAM, and requests that cannot be read.
    refused: u64,
}

/// The balloon device.
pub struct Balloon {
    options: Options,
    /// The guest's memory, in bytes.
    ram: u64,
    config: Config,
    /// What both sides agreed on.
    features: u64,
    /// Whether the driver has set up the queue [`REPORTING`].
    has_fifth_queue: bool,
    /// The pages in the balloon.
    pages: Pages,
    /// The request of each queue that a pass did not finish.
    unfinished: [Option<Request>; QUEUES],
    statistics: Statistics,
    /// The driver's buffer for statistics: it sends the next when it has the buffer back.
    buffer: Option<Request>,
    timer: Option<TimerFd>,
    /// The host refused memory, and the log says so.
    is_warned: bool,
    done: Done,
}

impl Balloon {
    /// A balloon that asks a guest with `ram` bytes of memory for what `options` say.
    ///
    /// # Errors
    /// If the host refuses a timer.
    pub fn new(options: Options, ram: u64) -> io::Result<Self> {
        let timer = (options.interval > 0).then(|| timer(options.interval)).transpose()?;
        Ok(Self {
            options,
            ram,
            config: Config { target: pages(options.size), ..Config::default() },
            features: 0,
            has_fifth_queue: false,
            pages: Pages::default(),
            unfinished: [const { None }; QUEUES],
            statistics: Statistics::default(),
            buffer: None,
            timer,
            is_warned: false,
            done: Done::default(),
        })
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// What the queue with this index is for.
    fn work(&self, index: usize) -> Work {
        // Linux numbers the queues of agreed features without gaps (vm_find_vqs in drivers/virtio/virtio_mmio.c), and the
        // specification with gaps.
        let without_gaps = STATISTICS + usize::from(self.has(feature::STATISTICS));
        let reporting = if self.has_fifth_queue { REPORTING } else { without_gaps };
        match index {
            INFLATE => Work::Inflate,
            DEFLATE => Work::Deflate,
            STATISTICS if self.has(feature::STATISTICS) => Work::Statistics,
            _ if index == reporting && self.has(feature::REPORTING) => Work::Report,
            _ => Work::Nothing,
        }
    }

    /// Goes on with a request; true if it is finished. Takes what it costs from `share`.
    fn go_on(&mut self, work: Work, request: &mut Request, memory: &DmaPort, share: &mut u64) -> bool {
        while *share > 0 {
            *share = share.saturating_sub(CALL);
            let is_finished = match work {
                Work::Inflate | Work::Deflate => self.take_numbers(work, request, memory, share),
                Work::Report => self.take_block(request, memory, share),
                Work::Statistics => {
                    self.take_statistics(request, memory);
                    true
                }
                Work::Nothing => true,
            };
            if is_finished {
                return true;
            }
        }
        false
    }

    /// Takes the next page numbers of a request; true if there are none.
    fn take_numbers(&mut self, work: Work, request: &mut Request, memory: &DmaPort, share: &mut u64) -> bool {
        let mut bytes = [0; 4 * PIECE];
        let Ok(length) = request.readable.read(memory, &mut bytes) else {
            self.done.refused += 1;
            return true;
        };
        // A part of a number at the end is left out.
        let numbers = bytes[..length]
            .chunks_exact(4)
            .map(|number| number.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)));
        if work == Work::Deflate {
            self.done.deflated += numbers.filter(|number| self.pages.remove(*number)).map(|_| 1).sum::<u64>();
        } else {
            let is_ram = |number: &u32| memory.check(u64::from(*number) * PAGE, PAGE).is_ok();
            let all = length as u64 / 4;
            let mut numbers: Vec<u32> = numbers.filter(is_ram).collect();
            self.done.refused += all - numbers.len() as u64;
            self.done.inflated +=
                numbers.iter().filter(|number| self.pages.insert(**number)).map(|_| 1).sum::<u64>();
            for run in runs(&mut numbers) {
                self.give_back(memory, run.start, run.end - run.start, share);
            }
        }
        length == 0
    }

    /// Takes the next part of the blocks of free memory in a request; true at the end of the request.
    fn take_block(&mut self, request: &mut Request, memory: &DmaPort, share: &mut u64) -> bool {
        let most = usize::try_from(MOST).unwrap_or(usize::MAX);
        // What the device may not write is not free.
        let Some((address, length)) = request.writable.take(most) else { return true };
        let keeps = self.has(feature::PAGE_POISON) && self.config.poison != [0; 4];
        if !keeps && self.give_back(memory, address.0, length as u64, share) {
            self.done.reported += length as u64 / PAGE;
        }
        false
    }

    /// Gives memory back to the host; false if the host refuses.
    fn give_back(&mut self, memory: &DmaPort, address: u64, length: u64, share: &mut u64) -> bool {
        *share = share.saturating_sub(length + CALL);
        let Err(error) = memory.discard(address, length) else { return true };
        if !std::mem::replace(&mut self.is_warned, true) {
            warn!("the balloon keeps memory: {error}");
        }
        false
    }

    fn take_statistics(&mut self, request: &mut Request, memory: &DmaPort) {
        let mut bytes = [0; statistics::SIZE * statistics::MOST];
        match request.readable.read(memory, &mut bytes) {
            Ok(length) => self.statistics.take(&bytes[..length]),
            Err(_) => self.done.refused += 1,
        }
    }
}

/// The number of pages of a balloon of `size` bytes.
fn pages(size: u64) -> u32 {
    u32::try_from(size / PAGE).unwrap_or(u32::MAX)
}

/// A timer that is readable each `seconds`.
fn timer(seconds: u32) -> io::Result<TimerFd> {
    let mut timer = TimerFd::new()?;
    // Its thread does not wait where there is nothing to read.
    // SAFETY: the timer owns the descriptor, and outlives the call.
    fcntl_setfl(unsafe { BorrowedFd::borrow_raw(timer.as_raw_fd()) }, OFlags::NONBLOCK)?;
    let interval = Duration::from_secs(seconds.into());
    timer.reset(interval, Some(interval))?;
    Ok(timer)
}

impl VirtioDevice for Balloon {
    fn id(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; QUEUES]
    }

    fn features(&self) -> u64 {
        let mut features = feature::STATISTICS | feature::PAGE_POISON;
        for (is_wanted, feature) in [
            (self.options.deflates_on_oom, feature::DEFLATE_ON_OOM),
            (self.options.reports, feature::REPORTING),
        ] {
            features |= if is_wanted { feature } else { 0 };
        }
        features
    }

    fn config(&self) -> Vec<u8> {
        self.config.bytes()
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn hand_over(&mut self, queues: &[Queue]) {
        self.has_fifth_queue = queues.get(REPORTING).is_some_and(Queue::ready);
    }

    fn start(&mut self, features: u64) {
        self.features = features;
        self.is_warned = false;
    }

    /// All pages are the guest's again. Those that went back to the host are memory when they are touched.
    fn reset(&mut self) {
        self.features = 0;
        self.has_fifth_queue = false;
        self.config = Config { target: self.config.target, ..Config::default() };
        self.done.deflated += self.pages.clear();
        self.unfinished = [const { None }; QUEUES];
        self.buffer = None;
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let (work, memory) = (self.work(index), queues.memory());
        let mut share = SHARE;
        loop {
            let unfinished = self.unfinished.get_mut(index).and_then(Option::take);
            let next = match (unfinished, work) {
                (Some(request), _) => Some(request),
                (None, Work::Report) => queues.pop_extents(index)?,
                (None, _) => queues.pop_request(index)?,
            };
            let Some(mut request) = next else { return Ok(()) };
            if !self.go_on(work, &mut request, memory, &mut share) {
                if let Some(place) = self.unfinished.get_mut(index) {
                    *place = Some(request);
                }
                queues.come_again();
                return Ok(());
            }
            if work == Work::Statistics {
                // The driver has one buffer. Any other goes back at once.
                let Some(older) = self.buffer.replace(request) else { continue };
                request = older;
            }
            queues.push_unwritten(index, &request)?;
        }
    }

    fn host_poll(&self) -> Option<RawFd> {
        self.timer.as_ref().map(TimerFd::as_raw_fd)
    }

    /// It is time to ask for statistics: the driver has its buffer back, and fills it again.
    fn process_host_event(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let is_time = self.timer.as_mut().is_some_and(|timer| timer.wait().is_ok());
        match self.buffer.take_if(|_| is_time) {
            Some(buffer) => queues.push_unwritten(STATISTICS, &buffer),
            None => Ok(()),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key != size::KEY {
            return Err(unchangeable(key));
        }
        let size = size::read(value).map_err(|error| error.to_string())?;
        size::check(size, self.ram).map_err(|error| error.to_string())?;
        self.config.target = pages(size);
        Ok(())
    }

    fn counters(&self) -> Counters {
        let Done { inflated, deflated, reported, refused } = self.done;
        let own = [inflated, deflated, reported, refused, self.statistics.reports];
        COUNTERS.into_iter().zip(own.into_iter().chain(self.statistics.counters())).collect()
    }
}
