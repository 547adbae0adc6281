//! The console device (virtio 1.2, section 5.3): a terminal and named ports.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    sync::Arc,
};

use tracing::{debug, warn};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use vmm_sys_util::eventfd::EventFd;

use super::{
    device::VirtioDevice,
    platform,
    queue::{QueueError, Queues},
};
use crate::platform::{Node, Resources, Specification};

mod host;
#[cfg(test)]
mod tests;

pub use host::ConsoleHandle;
use host::Shared;

/// Where a port's output goes.
///
/// It is written on the event loop's thread. One that blocks stalls the virtio devices and a guest that waits for
/// them; one that fails, also with `WouldBlock`, is reported and the port's further output is lost.
pub trait Sink: Write + Send {
    /// Whether it takes more output now. If not, output waits in the guest, and
    /// [`ConsoleHandle::resume_output`] must be called when there is room again.
    fn has_room(&mut self) -> bool {
        true
    }
}

impl Sink for io::Sink {}

impl Sink for io::PipeWriter {}

const QUEUE_SIZE: u16 = 128;
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;

/// How much is handed to a sink at once, in bytes.
const CHUNK: usize = 64 << 10;

const F_SIZE: u64 = 1 << 0;
const F_MULTIPORT: u64 = 1 << 1;

// What the driver says, and PORT_OPEN also the device (VIRTIO_CONSOLE_*).
const DEVICE_READY: u16 = 0;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;

/// What the device says of a port, in the order in which it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Add,
    Console,
    Name,
    Open,
    Resize,
    Close,
}

impl Message {
    /// Its number (`VIRTIO_CONSOLE_*`).
    fn event(self) -> u16 {
        match self {
            Message::Add => 1,
            Message::Console => 4,
            Message::Resize => 5,
            Message::Open | Message::Close => PORT_OPEN,
            Message::Name => 7,
        }
    }
}

struct Port {
    /// The name by which the guest finds it; none for the terminal.
    name: Option<String>,
    /// None when it broke.
    sink: Option<Box<dyn Sink>>,
    /// The driver knows it.
    ready: bool,
    /// The driver was told that the host has closed it.
    ended: bool,
}

impl Port {
    fn has_room(&mut self) -> bool {
        self.sink.as_mut().is_none_or(|sink| sink.has_room())
    }

    fn output(&mut self, act: impl FnOnce(&mut dyn Sink) -> io::Result<()>) {
        if let Some(sink) = &mut self.sink
            && let Err(error) = act(&mut **sink)
        {
            let name = self.name.as_deref().unwrap_or("the terminal");
            warn!("what the guest sends to {name} is lost from now on, as it cannot be written: {error}");
            self.sink = None;
        }
    }
}

/// The console of a machine, which builds it itself: its ports lead to the machine's own streams.
#[derive(Debug)]
pub struct ConsoleSpec;

impl Specification for ConsoleSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

/// The console device.
pub struct Console {
    ports: Vec<Port>,
    shared: Arc<Shared>,
    /// What the driver was told last: columns and rows.
    size: (u16, u16),
    /// The pending messages. It is a set, so that a driver that repeats a request without reading cannot enlarge it.
    pending: BTreeSet<(usize, Message)>,
    chunk: Box<[u8]>,
}

