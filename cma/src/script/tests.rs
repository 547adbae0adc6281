//! Scripts that are understood, scripts that are not, and any text at all.

use proptest::prelude::*;

use super::{parse::form, *};
use crate::area::Reason;

fn texts(script: &str) -> Vec<String> {
    script.parse::<Script>().unwrap().run().map(|event| event.to_string()).collect()
}

#[test]
fn a_window_is_filled_and_has_a_hole() {
    let script: Script = "
        window 64M name=isp
        repeat 16
            alloc b{i} 1013     # 1080p YUYV
        end
        alloc late 1013
        expect -12
        free b3
        free late
        alloc again 1013
        expect ok
    "
    .parse()
    .unwrap();
    let mut run = script.run();
    let events: Vec<Event> = run.by_ref().collect();
    assert_eq!(events.len(), 23);
    assert!(
        matches!(&events[4], Event { line: 4, what: EventKind::Alloc { id, pfn: Some(0x40c00), align: 8, .. } } if id == "b3")
    );
    let EventKind::Alloc { errno: -12, reason: Some(Reason::NoRun), dmesg, .. } = &events[17].what else {
        panic!("{:?}", events[17])
    };
    assert_eq!(dmesg[0], "cma: cma_alloc: isp@40000000: alloc failed, req-size: 1013 pages, ret: -12");
    assert_eq!(events[18].what, EventKind::Expect { expected: -12, found: -12, held: true });
    assert_eq!(events[19].what, EventKind::Free { id: "b3".into(), pfn: Some(0x40c00), pages: 1013 });
    assert_eq!(events[20].what, EventKind::Free { id: "late".into(), pfn: None, pages: 0 });
    assert!(matches!(&events[21].what, EventKind::Alloc { pfn: Some(0x40c00), .. }));

    let map = run.window_map();
    let owners: Vec<_> = map.owners().iter().map(|owner| owner.name.as_str()).collect();
    assert_eq!(owners[..5], ["b0", "b1", "b2", "again", "b4"]);
    assert_eq!(map.owners()[3].pages, 3072..4085);
    assert_eq!((owners.len(), map.allocated.count()), (16, 16 * 1013));
}

#[test]
fn what_people_read() {
    let texts = texts(
        "window 64K base=0x80000000 order_per_bit=1\n\
         busy 0x80000 2\n\
         alloc a 3 align=0\n\
         stats\n\
         alloc b 15\n\
         expect -12\n\
         free a\n\
         alloc b2 15 align=0\n\
         expect ok\n\
         idle 0x80000 1\n\
         free b\n\
         alloc c 20\n\
         map",
    );
    assert_eq!(
        texts,
        [
            "line 1: window cma0@80000000: 16 pages at 0x80000000 (pfn 0x80000), 2^1 pages a bit",
            "line 2: busy: 2 pages at pfn 0x80000",
            "line 3: alloc a, 3 pages at alignment 0: pfn 0x80002\n  busy and skipped, 1 in all: pfn 0x80000",
            "line 4: stats: 4 of 16 pages used, 2 busy; 2 free runs, the longest (maxchunk) of 10 pages at pfn 0x80006\n  \
             free runs of 2 to 3 pages: 1\n  free runs of 8 to 15 pages: 1\n  \
             2 more requests for 3 pages at alignment 0 would be granted; 50.0 % of the free pages are unusable for them",
            "line 5: alloc b, 15 pages at alignment 4: -12, no run of free pages is long enough at that alignment\n  \
             cma: cma_alloc: cma0@80000000: alloc failed, req-size: 15 pages, ret: -12\n  \
             cma: number of available pages: 2@0+10@3=> 12 free of 16 total pages",
            "line 6: expect -12: ok",
            "line 7: free a, 3 pages at pfn 0x80002",
            "line 8: alloc b2, 15 pages at alignment 0: -16, each run that is long enough contains a page that is in \
             use and cannot be migrated\n  busy and skipped, 1 in all: pfn 0x80000\n  \
             cma: cma_alloc: cma0@80000000: alloc failed, req-size: 15 pages, ret: -16\n  \
             cma: number of available pages: 16@0=> 16 free of 16 total pages",
            "line 9: expect ok: FAILED, the last alloc answered -16",
            "line 10: idle: 1 page at pfn 0x80000",
            "line 11: free b: nothing to free, because its alloc failed",
            "line 12: alloc c, 20 pages at alignment 5: -12, the request is larger than the area, which cma_alloc refuses \
             without a search",
            "line 13: map: cma0 at 0x80000000, 64 KiB: 0 of 16 pages allocated (0.0 %), largest free run 16 pages (64 \
             KiB)\n  a character is 4 KiB: . free  + partly allocated  # allocated  w partly, W wholly allocated and \
             written by a device  - free, written before\n  0x0080000000 ................",
        ]
    );
}

