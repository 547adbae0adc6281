//! The sandbox on x86_64: system calls that newer ones replace, KVM's requests of a vCPU, and the result of a refused call.

use kvm_bindings::{KVMIO, kvm_mp_state, kvm_regs};
use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr};

ioctl_io_nr!(KVM_RUN, KVMIO, 0x80);
ioctl_ior_nr!(KVM_GET_REGS, KVMIO, 0x81, kvm_regs);
ioctl_ior_nr!(KVM_GET_MP_STATE, KVMIO, 0x98, kvm_mp_state);

/// System calls that other architectures do not have: the call that does the same, the older one, and its name.
pub const OLDER_CALLS: &[(libc::c_long, libc::c_long, &str)] = &[
    (libc::SYS_clone, libc::SYS_fork, "fork"),
    (libc::SYS_clone, libc::SYS_vfork, "vfork"),
    (libc::SYS_epoll_pwait, libc::SYS_epoll_wait, "epoll_wait"),
    (libc::SYS_mkdirat, libc::SYS_mkdir, "mkdir"),
    (libc::SYS_newfstatat, libc::SYS_lstat, "lstat"),
    (libc::SYS_newfstatat, libc::SYS_stat, "stat"),
    (libc::SYS_openat, libc::SYS_open, "open"),
    (libc::SYS_ppoll, libc::SYS_poll, "poll"),
    (libc::SYS_renameat2, libc::SYS_rename, "rename"),
    (libc::SYS_unlinkat, libc::SYS_rmdir, "rmdir"),
    (libc::SYS_unlinkat, libc::SYS_unlink, "unlink"),
];

/// The requests that a vCPU's thread makes of KVM. KVM_RUN is first, as it is by far the most frequent.
pub fn vcpu_requests() -> Vec<u64> {
    vec![KVM_RUN(), KVM_GET_REGS(), KVM_GET_MP_STATE()]
}

/// Has the system call during which a signal came return `result`. The signal's handler calls this.
pub fn return_from_call(context: &mut libc::ucontext_t, result: i64) {
    context.uc_mcontext.gregs[libc::REG_RAX as usize] = result;
}
