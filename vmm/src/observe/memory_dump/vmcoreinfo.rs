//! VMCOREINFO: what a kernel says of itself to tools for cores (Linux's kernel/vmcore_info.c, Documentation/admin-guide/kdump/vmcoreinfo.rst).

use crate::{arch, observe::kernel_memory::KernelView};

/// The beginning of the kernel's note: the lengths of the name and the content, the type, and the name.
const NAME: &[u8] = b"VMCOREINFO\0";
const CONTENT: usize = 24;
/// The first line.
const FIRST: &[u8] = b"OSRELEASE=";
/// The length of the content is below this: a page of 64 KiB at most (VMCOREINFO_BYTES).
const LENGTH_MAX: usize = 64 << 10;

/// The length of the note's content that begins in this page, if the page is the first one of the kernel's note, and where in the page it
/// begins.
pub(super) fn in_page(page: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?) as usize);
    let length = word(4).filter(|length| (FIRST.len()..LENGTH_MAX).contains(length))?;
    let is_it = word(0)? == NAME.len()
        && word(8)? == 0
        && page.get(12..)?.starts_with(NAME)
        && page.get(CONTENT..)?.starts_with(FIRST);
    is_it.then_some((CONTENT, length))
}

/// The lines for a kernel without such a note, as far as its symbols tell: its configuration lacks `CONFIG_VMCORE_INFO`.
pub(super) fn from_symbols(view: &KernelView) -> String {
    let KernelView { map, release, build_id, tables, text, offset } = view;
    let build_id = build_id.iter().map(|id| format!("BUILD-ID={id}\n")).collect::<String>();
    let page = map.page_size();
    format!(
        "OSRELEASE={release}\n{build_id}PAGESIZE={page}\nSYMBOL(_text)={text:x}\nSYMBOL(swapper_pg_dir)={tables:x}\n{}",
        arch::vmcoreinfo(map, *offset)
    )
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
}
