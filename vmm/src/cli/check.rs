//! `minivmm check`: reads a device tree, or generates the machine's, and prints how Linux handles its reserved memory.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use cma::{
    check::{Kernel, KernelError, Level, Report, Tree, TreeError, check},
    size,
};

use crate::observe::exit_status::Reason;

/// Largest tree in bytes: arm64 maps no more of it (arch/arm64/include/asm/boot.h, MAX_FDT_SIZE).
const MAX_TREE: u64 = 2 << 20;
/// Most CMA areas of a kernel as Debian builds it: 1 + its CONFIG_CMA_AREAS.
const CMA_AREAS: usize = 20;
/// Most CMA areas of our guest images' kernel: 1 + its CONFIG_CMA_AREAS (guest-images/kernel/common.config).
const GUEST_CMA_AREAS: usize = 17;

/// The arguments of `minivmm check` apart from the machine's options.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A device tree: flattened (.dtb), or source (.dts), which needs dtc [default: the tree of the machine options]
    #[arg(value_name = "FILE", conflicts_with_all = [
        "cma", "cma_mode", "memory", "cpus", "numa", "image", "kernel", "initrd", "cmdline", "device", "camera", "seed", "faults",
        "Options",
    ])]
    pub file: Option<PathBuf>,
    /// Print JSON: an object with rules, kernel, findings, regions and users
    #[arg(long)]
    json: bool,
    /// Size of the kernel's pages: 4K, 16K or 64K
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = size::parse)]
    page_size: u64,
    /// Most CMA areas of the kernel: 1 + CONFIG_CMA_AREAS [default: 20, as in Debian; 17 for a guest, as in our image]
    #[arg(long, value_name = "N")]
    cma_areas: Option<usize>,
}

/// Examples and exit status, for the end of the help.
pub const HELP: &str = "\
Examples:
  minivmm check board.dtb                          each reserved-memory node, and the devices that refer to it
  minivmm check board.dts --json                   the same as JSON
  minivmm check board.dtb --pageblock 2M           arm64 with pages of 4K; 32M with 16K, 512M with 64K
  minivmm check --cma 256M --memory 4G             the tree that this guest would get

The rules are those of Linux 6.1.
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
            Self::NoDtc { .. } | Self::Print(_) => Reason::Failed,
            _ => Reason::BadRequest,
        }
    }
}

/// Checks the tree in the file `path`. `pageblock` is the kernel's, in bytes.
///
/// # Errors
/// If the file has no tree, if the kernel's options contradict each other, or if the output cannot be written.
pub fn file(path: &Path, pageblock: u64, args: &CheckArgs) -> Result<ExitCode, CheckError> {
    tree(path, &read(path)?, &kernel(pageblock, CMA_AREAS, args)?, args.json)
}

/// Checks the flattened tree of a guest. `pageblock` is its kernel's, in bytes.
///
/// # Errors
/// If the kernel's options contradict each other, or if the output cannot be written.
pub fn guest(blob: &[u8], pageblock: u64, args: &CheckArgs) -> Result<ExitCode, CheckError> {
    tree(Path::new("the tree of these options"), blob, &kernel(pageblock, GUEST_CMA_AREAS, args)?, args.json)
}

fn kernel(pageblock: u64, cma_areas: usize, args: &CheckArgs) -> Result<Kernel, KernelError> {
    Kernel::new(pageblock, args.page_size, args.cma_areas.unwrap_or(cma_areas))
}

/// Prints the findings about the flattened tree `blob`. The status is 1 if there is an error among them.
fn tree(path: &Path, blob: &[u8], kernel: &Kernel, json: bool) -> Result<ExitCode, CheckError> {
    let tree = Tree::read(blob).map_err(|source| CheckError::Tree { path: path.to_owned(), source })?;
    let report = check(&tree, kernel);
    match print(&report, json, BufWriter::new(io::stdout().lock())) {
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

fn read(path: &Path) -> Result<Vec<u8>, CheckError> {
    if path.extension().is_some_and(|extension| extension == "dts") {
        return compile(path);
    }
    let error = |source| CheckError::Read { path: path.to_owned(), source };
    let mut blob = Vec::new();
    // One byte more than is allowed shows that the file is too large.
    File::open(path).map_err(error)?.take(MAX_TREE + 1).read_to_end(&mut blob).map_err(error)?;
    if blob.len() as u64 > MAX_TREE { Err(CheckError::TooLarge(path.to_owned())) } else { Ok(blob) }
}

/// Compiles a source to a flattened tree. dtc's findings about its content are ignored, as the check has its own.
fn compile(path: &Path) -> Result<Vec<u8>, CheckError> {
    // dtc's own message would be less clear.
    File::open(path).map_err(|source| CheckError::Read { path: path.to_owned(), source })?;
    let dtc = Command::new("dtc").args(["-f", "-q", "-I", "dts", "-O", "dtb", "--"]).arg(path).output();
    let output = dtc.map_err(|source| CheckError::NoDtc { path: path.to_owned(), source })?;
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
        let kernel = Kernel::new(4 << 20, 4096, 20).unwrap();
        let blob = blob();
        let report = check(&Tree::read(&blob).unwrap(), &kernel);
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
            "kernel": {"pageblock": 4 << 20, "page_size": 4096, "cma_areas": 20},
            "findings": [{
                "level": "note", "source": "drivers/of/fdt.c, early_init_dt_scan_memory",
                "text": "no memory node has a size, because a boot loader fills it in: the check assumes that regions are in RAM",
            }],
            "regions": [{
                "node": "/reserved-memory/isp@90000000", "outcome": "refused", "rule": rule, "source": source,
                "base": 0x9000_0000_u32, "size": 0, "default": false,
                "findings": [{"level": "error", "text": rule, "source": source}],
            }],
            "users": [{
                "node": "/isp", "enabled": true,
                "references": [{
                    "index": 0, "target": "/reserved-memory/isp@90000000", "errno": -22, "gets": null,
                    "findings": [no_pool],
                }],
            }],
        });
        assert_eq!(printed, expected);
    }

    #[test]
    fn files_that_are_not_trees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board.dtb");
        let args = CheckArgs { file: None, json: false, page_size: 4096, cma_areas: None };
        let refused = |path: &Path, part: &str| {
            let error = file(path, 4 << 20, &args).unwrap_err();
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
        assert_eq!(file(&path, 4 << 20, &args).unwrap(), ExitCode::FAILURE);
        let error = file(&path, 4095, &args).unwrap_err();
        assert!(matches!(&error, CheckError::Kernel(_)) && error.reason() == Reason::BadRequest, "{error}");
    }
}
