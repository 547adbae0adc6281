//! The configuration of a kernel (.config, /proc/config.gz, or a kernel that embeds it) as the check's kernel.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use cma::check::{Arch, Kernel, KernelError, Options, Rules, SizeSelection};

use crate::boot::kernel_options;

/// Largest file, in bytes: more than any kernel's.
const MAX_FILE: u64 = 256 << 20;
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

/// Why a file gives no kernel.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the configuration {} cannot be read: {source}; name a kernel's .config or a copy of /proc/config.gz", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no configuration.
    #[error("{} is no configuration of a kernel: {reason}; give a .config, a copy of /proc/config.gz, or a kernel that embeds it", path.display())]
    NoConfig {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// An option has an invalid value.
    #[error("the configuration {} has CONFIG_{name}={value}, which is no number", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The values contradict each other.
    #[error("the configuration {}: {source}", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        source: KernelError,
    },
}

/// What the command line says, which wins over the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given {
    /// The version of Linux.
    pub rules: Option<Rules>,
    /// The architecture.
    pub arch: Option<Arch>,
    /// The size of a page.
    pub page_size: Option<u64>,
}

/// The kernel with the configuration in the file `path`.
///
/// # Errors
/// If the file has no configuration, or one that is not possible.
pub fn kernel(path: &Path, given: Given) -> Result<Kernel, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut file = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_FILE).read_to_end(&mut file).map_err(unreadable)?;
    let none = |reason: &str| ConfigError::NoConfig { path: path.to_owned(), reason: reason.to_owned() };
    let text =
        kernel_options::config_in(&file).ok_or_else(|| none("it has no line that begins with CONFIG_"))?;
    Config { path, values: values(&text), version: version(&text) }.kernel(given)
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

/// The version whose rules are those of `version`: regions are set up in the tree's order since 6.12 (drivers/of/of_reserved_mem.c,
/// fdt_scan_reserved_mem_reg_nodes), and CMA areas have several ranges since 6.15.
fn rules_of(version: (u32, u32)) -> Rules {
    match version {
        version if version < (6, 12) => Rules::V6_1,
        version if version < (6, 15) => Rules::V6_12,
        _ => Rules::V7_2,
    }
}

/// A configuration.
struct Config<'a> {
    path: &'a Path,
    values: BTreeMap<&'a str, &'a str>,
    version: Option<(u32, u32)>,
}

