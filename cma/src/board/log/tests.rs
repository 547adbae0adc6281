//! Logs as people paste them.

use super::*;

/// Linux 6.1 with CONFIG_CMA_DEBUG, as dmesg prints it.
const DMESG: &str = "\
[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd083]
[    0.000000] Linux version 6.1.21-v8+ (dom@buildbot) (aarch64-linux-gnu-gcc-8 (Ubuntu) 8.4.0) #1642 SMP PREEMPT
[    0.000000] Machine model: Raspberry Pi 4 Model B Rev 1.4
[    0.000000] Reserved memory: created CMA memory pool at 0x000000003b400000, size 8 MiB
[    0.000000] OF: reserved mem: initialized node linux,cma, compatible id shared-dma-pool
[    0.000000] Kernel command line: console=ttyS0 cma=8M
[  312.400000] cma: cma_alloc: linux,cma: alloc failed, req-size: 350 pages, ret: -12
[  312.400001] cma: number of available pages: 4@572+7@585+346@1702=> 357 free of 2048 total pages
[  312.500000] bcm2835-isp bcm2835-isp: dma alloc of size 1433600 failed
MemTotal:        3884564 kB
CmaTotal:           8192 kB
CmaFree:            1428 kB
";

fn assert_is_the_paste(text: &str, what: &str) {
    let log = Log::read(text);
    let [failure] = &log.failures[..] else { panic!("{what}: {:?}", log.failures) };
    assert_eq!((failure.pages, failure.errno, failure.rules), (350, -12, Rules::V6_1), "{what}");
    assert_eq!(failure.window.as_deref(), Some("linux,cma"), "{what}");
    let listing = failure.listing.as_ref().unwrap();
    assert!(listing.whole && listing.longest() == 346, "{what}: {listing:?}");
    assert_eq!(log.windows.len(), 1, "{what}");
    assert_eq!(log.windows[0].base, Some(0x3b40_0000), "{what}");
    assert_eq!(log.windows[0].name.as_deref(), Some("linux,cma"), "{what}");
    assert_eq!(log.meminfo.cma_free, Some(1428), "{what}");
}

