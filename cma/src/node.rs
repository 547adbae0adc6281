//! The /reserved-memory node, which advertises windows to Linux.
//!
//! The rules are those of drivers/of/fdt.c (__reserved_mem_reserve_reg, __reserved_mem_check_root) and
//! kernel/dma/contiguous.c (rmem_cma_setup): the cells equal the root's, `ranges` is there, one `reg` tuple,
//! `reusable` and no `no-map`.

use vm_fdt::{Error, FdtWriter};

use crate::{PAGE_SIZE, Window};

/// The name of the window's node, with the unit address if the window has an address. The guest's kernel gives the area this name.
pub fn name(window: &Window) -> String {
    match window.within {
        Some(_) => window.name.clone(),
        None => format!("{}@{:x}", window.name, window.base),
    }
}

/// The content of /reserved-memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedMemory {
    /// The number of cells of an address and of a size: 2, as at the root, unless a fault changes it.
    pub cells: u32,
    /// Whether it has `ranges`, which Linux requires.
    pub ranges: bool,
    /// Additional reserved pages, each with a node.
    pub pages: Vec<u64>,
    /// The windows after them, each with its phandle for the `memory-region` of devices.
    pub windows: Vec<(u32, Window)>,
}

/// Writes /reserved-memory into a tree whose root has two address and two size cells. Without windows it writes nothing.
///
/// # Errors
/// The errors of the writer: a node at the wrong place, an invalid node name.
pub fn write(fdt: &mut FdtWriter, reserved: &ReservedMemory) -> Result<(), Error> {
    let ReservedMemory { cells, ranges, pages, windows } = reserved;
    if windows.is_empty() {
        return Ok(());
    }
    let reg = |fdt: &mut FdtWriter, base: u64, size: u64| match cells {
        2 => fdt.property_array_u64("reg", &[base, size]),
        // The low 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "a fault truncates the address")]
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
