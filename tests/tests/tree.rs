//! The generated tree, as dtc sees it: no warning, and the nodes that Linux looks for.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
};

use tests::{ground, programs};

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

/// The lines of the node `name`, whose address may be left out, up to its end.
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

#[test]
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

#[test]
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

#[test]
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

#[test]
fn doctor_says_what_the_tests_do() {
    let output = Command::new(&*MINIVMM).arg("doctor").output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("/dev/kvm"), "{report}");
    if let Some(reason) = ground::unfit() {
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert!(report.contains("cargo lab -- minivmm"), "{reason}\n{report}");
    } else {
        assert!(report.contains("Linux can run on it"), "{report}");
    }
}
