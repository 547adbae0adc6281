use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    owners::{Owner, OwnerTable},
    *,
};

/// Types in the kernel's format.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    /// A structure (4) or a union (5) with members of (name, type, offset in bytes).
    fn add(&mut self, kind: u32, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let name = self.name(name);
        let words = [name, kind << 24 | u32::try_from(members.len()).unwrap(), size];
        self.types.extend(words.into_iter().flat_map(u32::to_le_bytes));
        for (name, of, offset) in members {
            let words = [self.name(name), *of, offset * 8];
            self.types.extend(words.into_iter().flat_map(u32::to_le_bytes));
        }
        self.count += 1;
        self.count
    }

    fn build(&self) -> Vec<u8> {
        let (types, strings) = (u32::try_from(self.types.len()), u32::try_from(self.strings.len()));
        let (types, strings) = (types.unwrap(), strings.unwrap());
        let header = [0x0001_eb9f, 24, 0, types, types, strings];
        let header = header.into_iter().flat_map(u32::to_le_bytes);
        header.chain(self.types.iter().copied()).chain(self.strings.iter().copied()).collect()
    }
}

fn old() -> CmaLayout {
    CmaLayout::of(&old_types()).unwrap()
}

fn old_types() -> Vec<u8> {
    let mut types = Builder::default();
    types.add(4, "other", 8, &[("count", 0, 0)]);
    let members =
        [("base_pfn", 0, 0), ("count", 0, 8), ("bitmap", 0, 16), ("order_per_bit", 0, 24), ("name", 0, 32)];
    types.add(4, "cma", 128, &members);
    types.build()
}

fn new() -> CmaLayout {
    let mut types = Builder::default();
    let union = types.add(5, "", 8, &[("early_pfn", 0, 0), ("bitmap", 0, 0)]);
    types.add(4, "cma_memrange", 24, &[("base_pfn", 0, 0), ("count", 0, 8), ("", union, 16)]);
    let members =
        [("count", 0, 0), ("order_per_bit", 0, 16), ("name", 0, 24), ("nranges", 0, 88), ("ranges", 0, 96)];
    types.add(4, "cma", 160, &members);
    CmaLayout::of(&types.build()).unwrap()
}

fn at(start: u64, count: u64) -> Array {
    Array { start, length: Length::At(count) }
}

/// Memory with these 64-bit words.
fn memory(words: &[(u64, u64)]) -> impl Fn(u64, &mut [u8]) -> bool {
    let words: BTreeMap<u64, u64> = words.iter().copied().collect();
    move |at, to: &mut [u8]| {
        for (at, byte) in (at..).zip(to) {
            let word = words.get(&(at & !7)).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[usize::try_from(at & 7).unwrap()];
        }
        true
    }
}

const NAME: u64 = u64::from_le_bytes(*b"isp\0abcd");

#[test]
fn an_area_has_its_pages_and_its_bitmap() {
    let words = [
        (0x100, 2),
        // The second area: 80 pages from page 0x400.
        (0x1080, 0x400),
        (0x1088, 80),
        (0x1090, 0x5000),
        (0x10a0, NAME),
        (0x5000, 7 | 1 << 63),
        (0x5008, 1 << 15),
        // The first has none.
    ];
    let found = areas(&memory(&words), &old(), at(0x1000, 0x100), 100);
    // The first is one of no pages, which cannot exist.
    assert!(matches!(found, Err(LiveError::Area(_))), "{found:?}");
    let found = areas(&memory(&words), &old(), at(0x1080, 0x100), 100);
    assert!(found.is_err());
    let words: Vec<_> = words.into_iter().chain([(0x100, 1)]).collect();
    let found = areas(&memory(&words), &old(), at(0x1080, 0x100), 100).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name(), found[0].count()), ("isp", 80));
    assert_eq!(found[0].allocated().runs().collect::<Vec<_>>(), [0..3, 63..64, 79..80]);
    let error = areas(&memory(&words), &old(), at(0x1080, 0x100), 79).unwrap_err();
    assert_eq!(error, LiveError::Number { what: "an area whose pages are", number: 80 });
}

#[test]
fn an_area_has_ranges() {
    let words = [
        (0x100, 1),
        (0x1018, NAME),
        (0x1058, 2),
        (0x1060, 0x400),
        (0x1068, 64),
        (0x1070, 0x5000),
        (0x1078, 0x800),
        (0x1080, 64),
        (0x1088, 0x6000),
        (0x6000, 1),
    ];
    let found = areas(&memory(&words), &new(), at(0x1000, 0x100), 128).unwrap();
    assert_eq!(found[0].ranges().collect::<Vec<_>>(), [0x400..0x440, 0x800..0x840]);
    assert_eq!(found[0].allocated().runs().collect::<Vec<_>>(), [64..65]);
}

