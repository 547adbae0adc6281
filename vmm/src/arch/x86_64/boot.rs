//! Direct boot: an ELF vmlinux or a bzImage, entered in 64-bit mode (Documentation/x86/boot.rst, "64-bit boot protocol").

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use linux_loader::{
    bootparam::{SETUP_DTB, boot_e820_entry, boot_params, setup_header},
    loader::{BzImage, Elf, Error as LoaderError, KernelLoader, elf},
};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use super::layout;
use crate::boot::kernel_file::{Bootable, Format, KernelError, KernelFile};

/// A kernel in guest memory.
#[derive(Debug)]
pub struct LoadedKernel {
    /// Where the boot CPU starts.
    pub entry: GuestAddress,
    /// The memory that it takes, with its uninitialised data.
    pub range: Range<u64>,
    /// The setup header of a bzImage.
    header: Option<setup_header>,
}

/// Name of the architecture, as in the cache of guest images and in rustc's targets.
pub const NAME: &str = "x86_64";

/// The formats of kernels that this machine boots, for a person to read.
pub const KERNEL_FORMATS: &str = "an ELF vmlinux or a bzImage";
const BOOTABLE: Bootable = Bootable { machine: NAME, formats: KERNEL_FORMATS };
/// EM_X86_64 (System V ABI, AMD64 supplement).
const ELF_MACHINE: u16 = 62;

/// The 64-bit entry point of a bzImage lies this far into the loaded part (boot.rst).
const BZIMAGE_64_ENTRY: u64 = 0x200;
/// setup_header.xloadflags: there is a 64-bit entry point.
const XLF_KERNEL_64: u16 = 1;

/// Loads the kernel at `path` into `memory`.
///
/// # Errors
/// If the file is missing, truncated, not a kernel, for another architecture, or too large.
pub fn load_kernel(memory: &GuestMemoryMmap, path: &Path) -> Result<LoadedKernel, KernelError> {
    let opened = KernelFile::open(path)?;
    let format = opened.format();
    let KernelFile { mut file, length, .. } = opened;
    let kernel = match format {
        // The loader refuses an ELF file that ends in its header.
        Format::Elf(2, None | Some(ELF_MACHINE)) => load_elf(memory, path, &mut file),
        Format::BzImage => load_bzimage(memory, path, &mut file, length),
        other => return Err(other.refuse(path, BOOTABLE)),
    };
    kernel.map_err(|error| match error {
        KernelError::Malformed {
            source:
                LoaderError::Elf(
                    elf::Error::ReadElfHeader | elf::Error::ReadProgramHeader | elf::Error::ReadKernelImage,
                ),
            ..
        } if file.stream_position().is_ok_and(|at| at >= length) => {
            KernelError::Truncated { path: path.to_owned(), length }
        }
        KernelError::Malformed { source: LoaderError::Elf(elf::Error::ReadKernelImage), .. } => {
            KernelError::DoesNotFit(path.to_owned())
        }
        other => other,
    })
}

fn load_elf(memory: &GuestMemoryMmap, path: &Path, file: &mut File) -> Result<LoadedKernel, KernelError> {
    let loaded = Elf::load(memory, None, file, Some(GuestAddress(layout::HIMEM_START)))
        .map_err(|source| KernelError::Malformed { path: path.to_owned(), source })?;
    if loaded.kernel_end == 0 {
        return Err(KernelError::NotAKernel { path: path.to_owned(), bootable: BOOTABLE });
    }
    if loaded.kernel_end <= layout::HIMEM_START {
        let format = format!("an ELF file that ends below {:#x}, where a kernel begins", layout::HIMEM_START);
        return Err(KernelError::Other { path: path.to_owned(), format, bootable: BOOTABLE });
    }
    Ok(LoadedKernel {
        entry: loaded.kernel_load,
        range: layout::HIMEM_START..loaded.kernel_end,
        header: None,
    })
}

