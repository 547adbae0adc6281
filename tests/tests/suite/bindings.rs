//! Validates our bindings, and the generated trees against the kernel's bindings and ours, with dt-validate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use guest_images::{Arch, debian};
use tests::{
    cross,
    harness::{Group, Place},
    lab::Lab,
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    Group { name: "bindings", place: Place::OutsideOfLabs, tests: tests![bindings_and_trees,] }
}

/// Our bindings: their paths in a folder of bindings.
const OURS: [&str; 6] = [
    "media/minivmm,camera.yaml",
    "minivmm.yaml",
    "misc/minivmm,agent.yaml",
    "misc/minivmm,exit.yaml",
    "virtio/minivmm,disk.yaml",
    "virtio/minivmm,share.yaml",
];
/// The kernel's bindings that apply to our nodes.
const KERNEL: [&str; 30] = [
    "arm/cpus.yaml",
    "arm/psci.yaml",
    "clock/fixed-clock.yaml",
    "display/fsl,lcdif.yaml",
    "display/panel/panel-common.yaml",
    "display/panel/panel-simple.yaml",
    "dma/altr,msgdma.yaml",
    "dma/dma-common.yaml",
    "dma/dma-controller.yaml",
    "i2c/i2c-rk3x.yaml",
    "interrupt-controller/arm,gic-v3.yaml",
    "interrupt-controller/arm,gic.yaml",
    "media/i2c/imx219.yaml",
    "media/rockchip,rk3568-vepu.yaml",
    "media/rockchip-isp1.yaml",
    "media/video-interfaces.yaml",
    "mfd/syscon.yaml",
    "phy/rockchip-mipi-dphy-rx0.yaml",
    "soc/rockchip/grf.yaml",
    "power/reset/syscon-poweroff.yaml",
    "regulator/fixed-regulator.yaml",
    "regulator/regulator.yaml",
    "reserved-memory/reserved-memory.yaml",
    "reserved-memory/shared-dma-pool.yaml",
    "serial/8250.yaml",
    "serial/rs485.yaml",
    "serial/serial.yaml",
    "timer/arm,arch_timer.yaml",
    "virtio/mmio.yaml",
    "virtio/virtio-device.yaml",
];
/// Complaints that are right: compatibles without a binding in YAML, and properties that a node cannot have; and the reason.
const EXPLAINED: [(&str, &str); 10] = [
    ("['intel,ce4100']", "described in text alone, bindings/x86/ce4100.txt"),
    ("['intel,ce4100-cp', 'simple-bus']", "described in text alone, bindings/x86/ce4100.txt"),
    (
        "['intel,ce4100-ioapic']",
        "described in text alone, bindings/interrupt-controller/intel,ce4100-ioapic.txt",
    ),
    (
        "['intel,ce4100-lapic']",
        "described in text alone, bindings/interrupt-controller/intel,ce4100-ioapic.txt",
    ),
    ("'iommus' is a required property", "the camera rkisp1 has no IOMMU, and its driver needs none"),
    ("['sony,imx290']", "described in text alone in 6.1, bindings/media/i2c/imx290.txt"),
    (
        "'orientation', 'rotation' do not match any of the regexes: 'pinctrl-[0-9]+'",
        "video-interface-devices.yaml has them, which the binding of imx219 in 6.1 does not include; libcamera asks for them",
    ),
    ("'power-domains' is a required property", "the camera rkisp1 is always on"),
    ("['numa-distance-map-v1']", "described in text alone, bindings/numa.txt"),
    ("['qemu,pvpanic-mmio']", "described in text alone, bindings/misc/pvpanic-mmio.txt"),
];

/// Time limit of the lab that makes the trees of another architecture.
const LIMIT: Duration = Duration::from_secs(120);

/// The programs of Debian's package dt-schema. Other versions of the Python package dtschema can come first in the path.
fn tool(name: &str) -> Command {
    Command::new(Path::new("/usr/bin").join(name))
}

/// Runs `command`. Returns its output, which is empty if it found no error.
#[track_caller]
fn complaints(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).trim().to_owned()
}

/// Copies all relevant bindings to `folder`/bindings, and processes them for dt-validate. Returns the path of the result.
fn schema(folder: &Path) -> PathBuf {
    let bindings = folder.join("bindings");
    fs::create_dir(&bindings).unwrap();
    let source = debian::unpacked("linux-source-6.1").unwrap().join("usr/src/linux-source-6.1.tar.xz");
    let root = "linux-source-6.1/Documentation/devicetree/bindings/";
    let mut tar = Command::new("tar");
    // The bindings are at the archive's beginning, and tar stops after the last.
    tar.args(["--occurrence=1", "--strip-components=4", "-xJf"]).arg(source).arg("-C").arg(&bindings);
    assert_eq!(complaints(tar.args(KERNEL.map(|file| format!("{root}{file}")))), "");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-images/bindings");
    for file in OURS {
        let to = bindings.join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(Path::new(ours).join(file), to).unwrap();
    }
    let schema = folder.join("schema.json");
    assert_eq!(complaints(tool("dt-mk-schema").args(["-j", "-o"]).arg(&schema).arg(&bindings)), "");
    schema
}

