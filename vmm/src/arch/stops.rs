//! What a debugger stops a vCPU at, as plain data.

/// A use of one of the CPU's debug registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The first virtual address.
    pub address: u64,
    /// The number of bytes: a power of two up to 8, to which the address is aligned. For [`SlotKind::Execute`] it has no meaning.
    pub length: u8,
    /// The accesses that stop the vCPU.
    pub kind: SlotKind,
}

/// The accesses at which a [`Slot`] stops a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// The execution of the instruction there.
    Execute,
    /// Loads.
    Read,
    /// Stores.
    Write,
    /// Loads and stores.
    Access,
}

/// What stops the vCPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stops {
    /// Whether there is a breakpoint instruction in the guest's code.
    pub software: bool,
    /// The debug registers.
    pub slots: Vec<Slot>,
}

/// Why a vCPU stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A breakpoint instruction.
    Software,
    /// One instruction was executed.
    Step,
    /// A [`SlotKind::Execute`].
    Hardware,
    /// Another slot.
    Watch(Slot),
}

/// What this host's KVM offers a debugger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facilities {
    /// The instruction that stops a vCPU.
    pub trap: &'static [u8],
    /// Whether KVM reports that instruction as a breakpoint. Otherwise it is an access to a device, which only kernel code may make.
    pub reports_trap: bool,
    /// The number of slots for [`SlotKind::Execute`].
    pub execute: usize,
    /// The number of slots for data.
    pub data: usize,
    /// The number of slots of both kinds together.
    pub together: usize,
}

impl Facilities {
    /// Whether the CPU has room for these slots.
    pub fn have_room_for(&self, slots: &[Slot]) -> bool {
        let execute = slots.iter().filter(|slot| slot.kind == SlotKind::Execute).count();
        let data = slots.len() - execute;
        execute <= self.execute && data <= self.data && slots.len() <= self.together
    }
}

/// The slots that watch `length` bytes from `address`: each is a power of two of at most 8 bytes, and aligned.
pub fn slots_of_data(address: u64, length: u64, kind: SlotKind) -> Vec<Slot> {
    const SLOTS_MAX: usize = 16;
    let mut slots = Vec::new();
    let (mut at, mut left) = (address, length);
    // More slots than any CPU has are refused by the caller.
    while left > 0 && slots.len() <= SLOTS_MAX {
        let fits = |size: &u8| at.is_multiple_of((*size).into()) && u64::from(*size) <= left;
        let size = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        slots.push(Slot { address: at, length: size, kind });
        at = at.wrapping_add(size.into());
        left -= u64::from(size);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_watched_in_aligned_pieces() {
        let pieces = |address, length| -> Vec<(u64, u8)> {
            let slots = slots_of_data(address, length, SlotKind::Write);
            slots.into_iter().map(|slot| (slot.address, slot.length)).collect()
        };
        assert_eq!(pieces(0x1000, 8), [(0x1000, 8)]);
        assert_eq!(pieces(0x1003, 8), [(0x1003, 1), (0x1004, 4), (0x1008, 2), (0x100a, 1)]);
        assert_eq!(pieces(0x1002, 1), [(0x1002, 1)]);
        assert_eq!(pieces(0, 0), []);
        // A long range gives one piece more than the 16 slots of any CPU.
        assert_eq!(pieces(u64::MAX, u64::MAX).len(), 17);
    }

    #[test]
    fn slots_are_limited_by_kind_and_together() {
        let few = Facilities { trap: &[], reports_trap: true, execute: 1, data: 2, together: 2 };
        let slot = |kind| Slot { address: 0, length: 1, kind };
        assert!(few.have_room_for(&[slot(SlotKind::Execute), slot(SlotKind::Read)]));
        assert!(!few.have_room_for(&[slot(SlotKind::Execute); 2]));
        assert!(!few.have_room_for(&[slot(SlotKind::Write); 3]));
        assert!(!few.have_room_for(&[
            slot(SlotKind::Execute),
            slot(SlotKind::Write),
            slot(SlotKind::Access)
        ]));
    }
}
