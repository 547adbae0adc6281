//! Scenarios about the free pages of a window: which allocations use them, and which of them move for a request.

use cma::area::{Area, Rules};
use guest_images::Kind;

use super::{Fields, Observation, Scenario, middle_window};
use crate::guest;

/// The program that pins pages in the guest, see tests/guest/pin.c.
const PIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pin"));

/// The program that takes memory of the system heap in the guest, see tests/guest/cma-ops.c.
const CMA_OPS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cma-ops"));

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "idle-memory-is-used",
        claim: "the window is a private pool, never used by ordinary allocations",
        truth: "the buddy allocator has its pageblocks as MIGRATE_CMA, and puts movable pages there (mm/page_alloc.c, \
                __rmqueue): CmaFree decreases, but no bit of the window's bitmap is set",
        play: idle_memory_is_used,
    },
    Scenario {
        name: "pages-move-away",
        claim: "the kernel does not defragment a window",
        truth: "the kernel migrates movable pages to make room for a request (mm/page_alloc.c, alloc_contig_range)",
        play: pages_move_away,
    },
    Scenario {
        name: "unmovable-pages-stay-out",
        claim: "the memory of an idle window is lost, or: is as good as any memory",
        truth: "only movable allocations use its free pages (include/linux/gfp.h, gfp_migratetype): memory for the kernel and for DMA \
                can run out, and the OOM killer run, while the whole window is free",
        play: unmovable_pages_stay_out,
    },
    Scenario {
        name: "moving-takes-time",
        claim: "a request takes as long as the search in the bitmap",
        truth: "the request first migrates each page of the run that is in use (mm/page_alloc.c, __alloc_contig_migrate_range)",
        play: moving_takes_time,
    },
    Scenario {
        name: "nowhere-to-move-to",
        claim: "-12 (ENOMEM) means that no run of the bitmap was long enough",
        truth: "it is also the answer if pages must be migrated and there is no memory for them: any error except \
                -EBUSY ends the search, even if the whole bitmap is clear (mm/cma.c, cma_alloc)",
        play: nowhere_to_move_to,
    },
    Scenario {
        name: "pinned-pages-are-busy",
        claim: "failure means that the window is not contiguous enough",
        truth: "a request can fail with a clear bitmap: a page in use that cannot be migrated, because it is pinned, makes \
                each candidate -EBUSY (mm/page_alloc.c, alloc_contig_range)",
        play: pinned_pages_are_busy,
    },
    Scenario {
        name: "a-signal-ends-the-search",
        claim: "a request fails only for lack of memory",
        truth: "it also fails if its process is killed meanwhile: -4 (EINTR) (mm/page_alloc.c, __alloc_contig_migrate_range)",
        play: a_signal_ends_the_search,
    },
];

fn idle_memory_is_used() -> Vec<Observation> {
    let fields = Fields::of(
        "--memory 512M --cma 256M --camera none",
        "echo before=$(meminfo CmaFree); echo used_before=$(cat $(window cma0)/used)
         fill 200
         echo after=$(meminfo CmaFree); echo used=$(cat $(window cma0)/used)",
    );
    let fallen = fields.number("before").saturating_sub(fields.number("after"));
    vec![
        Observation::new(
            "bits set by the page cache",
            0,
            fields.number("used") - fields.number("used_before"),
        ),
        Observation::new("CmaFree decreases by more than 50 MB", true, fallen > 50_000),
    ]
}

fn pages_move_away() -> Vec<Observation> {
    let fields = Fields::of(
        "--memory 512M --camera none --cma 256M",
        "migrated() { sed -n 's/^pgmigrate_success //p' /proc/vmstat; }
         used() { cat $(window cma0)/used; }
         fill 200
         echo used_before=$(used); echo free=$(meminfo CmaFree); echo before=$(migrated)
         echo 50000 > $(window cma0)/alloc && echo granted=true
         echo used=$(used); echo after=$(migrated)",
    );
    let moved = fields.number("after") - fields.number("before");
    vec![
        Observation::new("less than the requested 200000 kB is free", true, fields.number("free") < 200_000),
        Observation::new("a request for 50000 pages is granted", "true", fields.text("granted")),
        Observation::new("pages allocated", 50_000, fields.number("used") - fields.number("used_before")),
        Observation::new("pages were migrated", true, moved > 0),
    ]
}

