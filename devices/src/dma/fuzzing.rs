//! For fuzzing alone (`--cfg fuzzing`): guest memory that another vCPU changes between two accesses of a device.

use std::cell::RefCell;

use vm_memory::GuestMemoryMmap;

/// What changes the memory.
type Change = Box<dyn FnMut(&GuestMemoryMmap)>;

thread_local! {
    static CHANGE: RefCell<Option<Change>> = const { RefCell::new(None) };
}

/// Sets what is called before each access of a port on this thread.
pub fn before_accesses(change: Option<Change>) {
    CHANGE.set(change);
}

pub(super) fn accessed(memory: &GuestMemoryMmap) {
    CHANGE.with_borrow_mut(|change| {
        if let Some(change) = change {
            change(memory);
        }
    });
}
