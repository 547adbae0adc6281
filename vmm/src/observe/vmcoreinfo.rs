//! VMCOREINFO: what a kernel says of itself to tools for cores (Linux's kernel/vmcore_info.c, Documentation/admin-guide/kdump/vmcoreinfo.rst).

use std::io;

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::touched_memory::for_each_run;

/// The smallest page of every architecture. The note begins in one.
const PAGE: usize = 4096;

/// The beginning of the kernel's note: the lengths of the name and the content, the type, and the name.
const NAME: &[u8] = b"VMCOREINFO\0";
const CONTENT: usize = 24;
/// The first line.
const FIRST: &[u8] = b"OSRELEASE=";
/// The length of the content is below this: a page of 64 KiB at most (VMCOREINFO_BYTES).
const LENGTH_MAX: usize = 64 << 10;

/// The length of the note's content that begins in this page, if the page is the first one of the kernel's note, and where in the page it
/// begins.
fn in_page(page: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?) as usize);
    let length = word(4).filter(|length| (FIRST.len()..LENGTH_MAX).contains(length))?;
    let is_it = word(0)? == NAME.len()
        && word(8)? == 0
        && page.get(12..)?.starts_with(NAME)
        && page.get(CONTENT..)?.starts_with(FIRST);
    is_it.then_some((CONTENT, length))
}

/// The content of the kernel's note in guest memory, if it has one.
///
/// # Errors
/// If guest memory's file cannot be read.
pub fn find(memory: &GuestMemoryMmap) -> io::Result<Option<Vec<u8>>> {
    let mut found = None;
    for_each_run(memory, |_, GuestAddress(start), length| {
        let mut header = [0; CONTENT + FIRST.len()];
        for page in (start..start + length).step_by(PAGE) {
            if found.is_none() && memory.read_slice(&mut header, GuestAddress(page)).is_ok() {
                found = in_page(&header).map(|(at, length)| (GuestAddress(page + at as u64), length));
            }
        }
        Ok(())
    })?;
    let Some((address, length)) = found else { return Ok(None) };
    let mut content = vec![0; length];
    Ok(memory.read_slice(&mut content, address).is_ok().then_some(content))
}

/// The value of the line `name`, as `NUMBER(phys_base)` in decimal digits or, after 0x, hexadecimal ones. Negative numbers wrap.
pub fn number(info: &str, name: &str) -> Option<u64> {
    let value = line(info, name)?;
    let hexadecimal = value.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16).ok());
    hexadecimal.unwrap_or_else(|| value.parse().ok().or_else(|| value.parse().ok().map(i64::cast_unsigned)))
}

/// The address of the symbol `name`, which has a line in hexadecimal digits.
pub fn symbol(info: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(line(info, &format!("SYMBOL({name})"))?, 16).ok()
}

fn line<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_note_is_found() {
        let note = |length: u32, name: &[u8], text: &[u8]| {
            let mut page = [11_u32.to_le_bytes(), length.to_le_bytes(), 0_u32.to_le_bytes()].concat();
            page.extend([name, b"\0", text].concat());
            page.resize(4096, 0);
            page
        };
        assert_eq!(in_page(&note(20, NAME, b"OSRELEASE=6.1.0\n")), Some((24, 20)));
        assert_eq!(in_page(&note(20, NAME, b"RELEASE=6.1.0\n")), None);
        assert_eq!(in_page(&note(20, b"VMCOREINFO2", b"OSRELEASE=6.1.0\n")), None);
        assert_eq!(in_page(&note(9, NAME, b"OSRELEASE=6.1.0\n")), None);
        assert_eq!(in_page(&note(1 << 31, NAME, b"OSRELEASE=6.1.0\n")), None);
        assert_eq!(in_page(&[0; 4096]), None);
        assert_eq!(in_page(&[]), None);
    }

    #[test]
    fn lines_have_values() {
        let info = "OSRELEASE=6.1.0\nSYMBOL(_stext)=ffff800008010000\nNUMBER(phys_base)=-4096\nNUMBER(kimage_voffset)=0xffff7fffc8000000\nPAGESIZE=4096\n";
        assert_eq!(symbol(info, "_stext"), Some(0xffff_8000_0801_0000));
        assert_eq!(symbol(info, "stext"), None);
        assert_eq!(number(info, "NUMBER(phys_base)"), Some(4096_u64.wrapping_neg()));
        assert_eq!(number(info, "NUMBER(kimage_voffset)"), Some(0xffff_7fff_c800_0000));
        assert_eq!((number(info, "PAGESIZE"), number(info, "OSRELEASE")), (Some(4096), None));
    }
}
