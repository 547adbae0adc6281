//! Scenarios about a balloon and windows: where its pages lie, and what leaves the host.

use std::{
    thread,
    time::{Duration, Instant},
};

use vmm::{arch, observe::frames};

use super::{Observation, Scenario, fields};
use crate::{guest, steps::Stepped};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-balloon-lies-in-the-window",
        claim: "inflating a balloon never takes pages from a CMA window",
        truth: "a balloon is of movable pages (mm/balloon_compaction.c, balloon_page_alloc, with CONFIG_BALLOON_COMPACTION), for which a \
                window's free pages are as good as any (mm/page_alloc.c, __rmqueue); a request migrates them out, and the driver \
                tells the host of each (drivers/virtio/virtio_balloon.c, virtballoon_migratepage)",
        play: a_balloon_lies_in_the_window,
    },
    Scenario {
        name: "a-free-window-leaves-the-host",
        claim: "a window keeps the memory of the host that its pages once took",
        truth: "the kernel reports free blocks to the balloon's device, those of a window too (mm/page_reporting.c, \
                page_reporting_process_zone): their memory goes back to the host, and a request has memory again",
        play: a_free_window_leaves_the_host,
    },
];

fn a_balloon_lies_in_the_window() -> Vec<Observation> {
    // A window of 64 of 160 MiB: the allocator takes movable pages from both halves.
    const SIZE: u64 = 48;
    let pages = SIZE * 256;
    let mut machine = Stepped::start(
        &format!("--memory 160M --camera none --cma 4M,default --cma 64M,name=isp --device balloon,size={SIZE}M,reporting=no"),
        &format!(
            "{}
             w=$(window isp); driver=/sys/bus/virtio/drivers/virtio_balloon; balloon=$(basename $driver/virtio*)
             events() {{ sed -n \"s/^balloon_$1 //p\" /proc/vmstat; }}
             until [ $(events inflate) = {pages} ]; do usleep 20000; done
             echo $balloon > $driver/unbind
             echo before=$(meminfo CmaFree)
             echo $balloon > $driver/bind
             until [ $(events inflate) = {} ]; do usleep 20000; done
             echo after=$(meminfo CmaFree); echo used=$(cat $w/used); echo migrated_before=$(events migrate)
             echo 12500 > $w/alloc && echo granted=true
             echo migrated=$(events migrate); echo used_then=$(cat $w/used)
             echo size=$(($(events inflate) - $(events deflate)))",
            fields::PRELUDE,
            2 * pages
        ),
    );
    let fields = fields::Fields::read(&machine.rest());
    let report = machine.end();
    let inflated = report.counter("balloon0.inflated").unwrap_or(0);
    let migrated = fields.number("migrated") - fields.number("migrated_before");
    vec![
        Observation::new(
            "a balloon of 48 MiB takes more than 12 MiB of the window",
            true,
            fields.number("before").saturating_sub(fields.number("after")) > 12 << 10,
        ),
        Observation::new("bits that it sets in the window's bitmap", 0, fields.number("used")),
        Observation::new("a request for 12500 of 16384 pages", "true", fields.text("granted")),
        Observation::new("bits that are set then", 12_500, fields.number("used_then")),
        Observation::new("pages of the balloon that moved: more than 12 MiB", true, migrated > 12 << 8),
        Observation::new("pages in the balloon, by the guest", pages, fields.number("size")),
        Observation::new("pages that moved, by the host", migrated, inflated.saturating_sub(2 * pages)),
    ]
}

fn a_free_window_leaves_the_host() -> Vec<Observation> {
    const WINDOW: u64 = 128 << 20;
    const STREAM: &str =
        "v4l2-ctl -v width=640,height=480,pixelformat=YUYV --stream-mmap=4 --stream-count=8 --stream-to";
    let mut machine = Stepped::start(
        "--memory 256M --cma 4M,default --cma 128M,name=isp --camera window=isp,timing=stall --device balloon",
        &format!(
            "{}
             w=$(window isp)
             fill 170; cat $w/base_pfn; step
             rm /fill/file; echo free; step
             echo 30000 > $w/alloc && echo granted=true
             echo 30000 > $w/free
             {STREAM}=/out/frames.raw > /dev/null 2>&1; echo streamed=$?",
            fields::PRELUDE
        ),
    );
    let base: u64 = machine.line().parse().expect("it is a number");
    let base = base * cma::PAGE_SIZE - arch::ram(256 << 20)[0].start;
    let resident = |machine: &Stepped| machine.resident_within(base..base + WINDOW);
    let full = resident(&machine);
    machine.go_on();
    machine.line();
    let begun = Instant::now();
    // Two seconds after the first free block.
    while resident(&machine) > 16 && begun.elapsed() < Duration::from_secs(40) {
        thread::sleep(Duration::from_millis(100));
    }
    let left = resident(&machine);
    machine.go_on();
    let fields = fields::Fields::read(&machine.rest());
    machine.end();
    let frames = frames::check_file(&machine.folder().join("frames.raw"), &guest::layout("YUYV", 640, 480));
    let right = frames.map(|checked| if checked.bad.is_empty() { checked.frames } else { 0 });
    vec![
        Observation::new(
            "170 MiB of files take more than 50 MiB of the host for the window",
            true,
            full > 50,
        ),
        Observation::new("without the files, at most 16 MiB of it are left", true, left <= 16),
        Observation::new("a request for 30000 of 32768 pages", "true", fields.text("granted")),
        Observation::new("frames of a stream in the window that are right", 8, right.unwrap_or(0)),
    ]
}
