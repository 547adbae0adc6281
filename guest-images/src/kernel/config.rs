//! Reads a kernel's configuration: the requested options that it lacks, and the sizes of pages and pageblocks.

/// The lines of `fragment` that `config` lacks: options that do not exist, or whose dependencies
/// are not met.
pub(super) fn refused_options(fragment: &str, config: &str) -> Vec<String> {
    let has = |line: &str| match line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        // `config` does not mention an option whose dependencies are not met, so it is off, too.
        Some(option) => value(config, option).is_none(),
        None => config.lines().any(|set| set == line),
    };
    fragment
        .lines()
        .filter(|line| line.starts_with("CONFIG_") || line.starts_with("# CONFIG_"))
        .filter(|line| !has(line))
        .map(ToOwned::to_owned)
        .collect()
}

/// The value of `option` in `config`, if it is set.
fn value<'a>(config: &'a str, option: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='))
}

/// The release of a configuration, from its heading `# Linux/x86 6.1.192 Kernel Configuration`; 0.0 without one.
fn version(config: &str) -> (u32, u32) {
    let heading = config.lines().find_map(|line| line.strip_prefix("# Linux/")?.split(' ').nth(1));
    let mut numbers = heading.unwrap_or_default().split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The sizes of a page and of a pageblock in bytes, as JSON. A pageblock is the unit of CMA: windows begin and end at
/// multiples of it (`CMA_MIN_ALIGNMENT_BYTES` in include/linux/cma.h).
pub(super) fn sizes(config: &str) -> String {
    let number = |option| value(config, option).and_then(|value| value.parse::<u32>().ok());
    // On x86, 6.1 has no such option: pages have 4 KiB.
    let page_shift = number("CONFIG_PAGE_SHIFT").or_else(|| number("CONFIG_ARM64_PAGE_SHIFT")).unwrap_or(12);
    // include/linux/mmzone.h: up to 6.3 it is one more than the order of the largest block.
    let beyond = u32::from(version(config) < (6, 4));
    let max_order = number("CONFIG_ARCH_FORCE_MAX_ORDER").map_or(10, |order| order.saturating_sub(beyond));
    // include/linux/pageblock-flags.h; a huge page is what one page of 8-byte entries maps.
    let huge_order = if value(config, "CONFIG_HUGETLB_PAGE").is_some() { page_shift - 3 } else { u32::MAX };
    let pageblock_order = huge_order.min(number("CONFIG_PAGE_BLOCK_MAX_ORDER").unwrap_or(max_order));
    format!(
        "{{\"page_size\": {}, \"pageblock\": {}}}\n",
        1u64 << page_shift,
        1u64 << (page_shift + pageblock_order)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_did_not_come_true_are_named() {
        let fragment = "# A heading\nCONFIG_A=y\nCONFIG_B=17\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=16\nCONFIG_C=y\n";
        assert_eq!(refused_options(fragment, config), ["CONFIG_B=17", "# CONFIG_C is not set"]);
        assert_eq!(refused_options("CONFIG_A=y\n", "CONFIG_AA=y\n"), ["CONFIG_A=y"]);
    }

    #[test]
    fn a_pageblock_is_a_huge_page_or_the_largest_block_of_the_allocator() {
        let ours =
            "CONFIG_ARM64_PAGE_SHIFT=12\nCONFIG_ARCH_FORCE_MAX_ORDER=11\n# CONFIG_HUGETLBFS is not set\n";
        let debians = "CONFIG_ARM64_PAGE_SHIFT=12\nCONFIG_ARCH_FORCE_MAX_ORDER=11\nCONFIG_HUGETLB_PAGE=y\n";
        let large = "CONFIG_ARM64_PAGE_SHIFT=16\nCONFIG_ARCH_FORCE_MAX_ORDER=14\n";
        let json = |page: u64, block: u64| format!("{{\"page_size\": {page}, \"pageblock\": {block}}}\n");
        assert_eq!(sizes(""), json(4 << 10, 4 << 20));
        assert_eq!(sizes(ours), json(4 << 10, 4 << 20));
        assert_eq!(sizes(debians), json(4 << 10, 2 << 20));
        assert_eq!(sizes(large), json(64 << 10, 512 << 20));
        assert_eq!(sizes(&format!("{large}CONFIG_HUGETLB_PAGE=y\n")), json(64 << 10, 512 << 20));
        let newer = "# Linux/arm64 6.12.117 Kernel Configuration\nCONFIG_ARCH_FORCE_MAX_ORDER=10\nCONFIG_PAGE_SHIFT=12\n";
        assert_eq!(sizes(newer), json(4 << 10, 4 << 20));
        assert_eq!(sizes("# Linux/x86 7.2.13 Kernel Configuration\n"), json(4 << 10, 4 << 20));
        let limited = "# Linux/x86 7.2.13 Kernel Configuration\nCONFIG_PAGE_BLOCK_MAX_ORDER=8\n";
        assert_eq!(sizes(limited), json(4 << 10, 1 << 20));
        let large = "# Linux/arm64 7.2.13 Kernel Configuration\nCONFIG_ARCH_FORCE_MAX_ORDER=13\nCONFIG_PAGE_SHIFT=16\n";
        assert_eq!(sizes(large), json(64 << 10, 512 << 20));
    }
}