#[test]
fn what_is_no_kernel_has_a_sentence() {
    let nothing = |_: u64, _: &mut [u8]| false;
    let error = areas(&nothing, &old(), at(0, 0x100), 1).unwrap_err().to_string();
    assert!(error.starts_with("the kernel's memory cannot be read at 0x100; "), "{error}");
    let error = areas(&memory(&[(0, 5000)]), &old(), at(0, 0), 1).unwrap_err().to_string();
    assert!(error.starts_with("the kernel's memory has a number of areas, 5000; "), "{error}");
    assert_eq!(CmaLayout::of(b"").unwrap_err(), LiveError::Types("it has not the form of BTF"));
    assert_eq!(CmaLayout::of(&Builder::default().build()).unwrap_err(), LiveError::Layout("struct cma"));
    assert!(elf::Elf::read(&nothing).is_err());
}

/// A file from bytes.
fn file(bytes: &[u8]) -> impl Fn(u64, &mut [u8]) -> bool + '_ {
    |at, to: &mut [u8]| {
        let there = usize::try_from(at).ok().and_then(|at| bytes.get(at..at.checked_add(to.len())?));
        there.map(|there| to.copy_from_slice(there)).is_some()
    }
}

#[test]
fn symbols_and_sections_are_found_in_this_program() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let file = file(&bytes);
    let elf = elf::Elf::read(&file).unwrap();
    assert!(elf.section(".text").is_some_and(|text| !text.is_empty()));
    assert!(elf.section(".txt").is_none());
    let [main, none] = elf.symbols(["main", "no such symbol"]).unwrap();
    assert!(main.is_some() && none.is_none());
}

/// An image with three areas, of 16 pages each. Windows are told by their first page.
fn image(layout: &CmaLayout) -> Vec<u8> {
    let mut image = vec![0; 0x2_0000];
    let (of, first) = match &layout.ranges {
        Ranges::One(of) => (*of, 0),
        Ranges::Many { of, first, .. } => (*of, *first),
    };
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    // Words that are not in the array.
    put(0x100, &0x420_u64.to_le_bytes());
    for (index, name) in (0..).zip([&b"reserved"[..], b"isp@1000", b"two"]) {
        let at = 0xfff0 + index * layout.size;
        put(at + layout.name, name);
        for (offset, word) in
            [(of.base_pfn, 0x400 + 0x20 * index), (of.count, 16), (of.bitmap, 0xffff_8000_0000_5000)]
        {
            put(at + first + offset, &word.to_le_bytes());
        }
    }
    image
}

#[test]
fn the_array_is_found_by_a_window_in_it() {
    for layout in [old(), new()] {
        let image = image(&layout);
        let file = file(&image);
        let found = |base: u64, end: u64| {
            search::array(&file, &layout, 0..0x2_0000, end, |first, count| (first, count) == (base, 16))
        };
        for base in [0x400, 0x420, 0x440] {
            assert_eq!(found(base, 0x1000), Some((0xfff0, 3)), "{layout:?}");
        }
        assert_eq!(found(0x460, 0x1000), None);
        // The third is not memory of this machine.
        assert_eq!(found(0x420, 0x44f), Some((0xfff0, 2)));
        let all = areas(&memory(&[]), &layout, Array { start: 0, length: Length::Found(0) }, 100);
        assert_eq!(all.map(|areas| areas.len()), Ok(0));
    }
    // An entry without a name is not an area.
    let (mut image, layout) = (image(&old()), old());
    image[usize::try_from(0xfff0 + layout.size + layout.name).unwrap()] = 0;
    let found = search::array(&file(&image), &layout, 0..0x2_0000, 0x1000, |first, _| first == 0x400);
    assert_eq!(found, Some((0xfff0, 1)));
}

#[test]
fn types_are_found_in_an_image() {
    let types = old_types();
    // The same bytes before, which are no types; the types lie across the end of a piece.
    let mut image = vec![0; 0x2_0000];
    image[0x44..0x4c].copy_from_slice(&types[..8]);
    image[0xfff4..0xfff4 + types.len()].copy_from_slice(&types);
    assert_eq!(search::layout(&file(&image), 0..0x2_0000), Ok(old()));
    let error = search::layout(&file(&image), 0..0x8000).unwrap_err().to_string();
    assert!(error.contains("needs CONFIG_DEBUG_INFO_BTF"), "{error}");
    assert!(search::layout(&file(&[]), 0..0x8000).is_err());
    let other = {
        let mut types = Builder::default();
        types.add(4, "other", 8, &[("count", 0, 0)]);
        types.build()
    };
    assert_eq!(search::layout(&file(&other), 0..other.len() as u64), Err(LiveError::Layout("struct cma")));
}