fn validate(schema: &Path, trees: &[PathBuf]) -> String {
    complaints(tool("dt-validate").args(["-m", "-s"]).arg(schema).args(trees))
}

/// The errors in `trees`, one a line, which begins with the tree's path. The line after it, with the binding, is left out.
fn unexplained(schema: &Path, trees: &[PathBuf]) -> Vec<String> {
    let said = validate(schema, trees);
    let explained = |line: &&str| EXPLAINED.iter().any(|(what, _)| line.ends_with(what));
    let errors = said.lines().filter(|line| !line.starts_with("\tFrom schema: "));
    errors.filter(|line| !explained(line)).map(str::to_owned).collect()
}

fn bindings_and_trees() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let schema = schema(folder);

    // Our bindings and their examples are valid.
    let bindings = folder.join("bindings");
    for file in OURS {
        let file = bindings.join(file);
        assert_eq!(complaints(tool("dt-doc-validate").arg("-u").arg(&bindings).arg(&file)), "");
        let example = complaints(tool("dt-extract-example").arg(&file));
        if !example.contains("compatible") {
            continue;
        }
        let (dts, dtb) = (folder.join("example.dts"), folder.join("example.dtb"));
        fs::write(&dts, example).unwrap();
        complaints(Command::new("dtc").args(["-q", "-O", "dtb", "-o"]).args([&dtb, &dts]));
        let said = validate(&schema, &[dtb]);
        assert!(!said.contains("minivmm,"), "{}: {said}", file.display());
    }

    let trees: Vec<Vec<PathBuf>> =
        cross::architectures().into_iter().map(|arch| trees(arch, folder)).collect();
    let found = unexplained(&schema, &trees.concat());
    assert!(found.is_empty(), "{found:#?}");

    // A mistake is reported, in a tree of each architecture.
    let trees: Vec<PathBuf> = trees.into_iter().map(|mut trees| trees.swap_remove(0)).collect();
    for tree in &trees {
        let mut bytes = fs::read(tree).unwrap();
        let name = b"interrupts\0";
        let at = bytes.windows(name.len()).position(|text| text == name).unwrap();
        bytes[at] = b'j';
        fs::write(tree, bytes).unwrap();
    }
    let found = unexplained(&schema, &trees);
    for tree in trees {
        let tree = tree.display().to_string();
        assert!(found.iter().any(|line| line.starts_with(&tree)), "{tree}: {found:#?}");
    }
}

/// Trees of machines for `arch`, as files in `folder`.
fn trees(arch: &'static Arch, folder: &Path) -> Vec<PathBuf> {
    let minivmm = cross::minivmm(arch).unwrap();
    let disk = format!("--root {}", minivmm.display());
    let machines = [
        "--cma 64M",
        "--cpus 3 --cma 64M --cma 64M,name=isp --camera window=isp,coherent=no --exec true",
        "--cma 64M --cma 64M,name=isp,alloc-ranges=0x60000000-0x70000000,align=16M --cma 64M,name=carve,not-reusable \
         --memory 2G --camera window=isp --cma-mode both",
        "--camera none --share .:work --share /usr,ro --root /",
        &disk,
        // The bindings have no dma-coherent, and that of the ISP has no memory-region.
        "--device msgdma,coherent=no --device msgdma,response=no,coherent=no",
        "--cma 64M --device rkisp1,coherent=no,window=none --device rkisp1,sensor=imx290,coherent=no,window=none",
        "--device lcdif,coherent=no,window=none --device lcdif,panel=640x480,coherent=no,window=none \
         --device lcdif,panel=800x480,coherent=no,window=none --device vepu,coherent=no,window=none",
        "--cpus 4 --memory 2G --numa 2 --cma 64M,node=0 --cma 64M,name=isp,node=1 --camera window=isp,node=0",
    ];
    let mut script = "set -e".to_owned();
    let mut trees = Vec::new();
    for (number, options) in machines.into_iter().enumerate() {
        let tree = folder.join(format!("{}-{number}.dtb", arch.name));
        script += &format!("\n{} dtb --out {} {options}", minivmm.display(), tree.display());
        trees.push(tree);
    }
    let status = if arch.name == Arch::host().name {
        Command::new("sh").args(["-c", &script]).status().unwrap().success()
    } else {
        let lab = Lab::new().arch(arch).timeout(Some(LIMIT)).writable(folder);
        lab.run(["sh", "-c", &script]).unwrap() == 0
    };
    assert!(status, "{script}");
    trees
}
