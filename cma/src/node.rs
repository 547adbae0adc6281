//! The /reserved-memory node: how the windows are told to Linux.
//!
//! The rules are those of drivers/of/fdt.c (__reserved_mem_reserve_reg, __reserved_mem_check_root) and
//! kernel/dma/contiguous.c (rmem_cma_setup): the cells equal the root's, `ranges` is there, one `reg` tuple,
//! `reusable` and no `no-map`.

use vm_fdt::{Error, FdtWriter};

use crate::Window;

/// The name of the window's node, with the unit address of a window that has its place: in a guest also the area's.
pub fn name(window: &Window) -> String {
    match window.within {
        Some(_) => window.name.clone(),
        None => format!("{}@{:x}", window.name, window.base),
    }
}

/// Writes /reserved-memory with `windows` into a tree whose root has two address and two size cells.
///
/// Before each window stands its phandle, for devices' `memory-region`; without windows there is no node.
///
/// # Errors
/// Those of the writer: a node at the wrong place, a name that is no node name.
pub fn write(fdt: &mut FdtWriter, windows: &[(u32, &Window)]) -> Result<(), Error> {
    if windows.is_empty() {
        return Ok(());
    }
    let parent = fdt.begin_node("reserved-memory")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
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
            fdt.property_array_u64("reg", &[window.base, window.size])?;
        }
        if window.default {
            fdt.property_null("linux,cma-default")?;
        }
        fdt.property_phandle(*phandle)?;
        fdt.end_node(node)?;
    }
    fdt.end_node(parent)
}
