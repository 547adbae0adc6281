//! `minivmm collect`: gathers what describes a machine's reserved memory, by a shell script that runs on any board.

use std::{
    io,
    process::{Command, ExitStatus},
};

use clap::Args;

/// The script.
pub const SCRIPT: &str = include_str!("collect.sh");

/// The arguments of `minivmm collect`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct CollectArgs {
    /// Print the script instead of running it, for a board without minivmm
    #[arg(long)]
    pub print: bool,
}

/// Examples, for the end of the help.
const HELP: &str = "\
Examples:
  minivmm collect > board.tar                                 this machine
  minivmm collect --print | ssh root@board sh > board.tar     a board, which needs a shell and tar
  minivmm diagnose board.tar                                  what is wrong there
  tar -xf board.tar
  minivmm check board/board.dtb                               how Linux handles its reserved memory
  minivmm model --import board/cma/linux,cma --request 1519   why a request fails there

The archive has the device tree, the windows in debugfs, the kernel's messages about memory, its configuration without texts, its release,
the size of a page, owners of pages where page_owner=on, and from /proc: buddyinfo, cmdline, iomem, meminfo, pagetypeinfo, version and
vmstat. Nothing personal is in it: serial numbers and MAC addresses are zeros, and of the command line the values that do not concern
memory are replaced by x. What is missing, and what cannot be said without it, is in the file `missing`.";

