//! Cache maintenance, for a guest that maps a device's buffers uncached: unless the host has FEAT_S2FWB (Arm ARM), the guest's
//! loads and stores then go around the caches that this process writes and reads through.

use std::arch::asm;

/// Cleans the data caches of `length` bytes from `start` to the point of coherency, and invalidates them. The next load from there
/// sees what the guest stored.
///
/// # Safety
/// These bytes are mapped and readable during the call.
pub(super) unsafe fn clean(start: *const u8, length: usize) {
    let kinds: u64;
    // SAFETY: reads a register that Linux lets user space read (CTR_EL0, Documentation/arm64/cpu-feature-registers.rst).
    unsafe { asm!("mrs {}, ctr_el0", out(reg) kinds, options(nomem, nostack, preserves_flags)) };
    // DminLine: log2 of the words in the shortest line of all data caches (Arm ARM, CTR_EL0).
    let line = 4_usize << (kinds >> 16 & 0xf);
    let end = start as usize + length;
    for address in (start as usize & !(line - 1)..end).step_by(line) {
        // SAFETY: cleaning changes no byte. Linux lets user space do it (SCTLR_EL1.UCI) for lines that it may read. Every line
        // here has a byte of the range, which the caller says is readable.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier, which waits until the lines are clean.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn cleaning_changes_nothing() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let copy = bytes.clone();
        for (from, to) in [(0, 0), (1, 2), (63, 65), (0, bytes.len())] {
            let part = &bytes[from..to];
            // SAFETY: the slice is borrowed.
            unsafe { super::clean(part.as_ptr(), part.len()) };
        }
        assert_eq!(bytes, copy);
    }
}
