//! The network device: moves frames between its queues and its link.

use std::{
    io, mem,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
};

use virtio_bindings::{
    virtio_ids::VIRTIO_ID_NET,
    virtio_net::{
        VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
    },
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::{
    link::{FRAME_MAX, FRAME_MIN, HEADER, Link, Sent},
    passt::Passt,
    stream::Stream,
};
use crate::{
    platform::Counters,
    virtio::{
        VirtioDevice,
        queue::{QueueError, Queues},
        request::Request,
    },
};

pub(super) const RECEIVE: usize = 0;
pub(super) const TRANSMIT: usize = 1;

pub(super) const QUEUE_SIZE: u16 = 256;

/// How many frames a pass drops before it lets others have the device.
pub(super) const DROPS: usize = 256;

/// The longest frame of Ethernet, without its check sequence. The guest sends longer ones for the host to segment (VIRTIO_NET_F_HOST_TSO4).
const ETHERNET_MAX: usize = 1514;

/// The names of a network device's counters. Among the sent frames, `long_frames_sent` are longer than those of Ethernet.
pub(super) const COUNTERS: [&str; 7] = [
    "frames_received",
    "bytes_received",
    "receive_drops",
    "frames_sent",
    "bytes_sent",
    "send_drops",
    "long_frames_sent",
];

/// A frame with its header, on its way.
struct Frame {
    bytes: Box<[u8]>,
    /// Its length; 0 for no frame.
    length: usize,
}

impl Frame {
    fn none() -> Self {
        Self { bytes: vec![0; HEADER + FRAME_MAX].into(), length: 0 }
    }

    fn is_some(&self) -> bool {
        self.length > 0
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The network device.
pub struct Net {
    /// None when it is broken.
    link: Option<Box<dyn Link>>,
    /// The program behind it. It comes after the link, and so ends by the end of its socket.
    passt: Option<Passt>,
    /// The features of the link, as drivers see them also after it broke.
    features: u64,
    mtu: u16,
    mac: [u8; 6],
    /// It is readable when the link is ready for what the device wants of it.
    poll: Epoll,
    /// What the device wants.
    interest: EventSet,
    /// The features that the driver chose, until the link knows them.
    chosen: Option<u64>,
    /// The guest has a driver.
    is_driven: bool,
    /// The driver takes a frame in several buffers.
    merges: bool,
    /// A frame for the guest.
    incoming: Frame,
    /// The buffers for it.
    gathered: Vec<Request>,
    /// A frame for the host.
    outgoing: Frame,
    counters: [u64; COUNTERS.len()],
}

impl Net {
    /// A device whose frames go to the peer of a stream socket, each behind its length in four bytes, big-endian.
    ///
    /// # Errors
    /// If the host refuses a file descriptor.
    pub fn on_stream(socket: UnixStream, mac: [u8; 6]) -> io::Result<Self> {
        Self::new(Box::new(Stream::new(socket)?), mac, None, None)
    }

    /// A device on this link. `passt` is the program behind it.
    ///
    /// # Errors
    /// If the host refuses a file descriptor.
    pub(super) fn new(
        link: Box<dyn Link>,
        mac: [u8; 6],
        mtu: Option<u16>,
        passt: Option<Passt>,
    ) -> io::Result<Self> {
        let poll = Epoll::new()?;
        let interest = EventSet::IN;
        poll.ctl(ControlOperation::Add, link.fd(), EpollEvent::new(interest, 0))?;
        let features = link.features()
            | [VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS]
                .iter()
                .fold(0, |all, feature| all | 1 << feature);
        Ok(Self {
            features,
            mtu: mtu.unwrap_or(link.mtu()),
            link: Some(link),
            passt,
            mac,
            poll,
            interest,
            chosen: None,
            is_driven: false,
            merges: false,
            incoming: Frame::none(),
            gathered: Vec::new(),
            outgoing: Frame::none(),
            counters: [0; COUNTERS.len()],
        })
    }

    /// Counts a frame of `length` bytes, and whether it was dropped, among the counters from `first` on.
    fn count(&mut self, first: usize, length: usize, is_dropped: bool) {
        if is_dropped {
            self.counters[first + 2] += 1;
        } else {
            self.counters[first] += 1;
            self.counters[first + 1] += length.saturating_sub(HEADER) as u64;
        }
    }

    /// Moves frames in both directions.
    fn process(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let result = self.receive(queues).and_then(|()| self.transmit(queues));
        if let Err(error) = self.watch() {
            self.lose(&error, queues);
        }
        result
    }

    /// Host to guest.
    fn receive(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let mut dropped = 0;
        while dropped < DROPS {
            if !self.incoming.is_some() {
                let Some(link) = &mut self.link else { return Ok(()) };
                let chosen = self.chosen.take();
                let agreed = chosen.map_or(Ok(()), |features| link.agree(features));
                match agreed.and_then(|()| link.receive(&mut self.incoming.bytes)) {
                    Ok(Some(length)) => self.incoming.length = length,
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        self.lose(&error, queues);
                        return Ok(());
                    }
                }
            }
            let is_dropped = if self.is_driven {
                let Some(is_delivered) = self.deliver(queues)? else { return Ok(()) };
                !is_delivered
            } else {
                true
            };
            let length = mem::take(&mut self.incoming.length);
            self.count(0, length, is_dropped);
            dropped += usize::from(is_dropped);
        }
        queues.come_again();
        Ok(())
    }

    /// Puts the frame into buffers of the driver: whether it fits, or none if there are too few buffers now.
    fn deliver(&mut self, queues: &mut Queues<'_>) -> Result<Option<bool>, QueueError> {
        let mut room: u64 = self.gathered.iter().map(|request| request.writable.left()).sum();
        while room < self.incoming.length as u64 && (self.merges || self.gathered.is_empty()) {
            let Some(request) = queues.pop_request(RECEIVE)? else { return Ok(None) };
            let left = request.writable.left();
            // A driver whose buffers are that small could have the device gather them for ever.
            let least = if self.gathered.is_empty() { HEADER } else { FRAME_MAX / usize::from(QUEUE_SIZE) };
            if left < least as u64 {
                return Err(queues.too_small(RECEIVE, least));
            }
            room += left;
            self.gathered.push(request);
        }
        if room < self.incoming.length as u64 {
            return Ok(Some(false));
        }
        let count = u16::try_from(self.gathered.len()).unwrap_or(u16::MAX);
        self.incoming.bytes[HEADER - 2..HEADER].copy_from_slice(&count.to_le_bytes());
        let mut rest = self.incoming.bytes();
        for request in &mut self.gathered {
            // Memory that a plan of faults took away stays as it was.
            let length =
                usize::try_from(request.writable.left()).map_or(rest.len(), |left| left.min(rest.len()));
            let _ = request.writable.write(queues.memory(), &rest[..length]);
            rest = &rest[length..];
        }
        queues.push_requests(RECEIVE, &self.gathered)?;
        self.gathered.clear();
        Ok(Some(true))
    }

    /// Guest to host.
    fn transmit(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        loop {
            if self.outgoing.is_some() {
                let sent = match &mut self.link {
                    Some(link) => link.send(self.outgoing.bytes()),
                    None => Ok(Sent::Dropped),
                };
                match sent {
                    Ok(Sent::Later) => break,
                    Ok(sent) => {
                        let length = mem::take(&mut self.outgoing.length);
                        self.count(3, length, sent == Sent::Dropped);
                        self.counters[6] +=
                            u64::from(sent != Sent::Dropped && length > HEADER + ETHERNET_MAX);
                    }
                    Err(error) => self.lose(&error, queues),
                }
                continue;
            }
            let Some(mut chain) = queues.pop(TRANSMIT)? else { break };
            let length = chain.reader.available_bytes();
            let is_frame = (HEADER + FRAME_MIN..=HEADER + FRAME_MAX).contains(&length);
            let bytes = &mut self.outgoing.bytes[..if is_frame { length } else { 0 }];
            if is_frame && io::Read::read_exact(&mut chain.reader, bytes).is_ok() {
                self.outgoing.length = length;
            } else {
                self.count(3, 0, true);
            }
            queues.push(TRANSMIT, &chain)?;
        }
        if let Some(link) = &mut self.link
            && let Err(error) = link.flush()
        {
            self.lose(&error, queues);
        }
        Ok(())
    }

    /// The link is broken: the guest is told, and frames are dropped from now on.
    fn lose(&mut self, error: &io::Error, queues: &mut Queues<'_>) {
        let has_ended = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        );
        let ending = if has_ended { self.passt.as_mut().and_then(Passt::ending) } else { None };
        let why = match ending {
            Some(ending) => format!("passt has ended {ending}"),
            None if has_ended => "its program on the host has ended".to_owned(),
            None => error.to_string(),
        };
        tracing::warn!("the guest's network link is down: {why}");
        self.link = None;
        queues.config_changed();
    }

    /// Watches the link for what the device wants of it now.
    fn watch(&mut self) -> io::Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let mut interest = EventSet::empty();
        interest.set(EventSet::IN, !self.incoming.is_some());
        interest.set(EventSet::OUT, self.outgoing.is_some() || link.is_waiting());
        // A descriptor whose peer has ended would be ready all the time, also for a device that wants nothing of it.
        let change = match (self.interest.is_empty(), interest.is_empty()) {
            _ if interest == self.interest => return Ok(()),
            (true, _) => ControlOperation::Add,
            (_, true) => ControlOperation::Delete,
            _ => ControlOperation::Modify,
        };
        self.interest = interest;
        self.poll.ctl(change, link.fd(), EpollEvent::new(interest, 0))
    }
}

impl VirtioDevice for Net {
    fn id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn features(&self) -> u64 {
        self.features
    }

    /// struct virtio_net_config.
    fn config(&self) -> Vec<u8> {
        let status = if self.link.is_some() { VIRTIO_NET_S_LINK_UP } else { 0 };
        let mut config = self.mac.to_vec();
        // The status, the number of pairs of queues, the MTU.
        config.extend([u16::try_from(status).unwrap_or(0), 1, self.mtu].map(u16::to_le_bytes).concat());
        config
    }

    fn start(&mut self, features: u64) {
        self.is_driven = true;
        self.merges = features & 1 << VIRTIO_NET_F_MRG_RXBUF != 0;
        self.chosen = Some(features);
    }

    fn reset(&mut self) {
        self.is_driven = false;
        self.incoming.length = 0;
        self.outgoing.length = 0;
        self.gathered.clear();
    }

    fn process_queue(&mut self, _index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        self.process(queues)
    }

    fn host_poll(&self) -> Option<RawFd> {
        Some(self.poll.as_raw_fd())
    }

    fn process_host_event(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        self.process(queues)
    }

    fn counters(&self) -> Counters {
        COUNTERS.into_iter().zip(self.counters).collect()
    }
}
