//! Creates a virtual machine.

use kvm_ioctls::{Error, Kvm, VmFd};

/// Creates a virtual machine. KVM_CREATE_VM ends with EINTR if a signal comes meanwhile (virt/kvm/kvm_main.c, kvm_create_vm; mm/mmap.c,
/// mm_take_all_locks), and is repeated then.
///
/// # Errors
/// If KVM refuses.
pub fn create_vm(kvm: &Kvm) -> Result<VmFd, Error> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            created => return created,
        }
    }
}
