//! The kernel whose rules apply: its version, architecture and configuration, and what the boot adds to the tree.

use std::{fmt, ops::Range, str::FromStr};

use serde::Serialize;

use crate::{PAGE_SIZE, area::Rules, size};

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64-bit Arm.
    Arm64,
    /// 32-bit Arm.
    Arm,
    /// 64-bit RISC-V.
    Riscv,
    /// 64-bit x86. Linux reads /reserved-memory there only with a patch, such as that of our guest images.
    #[serde(rename = "x86_64")]
    X86_64,
}

/// A text that names no architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the architecture \"{0}\" is unknown; write arm64, arm, riscv or x86_64")]
pub struct ArchError(pub String);

impl Arch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Arm64, Self::Arm, Self::Riscv, Self::X86_64];
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arm64 => "arm64",
            Self::Arm => "arm",
            Self::Riscv => "riscv",
            Self::X86_64 => "x86_64",
        })
    }
}

impl FromStr for Arch {
    type Err = ArchError;

    /// Also reads the names of Debian and of `uname -m`.
    fn from_str(text: &str) -> Result<Self, ArchError> {
        match text {
            "arm64" | "aarch64" => Ok(Self::Arm64),
            "arm" | "armhf" | "armv7l" => Ok(Self::Arm),
            "riscv" | "riscv64" => Ok(Self::Riscv),
            "x86_64" | "amd64" => Ok(Self::X86_64),
            _ => Err(ArchError(text.chars().take(40).flat_map(char::escape_debug).collect())),
        }
    }
}

/// How a kernel chooses the size of a default window that neither the tree nor `cma=` gives (CONFIG_CMA_SIZE_SEL_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeSelection {
    /// CONFIG_CMA_SIZE_MBYTES.
    Mbytes,
    /// CONFIG_CMA_SIZE_PERCENTAGE of the RAM.
    Percentage,
    /// The smaller one of both.
    Min,
    /// The larger one of both.
    Max,
}

/// The options of a kernel's configuration on which the rules depend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the kernel's configuration")]
pub struct Options {
    /// CONFIG_DMA_CMA.
    pub dma_cma: bool,
    /// CONFIG_CMA_SIZE_MBYTES.
    pub cma_size_mbytes: u64,
    /// CONFIG_CMA_SIZE_PERCENTAGE.
    pub cma_size_percentage: u64,
    /// CONFIG_CMA_SIZE_SEL_*.
    pub cma_size_selection: SizeSelection,
    /// CONFIG_CMA_SIZE_PERNUMA: each of several NUMA nodes also gets a window of the default window's size.
    pub cma_size_pernuma: bool,
    /// CONFIG_CMA_ALIGNMENT: the largest order to which a buffer is aligned.
    pub cma_alignment: u32,
    /// CONFIG_DMA_DECLARE_COHERENT.
    pub dma_declare_coherent: bool,
    /// CONFIG_DMA_GLOBAL_POOL.
    pub dma_global_pool: bool,
    /// CONFIG_DMA_RESTRICTED_POOL.
    pub dma_restricted_pool: bool,
    /// CONFIG_HUGETLB_PAGE, or since 6.15 CONFIG_TRANSPARENT_HUGEPAGE: a pageblock is a huge page.
    pub hugetlb: bool,
    /// The largest order of the buddy allocator: a pageblock of a kernel without huge pages.
    pub max_order: u32,
    /// CONFIG_ZONE_DMA.
    pub zone_dma: bool,
    /// CONFIG_HIGHMEM.
    pub highmem: bool,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// The version whose rules apply.
    pub rules: Rules,
    /// Its architecture.
    pub arch: Arch,
    /// Unit of CMA windows in bytes, CMA_MIN_ALIGNMENT_BYTES (include/linux/cma.h).
    pub pageblock: u64,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Maximum number of CMA areas, MAX_CMA_AREAS (include/linux/cma.h): CONFIG_CMA_AREAS, with 6.1 one more.
    pub cma_areas: usize,
    /// The end of low memory on 32-bit Arm; null for what the kernel calculates, 768 MiB above the start of RAM without `vmalloc=`.
    pub lowmem_end: Option<u64>,
    /// The options of its configuration.
    pub options: Options,
}

/// Why a kernel configuration is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The page size is invalid.
    #[error("the page size must be 4K, 16K or 64K, not {}", size::format(*.0))]
    PageSize(u64),
    /// The architecture does not have this page size.
    #[error("the page size of {} must be 4K, not {}", .0, size::format(*.1))]
    PageSizeOf(Arch, u64),
    /// The pageblock is invalid.
    #[error(
        "the pageblock of {} is not a power of two, or is smaller than a page of {}; give a power of two, such as 4M",
        size::format(*.pageblock), size::format(*.page_size)
    )]
    Pageblock {
        /// Its size.
        pageblock: u64,
        /// Size of a page.
        page_size: u64,
    },
}

