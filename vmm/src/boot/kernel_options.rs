//! The kernel options that a guest needs, and the configuration that a kernel embeds (CONFIG_IKCONFIG).

use std::{
    fmt::Write as _,
    io::{self, Read as _},
};

use flate2::read::GzDecoder;

use super::kernel_option::KernelOption;
use crate::arch;

/// The options that a guest needs on every architecture. The architecture adds [`arch::KERNEL_OPTIONS`].
const OPTIONS: [KernelOption; 12] = [
    KernelOption::built_in("OF", "reads the device tree"),
    KernelOption::built_in("SERIAL_8250_CONSOLE", "prints on the serial console"),
    KernelOption::built_in("SERIAL_OF_PLATFORM", "finds the serial port in the device tree"),
    KernelOption::built_in("BLK_DEV_INITRD", "unpacks the initramfs"),
    KernelOption::built_in("BINFMT_ELF", "runs programs"),
    KernelOption::built_in("BINFMT_SCRIPT", "runs init, which is a script"),
    KernelOption::built_in("PROC_FS", "mounts /proc, where init finds the device tree"),
    KernelOption::built_in("SYSFS", "mounts /sys"),
    KernelOption::built_in("DEVTMPFS", "mounts /dev"),
    KernelOption::built_in("DEVMEM", "writes the boot mark"),
    KernelOption::module("VIRTIO_MMIO", "finds the virtio devices"),
    KernelOption::module("VIRTIO_CONSOLE", "has the ports for the terminal and for --exec"),
];

/// The options that CMA windows need besides.
const CMA_OPTIONS: [&str; 2] = ["CMA", "DMA_CMA"];

/// The options of minivmm that need more of the kernel, and the kernel's options, which may be modules.
const USES: [(&str, &[&str]); 5] = [
    ("CMA windows", &CMA_OPTIONS),
    ("--disk, and for files of --out that are larger than guest memory", &["VIRTIO_BLK", "EXT4_FS"]),
    ("--net", &["INET", "PACKET", "VIRTIO_NET"]),
    ("--vsock", &["VSOCKETS", "VIRTIO_VSOCKETS"]),
    ("--device balloon", &["VIRTIO_BALLOON"]),
];

/// A compression of an initramfs.
#[derive(Debug, PartialEq, Eq)]
pub struct Compression {
    /// Its usual name.
    pub name: &'static str,
    /// The option of a kernel that unpacks it, without `CONFIG_`.
    pub option: &'static str,
    /// The first bytes of such a file (lib/decompress.c).
    magic: &'static [u8],
}

const COMPRESSIONS: [Compression; 7] = [
    Compression { name: "gzip", option: "RD_GZIP", magic: b"\x1f\x8b" },
    Compression { name: "zstd", option: "RD_ZSTD", magic: b"\x28\xb5" },
    Compression { name: "xz", option: "RD_XZ", magic: b"\xfd7" },
    Compression { name: "lz4", option: "RD_LZ4", magic: b"\x02\x21" },
    Compression { name: "bzip2", option: "RD_BZIP2", magic: b"BZ" },
    Compression { name: "lzma", option: "RD_LZMA", magic: b"\x5d\x00" },
    Compression { name: "lzo", option: "RD_LZO", magic: b"\x89\x4c" },
];

/// The compression of an initramfs that begins with `start`. None if it is not compressed.
pub fn compression(start: &[u8]) -> Option<&'static Compression> {
    COMPRESSIONS.iter().find(|compression| start.starts_with(compression.magic))
}

fn options() -> impl Iterator<Item = &'static KernelOption> {
    arch::KERNEL_OPTIONS.iter().chain(&OPTIONS)
}

/// The options that a kernel must have, for `--help`.
pub fn help() -> String {
    let width = options().map(|option| option.name.len()).max().unwrap_or(0);
    let mut help =
        "It must have these options built in; those with (m) may be modules that the initramfs loads:\n"
            .to_owned();
    for KernelOption { name, may_be_module, purpose } in options() {
        let module = if *may_be_module { " (m)" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(help, "CONFIG_{name:width$}  {purpose}{module}");
    }
    let compressions: Vec<_> = COMPRESSIONS
        .iter()
        .map(|Compression { name, option, .. }| format!("{name} CONFIG_{option}"))
        .collect();
    let _ = write!(
        help,
        "CMA windows need CONFIG_{}{}. Files for --out that are larger than guest memory need CONFIG_VIRTIO_BLK and CONFIG_EXT4_FS. A compressed initramfs needs the option of its compression: {}.",
        CMA_OPTIONS.join(" and CONFIG_"),
        arch::KERNEL_PATCH,
        compressions.join(", ")
    );
    help
}

/// The longest configuration that is read, in bytes; that of a distribution's kernel has 300 KB.
const CONFIG_MAX: u64 = 4 << 20;

/// The configuration that the kernel in `image` embeds: gzip data between two marks (kernel/configs.c). None without it.
pub fn embedded_config(image: &[u8]) -> Option<String> {
    let after = |data: &[u8], mark: &[u8]| data.windows(mark.len()).position(|bytes| bytes == mark);
    let start = after(image, b"IKCFG_ST")? + b"IKCFG_ST".len();
    let data = &image[start..];
    unpacked(&data[..after(data, b"IKCFG_ED")?])
}

fn unpacked(data: &[u8]) -> Option<String> {
    let mut config = Vec::new();
    let read: io::Result<usize> = GzDecoder::new(data).take(CONFIG_MAX).read_to_end(&mut config);
    read.ok().map(|_| String::from_utf8_lossy(&config).into_owned())
}

/// The configuration in a file: text, as in .config, the same compressed, as in /proc/config.gz, or one that a kernel embeds. None
/// without a line for an option.
pub fn config_in(file: &[u8]) -> Option<String> {
    let text = if file.starts_with(b"\x1f\x8b") {
        unpacked(file)
    } else {
        embedded_config(file).or_else(|| {
            let length = file.len().min(usize::try_from(CONFIG_MAX).unwrap_or(usize::MAX));
            Some(String::from_utf8_lossy(&file[..length]).into_owned())
        })
    };
    text.filter(|text| text.lines().any(|line| line.starts_with("CONFIG_")))
}

/// The needed options that `config` lacks.
pub fn missing(config: &str) -> Vec<&'static KernelOption> {
    options().filter(|option| !has(config, option.name, option.may_be_module)).collect()
}

