//! Tests that boot other kernels than that of the default image: on aarch64 Debian's unmodified kernel, and ours with pages of
//! 64 KiB. If TEST_KERNEL names a release of our kernel, they boot that release instead.

use cma::area::Area;
use guest_images::{Arch, Kind, Release};
use tests::{
    compliance,
    guest::{IN_WINDOW, exec, printed, stream, text},
    harness::{Extent, Group, Place, Test},
    kernels, tests,
};
use vmm::arch;

use crate::rkisp1;

/// The tests of a release of our kernel.
pub(crate) fn of_release(release: Release) -> Group {
    Group {
        name: "other_kernels",
        place: Place::Linux(vec![Kind::Default(release)]),
        tests: tests![
            the_release_has_its_window_from_the_tree,
            the_release_streams_right,
            the_release_passes_v4l2_compliance,
            the_release_says_what_the_model_says,
        ],
    }
}

/// The tests of Debian's kernel, if `arch` has such an image.
pub(crate) fn debian(arch: &Arch) -> Group {
    let mut tests = tests![
        debian_has_its_window_from_the_tree,
        debian_streams_right,
        debian_passes_v4l2_compliance,
        debian_streams_from_rkisp1,
    ];
    let long = tests![debian_streams_from_rkisp1_in_every_format];
    tests.extend(long.into_iter().map(Test::only_if_thorough));
    group(arch, Kind::Debian, tests)
}

/// The tests of our kernel with pages of 64 KiB, if `arch` has such an image.
pub(crate) fn large_pages(arch: &Arch) -> Group {
    let tests = tests![
        large_pages_make_large_pageblocks,
        large_pages_stream_right,
        a_window_of_a_part_of_a_pageblock,
    ];
    group(arch, Kind::Large(Release::V6_1), tests)
}

fn group(arch: &Arch, kind: Kind, tests: Vec<Test>) -> Group {
    let tests = if arch.kinds.contains(&kind) { tests } else { Vec::new() };
    Group { name: "other_kernels", place: Place::Linux(vec![kind]), tests }
}

/// minivmm's argument for the requested release.
fn image() -> String {
    kernels::image(Kind::Default(kernels::release()))
}

fn the_release_has_its_window_from_the_tree() {
    let command =
        "uname -sr; grep Cma /proc/meminfo; dmesg | grep -i -e cma -e 'reserved mem'; ls /dev/dma_heap";
    let output = printed(&exec(&format!("{} --cma 256M", image()), command));
    let version = format!("Linux {}.", kernels::release().name());
    for line in [
        version.as_str(),
        "CmaTotal:         262144 kB",
        "Reserved memory: created CMA memory pool at 0x",
        ", size 256 MiB",
        "compatible id shared-dma-pool",
        "assigned reserved memory node cma0@",
        "\ncma0@",
    ] {
        assert!(output.contains(line), "{line:?} is missing in\n{output}");
    }
}

fn the_release_streams_right() {
    let streams = [("YUYV", 640, 480, 10), ("NV12", 1920, 1080, 8)];
    stream(&format!("{} --cma 256M --cpus 2 --camera timing=stall", image()), &streams);
}

/// Debian 12's v4l2-compliance treats max_num_buffers, which exists since 6.8 (struct v4l2_create_buffers in
/// include/uapi/linux/videodev2.h), as a reserved field. It finds no other error.
fn the_release_passes_v4l2_compliance() {
    let newer = "v4l2-test-buffers.cpp(703): check_0(crbufs.reserved, sizeof(crbufs.reserved))";
    let known: &[&str] = if kernels::release() == Release::V6_1 { &[] } else { &[newer] };
    compliance::passes(&image(), known);
}

/// All kernel messages of each kind of refusal, without the line breaks that printk inserts.
fn the_release_says_what_the_model_says() {
    let base = arch::ram(1 << 30)[0].start + 0x2000_0000;
    let command = "cd /sys/kernel/debug/cma/isp@*
        for pages in 100 28 200; do echo $pages > alloc; done
        echo 128 > free
        dmesg -c > /dev/null
        for pages in 0 4097 3800; do echo $pages > alloc; dmesg -c | grep -v 'cma_alloc(' | sed 's/^\\[[^]]*\\] //'; echo .; done 2> /dev/null";
    let arguments = format!("{} --camera none --cma 16M,default --cma 16M,name=isp,base={base:#x}", image());
    let said = printed(&exec(&arguments, command));
    let rules = kernels::rules(kernels::release());
    let mut area = Area::of_ranges(&format!("isp@{base:x}"), &[(base / cma::PAGE_SIZE, 4096)], 0, rules)
        .expect("there is such an area");
    for pages in [100, 28, 200] {
        area.alloc(pages, 0).expect("the window is larger");
    }
    // This frees the first 128 pages of the last allocation, which has 200 (mm/cma_debug.c, cma_free_mem).
    area.release(base / cma::PAGE_SIZE + 128, 128);
    let mut model = String::new();
    for pages in [0, 4097, 3800] {
        let refused = area.alloc(pages, 0).expect_err("there is no such run");
        area.dmesg(&refused).iter().for_each(|line| model += &format!("{line}\n"));
        model += ".\n";
    }
    assert_eq!(said, model);
    println!("{said}");
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
    let cpus = Extent::asked().cpus();
    stream(&format!("--image debian --cma 256M --cpus {cpus} --camera timing=stall"), &streams);
}

fn debian_passes_v4l2_compliance() {
    compliance::passes("--image debian", &[]);
}

fn debian_streams_from_rkisp1() {
    rkisp1::streams_by_both_paths("--image debian");
}

fn debian_streams_from_rkisp1_in_every_format() {
    rkisp1::streams_in_every_format("--image debian");
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
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    let said = "not a multiple of the guest's pageblock of 512M";
    assert!(text(&refused.stderr).contains(said), "{refused:?}");
}

fn large_pages_stream_right() {
    let streams = [("YUYV", 640, 480, 10), ("NV12", 1920, 1080, 8)];
    stream("--image 64k --memory 2G --cma 512M --cpus 2 --camera timing=stall", &streams);
}

/// If minivmm assumes too small a pageblock, the guest has no window (rmem_cma_setup in kernel/dma/contiguous.c).
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
