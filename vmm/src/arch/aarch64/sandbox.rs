//! The sandbox on aarch64: KVM's requests of a vCPU, and the result of a refused call.

use kvm_bindings::{KVMIO, kvm_mp_state, kvm_one_reg};
use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr};

ioctl_io_nr!(KVM_RUN, KVMIO, 0x80);
ioctl_ior_nr!(KVM_GET_MP_STATE, KVMIO, 0x98, kvm_mp_state);
ioctl_iow_nr!(KVM_GET_ONE_REG, KVMIO, 0xab, kvm_one_reg);
ioctl_iow_nr!(KVM_SET_ONE_REG, KVMIO, 0xac, kvm_one_reg);

/// System calls that other architectures do not have: the call that does the same, the older one, and its name. None here.
pub const OLDER_CALLS: &[(libc::c_long, libc::c_long, &str)] = &[];

/// The requests that a vCPU's thread makes of KVM. KVM_RUN is first, as it is by far the most frequent.
/// The last two are for accesses that KVM does not decode.
pub fn vcpu_requests() -> Vec<u64> {
    vec![KVM_RUN(), KVM_GET_MP_STATE(), KVM_GET_ONE_REG(), KVM_SET_ONE_REG()]
}

/// Has the system call during which a signal came return `result`. The signal's handler calls this.
pub fn return_from_call(context: &mut libc::ucontext_t, result: i64) {
    context.uc_mcontext.regs[0] = result.cast_unsigned();
}
