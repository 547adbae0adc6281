//! The serial port: a 16550 with byte-wide registers, on the MMIO bus.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use vm_superio::serial::{Serial, SerialEvents};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{
    bus::BusDevice,
    irq::IrqLine,
    platform::{Interrupt, Node, PlatformDevice, Region, Resources, Specification, Trigger},
};

/// The size of the device's range, in bytes: eight registers.
pub const SIZE: u64 = 8;

/// The UART's reference clock in hertz: 115200 baud times 16.
const CLOCK: u32 = 1_843_200;

/// The serial port of a machine, which builds it itself: what the guest prints goes to the machine's own log.
#[derive(Debug)]
pub struct SerialSpec;

impl Specification for SerialSpec {
    fn resources(&self) -> Resources {
        Resources {
            regions: vec![Region::unnamed(SIZE.next_multiple_of(0x1000))],
            interrupts: vec![Interrupt::unnamed(Trigger::Edge)],
            ..Resources::default()
        }
    }

    fn node(&self, _id: &str) -> Node {
        Node::new("serial").compatible(&["ns16550a"]).number("clock-frequency", CLOCK)
    }
}

/// The modem control register: its loopback bit cuts the line to the host.
const MCR: u8 = 4;

/// The interrupt enable and the line control register.
const IER: u8 = 1;
const LCR: u8 = 3;

/// Interrupt enable register: received data available.
const IER_RDI: u8 = 1;

/// After the port refused input, tells the sender once when it has room again.
#[derive(Debug)]
struct Room {
    wanted: AtomicBool,
    event: EventFd,
}

impl SerialEvents for Room {
    fn buffer_read(&self) {}

    fn out_byte(&self) {}

    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        if self.wanted.swap(false, Ordering::Relaxed) {
            // The only error is EAGAIN at a full counter, and then the sender is awake.
            let _ = self.event.write(1);
        }
    }
}

/// A 16550 UART whose line is infinitely fast.
pub struct SerialDevice {
    uart: Mutex<Serial<IrqLine, Arc<Room>, Box<dyn Write + Send>>>,
    room: Arc<Room>,
}

impl SerialDevice {
    /// A port that interrupts by `line` and sends what the guest writes to `out`.
    ///
    /// `out` is called on the vCPU thread that writes, with one byte and then a flush, while the guest waits: it
    /// must return at once, as a buffer does that another thread empties. What it refuses is lost.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn new(line: IrqLine, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let room = Arc::new(Room { wanted: AtomicBool::new(false), event: EventFd::new(EFD_NONBLOCK)? });
        Ok(Self { uart: Mutex::new(Serial::with_events(line, room.clone(), out)), room })
    }

    /// Whether the guest has the port open for reading: whether it has enabled the interrupt for received data.
    pub fn is_open(&self) -> bool {
        self.uart().state().interrupt_enable & IER_RDI != 0
    }

    /// Receives `input` from the host, as much of it as there is room for; returns how many bytes were taken.
    /// If not all were, [`room_event`](Self::room_event) tells when to come again.
    pub fn enqueue(&self, input: &[u8]) -> usize {
        let mut uart = self.uart();
        let taken = match &input[..input.len().min(uart.fifo_capacity())] {
            [] => 0,
            // Fails in loopback mode only by taking nothing: the line is cut then.
            fitting => uart.enqueue_raw_bytes(fitting).unwrap_or(0),
        };
        if taken < input.len() {
            self.room.wanted.store(true, Ordering::Relaxed);
        }
        taken
    }

    /// Becomes readable when the guest has emptied the FIFO after [`enqueue`](Self::enqueue) refused something.
    pub fn room_event(&self) -> &EventFd {
        &self.room.event
    }

    fn uart(&self) -> MutexGuard<'_, Serial<IrqLine, Arc<Room>, Box<dyn Write + Send>>> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for SerialDevice {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (Ok(register), [byte]) = (u8::try_from(offset), data) {
            *byte = self.uart().read(register);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(register), [byte]) = (u8::try_from(offset), data) {
            // The sink's error is ignored: a serial line does not report a missing reader.
            let _ = self.uart().write(register, *byte);
            if register == MCR {
                // Input that was refused because the line was cut may come again.
                self.room.in_buffer_empty();
            }
        }
    }
}