fn load_bzimage(
    memory: &GuestMemoryMmap,
    path: &Path,
    file: &mut File,
    length: u64,
) -> Result<LoadedKernel, KernelError> {
    let loaded = BzImage::load(memory, None, file, Some(GuestAddress(layout::HIMEM_START)));
    let loaded = match loaded {
        Err(source) if bzimage_promises_more(file, length) => {
            tracing::debug!("loader: {source}");
            return Err(KernelError::Truncated { path: path.to_owned(), length });
        }
        Ok(_) if bzimage_promises_more(file, length) => {
            return Err(KernelError::Truncated { path: path.to_owned(), length });
        }
        Err(_) => return Err(KernelError::DoesNotFit(path.to_owned())),
        Ok(loaded) => loaded,
    };
    let header = loaded.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        let format = "a bzImage without a 64-bit entry point (XLF_KERNEL_64)".to_owned();
        return Err(KernelError::Other { path: path.to_owned(), format, bootable: BOOTABLE });
    }
    // The decompressor runs the kernel from here (arch/x86/boot/compressed/head_64.S): not below pref_address, wherever it was
    // loaded. A relocatable kernel is aligned first.
    let loaded_at = loaded.kernel_load.raw_value();
    let alignment = u64::from(header.kernel_alignment).max(1);
    let aligned = loaded_at.checked_next_multiple_of(alignment).filter(|_| header.relocatable_kernel != 0);
    let start = aligned.unwrap_or(loaded_at).max(header.pref_address);
    let end = start.saturating_add(u64::from(header.init_size));
    Ok(LoadedKernel {
        entry: loaded.kernel_load.unchecked_add(BZIMAGE_64_ENTRY),
        range: layout::HIMEM_START..end.max(loaded.kernel_end),
        header: Some(header),
    })
}

/// Whether the setup header promises more bytes, in setup sectors and syssize paragraphs, than the file has.
fn bzimage_promises_more(file: &mut File, length: u64) -> bool {
    let mut fields = [0; 7]; // setup_sects at 0x1f1, syssize at 0x1f4
    if file.seek(SeekFrom::Start(0x1f1)).and_then(|_| file.read_exact(&mut fields)).is_err() {
        return true;
    }
    let sectors = if fields[0] == 0 { 4 } else { u64::from(fields[0]) };
    let paragraphs = u32::from_le_bytes([fields[3], fields[4], fields[5], fields[6]]);
    (sectors + 1) * 512 + u64::from(paragraphs) * 16 > length
}

/// Writes the data that the kernel reads first: command line, tree (as setup_data), zero page, page tables, descriptors.
///
/// The caller has checked the lengths of `cmdline` and `tree`, and that the RAM reaches so far.
///
/// # Errors
/// If something does not fit in guest memory.
pub fn write_boot_data(
    memory: &GuestMemoryMmap,
    ram: &[Range<u64>],
    kernel: &LoadedKernel,
    initrd: Option<&Range<u64>>,
    cmdline: &str,
    tree: &[u8],
) -> Result<(), vm_memory::GuestMemoryError> {
    memory.write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?;
    memory.write_obj(0_u8, GuestAddress(layout::CMDLINE + cmdline.len() as u64))?;

    let length = u32::try_from(tree.len()).unwrap_or(u32::MAX);
    memory.write_obj(0_u64, GuestAddress(layout::SETUP_DATA))?;
    memory.write_obj(SETUP_DTB, GuestAddress(layout::SETUP_DATA + 8))?;
    memory.write_obj(length, GuestAddress(layout::SETUP_DATA + 12))?;
    memory.write_slice(tree, GuestAddress(layout::SETUP_DATA + layout::SETUP_DATA_HEADER))?;

    memory.write_obj(zero_page(ram, kernel, initrd), GuestAddress(layout::ZERO_PAGE))?;
    write_page_tables(memory)?;
    for (index, entry) in super::vcpu::GDT.iter().enumerate() {
        memory.write_obj(*entry, GuestAddress(layout::GDT + 8 * index as u64))?;
    }
    Ok(())
}

