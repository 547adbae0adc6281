//! The messages of a boot: the kernel, the board, the windows that it placed, and those that it did not make.

use super::{
    contents::{BootNote, Log, MOST, Origin, Placed},
    line::number_after,
};

/// The beginnings of such messages, what they mean, and where they come from.
const MEANINGS: [(&str, &str, &str); 13] = [
    (
        "cma: Failed to reserve",
        "the kernel found no room for the default window, so devices without a window of their own get none",
        "mm/cma.c, cma_declare_contiguous_nid",
    ),
    (
        "Reserved memory: incorrect alignment of CMA region",
        "the base or the size of a node is not a multiple of the pageblock, so the node is no window",
        "kernel/dma/contiguous.c, rmem_cma_setup",
    ),
    (
        "Reserved memory: unable to setup CMA region",
        "the memory of a node is not RAM, or there are too many windows",
        "kernel/dma/contiguous.c, rmem_cma_setup",
    ),
    (
        "Not enough slots for CMA reserved regions",
        "there are more windows than CONFIG_CMA_AREAS permits",
        "mm/cma.c, cma_init_reserved_mem",
    ),
    (
        "failed to allocate memory for node",
        "the kernel found no room for a node without an address",
        "drivers/of/of_reserved_mem.c, __reserved_mem_alloc_size",
    ),
    (
        "Failed to allocate memory for reserved_mem",
        "the kernel has no room for its list of regions, and ignores all nodes",
        "drivers/of/of_reserved_mem.c, alloc_reserved_mem_array",
    ),
    (
        "Reserved memory: failed to reserve memory for node",
        "the memory of a node is used already, or is not RAM",
        "drivers/of/of_reserved_mem.c, early_init_dt_reserve_memory",
    ),
    (
        "Reserved memory: unsupported node format",
        "/reserved-memory has no ranges, or other cells than the root, so all nodes are ignored",
        "drivers/of/of_reserved_mem.c, __reserved_mem_check_root",
    ),
    (
        "Reserved memory: bypass",
        "cma= on the command line takes the place of a node with linux,cma-default",
        "kernel/dma/contiguous.c, rmem_cma_setup",
    ),
    (
        "Skipping dt linux,cma-default node",
        "cma= on the command line takes the place of a node with linux,cma-default",
        "kernel/dma/contiguous.c, __rmem_cma_verify_node",
    ),
    ("OVERLAP DETECTED!", "two nodes share memory", "drivers/of/of_reserved_mem.c, __rmem_check_for_overlap"),
    (
        "could not be activated",
        "a window has pages of two zones, so the kernel uses it as ordinary memory",
        "mm/cma.c, cma_activate_area",
    ),
    (
        "defined on low/high memory boundary",
        "a window would have low and high memory, and is refused",
        "mm/cma.c, cma_declare_contiguous_nid",
    ),
];

/// Takes what a line says about the boot.
pub(super) fn read(log: &mut Log, number: usize, text: &str) {
    if let Some((_, rest)) = text.split_once("Linux version ") {
        log.release = rest.split_whitespace().next().map(|word| word.chars().take(64).collect());
        // The windows of a boot before are gone.
        log.booted = number;
        log.windows.clear();
        log.notes.clear();
        let built = |word: &str| rest.contains(word);
        log.arch = log.arch.or(match () {
            () if built("aarch64") => Some("aarch64"),
            () if built("arm-") || built("armv7") || built("armhf") => Some("armv7l"),
            () if built("riscv64") => Some("riscv64"),
            () if built("x86_64") || built("x86-64") => Some("x86_64"),
            () => None,
        });
        return;
    }
    if let Some((_, rest)) = text.split_once("Kernel command line: ") {
        log.cmdline = Some(rest.to_owned());
        return;
    }
    if let Some((_, rest)) = text.split_once("Machine model: ") {
        log.model = Some(rest.chars().take(200).collect());
        return;
    }
    if text.contains("CPU: ARMv7 Processor") {
        log.arch = Some("armv7l");
    } else if text.contains("Booting Linux on physical CPU 0x0000000000 [") {
        // The kernel of 32-bit Arm prints the number without leading zeros.
        log.arch = Some("aarch64");
    }
    if let Some(placed) = placed(number, text)
        && log.windows.len() < MOST
    {
        log.windows.push(placed);
    }
    name(log, text);
    if let Some((at, (_, meaning, source))) =
        MEANINGS.iter().find_map(|entry| text.find(entry.0).map(|at| (at, *entry)))
        && log.notes.len() < MOST
    {
        // These begin in the middle of the message.
        let begins =
            ["could not be activated", "defined on low/high memory boundary"].map(|end| text.contains(end));
        let at = if begins.contains(&true) { text.find("cma: ").unwrap_or(at) } else { at };
        let text = text[at..].chars().take(200).collect();
        log.notes.push(BootNote { line: number, text, meaning, source });
    }
}

/// `Reserved memory: created CMA memory pool at 0x000000003c000000, size 64 MiB` or `cma: Reserved 64 MiB at 0x3c000000`.
fn placed(line: usize, text: &str) -> Option<Placed> {
    let mib = |mib: u64| mib.checked_mul(1 << 20).filter(|size| *size > 0);
    if let Some((_, rest)) = text.split_once("Reserved memory: created CMA memory pool at ") {
        let (base, rest) = number_after(rest, "")?;
        let size = mib(number_after(rest, "size ")?.0)?;
        return Some(Placed { line, name: None, base: Some(base), size, origin: Origin::Tree });
    }
    let (size, rest) = number_after(text, "cma: Reserved ")?;
    let size = mib(size)?;
    let rest = rest.trim_start().strip_prefix("MiB")?;
    let base = number_after(rest, " at ").map(|(base, _)| base);
    let ranges = rest.contains(" range");
    (base.is_some() || ranges).then_some(Placed { line, name: None, base, size, origin: Origin::Kernel })
}

/// Takes the name of a window from a message after the one about its place:
/// `OF: reserved mem: initialized node linux,cma, compatible id shared-dma-pool`, and since 6.6
/// `OF: reserved mem: 0x000000003c000000..0x000000003fffffff (65536 KiB) map reusable linux,cma`.
fn name(log: &mut Log, text: &str) {
    if let Some((_, rest)) = text.split_once("initialized node ")
        && let Some((name, _)) = rest.split_once(", compatible id shared-dma-pool")
        && let Some(window) = log.windows.last_mut().filter(|window| window.origin == Origin::Tree)
    {
        window.name.get_or_insert_with(|| name.chars().take(64).collect());
    }
    if let Some((range, name)) = text.split_once(" map reusable ")
        && let Some((_, range)) = range.split_once("reserved mem: ")
        && let Some((base, _)) = number_after(range, "")
        && let Some(window) = log.windows.iter_mut().rev().find(|window| window.base == Some(base))
    {
        window.name = Some(name.trim().chars().take(64).collect());
    }
}
