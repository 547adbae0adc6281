//! `minivmm check`: trees of our own machines, sources, bad requests, and the trees of boards in Debian's arm64 kernel package.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use cma::{
    check::{Arch, Boot, Kernel, Level, Report, Rules, Tree, check},
    size,
};
use guest_images::debian::Archive;
use tests::{
    harness::{Group, Place},
    lab, programs, tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "check",
        place: Place::Anywhere,
        tests: tests![
            our_own_trees_work,
            windows_that_are_wrong_on_purpose,
            trees_that_a_plan_makes_wrong,
            seventeen_windows_are_what_our_kernel_has,
            a_source,
            field_cases,
            bad_requests,
            debians_boards,
        ],
    }
}

static MINIVMM: LazyLock<PathBuf> = LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

fn minivmm(words: &[&str]) -> Output {
    Command::new(&*MINIVMM).arg("check").args(words).output().unwrap()
}

/// The output of `minivmm check`, which must end with `status`, or its errors if it prints nothing.
#[track_caller]
fn said(words: &[&str], status: i32) -> String {
    let output = minivmm(words);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    assert_eq!(output.stdout.is_empty(), status == 2, "{words:?}: {said}");
    said
}

fn our_own_trees_work() {
    for (options, windows) in [
        ("--camera none", 0),
        ("--cma 256M", 1),
        ("--cpus 3 --memory 3G --cma 64M --cma 64M,name=isp,base=0x60000000 --camera window=isp", 2),
        ("--cma 64M,alloc-ranges=0x50000000-0x60000000 --memory 2G", 1),
        ("--numa 2 --cma 64M --cma 64M,name=isp,node=0 --camera window=isp,node=1", 2),
        ("--cma 512M --memory 2G --pageblock 512M --page-size 64K", 1),
    ] {
        let words: Vec<&str> = options.split(' ').collect();
        let said = said(&words, 0);
        assert_eq!(said.matches("CMA pool, ").count(), windows, "{said}");
        assert_eq!(said.matches(", the default window: ").count(), windows.min(1), "{said}");
        assert_eq!(
            said.matches("of_reserved_mem_device_init() gives it the CMA pool").count(),
            windows.min(1)
        );
        assert!(said.contains("\n0 errors, 0 warnings, "), "{said}");
    }
}

fn windows_that_are_wrong_on_purpose() {
    for (options, status, part) in [
        ("--cma 64M,no-map", 1, "reusable and no-map exclude each other"),
        ("--cma 64M,not-reusable", 0, "warning: no device can use it: it is mapped as RAM"),
        ("--cma 64M,not-reusable,name=isp --camera window=isp", 1, "error: it cannot be used (-EINVAL)"),
        ("--cma 64M,no-map,not-reusable,name=isp --camera window=isp", 0, "gives it the coherent carveout"),
        ("--cma 64M --cma-mode both", 0, "warning: refused, 64M at 0x"),
        ("--cma 64M --cma-mode cmdline", 0, "there is no /reserved-memory"),
    ] {
        let words: Vec<&str> = options.split(' ').collect();
        let said = said(&words, status);
        assert!(said.contains(part), "{options}: {said}");
    }
}

/// The effect of a plan of faults on the tree. tests/experiments/tree-*.toml have the effect on a guest.
fn trees_that_a_plan_makes_wrong() {
    let plan = tempfile::NamedTempFile::new().unwrap();
    let path = plan.path().to_str().unwrap();
    for (action, status, part) in [
        ("\"move\"\nbase = 0x5000_1000", 1, "\"incorrect alignment of CMA region\""),
        ("\"move\"\nbase = 0x6000_0000", 1, "it overlaps /reserved-memory/cma0@60000000"),
        ("\"move\"\nbase = 0xf000_0000", 1, "error: no memory node covers all of 0xf0000000"),
        ("\"resize\"\nbytes = 0x40_0000", 0, "CMA pool, 4M at 0x5"),
        ("\"resize\"\nbytes = 0x1000", 1, "\"incorrect alignment of CMA region\""),
        ("\"not-reusable\"", 1, "no device can use it: it is mapped as RAM"),
        ("\"no-map\"", 1, "reusable and no-map exclude each other"),
        (
            "\"wrong-cells\"",
            1,
            "/reserved-memory has #address-cells = 1; it must be the same as the root's, 2",
        ),
        ("\"no-ranges\"", 1, "/reserved-memory has no ranges"),
        ("\"dangling\"", 1, "memory-region 0: nothing: of_reserved_mem_device_init() returns -19"),
        ("\"crowd\"\ncount = 63", 1, "it is number 65 and there is room for 64"),
        ("\"crowd\"\ncount = 62", 0, "gives it the CMA pool"),
    ] {
        let rule = format!("[[rule]]\nname = \"r\"\non = \"tree\"\nwindow = \"cma0\"\naction = {action}\n");
        fs::write(&plan, rule).unwrap();
        let windows = "--memory 2G --cma 16M,base=0x50000000 --cma 16M,name=other,base=0x60000000 --faults";
        let words: Vec<&str> = windows.split(' ').chain([path]).collect();
        let said = said(&words, status);
        assert!(said.contains(part), "{action}: {said}");
    }
}

