//! Kernel files: opening one, telling the formats apart, and why one is refused.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use linux_loader::loader::Error as LoaderError;

use crate::arch;

/// Why a kernel was refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file cannot be opened or read.
    #[error("the kernel {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No format of a kernel.
    #[error("{} is not a kernel: a machine of {} boots {}", .0.display(), arch::NAME, arch::KERNEL_FORMATS)]
    NotAKernel(PathBuf),
    /// A kernel that this machine does not boot: of another architecture, or packed in another way.
    #[error("the kernel {} is {what}; a machine of {} boots {}", path.display(), arch::NAME, arch::KERNEL_FORMATS)]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// The file ends early.
    #[error("the kernel {} is truncated: its headers promise more than its {length} bytes", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// It does not fit.
    #[error("the kernel {} does not fit in the guest's memory; give more with --memory", .0.display())]
    DoesNotFit(PathBuf),
    /// A format error that the loader found.
    #[error("the kernel {} cannot be loaded: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        source: LoaderError,
    },
}

/// A kernel file, open, at its beginning.
#[derive(Debug)]
pub struct KernelFile {
    /// The file.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// As much of its beginning as tells the formats apart, or all of a shorter file.
    pub start: Vec<u8>,
}

/// A boot Image's header ends with the first, an x86 setup header's magic is at the second (boot.rst of each).
const IMAGE_HEADER: u64 = 0x40;
const BZIMAGE_MAGIC_AT: u64 = 0x202;

impl KernelFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is a folder.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let read = |source| KernelError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read)?;
        if file.metadata().map_err(read)?.is_dir() {
            return Err(read(io::ErrorKind::IsADirectory.into()));
        }
        let length = file.seek(SeekFrom::End(0)).map_err(read)?;
        file.rewind().map_err(read)?;
        let mut start = Vec::new();
        file.by_ref().take(BZIMAGE_MAGIC_AT + 4).read_to_end(&mut start).map_err(read)?;
        file.rewind().map_err(read)?;
        Ok(Self { file, length, start })
    }

    /// Its format.
    pub fn format(&self) -> Format {
        Format::of(&self.start)
    }
}

/// What a kernel's file begins with. Where a format has a machine in it, that is an ELF's e_machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An ELF file: its class (2: 64 bit) and machine.
    Elf(u8, u16),
    /// x86's bzImage.
    BzImage,
    /// arm64's boot Image.
    Arm64Image,
    /// RISC-V's boot Image.
    RiscvImage,
    /// An EFI application that unpacks a kernel (CONFIG_EFI_ZBOOT).
    EfiZboot,
    /// Compressed data.
    Gzip,
    /// Nothing of these.
    Unknown,
}

impl Format {
    fn of(start: &[u8]) -> Self {
        let at = |at: u64, magic: &[u8]| {
            usize::try_from(at).is_ok_and(|at| start.get(at..at + magic.len()) == Some(magic))
        };
        if at(0, b"\x7fELF") {
            // e_ident[EI_CLASS] and e_machine; a shorter file is for the loader to refuse, as one of ours.
            let machine =
                start.get(18..20).map_or(arch::ELF_MACHINE, |at| u16::from_le_bytes([at[0], at[1]]));
            Self::Elf(start.get(4).copied().unwrap_or(2), machine)
        } else if at(BZIMAGE_MAGIC_AT, b"HdrS") {
            Self::BzImage
        } else if at(IMAGE_HEADER - 8, b"ARM\x64") {
            Self::Arm64Image
        } else if at(IMAGE_HEADER - 8, b"RSC\x05") {
            Self::RiscvImage
        } else if at(0, b"MZ") && at(4, b"zimg") {
            Self::EfiZboot
        } else if at(0, b"\x1f\x8b") {
            Self::Gzip
        } else {
            Self::Unknown
        }
    }

    /// The error that refuses a file of this format, which `path` leads to.
    pub fn refuse(self, path: &Path) -> KernelError {
        let what = match self {
            Self::Elf(class, machine) => {
                format!("for another machine: its ELF header says class {class}, machine {machine}")
            }
            Self::BzImage => "a bzImage, for x86".to_owned(),
            Self::Arm64Image => "a boot Image for arm64".to_owned(),
            Self::RiscvImage => "a boot Image for RISC-V".to_owned(),
            Self::EfiZboot => "an EFI application with a packed kernel (CONFIG_EFI_ZBOOT)".to_owned(),
            Self::Gzip => "compressed with gzip; unpack it with gunzip first".to_owned(),
            Self::Unknown => return KernelError::NotAKernel(path.to_owned()),
        };
        KernelError::Other { path: path.to_owned(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        let with = |at: usize, magic: &[u8]| {
            let mut start = vec![0; 0x206];
            start[at..at + magic.len()].copy_from_slice(magic);
            Format::of(&start)
        };
        assert_eq!(with(0, b"\x7fELF\x02"), Format::Elf(2, 0));
        assert_eq!(with(0x202, b"HdrS"), Format::BzImage);
        assert_eq!(with(56, b"ARM\x64"), Format::Arm64Image);
        assert_eq!(with(56, b"RSC\x05"), Format::RiscvImage);
        assert_eq!(with(0, b"MZ\0\0zimg"), Format::EfiZboot);
        assert_eq!(with(0, b"\x1f\x8b"), Format::Gzip);
        assert_eq!(with(1, b"ELF"), Format::Unknown);
        for start in [&b""[..], b"M", b"\x7fEL", b"#!/bin/sh\n"] {
            assert_eq!(Format::of(start), Format::Unknown);
        }
        assert_eq!(Format::of(b"\x7fELF\x02"), Format::Elf(2, arch::ELF_MACHINE));
    }

    #[test]
    fn the_error_says_what_it_is_and_what_is_wanted() {
        let error = Format::RiscvImage.refuse(Path::new("/k")).to_string();
        assert_eq!(
            error,
            format!(
                "the kernel /k is a boot Image for RISC-V; a machine of {} boots {}",
                arch::NAME,
                arch::KERNEL_FORMATS
            )
        );
        assert!(
            Format::Unknown
                .refuse(Path::new("/k"))
                .to_string()
                .starts_with("/k is not a kernel: a machine of")
        );
    }
}
