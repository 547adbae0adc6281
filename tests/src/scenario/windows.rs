//! Scenarios about windows: how Linux learns of them, and which devices use them.

use std::process::Command;

use guest_images::{Arch, Kind, Release};
use vmm::arch;

use super::{Fields, Observation, Scenario};
use crate::guest;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "reusable-makes-the-window",
        claim: "compatible = \"shared-dma-pool\" and reg are enough for a CMA window",
        truth: "without `reusable` it is a carveout (kernel/dma/coherent.c, rmem_dma_setup), which no device can use, because the \
                kernel maps it as RAM (kernel/iomem.c, memremap); a node with `reusable` and `no-map` has no effect \
                (kernel/dma/contiguous.c, rmem_cma_setup). `minivmm check` reports both",
        play: reusable_makes_the_window,
    },
    Scenario {
        name: "the-unit-of-a-window",
        claim: "a window can have any size and address that is a multiple of a page",
        truth: "base and size must be multiples of a pageblock (kernel/dma/contiguous.c, rmem_cma_setup): 4 MiB on \
                x86 without huge pages, 2 MiB with huge pages, 512 MiB with 64 KiB pages",
        play: the_unit_of_a_window,
    },
    Scenario {
        name: "the-command-line-overrules",
        claim: "cma= on the command line adds a window to that of the device tree",
        truth: "cma= replaces the node with linux,cma-default (kernel/dma/contiguous.c, rmem_cma_setup): there is one window, \
                with another name",
        play: the_command_line_overrules,
    },
    Scenario {
        name: "the-kernel-chooses-a-place",
        claim: "a window has a fixed address",
        truth: "the kernel chooses the address of a node with size and alloc-ranges instead of reg \
                (drivers/of/of_reserved_mem.c, __reserved_mem_alloc_size), at a multiple of its alignment",
        play: the_kernel_chooses_a_place,
    },
    Scenario {
        name: "the-device-has-its-own",
        claim: "the kernel chooses a window by mask and node, and a device can get memory from any window",
        truth: "dma_alloc_contiguous uses the device's own window (memory-region), and the default window only for devices \
                without one (kernel/dma/contiguous.c)",
        play: the_device_has_its_own,
    },
    Scenario {
        name: "a-full-window-falls-back",
        claim: "when a device's window is full, its buffers come from the default window, or the allocation fails",
        truth: "they come from the buddy allocator, up to its largest block, and the default window is not used \
                (kernel/dma/direct.c, __dma_direct_alloc_pages)",
        play: a_full_window_falls_back,
    },
    Scenario {
        name: "out-of-the-mask",
        claim: "an allocation fails if the device cannot address its window",
        truth: "the kernel allocates from the window, checks the address, frees the memory again, and uses other memory that the \
                device can reach (kernel/dma/direct.c, dma_coherent_ok)",
        play: out_of_the_mask,
    },
];

fn reusable_makes_the_window() -> Vec<Observation> {
    let script = "echo total=$(meminfo CmaTotal)
                  echo pool=$(said 'created DMA memory pool'); echo refused=$(said 'compatible matching fail')";
    let mut observations = Vec::new();
    for (spec, total, pool, refused) in
        [("64M", 65_536, "no", "no"), ("64M,not-reusable", 0, "yes", "no"), ("64M,no-map", 0, "no", "yes")]
    {
        let fields = Fields::of(&format!("--camera none --cma {spec}"), script);
        observations.extend([
            Observation::new(format!("--cma {spec}: CmaTotal in kB"), total, fields.number("total")),
            Observation::new(format!("--cma {spec}: a coherent pool"), pool, fields.text("pool")),
            Observation::new(
                format!("--cma {spec}: \"compatible matching fail\""),
                refused,
                fields.text("refused"),
            ),
        ]);
    }
    let fields = Fields::of(
        "--cma 64M,name=isp,not-reusable --camera window=isp",
        "echo ram=$(said 'memremap attempted on ram'); [ -e /dev/video0 ] && echo camera=yes || echo camera=no",
    );
    observations.extend([
        Observation::new(
            "the camera's window is not reusable: \"memremap attempted on ram\"",
            "yes",
            fields.text("ram"),
        ),
        Observation::new("the camera's window is not reusable: /dev/video0", "no", fields.text("camera")),
    ]);
    observations
}

