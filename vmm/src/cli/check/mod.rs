//! `minivmm check`: reads a device tree, or generates the machine's, and prints how Linux handles its reserved memory.

pub mod config;
mod overlay;

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use cma::{
    PAGE_SIZE,
    check::{Arch, Boot, Kernel, KernelError, Level, Report, Rules, Tree, TreeError, check},
    size,
};
use guest_images::Kind;

use config::{ConfigError, Given};
use overlay::OverlayError;

use crate::{arch, observe::exit_status::Reason};

/// Largest tree in bytes: arm64 maps no more of it (arch/arm64/include/asm/boot.h, MAX_FDT_SIZE).
const MAX_TREE: u64 = 2 << 20;
/// The arguments of `minivmm check` apart from the machine's options.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A device tree: flattened (.dtb), or source (.dts), which needs dtc [default: the tree of the machine options]
    #[arg(value_name = "FILE", conflicts_with_all = [
        "cma", "cma_mode", "memory", "cpus", "numa", "image", "kernel", "initrd", "device", "disk", "share", "root", "net", "vsock",
        "camera", "seed", "faults",
        "Options",
    ])]
    pub file: Option<PathBuf>,
    /// Print JSON: an object with rules, kernel, boot, assumed, findings, regions, default_window, panics and users
    #[arg(long)]
    json: bool,
    /// The version of Linux: 6.1, 6.12 or 7.2 [default: 6.12; for a guest that of its image]
    #[arg(long, value_name = "VERSION")]
    rules: Option<Rules>,
    /// The architecture of FILE's board: arm64, arm, riscv or x86_64 [default: arm64]
    #[arg(long = "arch", id = "board_arch", value_name = "ARCH", requires = "file")]
    arch: Option<Arch>,
    /// Size of the kernel's pages: 4K, 16K or 64K [default: 4K]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    page_size: Option<u64>,
    /// Most CMA areas of the kernel: CONFIG_CMA_AREAS, and one more with 6.1 [default: those of Debian or of the guest image]
    #[arg(long, value_name = "N")]
    cma_areas: Option<usize>,
    /// RAM that a boot loader describes, instead of the memory nodes of FILE; may be repeated
    #[arg(long, value_name = "BASE+SIZE", value_parser = parse_ram, requires = "file")]
    ram: Vec<Range<u64>>,
    /// The configuration of the kernel: its .config, a copy of /proc/config.gz, or a kernel that embeds it
    ///
    /// Version, architecture, page size and the options of CMA and of DMA are those of the configuration, unless other options
    /// say otherwise.
    #[arg(long, value_name = "CONFIG", requires = "file")]
    config: Option<PathBuf>,
    /// An overlay (.dtbo or .dtso) that the boot loader applies to FILE; may be repeated, and needs fdtoverlay
    #[arg(long, value_name = "OVERLAY", requires = "file")]
    overlay: Vec<PathBuf>,
    /// End of low memory on 32-bit Arm [default: 768 MiB above the start of RAM]
    #[arg(long, value_name = "ADDRESS", value_parser = size::parse, requires = "file")]
    lowmem_end: Option<u64>,
}

/// Reads the RAM of `--ram`.
fn parse_ram(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once('+').and_then(|(base, size)| {
        let (base, size) = (size::parse(base).ok()?, size::parse(size).ok()?);
        Some(base..base.checked_add(size)?)
    });
    parts
        .filter(|ram| !ram.is_empty())
        .ok_or_else(|| "write an address and a size below 2^64, as in 0x40000000+2G".to_owned())
}

/// Examples and exit status, for the end of the help.
pub const HELP: &str = "\
Examples:
  minivmm check board.dtb                          each reserved-memory node, and the devices that refer to it
  minivmm check board.dts --json                   the same as JSON
  minivmm check board.dtb --rules 7.2 --page-size 16K
                                                   another kernel; its pageblock follows from its page
  minivmm check board.dtb --ram 0x40000000+2G --cmdline cma=320M
                                                   with the RAM and the command line that the boot loader gives
  minivmm check board.dtb --arch arm               a 32-bit board
  minivmm check board.dtb --config config.gz       the kernel with this configuration
  minivmm check board.dtb --overlay camera.dtbo    with an overlay that the boot loader applies
  minivmm check --cma 256M --memory 4G             the tree that this guest would get

For FILE, the kernel is Debian's of 6.12 on arm64, unless options say otherwise. --cmdline replaces FILE's bootargs, as U-Boot does.
Exit status: 0; 1 if there is an error among the findings; 2 for a bad request.";