fn unmovable_pages_stay_out() -> Vec<Observation> {
    // The system heap's pages are not movable (drivers/dma-buf/heaps/system_heap.c). A request that does not fit invokes the OOM
    // killer, which should kill the requester.
    let heap = "cma-ops $(window cma0) /dev/dma_heap/system";
    let initrd = guest::initramfs_with(Kind::DEFAULT, &[("bin/cma-ops", CMA_OPS)]);
    let fields = Fields::of(
        &format!("--memory 512M --camera none --cma 256M --initrd {}", initrd.path().display()),
        &format!(
            "echo free=$(meminfo MemFree); echo cma=$(meminfo CmaFree)
             {{
                 {{
                     echo h 0 25600; sleep 1
                     echo free_held=$(meminfo MemFree) >&3; echo cma_held=$(meminfo CmaFree) >&3
                 }} | {heap} > /dev/null 2>&1
             }} 3>&1
             sh -c 'echo 1000 > /proc/self/oom_score_adj; echo h 0 76800 | exec \"$@\"' sh {heap} > /dev/null 2>&1
             echo status=$?
             echo free_cma=$(dmesg | sed -n 's/.* free_pcp:[0-9]* free_cma:\\([0-9]*\\)$/\\1/p' | head -n 1)
             fill 300; echo filled=$?; echo cma_filled=$(meminfo CmaFree)"
        ),
    );
    let fallen = |before, after| fields.number(before).saturating_sub(fields.number(after)) >> 10;
    vec![
        Observation::new(
            "100 MiB that cannot move use at least 95 MiB outside the window",
            true,
            fallen("free", "free_held") >= 95,
        ),
        Observation::new("and less than 1 MiB of the window", true, fallen("cma", "cma_held") < 1),
        Observation::new(
            "the process that requests 300 MiB of 512 that cannot move is",
            "killed",
            killed(&fields),
        ),
        Observation::new(
            "with more than 200 MiB of the window free",
            true,
            fields.number("free_cma") > (200 << 20) / cma::PAGE_SIZE,
        ),
        Observation::new("300 MiB of movable pages are granted", "0", fields.text("filled")),
        Observation::new(
            "and at least 40 MiB of them are in the window",
            true,
            fallen("cma", "cma_filled") >= 40,
        ),
    ]
}

/// Whether the field `status` is the exit status of a killed program.
fn killed(fields: &Fields) -> &'static str {
    if fields.number("status") == 128 + 9 { "killed" } else { "not killed" }
}

fn moving_takes_time() -> Vec<Observation> {
    let fields = Fields::of(
        "--memory 1G --camera none --cma 4M,default --cma 256M,name=isp",
        "events=/sys/kernel/debug/tracing/events/cma; w=$(window isp)
         migrated() { sed -n 's/^pgmigrate_success //p' /proc/vmstat; }
         # Microseconds of the only request in the trace.
         took() {
             awk '/ cma_alloc_(start|finish): / { at[n++] = $4 + 0 } END { printf \"%d\\n\", (at[1] - at[0]) * 1000000 }' \
                 $events/../../trace
             echo > $events/../../trace
         }
         echo 1 > $events/cma_alloc_start/enable; echo 1 > $events/cma_alloc_finish/enable
         echo 16384 > $w/alloc; echo idle=$(took); echo idle_moved=$(migrated)
         echo 16384 > $w/free; fill 600
         echo moved_before=$(migrated); echo 16384 > $w/alloc && echo granted=true
         echo busy=$(took); echo moved=$(migrated)",
    );
    let (idle, busy) = (fields.number("idle"), fields.number("busy"));
    vec![
        Observation::new("pages moved for 16384 pages of an idle window", 0, fields.number("idle_moved")),
        Observation::new("the same request when files fill the window", "true", fields.text("granted")),
        Observation::new(
            "it moves at least 8192 pages",
            true,
            fields.number("moved") - fields.number("moved_before") >= 8192,
        ),
        Observation::new(
            format!("and takes longer (in the idle window {idle} us, then {busy} us)"),
            true,
            busy > idle,
        ),
    ]
}

