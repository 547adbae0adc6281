//! The system calls that each kind of thread may make. All others fail, and end the machine.
//!
//! No thread starts a thread or a program, makes memory executable, or opens a socket; only the threads that write files by name
//! open files. The calls that the C library makes for memory, locks and the end of a thread are in [`EVERY`].

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::kind::{Kind, Work};
use crate::arch;

/// Every thread: its open files, memory, locks, time, signals and end.
const EVERY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Replaces and removes files by name.
const REPLACE: &[c_long] = &[
    libc::SYS_linkat,
    libc::SYS_newfstatat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_unlinkat,
];

/// Creates files and folders by name, and writes them.
const CREATE: &[c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_openat,
    libc::SYS_openat2,
];

/// Waits for events, and connections that are open.
const EVENTS: &[c_long] =
    &[libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_ppoll, libc::SYS_recvfrom, libc::SYS_shutdown];

/// The files of the main thread in /proc, which stay open, guest memory, whose holes are skipped, and the end of programs that minivmm
/// started.
const MAIN: &[c_long] =
    &[libc::SYS_accept4, libc::SYS_lseek, libc::SYS_pidfd_send_signal, libc::SYS_pread64, libc::SYS_waitid];

const DISK: &[c_long] = &[
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
];

/// Messages and events of a connection that is open, and the status of its program.
const BACKEND: &[c_long] = &[
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_waitid,
];
const NETWORK: &[c_long] =
    &[libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_ppoll, libc::SYS_recvfrom, libc::SYS_waitid];

/// Queues of the guest. That memory goes back is advice (madvise(2)), which every thread gives for its own.
const MEMORY: &[c_long] = &[libc::SYS_epoll_ctl, libc::SYS_epoll_pwait];

/// The file that guest memory is written to.
const DUMP: &[c_long] = &[libc::SYS_pwrite64];

const OUTPUT: &[c_long] = &[libc::SYS_ppoll];

/// The calls that a kind may make besides those of [`EVERY`] and [`conditional`].
fn calls(kind: Kind, work: Work) -> &'static [&'static [c_long]] {
    match kind {
        Kind::Main if work.dump => &[MAIN, EVENTS, REPLACE, DUMP],
        Kind::Main => &[MAIN, EVENTS, REPLACE],
        Kind::Disk => &[DISK],
        Kind::Backend => &[BACKEND],
        // It closes the connection to a backend that does not answer.
        Kind::Vcpu => &[&[libc::SYS_shutdown]],
        Kind::Network => &[NETWORK],
        Kind::Memory => &[MEMORY],
        Kind::Sockets => &[EVENTS, &[libc::SYS_accept4, libc::SYS_connect]],
        Kind::Recording | Kind::Files => &[CREATE, REPLACE],
        Kind::Metrics => &[&[libc::SYS_openat], REPLACE],
        Kind::Output => &[OUTPUT],
        Kind::Relay => &[EVENTS, &[libc::SYS_connect]],
        Kind::Device | Kind::Log | Kind::Input | Kind::Capture | Kind::Watch => &[],
    }
}

/// The requests of ioctl(2) that a kind may make.
fn requests(kind: Kind, work: Work) -> Vec<u64> {
    match kind {
        Kind::Vcpu => {
            let mut requests = arch::vcpu_requests();
            requests.extend(work.debugger.then(arch::debug_requests).into_iter().flatten());
            requests.extend(work.dump.then(arch::core_requests).into_iter().flatten());
            requests
        }
        // The terminal's mode and size, and clients of the API that never wait.
        Kind::Main => vec![libc::TCGETS, libc::TCSETS, libc::TIOCGWINSZ, libc::FIONBIO],
        Kind::Network => vec![devices::virtio::net::AGREE_REQUEST()],
        Kind::Relay | Kind::Sockets => vec![libc::FIONBIO],
        _ => Vec::new(),
    }
}

/// A condition: the number of an argument, how much of it counts, and the comparison with a value.
type Condition = (u8, SeccompCmpArgLen, SeccompCmpOp, u64);