/// The options that `config` lacks for uses of minivmm: each such use, and the names.
pub fn missing_for_uses(config: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let lacking = |options: &[&'static str]| {
        options.iter().copied().filter(|name| !has(config, name, true)).collect::<Vec<_>>()
    };
    USES.iter()
        .map(|(what, options)| (*what, lacking(options)))
        .filter(|(_, names)| !names.is_empty())
        .collect()
}

/// Whether a kernel of this `config` unpacks an initramfs of this compression.
pub fn unpacks(config: &str, compression: &Compression) -> bool {
    has(config, compression.option, false)
}

fn has(config: &str, name: &str, may_be_module: bool) -> bool {
    config.lines().any(|line| {
        let value = line.strip_prefix("CONFIG_").and_then(|line| line.strip_prefix(name));
        value == Some("=y") || may_be_module && value == Some("=m")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;

    /// A kernel that embeds this configuration.
    fn kernel(config: &str) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Level::default());
        packed.write_all(config.as_bytes()).unwrap();
        [b"\x7fELF IKCFG_S ".as_slice(), b"IKCFG_ST", &packed.finish().unwrap(), b"IKCFG_ED rest"].concat()
    }

    #[test]
    fn the_embedded_configuration_is_found() {
        assert_eq!(embedded_config(&kernel("CONFIG_OF=y\n")).unwrap(), "CONFIG_OF=y\n");
        assert_eq!(embedded_config(b"no configuration"), None);
        assert_eq!(embedded_config(b"IKCFG_ST without an end"), None);
        assert_eq!(embedded_config(b"IKCFG_STnot gzip dataIKCFG_ED"), None);
        // A guest can write anything there.
        let bomb = kernel(&"x".repeat(64 << 20));
        assert_eq!(embedded_config(&bomb).unwrap().len() as u64, CONFIG_MAX);
    }

    #[test]
    fn missing_options_are_named() {
        let all: String = options().map(|option| format!("CONFIG_{}=y\n", option.name)).collect();
        assert!(missing(&all).is_empty());
        let names = |config: &str| missing(config).into_iter().map(|option| option.name).collect::<Vec<_>>();
        assert_eq!(names(&all.replace("CONFIG_OF=y", "# CONFIG_OF is not set")), ["OF"]);
        assert_eq!(names(&all.replace("CONFIG_VIRTIO_MMIO=y", "CONFIG_VIRTIO_MMIO=m")), [""; 0]);
        assert_eq!(names(&all.replace("CONFIG_DEVMEM=y", "CONFIG_DEVMEM=m")), ["DEVMEM"]);
        assert_eq!(missing("").len(), options().count());
        let net = "CONFIG_CMA=y\nCONFIG_DMA_CMA=y\nCONFIG_VIRTIO_BLK=m\nCONFIG_EXT4_FS=m\nCONFIG_VSOCKETS=m\nCONFIG_VIRTIO_VSOCKETS=m\nCONFIG_VIRTIO_BALLOON=m\n";
        assert_eq!(missing_for_uses(net), [("--net", vec!["INET", "PACKET", "VIRTIO_NET"])]);
    }

    #[test]
    fn compressions_are_told_apart() {
        let name = |start: &[u8]| compression(start).map(|compression| compression.name);
        assert_eq!(name(b"\x1f\x8b\x08\0"), Some("gzip"));
        assert_eq!(name(b"\x28\xb5\x2f\xfd"), Some("zstd"));
        assert_eq!(name(b"\xfd7zXZ\0"), Some("xz"));
        assert_eq!(name(b"\x02\x21\x4c\x18"), Some("lz4"));
        assert_eq!(name(b"070701"), None);
        let zstd = compression(b"\x28\xb5\x2f\xfd").unwrap();
        assert!(unpacks("CONFIG_RD_ZSTD=y", zstd) && !unpacks("CONFIG_RD_GZIP=y", zstd));
    }
}
