//! A heap with a limit: no input makes a target take more memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The heap of every target.
pub struct Heap;

static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Heap {
    /// The limit of a target that sets no other, in bytes.
    pub const USUAL: usize = 64 << 20;

    fn take(&self, bytes: usize) {
        let used = USED.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > LIMIT.load(Ordering::Relaxed) {
            LIMIT.store(usize::MAX, Ordering::Relaxed);
            eprintln!("the heap has {used} bytes, which is more than the target's limit");
            process::abort();
        }
    }
}

/// Sets the limit.
pub(crate) fn limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

// SAFETY: the memory is the system allocator's; only its size is counted.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller promises what the system allocator needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.take(size);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(memory, layout, size) };
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        moved
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
    }
}