fn equals(argument: u8, value: u64) -> Condition {
    (argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The calls that a kind may make with certain arguments only.
fn conditional(kind: Kind, work: Work) -> Vec<(c_long, Condition)> {
    let no_code = (2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    let mut calls = vec![
        (libc::SYS_mmap, no_code.clone()),
        (libc::SYS_mprotect, no_code),
        // Signals to threads of this process: a vCPU's to leave the guest, and abort(3).
        (libc::SYS_tgkill, equals(0, std::process::id().into())),
        (libc::SYS_rt_sigaction, equals(0, libc::SIGABRT as u64)),
        // send(2), which has no address: handlers of signals write to a socket of this process.
        (libc::SYS_sendto, (4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)),
        // The standard library checks descriptors in debug builds before it closes them.
        (libc::SYS_fcntl, equals(1, libc::F_GETFD as u64)),
    ];
    calls.extend(requests(kind, work).into_iter().map(|request| (libc::SYS_ioctl, equals(1, request))));
    if matches!(kind, Kind::Relay | Kind::Sockets) {
        calls.push((libc::SYS_socket, equals(0, libc::AF_UNIX as u64)));
    }
    calls
}

/// The filter of a kind of thread.
///
/// # Errors
/// If it is malformed.
pub(super) fn filter(kind: Kind, work: Work) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls(kind, work).iter().copied().chain([EVERY]).flatten() {
        let older = arch::OLDER_CALLS.iter().filter(|(newer, ..)| newer == call).map(|(_, older, _)| *older);
        rules.extend(older.chain([*call]).map(|call| (call, Vec::new())));
    }
    for (call, (argument, length, comparison, value)) in conditional(kind, work) {
        let condition = SeccompCondition::new(argument, length, comparison, value)?;
        rules.entry(call).or_default().push(SeccompRule::new(vec![condition])?);
    }
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_WORK: Work = Work { debugger: true, dump: true };

    fn may(kind: Kind, call: c_long) -> bool {
        calls(kind, ALL_WORK).iter().copied().chain([EVERY]).flatten().any(|allowed| *allowed == call)
            || conditional(kind, ALL_WORK).iter().any(|(allowed, _)| *allowed == call)
    }

    fn kinds_with(call: c_long) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| may(*kind, call)).collect()
    }

    #[test]
    fn the_filters_can_be_made() {
        for kind in Kind::ALL {
            // Each comparison of a call takes a few instructions; the kernel has room for 4096.
            for work in [Work::default(), ALL_WORK] {
                assert!((100..1000).contains(&filter(kind, work).unwrap().len()), "{kind:?}");
            }
        }
    }

    #[test]
    fn no_thread_starts_threads_or_programs_or_changes_rights() {
        for call in [
            libc::SYS_bpf,
            libc::SYS_capset,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_kill,
            libc::SYS_mknodat,
            libc::SYS_mount,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_process_vm_writev,
            libc::SYS_ptrace,
            libc::SYS_seccomp,
            libc::SYS_setresuid,
            libc::SYS_symlinkat,
            libc::SYS_unshare,
        ] {
            assert_eq!(kinds_with(call), [], "{call}");
        }
    }

    #[test]
    fn few_kinds_open_files_or_sockets() {
        assert_eq!(kinds_with(libc::SYS_openat), [Kind::Recording, Kind::Files, Kind::Metrics]);
        assert_eq!(
            kinds_with(libc::SYS_renameat2),
            [Kind::Main, Kind::Recording, Kind::Files, Kind::Metrics]
        );
        assert_eq!(kinds_with(libc::SYS_socket), [Kind::Sockets, Kind::Relay]);
        assert_eq!(kinds_with(libc::SYS_accept4), [Kind::Main, Kind::Sockets]);
        assert_eq!(kinds_with(libc::SYS_sendmsg), [Kind::Backend]);
        assert_eq!(
            kinds_with(libc::SYS_ioctl),
            [Kind::Main, Kind::Vcpu, Kind::Network, Kind::Sockets, Kind::Relay]
        );
    }

    /// The rules of a call without conditions would be lost if it had others too.
    #[test]
    fn a_call_has_conditions_or_none() {
        for kind in Kind::ALL {
            for (call, _) in conditional(kind, ALL_WORK) {
                let free = calls(kind, ALL_WORK)
                    .iter()
                    .copied()
                    .chain([EVERY])
                    .flatten()
                    .any(|allowed| *allowed == call);
                assert!(!free, "{kind:?}: {call}");
            }
        }
    }

    #[test]
    fn a_vcpu_makes_the_requests_of_kvm() {
        // KVM_RUN, KVM_GET_MP_STATE (Documentation/virt/kvm/api.rst).
        assert_eq!(requests(Kind::Vcpu, Work::default())[0], 0xae80);
        assert!(requests(Kind::Vcpu, Work::default()).contains(&0x8004_ae98));
        // KVM_SET_GUEST_DEBUG.
        let debugs = |debugger| {
            let work = Work { debugger, dump: true };
            requests(Kind::Vcpu, work).iter().any(|request| request & 0xffff == 0xae9b)
        };
        assert!(debugs(true) && !debugs(false));
    }

    #[test]
    fn the_main_thread_writes_at_any_place_for_a_dump_alone() {
        let may = |dump, call: c_long| {
            calls(Kind::Main, Work { debugger: true, dump }).iter().any(|calls| calls.contains(&call))
        };
        assert!(may(true, libc::SYS_pwrite64) && !may(false, libc::SYS_pwrite64));
    }
}
