//! Supervision of system calls: a seccomp filter hands chosen calls of a command to this process, which answers for the kernel
//! (seccomp_unotify(2)).
//!
//! Unlike a preloaded library, it also reaches static programs and calls that are made without libc.

use std::{
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// A notification of the kernel (seccomp_unotify(2), struct seccomp_notif).
#[repr(C)]
#[derive(Default)]
pub struct Notification {
    id: u64,
    /// The thread that makes the call.
    pub pid: u32,
    flags: u32,
    /// The number of the call.
    pub call: i32,
    arch: u32,
    instruction: u64,
    /// The arguments of the call.
    pub arguments: [u64; 6],
}

/// The answer to it (struct seccomp_notif_resp).
#[repr(C)]
#[derive(Default)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
/// SECCOMP_USER_NOTIF_FLAG_CONTINUE.
const CONTINUE: u32 = 1;

/// A command whose calls are to be answered, before its start.
pub struct Supervision {
    ours: OwnedFd,
    /// The end of the command.
    _theirs: OwnedFd,
}

/// A process whose calls are answered. Dropping it ends that: the process must have ended.
pub struct Supervised<T> {
    has_ended: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl Supervision {
    /// Prepares `command`, whose `calls` are to be answered. It must be the last preparation: the filter holds up calls until
    /// [`begin`](Self::begin).
    ///
    /// # Errors
    /// If the host refuses a socket.
    pub fn prepare(command: &mut Command, calls: &[libc::c_long]) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let socket = theirs.as_raw_fd();
        let filter = filter(calls);
        let install = move || {
            // SAFETY: the socket is open until the command has started.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            install(&filter, socket)
        };
        // SAFETY: the closure makes system calls that are safe between fork and exec, and nothing else.
        unsafe { command.pre_exec(install) };
        Ok(Self { ours, _theirs: theirs })
    }

    /// Begins to answer for the command, which has started. `answer` returns the error of a call, or 0: then the call is made.
    /// [`end`](Supervised::end) returns what `result` makes of the `state` of the answers.
    ///
    /// # Errors
    /// If the command has sent no listener, or the host refuses a thread.
    pub fn begin<T: Send + 'static>(
        self,
        mut state: T,
        answer: impl Fn(&mut T, &Notification) -> i32 + Send + 'static,
    ) -> io::Result<Supervised<T>> {
        let listener = self.receive()?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = has_ended.clone();
        let supervise = move || {
            // Without an answer the process would hang.
            while !ended.load(Ordering::Relaxed) {
                let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                let mut wait = [PollFd::new(&listener, PollFlags::IN)];
                if poll(&mut wait, Some(&timeout)).is_ok_and(|count| count > 0) {
                    if wait[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                        break;
                    }
                    respond(&listener, |call| answer(&mut state, call));
                }
            }
            state
        };
        let thread = thread::Builder::new().name("supervision".to_owned()).spawn(supervise)?;
        Ok(Supervised { has_ended, thread })
    }

    fn receive(&self) -> io::Result<OwnedFd> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let data = &mut [io::IoSliceMut::new(&mut byte)];
        recvmsg(&self.ours, data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        fds.last().ok_or_else(|| io::Error::other("the process has sent no listener"))
    }
}

impl<T> Supervised<T> {
    /// Ends with the process. Returns the state of the answers; none if an answer panicked.
    pub fn end(self) -> Option<T> {
        self.has_ended.store(true, Ordering::Relaxed);
        self.thread.join().ok()
    }
}

/// Answers one notification.
fn respond(listener: &OwnedFd, answer: impl FnOnce(&Notification) -> i32) {
    let mut call = Notification::default();
    // SAFETY: the structure is the one that the kernel fills for this request.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut call) } != 0 {
        return;
    }
    let error = answer(&call);
    let flags = if error == 0 { CONTINUE } else { 0 };
    let mut response = Response { id: call.id, value: 0, error: -error, flags };
    // SAFETY: the structure is the one that the kernel reads for this request.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) };
}

/// The filter: the calls go to the listener, and others are as ever (seccomp(2)).
fn filter(calls: &[libc::c_long]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, jt, jf, k| {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        libc::sock_filter { code, jt, jf, k }
    };
    // The number of the call is the first word of what the filter looks at.
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        let to_listener = u8::try_from(calls.len() - index).unwrap_or(u8::MAX);
        let number = u32::try_from(*call).unwrap_or(u32::MAX);
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_listener, 0, number));
    }
    filter.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    filter
}

/// Installs the filter in this process, and sends its listener to the other end of `socket`.
fn install(filter: &[libc::sock_filter], socket: BorrowedFd<'_>) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the call changes a flag of this process.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its instructions live longer than the call.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor.
    let listener = unsafe { OwnedFd::from_raw_fd(i32::try_from(listener).unwrap_or(-1)) };
    let fds = [std::os::fd::AsFd::as_fd(&listener)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[io::IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    Ok(())
}
