//! Tests in the debug kernel (KASAN, lockdep, kmemleak, UBSAN, DMA_API_DEBUG): it finds no mistake of our driver, and it finds
//! deliberate mistakes.

use std::{process::Command, time::Duration};

use guest_images::{Arch, Kind, Release};
use tests::{
    guest::{self, counter, printed},
    harness::{Group, Place},
    tests,
};

/// The image.
pub(crate) const KIND: Kind = Kind::Debug(Release::ALL[0]);

/// Time limit of a guest, which is several times slower than others.
pub(crate) const LIMIT: Duration = Duration::from_secs(540);

/// Texts in the log of this kernel if it found a mistake. kmemleak reports through debugfs, see [`SCAN`].
const FOUND: &[&str] =
    &["BUG", "WARNING", "UBSAN", "DMA-API", "ODEBUG", "list_add", "list_del", "Oops", "leak"];

/// Shell functions for the guest: `leaks` prints objects without a reference that were allocated since `forget`. kmemleak ignores
/// objects that are younger than 5 s (mm/kmemleak.c, MSECS_MIN_AGE).
pub(crate) const SCAN: &str =
    "forget() { echo scan > /sys/kernel/debug/kmemleak; echo clear > /sys/kernel/debug/kmemleak; }
    leaks() {
        sleep 6; echo scan > /sys/kernel/debug/kmemleak
        # A second scan finds references that moved during the first.
        echo scan > /sys/kernel/debug/kmemleak; cat /sys/kernel/debug/kmemleak
    }
    ";

/// The tests, if `arch` has such an image.
pub(crate) fn group(arch: &Arch) -> Group {
    Group {
        name: "debug_kernel",
        place: Place::Linux(vec![KIND]),
        tests: if arch.kinds.contains(&KIND) {
            tests![every_mistake_is_found, the_driver_makes_no_mistake]
        } else {
            Vec::new()
        },
    }
}

fn run(machine: &str, command: &str) -> String {
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--boot-timeout", "9m", "--image", &KIND.name()]).args(machine.split_whitespace());
    minivmm.args(["--exec", &format!("{SCAN}{command}")]);
    printed(&guest::run_within(&mut minivmm, LIMIT))
}

/// All mistakes in one guest, each after a mark in the log.
fn every_mistake_is_found() {
    let mistakes = [
        // Lockdep stops after its first report, and "sleep" causes one, too.
        ("lock-order", "WARNING: possible circular locking dependency detected"),
        ("list", "list_add double add"),
        ("shift", "UBSAN: shift-out-of-bounds"),
        ("sleep", "BUG: sleeping function called from invalid context"),
        ("dma", "DMA-API: platform minivmm-mistakes: device driver frees DMA memory with different size"),
        ("timer", "ODEBUG: free active"),
        ("use-after-free", "BUG: KASAN: use-after-free"),
        ("leak", "unreferenced object"),
    ];
    let names: Vec<&str> = mistakes.iter().map(|(name, _)| *name).collect();
    let command = format!(
        "set -e; forget
        for mistake in {}; do
            echo \"mistake $mistake\" > /dev/kmsg
            insmod /lib/modules/minivmm-mistakes.ko mistake=$mistake
            [ $mistake != leak ] || leaks | while read -r line; do echo \"$line\" > /dev/kmsg; done
            rmmod minivmm_mistakes
        done; dmesg",
        names.join(" ")
    );
    let log = run("--cma 16M", &command);
    for (name, says) in mistakes {
        let part =
            log.split(&format!("mistake {name}\n")).nth(1).unwrap_or_else(|| panic!("no {name} in {log}"));
        let part = part.split("mistake ").next().unwrap_or_default();
        assert!(part.contains(says), "{name} was not found: {part}");
        assert!(FOUND.iter().any(|word| says.contains(word)) || name == "leak", "FOUND does not know {says}");
    }
}

/// Two cameras, one with an ISP: all nodes stream in all ways, are unbound while they stream, and pass
/// v4l2-compliance without streams.
fn the_driver_makes_no_mistake() {
    let command = "set -e -o pipefail
        driver=/sys/bus/platform/drivers/minivmm-camera
        stream() { node=$1; shift; v4l2-ctl -d /dev/video$node \"$@\" > /tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }; }
        forget
        # A camera's nodes: processed, raw, and of one with an ISP statistics and parameters.
        list=$(for file in /sys/class/video4linux/video*; do echo $(cat $file/name); done); echo \"$list\"
        with_isp=$(for file in /sys/class/video4linux/video*; do case $(cat $file/name) in *statistics*) basename $file;; esac; done)
        statistics=${with_isp#video} frames=$((statistics - 2)) raw=$((statistics - 1)) params=$((statistics + 1))
        [ $frames = 0 ] && plain=4 || plain=0
        for node in $plain $((plain + 1)) $frames $raw; do
            stream $node -v width=160,height=120 --stream-mmap=3 --stream-count=5
            stream $node --stream-user=3 --stream-count=5 || true
            head -c 4096 /dev/video$node > /dev/null
        done
        stream $frames --stream-dmabuf --export-device=/dev/video$raw --stream-count=5
        for cameras in once again; do
            for node in $plain $((plain + 1)) $frames $raw $statistics; do
                v4l2-ctl -d /dev/video$node --stream-mmap=3 --stream-count=1000000 > /dev/null 2>&1 &
            done
            v4l2-ctl -d /dev/video$params --stream-out-mmap=3 --stream-count=1000000 > /dev/null 2>&1 &
            counters=$(echo /sys/kernel/debug/minivmm-camera/*/counters)
            until cat $counters | grep -q 'params_frames [1-9]'; do usleep 50000; done
            usleep 500000; cat $counters
            for device in $driver/*.camera; do echo $(basename $device) > $driver/unbind; done; wait || true
            for device in /sys/bus/platform/devices/*.camera; do echo $(basename $device) > $driver/bind; done
        done
        for device in $driver/*.camera; do echo $(basename $device) > $driver/unbind; done
        rmmod minivmm_camera; insmod /lib/modules/minivmm-camera.ko
        stream 0 --stream-mmap=3 --stream-count=3
        v4l2-compliance -m /dev/media0 2>&1 | grep -e 'Total for' -e 'fail:'
        rmmod minivmm_camera
        leaks
        grep debug_locks /proc/lockdep_stats
        dmesg";
    let output = run("--cma 256M --camera timing=stall,sensor=yes --camera timing=stall", command);
    let (said, log) = output.split_once("debug_locks:").unwrap_or_else(|| panic!("{output}"));
    assert!(log.trim_start().starts_with('1'), "lockdep had stopped to look: {output}");
    assert!(said.contains(", Failed: 0,"), "{output}");
    assert!(["processed_frames ", "raw_frames "].iter().all(|name| counter(said, name) > 0), "{output}");
    assert_silent(log);
    assert!(!said.contains("unreferenced object"), "{said}");
}

/// This kernel found no mistake.
#[track_caller]
pub(crate) fn assert_silent(log: &str) {
    for word in FOUND {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(word) && !is_boot(line)).collect();
        assert!(lines.is_empty(), "{lines:#?} in {log}");
    }
}

/// Messages at boot that show that the checkers are active.
fn is_boot(line: &str) -> bool {
    ["kmemleak: ", "DMA-API: preallocated", "DMA-API: debugging enabled"]
        .iter()
        .any(|start| line.contains(start))
}
