//! Kernel modules of the user: whether a file is one, and whether it is for the guest's kernel, by their version magic
//! (include/linux/vermagic.h).

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use crate::machine::config::Config;

/// Why a module was refused.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// It is not a module.
    #[error("{} is not a kernel module; name a .ko file, not compressed", .0.display())]
    NotAModule(PathBuf),
    /// It is for another kernel.
    #[error("the module {} is for the kernel '{module}', but the guest's kernel is '{kernel}'; {advice}", path.display())]
    Other {
        /// The module.
        path: PathBuf,
        /// The version magic of the module.
        module: String,
        /// That of the kernel.
        kernel: String,
        /// How to build it right.
        advice: String,
    },
}

/// The name of the module `path` in the guest.
///
/// # Errors
/// If it is not a name of modules.
pub(super) fn name(path: &Path) -> Result<String, ModuleError> {
    let name = path.file_name().and_then(|name| name.to_str());
    // init reads the names from a list with one a line.
    let name = name.filter(|name| name.ends_with(".ko") && !name.contains(char::is_control));
    name.map(ToOwned::to_owned).ok_or_else(|| ModuleError::NotAModule(path.to_owned()))
}

/// Checks that `data`, the content of the file `path`, is a module, and that it fits the kernel of `config` as far as the version
/// of that is known.
///
/// # Errors
/// If it does not.
pub fn check(path: &Path, data: &[u8], config: &Config) -> Result<(), ModuleError> {
    let magic = all(data, b"vermagic=").next().filter(|_| data.starts_with(b"\x7fELF"));
    let Some(module) = magic.and_then(|(_, after)| string(after)).map(|magic| Magic::new(&magic)) else {
        return Err(ModuleError::NotAModule(path.to_owned()));
    };
    // A kernel that cannot be read is reported elsewhere, and `dtb` works without one.
    let Some(kernel) = fs::read(&config.kernel).ok().and_then(|image| Magic::of_kernel(&image)) else {
        return Ok(());
    };
    // With checksums of its symbols, a module fits kernels of other versions (same_magic in kernel/module/version.c).
    let has_checksums = find(data, b"\0__versions\0").is_some();
    if kernel.accepts(&module, has_checksums) {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.display();
    let advice = match &config.image {
        Some(image) => {
            format!("build it with `minivmm image module {folder} --image {image}`")
        }
        None => format!("build it in the tree of that kernel, with `make M=$(realpath {folder}) modules`"),
    };
    Err(ModuleError::Other { path: path.to_owned(), module: module.text(), kernel: kernel.text(), advice })
}

/// A version magic.
#[derive(Debug, PartialEq, Eq)]
struct Magic {
    /// The kernel's version, as `uname -r` prints it.
    release: String,
    /// The options that change how modules are built, if they are known.
    flags: Option<String>,
}

impl Magic {
    fn new(text: &str) -> Self {
        let (release, flags) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        Self { release: release.to_owned(), flags: Some(flags.to_owned()) }
    }

    /// That of the kernel in the file `image`: one that is not compressed has it as a string, and a bzImage has the version in
    /// its header (Documentation/arch/x86/boot.rst, kernel_version). None if the version is not found.
    fn of_kernel(image: &[u8]) -> Option<Self> {
        if image.get(0x202..0x206) == Some(b"HdrS") {
            let at = image.get(0x20e..0x210)?;
            let at = usize::from(u16::from_le_bytes([at[0], at[1]])) + 0x200;
            let version = string(image.get(at..)?)?;
            return Some(Self { release: version.split(' ').next()?.to_owned(), flags: None });
        }
        let is_banner = |text: &String| text.starts_with(|c: char| c.is_ascii_digit()) && text.contains(" (");
        let banner = all(image, b"Linux version ").filter_map(|(_, after)| string(after)).find(is_banner)?;
        let release = banner.split(' ').next()?.to_owned();
        // The version with a space after it begins the magic, and is a part of banners.
        let start = format!("{release} ");
        let magic = all(image, start.as_bytes()).find(|(before, _)| !before.ends_with(b"version "));
        let flags = magic.and_then(|(_, after)| string(after)).map(|flags| flags.trim_end().to_owned());
        Some(Self { release, flags })
    }

    /// Whether a kernel with this magic loads a `module`.
    fn accepts(&self, module: &Self, has_checksums: bool) -> bool {
        (has_checksums || self.release == module.release)
            && (self.flags.is_none() || self.flags == module.flags)
    }

    fn text(&self) -> String {
        let text = format!("{} {}", self.release, self.flags.as_deref().unwrap_or_default());
        text.trim_end().to_owned()
    }
}

/// Where `part` begins in `data`.
fn find(data: &[u8], part: &[u8]) -> Option<usize> {
    data.windows(part.len()).position(|bytes| bytes == part)
}

/// The bytes before and after each `part` of `data`.
fn all<'a>(data: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let mut end = 0;
    iter::from_fn(move || {
        let start = end + find(&data[end..], part)?;
        end = start + part.len();
        Some((&data[..start], &data[end..]))
    })
}

