//! Checks all device trees of kernel packages, and prints each error as a row of a table, with the reason why it is one.
//!
//! Without arguments the packages are those of Debian's kernels, which are downloaded to the cache, where they take 2 GB. The rows are
//! those of tests/field-cases/DEBIAN.md. The exit status is 1 if an error has no reason.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use cma::check::{Arch, Boot, Kernel, Level, Rules, Tree, check};
use guest_images::{Release, device_trees};
use tests::kernels;

const USAGE: &str = "give RULES:ARCH:FOLDER for each package, as in 6.12:arm64:/tmp/linux-image, or nothing for Debian's packages";

/// The packages of Debian: the kernel's release, and its architecture as Debian names it and as the check does.
const DEBIAN: [(Release, &str, Arch); 5] = [
    (Release::V6_1, "arm64", Arch::Arm64),
    (Release::V6_12, "arm64", Arch::Arm64),
    (Release::V7_2, "arm64", Arch::Arm64),
    (Release::V6_12, "armhf", Arch::Arm),
    (Release::V6_12, "riscv64", Arch::Riscv),
];

/// Why an error is one: the beginning of the file's name, a part of the sentence, and the reason, which was found by reading the source
/// of the tree.
const REASONS: [(&str, &str, &str); 2] = [
    (
        "meson-gxl-s805x-",
        "there is no room for 256M",
        "512 MiB of RAM. The firmware's regions at 0x5000000, 0x5300000 and 0x10000000 leave no 256 MiB in one piece: the board has no \
         default window",
    ),
    (
        "sm6125-sony-xperia-seine-pdx201",
        "Linux does not read /reserved_memory",
        "The node has an underscore in its name. Linux reserves nothing for its children: memory of the firmware, and ramoops. The tree \
         of 6.12 spells it correctly",
    ),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let given: Vec<String> = env::args().skip(1).collect();
    let packages = if given.is_empty() { downloaded()? } else { read(&given)? };
    let begun = Instant::now();
    let (mut trees, mut missing) = (0, false);
    println!("| package | tree | error | why it is one |\n|---|---|---|---|");
    for (rules, arch, folder) in packages {
        let kernel = Kernel::debian(rules, arch, cma::PAGE_SIZE)?;
        let mut files = Vec::new();
        find(&folder, &mut files)?;
        files.sort();
        for file in &files {
            trees += 1;
            missing |= !rows(&kernel, file)?;
        }
    }
    if trees == 0 {
        return Err(USAGE.into());
    }
    println!("\n{trees} trees in {:.1} s.", begun.elapsed().as_secs_f64());
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rules and the architecture of a package, and the folder with its trees.
type Package = (Rules, Arch, PathBuf);

/// Debian's packages.
fn downloaded() -> Result<Vec<Package>, Box<dyn Error>> {
    let package =
        |(release, debian, arch)| Ok((kernels::rules(release), arch, device_trees(release, debian)?));
    DEBIAN.into_iter().map(package).collect()
}

/// The packages that the arguments name.
fn read(arguments: &[String]) -> Result<Vec<Package>, Box<dyn Error>> {
    let package = |argument: &String| -> Result<_, Box<dyn Error>> {
        let mut parts = argument.splitn(3, ':');
        let (Some(rules), Some(arch), Some(folder)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(USAGE.into());
        };
        Ok((rules.parse()?, arch.parse()?, folder.into()))
    };
    arguments.iter().map(package).collect()
}

/// Prints the errors of a tree. False if one has no reason.
fn rows(kernel: &Kernel, file: &Path) -> Result<bool, Box<dyn Error>> {
    let blob = fs::read(file)?;
    let report = check(&Tree::read(&blob)?, kernel, &Boot::default());
    // The text for people is made, too: it must not fail.
    let _ = report.to_string();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut known = true;
    for finding in report.findings().filter(|finding| finding.level == Level::Error) {
        let mut reasons = REASONS.iter();
        let reason = reasons.find(|(begin, part, _)| name.starts_with(begin) && finding.text.contains(part));
        known &= reason.is_some();
        let reason = reason.map_or("not looked at", |(_, _, reason)| reason);
        println!("| {} {} | `{name}` | {} | {reason}. |", kernel.rules, kernel.arch, finding.text);
    }
    Ok(known)
}

/// The flattened trees below a folder.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "dtb") {
            files.push(path);
        }
    }
    Ok(())
}
