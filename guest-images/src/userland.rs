//! Builds userlands: images of a disk with Debian and the programs that people use with cameras, for `--root`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    arch::Arch,
    cache::{self, Lock, cache_dir},
    command,
    debian::{self, privilege},
    error::Error,
    progress::Step,
    recipe::Recipe,
};

/// The suite of Debian with which userlands are built by default: Debian 13.
pub const SUITE: &str = "trixie";

/// The suites that a userland can have.
pub const SUITES: [&str; 3] = ["bookworm", SUITE, "sid"];

/// Packages on this machine.
const TOOLS: [&str; 2] = ["e2fsprogs", "mmdebstrap"];

/// Packages with which this machine runs the programs of another architecture, as mmdebstrap needs it.
const EMULATION: [&str; 3] = ["arch-test", "binfmt-support", "qemu-user-static"];

/// Packages in the userland: capture and inspection, codecs, pipelines, camera stacks, vision, and what they and scripts need: libcamera
/// finds cameras in udev's database.
const PACKAGES: [&str; 14] = [
    "ffmpeg",
    "gstreamer1.0-libcamera",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-tools",
    "iproute2",
    "kmod",
    "libcamera-ipa",
    "libcamera-tools",
    "procps",
    "python3-numpy",
    "python3-opencv",
    "udev",
    "v4l-utils",
];

/// Tells this machine's kernel how to run these programs, as root. It forgets that at each boot, and a machine without systemd does not
/// tell it again.
const REGISTER: &str = "
set -eu
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
update-binfmts --enable
";

/// The lines that mmdebstrap prints, roughly: the length of the progress bar.
const LINES: u64 = 20;

/// The build, as root: $1 is the architecture, $2 the suite, $3 the packages, $4 the folder of the image. The tree is in a folder
/// beside the image, because mke2fs of Debian 12 reads no archive. What runs is in namespaces that end with this process. A mirror may be
/// older than apt accepts; the signatures count.
const SCRIPT: &str = r#"
set -eu
cd "$4"
setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
    mmdebstrap --mode=root --variant=minbase --architectures="$1" --include="$3" \
    --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook='rm -rf "$1"/var/cache/apt "$1"/var/lib/apt/lists/*' \
    "$2" tree http://deb.debian.org/debian 2>&1
echo "the image of the disk"
mebibytes=$(du -sm tree | cut -f 1)
# The tables of the file system, and some room.
truncate -s $((mebibytes + mebibytes / 8 + 32))M root.ext4
mke2fs -q -t ext4 -O ^has_journal -m 0 -L userland -d tree root.ext4
rm -rf tree
chown "$(stat -c %u:%g .)" root.ext4
"#;

/// Builds the userland of a suite of Debian for `arch`, if it was not built yet, and returns the image: a raw disk with ext4, for
/// `minivmm --root`. It shows its progress on stderr. It needs root or passwordless sudo. For another architecture than
/// this machine's it installs an emulator for its programs (Debian's packages `qemu-user-static` and `binfmt-support`).
///
/// # Errors
/// If a package is missing and may not be installed, or if a step fails.
pub fn build(arch: &'static Arch, suite: &str) -> Result<PathBuf, Error> {
    let image = image(arch, suite)?;
    let folder = image.parent().unwrap_or(&image);
    let lock = Lock::take(&folder.with_extension("lock"), || ())?;
    if !folder.is_dir() {
        debian::install(&TOOLS)?;
        if arch.name != Arch::host().name {
            debian::install(&EMULATION)?;
            command::output(&mut as_root(&["sh", "-c", REGISTER])?)?;
        }
        cache::create_whole(folder, |partial| fill(arch, suite, partial, &lock))?;
    }
    Ok(image)
}

/// The place of the image of a userland, built or not.
///
/// # Errors
/// If there is no cache folder.
pub fn image(arch: &Arch, suite: &str) -> Result<PathBuf, Error> {
    let recipe = PACKAGES.iter().fold(Recipe::new("userland").with(suite).with(SCRIPT), Recipe::with);
    let folder = format!("{suite}-{}", recipe.name());
    Ok(cache_dir()?.join("userlands").join(arch.name).join(folder).join("root.ext4"))
}

/// The command of these words, for root.
fn as_root(words: &[&str]) -> Result<Command, Error> {
    let prefix = privilege().ok_or(Error::NotRoot)?;
    let mut words = prefix.iter().chain(words);
    let mut command = Command::new(words.next().unwrap_or(&"sh"));
    command.args(words);
    Ok(command)
}

/// Makes the image in the folder `partial`.
fn fill(arch: &Arch, suite: &str, partial: &Path, lock: &Lock) -> Result<(), Error> {
    let mut build = as_root(&["sh", "-c", SCRIPT, "sh"])?;
    build.args([arch.debian, suite, &PACKAGES.join(",")]).arg(partial);
    let log = partial.with_extension("log");
    let step = Step::begin("userland", LINES);
    // The lock lasts until the build has ended, also if this process is killed.
    let built = command::follow(&mut build, lock.share().unwrap_or_else(|_| Stdio::null()), &log, |line| {
        step.advance(line);
    });
    built.map_err(|error| match error {
        // The script has many lines.
        Error::Command { outcome, .. } => Error::Command { command: format!("mmdebstrap {suite}"), outcome },
        error => error,
    })?;
    step.done();
    let _ = fs::remove_file(log);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_and_architecture_has_its_image() {
        let images: Vec<PathBuf> =
            Arch::ALL.iter().flat_map(|arch| SUITES.map(|suite| image(arch, suite).unwrap())).collect();
        for (index, image) in images.iter().enumerate() {
            assert!(!images[..index].contains(image), "{}", image.display());
            assert_eq!(image.file_name().unwrap(), "root.ext4");
        }
    }
}