/// Longest kernel command line in bytes.
pub const CMDLINE_MAX: usize = layout::CMDLINE_MAX - 1;

#[allow(clippy::cast_possible_truncation)] // addresses below 4 GiB in 32-bit fields
fn zero_page(ram: &[Range<u64>], kernel: &LoadedKernel, initrd: Option<&Range<u64>>) -> boot_params {
    const E820_RAM: u32 = 1;
    const LOADER_OTHER: u8 = 0xff;
    let mut params = boot_params { hdr: kernel.header.unwrap_or_default(), ..Default::default() };
    if kernel.header.is_none() {
        params.hdr.boot_flag = 0xaa55;
        params.hdr.header = u32::from_le_bytes(*b"HdrS");
        params.hdr.kernel_alignment = 0x0100_0000;
    }
    params.hdr.type_of_loader = LOADER_OTHER;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    params.hdr.cmdline_size = (layout::CMDLINE_MAX - 1) as u32;
    params.hdr.setup_data = layout::SETUP_DATA;
    if let Some(initrd) = initrd {
        params.hdr.ramdisk_image = initrd.start as u32;
        params.hdr.ramdisk_size = (initrd.end - initrd.start) as u32;
    }
    // The first range is cut where a PC's BIOS data and the legacy hole would be.
    let first = ram[0].end;
    let usable = [0..layout::LOW_RAM_END.min(first), layout::HIMEM_START..first];
    for range in usable.into_iter().chain(ram[1..].iter().cloned()).filter(|range| !range.is_empty()) {
        let entry = boot_e820_entry { addr: range.start, size: range.end - range.start, r#type: E820_RAM };
        params.e820_table[usize::from(params.e820_entries)] = entry;
        params.e820_entries += 1;
    }
    params
}

/// Maps the first 4 GiB to themselves with 2 MiB pages.
fn write_page_tables(memory: &GuestMemoryMmap) -> Result<(), vm_memory::GuestMemoryError> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let pdpt = layout::PAGE_TABLES + 0x1000;
    memory.write_obj(pdpt | PRESENT_WRITABLE, GuestAddress(layout::PAGE_TABLES))?;
    for gigabyte in 0..4 {
        let directory = pdpt + 0x1000 * (gigabyte + 1);
        memory.write_obj(directory | PRESENT_WRITABLE, GuestAddress(pdpt + 8 * gigabyte))?;
        for entry in 0..512 {
            let page = (gigabyte << 30) + (entry << 21);
            memory.write_obj(page | PRESENT_WRITABLE | LARGE, GuestAddress(directory + 8 * entry))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A vmlinux whose one segment, of 16 bytes, is loaded at `address`.
    fn elf(address: u64) -> Vec<u8> {
        let mut elf = vec![0; 136];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let fields: [(usize, u64); 10] = [
            (16, 2 | u64::from(ELF_MACHINE) << 16 | 1 << 32), // executable
            (24, 0x20_0000),                                  // entry
            (32, 64),                                         // program headers
            (52, 64 | 56 << 16 | 1 << 32),
            (64, 1 | 5 << 32), // to be loaded
            (72, 120),
            (80, address),
            (88, address),
            (96, 16),
            (104, 16),
        ];
        for (at, value) in fields {
            elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        elf
    }

    #[test]
    fn a_kernel_lies_where_kernels_begin() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |address| {
            fs::write(file.path(), elf(address)).unwrap();
            load_kernel(&memory, file.path()).map(|kernel| kernel.range).map_err(|error| error.to_string())
        };
        assert_eq!(load(0x20_0000), Ok(0x10_0000..0x20_0010));
        for low in [0x100, 0xf_fff0] {
            let error = load(low).unwrap_err();
            assert!(
                error.contains(" is an ELF file that ends below 0x100000, where a kernel begins;"),
                "{error}"
            );
        }
    }
}