/// The string that `data` begins with, if it is printable and ends with a zero byte or a line.
fn string(data: &[u8]) -> Option<String> {
    /// More than any version magic or banner has.
    const MAX: usize = 512;
    let length = data.iter().take(MAX).position(|byte| *byte == 0 || *byte == b'\n')?;
    let text = std::str::from_utf8(&data[..length]).ok()?;
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "6.1.192-minivmm";

    fn module(magic: &str, checksums: bool) -> Vec<u8> {
        let section: &[u8] = if checksums { b"\0__versions\0" } else { b"" };
        [b"\x7fELF\x02 license=GPL\0vermagic=", magic.as_bytes(), b"\0name=x\0", section].concat()
    }

    /// What `check` says of a module of this `magic` for a kernel with these bytes.
    fn check(kernel: &[u8], magic: &str, checksums: bool, image: Option<&str>) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), kernel).unwrap();
        let config = Config {
            kernel: file.path().to_owned(),
            image: image.map(ToOwned::to_owned),
            ..Config::default()
        };
        let module = module(magic, checksums);
        super::check(Path::new("my-driver/x.ko"), &module, &config).map_err(|error| error.to_string())
    }

    fn kernel() -> Vec<u8> {
        let banners =
            format!("\x7fELF%s version {RELEASE} (x)\0Linux version {RELEASE} (x@y) #1\n\0...{RELEASE}\0");
        [banners.as_bytes(), RELEASE.as_bytes(), b" SMP mod_unload \0rest"].concat()
    }

    #[test]
    fn a_module_for_another_kernel_is_refused_with_the_command_that_builds_it() {
        let fits = format!("{RELEASE} SMP mod_unload ");
        check(&kernel(), &fits, false, None).unwrap();
        let other = "6.1.172-minivmm SMP mod_unload ";
        assert_eq!(
            check(&kernel(), other, false, Some("default")).unwrap_err(),
            "the module my-driver/x.ko is for the kernel '6.1.172-minivmm SMP mod_unload', but the guest's kernel is \
             '6.1.192-minivmm SMP mod_unload'; build it with `minivmm image module my-driver --image default`"
        );
        let own = check(&kernel(), other, false, None).unwrap_err();
        assert!(own.ends_with("with `make M=$(realpath my-driver) modules`"), "{own}");
        // The version of a module with checksums does not matter; options do.
        check(&kernel(), other, true, None).unwrap();
        for checksums in [false, true] {
            let preempt = format!("{RELEASE} SMP preempt mod_unload ");
            assert!(check(&kernel(), &preempt, checksums, None).is_err());
        }
    }

    #[test]
    fn a_bzimage_tells_its_version_and_an_unknown_kernel_refuses_nothing() {
        let mut bzimage = vec![0; 0x300];
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        bzimage[0x20e..0x210].copy_from_slice(&0x80_u16.to_le_bytes());
        let version = format!("{RELEASE} (x@y) #1 SMP");
        bzimage[0x280..0x280 + version.len()].copy_from_slice(version.as_bytes());
        check(&bzimage, &format!("{RELEASE} SMP preempt "), false, None).unwrap();
        assert!(
            check(&bzimage, "6.1.172-minivmm SMP ", false, None).unwrap_err().contains("'6.1.192-minivmm';")
        );
        for unknown in [&b""[..], b"Linux version ", b"HdrS", &bzimage[..0x20f]] {
            check(unknown, "6.1.172-minivmm SMP ", false, None).unwrap();
        }
    }

    #[test]
    fn other_files_are_not_modules() {
        let config = Config::default();
        for data in [&b""[..], b"#!/bin/sh\n", b"\x7fELF without the string", b"vermagic=6.1 SMP\0"] {
            let error = super::check(Path::new("x.ko"), data, &config).unwrap_err().to_string();
            assert_eq!(error, "x.ko is not a kernel module; name a .ko file, not compressed");
        }
        for path in ["x.ko.xz", "order", "a\nb.ko", "/"] {
            assert!(name(Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(name(Path::new("my-driver/x.ko")).unwrap(), "x.ko");
    }
}