/// Runs the script on this machine. The archive is its standard output.
///
/// # Errors
/// If there is no shell.
pub fn run() -> io::Result<ExitStatus> {
    Command::new("sh").args(["-c", SCRIPT]).status()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use cma::check::Tree;
    use vm_fdt::FdtWriter;

    use super::*;
    use crate::cli::diagnose::archive::{self, Contents, Limits};

    const ARGUMENTS: &str =
        "console=ttyS0,115200 cma=64M quiet  wifi.key=\"very secret\" serialno=ABC -- --token hunter2";
    const BLANKED: &str =
        "console=xxxxxxxxxxxx cma=64M quiet wifi.key=xxxxx xxxxxxx serialno=xxx -- xxxxxxx xxxxxxx";

    /// The flattened tree of a board.
    fn tree() -> Vec<u8> {
        let mut fdt = FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        fdt.property_string("model", "A board").unwrap();
        fdt.property_string("serial-number", "10000000deadbeef").unwrap();
        let chosen = fdt.begin_node("chosen").unwrap();
        fdt.property_string("bootargs", ARGUMENTS).unwrap();
        fdt.end_node(chosen).unwrap();
        let ethernet = fdt.begin_node("ethernet").unwrap();
        fdt.property("local-mac-address", &[0xdc, 0xa6, 0x32, 1, 2, 3]).unwrap();
        fdt.end_node(ethernet).unwrap();
        fdt.end_node(root).unwrap();
        fdt.finish().unwrap()
    }

    /// Runs the script on the file system of a board. Returns what the archive has, and the errors.
    fn collect(files: &[(&str, &[u8])]) -> (Contents, String) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join("root").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let programs = folder.path().join("bin");
        fs::create_dir_all(&programs).unwrap();
        for (name, text) in [
            ("uname", "[ $1 = -r ] && echo 6.1.0-board || echo aarch64"),
            ("getconf", "echo 65536"),
            ("journalctl", "exit 1"),
            ("dmesg", "cat $COLLECT_ROOT/dmesg"),
        ] {
            let path = programs.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", programs.display());
        let output = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("PATH", path)
            .env("COLLECT_ROOT", folder.path().join("root"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let read = archive::of_bytes(&output.stdout, Path::new("board.tar"), Limits::USUAL).unwrap();
        assert_eq!(read.cut, None);
        (read, String::from_utf8(output.stderr).unwrap())
    }

    fn text(contents: &Contents, name: &str) -> String {
        String::from_utf8_lossy(&contents.files[&format!("board/{name}")]).into_owned()
    }

    #[test]
    fn a_whole_board_without_anything_personal() {
        let tree = tree();
        let (board, errors) = collect(&[
            ("sys/firmware/fdt", &tree),
            ("proc/device-tree/serial-number", b"10000000deadbeef\0"),
            ("proc/device-tree/chosen/bootargs", format!("{ARGUMENTS}\0").as_bytes()),
            ("proc/device-tree/ethernet/local-mac-address", &[0xdc, 0xa6, 0x32, 1, 2, 3]),
            ("proc/cmdline", format!("{ARGUMENTS}\n").as_bytes()),
            ("proc/version", b"Linux version 6.1.0-board (jane@laptop) (gcc 12) #1\n"),
            ("proc/iomem", b"40000000-7fffffff : System RAM\n"),
            ("proc/meminfo", b"MemTotal: 1 kB\n"),
            ("proc/buddyinfo", b"x\n"),
            ("proc/pagetypeinfo", b"x\n"),
            ("proc/vmstat", b"x\n"),
            ("boot/config-6.1.0-board", b"CONFIG_CMA=y\nCONFIG_DEFAULT_HOSTNAME=\"laptop\"\n"),
            (
                "dmesg",
                b"[ 0.0] Linux version 6.1.0-board (jane@laptop) (gcc 12) #1\n[ 0.0] Kernel command line: wifi.key=secret cma=64M\n\
                  [ 0.1] usb: serial number 10000000deadbeef\n[ 9.0] cma: cma_alloc: isp: alloc failed, req-size: 4 pages, ret: -12\n\
                  [ 9.0] cma: number of available pages: 3@0\n[ 9.0] +1@7=> 4 free of 64 total pages\n",
            ),
            ("sys/kernel/debug/cma/isp/count", b"64\n"),
            ("sys/kernel/debug/cma/isp/base_pfn", b"64\n"),
            ("sys/kernel/debug/cma/isp/order_per_bit", b"0\n"),
            ("sys/kernel/debug/cma/isp/bitmap", b"4294967160 4294967295\n"),
            ("sys/kernel/debug/cma/isp/ranges/0/bitmap", b"1 2\n"),
            ("sys/kernel/debug/cma/isp/ranges/0/base_pfn", b"64\n"),
            (
                "sys/kernel/debug/page_owner",
                b"Page allocated\nPFN 1 type Movable Block 0 type CMA\n stack\n\nPage allocated\nPFN 2 Block 1 type Movable\n\n",
            ),
        ]);
        assert_eq!(errors, "");
        assert_eq!(text(&board, "cmdline").trim(), BLANKED);
        assert_eq!(text(&board, "uname").trim(), "6.1.0-board aarch64");
        assert_eq!(text(&board, "page_size").trim(), "65536");
        assert_eq!(text(&board, "config"), "CONFIG_CMA=y\n");
        assert_eq!(
            text(&board, "page_owner"),
            "Page allocated\nPFN 1 type Movable Block 0 type CMA\n stack\n\n"
        );
        assert_eq!(text(&board, "cma/isp/ranges/0/bitmap"), "1 2\n");
        assert!(text(&board, "dmesg").contains("+1@7=> 4 free"), "{}", text(&board, "dmesg"));
        let blob = &board.files["board/board.dtb"];
        assert_eq!(blob.len(), tree.len());
        let source = Tree::read(blob).unwrap().to_source();
        assert!(source.contains("model = \"A board\"") && source.contains(BLANKED), "{source}");
        for (name, content) in &board.files {
            let content = String::from_utf8_lossy(content);
            for personal in ["secret", "hunter2", "deadbeef", "jane", "laptop", "ABC", "\u{dc}"] {
                assert!(!content.contains(personal), "{name} has {personal}: {content}");
            }
            assert!(!content.as_bytes().windows(3).any(|bytes| bytes == [0xdc, 0xa6, 0x32]), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let (board, errors) = collect(&[
            ("proc/device-tree/model", b"A board\0"),
            ("proc/device-tree/serial-number", b"10000000deadbeef\0"),
            ("proc/device-tree/reserved-memory/ranges", b""),
            ("proc/iomem", b"00000000-00000000 : System RAM\n"),
            ("proc/cmdline", b"quiet\n"),
        ]);
        let missing = text(&board, "missing");
        for part in [
            "/sys/firmware/fdt cannot be read, as it needs root",
            "/proc/iomem has no addresses without root",
            "/proc/meminfo cannot be read, so the size of RAM is unknown",
            "/sys/kernel/debug/cma is absent",
            "the kernel log has no messages",
            "there is no /proc/config.gz and no /boot/config",
        ] {
            assert!(
                missing.contains(part) && errors.contains(&format!("collect: {part}")),
                "{part}: {missing} {errors}"
            );
        }
        let names: Vec<_> = board.files.keys().filter(|name| name.contains("device-tree")).collect();
        assert_eq!(names, ["board/device-tree/model", "board/device-tree/reserved-memory/ranges"]);
        assert!(!board.files.contains_key("board/iomem"));
    }
}
