//! What is said of logs.

use super::*;
use crate::board::{BoardError, Cause, Effort};

fn diagnose(log: &str) -> Diagnosis {
    Diagnosis::of(&Board::of_log(log).unwrap(), &Question::default())
}

const WINDOW: &str = "Linux version 6.1.21-v8+ (aarch64-linux-gnu-gcc)
Reserved memory: created CMA memory pool at 0x000000003b400000, size 8 MiB
OF: reserved mem: initialized node linux,cma, compatible id shared-dma-pool
";

fn failed(pages: u64, errno: i32, list: &str) -> Diagnosis {
    let list =
        if list.is_empty() { String::new() } else { format!("cma: number of available pages: {list}\n") };
    diagnose(&format!(
        "{WINDOW}[  12.5] cma: cma_alloc: linux,cma: alloc failed, req-size: {pages} pages, ret: {errno}\n{list}"
    ))
}

#[test]
fn the_causes() {
    for (pages, errno, list, cause, part) in [
        (
            350,
            -12,
            "4@572+7@585+346@1702=> 357 free of 2048 total pages",
            Cause::Fragmented,
            "357 of 2048 pages are free, but the longest free run has 346 pages",
        ),
        (
            400,
            -12,
            "4@572+7@585+346@1702=> 357 free of 2048 total pages",
            Cause::Full,
            "only 357 of 2048 pages are free",
        ),
        (
            300,
            -12,
            "4@572+346@1702=> 350 free of 2048 total pages",
            Cause::Misaligned,
            "begins at a multiple of 256 pages, and the longest free run from such a page on has 256 pages",
        ),
        (64, -12, "63@1=> 63 free of 2048 total pages", Cause::Full, "only 63 of"),
        (
            16,
            -12,
            "30@1=> 30 free of 2048 total pages",
            Cause::Misaligned,
            "a multiple of 16 pages, and the longest free run from such a page on has 15 pages",
        ),
        (3000, -12, "", Cause::LargerThanWindow, "the window has only 2048 pages"),
        (
            64,
            -16,
            "300@256=> 300 free of 2048 total pages",
            Cause::Busy,
            "a free run is long enough, so pages in it could not be moved away",
        ),
        (64, -16, "30@256=> 30 free of 2048 total pages", Cause::Busy, "has no run of this length any more"),
        (
            64,
            -12,
            "300@256=> 300 free of 2048 total pages",
            Cause::NoMemoryToMigrate,
            "there was no memory to move its pages to",
        ),
        (64, -4, "", Cause::Killed, "a signal ended the process"),
        (64, -16, "", Cause::Busy, "could not be moved away"),
        (64, -12, "", Cause::Unknown, "does not show which pages were free"),
        (64, -12, "1@0+2@ => 40 free of 2048 total pages", Cause::Full, "only 40 of 2048 pages are free"),
        (64, -12, "1@0+2@", Cause::Unknown, "its longest run has 1 page, as far as it goes"),
        (64, -22, "", Cause::Unknown, "-22 has nothing to do with"),
    ] {
        let diagnosis = failed(pages, errno, list);
        let case = &diagnosis.cases[0];
        assert_eq!(case.cause, cause, "{pages} {errno} {list}: {}", case.sentence);
        assert!(case.sentence.contains(part), "{pages} {errno} {list}: {}", case.sentence);
        assert!(diagnosis.is_wrong() && diagnosis.summary[0].contains(&case.sentence));
    }
}

#[test]
fn an_answer_means_what_it_means_in_its_version() {
    let list = "cma: number of available pages: \ncma: range 0: +30@1\ncma: \n=> 30 free of 2048 total pages";
    let failure = "cma: __cma_alloc_frozen: isp: alloc failed, req-size: 64 pages, ret:";
    let diagnosis = diagnose(&format!("Linux version 7.2.1\n{failure} -16\n{list}"));
    assert_eq!((diagnosis.cases[0].cause, diagnosis.rules), (Cause::Full, Rules::V7_2));
    assert!(diagnosis.cases[0].meaning.contains("since 6.15 both are -16"));
    let diagnosis = diagnose(&format!("Linux version 7.2.1\n{failure} -12"));
    assert_eq!(diagnosis.cases[0].cause, Cause::NoMemoryToMigrate);
}

