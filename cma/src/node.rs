//! The /reserved-memory node, by which windows are advertised to Linux.
//!
//! The rules are those of drivers/of/fdt.c (__reserved_mem_reserve_reg, __reserved_mem_check_root) and
//! kernel/dma/contiguous.c (rmem_cma_setup): the cells equal the root's, `ranges` is there, one `reg` tuple,
//! `reusable` and no `no-map`.

use vm_fdt::{Error, FdtWriter};

use crate::{PAGE_SIZE, Window};

/// The name of the window's node, with the unit address of a window that has its place: in a guest also the area's.
pub fn name(window: &Window) -> String {
    match window.within {
        Some(_) => window.name.clone(),
        None => format!("{}@{:x}", window.name, window.base),
    }
}

/// What the tree tells of reserved memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedMemory {
    /// How many cells an address has, and a size: 2, as at the root, unless it is to be wrong.
    pub cells: u32,
    /// Whether there is `ranges`, as there has to be.
    pub ranges: bool,
    /// Pages that are reserved, each by a node of its own.
    pub pages: Vec<u64>,
    /// The windows behind them, each after its phandle, for devices' `memory-region`.
    pub windows: Vec<(u32, Window)>,
}

/// Writes /reserved-memory into a tree whose root has two address and two size cells; without windows there is no such node.
///
/// # Errors
/// Those of the writer: a node at the wrong place, a name that is no node name.
pub fn write(fdt: &mut FdtWriter, reserved: &ReservedMemory) -> Result<(), Error> {
    let ReservedMemory { cells, ranges, pages, windows } = reserved;
    if windows.is_empty() {
        return Ok(());
    }
    let reg = |fdt: &mut FdtWriter, base: u64, size: u64| match cells {
        2 => fdt.property_array_u64("reg", &[base, size]),
        // As much of them as there is room for.
        #[expect(clippy::cast_possible_truncation, reason = "what is lost is lost on purpose")]
        _ => fdt.property_array_u32("reg", &[base as u32, size as u32]),
    };
    let parent = fdt.begin_node("reserved-memory")?;
    fdt.property_u32("#address-cells", *cells)?;
    fdt.property_u32("#size-cells", *cells)?;
    if *ranges {
        fdt.property_null("ranges")?;
    }
    for page in pages {
        let node = fdt.begin_node(&format!("page@{page:x}"))?;
        reg(fdt, *page, PAGE_SIZE)?;
        fdt.end_node(node)?;
    }
    for (phandle, window) in windows {
        let node = fdt.begin_node(&name(window))?;
        fdt.property_string("compatible", "shared-dma-pool")?;
        if window.reusable {
            fdt.property_null("reusable")?;
        }
        if window.no_map {
            fdt.property_null("no-map")?;
        }
        if let Some(within) = &window.within {
            fdt.property_u64("size", window.size)?;
            if let Some(align) = window.align {
                fdt.property_u64("alignment", align)?;
            }
            fdt.property_array_u64("alloc-ranges", &[within.start, within.end - within.start])?;
        } else {
            reg(fdt, window.base, window.size)?;
        }
        if window.default {
            fdt.property_null("linux,cma-default")?;
        }
        fdt.property_phandle(*phandle)?;
        fdt.end_node(node)?;
    }
    fdt.end_node(parent)
}
