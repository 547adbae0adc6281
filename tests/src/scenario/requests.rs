//! Scenarios about requests: their path through the kernel, the number that fit, and what a bitmap shows.

use std::process::Command;

use super::{Fields, Observation, Scenario, middle_window};
use crate::guest;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the-path-of-a-request",
        claim: "dma_alloc_coherent calls dma_alloc_from_contiguous, which calls cma_alloc",
        truth: "dma_alloc_attrs -> dma_direct_alloc -> dma_alloc_contiguous -> cma_alloc (kernel/dma/mapping.c, direct.c, \
                contiguous.c); dma_alloc_from_contiguous is for the atomic pools (kernel/dma/pool.c)",
        play: the_path_of_a_request,
    },
    Scenario {
        name: "how-many-buffers-fit",
        claim: "a window of 64 MiB has room for 64 MiB of buffers",
        truth: "each buffer is aligned to its order, up to 1 MiB (CONFIG_CMA_ALIGNMENT 8), and the gaps are lost; \
                `minivmm model --frames` computes the number",
        play: how_many_buffers_fit,
    },
    Scenario {
        name: "the-bitmap-tells-why",
        claim: "the bitmap in debugfs does not explain a failure",
        truth: "the search depends only on the bitmap: `minivmm model --import` of a copy answers each request as the kernel does",
        play: the_bitmap_tells_why,
    },
];

fn the_path_of_a_request() -> Vec<Observation> {
    let fields = Fields::of(
        "--cma 64M --camera timing=stall",
        "t=/sys/kernel/debug/tracing
         echo 1 > $t/options/stacktrace; echo 1 > $t/events/cma/cma_alloc_start/enable
         v4l2-ctl --stream-mmap=3 --stream-count=1 > /dev/null 2>&1
         # The first stack, with the innermost function first. The compiler appends a suffix to functions that it split.
         sed -n '/=> cma_alloc/,/=> vb2_dc_alloc/ s/^ => \\([a-z0-9_]*\\).*/\\1/p; /=> vb2_dc_alloc/ q' $t/trace > /tmp/stack
         for name in vb2_dc_alloc dma_alloc_attrs dma_direct_alloc dma_alloc_contiguous cma_alloc; do
             echo $name=$(grep -n -m 1 -x $name /tmp/stack | cut -d : -f 1)
         done
         echo other=$(grep -c dma_alloc_from_contiguous $t/trace)",
    );
    let names = ["vb2_dc_alloc", "dma_alloc_attrs", "dma_direct_alloc", "dma_alloc_contiguous", "cma_alloc"];
    let depths = names.map(|name| fields.number(name));
    let mut observations: Vec<_> = names
        .windows(2)
        .zip(depths.windows(2))
        .map(|(names, depths)| {
            Observation::new(format!("{} is below {}", names[0], names[1]), true, depths[0] > depths[1])
        })
        .collect();
    observations.push(Observation::new("stacks with dma_alloc_from_contiguous", 0, fields.number("other")));
    observations
}

/// The first object that `minivmm model --json` prints for `arguments`.
fn model(arguments: &[&str]) -> serde_json::Value {
    let printed = guest::run(Command::new(guest::minivmm()).args(["model", "--json"]).args(arguments));
    let printed = guest::printed(&printed);
    let answers: serde_json::Value = serde_json::from_str(&printed).expect("the model prints JSON");
    answers[0].clone()
}

