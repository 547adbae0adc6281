//! Errors of system calls: a seccomp filter hands the calls of a process to this one, which lets some of them fail.
//!
//! Unlike a preloaded library, it also reaches static programs and calls that are made without libc.

use std::{
    fs, io,
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

use devices::media::random::split_mix;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

/// The calls that can fail.
#[cfg(target_arch = "x86_64")]
const HERE: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_renameat];
#[cfg(not(target_arch = "x86_64"))]
const HERE: &[libc::c_long] = &[];
const EVERYWHERE: &[libc::c_long] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_clone3,
];

/// A notification of the kernel (seccomp_unotify(2), struct seccomp_notif).
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    call: i32,
    arch: u32,
    instruction: u64,
    arguments: [u64; 6],
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

/// A command whose calls are to fail, before its start.
pub(super) struct Injection {
    ours: OwnedFd,
    /// The end of the command.
    _theirs: OwnedFd,
}

/// A process whose calls fail.
pub(super) struct Injected {
    has_ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(String, u64)>>,
}

impl Injection {
    /// Prepares `command`.
    pub(super) fn prepare(command: &mut Command) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let socket = theirs.as_raw_fd();
        let filter = filter();
        let install = move || {
            // SAFETY: the socket is open until the command has started.
            let socket = unsafe { BorrowedFd::borrow_raw(socket) };
            install(&filter, socket)
        };
        // SAFETY: the closure makes system calls that are safe between fork and exec, and nothing else.
        unsafe { command.pre_exec(install) };
        Ok(Self { ours, _theirs: theirs })
    }

    /// Begins to answer for the command, which has started. One call in `rate` fails, after the first `after` calls.
    pub(super) fn begin(self, (rate, after, seed): (u64, u64, u64)) -> io::Result<Injected> {
        let listener = self.receive()?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = has_ended.clone();
        let answer = move || {
            let mut injector = Injector { rate, after, seed, calls: 0, counts: Vec::new() };
            // Without an answer the process would hang.
            while !ended.load(Ordering::Relaxed) {
                let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                let mut wait = [PollFd::new(&listener, PollFlags::IN)];
                if poll(&mut wait, Some(&timeout)).is_ok_and(|count| count > 0) {
                    if wait[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                        break;
                    }
                    injector.answer(&listener);
                }
            }
            injector.counts
        };
        let thread = thread::Builder::new().name("injector".to_owned()).spawn(answer)?;
        Ok(Injected { has_ended, thread })
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

impl Injected {
    /// Ends with the process. Returns how often each error was injected.
    pub(super) fn end(self) -> Vec<(String, u64)> {
        self.has_ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

struct Injector {
    rate: u64,
    after: u64,
    seed: u64,
    calls: u64,
    counts: Vec<(String, u64)>,
}

impl Injector {
    /// Answers one notification.
    fn answer(&mut self, listener: &OwnedFd) {
        let mut call = Notification::default();
        // SAFETY: the structure is the one that the kernel fills for this request.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut call) } != 0 {
            return;
        }
        let error = self.error(&call).unwrap_or(0);
        let flags = if error == 0 { CONTINUE } else { 0 };
        let mut response = Response { id: call.id, value: 0, error: -error, flags };
        // SAFETY: the structure is the one that the kernel reads for this request.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) };
    }

    /// The error of a call, if it is to fail.
    fn error(&mut self, call: &Notification) -> Option<i32> {
        self.calls += 1;
        let chance = split_mix(self.seed, self.calls);
        if self.calls <= self.after || !chance.is_multiple_of(self.rate) {
            return None;
        }
        let errors = errors(call);
        let error = *errors.get(usize::try_from((chance >> 32) % errors.len().max(1) as u64).ok()?)?;
        let name = match error {
            libc::ENOSPC => "ENOSPC",
            libc::EINTR => "EINTR",
            libc::EAGAIN => "EAGAIN",
            libc::EMFILE => "EMFILE",
            _ => "EIO",
        };
        match self.counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((name.to_owned(), 1)),
        }
        Some(error)
    }
}

/// The errors that a call can meet on a real host.
fn errors(call: &Notification) -> &'static [i32] {
    let is = |number| libc::c_long::from(call.call) == number;
    if is(libc::SYS_clone3) {
        return &[libc::EAGAIN];
    }
    if is(libc::SYS_openat) || is(libc::SYS_openat2) {
        return &[libc::EMFILE, libc::EINTR, libc::EIO];
    }
    if is(libc::SYS_linkat) || is(libc::SYS_renameat2) || is(libc::SYS_mkdirat) {
        return &[libc::ENOSPC, libc::EIO];
    }
    let on_file = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64, libc::SYS_ftruncate];
    let reads = [libc::SYS_read, libc::SYS_pread64];
    let (writes, reads) = (on_file.into_iter().any(is), reads.into_iter().any(is));
    if !writes && !reads {
        // The calls that wait. A rename of older kernels is the last of HERE.
        return if HERE.last().is_some_and(|rename| is(*rename)) { &[libc::EIO] } else { &[libc::EINTR] };
    }
    // Eventfds and timers are the kernel's own, and do not fail.
    let file = fs::read_link(format!("/proc/{}/fd/{}", call.pid, call.arguments[0])).unwrap_or_default();
    let file = file.to_string_lossy().into_owned();
    match (file.split(':').next().unwrap_or_default(), writes) {
        ("anon_inode", _) => &[],
        ("pipe", _) => &[libc::EINTR],
        ("socket", _) => &[libc::EINTR, libc::EAGAIN],
        (path, _) if path.starts_with("/proc") || path.starts_with("/dev") => &[libc::EINTR],
        (_, true) => &[libc::ENOSPC, libc::EINTR, libc::EIO],
        (_, false) => &[libc::EINTR, libc::EIO],
    }
}

/// The filter: the calls go to the listener, and others are as ever (seccomp(2)).
fn filter() -> Vec<libc::sock_filter> {
    let instruction = |code: u32, jt, jf, k| {
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        libc::sock_filter { code, jt, jf, k }
    };
    let calls: Vec<_> = EVERYWHERE.iter().chain(HERE).collect();
    // The number of the call is the first word of what the filter looks at.
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        let to_listener = u8::try_from(calls.len() - index).unwrap_or(u8::MAX);
        let number = u32::try_from(**call).unwrap_or(u32::MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_a_program_fail() {
        let folder = tempfile::tempdir().unwrap();
        let mut failures = Vec::new();
        for seed in 0..10 {
            let mut dd = Command::new("dd");
            dd.args(["if=/dev/zero", "bs=1", "count=500"])
                .arg(format!("of={}/file", folder.path().display()));
            let injection = Injection::prepare(&mut dd).unwrap();
            let child = dd.stderr(std::process::Stdio::piped()).spawn().unwrap();
            drop(dd);
            let injected = injection.begin((10, 60, seed)).unwrap();
            let output = child.wait_with_output().unwrap();
            let counts = injected.end();
            assert!(!counts.is_empty());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let has_failed = counts.iter().any(|(name, _)| name == "ENOSPC" || name == "EIO");
            assert_eq!(output.status.success(), !has_failed, "{counts:?}: {said}");
            failures.push(said);
        }
        for text in ["No space left on device", "Input/output error"] {
            assert!(failures.iter().any(|said| said.contains(text)), "{failures:?}");
        }
    }
}