impl Config<'_> {
    fn has(&self, name: &str) -> bool {
        self.values.get(name) == Some(&"y")
    }

    fn number<T: TryFrom<u64>>(&self, name: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let number = value.parse::<u64>().ok().and_then(|number| number.try_into().ok());
        let shown = || value.chars().take(40).flat_map(char::escape_debug).collect();
        number.map(Some).ok_or_else(|| ConfigError::Value {
            path: self.path.to_owned(),
            name,
            value: shown(),
        })
    }

    fn kernel(&self, given: Given) -> Result<Kernel, ConfigError> {
        let rules = given.rules.or(self.version.map(rules_of)).unwrap_or(Rules::V6_12);
        let named = ARCHITECTURES.iter().find(|(name, _)| self.has(name)).map(|(_, arch)| *arch);
        let arch = given.arch.or(named).ok_or_else(|| ConfigError::NoConfig {
            path: self.path.to_owned(),
            reason: "it sets none of CONFIG_ARM64, CONFIG_ARM, CONFIG_RISCV and CONFIG_X86_64".to_owned(),
        })?;
        let page = PAGES.iter().find(|(name, before, _)| self.has(name) || self.has(before));
        let page_size = given.page_size.or(page.map(|(.., size)| *size)).unwrap_or(cma::PAGE_SIZE);
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
        Kernel::new(rules, arch, page_size, areas, options)
            .map_err(|source| ConfigError::Kernel { path: self.path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// What matters of Debian's configuration for arm64 (linux-image-6.1.0-56-arm64, 6.12.117+deb13 and 7.2.13+deb14).
    const DEBIAN: [(Rules, &str); 3] = [
        (
            Rules::V6_1,
            "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/arm64 6.1.192 Kernel Configuration\n#\nCONFIG_ARM64=y\n\
             CONFIG_ARM64_4K_PAGES=y\nCONFIG_ARCH_FORCE_MAX_ORDER=11\nCONFIG_CMA_AREAS=19\n",
        ),
        (
            Rules::V6_12,
            "# Linux/arm64 6.12.117 Kernel Configuration\nCONFIG_ARM64=y\nCONFIG_PAGE_SIZE_4KB=y\nCONFIG_ARCH_FORCE_MAX_ORDER=10\n\
             CONFIG_CMA_AREAS=20\n",
        ),
        (
            Rules::V7_2,
            "# Linux/arm64 7.2.13 Kernel Configuration\nCONFIG_ARM64=y\nCONFIG_PAGE_SIZE_4KB=y\nCONFIG_ARCH_FORCE_MAX_ORDER=10\n\
             CONFIG_PAGE_BLOCK_MAX_ORDER=10\nCONFIG_CMA_AREAS=20\n",
        ),
    ];
    const SAME: &str = "CONFIG_CMA=y\nCONFIG_DMA_CMA=y\nCONFIG_CMA_SIZE_MBYTES=64\nCONFIG_CMA_SIZE_SEL_MBYTES=y\n\
        # CONFIG_CMA_SIZE_SEL_MAX is not set\nCONFIG_CMA_ALIGNMENT=8\nCONFIG_DMA_DECLARE_COHERENT=y\n\
        # CONFIG_DMA_RESTRICTED_POOL is not set\nCONFIG_HUGETLB_PAGE=y\nCONFIG_TRANSPARENT_HUGEPAGE=y\nCONFIG_ZONE_DMA=y\n";

    fn of(content: &[u8], given: Given) -> Result<Kernel, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        kernel(file.path(), given).map_err(|error| error.to_string())
    }

    #[test]
    fn debians_configurations_are_those_that_the_check_assumes() {
        for (rules, text) in DEBIAN {
            let text = format!("{text}{SAME}");
            let assumed = Kernel::debian(rules, Arch::Arm64, 4096).unwrap();
            assert_eq!(of(text.as_bytes(), Given::default()).unwrap(), assumed);
            let mut packed = GzEncoder::new(Vec::new(), Compression::default());
            packed.write_all(text.as_bytes()).unwrap();
            let packed = packed.finish().unwrap();
            assert_eq!(of(&packed, Given::default()).unwrap(), assumed);
            let embedded = [b"kernel IKCFG_ST", &packed[..], b"IKCFG_ED"].concat();
            assert_eq!(of(&embedded, Given::default()).unwrap(), assumed);
        }
    }

    #[test]
    fn options_change_the_kernel() {
        let text = format!("{}{SAME}", DEBIAN[0].1);
        let of = |from: &str, to: &str| of(text.replace(from, to).as_bytes(), Given::default()).unwrap();
        assert!(!of("CONFIG_DMA_CMA=y", "# CONFIG_DMA_CMA is not set").options.dma_cma);
        assert!(!of("CONFIG_CMA=y", "").options.dma_cma);
        assert_eq!(of("ARM64_4K_PAGES", "ARM64_64K_PAGES").page_size, 64 << 10);
        assert_eq!(of("CONFIG_HUGETLB_PAGE=y", "").pageblock, 4 << 20);
        assert_eq!(of("CONFIG_CMA_AREAS=19", "CONFIG_CMA_AREAS=7").cma_areas, 8);
        assert!(
            of("# CONFIG_DMA_RESTRICTED_POOL is not set", "CONFIG_DMA_RESTRICTED_POOL=y")
                .options
                .dma_restricted_pool
        );
        let max =
            of("CONFIG_CMA_SIZE_SEL_MBYTES=y", "CONFIG_CMA_SIZE_SEL_MAX=y\nCONFIG_CMA_SIZE_PERCENTAGE=10")
                .options;
        assert_eq!((max.cma_size_selection, max.cma_size_percentage), (SizeSelection::Max, 10));
        assert_eq!(of("6.1.192", "6.14.2").rules, Rules::V6_12);
        assert_eq!(of("6.1.192", "5.15.0-rc1").rules, Rules::V6_1);
        let arm = of("CONFIG_ARM64=y", "CONFIG_ARM=y\nCONFIG_HIGHMEM=y");
        assert_eq!((arm.arch, arm.options.highmem), (Arch::Arm, true));
    }

    #[test]
    fn the_command_line_wins() {
        let text = format!("{}{SAME}", DEBIAN[0].1);
        let given = Given { rules: Some(Rules::V7_2), arch: None, page_size: Some(16 << 10) };
        let kernel = of(text.as_bytes(), given).unwrap();
        assert_eq!((kernel.rules, kernel.page_size), (Rules::V7_2, 16 << 10));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let said = |content: &[u8]| of(content, Given::default()).unwrap_err();
        for (content, part) in [
            (
                &b"/dts-v1/;"[..],
                "is no configuration of a kernel: it has no line that begins with CONFIG_; give a .config",
            ),
            (b"\x1f\x8bgarbage", "is no configuration of a kernel: it has no line"),
            (b"CONFIG_CMA=y\n", "it sets none of CONFIG_ARM64, CONFIG_ARM, CONFIG_RISCV and CONFIG_X86_64"),
            (
                b"CONFIG_ARM64=y\nCONFIG_CMA_AREAS=many\x1b\n",
                "has CONFIG_CMA_AREAS=many\\u{1b}, which is no number",
            ),
            (b"CONFIG_ARM=y\nCONFIG_PAGE_SIZE_64KB=y\n", "the page size of arm must be 4K, not 64K"),
        ] {
            assert!(said(content).contains(part), "{}", said(content));
        }
        let error = kernel(Path::new("/nonexistent"), Given::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent cannot be read: No such file"), "{error}");
    }
}
