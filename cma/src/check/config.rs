//! The configuration of a kernel, a .config, as the check's kernel.

use std::collections::BTreeMap;

use super::kernel::{Arch, Kernel, KernelError, Options, SizeSelection};
use crate::{PAGE_SIZE, area::Rules};

/// The options that name an architecture.
const ARCHITECTURES: [(&str, Arch); 4] =
    [("ARM64", Arch::Arm64), ("ARM", Arch::Arm), ("RISCV", Arch::Riscv), ("X86_64", Arch::X86_64)];
/// The options that choose a size of pages: since 6.10, and before on arm64.
const PAGES: [(&str, &str, u64); 3] = [
    ("PAGE_SIZE_4KB", "ARM64_4K_PAGES", 4 << 10),
    ("PAGE_SIZE_16KB", "ARM64_16K_PAGES", 16 << 10),
    ("PAGE_SIZE_64KB", "ARM64_64K_PAGES", 64 << 10),
];
// Defaults of CONFIG_CMA_AREAS (mm/Kconfig) and CONFIG_CMA_ALIGNMENT (kernel/dma/Kconfig).
const AREAS: usize = 7;
const ALIGNMENT: u32 = 8;

/// Why a configuration gives no kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It does not name an architecture that the check knows.
    #[error("it sets none of CONFIG_ARM64, CONFIG_ARM, CONFIG_RISCV and CONFIG_X86_64")]
    Arch,
    /// An option has an invalid value.
    #[error("it has CONFIG_{name}={value}, which is no number")]
    Value {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The values contradict each other.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What is known otherwise, which wins over the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given {
    /// The version of Linux.
    pub rules: Option<Rules>,
    /// The architecture.
    pub arch: Option<Arch>,
    /// The size of a page.
    pub page_size: Option<u64>,
}

/// A configuration.
#[derive(Debug, Clone)]
pub struct Config<'a> {
    values: BTreeMap<&'a str, &'a str>,
    version: Option<(u32, u32)>,
}

/// The values of all options that are set, by their names without `CONFIG_`.
fn values(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("CONFIG_")?.split_once('='));
    lines.map(|(name, value)| (name, value.trim_matches('"'))).collect()
}

/// The version in the comment `# Linux/arm64 6.1.80 Kernel Configuration`.
fn version(text: &str) -> Option<(u32, u32)> {
    let line = text.lines().take(10).find(|line| line.ends_with(" Kernel Configuration"))?;
    let mut numbers = line.strip_prefix("# Linux/")?.split(' ').nth(1)?.split(['.', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl<'a> Config<'a> {
    /// Reads a .config.
    pub fn read(text: &'a str) -> Self {
        Self { values: values(text), version: version(text) }
    }

    /// CONFIG_CMA_ALIGNMENT, if it is one that the kernel permits.
    pub fn alignment(&self) -> Option<u32> {
        self.number("CMA_ALIGNMENT").ok().flatten().filter(|order| (2..=12).contains(order))
    }

    /// The size of a page, if the configuration says it.
    pub fn page_size(&self) -> Option<u64> {
        PAGES.iter().find(|(name, before, _)| self.has(name) || self.has(before)).map(|(.., size)| *size)
    }

    fn has(&self, name: &str) -> bool {
        self.values.get(name) == Some(&"y")
    }

    fn number<T: TryFrom<u64>>(&self, name: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let number = value.parse::<u64>().ok().and_then(|number| number.try_into().ok());
        let shown = || value.chars().take(40).flat_map(char::escape_debug).collect();
        number.map(Some).ok_or_else(|| ConfigError::Value { name, value: shown() })
    }

    /// The kernel with this configuration.
    ///
    /// # Errors
    /// If it is not possible.
    pub fn kernel(&self, given: Given) -> Result<Kernel, ConfigError> {
        let rules = given.rules.or(self.version.map(Rules::of_version)).unwrap_or(Rules::V6_12);
        let named = ARCHITECTURES.iter().find(|(name, _)| self.has(name)).map(|(_, arch)| *arch);
        let arch = given.arch.or(named).ok_or(ConfigError::Arch)?;
        let page_size = given.page_size.or(self.page_size()).unwrap_or(PAGE_SIZE);
        let cma = self.has("CMA");
        // Without CONFIG_ARCH_FORCE_MAX_ORDER it is 10 (include/linux/mmzone.h). Up to 6.3 the option is one more than the order.
        let first_free = self.version.map_or(rules == Rules::V6_1, |version| version < (6, 4));
        let forced: Option<u32> = self.number("ARCH_FORCE_MAX_ORDER")?;
        let max_order = forced.map_or(10, |order| if first_free { order.saturating_sub(1) } else { order });
        let block: Option<u32> = self.number("PAGE_BLOCK_MAX_ORDER")?;
        // A pageblock of 6.15 and later is a huge page also without hugetlbfs (include/linux/pageblock-flags.h).
        let huge = self.has("HUGETLB_PAGE") || rules == Rules::V7_2 && self.has("TRANSPARENT_HUGEPAGE");
        let selection = [
            ("CMA_SIZE_SEL_PERCENTAGE", SizeSelection::Percentage),
            ("CMA_SIZE_SEL_MIN", SizeSelection::Min),
            ("CMA_SIZE_SEL_MAX", SizeSelection::Max),
        ];
        let selection =
            selection.into_iter().find(|(name, _)| self.has(name)).map(|(_, selection)| selection);
        let options = Options {
            dma_cma: cma && self.has("DMA_CMA"),
            cma_size_mbytes: self.number("CMA_SIZE_MBYTES")?.unwrap_or(0),
            cma_size_percentage: self.number("CMA_SIZE_PERCENTAGE")?.unwrap_or(0),
            cma_size_selection: selection.unwrap_or(SizeSelection::Mbytes),
            cma_size_pernuma: self.has("CMA_SIZE_PERNUMA"),
            cma_alignment: self.number("CMA_ALIGNMENT")?.unwrap_or(ALIGNMENT),
            dma_declare_coherent: self.has("DMA_DECLARE_COHERENT"),
            dma_global_pool: self.has("DMA_GLOBAL_POOL"),
            dma_restricted_pool: self.has("DMA_RESTRICTED_POOL"),
            hugetlb: huge,
            max_order: block.map_or(max_order, |block| block.min(max_order)),
            zone_dma: self.has("ZONE_DMA"),
            highmem: self.has("HIGHMEM"),
        };
        let areas = self.number("CMA_AREAS")?.unwrap_or(AREAS);
        Ok(Kernel::new(rules, arch, page_size, areas, options)?)
    }
}