fn the_unit_of_a_window() -> Vec<Observation> {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let tree = folder.path().join("tree.dtb");
    let mut observations = Vec::new();
    // minivmm gets half the pageblock, so that it does not refuse the window itself.
    let mut look = |image: &str, unit: u64, size: u64| {
        let machine = format!(
            "--image {image} --memory 2G --camera none --cma {size}M,align={unit}M --pageblock {}M",
            unit / 2
        );
        let minivmm = || Command::new(guest::minivmm());
        let words = machine.split_whitespace();
        guest::printed(&guest::run(minivmm().arg("dtb").args(words).arg("--out").arg(&tree)));
        let unit = format!("{unit}M");
        let check = guest::run(minivmm().args(["check", "--json", "--pageblock", &unit]).arg(&tree));
        let check: serde_json::Value = serde_json::from_slice(&check.stdout).expect("check prints JSON");
        let (total, refused) = match check["regions"][0]["outcome"].as_str() {
            Some("cma_pool") => (size << 10, "no"),
            Some("refused") => (0, "yes"),
            other => panic!("check has {other:?} for the window"),
        };
        let fields = Fields::of(
            &machine,
            "echo total=$(meminfo CmaTotal); echo refused=$(said 'incorrect alignment of CMA region')",
        );
        let window = format!("{image}, pageblock {unit}, --cma {size}M");
        observations.extend([
            Observation::new(format!("{window}: CmaTotal in kB"), total, fields.number("total")),
            Observation::new(
                format!("{window}: \"incorrect alignment of CMA region\""),
                refused,
                fields.text("refused"),
            ),
        ]);
    };
    look("default", 4, 64);
    look("default", 4, 66);
    let large = Kind::Large(Release::ALL[0]);
    if guest_images::current(Arch::host(), large).is_some() {
        look("64k", 512, 512);
        look("64k", 512, 256);
    } else if Arch::host().kinds.contains(&large) {
        eprintln!("The image 64k is not built: PAGES OF THAT SIZE ARE NOT TESTED.");
    }
    observations
}

fn the_command_line_overrules() -> Vec<Observation> {
    let script = "echo total=$(meminfo CmaTotal); echo bypass=$(said 'using cmdline CMA params instead')
                  cd /sys/kernel/debug/cma; echo names=$(ls -d * | sed 's/@.*//')
                  v4l2-ctl --stream-mmap=3 --stream-count=2 > /dev/null 2>&1 && echo streamed=true";
    let mut observations = Vec::new();
    for (mode, bypass, names) in
        [("dt", "no", "cma0"), ("cmdline", "no", "reserved"), ("both", "yes", "reserved")]
    {
        let fields = Fields::of(&format!("--cma 64M --cma-mode {mode} --camera timing=stall"), script);
        observations.extend([
            Observation::new(format!("{mode}: CmaTotal in kB"), 65_536, fields.number("total")),
            Observation::new(format!("{mode}: \"bypass cma0 node\""), bypass, fields.text("bypass")),
            Observation::new(format!("{mode}: areas"), names, fields.text("names")),
            Observation::new(format!("{mode}: the camera streams"), "true", fields.text("streamed")),
        ]);
    }
    observations
}

