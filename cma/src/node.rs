//! The /reserved-memory node: how the windows are told to Linux.
//!
//! The rules are those of drivers/of/fdt.c (__reserved_mem_reserve_reg, __reserved_mem_check_root) and
//! kernel/dma/contiguous.c (rmem_cma_setup): the cells equal the root's, `ranges` is there, one `reg` tuple,
//! `reusable` and no `no-map`.

use vm_fdt::{Error, FdtWriter};

use crate::Window;

/// Writes /reserved-memory with `windows` into a tree whose root has two address and two size cells.
///
/// `phandles` are the windows' handles, for devices' `memory-region`; without windows there is no node.
///
/// # Errors
/// Those of the writer: a node at the wrong place, a name that is no node name.
pub fn write(fdt: &mut FdtWriter, windows: &[Window], phandles: &[u32]) -> Result<(), Error> {
    if windows.is_empty() {
        return Ok(());
    }
    let parent = fdt.begin_node("reserved-memory")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    for (window, phandle) in windows.iter().zip(phandles) {
        let node = fdt.begin_node(&format!("{}@{:x}", window.name, window.base))?;
        fdt.property_string("compatible", "shared-dma-pool")?;
        fdt.property_null("reusable")?;
        fdt.property_array_u64("reg", &[window.base, window.size])?;
        if window.default {
            fdt.property_null("linux,cma-default")?;
        }
        fdt.property_phandle(*phandle)?;
        fdt.end_node(node)?;
    }
    fdt.end_node(parent)
}
