//! The generated tree in dtc's output: no warnings, and the nodes that Linux needs.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
};

use tests::{
    harness::{Group, Place},
    host, lab, programs, tests,
};
use vmm::arch;

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "tree",
        place: Place::Anywhere,
        tests: tests![
            the_windows_and_who_uses_them,
            several_cameras,
            cpus_and_memory,
            numa_nodes,
            a_camera_without_a_window,
            a_file_passes_dtc_too,
            the_source_is_the_tree,
            doctor_says_what_the_tests_do,
            doctor_says_the_same_on_a_busy_host,
            the_lab_is_trusted,
        ],
    }
}

static MINIVMM: LazyLock<PathBuf> = LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

#[track_caller]
fn dts(arguments: &str) -> String {
    let output = Command::new(&*MINIVMM).arg("dtb").args(arguments.split_whitespace()).output().unwrap();
    accepted(&output)
}

#[track_caller]
fn accepted(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of the node `name`, up to its end. The unit address can be omitted.
#[track_caller]
fn node(dts: &str, name: &str) -> Vec<String> {
    let begins = |line: &str| {
        line.strip_suffix(" {").is_some_and(|node| node == name || node.starts_with(&format!("{name}@")))
    };
    let lines = dts.lines().map(str::trim).skip_while(|line| !begins(line));
    let lines: Vec<String> = lines.skip(1).take_while(|line| *line != "};").map(str::to_owned).collect();
    assert!(!lines.is_empty(), "there is no node {name} in\n{dts}");
    lines
}

fn the_windows_and_who_uses_them() {
    let dts = dts(
        "--memory 3G --cma 256M,base=0x60000000 --cma size=64M,name=isp,base=0x70000000 --camera window=isp",
    );
    let default = node(&dts, "cma0@60000000");
    for property in [
        r#"compatible = "shared-dma-pool";"#,
        "reusable;",
        "reg = <0x00 0x60000000 0x00 0x10000000>;",
        "linux,cma-default;",
    ] {
        assert!(default.iter().any(|line| line == property), "{property} is missing: {default:?}");
    }
    let isp = node(&dts, "isp@70000000");
    assert!(!isp.iter().any(|line| line.contains("cma-default")), "{isp:?}");
    let phandle = isp.iter().find_map(|line| line.strip_prefix("phandle = ")).unwrap();
    let camera = node(&dts, "camera");
    assert!(camera.contains(&format!("memory-region = {phandle}")), "{camera:?} has not {phandle}");
}

fn several_cameras() {
    let dts = dts("--cma 64M --cma 16M,name=isp --camera window=isp --camera fps=10");
    assert_eq!(dts.matches("camera@").count(), 2);
    for window in ["isp@", "cma0@"] {
        let name = &dts[dts.find(window).unwrap()..];
        let phandle = node(&dts, name.split(' ').next().unwrap());
        let phandle = phandle.iter().find_map(|line| line.strip_prefix("phandle = ")).unwrap();
        assert_eq!(dts.matches(&format!("memory-region = {phandle}")).count(), 1, "{dts}");
    }
    assert_eq!(self::dts("--camera none").matches("camera@").count(), 0);
}

fn cpus_and_memory() {
    let dts = dts("--cpus 3 --memory 4G --camera none");
    for cpu in 0..3 {
        assert!(node(&dts, &format!("cpu@{cpu}")).contains(&format!("reg = <0x0{cpu}>;")));
    }
    assert!(!dts.contains("cpu@3") && !dts.contains("camera@") && !dts.contains("reserved-memory"));
    // x86_64 has a gap below 4 GiB.
    let ranges = if cfg!(target_arch = "x86_64") { 2 } else { 1 };
    assert_eq!(dts.matches("device_type = \"memory\"").count(), ranges);
}

fn numa_nodes() {
    let dts =
        dts("--cpus 4 --memory 1G --numa 2 --cma 64M --cma 32M,name=isp,node=0 --camera window=isp,node=1");
    let id = |name: &str, node: u32| {
        let lines = self::node(&dts, name);
        assert!(lines.contains(&format!("numa-node-id = <0x0{node}>;")), "{name}: {lines:?}");
    };
    for (name, node) in [("cpu@0", 0), ("cpu@1", 0), ("cpu@2", 1), ("cpu@3", 1), ("camera", 1)] {
        id(name, node);
    }
    // Both are half of the memory.
    let start = arch::ram(1 << 30)[0].start;
    let half = start + (512 << 20);
    for (node, base) in [(0, start), (1, half)] {
        let name = format!("memory@{base:x}");
        id(&name, node);
        let reg = format!("reg = <0x00 0x{base:02x} 0x00 0x20000000>;");
        assert!(self::node(&dts, &name).contains(&reg), "{dts}");
    }
    let map = self::node(&dts, "distance-map");
    let matrix = "distance-matrix = <0x00 0x00 0x0a 0x00 0x01 0x14 0x01 0x00 0x14 0x01 0x01 0x0a>;";
    for line in [r#"compatible = "numa-distance-map-v1";"#, matrix] {
        assert!(map.iter().any(|of| of == line), "{line} is missing: {map:?}");
    }
    assert_eq!(dts.matches("numa-node-id").count(), 4 + 2 + 1);
    // The window of node 0 is at the end of the node. The other one is as high as possible.
    self::node(&dts, &format!("isp@{:x}", half - (32 << 20)));
    let default = dts.split_once("cma0@").unwrap().1.split(' ').next().unwrap();
    assert!(u64::from_str_radix(default, 16).unwrap() >= half, "{dts}");

    let without = self::dts("--numa 1 --cma 64M,node=0 --camera node=0");
    assert!(!without.contains("numa") && !without.contains("distance-map"), "{without}");
}

fn a_camera_without_a_window() {
    assert!(!self::node(&dts("--cma 64M --camera window=none"), "camera").concat().contains("memory-region"));
    assert!(self::node(&dts("--cma 64M"), "camera").concat().contains("memory-region"));
}

fn a_file_passes_dtc_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tree.dtb");
    let out = file.display().to_string();
    let mut made = Command::new(&*MINIVMM);
    made.args(["dtb", "--cma", "64M", "--exec", "it's \"quoted\"", "--out", &out]);
    assert!(made.output().unwrap().status.success());
    let printed = Command::new("dtc").args(["-I", "dtb", "-O", "dts", &out]).output().unwrap();
    assert!(accepted(&printed).contains(r#"minivmm,exec = "it's \"quoted\"";"#));
}

/// dtc makes the same tree of the printed source as it reads in the blob.
fn the_source_is_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let dtc = |from: &str, to: &str, file: &str| {
        accepted(
            &Command::new("dtc").args(["-q", "-I", from, "-O", to, "-o", &path(to), file]).output().unwrap(),
        );
    };
    for options in [
        "",
        "--memory 3G --cma 256M,base=0x60000000 --cma size=64M,name=isp,base=0x70000000 --camera window=isp",
        "--cma 64M --cma 16M,name=isp --camera window=isp --camera fps=10",
        "--cpus 3 --memory 4G --camera none",
        "--cpus 4 --memory 1G --numa 2 --cma 64M --cma 32M,name=isp,node=0 --camera window=isp,node=1",
        "--cma 64M --camera window=none",
        "--cma 64M --cma-mode both --cmdline a=\"b\\c\" --seed 7",
        "--cma 64M --camera sensor=yes,window=none --device msgdma --device lcdif --device vepu",
        "--exec é\t\"quoted\"",
    ] {
        let words: Vec<&str> = options.split(' ').filter(|word| !word.is_empty()).collect();
        let minivmm = |more: &[&str]| {
            let output = Command::new(&*MINIVMM).arg("dtb").args(&words).args(more).output().unwrap();
            accepted(&output)
        };
        let (blob, source) = (path("tree.dtb"), path("tree.dts"));
        minivmm(&["--out", &blob]);
        std::fs::write(&source, minivmm(&[])).unwrap();
        dtc("dts", "dtb", &source);
        let again = path("dtb");
        dtc("dtb", "dts", &blob);
        let expected = std::fs::read_to_string(path("dts")).unwrap();
        dtc("dtb", "dts", &again);
        assert_eq!(std::fs::read_to_string(path("dts")).unwrap(), expected, "{options}");
    }
}

fn doctor_says_what_the_tests_do() {
    let output = Command::new(&*MINIVMM).arg("doctor").output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("/dev/kvm"), "{report}");
    if let Some(reason) = host::unfit() {
        let boots = report.contains("boots one in the lab");
        assert_eq!(output.status.code(), Some(i32::from(!boots)), "{report}");
        assert!(report.contains(&reason) && report.contains("the lab"), "{report}");
    } else {
        assert!(report.contains("Linux can run on it"), "{report}");
    }
}

fn doctor() -> String {
    let output = Command::new(&*MINIVMM).arg("doctor").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn doctor_says_the_same_on_a_busy_host() {
    let idle = doctor();
    let busy: Vec<_> =
        (0..4).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()).collect();
    let said: Vec<String> = (0..10).map(|_| doctor()).collect();
    for mut busy in busy {
        busy.kill().unwrap();
        busy.wait().unwrap();
    }
    assert!(said.iter().all(|report| *report == idle), "idle:\n{idle}\nbusy:\n{said:?}");
}

/// The lab's KVM is known to be fit. No tiny guest is run there, as a busy host could fail it.
fn the_lab_is_trusted() {
    if host::without_kvm().is_some() {
        return;
    }
    let output = Command::new(&*MINIVMM).arg("doctor").env(lab::IN_LAB, "1").output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("ok   Linux can run on it: this host is the lab"), "{report}");
}
