//! The thread that talks to a device's backend, and the way to it: requests with a time limit, interrupts, and the backend's end.
//!
//! The backend is another program, and may do anything: it ends, it is silent, it sends garbage. A caller waits for a limited
//! time, and then closes the connection, which ends each call of the thread. The first failure is final.

use std::{
    io,
    net::Shutdown,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use media::threads::{self, Role};
use rustix::event::{PollFd, PollFlags, poll};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{
    faults::Irq,
    protocol::{Failure, Offer, Protocol, Ring, Signals},
};
use crate::{
    faults::{Event, FaultHandle},
    helper::{Helper, Messages},
    virtio::mmio::Interrupt,
};

/// The longest that a backend may take to carry out a request.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest that the thread takes to notice that its connection is closed.
const GRACE: Duration = Duration::from_secs(1);

type Work = Box<dyn FnOnce(&mut Worker) + Send>;

/// The way to the backend of a device. Dropping it closes the connection, and ends the thread and the program, if it is ours.
pub(super) struct Link {
    requests: Sender<Work>,
    wake: EventFd,
    socket: UnixStream,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    helper: Mutex<Option<Helper>>,
    limit: Duration,
}

/// What the thread and others know.
struct Shared {
    /// Why there is no backend any more.
    lost: OnceLock<Failure>,
    /// Reasons for a reset that the driver was not told yet.
    reasons: Mutex<Vec<Failure>>,
    /// Signalled when there are such.
    failed: EventFd,
    /// Somebody gave up to wait.
    is_late: AtomicBool,
    /// The connection is closed on purpose.
    ends: AtomicBool,
    interrupts: AtomicU64,
    starts: AtomicU64,
    failures: AtomicU64,
}

impl Shared {
    fn report(&self, failure: Failure) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
        // The only error is EAGAIN at a full counter, and then the event is pending.
        let _ = self.failed.write(1);
    }
}

