//! Direct boot of an arm64 Image (Documentation/arm64/booting.rst).

use std::{ops::Range, path::Path};

use linux_loader::loader::{Error as LoaderError, KernelLoader, PE, pe};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::layout;
use crate::boot::kernel_file::{Bootable, Format, KernelError, KernelFile};

/// Name of the architecture, as in the cache of guest images and in rustc's targets.
pub const NAME: &str = "aarch64";

/// The format of kernels that this machine boots, for a person to read.
pub const KERNEL_FORMATS: &str = "an uncompressed arm64 boot Image";
const BOOTABLE: Bootable = Bootable { machine: NAME, formats: KERNEL_FORMATS };
/// EM_AARCH64 (ELF for the Arm 64-bit Architecture).
const ELF_MACHINE: u16 = 183;

/// Longest kernel command line in bytes: COMMAND_LINE_SIZE (arch/arm64/include/uapi/asm/setup.h) less its final zero.
pub const CMDLINE_MAX: usize = 2047;

/// A kernel in guest memory.
#[derive(Debug)]
pub struct LoadedKernel {
    /// Where the boot CPU starts.
    pub entry: GuestAddress,
    /// The memory that it takes, with its uninitialised data.
    pub range: Range<u64>,
}

/// Loads the kernel at `path` into `memory`.
///
/// # Errors
/// If the file is missing, truncated, not a kernel, for another architecture, or too large.
pub fn load_kernel(memory: &GuestMemoryMmap, path: &Path) -> Result<LoadedKernel, KernelError> {
    let opened = KernelFile::open(path)?;
    match opened.format() {
        Format::Arm64Image => {}
        Format::Elf(2, None | Some(ELF_MACHINE)) => {
            let format = "an ELF vmlinux; take arch/arm64/boot/Image of the same build".to_owned();
            return Err(KernelError::Other { path: path.to_owned(), format, bootable: BOOTABLE });
        }
        other => return Err(other.refuse(path, BOOTABLE)),
    }
    let KernelFile { mut file, length, start } = opened;
    let truncated = || KernelError::Truncated { path: path.to_owned(), length };
    let header = Header::read(&start).ok_or_else(truncated)?;
    if header.big_endian {
        let format = "a big-endian Image, which the CPUs here do not start in".to_owned();
        return Err(KernelError::Other { path: path.to_owned(), format, bootable: BOOTABLE });
    }
    if header.promised > length {
        return Err(truncated());
    }
    let loaded = PE::load(memory, Some(GuestAddress(layout::KERNEL)), &mut file, None);
    let loaded = loaded.map_err(|source| match source {
        LoaderError::Pe(pe::Error::ReadKernelImage | pe::Error::InvalidImage) => {
            KernelError::DoesNotFit(path.to_owned())
        }
        source => KernelError::Malformed { path: path.to_owned(), source },
    })?;
    let end = loaded.kernel_load.0.saturating_add(header.image_size).max(loaded.kernel_end);
    Ok(LoadedKernel { entry: loaded.kernel_load, range: layout::KERNEL..end })
}

/// The fields of an Image's header that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// From the place of loading to the end of its uninitialised data, in bytes.
    image_size: u64,
    big_endian: bool,
    /// The bytes of the file that the sections of its PE header promise, if it has such a header.
    promised: u64,
}

impl Header {
    /// Reads the header from the `start` of a file. None if the file ends within it.
    fn read(start: &[u8]) -> Option<Self> {
        const IMAGE_SIZE: usize = 16;
        const FLAGS: usize = 24;
        const BIG_ENDIAN: u64 = 1;
        const LENGTH: usize = 64;
        let field = |at: usize| start.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        start.get(..LENGTH)?;
        Some(Self {
            image_size: field(IMAGE_SIZE)?,
            big_endian: field(FLAGS)? & BIG_ENDIAN != 0,
            promised: sections_end(start).unwrap_or(0),
        })
    }
}

/// The end of the last section in the PE header, in bytes of the file (PE format, "Section Table"). None if `start` has no such
/// header, as in a kernel without CONFIG_EFI.
fn sections_end(start: &[u8]) -> Option<u64> {
    const PE_AT: usize = 60;
    const SECTIONS: usize = 6;
    const OPTIONAL_HEADER_SIZE: usize = 20;
    const COFF_HEADER_LENGTH: usize = 24;
    const SECTION_LENGTH: usize = 40;
    const SIZE_OF_RAW_DATA: usize = 16;
    const POINTER_TO_RAW_DATA: usize = 20;
    let half = |at: usize| start.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes).map(usize::from);
    let word = |at: usize| start.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let header = usize::try_from(word(PE_AT)?).ok()?;
    if start.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let table = header + COFF_HEADER_LENGTH + half(header + OPTIONAL_HEADER_SIZE)?;
    (0..half(header + SECTIONS)?)
        .map_while(|section| {
            let at = table + section * SECTION_LENGTH;
            Some(u64::from(word(at + SIZE_OF_RAW_DATA)?) + u64::from(word(at + POINTER_TO_RAW_DATA)?))
        })
        .max()
}

/// Writes the data that the kernel reads first: the tree, which has everything else in it.
///
/// The caller has checked the length of `tree`, and that the RAM reaches so far.
///
/// # Errors
/// If it does not fit in guest memory.
pub fn write_boot_data(
    memory: &GuestMemoryMmap,
    _: &[Range<u64>],
    _: &LoadedKernel,
    _: Option<&Range<u64>>,
    _: &str,
    tree: &[u8],
) -> Result<(), vm_memory::GuestMemoryError> {
    memory.write_slice(tree, GuestAddress(layout::TREE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(start: &mut [u8], at: usize, bytes: &[u8]) {
        start[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn the_header_says_how_long_the_file_is() {
        let mut start = vec![0; 0x206];
        put(&mut start, 16, &0x12_3456_u64.to_le_bytes());
        put(&mut start, 24, &0b1010_u64.to_le_bytes());
        let header = Header { image_size: 0x12_3456, big_endian: false, promised: 0 };
        assert_eq!(Header::read(&start), Some(header));
        put(&mut start, 24, &[0b1011]);
        assert!(Header::read(&start).unwrap().big_endian);
        assert_eq!(Header::read(&start[..63]), None);

        put(&mut start, 60, &0x40_u32.to_le_bytes());
        put(&mut start, 0x40, b"PE\0\0");
        put(&mut start, 0x46, &2_u16.to_le_bytes());
        put(&mut start, 0x54, &0xa0_u16.to_le_bytes());
        for (section, (size, at)) in [(0x100_u32, 0x1_0000_u32), (0x200, 0x2_0000)].into_iter().enumerate() {
            let entry = 0x40 + 24 + 0xa0 + 40 * section;
            put(&mut start, entry + 16, &size.to_le_bytes());
            put(&mut start, entry + 20, &at.to_le_bytes());
        }
        assert_eq!(Header::read(&start).unwrap().promised, 0x2_0200);
    }

    #[test]
    fn no_header_is_too_wild() {
        let mut start = vec![0xff; 0x206];
        put(&mut start, 60, &0xffff_ffff_u32.to_le_bytes());
        assert_eq!(Header::read(&start).unwrap().promised, 0);
        for at in 0x1f0..0x206 {
            put(&mut start, 60, &u32::try_from(at).unwrap().to_le_bytes());
            let mut start = start.clone();
            let end = (at + 4).min(0x206);
            start[at..end].copy_from_slice(&b"PE\0\0"[..end - at]);
            assert_eq!(Header::read(&start).unwrap().promised, 0);
        }
    }
}
