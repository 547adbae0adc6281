//! The breakpoints and watchpoints of a debugger: instructions in guest memory, and the CPU's debug registers.

use std::collections::{BTreeMap, BTreeSet};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::arch::{
    self,
    stops::{Facilities, Slot, SlotKind, Stops, slots_of_data},
};

/// An instruction that a breakpoint replaced.
#[derive(Debug, Clone)]
struct Patch {
    physical: u64,
    original: Vec<u8>,
}

/// The breakpoints of one machine.
#[derive(Debug)]
pub(super) struct Breakpoints {
    memory: GuestMemoryMmap,
    facilities: Facilities,
    /// By virtual address.
    patches: BTreeMap<u64, Patch>,
    /// The debug registers, by the request that they are for: address, length, kind.
    slots: Vec<((u64, u64, SlotKind), Vec<Slot>)>,
}

impl Breakpoints {
    pub(super) fn new(memory: GuestMemoryMmap, facilities: Facilities) -> Self {
        Self { memory, facilities, patches: BTreeMap::new(), slots: Vec::new() }
    }

    /// What stops the vCPUs.
    pub(super) fn stops(&self) -> Stops {
        Stops {
            software: self.facilities.reports_trap && !self.patches.is_empty(),
            slots: self.slots.iter().flat_map(|(_, slots)| slots).copied().collect(),
        }
    }

    /// The virtual addresses of the breakpoint instructions.
    pub(super) fn traps(&self) -> BTreeSet<u64> {
        self.patches.keys().copied().collect()
    }

    /// Puts a breakpoint instruction to `address`, which is `physical` in guest memory. False if there is no memory.
    pub(super) fn insert(&mut self, address: u64, physical: u64) -> bool {
        if self.patches.contains_key(&address) {
            return true;
        }
        let mut original = vec![0; self.facilities.trap.len()];
        // Two addresses of the same instruction have the same original.
        let known = self.patches.values().find(|patch| patch.physical == physical);
        if let Some(known) = known {
            original.clone_from(&known.original);
        } else if self.memory.read_slice(&mut original, GuestAddress(physical)).is_err() {
            return false;
        }
        if !self.write(physical, self.facilities.trap) {
            return false;
        }
        self.patches.insert(address, Patch { physical, original });
        true
    }

    /// Removes the breakpoint instruction at `address`. False if it does not exist.
    pub(super) fn remove(&mut self, address: u64) -> bool {
        let Some(patch) = self.patches.remove(&address) else { return false };
        let is_shared = self.patches.values().any(|other| other.physical == patch.physical);
        let mut there = vec![0; patch.original.len()];
        let is_ours = self.memory.read_slice(&mut there, GuestAddress(patch.physical)).is_ok()
            && there == self.facilities.trap;
        // The guest may have put other code there.
        if is_ours && !is_shared {
            self.write(patch.physical, &patch.original);
        }
        true
    }

    fn write(&self, physical: u64, bytes: &[u8]) -> bool {
        let written = self.memory.write_slice(bytes, GuestAddress(physical)).is_ok();
        if let (true, Ok(host)) = (written, self.memory.get_host_address(GuestAddress(physical))) {
            arch::show_instructions(host, bytes.len());
        }
        written
    }

    /// Uses debug registers for `length` bytes from `address`. False if the CPU lacks them.
    pub(super) fn watch(&mut self, address: u64, length: u64, kind: SlotKind) -> bool {
        let slots = match kind {
            SlotKind::Execute => vec![Slot { address, length: 1, kind }],
            _ => slots_of_data(address, length, kind),
        };
        let all: Vec<Slot> = self.stops().slots.into_iter().chain(slots.iter().copied()).collect();
        let has_room = !slots.is_empty() && self.facilities.have_room_for(&all);
        if has_room {
            self.slots.push(((address, length, kind), slots));
        }
        has_room
    }

    /// Frees the debug registers of a [`watch`](Self::watch). False if no such watch exists.
    pub(super) fn unwatch(&mut self, address: u64, length: u64, kind: SlotKind) -> bool {
        let place = self.slots.iter().position(|(request, _)| *request == (address, length, kind));
        place.map(|place| self.slots.remove(place)).is_some()
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        for address in self.traps() {
            self.remove(address);
        }
        self.slots.clear();
    }