/// Why a tree could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The tree cannot be read.
    #[error("the device tree {} cannot be read: {source}; name a .dtb or a .dts file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tree is too large for Linux.
    #[error("the device tree {} is larger than {}, the most that Linux takes on arm64", .0.display(), size::format(MAX_TREE))]
    TooLarge(PathBuf),
    /// dtc cannot be run.
    #[error(
        "the device tree source {} cannot be read without dtc: {source}; install the package device-tree-compiler, or \
         name a .dtb file",
        path.display()
    )]
    NoDtc {
        /// The source.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// dtc cannot compile the source.
    #[error(
        "dtc cannot compile the source {}: {said}; run cpp first on a source with #include",
        path.display()
    )]
    Source {
        /// The source.
        path: PathBuf,
        /// dtc's first line.
        said: String,
    },
    /// The tree is malformed.
    #[error("{} is not a device tree: {source}", path.display())]
    Tree {
        /// The file.
        path: PathBuf,
        /// The mistake and its place.
        source: TreeError,
    },
    /// The tree is an overlay.
    #[error(
        "{} is an overlay, which reserves nothing on its own; apply it to the tree of its board: minivmm check BOARD.dtb \
         --overlay {}",
        .0.display(), .0.display()
    )]
    Overlay(PathBuf),
    /// A file for --overlay is a whole tree.
    #[error("{} is no overlay, as it has no fragment with a node __overlay__; give it as FILE", .0.display())]
    NoOverlay(PathBuf),
    /// An option about a board without its tree.
    #[error("{0} is about a board's tree; name its FILE, or omit {0}")]
    NoFile(&'static str),
    /// The overlays cannot be applied.
    #[error(transparent)]
    Apply(#[from] OverlayError),
    /// There is no kernel in the file for --config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel's options contradict each other.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Standard output cannot be written to.
    #[error("standard output cannot be written: {0}")]
    Print(#[from] io::Error),
}

impl CheckError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoDtc { .. }
            | Self::Print(_)
            | Self::Apply(OverlayError::NoFdtoverlay(_) | OverlayError::Temporary(_)) => Reason::Failed,
            _ => Reason::BadRequest,
        }
    }
}

/// Checks the tree in the file `path`. `pageblock` and `cmdline` are those of the options, if given.
///
/// # Errors
/// If the file has no tree, if the kernel's options contradict each other, or if the output cannot be written.
pub fn file(
    path: &Path,
    pageblock: Option<u64>,
    cmdline: &str,
    args: &CheckArgs,
) -> Result<ExitCode, CheckError> {
    let CheckArgs { rules, arch, page_size, .. } = *args;
    let mut kernel = match &args.config {
        Some(config) => config::kernel(config, Given { rules, arch, page_size })?,
        None => Kernel::debian(
            rules.unwrap_or(Rules::V6_12),
            arch.unwrap_or(Arch::Arm64),
            page_size.unwrap_or(PAGE_SIZE),
        )?,
    };
    if let Some(pageblock) = pageblock {
        kernel = kernel.with_pageblock(pageblock)?;
    }
    kernel.lowmem_end = args.lowmem_end;
    let cmdline = (!cmdline.is_empty()).then(|| cmdline.to_owned());
    let boot = Boot { ram: args.ram.clone(), cmdline };
    kernel.cma_areas = args.cma_areas.unwrap_or(kernel.cma_areas);
    let with_symbols = !args.overlay.is_empty();
    let blob = read(path, with_symbols)?;
    let base = report(path, &blob, &kernel, &boot)?;
    if !with_symbols {
        return show(&base, args);
    }
    let mut overlays = Vec::new();
    for path in &args.overlay {
        let blob = read(path, true)?;
        if !parse(path, &blob)?.is_overlay() {
            return Err(CheckError::NoOverlay(path.clone()));
        }
        overlays.push((path.as_path(), blob));
    }
    let blob = overlay::apply((path, &blob), &overlays)?;
    let mut report = report(path, &blob, &kernel, &boot)?;
    overlay::warn(&mut report, &base);
    show(&report, args)
}

