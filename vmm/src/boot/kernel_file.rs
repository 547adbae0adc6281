//! Kernel files: opens one, tells the formats apart, and says why one is refused.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use linux_loader::loader::Error as LoaderError;

/// The kernels that a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootable {
    /// The machine's architecture.
    pub machine: &'static str,
    /// The formats, for a person to read.
    pub formats: &'static str,
}

impl fmt::Display for Bootable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a machine of {} boots {}", self.machine, self.formats)
    }
}

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
    /// The file has no format of a kernel.
    #[error("{} is not a kernel; {bootable}", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// The formats that the machine boots.
        bootable: Bootable,
    },
    /// The kernel is for another architecture, or in another format.
    #[error("the kernel {} is {format}; {bootable}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// The format that it has.
        format: String,
        /// The formats that the machine boots.
        bootable: Bootable,
    },
    /// The file ends early.
    #[error("the kernel {} is truncated: by its headers it is longer than its {length} bytes", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// The kernel does not fit in guest memory.
    #[error("the kernel {} does not fit in the guest's memory; increase --memory", .0.display())]
    DoesNotFit(PathBuf),
    /// A format error that the loader found.
    #[error("the kernel {} cannot be loaded: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The loader's error.
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
    /// Its first bytes, by which formats are told apart; all bytes of a shorter file.
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

/// The format of a kernel's file, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An ELF file: its class (e_ident\[EI_CLASS\]; 2 is 64-bit) and its e_machine, which a file that ends earlier lacks.
    Elf(u8, Option<u16>),
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
    /// None of these.
    Unknown,
}

impl Format {
    fn of(start: &[u8]) -> Self {
        let at = |at: u64, magic: &[u8]| {
            usize::try_from(at).is_ok_and(|at| start.get(at..at + magic.len()) == Some(magic))
        };
        if at(0, b"\x7fELF") {
            let machine = start.get(18..20).map(|at| u16::from_le_bytes([at[0], at[1]]));
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

    /// The error that refuses the file `path`, of this format, on a machine that boots others.
    pub fn refuse(self, path: &Path, bootable: Bootable) -> KernelError {
        let path = path.to_owned();
        let format = match self {
            Self::Elf(class, machine) => {
                let machine = machine.map_or_else(String::new, |machine| format!(", machine {machine}"));
                format!("for another machine: its ELF header says class {class}{machine}")
            }
            Self::BzImage => "a bzImage, for x86".to_owned(),
            Self::Arm64Image => "a boot Image for arm64".to_owned(),
            Self::RiscvImage => "a boot Image for RISC-V".to_owned(),
            Self::EfiZboot => "an EFI application with a packed kernel (CONFIG_EFI_ZBOOT)".to_owned(),
            Self::Gzip => "compressed with gzip; unpack it with gunzip first".to_owned(),
            Self::Unknown => return KernelError::NotAKernel { path, bootable },
        };
        KernelError::Other { path, format, bootable }
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
        assert_eq!(with(0, b"\x7fELF\x02"), Format::Elf(2, Some(0)));
        assert_eq!(with(0x202, b"HdrS"), Format::BzImage);
        assert_eq!(with(56, b"ARM\x64"), Format::Arm64Image);
        assert_eq!(with(56, b"RSC\x05"), Format::RiscvImage);
        assert_eq!(with(0, b"MZ\0\0zimg"), Format::EfiZboot);
        assert_eq!(with(0, b"\x1f\x8b"), Format::Gzip);
        assert_eq!(with(1, b"ELF"), Format::Unknown);
        for start in [&b""[..], b"M", b"\x7fEL", b"#!/bin/sh\n"] {
            assert_eq!(Format::of(start), Format::Unknown);
        }
        assert_eq!(Format::of(b"\x7fELF\x02"), Format::Elf(2, None));
    }

    #[test]
    fn the_error_says_what_it_is_and_what_is_wanted() {
        let bootable = Bootable { machine: "vax", formats: "a tape" };
        let refuse = |format: Format| format.refuse(Path::new("/k"), bootable).to_string();
        assert_eq!(
            refuse(Format::RiscvImage),
            "the kernel /k is a boot Image for RISC-V; a machine of vax boots a tape"
        );
        assert_eq!(refuse(Format::Unknown), "/k is not a kernel; a machine of vax boots a tape");
    }
}
