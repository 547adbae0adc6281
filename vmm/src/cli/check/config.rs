//! The configuration of a kernel (.config, /proc/config.gz, or a kernel that embeds it) as the check's kernel.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

pub use cma::check::config::Given;
use cma::check::{
    Kernel,
    config::{self, Config},
};

use crate::boot::kernel_options;

/// Largest file, in bytes: more than any kernel's.
const MAX_FILE: u64 = 256 << 20;
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
    /// It is the configuration of no kernel.
    #[error("the configuration {}: {source}", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// The mistake.
        source: config::ConfigError,
    },
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
    Config::read(&text).kernel(given).map_err(|source| ConfigError::Kernel { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use cma::check::{Arch, Rules, SizeSelection};

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
             CONFIG_PAGE_BLOCK_MAX_ORDER=10\nCONFIG_CMA_AREAS=20\nCONFIG_CMA_SIZE_PERNUMA=y\n",
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
            (b"CONFIG_CMA=y\n", ": it sets none of CONFIG_ARM64, CONFIG_ARM, CONFIG_RISCV and CONFIG_X86_64"),
            (
                b"CONFIG_ARM64=y\nCONFIG_CMA_AREAS=many\x1b\n",
                "it has CONFIG_CMA_AREAS=many\\u{1b}, which is no number",
            ),
            (b"CONFIG_ARM=y\nCONFIG_PAGE_SIZE_64KB=y\n", "the page size of arm must be 4K, not 64K"),
        ] {
            assert!(said(content).contains(part), "{}", said(content));
        }
        let error = kernel(Path::new("/nonexistent"), Given::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent cannot be read: No such file"), "{error}");
    }
}