/// Checks the flattened tree of a guest. `pageblock` is its kernel's, in bytes, and `image` its guest image.
///
/// # Errors
/// If the kernel's options contradict each other, or if the output cannot be written.
pub fn guest(
    blob: &[u8],
    pageblock: u64,
    image: Option<&str>,
    args: &CheckArgs,
) -> Result<ExitCode, CheckError> {
    let of_boards = [
        ("--config", args.config.is_some()),
        ("--overlay", !args.overlay.is_empty()),
        ("--ram", !args.ram.is_empty()),
        ("--arch", args.arch.is_some()),
        ("--lowmem-end", args.lowmem_end.is_some()),
    ];
    // clap does not require FILE if an option that excludes it is there.
    if let Some((option, _)) = of_boards.into_iter().find(|(_, given)| *given) {
        return Err(CheckError::NoFile(option));
    }
    let kind = image.and_then(Kind::named);
    let release = kind.and_then(Kind::release).and_then(|release| release.name().parse().ok());
    let rules = args.rules.or(release).unwrap_or_default();
    let page_size = if matches!(kind, Some(Kind::Large(_))) { 16 * PAGE_SIZE } else { PAGE_SIZE };
    let page_size = args.page_size.unwrap_or(page_size);
    // Only arm64 has other pages.
    let host = arch::NAME.parse().unwrap_or(Arch::X86_64);
    let arch = if page_size == PAGE_SIZE { host } else { Arch::Arm64 };
    let kernel = if kind == Some(Kind::Debian) {
        Kernel::debian(rules, arch, page_size)?.with_pageblock(pageblock)?
    } else {
        Kernel::guest(rules, arch, page_size, pageblock)?
    };
    let kernel = Kernel { cma_areas: args.cma_areas.unwrap_or(kernel.cma_areas), ..kernel };
    show(&report(Path::new("the tree of these options"), blob, &kernel, &Boot::default())?, args)
}

fn parse<'a>(path: &Path, blob: &'a [u8]) -> Result<Tree<'a>, CheckError> {
    Tree::read(blob).map_err(|source| CheckError::Tree { path: path.to_owned(), source })
}

/// The findings about the flattened tree `blob`, which must be that of a whole board.
fn report(path: &Path, blob: &[u8], kernel: &Kernel, boot: &Boot) -> Result<Report, CheckError> {
    let tree = parse(path, blob)?;
    if tree.is_overlay() { Err(CheckError::Overlay(path.to_owned())) } else { Ok(check(&tree, kernel, boot)) }
}

/// Prints the findings. The status is 1 if there is an error among them.
fn show(report: &Report, args: &CheckArgs) -> Result<ExitCode, CheckError> {
    match print(report, args.json, BufWriter::new(io::stdout().lock())) {
        // A reader may close the pipe early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if report.count(Level::Error) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, json: bool, mut out: impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{report}")?;
    }
    out.flush()
}

/// Reads a flattened tree, or compiles its source: `with_symbols`, so that overlays can refer to its labels.
fn read(path: &Path, with_symbols: bool) -> Result<Vec<u8>, CheckError> {
    if path.extension().is_some_and(|extension| extension == "dts" || extension == "dtso") {
        return compile(path, with_symbols);
    }
    let error = |source| CheckError::Read { path: path.to_owned(), source };
    let mut blob = Vec::new();
    // One byte more than is allowed shows that the file is too large.
    File::open(path).map_err(error)?.take(MAX_TREE + 1).read_to_end(&mut blob).map_err(error)?;
    if blob.len() as u64 > MAX_TREE { Err(CheckError::TooLarge(path.to_owned())) } else { Ok(blob) }
}

