//! The options of a kernel's configuration on which the rules of reserved memory depend, from a .config.

use crate::{
    PAGE_SIZE,
    area::Rules,
    check::{Kernel, KernelError, SizeSelection},
};

/// A configuration: lines `CONFIG_NAME=value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Config<'a>(pub(super) &'a str);

impl Config<'_> {
    /// The value of an option. None if it is not set.
    fn value(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (option, value) = line.trim().strip_prefix("CONFIG_")?.split_once('=')?;
            (option == name).then_some(value)
        })
    }

    fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("y")
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.value(name)?.parse().ok()
    }

    /// CONFIG_CMA_ALIGNMENT.
    pub(super) fn alignment(&self) -> Option<u32> {
        self.number("CMA_ALIGNMENT").filter(|order| (2..=12).contains(order))
    }

    /// The size of a page of a 64-bit Arm kernel. None if the configuration does not say it.
    pub(super) fn page_size(&self) -> Option<u64> {
        let sizes = [("ARM64_64K_PAGES", 16), ("ARM64_16K_PAGES", 4), ("ARM64_4K_PAGES", 1)];
        sizes.into_iter().find(|(name, _)| self.is_set(name)).map(|(_, pages)| pages * PAGE_SIZE)
    }

    /// `kernel` with the options of this configuration. Before Linux 6.4 the configured order is one more than the largest, so
    /// `release` matters.
    ///
    /// # Errors
    /// If there is no such kernel.
    pub(super) fn apply(&self, kernel: &Kernel, release: Option<&str>) -> Result<Kernel, KernelError> {
        let mut options = kernel.options.clone();
        options.dma_cma = self.is_set("DMA_CMA");
        options.cma_size_mbytes = self.number("CMA_SIZE_MBYTES").unwrap_or(options.cma_size_mbytes);
        options.cma_size_percentage =
            self.number("CMA_SIZE_PERCENTAGE").unwrap_or(options.cma_size_percentage);
        let selections = [
            ("CMA_SIZE_SEL_MBYTES", SizeSelection::Mbytes),
            ("CMA_SIZE_SEL_PERCENTAGE", SizeSelection::Percentage),
            ("CMA_SIZE_SEL_MIN", SizeSelection::Min),
            ("CMA_SIZE_SEL_MAX", SizeSelection::Max),
        ];
        if let Some((_, selection)) = selections.into_iter().find(|(name, _)| self.is_set(name)) {
            options.cma_size_selection = selection;
        }
        options.cma_alignment = self.alignment().unwrap_or(options.cma_alignment);
        options.dma_declare_coherent = self.is_set("DMA_DECLARE_COHERENT");
        options.dma_global_pool = self.is_set("DMA_GLOBAL_POOL");
        options.dma_restricted_pool = self.is_set("DMA_RESTRICTED_POOL");
        options.hugetlb = self.is_set("HUGETLB_PAGE")
            || (kernel.rules == Rules::V7_2 && self.is_set("TRANSPARENT_HUGEPAGE"));
        options.zone_dma = self.is_set("ZONE_DMA");
        options.highmem = self.is_set("HIGHMEM");
        let order = self.number::<u32>("ARCH_FORCE_MAX_ORDER");
        let older = release.is_some_and(is_before_6_4);
        options.max_order = order.map_or(options.max_order, |order| order.saturating_sub(u32::from(older)));
        let areas = self.number("CMA_AREAS");
        let areas = areas.filter(|areas| *areas < 1 << 16);
        // Kernel::new adds the one of 6.1.
        let areas = areas.unwrap_or(kernel.cma_areas - usize::from(kernel.rules == Rules::V6_1));
        let lowmem_end = kernel.lowmem_end;
        let kernel = Kernel::new(kernel.rules, kernel.arch, kernel.page_size, areas, options)?;
        Ok(Kernel { lowmem_end, ..kernel })
    }
}

fn is_before_6_4(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0_u32));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Arch;

    #[test]
    fn options_of_a_configuration() {
        let config = Config(
            "CONFIG_DMA_CMA=y\nCONFIG_CMA_AREAS=7\n# CONFIG_HUGETLB_PAGE is not set\nCONFIG_CMA_SIZE_SEL_MAX=y\n\
             CONFIG_CMA_SIZE_MBYTES=16\nCONFIG_CMA_ALIGNMENT=9\nCONFIG_ARCH_FORCE_MAX_ORDER=11\nCONFIG_ARM64_16K_PAGES=y\n",
        );
        let kernel = |release| {
            let debian = Kernel::debian(Rules::V6_1, Arch::Arm64, 4096).unwrap();
            config.apply(&debian, Some(release)).unwrap()
        };
        let old = kernel("6.1.2");
        // Without huge pages, the largest order of the buddy allocator is the pageblock.
        assert_eq!((old.pageblock, old.cma_areas), (4 << 20, 8));
        assert_eq!((old.options.cma_size_mbytes, old.options.cma_size_selection), (16, SizeSelection::Max));
        assert!(old.options.dma_cma && !old.options.zone_dma);
        assert_eq!(kernel("6.4.0").pageblock, 8 << 20);
        assert_eq!((config.alignment(), config.page_size()), (Some(9), Some(16384)));
        assert_eq!(Config("CONFIG_CMA_ALIGNMENT=40").alignment(), None);
    }
}
