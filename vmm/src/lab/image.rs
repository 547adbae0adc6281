//! The lab's kernel and initramfs: prepared once from Debian packages, then taken from the cache.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use guest_images::{
    Arch,
    cache::cache_dir,
    cpio,
    debian::{self, Archive as Packages},
};
use sha2::{Digest as _, Sha256};

use super::{error::LabError, recipe::Recipe, settings::Note};

const INIT: &str = include_str!("init.sh");
/// The folder of a lab's image that lies above this machine's root.
const USERLAND: &str = "userland";

/// Where the lab's kernel and initramfs are.
pub(super) struct Image {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// The folder with programs that hide this machine's own, if the lab does not run these.
    pub userland: Option<PathBuf>,
    /// The folder of states of labs that have booted from it.
    pub states: PathBuf,
}

/// Finds the image of `recipe`, which is that for `arch`, in the cache, or makes it.
pub(super) fn prepare(recipe: &Recipe, arch: &Arch, note: &dyn Fn(&Note)) -> Result<Image, LabError> {
    debian::install(recipe.packages)?;
    let base = cache_dir()?.join("lab");
    let folder = base.join(name(recipe));
    if !folder.is_dir() {
        note(&Note::Preparing);
        fs::create_dir_all(&base).map_err(LabError::io("cannot create the folder", &base))?;
        let partial =
            tempfile::tempdir_in(&base).map_err(LabError::io("cannot create a folder in", &base))?;
        make(recipe, arch, partial.path())?;
        // Another process was faster, and made the same.
        if let Err(error) = fs::rename(partial.path(), &folder)
            && !folder.is_dir()
        {
            return Err(LabError::io("cannot create the folder", &folder)(error));
        }
    }
    let userland = (arch.name != Arch::host().name).then(|| folder.join(USERLAND));
    Ok(Image {
        kernel: folder.join("kernel"),
        initramfs: folder.join("initramfs"),
        userland,
        states: folder.join("states"),
    })
}

/// The hash of all of ours that goes into an image, this file included. Debian's kernel is the one of the day when it is made: asking
/// apt each time costs more than a second.
fn name(recipe: &Recipe) -> String {
    let hash = Sha256::digest(format!("{recipe:?}{INIT}{}", include_str!("image.rs")));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn make(recipe: &Recipe, arch: &Arch, folder: &Path) -> Result<(), LabError> {
    let packages = Packages::of(arch.debian);
    let package = packages.first_dependency(recipe.kernel)?;
    let unpacked = packages.unpacked(&package)?;
    let version = package.trim_start_matches("linux-image-");
    let vmlinuz = unpacked.join("boot").join(format!("vmlinuz-{version}"));
    let image = fs::read(&vmlinuz).map_err(LabError::io("cannot read", &vmlinuz))?;
    let kernel = folder.join("kernel");
    fs::write(&kernel, unwrap_kernel(image)?).map_err(LabError::io("cannot write", &kernel))?;

    let busybox = packages.unpacked(recipe.busybox)?.join("bin/busybox");
    let initramfs = folder.join("initramfs");
    let mut archive = cpio::Archive::default();
    for name in ["bin", "dev", "lab", "modules", "modules/network", "proc", "sys"] {
        archive.folder(name, 0o755);
    }
    archive.file("init", 0o755, INIT.into());
    archive.file("bin/busybox", 0o755, fs::read(&busybox).map_err(LabError::io("cannot read", &busybox))?);
    let always = modules(recipe.modules, &unpacked, version, folder)?;
    let network = modules(recipe.network, &unpacked, version, folder)?;
    for (index, module) in always.iter().chain(&network).enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let data = fs::read(module).map_err(LabError::io("cannot read", module))?;
        let place = match always.iter().position(|loaded| loaded == module) {
            Some(place) if place == index => "modules",
            Some(_) => continue,
            None => "modules/network",
        };
        archive.file(&format!("{place}/{index:02}-{name}"), 0o644, data);
    }
    fs::write(&initramfs, archive.pack()).map_err(LabError::io("cannot write", &initramfs))?;
    if arch.name != Arch::host().name {
        lay_out(recipe.userland, &packages, &folder.join(USERLAND))
    } else {
        Ok(())
    }
}