impl Console {
    /// A device whose port 0 is the `terminal` and whose ports 1 and on are `named`, each with the place for its
    /// output. A driver that knows only one port sees the terminal alone.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn new(terminal: Box<dyn Sink>, named: Vec<(String, Box<dyn Sink>)>) -> io::Result<Self> {
        let named = named.into_iter().map(|(name, sink)| (Some(name), sink));
        let ports: Vec<_> = std::iter::once((None, terminal))
            .chain(named)
            .map(|(name, sink)| Port { name, sink: Some(sink), ready: false, ended: false })
            .collect();
        Ok(Self {
            shared: Arc::new(Shared::new(ports.len())?),
            ports,
            size: (0, 0),
            pending: BTreeSet::new(),
            chunk: vec![0; CHUNK].into(),
        })
    }

    /// The host's side of the device.
    pub fn handle(&self) -> ConsoleHandle {
        ConsoleHandle(self.shared.clone())
    }

    /// Sends input to the guest while it has buffers.
    fn send_input(&mut self, port: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let index = input_queue(port);
        self.shared.feed(port, |input| {
            while !input.is_empty() {
                let Some(mut chain) = queues.pop(index)? else { break };
                match chain.writer.write(input.make_contiguous()) {
                    Ok(written @ 1..) => drop(input.drain(..written)),
                    _ => return Err(queues.too_small(index, 1)),
                }
                queues.push(index, &chain)?;
            }
            Ok(())
        })
    }

    /// Guest to host.
    fn receive_output(&mut self, port: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let (index, port) = (output_queue(port), &mut self.ports[port]);
        while port.has_room() {
            let Some(mut chain) = queues.pop(index)? else { break };
            while let Ok(len @ 1..) = chain.reader.read(&mut self.chunk) {
                port.output(|sink| sink.write_all(&self.chunk[..len]));
            }
            queues.push(index, &chain)?;
        }
        port.output(|sink| sink.flush());
        Ok(())
    }

    fn receive_control(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(mut chain) = queues.pop(CONTROL_OUT)? {
            let mut message = [0; 8];
            // What is shorter says nothing.
            if chain.reader.read_exact(&mut message).is_ok() {
                let [a, b, c, d, event_low, event_high, value_low, value_high] = message;
                self.heed(
                    u32::from_le_bytes([a, b, c, d]),
                    u16::from_le_bytes([event_low, event_high]),
                    u16::from_le_bytes([value_low, value_high]),
                );
            }
            queues.push(CONTROL_OUT, &chain)?;
        }
        Ok(())
    }

    fn heed(&mut self, id: u32, event: u16, value: u16) {
        if (event, value) == (DEVICE_READY, 1) {
            self.pending.extend((0..self.ports.len()).map(|port| (port, Message::Add)));
            return;
        }
        let index = usize::try_from(id).unwrap_or(usize::MAX);
        let Some(port) = self.ports.get_mut(index) else {
            debug!("the guest's console driver speaks of port {id}, which does not exist");
            return;
        };
        match (event, value) {
            (PORT_READY, 1) => {
                port.ready = true;
                port.ended = false;
                let kind = if port.name.is_some() { Message::Name } else { Message::Console };
                self.pending.extend([(index, kind), (index, Message::Open)]);
                if index == 0 && self.size != (0, 0) {
                    self.pending.insert((0, Message::Resize));
                }
            }
            (PORT_OPEN, 0 | 1) => self.shared.set_open(index, value == 1),
            _ => debug!("the guest's console driver sent the unknown control event {event}, value {value}"),
        }
    }

    /// Prepares the word that the host has closed a port, for ports whose input the guest has taken. Linux's driver reads what
    /// is still in its buffers, and then the end of the stream (port_fops_read in drivers/char/virtio_console.c).
    fn announce_ends(&mut self) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            if port.ready && !port.ended && self.shared.has_ended(index) {
                port.ended = true;
                self.pending.insert((index, Message::Close));
            }
        }
    }

    fn send_control(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(&(port, message)) = self.pending.first() {
            let Some(mut chain) = queues.pop(CONTROL_IN)? else { break };
            let bytes = self.encode(port, message);
            chain.writer.write_all(&bytes).map_err(|_| queues.too_small(CONTROL_IN, bytes.len()))?;
            queues.push(CONTROL_IN, &chain)?;
            self.pending.remove(&(port, message));
        }
        Ok(())
    }

    fn encode(&self, port: usize, message: Message) -> Vec<u8> {
        let id = u32::try_from(port).expect("queue indices are 32 bits wide, and every port has two");
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend(message.event().to_le_bytes());
        bytes.extend(u16::from(message != Message::Close).to_le_bytes());
        match message {
            Message::Name => bytes.extend(self.ports[port].name.iter().flat_map(|name| name.bytes())),
            // Columns first, as in the specification; Linux read them the other way round before 2025.
            Message::Resize => bytes.extend(self.encoded_size()),
            Message::Add | Message::Console | Message::Open | Message::Close => {}
        }
        bytes
    }

    fn encoded_size(&self) -> impl Iterator<Item = u8> {
        [self.size.0, self.size.1].into_iter().flat_map(u16::to_le_bytes)
    }
}

fn input_queue(port: usize) -> usize {
    if port == 0 { 0 } else { 2 + 2 * port }
}

fn output_queue(port: usize) -> usize {
    input_queue(port) + 1
}

/// The port that a queue belongs to, unless it is a control queue.
fn port_of(queue: usize) -> usize {
    (queue / 2).saturating_sub(1)
}

impl VirtioDevice for Console {
    fn id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2 * (self.ports.len() + 1)]
    }

    fn features(&self) -> u64 {
        F_SIZE | F_MULTIPORT
    }

    fn config(&self) -> Vec<u8> {
        let ports = u32::try_from(self.ports.len()).unwrap_or(u32::MAX);
        self.encoded_size().chain(ports.to_le_bytes()).collect()
    }

    fn start(&mut self, features: u64) {
        self.shared.set_driven(true);
        // Without the feature there is no message that opens the terminal.
        if features & F_MULTIPORT == 0 {
            self.shared.set_open(0, true);
        }
    }

    fn reset(&mut self) {
        self.shared.set_driven(false);
        self.pending.clear();
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.ready = false;
            port.ended = false;
            self.shared.set_open(index, false);
        }
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        match index {
            CONTROL_IN => self.send_control(queues),
            CONTROL_OUT => {
                self.receive_control(queues)?;
                self.announce_ends();
                self.send_control(queues)
            }
            _ if index.is_multiple_of(2) => {
                self.send_input(port_of(index), queues)?;
                self.announce_ends();
                self.send_control(queues)
            }
            _ => self.receive_output(port_of(index), queues),
        }
    }

    fn host_event(&self) -> Option<&EventFd> {
        Some(self.shared.wake())
    }

    fn process_host_event(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let size = self.shared.size();
        if size != self.size {
            self.size = size;
            queues.config_changed();
            if self.ports[0].ready {
                self.pending.insert((0, Message::Resize));
            }
        }
        for port in 0..self.ports.len() {
            self.send_input(port, queues)?;
            // A sink may have room again, or the last pass took its share.
            self.receive_output(port, queues)?;
        }
        self.announce_ends();
        self.send_control(queues)
    }
}