fn the_kernel_chooses_a_place() -> Vec<Observation> {
    let start = arch::ram(1 << 30)[0].start + (512 << 20);
    let end = start + (256 << 20);
    let fields = Fields::of(
        &format!(
            "--cma 16M,default --cma 32M,name=isp,align=64M,alloc-ranges={start:#x}-{end:#x} \
             --camera window=isp,timing=stall"
        ),
        "echo base=$(cat $(window isp)/base_pfn); echo count=$(cat $(window isp)/count)
         v4l2-ctl --stream-mmap=3 --stream-count=2 > /dev/null 2>&1 && echo streamed=true",
    );
    let base = fields.number("base") * cma::PAGE_SIZE;
    vec![
        Observation::new("pages", (32 << 20) / cma::PAGE_SIZE, fields.number("count")),
        Observation::new("the address is in the range", true, base >= start && base + (32 << 20) <= end),
        Observation::new("its remainder by 64 MiB", 0, base % (64 << 20)),
        Observation::new("the camera streams", "true", fields.text("streamed")),
    ]
}

/// A script that allocates buffers of the camera and keeps them. It prints the used pages of both windows, and the addresses of
/// the buffers.
fn buffers(count: u32, width: u32, height: u32) -> String {
    format!(
        "echo default_before=$(cat $(window cma0)/used)
         v4l2-ctl -v width={width},height={height},pixelformat=YUYV --stream-mmap={count} --stream-count=1 \
             > /dev/null 2>&1 & sleep 1
         echo default=$(cat $(window cma0)/used)
         [ -e $(window isp)/used ] && echo isp=$(cat $(window isp)/used)
         set -- $(cat /sys/kernel/debug/minivmm-camera/*/extent); echo first=$(($1)); echo end=$(($2))"
    )
}

fn the_device_has_its_own() -> Vec<Observation> {
    let base = arch::ram(1 << 30)[0].start + (512 << 20);
    let fields = Fields::of(
        &format!("--cma 64M,default --cma 64M,name=isp,base={base:#x} --camera window=isp,fps=0.1"),
        &buffers(4, 1920, 1080),
    );
    let inside = fields.number("first") >= base && fields.number("end") <= base + (64 << 20);
    vec![
        // 1920 x 1080 x 2 bytes are 1013 pages.
        Observation::new("pages of the device's window", 4 * 1013, fields.number("isp")),
        Observation::new(
            "pages more of the default window",
            0,
            fields.number("default") - fields.number("default_before"),
        ),
        Observation::new("all buffers are in the device's window", true, inside),
    ]
}

fn a_full_window_falls_back() -> Vec<Observation> {
    let base = arch::ram(1 << 30)[0].start + (512 << 20);
    let fields = Fields::of(
        &format!("--cma 64M,default --cma 4M,name=isp,base={base:#x} --camera window=isp,fps=0.1"),
        &buffers(16, 640, 480),
    );
    let window = cma::Window { name: "isp".into(), base, size: 4 << 20, ..Default::default() };
    let area = cma::area::Area::of_window(&window, 0, cma::area::Rules::V6_1).expect("the window is an area");
    let (pages, align) = (150, cma::area::dma_alignment(640 * 480 * 2));
    let outside = fields.number("first") < base || fields.number("end") > base + (4 << 20);
    vec![
        Observation::new(
            "pages of the device's window",
            area.fits(pages, align) * pages,
            fields.number("isp"),
        ),
        Observation::new("other buffers are outside it", true, outside),
        Observation::new(
            "pages more of the default window",
            0,
            fields.number("default") - fields.number("default_before"),
        ),
    ]
}

fn out_of_the_mask() -> Vec<Observation> {
    let base = 1_u64 << 32;
    let fields = Fields::of(
        &format!(
            "--memory 4G --cma 16M,default --cma 64M,name=isp,base={base:#x} --camera window=isp,fps=0.1"
        ),
        &format!("{}; echo granted=$(cat /sys/kernel/mm/cma/isp*/alloc_pages_success)", buffers(4, 640, 480)),
    );
    let reachable = fields.number("first") > 0 && fields.number("end") <= base;
    vec![
        Observation::new("pages that the window granted", 4 * 150, fields.number("granted")),
        Observation::new("pages of it that are still allocated", 0, fields.number("isp")),
        Observation::new("the buffers are below 4 GiB", true, reachable),
    ]
}
