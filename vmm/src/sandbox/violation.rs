//! Forbidden system calls: the call fails with EPERM, and the first one is kept, so that the machine ends and names it.

use std::{
    cell::Cell,
    io,
    os::fd::AsRawFd as _,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use vmm_sys_util::{
    eventfd::{EFD_NONBLOCK, EventFd},
    signal::register_signal_handler,
};

use super::kind::Kind;
use crate::arch;

/// Set in [`FIRST`], so that no call is 0.
const CALLED: u64 = 1 << 63;

/// The first forbidden call: [`CALLED`], the number of the thread's kind, and in the low half the number of the system call.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// Becomes readable at the first forbidden call.
static EVENT: OnceLock<EventFd> = OnceLock::new();

thread_local! {
    /// The calling thread's kind. Without a destructor and initialised at compile time, so that a signal handler may read it.
    static KIND: Cell<Kind> = const { Cell::new(Kind::Main) };
}

/// Makes a forbidden call of this process fail from now on, and wakes the machine.
///
/// # Errors
/// If the host refuses an eventfd or a handler.
pub(super) fn watch() -> io::Result<()> {
    let event = EventFd::new(EFD_NONBLOCK)?;
    let _ = EVENT.set(event);
    handle()
}

/// Makes a forbidden call fail instead of killing the process.
pub(super) fn handle() -> io::Result<()> {
    register_signal_handler(libc::SIGSYS, refuse).map_err(io::Error::from)
}

/// Says of what kind the calling thread is.
pub(super) fn this_thread_is(kind: Kind) {
    KIND.set(kind);
}

/// Becomes readable at the first forbidden call. None without a sandbox.
pub fn event() -> Option<&'static EventFd> {
    EVENT.get()
}

/// The first forbidden call, as a sentence.
pub fn first() -> Option<String> {
    let first = FIRST.load(Ordering::SeqCst);
    if first & CALLED == 0 {
        return None;
    }
    let [a, b, c, d, kind, ..] = first.to_le_bytes();
    let number = libc::c_long::from(u32::from_le_bytes([a, b, c, d]));
    let kind = Kind::ALL.get(usize::from(kind)).map_or("unknown", |kind| kind.name());
    let call = name(number).map_or_else(|| format!("system call {number}"), |name| format!("{name}(2)"));
    Some(format!("the {kind} thread called {call}, which the sandbox forbids"))
}

/// The part of the siginfo_t of SIGSYS that the kernel fills for seccomp (sigaction(2); include/uapi/asm-generic/siginfo.h,
/// _sigsys), with the padding of 64-bit architectures.
#[repr(C)]
struct SigSys {
    signal: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    padding: libc::c_int,
    address: *mut libc::c_void,
    call: libc::c_int,
    arch: libc::c_uint,
}

/// si_code of a SIGSYS from a seccomp filter (SYS_SECCOMP).
const SYS_SECCOMP: libc::c_int = 1;

/// The handler of SIGSYS. It makes only system calls that each filter allows.
extern "C" fn refuse(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a whole siginfo_t, which is larger than SigSys.
    let info = unsafe { &*info.cast::<SigSys>() };
    if info.code != SYS_SECCOMP {
        // Another process sent the signal.
        return;
    }
    let first = CALLED | (KIND.get() as u64) << 32 | u64::from(info.call.cast_unsigned());
    if FIRST.compare_exchange(0, first, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        && let Some(event) = EVENT.get()
    {
        let one = 1_u64;
        // SAFETY: write(2) is safe in a signal handler; it reads eight bytes of ours.
        unsafe { libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of_val(&one)) };
    }
    // SAFETY: with SA_SIGINFO the kernel passes the interrupted thread's ucontext_t, which the handler may change.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    arch::return_from_call(context, -i64::from(libc::EPERM));
}

/// The names of calls that an intruder would make, or that a change of minivmm or of its libraries may need.
const NAMES: &[(libc::c_long, &str)] = &[
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_capset, "capset"),
    (libc::SYS_chdir, "chdir"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_dup, "dup"),
    (libc::SYS_dup3, "dup3"),
    (libc::SYS_epoll_create1, "epoll_create1"),
    (libc::SYS_epoll_ctl, "epoll_ctl"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_eventfd2, "eventfd2"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_execveat, "execveat"),
    (libc::SYS_faccessat, "faccessat"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fstat, "fstat"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_getcwd, "getcwd"),
    (libc::SYS_getdents64, "getdents64"),
    (libc::SYS_getrusage, "getrusage"),
    (libc::SYS_getsockopt, "getsockopt"),
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_listen, "listen"),
    (libc::SYS_lseek, "lseek"),
    (libc::SYS_memfd_create, "memfd_create"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_mprotect, "mprotect"),
    (libc::SYS_newfstatat, "newfstatat"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_perf_event_open, "perf_event_open"),
    (libc::SYS_pipe2, "pipe2"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_prctl, "prctl"),
    (libc::SYS_pread64, "pread64"),
    (libc::SYS_prlimit64, "prlimit64"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_readlinkat, "readlinkat"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_rt_sigaction, "rt_sigaction"),
    (libc::SYS_sched_setaffinity, "sched_setaffinity"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_setresuid, "setresuid"),
    (libc::SYS_setsockopt, "setsockopt"),
    (libc::SYS_shutdown, "shutdown"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_socketpair, "socketpair"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_statx, "statx"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_sysinfo, "sysinfo"),
    (libc::SYS_tgkill, "tgkill"),
    (libc::SYS_timerfd_create, "timerfd_create"),
    (libc::SYS_timerfd_settime, "timerfd_settime"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_userfaultfd, "userfaultfd"),
    (libc::SYS_wait4, "wait4"),
];

/// The name of a system call, if it is a usual one.
fn name(number: libc::c_long) -> Option<&'static str> {
    let older = arch::OLDER_CALLS.iter().map(|(_, older, name)| (*older, *name));
    NAMES.iter().copied().chain(older).find(|(known, _)| *known == number).map(|(_, name)| name)
}
