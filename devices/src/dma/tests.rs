//! Tests of the DMA port.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::faults::{FaultHandle, Faults, testing};

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000), (GuestAddress(0x1_0000_0000), 0x1_0000)])
        .unwrap()
}

#[test]
fn a_window_is_kept() {
    let port = DmaPort::new(memory(), 32, &[0x4000..0x8000]);
    port.write_slice(&[7; 0x1000], GuestAddress(0x7000)).unwrap();
    for (address, len, at, reason) in [
        (0x3fff, 2, 0x3fff, DmaRefusal::Window),
        (0x7fff, 2, 0x8000, DmaRefusal::Window),
        (0x7000, 1 << 33, 0x8000, DmaRefusal::Window),
        (0xffff_ffff, 2, 0xffff_ffff, DmaRefusal::Window),
        (u64::MAX, 2, u64::MAX, DmaRefusal::Mask),
    ] {
        assert_eq!(port.check(address, len), Err(DmaError { address: at, len, reason }), "{address:#x}");
        assert!(port.begin_write(address, len).is_err());
    }
    assert_eq!(memory_byte(&port, 0x7fff), 7);
}

fn memory_byte(port: &DmaPort, address: u64) -> u8 {
    port.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn without_windows_ram_and_the_mask_are_the_limit() {
    let port = DmaPort::unrestricted(memory());
    assert_eq!(port.check(0x1_0000_0000, 0x1_0000), Ok(()));
    assert_eq!(port.check(0xf_ffff, 2).unwrap_err().reason, DmaRefusal::NoMemory);
    assert_eq!(port.check(0xf_ffff, 2).unwrap_err().address, 0x10_0000);
    let port = DmaPort::new(memory(), 32, &[]);
    assert_eq!(port.check(0x1_0000_0000, 1).unwrap_err().reason, DmaRefusal::Mask);
    // A window that the lines do not reach the end of.
    let port = DmaPort::new(memory(), 15, &[0x4000..0x9000]);
    assert_eq!(port.check(0x7fff, 1), Ok(()));
    let refused = port.check(0x7fff, 0x10_0000).unwrap_err();
    assert_eq!((refused.address, refused.reason), (0x8000, DmaRefusal::Mask));
}

#[test]
fn written_pages_are_recorded_and_read_ones_are_not() {
    let port = DmaPort::new(memory(), 32, &[0x4000..0x9_0000]);
    let _: u32 = port.read_obj(GuestAddress(0x4000)).unwrap();
    port.write_obj(1_u32, GuestAddress(0x4fff)).unwrap();
    port.begin_write(0x4000 + 62 * RECORD_UNIT, 4 * RECORD_UNIT).unwrap();
    let (range, bits) = port.written().remove(0);
    assert_eq!(range, 0x4000..0x9_0000);
    assert_eq!(bits, [0b11 | 0b11 << 62, 0b11, 0]);
}

/// A port with a plan of one rule, and the plan.
fn faulty(rule: &str) -> (DmaPort, Faults) {
    let faults = Faults::new(testing::plan(&format!("[[rule]]\nname = \"r\"\n{rule}\n")), 1);
    let port = DmaPort::new(memory(), 32, &[0x4000..0x8000]);
    (port.with_faults(FaultHandle::new(faults.clone(), "camera0")), faults)
}

/// The bytes at `address`, as the guest sees them.
fn seen(port: &DmaPort, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    port.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

/// A device that writes 64 ones to 0x4000, whole and then in slices.
fn written(port: &DmaPort) -> [Result<(), DmaError>; 2] {
    let whole = port.begin_write(0x4000, 64).map(|write| {
        write.write(0, &[1; 32]);
        write.write(32, &[1; 32]);
        write.publish();
    });
    let sliced = port.write_slice(&[1; 64], GuestAddress(0x4000));
    port.finish_slices();
    let refused = DmaError { address: 0x4000, len: 64, reason: DmaRefusal::Fault };
    [whole, sliced.map_err(|_| refused)]
}

#[test]
fn a_write_goes_wrong_by_a_plan() {
    let (port, faults) = faulty("on = \"dma.write\"\naction = \"lost\"");
    assert_eq!(written(&port), [Ok(()), Ok(())]);
    assert_eq!(seen(&port, 0x4000, 64), [0; 64]);
    assert_eq!(port.written()[0].1, [0], "no page is written");
    assert_eq!(faults.trace().firings.len(), 2);

    let (port, faults) = faulty("on = \"dma.write\"\naction = \"offset\"\nbytes = -4096");
    assert_eq!(written(&port), [Ok(()), Ok(())]);
    assert_eq!(
        (seen(&port, 0x4000, 64), seen(&port, 0x3000, 64)),
        (vec![0; 64], vec![1; 64]),
        "outside the window"
    );
    assert_eq!(faults.trace().firings[1].address, Some(0x3000));
    let (port, _) = faulty("on = \"dma.write\"\naction = \"offset\"\nbytes = 0x10_0000");
    assert!(written(&port).iter().all(Result::is_err), "there is no memory");

    let (port, _) = faulty("on = \"dma.write\"\naction = \"bus-error\"\nwhen = { nth = 1 }");
    let refused = DmaError { address: 0x4000, len: 64, reason: DmaRefusal::Fault };
    assert_eq!(written(&port), [Err(refused), Ok(())]);

    for times in [1, 2] {
        let rule = format!("on = \"dma.write\"\naction = \"flip\"\nbits = 3\nwhen = {{ nth = {times} }}");
        let (port, faults) = faulty(&rule);
        let in_memory =
            |port: &DmaPort| seen(port, 0x4000, 64).iter().map(|byte| (byte ^ 1).count_ones()).sum::<u32>();
        if times == 1 {
            let write = port.begin_write(0x4000, 64).unwrap();
            write.write(0, &[1; 64]);
            assert_eq!(in_memory(&port), 0, "not before it is finished");
            write.publish();
            write.publish();
        } else {
            assert_eq!(written(&port), [Ok(()), Ok(())]);
        }
        let flipped = in_memory(&port);
        assert!(flipped == 3 || flipped == 1, "{flipped}");
        let changes = faults.trace().firings.remove(0).changes;
        assert_eq!(changes.len(), 3);
        assert!(changes.iter().all(|change| (0x4000..0x4040).contains(&change.address)), "{changes:?}");
    }
}

#[test]
fn a_read_goes_wrong_by_a_plan() {
    let read = |rule: &str| {
        let (port, faults) = faulty(&format!("on = \"dma.read\"\n{rule}"));
        let memory: Vec<u8> = (0..=255).collect();
        port.memory.write_slice(&memory, GuestAddress(0x4000)).unwrap();
        let (mut copied, mut sliced) = ([0xaa; 16], [0xaa; 16]);
        let copy = port.read_into(0x4010, &mut copied).is_ok();
        let slices = port.read_slice(&mut sliced, GuestAddress(0x4010)).is_ok();
        assert_eq!(seen(&port, 0x4000, 256), memory, "the buffer stays as it is");
        assert!(copy == slices && faults.trace().firings.len() == 2, "{rule}");
        (copy.then_some([copied, sliced]), faults.trace().firings)
    };
    let at = |first: u8| std::array::from_fn(|index| first + u8::try_from(index).unwrap());
    assert_eq!(read("action = \"lost\"").0, Some([[0; 16]; 2]));
    assert_eq!(read("action = \"offset\"\nbytes = 0x20").0, Some([at(0x30); 2]));
    assert_eq!(read("action = \"offset\"\nbytes = 0x10_0000").0, None);
    assert_eq!(read("action = \"bus-error\"").0, None);
    let (flipped, firings) = read("action = \"flip\"\nbits = 1");
    for (bytes, firing) in flipped.unwrap().iter().zip(firings) {
        let mut right: [u8; 16] = at(0x10);
        let change = firing.changes[0];
        right[usize::try_from(change.address - 0x4010).unwrap()] = change.after;
        assert_eq!((*bytes, (change.before ^ change.after).count_ones()), (right, 1));
    }
}

#[test]
fn a_read_in_pieces_is_one_event() {
    let read = |rule: &str| {
        let (port, faults) = faulty(&format!("on = \"dma.read\"\n{rule}"));
        let memory: Vec<u8> = (0..=255).collect();
        port.memory.write_slice(&memory, GuestAddress(0x4000)).unwrap();
        let mut bytes = [0xaa; 64];
        let read = port.begin_read(0x4010, 64).unwrap();
        let (first, rest) = bytes.split_at_mut(48);
        read.read(48, rest);
        read.read(0, first);
        (bytes, faults.trace().firings)
    };
    let right: [u8; 64] = std::array::from_fn(|index| 0x10 + u8::try_from(index).unwrap());
    assert_eq!(read("action = \"offset\"\nbytes = 0").0, right);
    let (bytes, firings) = read("action = \"lost\"");
    assert_eq!((bytes, firings.len()), ([0; 64], 1));
    let (bytes, firings) = read("action = \"flip\"\nbits = 200");
    let mut flipped = right;
    for change in &firings[0].changes {
        let byte = &mut flipped[usize::try_from(change.address - 0x4010).unwrap()];
        assert_eq!((*byte, (change.before ^ change.after).count_ones()), (change.before, 1));
        *byte = change.after;
    }
    assert_eq!((bytes, firings[0].changes.len()), (flipped, 200));
    assert_ne!(bytes, right);
}

#[test]
fn a_read_is_refused_where_a_write_is() {
    let port = DmaPort::new(memory(), 32, &[0x4000..0x8000]);
    let refused = DmaError { address: 0x8000, len: 2, reason: DmaRefusal::Window };
    assert_eq!(port.begin_read(0x7fff, 2).unwrap_err(), refused);
    port.begin_read(0x7fff, 0).unwrap().read(0, &mut []);
}

/// The memory that takes the place of a long buffer is bounded, and lies in none of the guest's.
#[test]
fn long_buffers_are_lost_and_flipped_too() {
    let long = || {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        DmaPort::unrestricted(ram)
    };
    let with = |rule: &str| {
        let faults = Faults::new(testing::plan(&format!("[[rule]]\nname = \"r\"\n{rule}\n")), 1);
        long().with_faults(FaultHandle::new(faults, "camera0"))
    };
    let len = 3 << 20;
    let port = with("on = \"dma.write\"\naction = \"lost\"");
    port.write_slice(&vec![7; len], GuestAddress(0)).unwrap();
    assert!(seen(&port, 0, 4 << 20).iter().all(|byte| *byte == 0));
    let mut bytes = vec![0; len];
    let port = with("on = \"dma.read\"\naction = \"lost\"");
    port.memory.write_slice(&vec![7; len], GuestAddress(0)).unwrap();
    port.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    let port = with("on = \"dma.read\"\naction = \"flip\"\nbits = 1");
    port.memory.write_slice(&vec![7; len], GuestAddress(0)).unwrap();
    for _ in 0..3 {
        port.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte != 7).count(), 1);
    }
}