#[test]
fn a_log_of_dmesg() {
    let log = Log::read(DMESG);
    assert_is_the_paste(DMESG, "dmesg");
    assert_eq!((log.release.as_deref(), log.arch), (Some("6.1.21-v8+"), Some("aarch64")));
    assert_eq!(log.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
    assert_eq!(log.cmdline.as_deref(), Some("console=ttyS0 cma=8M"));
    assert_eq!((log.failures[0].seconds, log.failures[0].line), (Some(312.4), 7));
    assert_eq!(log.windows[0].size, 8 << 20);
    assert_eq!(log.drivers.len(), 1);
    assert_eq!(log.meminfo.total, Some(3_884_564));
}

#[test]
fn prefixes_of_any_kind() {
    let prefixed = |prefix: &str, end: &str| -> String {
        DMESG
            .lines()
            .map(|line| format!("{prefix}{}{end}", line.split_once("] ").map_or(line, |(_, text)| text)))
            .collect()
    };
    for (what, text) in [
        ("none", prefixed("", "\n")),
        ("CRLF", DMESG.replace('\n', "\r\n")),
        ("journalctl", prefixed("Nov 29 08:00:00 board kernel: ", "\n")),
        ("syslog", prefixed("Nov 29 08:00:00 board kernel: [  312.400000] ", "\n")),
        ("ISO", prefixed("2026-11-29T08:00:00,123456+00:00 ", "\n")),
        ("serial", prefixed("<6>[  312.400000] ", "\n")),
        ("caller", prefixed("[  312.400000][   T97] ", "\n")),
        ("logcat", prefixed("11-29 08:00:00.000     0     0 I         : ", "\n")),
        ("quoted", prefixed("> >> ", "\n")),
        ("markdown", prefixed("    | ", "\n")),
        ("colours", prefixed("\u{1b}[32m[  312.400000] \u{1b}[0m\u{1b}[33m", "\u{1b}[0m\n")),
        ("HTML", DMESG.replace("=>", "=&gt;")),
        ("vendor", DMESG.replace("[  312.40000", "[  312.40000@3")),
    ] {
        assert_is_the_paste(&text, what);
    }
}

#[test]
fn lines_that_a_mail_program_broke() {
    let mut text = String::new();
    for line in DMESG.lines() {
        let mut length = 0;
        text.push_str("> ");
        for word in line.split(' ') {
            if length > 0 && length + word.len() > 60 {
                text.push_str("\n> ");
                length = 0;
            } else if length > 0 {
                text.push(' ');
            }
            text.push_str(word);
            length += word.len() + 1;
        }
        text.push('\n');
    }
    let log = Log::read(&text);
    assert_eq!(log.failures.len(), 1, "{text}");
    assert!(log.failures[0].listing.as_ref().unwrap().whole, "{text}");
}

#[test]
fn the_formats_of_the_releases() {
    for (line, rules, window) in [
        // 4.12 to 5.12.
        ("cma: cma_alloc: alloc failed, req-size: 350 pages, ret: -16", Rules::V6_1, None),
        (
            "cma: cma_alloc: reserved: alloc failed, req-size: 350 pages, ret: -16",
            Rules::V6_1,
            Some("reserved"),
        ),
        (
            "cma: __cma_alloc: reserved: alloc failed, req-size: 350 pages, ret: -16",
            Rules::V6_12,
            Some("reserved"),
        ),
        (
            "cma: __cma_alloc_frozen: isp@60000000: alloc failed, req-size: 350 pages, ret: -16",
            Rules::V7_2,
            Some("isp@60000000"),
        ),
    ] {
        let log = Log::read(line);
        let failure = &log.failures[0];
        assert_eq!((failure.pages, failure.errno, failure.rules), (350, -16, rules), "{line}");
        assert_eq!(failure.window.as_deref(), window, "{line}");
        assert_eq!(failure.listing, None);
    }
    // What the model prints, which the tests compare with each kernel.
    for rules in Rules::ALL {
        let mut area = crate::area::Area::of_ranges("isp", &[(0x4000, 1024)], 0, rules).unwrap();
        for pages in [100, 28, 200] {
            area.alloc(pages, 0).unwrap();
        }
        area.release(0x4000 + 128, 128);
        let refused = area.alloc(900, 8).unwrap_err();
        let log = Log::read(&area.dmesg(&refused).join("\n"));
        let [failure] = &log.failures[..] else { panic!("{log:?}") };
        assert_eq!((failure.pages, failure.errno), (900, refused.errno));
        // The list of a window with one range is the same in 6.1 and 6.12.
        assert_eq!(failure.rules, rules);
        let listing = failure.listing.as_ref().unwrap();
        assert!(listing.whole, "{listing:?}");
        let again = listing.area("isp", 0x4000, None, rules).unwrap();
        assert_eq!(again.allocated(), area.allocated(), "{rules}");
        assert_eq!(area.dmesg(&refused), again.dmesg(&refused), "{rules}");
    }
}

#[test]
fn several_failures() {
    let text = "\
[ 1.0] cma: cma_alloc(cma (____ptrval____), count 64, align 6)
[ 1.0] cma: cma_alloc: isp: alloc failed, req-size: 64 pages, ret: -12
[ 1.0] cma: number of available pages: 63@0=> 63 free of 1024 total pages
[ 2.0] cma: cma_alloc: isp: alloc failed, req-size: 32 pages, ret: -4
[ 3.0] alloc_contig_range: [a4400, a4500) PFNs busy
[ 3.0] cma: cma_alloc: isp: alloc failed, req-size: 16 pages, ret: -16
[ 3.0] cma: number of available pages: 63@0+2@";
    let log = Log::read(text);
    let said: Vec<_> =
        log.failures.iter().map(|f| (f.pages, f.errno, f.align, f.listing.is_some())).collect();
    assert_eq!(said, [(64, -12, Some(6), true), (32, -4, None, false), (16, -16, None, true)]);
    assert!(!log.failures[2].listing.as_ref().unwrap().whole);
    assert_eq!(log.busy, [0xa4400..0xa4500]);
}

#[test]
fn windows_and_what_became_of_them() {
    let log = Log::read(
        "cma: Reserved 64 MiB at 0x000000003c000000 on node -1
        cma: Reserved 96 MiB in 2 ranges
        cma: Failed to reserve 512 MiB
        OF: reserved mem: 0x0000000048000000..0x000000004bffffff (65536 KiB) map reusable isp@48000000
        Reserved memory: created CMA memory pool at 0x0000000050000000, size 16 MiB
        OF: reserved mem: 0x0000000050000000..0x0000000050ffffff (16384 KiB) map reusable vpu@50000000
        Reserved memory: incorrect alignment of CMA region
        cma: CMA area isp could not be activated
        OF: reserved mem: OVERLAP DETECTED!",
    );
    let windows: Vec<_> =
        log.windows.iter().map(|w| (w.base, w.size >> 20, w.name.as_deref(), w.origin)).collect();
    assert_eq!(
        windows,
        [
            (Some(0x3c00_0000), 64, None, Origin::Kernel),
            (None, 96, None, Origin::Kernel),
            (Some(0x5000_0000), 16, Some("vpu@50000000"), Origin::Tree)
        ]
    );
    let notes: Vec<_> = log.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(
        notes,
        [
            "cma: Failed to reserve 512 MiB",
            "Reserved memory: incorrect alignment of CMA region",
            "cma: CMA area isp could not be activated",
            "OVERLAP DETECTED!"
        ]
    );
}

#[test]
fn floods_are_bounded() {
    let line = "cma: cma_alloc: isp: alloc failed, req-size: 1 pages, ret: -12\n";
    let log = Log::read(&line.repeat(1500));
    assert_eq!((log.failures.len(), log.more_failures), (MOST, 1500 - MOST as u64));
    for text in
        ["cma_alloc: alloc failed, req-size: ", "alloc failed, req-size: 1 pages, ret: -", "cma_alloc: \n\n"]
    {
        assert!(Log::read(&text.repeat(3)).failures.is_empty(), "{text}");
    }
}

#[test]
fn two_cpus_print_at_a_time_and_boots_follow_each_other() {
    let log = Log::read(
        "[ 0.0] Linux version 6.1.1
        [ 0.0] Reserved memory: created CMA memory pool at 0x000000003b400000, size 8 MiB
        [ 1.0] cma: cma_alloc: isp: alloc failed, req-size: 64 pages, ret: -12
        [ 1.0] cma: cma_alloc: vpu: alloc failed, req-size: 32 pages, ret: -12
        [ 1.0] cma: number of available pages: 63@0=> 63 free of 1024 total pages
        [ 1.0] cma: number of available pages: 31@0=> 31 free of 2048 total pages
        [ 0.0] Linux version 6.1.1
        [ 0.0] Reserved memory: created CMA memory pool at 0x000000003b000000, size 16 MiB",
    );
    let totals: Vec<_> = log.failures.iter().map(|failure| failure.listing.as_ref().unwrap().total).collect();
    assert_eq!(totals, [Some(1024), Some(2048)]);
    assert_eq!((log.windows.len(), log.windows[0].base, log.booted), (1, Some(0x3b00_0000), 7));
}