/// The table of a kernel with page_owner: a section has 2^15 pages.
fn owner_table(symbols: [u64; 3]) -> OwnerTable {
    let mut types = Builder::default();
    types.add(4, "mem_section", 32, &[("section_mem_map", 0, 0), ("usage", 0, 8), ("page_ext", 0, 16)]);
    types.add(4, "page_ext_operations", 32, &[("offset", 0, 0), ("size", 0, 8)]);
    types.add(4, "page_owner", 56, &[("order", 0, 0), ("comm", 0, 32), ("pid", 0, 48), ("tgid", 0, 52)]);
    OwnerTable::of(&types.build(), symbols.map(Some), 15).unwrap()
}

#[test]
fn pages_have_owners() {
    const ENTRIES: u64 = 0x10_0000;
    let table = owner_table([0x100, 0x108, 0x110]);
    // Section 1 has entries of 64 bytes, in which page_owner's begin at 8. Section 2 has none.
    let head = [(0x100, 0x200), (0x108, 64), (0x110, 8), (0x200, 0x1000), (0x1030, ENTRIES)];
    let page = |page: u64, flags: u64, comm: &[u8; 8], pid: u64, tgid: u64| {
        let at = ENTRIES + page * 64;
        [(at, flags), (at + 40, u64::from_le_bytes(*comm)), (at + 56, pid | tgid << 32)]
    };
    let pages = [
        page(0x8000, 3, b"v4l2-ctl", 62, 61),
        page(0x8001, 3, b"v4l2-ctl", 62, 61),
        // Freed, and without an owner.
        page(0x8002, 1, b"v4l2-ctl", 62, 61),
        page(0x8003, 2, b"v4l2-ctl", 62, 61),
        page(0x8004, 3, b"sh\0\x1b[2J\0", 70, 70),
        page(0x8005, 3, b"a\x1b[2J\0\0\0", 70, 70),
        page(0xffff, 3, b"last\0\0\0\0", 1, 1),
    ];
    let words: Vec<_> = head.into_iter().chain(pages.into_iter().flatten()).collect();
    let owner = |comm: &str, pid, tgid| Owner { comm: comm.to_owned(), pid, tgid };
    let found = table.owners(&memory(&words), 4096, [0x7ffe..0x8800, 0xfff0..0x1_0010]).unwrap().unwrap();
    let expected = [
        (0x8000..0x8002, owner("v4l2-ctl", 62, 61)),
        (0x8004..0x8005, owner("sh", 70, 70)),
        (0x8005..0x8006, owner("a\\u{1b}[2J", 70, 70)),
        (0xffff..0x1_0000, owner("last", 1, 1)),
    ];
    assert_eq!(found, expected);
    let with = |changed: (u64, u64)| {
        let words: Vec<_> = words.iter().copied().chain([changed]).collect();
        table.owners(&memory(&words), 4096, std::iter::once(0x8000..0x8001))
    };
    // The kernel runs without page_owner=on; it has no sections yet; the section's table goes away.
    assert_eq!(with((0x110, 0)), Ok(None));
    for none in [(0x100, 0), (0x200, 0), (0x1030, ENTRIES | 1)] {
        assert_eq!(with(none), Ok(Some(Vec::new())), "{none:x?}");
    }
    for bad in [(0x108, 63), (0x108, u64::MAX), (0x110, 4), (0x110, u64::MAX - 8)] {
        assert!(matches!(with(bad), Err(LiveError::Number { .. })), "{bad:x?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), start in 0..4_usize) {
        let mut bytes = bytes;
        let starts: [&[u8]; 4] = [b"", b"\x9f\xeb\x01\x00\x18\x00\x00\x00", b"\x7fELF\x02\x01", b""];
        bytes.splice(..starts[start].len().min(bytes.len()), starts[start].iter().copied());
        let _ = CmaLayout::of(&bytes);
        let _ = search::layout(&file(&bytes), 0..400);
        let file = file(&bytes);
        if let Ok(elf) = elf::Elf::read(&file) {
            let _ = (elf.section(".BTF"), elf.symbols(["cma_areas"]));
        }
        let _ = OwnerTable::of(&bytes, [Some(0); 3], 15);
        let _ = owner_table([8, 16, 24]).owners(&file, 4096, [0..3, u64::MAX - 3..u64::MAX]);
        for layout in [old(), new()] {
            let _ = areas(&file, &layout, at(8, 0), 1 << 20);
            let _ = search::array(&file, &layout, 0..400, 1 << 52, |_, _| true);
        }
    }
}