#[test]
fn the_rules_since_6_15() {
    let texts = texts("window 64K rules=7.2\nalloc a 9\nalloc b 8\nexpect -16\nalloc c 17\nexpect -16");
    assert_eq!(
        texts[0],
        "line 1: window cma0@40000000: 16 pages at 0x40000000 (pfn 0x40000), rules of Linux 7.2"
    );
    let refused = "line 3: alloc b, 8 pages at alignment 3: -16, no run of free pages is long enough at that alignment\n  \
        cma: __cma_alloc_frozen: cma0@40000000: alloc failed, req-size: 8 pages, ret: -16\n  \
        cma: number of available pages: \n  cma: range 0: +7@9\n  cma: \n  => 7 free of 16 total pages";
    assert_eq!(texts[2], refused);
    assert_eq!(texts[3], "line 4: expect -16: ok");
    assert!(
        texts[4].contains("-16, the request is larger than the area") && texts[4].contains("req-size: 17")
    );
}

#[test]
fn turns_of_repeats_in_repeats() {
    let script: Script = "window 1M
        repeat 2
            repeat 1
                repeat 3
                    alloc {k}.{j}.{i} 1
                end
            end
            free {i}.0.1
        end
        repeat 0
            free nobody
        end"
    .parse()
    .unwrap();
    let ids: Vec<String> = script
        .run()
        .filter_map(|event| match event.what {
            EventKind::Alloc { id, .. } => Some(id),
            EventKind::Free { id, .. } => Some(format!("-{id}")),
            _ => None,
        })
        .collect();
    assert_eq!(ids, ["0.0.0", "0.0.1", "0.0.2", "-0.0.1", "1.0.0", "1.0.1", "1.0.2", "-1.0.1"]);
}

#[test]
fn each_mistake_has_its_sentence() {
    for (script, sentence) in [
        ("", "line 1: the script has no window before this line; begin it with"),
        ("# nothing\n\n", "line 2: the script has no window before this line"),
        ("alloc a 1\nwindow 1M", "line 1: the script has no window before this line"),
        ("repeat 2\nwindow 1M\nend", "line 1: the script has no window before this line"),
        ("window 1M\nwindow 1M", "line 2: line 1 already has a window"),
        ("window", "line 1: the line must have the form \"window SIZE [base=A]"),
        ("window 1M 2M", "line 1: the line must have the form"),
        ("window 1M colour=red", "line 1: the line must have the form"),
        ("window 1M base=0 base=0", "line 1: the line must have the form"),
        ("window 1Q", "line 1: the size cannot be read: \"1Q\" is not a size"),
        (
            "window 4097",
            "line 1: the CMA area cma0@40000000 has the size 0x1001, which is not a multiple of the page size",
        ),
        ("window 1M base=1", "line 1: the CMA area cma0@1 has the base 0x1, which is not a multiple"),
        ("window 0", "line 1: the CMA area cma0@40000000 has no pages"),
        ("window 2T", "line 1: the CMA area cma0@40000000 of 536870912 pages at page 0x40000 is too large"),
        (
            "window 12K order_per_bit=1",
            "line 1: the CMA area cma0@40000000 has 3 pages, which is not a multiple",
        ),
        ("window 1M order_per_bit=52", "line 1: the order_per_bit 52 is too large; it is an order of pages"),
        (
            "window 1M rules=6.2",
            "line 1: the rules \"6.2\" are unknown; write 6.1 or 6.12 for Linux up to 6.14",
        ),
        ("window 1M name=1", "line 1: the window has the name \"1\", which no device-tree node can have"),
        ("window 1M\nALLOC a 1", "line 2: the verb \"ALLOC\" is unknown; the verbs are"),
        ("window 1M\nalloc a", "line 2: the line must have the form \"alloc ID PAGES [align=N]\""),
        ("window 1M\nalloc a x", "line 2: the number of pages cannot be read: \"x\""),
        (
            "window 1M\nalloc a \u{1b}[2J",
            "line 2: the number of pages cannot be read: \"\\u{1b}[2J\" is not a size",
        ),
        ("window 1M\nalloc a 0", "line 2: alloc has zero pages"),
        ("window 1M\nalloc a 1 align=52", "line 2: the align 52 is too large"),
        ("window 1M\nalloc a 1 8", "line 2: the line must have the form"),
        ("window 1M\nalloc a{i} 1", "line 2: \"a{i}\" is not a valid ID"),
        ("window 1M\nrepeat 2\nalloc a{j} 1\nend", "line 3: \"a{j}\" is not a valid ID"),
        ("window 1M\nalloc \u{1b}[31m 1", "line 2: \"\\u{1b}[31m\" is not a valid ID"),
        ("window 1M\nalloc a 1\nalloc a 1", "line 3: the ID a is in use by the alloc in line 2"),
        ("window 1M\nrepeat 2\nalloc a 1\nend", "line 3: the ID a is in use by the alloc in line 3"),
        ("window 1M\nfree a", "line 2: no earlier alloc has the ID a"),
        ("window 1M\nalloc a 1\nfree a\nfree a", "line 4: line 3 has already freed a"),
        ("window 1M\nbusy 0x3ffff 2", "line 2: 2 pages from page frame 0x3ffff on are not in the window"),
        (
            "window 1M\nidle 0x400ff 2",
            "line 2: 2 pages from page frame 0x400ff on are not in the window, which",
        ),
        ("window 1M\nbusy 0x40000 0", "line 2: busy has zero pages"),
        ("window 1M\nbusy 0x40000 0xffffffffffffffff", "line 2: 18446744073709551615 pages from"),
        ("window 1M\nalloc a 1\nexpect -11", "line 3: \"-11\" is not an answer of an alloc"),
        ("window 1M\nexpect ok", "line 2: there is no alloc before this expect"),
        ("window 1M\nrepeat 2\nmap", "line 2: this repeat has no end"),
        ("window 1M\nrepeat 2\nrepeat 2\nend", "line 2: this repeat has no end"),
        ("window 1M\nend", "line 2: this end has no repeat"),
        ("window 1M\nend end", "line 2: the line must have the form \"end\""),
        ("window 1M\nrepeat 1\nrepeat 1\nrepeat 1\nrepeat 1", "line 5: this repeat is nested in 3 others"),
        (
            "window 1M\nrepeat 1000001\nmap\nend",
            "line 4: with this line the script has more than 1000000 steps",
        ),
        ("window 1M\nrepeat 16E\nend", "line 2: the number of turns cannot be read"),
        ("window 1M\nrepeat 15E\nrepeat 15E\nend", "line 4: with this line the script has more than"),
    ] {
        let error = script.parse::<Script>().unwrap_err().to_string();
        assert!(error.starts_with(sentence), "{script}: {error}");
    }
    let long = format!("window 1M\nalloc {} 1", "a".repeat(65));
    assert!(long.parse::<Script>().is_err());
}