fn how_many_buffers_fit() -> Vec<Observation> {
    // This is not the default window, from which arm64 allocates its atomic pools (kernel/dma/pool.c).
    let window = middle_window("isp", 64 << 20, false);
    let spec = format!("64M,name=isp,base={:#x}", window.base);
    let sizes =
        [("1080p:YUYV", "YUYV"), ("1080p:NV12", "NV12"), ("1080p:RGB24", "RGB3"), ("720p:YUYV", "YUYV")];
    let models = sizes.map(|(frames, _)| model(&["--window", &spec, "--frames", frames]));
    let number = |model: &serde_json::Value, name: &str| {
        model[name].as_u64().unwrap_or_else(|| panic!("no {name} in {model}"))
    };
    // v4l2-ctl requests one buffer more than fits, and the kernel takes that from other memory. More would exceed the kernel's
    // limit of messages (pr_err_ratelimited). A queue has at most 32 buffers: if more fit, one more buffer is requested by debugfs.
    let fill = |((index, model), fourcc): ((usize, &serde_json::Value), &str)| {
        format!(
            "dmesg -c > /dev/null
             v4l2-ctl -v width={},height={},pixelformat={fourcc} --stream-mmap={} --stream-count=1 \
                 > /dev/null 2>&1 &
             # Waits until the allocation is finished.
             used=0; until [ $used -gt 0 ] && [ $used = $(cat $w/used) ]; do used=$(cat $w/used); sleep 0.5; done
             echo used{index}=$used
             [ $(said 'alloc failed') = yes ] || echo {} > $w/alloc 2> /dev/null
             dmesg | grep -oE 'cma: .*(alloc failed|available pages).*' > /tmp/said
             echo failed{index}=$(sed -n 1p /tmp/said); echo runs{index}=$(sed -n 2p /tmp/said)
             kill $!; wait\n",
            number(model, "width"),
            number(model, "height"),
            32.min(number(model, "fits") + 1),
            number(model, "pages"),
        )
    };
    let fourccs = sizes.map(|(_, fourcc)| fourcc);
    let script: String = models.iter().enumerate().zip(fourccs).map(fill).collect();
    let fields = Fields::of(
        &format!("--cma 16M,default --cma {spec} --camera window=isp,fps=0.1"),
        &format!("w=$(window isp)\n{script}"),
    );
    let mut observations = Vec::new();
    for (index, (model, (frames, _))) in models.iter().zip(sizes).enumerate() {
        let (pages, fits) = (number(model, "pages"), number(model, "fits"));
        let dmesg = |line: usize| model["dmesg"][line].as_str().unwrap_or_default().to_owned();
        let used = fields.number(&format!("used{index}"));
        observations.extend([
            Observation::new(format!("{frames}: buffers of {pages} pages"), fits, used / pages),
            Observation::new(format!("{frames}: pages in use"), fits * pages, used),
            Observation::new(
                format!("{frames}: about the next"),
                dmesg(0),
                fields.text(&format!("failed{index}")),
            ),
            Observation::new(
                format!("{frames}: what is free"),
                dmesg(1),
                fields.text(&format!("runs{index}")),
            ),
        ]);
    }
    observations
}

fn the_bitmap_tells_why() -> Vec<Observation> {
    let requests = [1_u64, 64, 112, 113, 190, 191, 200, 201, 700];
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let fields = Fields::of(
        &format!(
            "--camera none --cma 4M,default --cma 16M,name=isp --out {}",
            folder.path().display()
        ),
        &format!(
            "w=$(window isp)
             # Frees the first pages of each allocation. This leaves holes of many lengths, and 112 pages at the end.
             for hole in 63 100 31 200 7 1 190 64; do echo 448 > $w/alloc; echo $hole > $w/free; done
             echo 400 > $w/alloc
             mkdir /out/isp; for file in base_pfn count order_per_bit bitmap; do cat $w/$file > /out/isp/$file; done
             for pages in {}; do
                 if echo $pages > $w/alloc; then echo answer$pages=granted; echo $pages > $w/free
                 else echo answer$pages=refused; fi 2> /dev/null
             done",
            requests.map(|pages| pages.to_string()).join(" ")
        ),
    );
    let folder = folder.path().join("isp");
    let folder = folder.to_str().expect("the name of a temporary folder is text");
    let ask = |pages: u64| {
        let pages = pages.to_string();
        let board = model(&["--import", folder, "--align", "0", "--request", &pages]);
        let predicted = if board["request"]["errno"] == 0 { "granted" } else { "refused" };
        Observation::new(format!("{pages} pages"), predicted, fields.text(&format!("answer{pages}")))
    };
    requests.map(ask).into()
}
