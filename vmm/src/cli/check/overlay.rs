//! Overlays of device trees: applied to a board's tree by fdtoverlay, as a boot loader does.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use cma::check::{Finding, Level, Report};

/// Why overlays could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// fdtoverlay cannot be run.
    #[error("overlays cannot be applied without fdtoverlay: {0}; install the package device-tree-compiler")]
    NoFdtoverlay(io::Error),
    /// A temporary file cannot be written.
    #[error("the trees for fdtoverlay cannot be written to a temporary folder: {0}")]
    Temporary(io::Error),
    /// The overlays do not fit the tree.
    #[error(
        "fdtoverlay cannot apply {} to {}: {said}; each label that an overlay refers to must be in the tree's /__symbols__, which \
         dtc -@ writes", names(.overlays), base.display()
    )]
    Refused {
        /// The tree.
        base: PathBuf,
        /// The overlays.
        overlays: Vec<PathBuf>,
        /// fdtoverlay's reason.
        said: String,
    },
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// Applies `overlays`, in this order, to the flattened tree `base`. Each has the path that errors name.
///
/// # Errors
/// If fdtoverlay is missing or refuses them.
pub(super) fn apply(base: (&Path, &[u8]), overlays: &[(&Path, Vec<u8>)]) -> Result<Vec<u8>, OverlayError> {
    let folder = tempfile::tempdir().map_err(OverlayError::Temporary)?;
    let write = |name: &str, blob: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, blob).map(|()| path).map_err(OverlayError::Temporary)
    };
    let result = folder.path().join("result");
    let mut command = Command::new("fdtoverlay");
    command.arg("-i").arg(write("base", base.1)?).arg("-o").arg(&result);
    for (index, (_, blob)) in overlays.iter().enumerate() {
        command.arg(write(&format!("overlay{index}"), blob)?);
    }
    let output = command.output().map_err(OverlayError::NoFdtoverlay)?;
    if output.status.success() {
        return fs::read(&result).map_err(OverlayError::Temporary);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // Its last word is the reason; it names our temporary files before.
    let said =
        said.lines().rev().find_map(|line| line.split_whitespace().find(|word| word.starts_with("FDT_ERR_")));
    Err(OverlayError::Refused {
        base: base.0.to_owned(),
        overlays: overlays.iter().map(|(path, _)| (*path).to_owned()).collect(),
        said: said.unwrap_or("it gives no reason").trim_end_matches([',', '.', ')']).to_owned(),
    })
}

/// Warns of regions that only the overlays add: `report` is of the tree with them, and `base` of the tree without.
pub(super) fn warn(report: &mut Report, base: &Report) {
    let is_new = |node: &str| !base.regions.iter().any(|region| region.node == node);
    let added: Vec<&str> =
        report.regions.iter().map(|region| region.node.as_str()).filter(|node| is_new(node)).collect();
    if added.is_empty() {
        return;
    }
    let text = format!(
        "the overlay adds {}: Linux reads /reserved-memory only in early boot, so this holds if the boot loader applies the overlay, \
         and an overlay of a running kernel (configfs, FPGA manager) reserves nothing",
        added.join(", ")
    );
    report.findings.insert(
        0,
        Finding { level: Level::Warning, text, source: "drivers/of/fdt.c, early_init_fdt_scan_reserved_mem" },
    );
}
