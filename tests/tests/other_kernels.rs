//! Tests that boot other kernels than the default image's, which aarch64 has: Debian's own, unmodified, and ours with
//! pages of 64 KiB. Their main function is as in linux.rs.

use std::process::ExitCode;

use guest_images::Kind;
use tests::{
    guest::{IN_WINDOW, exec, printed, stream, text},
    harness,
};

fn main() -> ExitCode {
    if !cfg!(target_arch = "aarch64") {
        eprintln!("There are no other kernels for this architecture.");
        return ExitCode::SUCCESS;
    }
    let tests: &[harness::Test] = &[
        ("debian_has_its_window_from_the_tree", debian_has_its_window_from_the_tree),
        ("debian_streams_right", debian_streams_right),
        ("debian_passes_v4l2_compliance", debian_passes_v4l2_compliance),
        ("large_pages_make_large_pageblocks", large_pages_make_large_pageblocks),
        ("large_pages_stream_right", large_pages_stream_right),
        ("a_window_of_a_part_of_a_pageblock", a_window_of_a_part_of_a_pageblock),
    ];
    harness::run_with_linux(&[Kind::Debian, Kind::Large], tests)
}

fn debian_has_its_window_from_the_tree() {
    let command = "uname -v; grep Cma /proc/meminfo; dmesg | grep -i -e cma -e 'reserved mem'; lsmod";
    let output = printed(&exec("--image debian --cma 256M", command));
    for line in [
        " Debian ",
        "CmaTotal:         262144 kB",
        "Reserved memory: created CMA memory pool at 0x",
        ", size 256 MiB",
        "compatible id shared-dma-pool",
        "assigned reserved memory node cma0@",
        "videobuf2_dma_contig ",
    ] {
        assert!(output.contains(line), "{line} is missing in\n{output}");
    }
}

fn debian_streams_right() {
    let streams = [("YUYV", 640, 480, 10), ("NV12", 1920, 1080, 8)];
    stream("--image debian --cma 256M --cpus 2 --camera timing=stall", &streams);
}

fn debian_passes_v4l2_compliance() {
    let command = "v4l2-compliance -d /dev/video0 -s 2>&1";
    let output = exec("--image debian --cma 256M --camera timing=free,fps=10", command);
    let log = text(&output.stdout);
    let summary = log.lines().last().unwrap_or_default();
    assert!(output.status.success() && summary.contains("Failed: 0"), "{}", log.replace('\r', "\n"));
    println!("{summary}");
}

fn large_pages_make_large_pageblocks() {
    let command =
        "grep -m 1 KernelPageSize /proc/self/smaps; grep Cma /proc/meminfo; dmesg | grep 'Reserved memory'
        v4l2-ctl --stream-mmap=3 --stream-count=2 > /dev/null 2>&1; in_window cma0";
    let output = printed(&exec("--image 64k --memory 2G --cma 512M", &format!("{IN_WINDOW}{command}")));
    for line in ["KernelPageSize:       64 kB", "CmaTotal:         524288 kB", ", size 512 MiB"] {
        assert!(output.contains(line), "{line} is missing in\n{output}");
    }
    let refused = exec("--image 64k --cma 64M", "true");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = "not a multiple of the guest's pageblock of 512M";
    assert!(text(&refused.stderr).contains(said), "{refused:?}");
}

fn large_pages_stream_right() {
    let streams = [("YUYV", 640, 480, 10), ("NV12", 1920, 1080, 8)];
    stream("--image 64k --memory 2G --cma 512M --cpus 2 --camera timing=stall", &streams);
}

/// Who takes the pageblock for smaller than it is gets no window (rmem_cma_setup in kernel/dma/contiguous.c).
fn a_window_of_a_part_of_a_pageblock() {
    let command = "dmesg | grep -i 'reserved mem'; grep CmaTotal /proc/meminfo";
    let output = printed(&exec("--image 64k --pageblock 4M --memory 2G --cma 64M", command));
    for line in [
        "Reserved memory: incorrect alignment of CMA region",
        "compatible matching fail",
        "CmaTotal:              0 kB",
    ] {
        assert!(output.contains(line), "{line} is missing in\n{output}");
    }
}