fn seventeen_windows_are_what_our_kernel_has() {
    let words = |count| [vec!["--memory", "2G"], ["--cma", "4M"].repeat(count)].concat();
    said(&words(17), 0);
    assert!(said(&words(18), 1).contains("there are 17 CMA areas before it"));
    said(&[words(18), vec!["--cma-areas", "18"]].concat(), 0);
}

const SOURCE: &str = r#"/dts-v1/;
/memreserve/ 0x4a000000 0x1000;
/ {
	#address-cells = <1>;
	#size-cells = <1>;
	memory@40000000 {
		device_type = "memory";
		reg = <0x40000000 0x20000000>;
	};
	reserved-memory {
		#address-cells = <1>;
		#size-cells = <1>;
		ranges;
		isp: isp@48200000 {
			compatible = "shared-dma-pool";
			reusable;
			reg = <0x48200000 0x1000000>;
		};
		firmware@4a000000 {
			reg = <0x4a000000 0x100000>;
			no-map;
		};
	};
	camera {
		memory-region = <&isp>, <&gone>;
	};
};
"#;

fn a_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.dts");
    let path = file.to_str().unwrap();
    fs::write(&file, SOURCE).unwrap();
    let all = said(&[path, "--pageblock", "4M", "--rules", "6.1"], 1);
    for part in [
        "error: refused, 16M at 0x48200000: its base 0x48200000 is not a multiple of the pageblock of 4M; 0x48400000",
        "0x4a000000..0x4a100000 stays mapped in spite of no-map",
        "memory-region 0: /reserved-memory/isp@48200000: of_reserved_mem_device_init() returns -22\n",
        "memory-region 1: nothing: of_reserved_mem_device_init_by_idx() with 1 returns -19\n",
        // dtc's value for an undefined label.
        "no node has the phandle 0xffffffff",
        "\n4 errors, 0 warnings, 0 notes\n",
    ] {
        assert!(all.contains(part), "\"{part}\" is missing: {all}");
    }
    let smaller = said(&[path, "--rules", "6.1"], 1);
    assert!(smaller.contains("\n2 errors, ") && smaller.contains("CMA pool, 16M"), "{smaller}");
    // Since 6.12 /memreserve/ is read after the nodes.
    let current = said(&[path], 1);
    assert!(current.contains("\n1 error, ") && !current.contains("stays mapped"), "{current}");

    let without = Command::new(&*MINIVMM).args(["check", path]).env("PATH", folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&without.stderr);
    assert_eq!(without.status.code(), Some(1));
    assert!(stderr.contains("install the package device-tree-compiler, or name a .dtb file"), "{stderr}");

    fs::write(&file, "/dts-v1/;\n#include <dt-bindings/gpio/gpio.h>\n").unwrap();
    let error = said(&[path], 2);
    assert!(error.contains("board.dts:2.1") && error.contains("run cpp first on a source"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

/// A case of tests/field-cases/: file and options, the exit status, and a part of each finding above a note, with its level.
type Case = (&'static str, i32, &'static [&'static str]);

/// The cases. Where no level is named, the part is of another line.
const CASES: &[Case] = &[
    (
        "alignment-below-pageblock/board.dts",
        0,
        &["warning: its alignment 0x300000 is not a power of two: Linux uses it as a mask"],
    ),
    ("alignment-below-pageblock/board.dts --pageblock 4M", 0, &[]),
    (
        "arm32/highmem.dts --arch arm",
        1,
        &["error: it lies on both sides of 0x30000000, the end of low memory"],
    ),
    ("arm32/highmem.dts --arch arm --lowmem-end 0x2f800000", 1, &["both sides of 0x2f800000"]),
    ("arm32/highmem.dts", 0, &[]),
    ("arm32/cross.dts --arch arm", 1, &["error: it lies on both sides of 0x70000000, the end of low memory"]),
    (
        "arm32/no-no-map.dts --arch arm",
        1,
        &[
            "error: refused, 64M at 0x1ff00000: a carveout must have no-map on 32-bit Arm",
            "error: it is not a pool",
        ],
    ),
    (
        "check-has-no-rules/board.dts --rules 6.1",
        1,
        &[
            "error: refused, 4K at 0x60080000: it is number 65 and there is room for 64",
            "number 66",
            "number 67",
            "number 68",
            "number 69",
            "number 70",
            "error: refused, 4M at 0x70000000: it is number 71 and there is room for 64",
        ],
    ),
    ("check-has-no-rules/board.dts --rules 6.12", 0, &[]),
    ("check-has-no-rules/board.dts --rules 7.2", 0, &[]),
    (
        "cma-on-the-command-line/outside.dts",
        1,
        &[
            "error: no memory node covers all of 0x20000000..0x24000000: Linux makes the window, and panics at boot",
        ],
    ),
    (
        "cma-on-the-command-line/unaligned.dts",
        1,
        &["error: cma= on the command line makes no default window: its base 0x50100000 is not"],
    ),
    ("cma-on-the-command-line/zcu106.dts", 1, &["there is no room for 2G in one piece below 0x100000000"]),
    ("cma-on-the-command-line/rpi1231.dts", 1, &["\"defined on low/high memory boundary\""]),
    ("cma-on-the-command-line/rpi1231.dts --rules 7.2", 1, &["\"exceeds limit\""]),
    (
        "cma-outside-ram/board.dts",
        1,
        &[
            "warning: its unit address 0",
            "error: no memory node covers all of 0x500000000..0x540000000: Linux makes the window, and panics",
        ],
    ),
    ("cma-outside-ram/board.dts --ram 0+2G --ram 0x500000000+1G", 0, &["warning: its unit address 0"]),
    (
        "cma-outside-ram/partly.dts --rules 6.1",
        1,
        &["error: no memory node covers all of 0xbe000000..0xc2000000"],
    ),
    (
        "cma-outside-ram/partly.dts --rules 7.2",
        1,
        &["error: no memory node covers all of 0xbe000000..0xc2000000"],
    ),
    ("cma-outside-ram/aligned-mmio.dts", 1, &["error: no memory node covers all of 0x53000000..0x53400000"]),
    ("command-line-of-the-board/board.dts", 0, &["warning: refused, 256M where the kernel finds room"]),
    ("command-line-of-the-board/board.dts --cmdline quiet", 0, &[]),
    (
        "command-line-of-the-board/as-shipped.dts --cmdline cma=320M",
        0,
        &["cma= on the command line makes the default window"],
    ),
    ("dma-default/stm32.dts", 0, &["warning: CONFIG_CMA_SIZE_* makes no default window"]),
    (
        "dynamic-nodes-compete/board.dts",
        1,
        &[
            "only for 502M (-ENOMEM, \"failed to allocate memory\"); before it, memory there went to /reserved-memory/rtos@20000000 (10M at \
           0x1f600000)",
        ],
    ),
    (
        "dynamic-nodes-compete/two.dts --rules 6.1",
        1,
        &["memory there went to /reserved-memory/c (128M at 0x50000000)"],
    ),
    (
        "dynamic-nodes-compete/two.dts --rules 6.12",
        1,
        &["memory there went to /reserved-memory/v (32M at 0x56000000)"],
    ),
    (
        "dynamic-nodes-compete/two.dts --rules 7.2",
        1,
        &["memory there went to /reserved-memory/v (32M at 0x56000000)"],
    ),
    (
        "dynamic-nodes-compete/three.dts",
        1,
        &["memory there went to /reserved-memory/a (768M at 0x90000000), /reserved-memory/b (768M"],
    ),
    (
        "dynamic-order/board.dts --rules 6.1",
        0,
        &["/reserved-memory/a is the default window, because Linux sets it up last"],
    ),
    (
        "dynamic-order/board.dts --rules 6.12",
        0,
        &["/reserved-memory/b is the default window, because Linux sets it up last"],
    ),
    (
        "dynamic-order/board.dts --rules 7.2",
        0,
        &["/reserved-memory/b is the default window, because Linux sets it up last"],
    ),
    (
        "memory-without-device_type/board.dts",
        0,
        &["warning: /memory@40000000 has a size and no device_type = \"memory\""],
    ),
    (
        "outside-ram-and-misaligned/board.dts",
        1,
        &[
            "aligned, it would make the kernel panic, because no memory node covers all of 0x53000000..0x53200000",
            "error: it is not a pool",
        ],
    ),
    (
        "pageblock-defaults/board.dts --page-size 64K",
        1,
        &["its size 0x4000000 is not a multiple of the pageblock of 512M"],
    ),
    ("pageblock-defaults/two-mib.dts", 0, &[]),
    (
        "ram-is-a-placeholder/imx8qm-mek.dts",
        0,
        &[
            "warning: refused, 960M where the kernel finds room: its alloc-ranges reach beyond the RAM of the tree",
        ],
    ),
    (
        "ram-is-limited/mem.dts",
        1,
        &[
            "error: mem= limits RAM, so that not all of 0xb0000000..0xb4000000 is RAM: Linux makes the window, and panics",
        ],
    ),
    ("ram-is-limited/kdump.dts", 1, &["error: linux,usable-memory-range limits RAM"]),
    (
        "reserved-memory-not-at-the-root/board.dts",
        1,
        &[
            "error: /pl@0/reserved-memory is not at the root",
            "error: it is not a child of /reserved-memory (-EINVAL)",
        ],
    ),
];

/// Trees of public reports. Each expected finding, and no other one above a note, is printed.
fn field_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("field-cases");
    for (words, status, findings) in CASES.iter().copied() {
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words[0] = folder.join(&words[0]).display().to_string();
        let said = said(&words.iter().map(String::as_str).collect::<Vec<_>>(), status);
        let printed: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("error: ") || line.starts_with("warning: "))
            .collect();
        assert_eq!(printed.len(), findings.len(), "{words:?}: {said}");
        for (line, part) in printed.iter().zip(findings) {
            assert!(line.contains(part), "{words:?}: \"{part}\" is expected: {line}");
        }
    }
    let said = |words: &[&str]| {
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                if word.contains('/') { folder.join(word).display().to_string() } else { (*word).to_owned() }
            })
            .collect();
        said(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0)
    };
    assert!(
        said(&["dma-default/stm32.dts"])
            .contains("note: linux,dma-default makes it the default pool of coherent memory only with")
    );
    let note = "note: no memory node covers all of 0xfe000000..0xff000000: unless the boot loader adds RAM there, it has no effect";
    assert!(said(&["ram-is-a-placeholder/rk3288.dts"]).contains(note));
    let placed = said(&["ram-is-a-placeholder/imx8qm-mek.dts", "--ram", "0x80000000+2G"]);
    assert!(placed.contains("CMA pool, 960M where the kernel finds room (0xc0000000)"), "{placed}");
    let unused = said(&["unused-carveout-is-an-error/mt8395.dts"]);
    assert!(unused.contains("warning: no device can use it: it is mapped as RAM"), "{unused}");
}

