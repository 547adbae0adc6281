//! Tests of each path of a request. No buffer is out of reach of its device.

use proptest::prelude::*;

use super::*;
use crate::area::Rules;

const MIB: u64 = 1 << 20;

fn area(name: &str, base: u64, size: u64) -> Area {
    Area::new(name, base / PAGE_SIZE, size / PAGE_SIZE, 0).unwrap()
}

/// Two nodes with a window each, a camera's window above 4 GiB, the default window below; free blocks in each zone.
fn memory() -> Memory {
    let zone = |node, kind, base: u64, order| Zone { node, kind, free: vec![(base / PAGE_SIZE, order)] };
    Memory {
        areas: vec![
            area("camera", 5 << 30, 16 * MIB),
            area("reserved", 1 << 30, 16 * MIB),
            area("pernuma0", 6 << 30, 4 * MIB),
            area("pernuma1", 8 << 30, 4 * MIB),
        ],
        default: Some(1),
        nodes: vec![Some(2), Some(3)],
        zones: vec![
            zone(0, ZoneKind::Dma, 8 * MIB, 10),
            zone(0, ZoneKind::Dma32, 2 << 30, 10),
            zone(0, ZoneKind::Normal, 7 << 30, 10),
            zone(1, ZoneKind::Normal, 9 << 30, 10),
        ],
        zone_dma_last: ZONE_DMA_LAST,
    }
}

const CAMERA: Device = Device { area: Some(0), mask: u64::MAX, node: None };
const ANY: Device = Device { area: None, mask: u64::MAX, node: None };

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The steps of a request as text, and its outcome.
fn steps(memory: &mut Memory, device: &Device, size: u64) -> (String, DmaOutcome) {
    let outcome = memory.alloc(device, size);
    (outcome.to_string(), outcome)
}

#[test]
fn the_own_window_first_even_for_a_page() {
    let mut memory = memory();
    let (text, outcome) = steps(&mut memory, &CAMERA, 100);
    assert_eq!(
        text,
        "camera, the device's own window, gets a request for 1 page at alignment 0: pfn 0x140000\n\
         the buffer is at 0x140000000"
    );
    assert_eq!((outcome.area, memory.areas[0].used()), (Some(0), 1));
    // 1013 pages, at the capped alignment.
    assert_eq!(memory.alloc(&CAMERA, 1920 * 1080 * 2).address, Some((5 << 30) + MIB));
}

#[test]
fn a_full_own_window_falls_back_to_the_buddy_and_not_to_the_default_window() {
    let mut memory = memory();
    memory.areas[0].fill(1, 0);
    let (text, outcome) = steps(&mut memory, &CAMERA, 3 * MIB);
    assert!(text.contains(
        "at alignment 8: -12\n  cma: cma_alloc: camera: alloc failed, req-size: 768 pages, ret: -12"
    ));
    assert!(text.ends_with(
        "the buddy allocator gets a request for a block of order 10 in any zone: pfn 0x1c0000\nthe buffer is at 0x1c0000000"
    ));
    assert_eq!((outcome.area, outcome.steps.len(), memory.areas[1].used()), (None, 2, 0));
    // Its largest blocks have 4 MiB, even if free blocks are adjacent.
    memory.zones[2].free.push((0x1c0000, 12));
    let (text, outcome) = steps(&mut memory, &CAMERA, 4 * MIB + 1);
    assert!(text.ends_with(
        "of order 11 in any zone: none, because its largest blocks have order 10\ndma_alloc_attrs returns NULL"
    ));
    assert_eq!(outcome.steps.len(), 2);
}

#[test]
fn a_page_of_no_own_window_is_the_buddys() {
    let mut memory = memory();
    for size in [1, PAGE_SIZE] {
        let outcome = memory.alloc(&ANY, size);
        assert_eq!((&outcome.steps[0], outcome.area), (&Step::OnePage, None));
    }
    assert_eq!(memory.alloc(&ANY, PAGE_SIZE + 1).area, Some(1));
    // The block was split: its first two pages are gone.
    assert_eq!(memory.zones[2].free.iter().map(|(_, order)| 1 << order).sum::<u64>(), 1022);
}

#[test]
fn the_nodes_window_then_the_default_one() {
    let mut memory = memory();
    let device = Device { node: Some(1), ..ANY };
    assert_eq!(memory.alloc(&device, 3 * MIB).address, Some(8 << 30));
    let (text, outcome) = steps(&mut memory, &device, 3 * MIB);
    assert!(text.starts_with(
        "pernuma1, the window of the device's node, gets a request for 768 pages at alignment 8: -12"
    ));
    assert_eq!((outcome.area, outcome.address), (Some(1), Some(1 << 30)));
    // A device that cannot reach all memory requests a zone, and the node's window is skipped.
    let (text, outcome) = steps(&mut memory, &Device { mask: mask(32), node: Some(0), ..ANY }, 3 * MIB);
    assert!(text.starts_with("pernuma0, the window of the device's node, is skipped"), "{text}");
    assert_eq!((outcome.area, memory.areas[2].used()), (Some(1), 0));
    memory.default = None;
    let outcome = memory.alloc(&ANY, 3 * MIB);
    assert_eq!((&outcome.steps[0], outcome.area), (&Step::NoArea, None));
}