/// Compiles a source to a flattened tree. dtc's findings about its content are ignored, as the check has its own.
fn compile(path: &Path, with_symbols: bool) -> Result<Vec<u8>, CheckError> {
    // dtc's own message would be less clear.
    File::open(path).map_err(|source| CheckError::Read { path: path.to_owned(), source })?;
    let mut dtc = Command::new("dtc");
    dtc.args(["-f", "-q", "-I", "dts", "-O", "dtb"]).args(with_symbols.then_some("-@")).arg("--").arg(path);
    let output = dtc.output().map_err(|source| CheckError::NoDtc { path: path.to_owned(), source })?;
    if output.status.success() && !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("it gives no reason").to_owned();
    Err(CheckError::Source { path: path.to_owned(), said })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vm_fdt::FdtWriter;

    use super::*;

    /// A window without a size, and a device that refers to it.
    fn blob() -> Vec<u8> {
        let mut fdt = FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        let parent = fdt.begin_node("reserved-memory").unwrap();
        for name in ["#address-cells", "#size-cells"] {
            fdt.property_u32(name, 1).unwrap();
        }
        fdt.property_null("ranges").unwrap();
        let region = fdt.begin_node("isp@90000000").unwrap();
        fdt.property_array_u32("reg", &[0x9000_0000, 0]).unwrap();
        fdt.property_phandle(1).unwrap();
        fdt.end_node(region).unwrap();
        fdt.end_node(parent).unwrap();
        let device = fdt.begin_node("isp").unwrap();
        fdt.property_u32("memory-region", 1).unwrap();
        fdt.end_node(device).unwrap();
        fdt.end_node(root).unwrap();
        fdt.finish().unwrap()
    }

    #[test]
    fn the_json_has_the_documented_names() {
        let kernel = Kernel::debian(Rules::V6_1, Arch::Arm64, 4096).unwrap();
        let blob = blob();
        let report = check(&Tree::read(&blob).unwrap(), &kernel, &Boot::default());
        let mut out = Vec::new();
        print(&report, true, &mut out).unwrap();
        let printed: Value = serde_json::from_slice(&out).unwrap();
        let rule = "its reg has size zero, and it has no size property";
        let source = "drivers/of/of_reserved_mem.c, __reserved_mem_alloc_size";
        let no_pool = json!({
            "level": "error", "text": "it is not a pool, because it is refused (-EINVAL)",
            "source": "drivers/of/of_reserved_mem.c, of_reserved_mem_device_init_by_idx",
        });
        let expected = json!({
            "rules": "Linux 6.1",
            "kernel": {
                "rules": "6.1", "arch": "arm64", "pageblock": 2 << 20, "page_size": 4096, "cma_areas": 20, "lowmem_end": null,
                "options": {
                    "dma_cma": true, "cma_size_mbytes": 64, "cma_size_percentage": 0, "cma_size_selection": "mbytes",
                    "cma_size_pernuma": false, "cma_alignment": 8, "dma_declare_coherent": true, "dma_global_pool": false,
                    "dma_restricted_pool": false, "hugetlb": true, "max_order": 10, "zone_dma": true, "highmem": false,
                },
            },
            "boot": {"ram": [], "cmdline": null},
            "assumed": "Rules of Linux 6.1, arm64, pageblock 2M, page 4K, at most 20 CMA areas, CONFIG_DMA_CMA=y, default size \
                        64M, RAM of the tree, command line of the tree",
            "findings": [{
                "level": "note", "source": "drivers/of/fdt.c, early_init_dt_scan_memory",
                "text": "no memory node has a size, because a boot loader fills it in: the check assumes that regions are in RAM",
            }],
            "regions": [{
                "node": "/reserved-memory/isp@90000000", "outcome": "refused", "rule": rule, "source": source,
                "base": 0x9000_0000_u32, "size": 0, "placed": null, "default": false,
                "findings": [{"level": "error", "text": rule, "source": source}],
            }],
            "default_window": {
                "origin": "config", "node": null, "base": null, "size": 64 << 20, "findings": [],
            },
            "panics": false,
            "users": [{
                "node": "/isp", "enabled": true, "findings": [],
                "references": [{
                    "index": 0, "name": null, "target": "/reserved-memory/isp@90000000", "errno": -22, "gets": null,
                    "pool": null, "findings": [no_pool],
                }],
            }],
        });
        assert_eq!(printed, expected);
    }

    #[test]
    fn files_that_are_not_trees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board.dtb");
        let args = CheckArgs {
            file: None,
            json: false,
            rules: None,
            arch: None,
            page_size: None,
            config: None,
            overlay: Vec::new(),
            cma_areas: None,
            ram: Vec::new(),
            lowmem_end: None,
        };
        let refused = |path: &Path, part: &str| {
            let error = file(path, None, "", &args).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(error.reason(), Reason::BadRequest);
        };
        refused(&path, "board.dtb cannot be read: No such file or directory");
        refused(folder.path(), "cannot be read: Is a directory");
        let write = |content: &[u8]| std::fs::write(&path, content).unwrap();
        write(&vec![0; (2 << 20) + 1]);
        refused(&path, "board.dtb is larger than 2M");
        write(b"/dts-v1/;");
        refused(&path, "board.dtb is not a device tree: it begins with [2f, 64, 74, 73], but");
        write(&blob()[..100]);
        refused(&path, "board.dtb is not a device tree: it is truncated: its header says");
        write(&blob());
        assert_eq!(file(&path, None, "", &args).unwrap(), ExitCode::FAILURE);
        let error = file(&path, Some(4095), "", &args).unwrap_err();
        assert!(matches!(&error, CheckError::Kernel(_)) && error.reason() == Reason::BadRequest, "{error}");
    }
}
