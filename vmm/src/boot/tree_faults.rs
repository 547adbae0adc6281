//! Fault injection in the device tree: it advertises CMA windows wrongly to the guest.

use cma::{PAGE_SIZE, Window, node::ReservedMemory};
use devices::faults::{Event, FaultHandle, FaultPoint as _, Faults, Ids, Table, fault_point};

/// The points and actions that a plan of faults may use: those of the tree, then those of the devices.
pub fn fault_tables() -> Vec<&'static Table> {
    [&FAULTS].into_iter().chain(devices::fault_tables()).collect()
}

static FAULTS: Table = Table {
    title: "Device tree",
    ids: Ids::Windows,
    windows: true,
    channels: 0,
    channel_names: &[],
    points: &[Tree::POINT],
};

fault_point! {
    /// The node of a CMA window is put into the device tree, before the guest boots: one event for each, in their order.
    enum Tree = "tree" [] {
        /// The tree advertises the window at this address, whatever is there.
        Move { base: u64 in 0..=i64::MAX - 1 } = "move",
        /// The tree advertises the window with this size.
        Resize { bytes: u64 in 1..=i64::MAX - 1 } = "resize",
        /// The window's node has no `reusable`.
        NotReusable = "not-reusable",
        /// The window's node has `no-map`.
        NoMap = "no-map",
        /// `/reserved-memory` has one cell for addresses and one for sizes, and the root has two.
        WrongCells = "wrong-cells",
        /// `/reserved-memory` has no `ranges`.
        NoRanges = "no-ranges",
        /// The `memory-region` of the window's devices refers to no node.
        Dangling = "dangling",
        /// Before the window's node there are this many more, each with a page of its own below the window.
        Crowd { count: u32 in 1..=256 } = "crowd",
    }
}

/// Added to a phandle, it makes one that no node has.
const NOBODYS_PHANDLE: u32 = 0x1000;

/// Adds `window` to the windows that the tree advertises, with the faults of the plan.
pub fn advertise(advertised: &mut ReservedMemory, mut phandle: u32, mut window: Window, faults: &Faults) {
    let handle = FaultHandle::of_window(faults.clone(), &window.name);
    if let Some(fault) = handle.consult(Event::PLAIN) {
        match fault.action {
            Tree::Move { base } => {
                window.base = base;
                window.within = None;
            }
            Tree::Resize { bytes } => window.size = bytes,
            Tree::NotReusable => window.reusable = false,
            Tree::NoMap => window.no_map = true,
            Tree::WrongCells => advertised.cells = 1,
            Tree::NoRanges => advertised.ranges = false,
            Tree::Dangling => phandle += NOBODYS_PHANDLE,
            Tree::Crowd { count } => {
                // A page lies between each two: else the kernel's memblock merges them into one region.
                let below = |page: u64| window.base.saturating_sub(2 * page * PAGE_SIZE);
                advertised.pages.extend((1..=u64::from(count)).map(below));
            }
        }
    }
    advertised.windows.push((phandle, window));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual lies beside the devices, whose tables are most of it.
    #[test]
    fn the_manual_is_made_of_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../devices/src/faults/FAULTS.md");
        let made = devices::faults::reference(&fault_tables());
        if std::env::var_os("UPDATE_PAGES").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == made,
            "{path} differs from the tables; make it again with UPDATE_PAGES=1 cargo test -p vmm --lib"
        );
    }
}