#[test]
fn a_window_out_of_reach_is_asked_all_the_same() {
    let mut memory = memory();
    let (text, outcome) = steps(&mut memory, &Device { mask: mask(32), ..CAMERA }, MIB);
    assert_eq!(
        text,
        "camera, the device's own window, gets a request for 256 pages at alignment 8: pfn 0x140000\n\
         the last byte would be 0x1400fffff, but the device can reach only 0xffffffff: freed again\n\
         the buddy allocator gets a request for a block of order 8 in ZONE_DMA32 or lower: pfn 0x80000\n\
         the buffer is at 0x80000000"
    );
    assert_eq!((outcome.area, memory.areas[0].used()), (None, 0));
}

#[test]
fn zones_from_that_of_the_mask_down() {
    // The zones that were searched, and the address.
    for (mask, zones, address) in [
        (u64::MAX, &[ZoneKind::Normal][..], Some(7 << 30)),
        (mask(33), &[ZoneKind::Normal], Some(7 << 30)),
        ((6 << 30) - 1, &[ZoneKind::Normal, ZoneKind::Dma32], Some(2 << 30)),
        (mask(32), &[ZoneKind::Dma32], Some(2 << 30)),
        (mask(31), &[ZoneKind::Dma32, ZoneKind::Dma], Some(8 * MIB)),
        (mask(24), &[ZoneKind::Dma], Some(8 * MIB)),
        (mask(20), &[ZoneKind::Dma], None),
    ] {
        let mut memory = Memory { default: None, ..memory() };
        let outcome = memory.alloc(&Device { mask, ..ANY }, MIB);
        let asked: Vec<ZoneKind> = outcome
            .steps
            .iter()
            .filter_map(|step| if let Step::Buddy { zone, .. } = step { Some(*zone) } else { None })
            .collect();
        assert_eq!((asked.as_slice(), outcome.address), (zones, address), "{mask:#x}");
    }
    // Without a free block the kernel does not try a lower zone: it has searched those already.
    let mut memory = Memory { default: None, zones: Vec::new(), ..memory() };
    assert_eq!(memory.alloc(&Device { mask: mask(33), ..ANY }, MIB).steps.len(), 2);
    // Where the tree says so, GFP_DMA reaches further.
    memory.zone_dma_last = mask(30);
    let outcome = memory.alloc(&Device { mask: mask(30), ..ANY }, MIB);
    assert_eq!(outcome.steps[1], Step::Buddy { zone: ZoneKind::Dma, order: 8, pfn: None });
}

#[test]
fn the_own_node_before_the_others() {
    let mut memory = Memory { default: None, nodes: Vec::new(), ..memory() };
    let device = Device { node: Some(1), ..ANY };
    for address in [9 << 30, 7 << 30, 2 << 30, 8 * MIB] {
        assert_eq!(memory.alloc(&device, 4 * MIB).address, Some(address));
    }
    let (text, _) = steps(&mut memory, &device, 4 * MIB);
    assert!(text.ends_with("of order 10 in any zone: none is free\ndma_alloc_attrs returns NULL"), "{text}");
}

#[test]
fn the_smallest_block_that_is_large_enough() {
    let mut memory = Memory { default: None, ..memory() };
    memory.zones[2].free = vec![(0x1c0000, 10), (0x1c8000, 1), (0x1c4000, 3), (0x1cc000, 4)];
    assert_eq!(memory.alloc(&ANY, 3 * PAGE_SIZE).address, Some(0x1_c400_0000));
    // Its upper half is free, and now the smallest.
    assert_eq!(memory.alloc(&ANY, 4 * PAGE_SIZE).address, Some(0x1_c400_4000));
    assert_eq!(memory.alloc(&ANY, 4 * PAGE_SIZE).address, Some(0x1_cc00_0000));
}

#[test]
fn no_bytes_at_all() {
    let (text, outcome) = steps(&mut memory(), &CAMERA, 0);
    assert!(
        text.contains(
            "0 pages at alignment 8: -12\nthe buddy allocator gets a request for a block of order 52"
        ),
        "{text}"
    );
    assert_eq!(outcome.address, None);
}

#[test]
fn the_rules_of_an_area_are_its_own() {
    let mut memory = memory();
    memory.areas[0] = Area::of_ranges("camera", &[(0x140000, 16)], 0, Rules::V7_2).unwrap();
    let Step::Cma { errno, .. } = memory.alloc(&CAMERA, MIB).steps[0].clone() else {
        panic!("no area was asked")
    };
    assert_eq!(errno, -16);
}

proptest! {
    #[test]
    fn no_buffer_lies_out_of_reach(
        requests in prop::collection::vec((prop::option::of(0_usize..5), 20_u32..64, prop::option::of(0_usize..3), 0..5 * MIB), 1..40),
    ) {
        let mut memory = memory();
        let mut buffers: Vec<(u64, u64)> = Vec::new();
        for (area, bits, node, size) in requests {
            let used: u64 = memory.areas.iter().map(Area::used).sum();
            let outcome = memory.alloc(&Device { area, mask: mask(bits), node }, size);
            let pages = size.div_ceil(PAGE_SIZE);
            let now: u64 = memory.areas.iter().map(Area::used).sum();
            prop_assert_eq!(now - used, if outcome.area.is_some() { pages } else { 0 });
            if let Some(address) = outcome.address {
                let buffer = (address, address + pages * PAGE_SIZE);
                prop_assert!(buffer.1 - 1 <= mask(bits));
                prop_assert!(buffers.iter().all(|other| other.1 <= buffer.0 || buffer.1 <= other.0));
                buffers.push(buffer);
            }
        }
    }
}