#[test]
fn the_help_names_every_verb_in_its_form() {
    for verb in ["window", "alloc", "free", "busy", "idle", "expect", "map", "stats"] {
        assert!(Script::HELP.lines().any(|line| line.starts_with(form(verb).unwrap())), "{verb}");
    }
}

/// Lines that are nearly right.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "alloc", "free", "busy", "idle", "repeat", "end", "expect", "map", "stats", "a", "b{i}", "{j}", "ok",
        "-12", "-16", "0", "1", "3", "60", "0x40000", "0x40001", "align=0", "align=9", "align=51", "#", "\n",
    ]);
    let line = prop_oneof![
        (0..3, 0..70_u64).prop_map(|(id, pages)| format!("alloc {id} {pages}")),
        (0..3).prop_map(|id| format!("free {id}")),
        (0..70_u64).prop_map(|page| format!("busy {} 2\nstats\nmap", 0x40000 + page)),
        Just("repeat 2\nalloc x{i} 3\nfree x{i}\nend\nexpect ok".to_owned()),
        prop::collection::vec(word, 0..5).prop_map(|words| words.join(" ")),
    ];
    prop::collection::vec(line, 0..7).prop_map(|lines| format!("window 256K\n{}", lines.join("\n")))
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        if let Err(error) = text.parse::<Script>() {
            let sentence = error.to_string();
            prop_assert!(sentence.len() < 1000 && !sentence.contains(char::is_control), "{sentence}");
        }
    }

    #[test]
    fn no_line_panics(line in "\\PC{0,80}", verb in prop::sample::select(vec!["alloc", "busy", "repeat", "expect", ""])) {
        if let Err(error) = format!("window 64K\n{verb} {line}").parse::<Script>() {
            prop_assert_eq!(error.line, 2);
        }
    }

    #[test]
    fn no_script_panics(text in nearly()) {
        match text.parse::<Script>() {
            Ok(script) => {
                let mut run = script.run();
                for event in run.by_ref() {
                    let start = format!("line {}: ", event.line);
                    prop_assert!(event.to_string().starts_with(&start));
                }
                prop_assert!(run.window_map().to_svg().ends_with("</svg>\n"));
            }
            Err(error) => prop_assert!(error.line >= 1 && error.line <= text.lines().count()),
        }
    }
}