#[test]
fn remedies_come_in_order_and_work() {
    let diagnosis = failed(300, -12, "4@572+346@1702=> 350 free of 2048 total pages");
    let case = &diagnosis.cases[0];
    let efforts: Vec<_> = case.remedies.iter().map(|remedy| remedy.effort).collect();
    assert!(efforts.is_sorted(), "{efforts:?}");
    assert_eq!(
        efforts,
        [
            Effort::Program,
            Effort::Program,
            Effort::Program,
            Effort::CommandLine,
            Effort::DeviceTree,
            // The run from page 1702 on has 320 pages from a multiple of 64 on.
            Effort::Kernel
        ]
    );
    let text = diagnosis.to_string();
    for part in [
        "at most 256 pages (1 MiB) fit at this alignment",
        "a window of at least 10M, if its node has linux,cma-default: cma=10M takes its place",
        "CONFIG_CMA_ALIGNMENT=6",
        "Window: linux,cma, 8M at 0x3b400000",
        "Missing: the device tree",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A window of 10 MiB has room for it.
    let larger = "Reserved memory: created CMA memory pool at 0x000000003b400000, size 10 MiB
        cma: cma_alloc: alloc failed, req-size: 300 pages, ret: -12
        cma: number of available pages: 4@572+858@1702=> 862 free of 2560 total pages";
    assert_eq!(diagnose(larger).cases[0].cause, Cause::NoMemoryToMigrate);
}

#[test]
fn failures_over_time() {
    let text = format!(
        "{WINDOW}
[ 10.0] cma: cma_alloc: linux,cma: alloc failed, req-size: 1013 pages, ret: -12
[ 10.0] cma: number of available pages: 100@0+800@1000=> 900 free of 2048 total pages
[ 20.0] cma: cma_alloc: linux,cma: alloc failed, req-size: 1013 pages, ret: -12
[ 20.0] cma: number of available pages: 100@0+700@1100=> 800 free of 2048 total pages
[ 90.0] cma: cma_alloc: linux,cma: alloc failed, req-size: 1013 pages, ret: -12
[ 90.0] cma: number of available pages: 50@50+300@1500=> 350 free of 2048 total pages"
    );
    let diagnosis = diagnose(&text);
    let [case] = &diagnosis.cases[..] else { panic!("{diagnosis}") };
    assert_eq!((case.count, case.first, case.last), (3, Some(10.0), Some(90.0)));
    assert_eq!(
        diagnosis.windows[0].history,
        [
            "900 pages were free at 10.0 s, the longest run 800 pages; 350 at 90.0 s, the longest run 300 pages",
            "1148 pages are in use in all 3 lists",
            "550 more pages are in use at the last failure than at the first: buffers that are not freed would look like this",
        ]
    );
}

#[test]
fn a_question_about_the_last_state() {
    let log = format!(
        "{WINDOW}cma: cma_alloc: linux,cma: alloc failed, req-size: 350 pages, ret: -12
        cma: number of available pages: 4@572+7@585+346@1702=> 357 free of 2048 total pages"
    );
    let board = Board::of_log(&log).unwrap();
    let ask = |pages, align| {
        Diagnosis::of(&board, &Question { pages: Some(pages), align, window: None }).cases[1].clone()
    };
    assert_eq!((ask(200, None).errno, ask(300, None).errno, ask(300, Some(0)).errno), (0, -12, 0));
    assert_eq!(ask(350, None).cause, Cause::Fragmented);
    assert!(ask(200, None).remedies.is_empty());
}

#[test]
fn a_page_has_all_of_it_and_no_markup_of_the_log() {
    let log = format!(
        "{WINDOW}Machine model: <script>alert(1)</script> & co
        cma: cma_alloc: linux,cma<b>: alloc failed, req-size: 350 pages, ret: -12
        cma: Failed to reserve 512 MiB<img>"
    );
    let page = diagnose(&log).to_html();
    for part in
        ["&lt;script&gt;alert(1)", "linux,cma&lt;b&gt;", "found no room for the default window", "</html>"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("http"), "{page}");
    let page = failed(350, -12, "4@572+346@1702=> 350 free of 2048 total pages").to_html();
    assert!(page.contains("<svg ") && page.contains("<ol>"), "{page}");
}

#[test]
fn files_of_two_boards_are_refused() {
    let of = |log: &str| Board::of_log(log).map(|_| ()).unwrap_err();
    let failure = "cma: cma_alloc: linux,cma: alloc failed, req-size: 4 pages, ret: -12
        cma: number of available pages: 3@0=> 3 free of 4096 total pages";
    let error = of(&format!("{WINDOW}{failure}"));
    assert!(matches!(&error, BoardError::OtherSize { listed: 4096, pages: 2048, .. }), "{error}");
    assert!(
        error.to_string().starts_with("the files are of two boards or boots: line 4 of the log is about")
    );
}

#[test]
fn a_question_without_an_answer_is_said() {
    let board = Board::of_log(WINDOW.trim())
        .map(|board| Diagnosis::of(&board, &Question { pages: Some(300), ..Question::default() }));
    let missing = board.unwrap().missing;
    assert!(
        missing.iter().any(|what| what.ends_with("so nothing is said about a request for 300 pages")),
        "{missing:?}"
    );
}
