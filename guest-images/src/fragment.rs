//! The kernel options of guest images for a kernel of the user's: prints them, and merges them into its configuration.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    process::Command,
};

use crate::{
    arch::{Arch, UPSTREAM},
    command,
    error::Error,
    recipe::sorted_files,
    release::Release,
    sources,
};

/// Options of ours that a kernel of the user's does not need.
const NOT_NEEDED: [&str; 2] = ["CONFIG_LOCALVERSION=", "CONFIG_NR_CPUS="];

/// An option of the tests of device trees. On x86_64, only it selects `CONFIG_OF_EARLY_FLATTREE`, without which a kernel takes no tree from
/// its boot loader (drivers/of/Kconfig). Our patch for x86_64 selects that, too.
const UNIT_TESTS: &str = "CONFIG_OF_UNITTEST=y";
const TAKES_A_TREE: &str = "CONFIG_OF_EARLY_FLATTREE=y";

/// The lines that set the options of our kernel of `release` for `arch`, below comments. Options that ours has off are left out: a kernel
/// may have more.
///
/// # Errors
/// If the cache cannot be written.
pub fn text(arch: &Arch, release: Release) -> Result<String, Error> {
    let ours = sources::folder()?.join("kernel");
    let mut text =
        format!("# Options of minivmm's guest kernels for Linux {} on {}.\n", release.name(), arch.name);
    let mut patches = vec![("Options for V4L2 drivers outside of the tree need", ours.join("patches"))];
    if arch.name == Arch::X86_64.name {
        let of_release = ours.join("patches").join(release.patches());
        patches.push(("CMA windows of the device tree on x86_64 need", of_release));
        let _ = writeln!(text, "# Without the patch for x86_64: {UNIT_TESTS}, whose tests run at each boot.");
    }
    for (what, folder) in patches {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {what} (patch -p1):");
        for patch in sorted_files(&folder, "patch")? {
            let _ = writeln!(text, "#   {}", patch.display());
        }
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# Linux's own drivers of emulated devices: {}", ours.join(UPSTREAM).display());
    for file in arch.fragments {
        let path = ours.join(file);
        let fragment = fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        let lines = release.lines_of(&fragment);
        for line in lines.lines().filter(|line| line.starts_with("CONFIG_")) {
            if !NOT_NEEDED.iter().any(|option| line.starts_with(option)) {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    Ok(text)
}

/// The release of ours whose options fit the kernel in `folder`: the newest that is not newer than it.
///
/// # Errors
/// If it is no folder with Linux.
pub fn release_of(arch: &Arch, folder: &Path) -> Result<Release, Error> {
    let version = command::output(make(arch, folder).args(["--silent", "kernelversion"]))?;
    let mut numbers = version.trim().split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(fitting(version))
}

fn fitting(version: (u32, u32)) -> Release {
    let number = |release: &Release| {
        let (major, minor) = release.name().split_once('.').unwrap_or_default();
        (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
    };
    Release::ALL.into_iter().rev().find(|release| number(release) <= version).unwrap_or(Release::ALL[0])
}

/// Adds the options to the configuration of the kernel in `folder`, the source or a folder of objects, and completes it (make
/// olddefconfig). Returns the lines that the kernel does not accept, because it has no such option or because a dependency is off.
///
/// # Errors
/// If the folder has no configuration, or if make fails.
pub fn merge(arch: &Arch, folder: &Path) -> Result<Vec<String>, Error> {
    let path = folder.join(".config");
    if !path.is_file() {
        return Err(Error::NoConfig { folder: folder.display().to_string() });
    }
    let fragment = text(arch, release_of(arch, folder)?)?;
    // The last line of an option counts.
    let complete = |lines: &str| -> Result<String, Error> {
        let unwritable = || Error::io("cannot write", &path);
        let mut config = OpenOptions::new().append(true).open(&path).map_err(unwritable())?;
        config.write_all(format!("\n{lines}\n").as_bytes()).map_err(unwritable())?;
        command::output(make(arch, folder).arg("olddefconfig"))?;
        fs::read_to_string(&path).map_err(Error::io("cannot read", &path))
    };
    let mut config = complete(&fragment)?;
    if !config.lines().any(|line| line == TAKES_A_TREE) {
        config = complete(UNIT_TESTS)?;
    }
    let is_set = |line: &&str| line.starts_with("CONFIG_") && !config.lines().any(|set| set == *line);
    Ok(fragment.lines().filter(is_set).map(str::to_owned).collect())
}

/// The command make in `folder`.
fn make(arch: &Arch, folder: &Path) -> Command {
    let mut make = Command::new("make");
    make.env("LC_ALL", "C").arg("-C").arg(folder).arg(format!("ARCH={}", arch.kernel_arch));
    make.arg(format!("CROSS_COMPILE={}", arch.prefix()));
    make
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_gets_the_options_of_the_release_before_it() {
        for (version, release) in [
            ((5, 15), Release::V6_1),
            ((6, 1), Release::V6_1),
            ((6, 11), Release::V6_1),
            ((6, 12), Release::V6_12),
            ((7, 0), Release::V6_12),
            ((7, 10), Release::V7_2),
        ] {
            assert_eq!(fitting(version), release, "{version:?}");
        }
    }

    #[test]
    fn the_text_sets_options_and_names_the_patches() {
        let text = |arch| text(arch, Release::V6_12).unwrap();
        for (arch, patches) in [(Arch::X86_64, 3), (Arch::AARCH64, 1)] {
            let text = text(arch);
            assert!(text.contains("\nCONFIG_DMA_CMA=y\n") && !text.contains("LOCALVERSION"), "{text}");
            let named = text.lines().filter_map(|line| line.strip_prefix("#   "));
            assert_eq!(
                named.inspect(|patch| assert!(Path::new(patch).is_file(), "{patch}")).count(),
                patches
            );
        }
    }
}
