//! No driver makes the balloon panic, hang, or touch memory that is not the guest's. It writes nothing but the zeroes of memory that
//! went back to the host. After a reset it works.

#![no_main]

use devices::virtio::balloon::{Balloon, Options};
use fuzz::{Input, Start, guest::Guest, virtio};
use vm_memory::{Bytes as _, GuestAddress};

/// The size of a page of the balloon, in bytes.
const PAGE: u64 = 4096;

/// The numbers of pages in RAM and around it.
fn numbers(input: &mut Input<'_>) -> Vec<u8> {
    let mut numbers = Vec::new();
    for _ in 0..input.byte() % 64 {
        let [place, offset] = input.array();
        let start = [Guest::BASE, Guest::FAR, Guest::FAR + Guest::FAR_SIZE as u64, 0xffff_ff00 * PAGE];
        let number = start[usize::from(place) % 4] / PAGE + u64::from(offset);
        numbers.extend((number as u32).to_le_bytes());
    }
    numbers
}

fuzz::target!(
    Start { seeds: virtio::seeds(5, &[4, 1, 0, 1, 1, 2, 9, 3, 200]), ..Start::default() },
    |bytes| {
        let options = Options { size: 4 * PAGE, deflates_on_oom: true, reports: true, interval: 0 };
        let balloon = Balloon::new(options, 1 << 20).expect("it needs nothing");
        let mut rig = virtio::drive_taker(balloon, bytes, &numbers, &mut |_| {});
        let page = GuestAddress(Guest::FAR + PAGE);
        rig.guest.memory.write_slice(&[7; PAGE as usize], page).expect("it is RAM");
        rig.ask::<0>(0, &((page.0 / PAGE) as u32).to_le_bytes());
        assert_eq!(
            rig.guest.read::<{ PAGE as usize }>(page.0),
            [0; PAGE as usize],
            "the page goes back to the host"
        );
    }
);