/// The number of CMA areas of a kernel with CONFIG_CMA_AREAS=`areas`.
fn most_areas(rules: Rules, areas: usize) -> usize {
    areas + usize::from(rules == Rules::V6_1)
}

impl Kernel {
    /// A kernel with these options and CONFIG_CMA_AREAS=`areas`. Its pageblock follows from them.
    ///
    /// # Errors
    /// If the architecture does not have the page size.
    pub fn new(
        rules: Rules,
        arch: Arch,
        page_size: u64,
        areas: usize,
        options: Options,
    ) -> Result<Self, KernelError> {
        if ![PAGE_SIZE, 4 * PAGE_SIZE, 16 * PAGE_SIZE].contains(&page_size) {
            return Err(KernelError::PageSize(page_size));
        }
        if arch != Arch::Arm64 && page_size != PAGE_SIZE {
            return Err(KernelError::PageSizeOf(arch, page_size));
        }
        // A huge page is what one page of 8-byte entries maps (include/linux/pageblock-flags.h).
        let huge_order = page_size.trailing_zeros() - 3;
        let max_order = options.max_order.min(40);
        let order = if options.hugetlb { huge_order.min(max_order) } else { max_order };
        let cma_areas = most_areas(rules, areas);
        Ok(Self {
            rules,
            arch,
            pageblock: page_size << order,
            page_size,
            cma_areas,
            lowmem_end: None,
            options,
        })
    }

    /// The kernel that Debian builds (its packages linux-config-6.1, -6.12 and -7.2).
    ///
    /// # Errors
    /// If the architecture does not have the page size.
    pub fn debian(rules: Rules, arch: Arch, page_size: u64) -> Result<Self, KernelError> {
        let current = rules == Rules::V7_2;
        let (mbytes, areas) = match arch {
            Arch::Arm64 => (64, if rules == Rules::V6_1 { 19 } else { 20 }),
            Arch::Arm => (if current { 128 } else { 16 }, if rules == Rules::V6_1 { 7 } else { 8 }),
            Arch::Riscv => (128, 20),
            Arch::X86_64 => (0, if rules == Rules::V6_1 { 19 } else { 20 }),
        };
        let max_order = match (arch, page_size.trailing_zeros()) {
            (Arch::Arm, _) | (_, 14) => 11,
            (_, 16) => 13,
            _ => 10,
        };
        let options = Options {
            // Before 7.2 its RISC-V kernel has no CMA.
            dma_cma: arch != Arch::Riscv || current,
            cma_size_mbytes: mbytes,
            cma_size_percentage: 0,
            cma_size_selection: SizeSelection::Mbytes,
            cma_size_pernuma: current && arch != Arch::Arm,
            cma_alignment: 8,
            dma_declare_coherent: true,
            dma_global_pool: false,
            dma_restricted_pool: false,
            // armmp, not armmp-lpae.
            hugetlb: arch != Arch::Arm,
            max_order,
            zone_dma: arch != Arch::Riscv,
            highmem: arch == Arch::Arm,
        };
        Self::new(rules, arch, page_size, areas, options)
    }

    /// The kernel of our guest images (guest-images/kernel/common.config), with this pageblock.
    ///
    /// # Errors
    /// If the architecture does not have the page size, or if the pageblock is invalid.
    pub fn guest(rules: Rules, arch: Arch, page_size: u64, pageblock: u64) -> Result<Self, KernelError> {
        let debian = Self::debian(rules, arch, page_size)?;
        // The only default window is that of the tree or of the command line.
        let options = Options {
            dma_cma: true,
            cma_size_mbytes: 0,
            cma_size_pernuma: false,
            hugetlb: rules == Rules::V7_2,
            zone_dma: arch == Arch::Arm64,
            ..debian.options
        };
        Self::new(rules, arch, page_size, 16, options)?.with_pageblock(pageblock)
    }

    /// Whether physical addresses have 32 bits: on 32-bit Arm without LPAE, which huge pages require there.
    pub(super) fn has_32_bit_addresses(&self) -> bool {
        self.arch == Arch::Arm && !self.options.hugetlb
    }

    /// A number of the tree as the kernel stores it, as a physical address (phys_addr_t).
    pub(super) fn address(&self, number: u64) -> u64 {
        if self.has_32_bit_addresses() { number & 0xffff_ffff } else { number }
    }

    /// The range of `size` bytes at `base`, limited to physical addresses (mm/memblock.c, memblock_cap_size).
    pub(super) fn range(&self, base: u64, size: u64) -> Range<u64> {
        let end = if self.has_32_bit_addresses() { 0xffff_ffff } else { u64::MAX };
        base..base.saturating_add(size).min(end).max(base)
    }