    /// Replaces the breakpoint instructions in `data`, which was read from `physical`, by the guest's own.
    pub(super) fn hide(&self, physical: u64, data: &mut [u8]) {
        for patch in self.patches.values() {
            for (at, byte) in (patch.physical..).zip(&patch.original) {
                let place = at.checked_sub(physical).and_then(|place| usize::try_from(place).ok());
                if let Some(there) = place.and_then(|place| data.get_mut(place)) {
                    *there = *byte;
                }
            }
        }
    }

    /// Writes `data` to `physical`, below the breakpoint instructions. False if there is no memory.
    pub(super) fn write_below(&mut self, physical: u64, data: &[u8]) -> bool {
        let mut data = data.to_vec();
        for patch in self.patches.values_mut() {
            for ((at, byte), trap) in (patch.physical..).zip(&mut patch.original).zip(self.facilities.trap) {
                let place = at.checked_sub(physical).and_then(|place| usize::try_from(place).ok());
                if let Some(new) = place.and_then(|place| data.get_mut(place)) {
                    *byte = std::mem::replace(new, *trap);
                }
            }
        }
        self.write(physical, &data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Facilities =
        Facilities { trap: &[0xcc, 0xdd], reports_trap: true, execute: 1, data: 1, together: 2 };

    fn breakpoints() -> (GuestMemoryMmap, Breakpoints) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0x1000), 0x1000)]).unwrap();
        memory.write_slice(&[1, 2, 3, 4, 5], GuestAddress(0x1100)).unwrap();
        (memory.clone(), Breakpoints::new(memory, FEW))
    }

    fn bytes(memory: &GuestMemoryMmap) -> [u8; 5] {
        memory.read_obj(GuestAddress(0x1100)).unwrap()
    }

    #[test]
    fn instructions_come_back() {
        let (memory, mut breakpoints) = breakpoints();
        assert!(breakpoints.insert(0xf100, 0x1101) && breakpoints.insert(0xe100, 0x1101));
        assert_eq!(bytes(&memory), [1, 0xcc, 0xdd, 4, 5]);
        assert!(breakpoints.stops().software);
        assert!(breakpoints.remove(0xf100) && !breakpoints.remove(0xf100));
        assert_eq!(bytes(&memory), [1, 0xcc, 0xdd, 4, 5]);
        breakpoints.clear();
        assert_eq!(bytes(&memory), [1, 2, 3, 4, 5]);
        assert!(!breakpoints.insert(0, 0x1fff) && !breakpoints.insert(0, 0));
        assert_eq!(breakpoints.stops(), Stops::default());
    }

    #[test]
    fn a_guest_that_changed_its_code_keeps_it() {
        let (memory, mut breakpoints) = breakpoints();
        assert!(breakpoints.insert(0xf100, 0x1100));
        memory.write_slice(&[9, 9], GuestAddress(0x1100)).unwrap();
        breakpoints.clear();
        assert_eq!(bytes(&memory), [9, 9, 3, 4, 5]);
    }

    #[test]
    fn a_debugger_sees_no_breakpoints() {
        let (memory, mut breakpoints) = breakpoints();
        assert!(breakpoints.insert(0, 0x1101));
        let mut data = bytes(&memory);
        breakpoints.hide(0x1100, &mut data);
        assert_eq!(data, [1, 2, 3, 4, 5]);
        let mut second = [0xdd];
        breakpoints.hide(0x1102, &mut second);
        assert_eq!(second, [3]);
        assert!(breakpoints.write_below(0x1100, &[7, 8]));
        assert_eq!(bytes(&memory), [7, 0xcc, 0xdd, 4, 5]);
        breakpoints.clear();
        assert_eq!(bytes(&memory), [7, 8, 3, 4, 5]);
    }

    #[test]
    fn debug_registers_are_few() {
        let (_, mut breakpoints) = breakpoints();
        assert!(breakpoints.watch(0x10, 1, SlotKind::Execute));
        assert!(!breakpoints.watch(0x20, 1, SlotKind::Execute));
        // Needs two.
        assert!(!breakpoints.watch(0x31, 2, SlotKind::Write));
        assert!(breakpoints.watch(0x32, 2, SlotKind::Write));
        assert_eq!(breakpoints.stops().slots.len(), 2);
        assert!(!breakpoints.unwatch(0x32, 2, SlotKind::Read));
        assert!(breakpoints.unwatch(0x32, 2, SlotKind::Write));
        assert!(!breakpoints.watch(0x40, u64::MAX, SlotKind::Write));
    }
}
