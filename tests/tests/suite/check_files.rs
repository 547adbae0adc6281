//! `minivmm check` with other files of a board: overlays, and the configuration of its kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use tests::{
    harness::{Group, Place, Test},
    programs, tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    let tests = tests![an_overlay_alone, overlays_of_a_board, overlays_that_do_not_fit, a_configuration];
    // The labs of other architectures have no fdtoverlay.
    let tests = tests.into_iter().map(Test::the_same_everywhere).collect();
    Group { name: "check_files", place: Place::Anywhere, tests }
}

static MINIVMM: LazyLock<PathBuf> = LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

/// Runs `minivmm check` in `folder`.
fn check(folder: &Path, words: &[&str]) -> Output {
    Command::new(&*MINIVMM).arg("check").args(words).current_dir(folder).output().unwrap()
}

/// The output of `minivmm check`, which must end with `status`.
#[track_caller]
fn said(folder: &Path, words: &[&str], status: i32) -> String {
    let output = check(folder, words);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    said
}

/// A board with 2 GiB, a label for overlays, and a window.
const BOARD: &str = r#"/dts-v1/;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x80000000>; };
    camera: camera { };
    reserved: reserved-memory {
        #address-cells = <2>;
        #size-cells = <2>;
        ranges;
        linux,cma { compatible = "shared-dma-pool"; reusable; size = <0 0x4000000>; linux,cma-default; };
    };
};
"#;

/// A window for the camera, as overlays of cameras have it.
const CAMERA: &str = r#"/dts-v1/;
/plugin/;
&reserved {
    isp: isp@90000000 { compatible = "shared-dma-pool"; reusable; reg = <0 0x90000000 0 0x1000000>; };
};
&camera { memory-region = <&isp>; };
"#;

/// By paths, without labels of the board; the window is not aligned.
const PATHS: &str = r#"/dts-v1/;
/plugin/;
/ {
    fragment@1 {
        target-path = "/reserved-memory";
        __overlay__ { dsp@a0010000 { compatible = "shared-dma-pool"; reusable; reg = <0 0xa0010000 0 0x1000000>; }; };
    };
};
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("board.dts", BOARD), ("camera.dtso", CAMERA), ("paths.dts", PATHS)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let compile = |from: &str, to: &str, symbols: &[&str]| {
        let mut dtc = Command::new("dtc");
        let dtc = dtc.args(["-q", "-I", "dts", "-O", "dtb", "-o", to]).args(symbols).arg(from);
        assert!(dtc.current_dir(folder.path()).status().unwrap().success());
    };
    compile("board.dts", "board.dtb", &["-@"]);
    compile("board.dts", "bare.dtb", &[]);
    compile("camera.dtso", "camera.dtbo", &[]);
    folder
}

fn an_overlay_alone() {
    let folder = folder();
    for file in ["camera.dtbo", "camera.dtso", "paths.dts"] {
        let error = said(folder.path(), &[file], 2);
        let part = format!(
            "{file} is an overlay, which reserves nothing on its own; apply it to the tree of its board: minivmm check \
                            BOARD.dtb --overlay {file}"
        );
        assert!(error.contains(&part) && error.lines().count() == 1, "{error}");
    }
}

fn overlays_of_a_board() {
    let folder = folder();
    for (board, overlay) in [("board.dtb", "camera.dtbo"), ("board.dts", "camera.dtso")] {
        let all = said(folder.path(), &[board, "--overlay", overlay], 0);
        for part in [
            "warning: the overlay adds /reserved-memory/isp@90000000: Linux reads /reserved-memory only in early boot, so this holds if \
             the boot loader applies the overlay",
            "/reserved-memory/isp@90000000\n  CMA pool, 16M at 0x90000000",
            "memory-region 0: /reserved-memory/isp@90000000: of_reserved_mem_device_init() gives it the CMA pool",
        ] {
            assert!(all.contains(part), "\"{part}\" is missing: {all}");
        }
    }
    let two = ["bare.dtb", "--overlay", "paths.dts", "--rules", "6.1"];
    let misaligned = said(folder.path(), &two, 1);
    assert!(misaligned.contains("its base 0xa0010000 is not a multiple of the pageblock"), "{misaligned}");
    let both = said(folder.path(), &["board.dtb", "--overlay", "camera.dtbo", "--overlay", "paths.dts"], 1);
    assert!(both.contains("adds /reserved-memory/") && both.contains("isp@90000000"), "{both}");
}

fn overlays_that_do_not_fit() {
    let folder = folder();
    for (words, part) in [
        (
            &["bare.dtb", "--overlay", "camera.dtbo"][..],
            "fdtoverlay cannot apply camera.dtbo to bare.dtb: FDT_ERR_NOTFOUND; each label that an overlay refers to must be in the \
             tree's /__symbols__",
        ),
        (&["board.dtb", "--overlay", "bare.dtb"], "bare.dtb is no overlay, as it has no fragment"),
        (
            &["camera.dtbo", "--overlay", "camera.dtbo"],
            "camera.dtbo is an overlay, which reserves nothing on its own",
        ),
        (&["board.dtb", "--overlay", "none.dtbo"], "the device tree none.dtbo cannot be read: No such file"),
        (&["--cma", "64M", "--overlay", "camera.dtbo"], "--overlay is about a board's tree; name its FILE"),
    ] {
        let error = said(folder.path(), words, 2);
        assert!(error.contains(part), "{error}");
    }
    let mut without = Command::new(&*MINIVMM);
    without.args(["check", "board.dtb", "--overlay", "camera.dtbo"]).current_dir(folder.path());
    let without = without.env("PATH", folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&without.stderr);
    assert_eq!(without.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("without fdtoverlay: ") && stderr.contains("device-tree-compiler"), "{stderr}");
}

fn a_configuration() {
    let folder = folder();
    let config = "# Linux/arm64 6.1.80 Kernel Configuration\nCONFIG_ARM64=y\nCONFIG_ARM64_64K_PAGES=y\nCONFIG_HUGETLB_PAGE=y\n\
                  CONFIG_ARCH_FORCE_MAX_ORDER=14\nCONFIG_CMA=y\nCONFIG_CMA_AREAS=7\n# CONFIG_DMA_CMA is not set\n";
    fs::write(folder.path().join("config"), config).unwrap();
    let output = check(folder.path(), &["board.dtb", "--config", "config"]);
    let all = String::from_utf8_lossy(&output.stdout);
    let assumed =
        "Rules of Linux 6.1, arm64, pageblock 512M, page 64K, at most 8 CMA areas, CONFIG_DMA_CMA=n,";
    assert!(all.starts_with(assumed), "{all}");
    let error = said(folder.path(), &["board.dtb", "--config", "board.dts"], 2);
    assert!(error.contains("board.dts is no configuration of a kernel: it has no line"), "{error}");
    let error = said(folder.path(), &["--cma", "64M", "--config", "config"], 2);
    assert!(error.contains("--config is about a board's tree; name its FILE"), "{error}");
}