fn bad_requests() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("board.dtb");
    let path = file.to_str().unwrap();
    let dtb = ["dtb", "--cma", "64M", "--out", path];
    assert!(Command::new(&*MINIVMM).args(dtb).status().unwrap().success());
    said(&[path], 0);
    for (words, part) in [
        (&[path, "--cma", "64M"][..], "[FILE] cannot be used with --cma; omit one of them"),
        (&[path, "--pageblock", "3M"], "the pageblock of 3M is not a power of two"),
        (&[path, "--page-size", "1M"], "the page size must be 4K, 16K or 64K, not 1M"),
        (&["--cma", "3M"], "the CMA window cma0 has the size 0x300000"),
        (&["nowhere.dts"], "the device tree nowhere.dts cannot be read: No such file"),
    ] {
        let error = said(words, 2);
        assert!(error.contains(part), "{error}");
    }
    let blob = fs::read(&file).unwrap();
    fs::write(&file, &blob[..blob.len() / 2]).unwrap();
    let error = said(&[path], 2);
    assert!(error.contains(&format!("its header says {} bytes", blob.len())), "{error}");
    assert_eq!(error.lines().count(), 1);
}

/// A board: the file of its tree, and the expected result for its reserved memory.
struct Board {
    file: &'static str,
    /// The regions in the order of the tree: name, outcome, size and address.
    regions: &'static [(&'static str, &'static str)],
    /// Errors and warnings: the node's name, and a part of the sentence.
    findings: &'static [(&'static str, &'static str)],
    /// The references: the last name of the user's path, the index, the target and the outcome or the error code.
    references: &'static [&'static str],
}

