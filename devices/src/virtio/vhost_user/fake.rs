//! A backend for tests. It answers each request with the bytes that it reads, or breaks the protocol on purpose.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::FromRawFd as _, unix::net::UnixStream},
};

use rustix::event::{PollFd, PollFlags, poll};
use virtio_queue::{Queue, QueueOwnedT as _, QueueT as _};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::sock_ctrl_msg::ScmSocket as _;

/// Numbers of requests.
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const GET_VRING_BASE: u32 = 11;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ERR: u32 = 14;

/// What it does at a request instead of the right thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It never answers.
    Silence,
    /// It closes the connection.
    End,
    /// It answers with other bytes.
    Garbage,
    /// It reports an error.
    Refusal,
    /// It says something more.
    Talk,
    /// It reports an error of a queue.
    QueueError,
}

/// A backend.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) features: u64,
    pub(crate) protocol_features: u64,
    pub(crate) queues: u64,
    pub(crate) config: Vec<u8>,
    /// The request at which something goes wrong.
    pub(crate) wrong: Option<(u32, Wrong)>,
}

impl Default for Fake {
    /// All features; MQ, REPLY_ACK and CONFIG.
    fn default() -> Self {
        Self {
            features: u64::MAX,
            protocol_features: 1 | 1 << 3 | 1 << 9,
            queues: 64,
            config: (0..=255).collect(),
            wrong: None,
        }
    }
}

/// A ring as the front end described it.
#[derive(Default)]
struct Ring {
    queue: Option<Queue>,
    size: u16,
    /// The addresses in the front end: of the descriptors, of the used and of the available ring.
    addresses: [u64; 3],
    kick: Option<File>,
    call: Option<File>,
    error: Option<File>,
}

struct State {
    memory: GuestMemoryMmap,
    /// The address in guest memory, the size, and the address in the front end.
    regions: Vec<[u64; 3]>,
    rings: Vec<Ring>,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Fake {
    /// Serves the front end until it closes the connection.
    pub(crate) fn serve(&self, mut socket: UnixStream) {
        let mut state = State {
            memory: GuestMemoryMmap::default(),
            regions: Vec::new(),
            rings: (0..64).map(|_| Ring::default()).collect(),
        };
        loop {
            let mut descriptors = vec![PollFd::new(&socket, PollFlags::IN)];
            let kicks = state.rings.iter().filter_map(|ring| ring.kick.as_ref());
            descriptors.extend(kicks.map(|kick| PollFd::new(kick, PollFlags::IN)));
            poll(&mut descriptors, None).unwrap();
            let is_asked = !descriptors[0].revents().is_empty();
            state.process();
            if is_asked && self.answer(&mut socket, &mut state).is_none() {
                return;
            }
        }
    }

    /// Reads a request and answers it; none at the end.
    fn answer(&self, socket: &mut UnixStream, state: &mut State) -> Option<()> {
        let mut header = [0_u8; 12];
        let mut fds = [0; 16];
        let mut parts = [libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() }];
        // SAFETY: the part describes the header, which outlives the call.
        let (count, fd_count) = unsafe { socket.recv_with_fds(&mut parts, &mut fds) }.ok()?;
        if count != header.len() {
            return None;
        }
        // SAFETY: the descriptors were just received, and nothing else owns them.
        let mut files = fds[..fd_count].iter().map(|fd| unsafe { File::from_raw_fd(*fd) });
        let [request, flags, size] = [0, 4, 8].map(|at| number(&header[at..at + 4]));
        let mut body = vec![0; usize::try_from(size).ok()?];
        socket.read_exact(&mut body).ok()?;
        let request = u32::try_from(request).ok()?;
        let index = usize::try_from(number(&body[..body.len().min(4)]) & 0xff).ok()?;
        let value = |at: usize, length: usize| number(&body[at..at + length]);
        let mut reply = None;
        match request {
            1 => reply = Some(self.features.to_le_bytes().to_vec()),
            15 => reply = Some(self.protocol_features.to_le_bytes().to_vec()),
            17 => reply = Some(self.queues.to_le_bytes().to_vec()),
            5 => {
                let region = |at: usize| [8, 16, 24, 32].map(|field| value(at * 32 + field, 8));
                let regions: Vec<_> = (0..usize::try_from(value(0, 4)).ok()?).map(region).collect();
                let ranges = regions.iter().zip(files.by_ref()).map(|([address, size, _, offset], file)| {
                    let size = usize::try_from(*size).unwrap();
                    (GuestAddress(*address), size, Some(FileOffset::new(file, *offset)))
                });
                state.memory = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
                state.regions =
                    regions.iter().map(|[address, size, user, _]| [*address, *size, *user]).collect();
            }
            8 => state.rings[index].size = u16::try_from(value(4, 4)).ok()?,
            9 => state.rings[index].addresses = [8, 16, 24].map(|field| value(field, 8)),
            GET_VRING_BASE => {
                let ring = &mut state.rings[index];
                let base = ring.queue.take().map_or(0, |queue| queue.next_avail());
                ring.kick = None;
                reply = Some([u32::try_from(index).ok()?, base.into()].map(u32::to_le_bytes).concat());
            }
            SET_VRING_CALL => state.rings[index].call = files.next(),
            SET_VRING_ERR => state.rings[index].error = files.next(),
            SET_VRING_KICK => {
                state.rings[index].kick = files.next();
                state.start(index);
            }
            24 => {
                let (offset, size) = (usize::try_from(value(0, 4)).ok()?, usize::try_from(value(4, 4)).ok()?);
                reply = Some([&body[..12], self.config.get(offset..offset + size)?].concat());
            }
            _ => {}
        }
        drop(files);
        if reply.is_none() && flags & 8 != 0 {
            reply = Some(vec![0; 8]);
        }
        let mut messages = Vec::new();
        if let Some(reply) = reply {
            messages.push((5, reply));
        }
        match self.wrong.filter(|(at, _)| *at == request).map(|(_, wrong)| wrong) {
            None => {}
            Some(Wrong::Silence) => messages.clear(),
            Some(Wrong::End) => return None,
            Some(Wrong::Garbage) => messages = vec![(0xffff_ffff, vec![0xff; 100])],
            Some(Wrong::Refusal) => messages = vec![(5, 1_u64.to_le_bytes().to_vec())],
            Some(Wrong::Talk) => messages.push((5, vec![0; 8])),
            Some(Wrong::QueueError) => {
                let error = state.rings.iter().find_map(|ring| ring.error.as_ref());
                error.unwrap().write_all(&1_u64.to_le_bytes()).unwrap();
            }
        }
        for (flags, body) in messages {
            let header = [request, flags, u32::try_from(body.len()).ok()?].map(u32::to_le_bytes).concat();
            socket.write_all(&[header, body].concat()).ok()?;
        }
        Some(())
    }
}