    /// The same kernel with another pageblock, in bytes.
    ///
    /// # Errors
    /// If it is invalid.
    pub fn with_pageblock(self, pageblock: u64) -> Result<Self, KernelError> {
        if !pageblock.is_power_of_two() || pageblock < self.page_size {
            return Err(KernelError::Pageblock { pageblock, page_size: self.page_size });
        }
        Ok(Self { pageblock, ..self })
    }
}

/// What the boot adds to the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// The RAM that a boot loader describes, instead of the tree's memory nodes; empty for those of the tree.
    pub ram: Vec<Range<u64>>,
    /// The kernel's command line, instead of the tree's bootargs, as U-Boot replaces it; null for that of the tree.
    pub cmdline: Option<String>,
}

/// What a check assumes: a kernel and a boot, as one line.
pub(super) fn assumed(kernel: &Kernel, boot: &Boot) -> String {
    let Kernel { rules, arch, pageblock, page_size, cma_areas, lowmem_end, options } = kernel;
    let [pageblock, page_size] = [*pageblock, *page_size].map(size::format);
    let mut text = format!(
        "Rules of Linux {rules}, {arch}, pageblock {pageblock}, page {page_size}, at most {cma_areas} CMA areas"
    );
    if options.dma_cma {
        let mbytes = size::format(options.cma_size_mbytes << 20);
        let percentage = format!("{} % of RAM", options.cma_size_percentage);
        let size = match options.cma_size_selection {
            SizeSelection::Mbytes => mbytes,
            SizeSelection::Percentage => percentage,
            SizeSelection::Min => format!("the smaller of {mbytes} and {percentage}"),
            SizeSelection::Max => format!("the larger of {mbytes} and {percentage}"),
        };
        text += &format!(", CONFIG_DMA_CMA=y, default size {size}");
    } else {
        text += ", CONFIG_DMA_CMA=n";
    }
    if options.dma_global_pool {
        text += ", CONFIG_DMA_GLOBAL_POOL=y";
    }
    if options.dma_restricted_pool {
        text += ", CONFIG_DMA_RESTRICTED_POOL=y";
    }
    if let Some(end) = lowmem_end {
        text += &format!(", lowmem up to {end:#x}");
    }
    text += if boot.ram.is_empty() { ", RAM of the tree" } else { ", RAM as given" };
    text + if boot.cmdline.is_none() { ", command line of the tree" } else { ", command line as given" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    #[test]
    fn a_pageblock_follows_from_architecture_and_page() {
        for (arch, page, pageblock) in [
            (Arch::Arm64, 4, 2),
            (Arch::Arm64, 16, 32),
            (Arch::Arm64, 64, 512),
            (Arch::Arm, 4, 8),
            (Arch::Riscv, 4, 2),
            (Arch::X86_64, 4, 2),
        ] {
            let kernel = Kernel::debian(Rules::V6_12, arch, page << 10).unwrap();
            assert_eq!(kernel.pageblock, pageblock * M, "{arch} {page}K");
        }
        let guest = Kernel::guest(Rules::V6_1, Arch::Arm64, 4096, 4 * M).unwrap();
        assert_eq!((guest.pageblock, guest.cma_areas), (4 * M, 17));
    }

    #[test]
    fn invalid_kernels() {
        let of = |arch, page| Kernel::debian(Rules::V6_1, arch, page).map_err(|error| error.to_string());
        assert!(of(Arch::Arm64, 8192).unwrap_err().contains("must be 4K, 16K or 64K, not 8K"));
        assert!(of(Arch::Arm, 16384).unwrap_err().contains("the page size of arm must be 4K, not 16K"));
        let kernel = of(Arch::Arm64, 65536).unwrap();
        let pageblock =
            |bytes| kernel.clone().with_pageblock(bytes).map(|_| ()).map_err(|error| error.to_string());
        assert!(pageblock(3 * M).unwrap_err().contains("the pageblock of 3M is not a power of two"));
        assert!(pageblock(4096).unwrap_err().contains("is smaller than a page of 64K"));
        assert_eq!(pageblock(M), Ok(()));
    }

    #[test]
    fn architectures_have_names() {
        for arch in Arch::ALL {
            assert_eq!(arch.to_string().parse(), Ok(arch));
        }
        assert_eq!("aarch64".parse(), Ok(Arch::Arm64));
        let error = "mips\u{1b}".parse::<Arch>().unwrap_err().to_string();
        assert!(error.starts_with("the architecture \"mips\\u{1b}\" is unknown; write arm64,"), "{error}");
    }
}