/// Copies the recipe's programs and libraries into `folder`, as a merged /usr has them (usrmerge(7)).
fn lay_out(userland: &[(&str, &[&str])], packages: &Packages, folder: &Path) -> Result<(), LabError> {
    for (package, paths) in userland {
        let unpacked = packages.unpacked(package)?;
        for path in *paths {
            let below_usr = Path::new(path.strip_prefix("usr/").unwrap_or(path));
            let parent = folder.join("usr").join(below_usr.parent().unwrap_or(below_usr));
            fs::create_dir_all(&parent).map_err(LabError::io("cannot create the folder", &parent))?;
            let mut copy = Command::new("cp");
            capture(copy.args(["--archive", "--link"]).arg(unpacked.join(path)).arg(&parent), None)?;
        }
    }
    Ok(())
}

/// The ELF kernel inside a bzImage: the lab boots it by PVH and spares itself 4 s of unpacking. A kernel that is not
/// wrapped like that stays as it is.
fn unwrap_kernel(image: Vec<u8>) -> Result<Vec<u8>, LabError> {
    const XZ: &[u8] = b"\xfd7zXZ\0";
    // Fields of the setup header: see Documentation/x86/boot.rst.
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let payload = (|| {
        if image.get(0x202..0x206)? != b"HdrS" {
            return None;
        }
        let setup = (usize::from(*image.get(0x1f1)?) + 1) * 512;
        let start = setup.checked_add(word(0x248)?)?;
        image.get(start..start.checked_add(word(0x24c)?)?)
    })();
    match payload {
        // The payload's last four bytes are its unpacked size, which xz must not take for another stream.
        Some(payload) if payload.starts_with(XZ) => {
            capture(Command::new("xz").args(["--decompress", "--stdout", "--single-stream"]), Some(payload))
        }
        _ => Ok(image),
    }
}

/// The files of modules and of what they depend on, in the order in which to load them.
fn modules(names: &[&str], unpacked: &Path, version: &str, folder: &Path) -> Result<Vec<PathBuf>, LabError> {
    // depmod writes beside the modules: it gets a tree of links, for the package's is not ours.
    let tree = tempfile::tempdir_in(folder).map_err(LabError::io("cannot create a folder in", folder))?;
    let links = tree.path().join("lib/modules").join(version);
    let original = unpacked.join("lib/modules").join(version);
    fs::create_dir_all(&links).map_err(LabError::io("cannot create the folder", &links))?;
    for name in ["kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let link = links.join(name);
        symlink(original.join(name), &link).map_err(LabError::io("cannot create the link", &link))?;
    }
    capture(Command::new("/sbin/depmod").arg("-b").arg(tree.path()).arg(version), None)?;
    let mut files: Vec<PathBuf> = Vec::new();
    for module in names {
        let mut modprobe = Command::new("/sbin/modprobe");
        modprobe.arg("-d").arg(tree.path()).args(["-S", version, "--show-depends", module]);
        let shown = capture(&mut modprobe, None)?;
        for line in String::from_utf8_lossy(&shown).lines() {
            // "insmod FILE OPTIONS", or "builtin NAME".
            let Some(file) = line.strip_prefix("insmod ").and_then(|rest| rest.split(' ').next()) else {
                continue;
            };
            let file = fs::canonicalize(file).map_err(LabError::io("cannot find", Path::new(file)))?;
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// What `command` prints, given `input`.
fn capture(command: &mut Command, input: Option<&[u8]>) -> Result<Vec<u8>, LabError> {
    let shown = format!("{command:?}");
    let failed = |why: String| LabError::Prepare(format!("{shown} failed: {why}"));
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A program that does not want all of its input says so by its status.
        scope.spawn(move || pipe.zip(input).map(|(mut pipe, input)| pipe.write_all(input)));
        child.wait_with_output()
    })
    .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(failed(stderr.lines().last().unwrap_or("it did not say why").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_no_bzimage_stays_as_it_is() {
        for image in [Vec::new(), vec![0; 0x300], b"\x7fELF".to_vec()] {
            assert_eq!(unwrap_kernel(image.clone()).unwrap(), image);
        }
        // A header that points outside of the file.
        let mut image = vec![0xff; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(unwrap_kernel(image.clone()).unwrap(), image);
    }
}
