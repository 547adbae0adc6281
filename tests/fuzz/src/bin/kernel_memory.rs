//! No guest memory makes the reader of a kernel's CMA areas panic, grow or loop, and an area that it finds is in that memory.

#![no_main]

use std::{ops::Range, path::Path};

use cma::Window;
use fuzz::Start;
use vm_memory::{Bytes as _, GuestAddress};
use vmm::{
    boot::memory,
    observe::kernel_memory::{KernelAreas, KernelMemory},
};

/// Where Linux maps its image on x86_64. The input is all RAM, from physical address 0.
const START: u64 = 0xffff_ffff_8000_0000;
const RAM: Range<u64> = 0..0x1_0000;
const WINDOW: Range<u64> = 0x8000..0xa000;

/// An image with a note, page tables, types and one area.
#[derive(Default)]
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0.resize(self.0.len().max(at + bytes.len()), 0);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, at: usize, words: &[u32]) {
        self.put(at, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
    }

    fn long(&mut self, at: usize, word: u64) {
        self.put(at, &word.to_le_bytes());
    }
}

/// Types (BTF): structures, each with the names and the offsets in bytes of its members.
fn types(structures: &[(&str, u32, &[(&str, u32)])]) -> Vec<u8> {
    let (mut words, mut strings) = (Vec::new(), vec![0]);
    let mut name = |name: &str| {
        let at = u32::try_from(strings.len()).expect("there are few names");
        strings.extend(name.bytes().chain([0]));
        at
    };
    for (structure, size, members) in structures {
        let count = u32::try_from(members.len()).expect("there are few members");
        words.extend([name(structure), 4 << 24 | count, *size]);
        members.iter().for_each(|(member, offset)| words.extend([name(member), 0, offset * 8]));
    }
    let (length, names) = (words.len() as u32 * 4, strings.len() as u32);
    let header = [0x0001_eb9f, 24, 0, length, length, names];
    let words = header.into_iter().chain(words).flat_map(u32::to_le_bytes);
    words.chain(strings).collect()
}

fn image(types: &[u8], base: usize, area: &[(usize, u64)]) -> Vec<u8> {
    let info = format!(
        "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={:x}\nNUMBER(phys_base)=0\nNUMBER(kimage_voffset)={START:#x}\n",
        START + 0x1000,
        START + 0x4000
    );
    let mut image = Image::default();
    image.words(0, &[11, info.len() as u32, 0]);
    image.put(12, b"VMCOREINFO\0\0");
    image.put(24, info.as_bytes());
    // Three tables: the last maps 2 MiB.
    image.long(0x1000 + 511 * 8, 0x2003);
    image.long(0x2000 + 510 * 8, 0x3003);
    image.long(0x3000, 0x83);
    image.put(0x4010, types);
    area.iter().for_each(|(offset, word)| image.long(base + offset, *word));
    image.long(0x6000, 3);
    image.0
}

fn seeds() -> Vec<Vec<u8>> {
    let name = u64::from_le_bytes(*b"isp@8000");
    let one = [("base_pfn", 0), ("count", 8), ("bitmap", 16), ("order_per_bit", 24), ("name", 32)];
    let old = types(&[("cma", 128, &one)]);
    let range = [("base_pfn", 0), ("count", 8), ("bitmap", 16)];
    let many = [("count", 0), ("order_per_bit", 16), ("name", 24), ("nranges", 88), ("ranges", 96)];
    let new = types(&[("cma_memrange", 24, &range), ("cma", 160, &many)]);
    let area = [(0, 8), (8, 2), (16, START + 0x6000), (32, name)];
    let of_ranges = [(24, name), (88, 1), (96, 8), (104, 2), (112, START + 0x6000)];
    vec![image(&old, 0x5000, &area), image(&new, 0x5000, &of_ranges), image(&old, 0x5000, &[])]
}

fuzz::target!(Start { seeds: seeds(), heap: Some(8 << 20), ..Start::default() }, |bytes| {
    let memory = memory::create(std::slice::from_ref(&RAM), false).expect("there is memory");
    let bytes = &bytes[..bytes.len().min(RAM.end as usize)];
    memory.write_slice(bytes, GuestAddress(0)).expect("it fits");
    let size = WINDOW.end - WINDOW.start;
    let windows = vec![Window { base: WINDOW.start, size, ..Window::default() }];
    let reader = KernelMemory::open(Path::new("/no/such/kernel"), &memory, RAM, windows);
    let _ = reader.view(&memory);
    match reader.areas(&memory, RAM.end, true) {
        Ok(KernelAreas { page_size, areas, .. }) => {
            assert!(areas.iter().map(cma::area::Area::count).sum::<u64>() <= RAM.end / page_size);
            assert!(areas.iter().all(|area| !area.name().contains(char::is_control)));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
});