/// Ten boards, each checked by hand against the source that dtc prints. Debian has no MediaTek boards, and no
/// Rockchip board has reserved memory.
const BOARDS: [Board; 10] = [
    // 512 MiB of RAM. The firmware's regions leave no free range of 256 MiB: the largest is 0x10200000 to 0x20000000.
    Board {
        file: "amlogic/meson-gxl-s805x-p241.dtb",
        regions: &[
            ("hwrom@0", "no-map region, 16M at 0x0"),
            ("secmon@10000000", "no-map region, 2M at 0x10000000"),
            ("secmon@5000000", "no-map region, 3M at 0x5000000"),
            ("secmon@5300000", "no-map region, 32M at 0x5300000"),
            ("linux,cma", "refused, 256M anywhere"),
        ],
        findings: &[(
            "linux,cma",
            "there is no room for 256M at a multiple of 4M in RAM, only for 252M (-ENOMEM, \"failed to allocate memory\")",
        )],
        references: &[],
    },
    Board {
        file: "broadcom/bcm2711-rpi-4-b.dtb",
        regions: &[("linux,cma", "CMA pool, 64M anywhere, default"), ("nvram@0", "ignored")],
        findings: &[],
        references: &[],
    },
    // The alloc-ranges is as large as the window.
    Board {
        file: "freescale/imx8dxl-evk.dtb",
        regions: &[
            ("dsp@92400000", "no-map region, 32M at 0x92400000"),
            ("linux,cma", "CMA pool, 320M anywhere, default"),
        ],
        findings: &[],
        references: &["dsp@596e8000 0 dsp@92400000 -22 disabled"],
    },
    Board {
        file: "freescale/fsl-ls1046a-rdb.dtb",
        regions: &[
            ("bman-fbpr", "coherent carveout, 16M anywhere"),
            ("qman-fqd", "coherent carveout, 8M anywhere"),
            ("qman-pfdr", "coherent carveout, 32M anywhere"),
        ],
        findings: &[],
        references: &[
            "qman@1880000 0 qman-fqd coherent carveout",
            "qman@1880000 1 qman-pfdr coherent carveout",
            "bman@1890000 0 bman-fbpr coherent carveout",
        ],
    },
    Board {
        file: "ti/k3-am625-sk.dtb",
        regions: &[
            ("ramoops@9ca00000", "plain reservation, 1M at 0x9ca00000"),
            ("tfa@9e780000", "no-map region, 512K at 0x9e780000"),
            ("optee@9e800000", "no-map region, 24M at 0x9e800000"),
            ("r5f-dma-memory@9db00000", "coherent carveout, 12M at 0x9db00000"),
        ],
        findings: &[],
        references: &[],
    },
    Board {
        file: "qcom/sdm630-sony-xperia-nile-discovery.dtb",
        regions: &[
            ("wlan-msa-guard@85600000", "no-map region, 1M at 0x85600000"),
            ("wlan-msa-mem@85700000", "no-map region, 1M at 0x85700000"),
            ("qhee-code@85800000", "no-map region, 6M at 0x85800000"),
            ("memory@85e00000", "no-map region, 2M at 0x85e00000"),
            ("smem-mem@86000000", "no-map region, 2M at 0x86000000"),
            ("memory@86200000", "no-map region, 51M at 0x86200000"),
            ("mpss@8ac00000", "no-map region, 126M at 0x8ac00000"),
            ("adsp@92a00000", "no-map region, 30M at 0x92a00000"),
            ("mba@94800000", "no-map region, 2M at 0x94800000"),
            ("tzbuffer@94a00000", "no-map region, 1M at 0x94a00000"),
            ("venus@9f800000", "no-map region, 8M at 0x9f800000"),
            ("adsp-region", "CMA pool, 8M anywhere"),
            ("qseecom-region@f6800000", "no-map region, 20M at 0xf6800000"),
            ("gpu@fed00000", "coherent carveout, 10M at 0xfed00000"),
            ("ramoops@ffc00000", "plain reservation, 1M at 0xffc00000"),
            ("debug_region@ffb00000", "no-map region, 1M at 0xffb00000"),
            ("removed_region@85800000", "no-map region, 55M at 0x85800000"),
        ],
        findings: &[
            ("memory@85e00000", "overlaps /reserved-memory/removed_region@85800000: Linux logs it"),
            ("smem-mem@86000000", "overlaps /reserved-memory/removed_region@85800000: Linux does not notice"),
            ("memory@86200000", "overlaps /reserved-memory/removed_region@85800000: Linux does not notice"),
            ("removed_region@85800000", "overlaps /reserved-memory/qhee-code@85800000: Linux logs it"),
        ],
        references: &[
            "smem 0 smem-mem@86000000 -22",
            "video-codec@cc00000 0 venus@9f800000 -22 disabled",
            "remoteproc@15700000 0 adsp@92a00000 -22",
        ],
    },
    Board {
        file: "qcom/msm8998-oneplus-cheeseburger.dtb",
        regions: &[
            ("memory@85800000", "no-map region, 6M at 0x85800000"),
            ("memory@85e00000", "no-map region, 1M at 0x85e00000"),
            ("smem-mem@86000000", "no-map region, 2M at 0x86000000"),
            ("memory@86200000", "no-map region, 45M at 0x86200000"),
            ("memory@88f00000", "no-map region, 2M at 0x88f00000"),
            ("memory@8ab00000", "no-map region, 7M at 0x8ab00000"),
            ("memory@8b200000", "no-map region, 30M at 0x8b200000"),
            ("memory@8cc00000", "no-map region, 112M at 0x8d000000"),
            ("memory@93c00000", "no-map region, 5M at 0x94000000"),
            ("memory@94100000", "no-map region, 2M at 0x94500000"),
            ("memory@94300000", "no-map region, 15M at 0x94700000"),
            ("memory@95200000", "no-map region, 64K at 0x95600000"),
            ("memory@95210000", "no-map region, 20K at 0x95610000"),
            ("memory@95600000", "no-map region, 1M at 0x95615000"),
            ("memory@95700000", "no-map region, 1M at 0x95715000"),
            ("memory@9d400000", "no-map region, 36M at 0x9d400000"),
            ("ramoops@ac000000", "plain reservation, 2M at 0xac000000"),
            ("ipa@f6800000", "coherent carveout, 20K at 0xf6800000"),
            ("gpu@f6900000", "coherent carveout, 8K at 0xf6900000"),
        ],
        findings: &[
            ("memory@8cc00000", "unit address 8cc00000 is not its reg's first address 8d000000"),
            ("memory@93c00000", "unit address 93c00000 is not its reg's first address 94000000"),
            ("memory@94100000", "unit address 94100000 is not its reg's first address 94500000"),
            ("memory@94300000", "unit address 94300000 is not its reg's first address 94700000"),
            ("memory@95200000", "unit address 95200000 is not its reg's first address 95600000"),
            ("memory@95210000", "unit address 95210000 is not its reg's first address 95610000"),
            ("memory@95600000", "unit address 95600000 is not its reg's first address 95615000"),
            ("memory@95700000", "unit address 95700000 is not its reg's first address 95715000"),
        ],
        references: &[
            "smem 0 smem-mem@86000000 -22",
            "mba 0 memory@94100000 -22 disabled",
            "mpss 0 memory@8cc00000 -22 disabled",
            "remoteproc@5800000 0 memory@94300000 -22 disabled",
            "remoteproc@17300000 0 memory@8b200000 -22 disabled",
            "wifi@18800000 0 memory@95700000 -22 disabled",
        ],
    },
    // Memory of a graphics device, which is not RAM.
    Board {
        file: "arm/fvp-base-revc.dtb",
        regions: &[("vram@18000000", "coherent carveout, 8M at 0x18000000")],
        findings: &[],
        references: &["clcd@1f0000 0 vram@18000000 coherent carveout"],
    },
    // The memory node does not include the ramoops region.
    Board {
        file: "hisilicon/hi6220-hikey.dtb",
        regions: &[
            ("ramoops@21f00000", "plain reservation, 1M at 0x21f00000"),
            ("linux,cma", "CMA pool, 128M anywhere, default"),
        ],
        findings: &[],
        references: &[],
    },
    Board {
        file: "allwinner/sun50i-h616-orangepi-zero2.dtb",
        regions: &[("secmon@40000000", "no-map region, 256K at 0x40000000")],
        findings: &[],
        references: &[],
    },
];

