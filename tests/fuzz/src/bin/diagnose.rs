//! No kernel log and no archive of a board make `minivmm diagnose` panic, and what it says of them has printable characters. An archive
//! does not become larger than the limits.

#![no_main]

use std::path::Path;

use cma::board::{Board, Diagnosis, Question};
use fuzz::Start;
use vmm::cli::diagnose::archive::{self, Limits};

/// The limits of a run, so that it is fast.
const LIMITS: Limits = Limits { bytes: 1 << 16, files: 64 };

const LOGS: [&str; 3] = [
    "[ 0.0] Linux version 6.1.21-v8+ (aarch64-linux-gnu-gcc)\n\
     [ 0.0] Reserved memory: created CMA memory pool at 0x000000003b400000, size 8 MiB\n\
     [ 0.0] OF: reserved mem: initialized node linux,cma, compatible id shared-dma-pool\n\
     [ 9.0] alloc_contig_range: [3b400, 3b500) PFNs busy\n\
     [ 9.0] cma: cma_alloc: linux,cma: alloc failed, req-size: 350 pages, ret: -12\n\
     [ 9.0] cma: number of available pages: 4@572+7@585\n\
     [ 9.0] +346@1702=> 357 free of 2048 total pages\n\
     MemTotal: 3884564 kB\nCmaTotal: 8192 kB\nCmaFree: 1428 kB\n",
    "> cma: Reserved 32 MiB in 2 ranges\r\n\
     > cma: __cma_alloc_frozen: isp@60000000: alloc failed, req-size: 760 pages, ret: -16\r\n\
     > cma: number of available pages: \r\n> cma: range 0: 4@0+6@10\r\n> cma: \r\n> cma: range 1: +8@24\r\n> cma: \r\n\
     > =&gt; 18 free of 8192 total pages\r\n",
    "cma: Failed to reserve 512 MiB\ncma: __cma_alloc: reserved: alloc failed,\nreq-size: 64 pages, ret: -4\n",
];

/// A file of a tar archive, as POSIX has it.
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn seeds() -> Vec<Vec<u8>> {
    let files: [(&str, &[u8]); 12] = [
        ("board/dmesg", LOGS[0].as_bytes()),
        ("board/uname", b"6.1.21-v8+ aarch64\n"),
        ("board/page_size", b"4096\n"),
        ("board/cmdline", b"cma=8M quiet\n"),
        ("board/iomem", b"00000000-3fffffff : System RAM\n"),
        ("board/missing", b"no debugfs\n"),
        ("board/cma/linux,cma/base_pfn", b"242688\n"),
        ("board/cma/linux,cma/count", b"2048\n"),
        ("board/cma/linux,cma/order_per_bit", b"0\n"),
        ("board/cma/linux,cma/bitmap", &b"4294967295 ".repeat(64)),
        ("board/device-tree/model", b"A board\0"),
        ("board/device-tree/memory@0/device_type", b"memory\0"),
    ];
    let mut archive: Vec<u8> = files.iter().flat_map(|(name, content)| entry(name, content)).collect();
    archive.extend([0; 1024]);
    let cut = archive[..3000].to_vec();
    LOGS.iter().map(|log| log.as_bytes().to_vec()).chain([archive, cut]).collect()
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let Ok(contents) = archive::of_bytes(bytes, Path::new("board"), LIMITS) else { return };
    assert!(contents.files.len() <= LIMITS.files);
    let is_printable = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
    match Board::of_files(&contents.files) {
        Ok(board) => {
            // The bitmaps of large windows are slow to draw, and not wrong.
            if board.windows.iter().any(|window| window.size > 1 << 32)
                || board
                    .log
                    .failures
                    .iter()
                    .filter_map(|failure| failure.listing.as_ref()?.total)
                    .any(|pages| pages > 1 << 20)
            {
                return;
            }
            let question = Question { pages: Some(64), ..Question::default() };
            let diagnosis = Diagnosis::of(&board, &question);
            let (text, page) = (diagnosis.to_string(), diagnosis.to_html());
            assert!(is_printable(&text), "{text:?}");
            assert!(page.ends_with("</html>\n") && !page.contains("<script"), "{page:?}");
        }
        Err(error) => assert!(is_printable(&error.to_string()), "{error:?}"),
    }
});