fn nowhere_to_move_to() -> Vec<Observation> {
    let fields = Fields::of(
        "--memory 512M --camera none --cma 4M,default --cma 256M,name=isp",
        // The shell itself truncates the file after the request: there is no memory for another process.
        "w=$(window isp); fill 340
         echo 60000 > $w/alloc 2> /dev/null; : > /fill/file
         echo answer=$(dmesg | sed -n 's/.*alloc failed, req-size: 60000 pages, ret: //p')
         echo used=$(cat $w/used); echo free=$(dmesg | sed -n 's/.*number of available pages: .*=> \\([0-9]*\\) free.*/\\1/p')
         echo 60000 > $w/alloc && echo then=granted",
    );
    vec![
        Observation::new(
            "340 MiB of files, and a request for 60000 of 65536 pages",
            "-12",
            fields.text("answer"),
        ),
        Observation::new("pages free by the bitmap", 65_536, fields.number("free")),
        Observation::new("the same request without the files", "granted", fields.text("then")),
    ]
}

fn pinned_pages_are_busy() -> Vec<Observation> {
    let window = middle_window("isp", 256 << 20, false);
    let initrd = guest::initramfs_with(Kind::DEFAULT, &[("bin/pin", PIN)]);
    let arguments = format!(
        "--memory 1G --camera none --cma 4M,default --cma 256M,name=isp,base={:#x} --initrd {}",
        window.base,
        initrd.path().display()
    );
    let fields = Fields::of(
        &arguments,
        "cat > /tmp/ask <<'END'
            w=$(echo /sys/kernel/debug/cma/isp*)
            echo used=$(cat $w/used)
            if echo 65000 > $w/alloc; then echo answer=granted; else
                echo answer=$(dmesg | sed -n 's/.*alloc failed, req-size: 65000 pages, ret: //p' | tail -n 1)
            fi 2> /dev/null
END
         pin 800 sh /tmp/ask",
    );
    let mut area = Area::of_window(&window, 0, Rules::V6_1).expect("the window is an area");
    // Their positions do not matter: a request of this size includes one of them at every place.
    for pfn in area.ranges().flat_map(|range| range.step_by(16_384)).collect::<Vec<_>>() {
        area.set_busy(pfn..pfn + 1);
    }
    let predicted =
        area.alloc(65_000, 0).map_or_else(|error| error.errno.to_string(), |_| "granted".to_owned());
    vec![
        Observation::new("bits that are set", 0, fields.number("used")),
        Observation::new("a request for 65000 pages of 65536", predicted, fields.text("answer")),
    ]
}

fn a_signal_ends_the_search() -> Vec<Observation> {
    let window = middle_window("isp", 256 << 20, false);
    let initrd = guest::initramfs_with(Kind::DEFAULT, &[("bin/pin", PIN)]);
    let fields = Fields::of(
        &format!(
            "--memory 1G --camera none --cma 4M,default --cma 256M,name=isp,base={:#x} --initrd {}",
            window.base,
            initrd.path().display()
        ),
        // With the pinned pages, the search tries thousands of places.
        "cat > /tmp/ask <<'END'
            w=$(echo /sys/kernel/debug/cma/isp*)
            timeout -s KILL 1 sh -c \"echo 60000 > $w/alloc\"; echo status=$?; echo used=$(cat $w/used)
            echo answer=$(dmesg | sed -n 's/.*alloc failed, req-size: 60000 pages, ret: //p')
END
         pin 800 sh /tmp/ask 2> /dev/null",
    );
    vec![
        Observation::new("after a second of search, the process is", "killed", killed(&fields)),
        Observation::new("the kernel's answer", "-4", fields.text("answer")),
        Observation::new("bits that stay set", 0, fields.number("used")),
    ]
}