impl Link {
    /// Starts the thread `name` for the backend at the other end of `socket`. If the `helper` is that backend, it ends with the link.
    pub(super) fn new(
        socket: UnixStream,
        mut helper: Option<Helper>,
        queues: u16,
        name: &str,
        faults: FaultHandle,
    ) -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK);
        let shared = Arc::new(Shared {
            lost: OnceLock::new(),
            reasons: Mutex::default(),
            failed: event()?,
            is_late: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            interrupts: AtomicU64::new(0),
            starts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let wake = event()?;
        let (requests, receiver) = channel();
        let worker = Worker {
            requests: receiver,
            wake: wake.try_clone()?,
            signals: Signals { kicks: Vec::new(), call: event()?, error: event()? },
            protocol: Some(Protocol::new(socket.try_clone()?, queues)),
            socket: socket.try_clone()?,
            messages: helper.as_mut().map_or(Ok(None), Helper::take_messages)?,
            shared: shared.clone(),
            faults,
            interrupt: None,
        };
        let builder = Builder::new().name(name.to_owned());
        let thread = Mutex::new(Some(threads::start(Role::Backend, builder, move || worker.run())?));
        Ok(Self { requests, wake, socket, shared, thread, helper: Mutex::new(helper), limit: LIMIT })
    }

    #[cfg(test)]
    pub(super) fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Connects the backend with the driver: its interrupt, and its notifications for each queue.
    pub(super) fn connect(&self, interrupt: Arc<Interrupt>, kicks: Vec<EventFd>) {
        self.send(move |worker| {
            worker.interrupt = Some(interrupt);
            worker.signals.kicks = kicks;
        });
    }

    /// Has the thread do this. False if it has ended.
    fn send(&self, work: impl FnOnce(&mut Worker) + Send + 'static) -> bool {
        let is_sent = self.requests.send(Box::new(work)).is_ok();
        // The only error is EAGAIN at a full counter, and then the event is pending.
        let _ = self.wake.write(1);
        is_sent
    }

    /// Asks the backend what it offers.
    pub(super) fn open(&self, queues: u16, config: u32) -> Result<Offer, Failure> {
        let offer = self.ask(self.limit, move |protocol, _| protocol.open(queues, config))?;
        self.send(|worker| worker.messages.iter_mut().for_each(Messages::forget));
        Ok(offer)
    }

    /// Has the backend serve these rings.
    pub(super) fn start(
        &self,
        features: u64,
        memory: GuestMemoryMmap,
        rings: Vec<Ring>,
    ) -> Result<(), Failure> {
        self.shared.starts.fetch_add(1, Ordering::Relaxed);
        self.ask(self.limit, move |protocol, signals| protocol.start(features, &memory, &rings, signals))
    }

    /// Has the backend leave the rings. After a failure its connection is closed, and it may do with guest memory what it likes.
    pub(super) fn stop(&self) {
        let _ = self.ask(self.limit, |protocol, signals| {
            protocol.stop()?;
            // What it signalled before concerns a driver that is gone.
            let _ = (signals.call.read(), signals.error.read());
            Ok(())
        });
    }

    /// Has the thread carry out `work`, and waits for the result, at most for `limit`.
    fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut Protocol, &Signals) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = sync_channel(1);
        let lost = || self.shared.lost.get().cloned().unwrap_or(Failure::Silent);
        let work = move |worker: &mut Worker| {
            let result = match &mut worker.protocol {
                Some(protocol) => work(protocol, &worker.signals),
                None => Err(worker.shared.lost.get().cloned().unwrap_or(Failure::Silent)),
            };
            let _ = sender.send(result.map_err(|failure| worker.lose(failure)));
        };
        if !self.send(work) {
            return Err(lost());
        }
        if let Ok(result) = receiver.recv_timeout(limit) {
            return result;
        }
        self.shared.is_late.store(true, Ordering::Release);
        // The only error is that it is closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
        receiver.recv_timeout(GRACE).unwrap_or_else(|_| Err(lost()))
    }

    /// Whether there is no backend any more.
    pub(super) fn is_lost(&self) -> bool {
        self.shared.lost.get().is_some()
    }

    /// The device cannot go on: the driver will be told so.
    pub(super) fn report(&self, failure: Failure) {
        self.shared.report(failure);
    }

    /// Signalled when there are [`reasons`](Self::take_reasons) for a reset.
    pub(super) fn failed(&self) -> &EventFd {
        &self.shared.failed
    }

    /// Takes the reasons for a reset that the driver was not told yet.
    pub(super) fn take_reasons(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.shared.reasons.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of interrupts, of starts, and of failures.
    pub(super) fn counts(&self) -> [u64; 3] {
        let Shared { interrupts, starts, failures, .. } = &*self.shared;
        [interrupts, starts, failures].map(|count| count.load(Ordering::Relaxed))
    }

    /// Closes the connection, and ends the thread and the program, if it is ours.
    pub(super) fn end(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.shared.ends.store(true, Ordering::Release);
            let _ = (self.wake.write(1), self.socket.shutdown(Shutdown::Both));
            // A panic of the thread was printed when it happened.
            let _ = thread.join();
        }
        drop(self.helper.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's side.
struct Worker {
    requests: Receiver<Work>,
    wake: EventFd,
    signals: Signals,
    /// None once the backend is lost.
    protocol: Option<Protocol>,
    socket: UnixStream,
    /// What the backend prints, if it is ours.
    messages: Option<Messages>,
    shared: Arc<Shared>,
    faults: FaultHandle,
    /// The driver's interrupt, once it is connected.
    interrupt: Option<Arc<Interrupt>>,
}

impl Worker {
    fn run(mut self) {
        while !self.shared.ends.load(Ordering::Acquire) {
            let mut descriptors = vec![PollFd::from_borrowed_fd(borrow(&self.wake), PollFlags::IN)];
            let errors = self.messages.as_ref().and_then(Messages::descriptor);
            let prints = errors.is_some();
            descriptors.extend(errors.map(|errors| PollFd::from_borrowed_fd(errors, PollFlags::IN)));
            if self.protocol.is_some() {
                for event in [&self.signals.call, &self.signals.error] {
                    descriptors.push(PollFd::from_borrowed_fd(borrow(event), PollFlags::IN));
                }
                descriptors.push(PollFd::new(&self.socket, PollFlags::IN));
            }
            // The only error is that a signal came.
            let _ = poll(&mut descriptors, None);
            let ready: Vec<bool> =
                descriptors.iter().map(|descriptor| !descriptor.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            let mut next = || ready.next().unwrap_or(false);
            let (asked, printed) = (next(), prints && next());
            let (called, failed, spoken) = (next(), next(), next());
            if printed && let Some(messages) = &mut self.messages {
                messages.read();
            }
            if called && self.signals.call.read().is_ok() {
                self.interrupt();
            }
            if failed && self.signals.error.read().is_ok() && self.is_running() {
                self.lose(Failure::Protocol("it reports an error of a queue".to_owned()));
            }
            // Nobody has asked, so it says nothing: the connection is closed.
            if spoken && self.protocol.is_some() {
                self.lose(Failure::Protocol("it sent a message that is no answer".to_owned()));
            }
            if asked {
                let _ = self.wake.read();
                while let Ok(work) = self.requests.try_recv() {
                    work(&mut self);
                }
            }
        }
    }

    fn is_running(&self) -> bool {
        self.protocol.as_ref().is_some_and(Protocol::is_running)
    }

    fn interrupt(&self) {
        if !self.is_running() {
            return;
        }
        match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
            Some(Irq::Lose) => return,
            None => {}
        }
        self.shared.interrupts.fetch_add(1, Ordering::Relaxed);
        if let Some(interrupt) = &self.interrupt {
            interrupt.used_buffers();
            self.faults.interrupted();
        }
    }

    /// The backend is lost. Returns the reason, which is that of the first failure.
    fn lose(&mut self, failure: Failure) -> Failure {
        if self.protocol.take().is_some() && !self.shared.ends.load(Ordering::Acquire) {
            let failure = failure.clone();
            let failure = if self.shared.is_late.load(Ordering::Acquire) {
                Failure::Silent
            } else if self.is_closed() {
                Failure::Ended(self.messages.as_mut().and_then(Messages::ending))
            } else {
                failure
            };
            let _ = self.socket.shutdown(Shutdown::Both);
            let _ = self.shared.lost.set(failure.clone());
            self.shared.report(failure);
        }
        self.shared.lost.get().cloned().unwrap_or(failure)
    }

    /// Whether the other end has closed the connection.
    fn is_closed(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut socket, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// The descriptor of an eventfd, which has no safe way to it.
fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the event that is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