impl PlatformDevice for SerialDevice {
    fn load(&self, _region: usize, offset: u64, data: &mut [u8]) {
        BusDevice::read(self, offset, data);
    }

    fn store(&self, _region: usize, offset: u64, data: &[u8]) {
        BusDevice::write(self, offset, data);
    }

    fn reset(&self) {
        // FIFO control, interrupts and modem lines as after power-on (PC16550D, section 8.1, "Reset Configuration").
        for (register, value) in [(IER, 0), (LCR, 0), (MCR, 0)] {
            BusDevice::write(self, register.into(), &[value]);
        }
    }

    fn stop(&self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Registers and bits of the 16550, as Linux' serial_reg.h names them.
    const RX: u64 = 0;
    const TX: u64 = 0;
    const IER: u64 = 1;
    const LSR: u64 = 5;
    const MCR_LOOP: u8 = 0x10;
    const LSR_DR: u8 = 1;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn device() -> (SerialDevice, IrqLine, Sink) {
        let (line, sink) = (IrqLine::new().unwrap(), Sink::default());
        (SerialDevice::new(line.clone(), Box::new(sink.clone())).unwrap(), line, sink)
    }

    fn load(device: &SerialDevice, register: u64) -> u8 {
        let mut data = [0xff];
        device.read(register, &mut data);
        data[0]
    }

    #[test]
    fn output_reaches_the_sink_byte_by_byte() {
        let (device, _, sink) = device();
        for byte in b"hello" {
            device.write(TX, &[*byte]);
        }
        device.write(TX, b"no");
        device.write(0x100, b"n");
        assert_eq!(*sink.0.lock().unwrap(), b"hello");
    }

    #[test]
    fn input_interrupts_and_is_read_in_order() {
        let (device, line, _) = device();
        device.write(IER, &[IER_RDI]);
        assert!(!line.take());
        assert_eq!(device.enqueue(b"ab"), 2);
        assert!(line.take());
        assert_eq!((load(&device, RX), load(&device, RX)), (b'a', b'b'));
        assert_eq!(load(&device, LSR) & LSR_DR, 0);
        assert!(device.room_event().read().is_err(), "nothing was refused");
    }

    #[test]
    fn a_full_fifo_refuses_and_tells_when_there_is_room() {
        let (device, _, _) = device();
        let input = [7; 100];
        let taken = device.enqueue(&input);
        assert!((1..100).contains(&taken));
        assert_eq!(device.enqueue(&input[taken..]), 0);
        for _ in 0..taken {
            assert!(device.room_event().read().is_err());
            assert_eq!(load(&device, RX), 7);
        }
        assert_eq!(device.room_event().read().unwrap(), 1);
        assert_eq!(device.enqueue(&input[taken..]), 100 - taken);
    }

    #[test]
    fn loopback_keeps_bytes_inside_and_the_line_cut() {
        let (device, _, sink) = device();
        device.write(MCR.into(), &[MCR_LOOP]);
        device.write(TX, b"x");
        assert_eq!(load(&device, RX), b'x');
        assert_eq!(device.enqueue(b"host"), 0);
        assert!(device.room_event().read().is_err());
        device.write(MCR.into(), &[0]);
        assert_eq!(device.room_event().read().unwrap(), 1);
        assert_eq!(device.enqueue(b"host"), 4);
        assert_eq!(*sink.0.lock().unwrap(), b"");
    }

    proptest! {
        #[test]
        fn any_access_is_survived(accesses in prop::collection::vec(
            (any::<bool>(), prop_oneof![0_u64..10, any::<u64>()], prop::collection::vec(any::<u8>(), 0..5)), 0..200)
        ) {
            let (device, _, _) = device();
            for (write, offset, mut data) in accesses {
                if write {
                    device.write(offset, &data);
                } else {
                    device.read(offset, &mut data);
                }
                device.enqueue(&data);
            }
        }
    }
}