/// The rules of Debian's arm64 kernel of 6.1: pages of 4 KiB, pageblocks of 2 MiB, 1 + 19 CMA areas.
fn report(blob: &[u8]) -> Report {
    let kernel = Kernel::debian(Rules::V6_1, Arch::Arm64, 4096).unwrap();
    check(&Tree::read(blob).unwrap(), &kernel, &Boot::default())
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The names of the children of /reserved-memory, as libfdt reads them.
fn children(tree: &Path) -> Vec<String> {
    let output = Command::new("fdtget").arg("-l").arg(tree).arg("/reserved-memory").output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Asserts that `report` has exactly the expected results and no other finding above a note.
fn compare(board: &Board, report: &Report) {
    let regions: Vec<(&str, String)> = report
        .regions
        .iter()
        .map(|region| {
            let mut outcome = region.outcome.to_string();
            if let Some(size) = region.size {
                let place = region.base.map_or("anywhere".to_owned(), |base| format!("at {base:#x}"));
                outcome += &format!(", {} {place}", size::format(size));
            }
            (last(&region.node), outcome + if region.default { ", default" } else { "" })
        })
        .collect();
    let expected: Vec<(&str, String)> =
        board.regions.iter().map(|(node, outcome)| (*node, (*outcome).to_owned())).collect();
    assert_eq!(regions, expected, "{}", board.file);

    let findings = report.regions.iter().flat_map(|region| {
        let findings = region.findings.iter().filter(|finding| finding.level > Level::Note);
        findings.map(|finding| (last(&region.node), &finding.text))
    });
    let findings: Vec<_> = findings.collect();
    assert_eq!(report.count(Level::Error) + report.count(Level::Warning), findings.len(), "{}", board.file);
    assert_eq!(findings.len(), board.findings.len(), "{}: {findings:#?}", board.file);
    for ((node, text), (expected, part)) in findings.iter().zip(board.findings) {
        assert!(node == expected && text.contains(part), "{}: {node}: {text}", board.file);
    }

    let references: Vec<String> = report
        .users
        .iter()
        .flat_map(|user| user.references.iter().map(move |reference| (user, reference)))
        .map(|(user, reference)| {
            let target = reference.target.as_deref().map_or("nothing", last);
            let gets = reference.gets.map_or(reference.errno.to_string(), |pool| pool.to_string());
            let enabled = if user.enabled { "" } else { " disabled" };
            format!("{} {} {target} {gets}{enabled}", last(&user.node), reference.index)
        })
        .collect();
    assert_eq!(references, board.references, "{}", board.file);
}

fn debians_boards() {
    if env::var_os(lab::IN_LAB).is_some() {
        eprintln!("The boards' trees are looked at outside of the lab.");
        return;
    }
    let archive = Archive::of("arm64");
    let package = archive.first_dependency("linux-image-arm64").unwrap();
    let folder = archive.unpacked(&package).unwrap().join("usr/lib").join(&package);

    let mut count = 0;
    let mut levels = [0; 3];
    for vendor in fs::read_dir(&folder).unwrap() {
        for file in fs::read_dir(vendor.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "dtb") {
                continue;
            }
            let report = report(&fs::read(&path).unwrap());
            let names: Vec<&str> = report.regions.iter().map(|region| last(&region.node)).collect();
            assert_eq!(names, children(&path), "{}", path.display());
            assert!(report.to_string().starts_with("Rules of Linux 6.1, arm64, pageblock 2M"));
            for (count, level) in levels.iter_mut().zip([Level::Error, Level::Warning, Level::Note]) {
                *count += report.count(level);
            }
            count += 1;
        }
    }
    let [errors, warnings, notes] = levels;
    println!("{package}: {count} trees with {errors} errors, {warnings} warnings and {notes} notes");
    assert!(count > 500, "{count}");

    for board in &BOARDS {
        compare(board, &report(&fs::read(folder.join(board.file)).unwrap()));
    }
}