impl State {
    /// The address in guest memory of an address of the front end.
    fn translate(&self, user: u64) -> u64 {
        let region = self.regions.iter().find(|[_, size, start]| (*start..*start + size).contains(&user));
        let [address, _, start] = region.expect("the address is in guest memory");
        user - start + address
    }

    fn start(&mut self, index: usize) {
        let [descriptors, used, available] =
            self.rings[index].addresses.map(|address| GuestAddress(self.translate(address)));
        let ring = &mut self.rings[index];
        let mut queue = Queue::new(1024).unwrap();
        queue.set_size(ring.size);
        queue.try_set_desc_table_address(descriptors).unwrap();
        queue.try_set_used_ring_address(used).unwrap();
        queue.try_set_avail_ring_address(available).unwrap();
        queue.set_ready(true);
        ring.queue = Some(queue);
    }

    /// Answers what is in the rings.
    fn process(&mut self) {
        for ring in &mut self.rings {
            let (Some(queue), Some(mut kick)) = (&mut ring.queue, ring.kick.as_ref()) else { continue };
            // EAGAIN without a notification.
            let _ = kick.read(&mut [0; 8]);
            let mut is_used = false;
            while let Some(chain) = queue.iter(&self.memory).ok().and_then(|mut chains| chains.next()) {
                let head = chain.head_index();
                let mut bytes = Vec::new();
                chain.clone().reader(&self.memory).unwrap().read_to_end(&mut bytes).unwrap();
                let written = chain.writer(&self.memory).unwrap().write(&bytes).unwrap();
                queue.add_used(&self.memory, head, u32::try_from(written).unwrap()).unwrap();
                is_used = true;
            }
            if is_used && let Some(mut call) = ring.call.as_ref() {
                call.write_all(&1_u64.to_le_bytes()).unwrap();
            }
        }
    }
}
