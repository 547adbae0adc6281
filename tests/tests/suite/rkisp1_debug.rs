//! Tests of Linux's drivers of the camera rkisp1 in the debug kernel (KASAN, lockdep, kmemleak, UBSAN, DMA_API_DEBUG): it finds no
//! mistake while they are used as they should be, and it finds mistakes that they are known to have.

use std::process::Command;

use guest_images::Arch;
use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
    tests,
};

use super::{
    debug_kernel::{KIND, LIMIT, SCAN, assert_silent},
    rkisp1::{BUFFERS, FUNCTIONS},
};

/// The tests, if `arch` has such an image.
pub(crate) fn group(arch: &Arch) -> Group {
    let all = tests![the_drivers_make_no_mistake, known_mistakes_are_found];
    let tests = if arch.kinds.contains(&KIND) { all } else { Vec::new() };
    let tests = tests.into_iter().map(Test::only_if_thorough).collect();
    Group { name: "rkisp1_debug", place: Place::Linux(vec![KIND]), tests }
}

/// Shell functions for the guest: `flows` waits until the camera has raised some interrupts, and `found NAME` prints what the kernel log
/// has found since the last call.
const MORE: &str = r#"
    found() { echo "found: $1"; dmesg -c | grep -E 'KASAN|driver bug' | head -40; }
    interrupts() { awk '/rkisp1/ { sum += $2 } END { print sum + 0 }' /proc/interrupts; }
    flows() {
        enough=$(($(interrupts) + 6)); tries=600
        until [ $(interrupts) -gt $enough ]; do
            tries=$((tries - 1)); [ $tries -gt 0 ] || { echo no frames; exit 8; }
            usleep 100000
        done
    }
"#;

/// Runs `script` in a guest with the camera, and returns what it printed.
#[track_caller]
fn run(script: &str) -> String {
    let initrd = guest::initramfs_with(KIND, &[("bin/rkisp1-buffers", BUFFERS)]);
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--boot-timeout", "9m", "--cma", "64M", "--camera", "none", "--device", "rkisp1"]);
    minivmm
        .args(["--image", &KIND.name(), "--cmdline", "kasan_multi_shot log_buf_len=8M"])
        .arg("--initrd")
        .arg(initrd.path());
    minivmm.arg("--exec").arg(format!("{FUNCTIONS}{SCAN}{MORE}{script}"));
    let output = guest::run_within(&mut minivmm, 2 * LIMIT);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    printed
}

/// Programs stream from each path and from both, get in each other's way, and the modules come and go.
fn the_drivers_make_no_mistake() {
    let printed = run(r#"forget; modules
        v4l2-compliance -m /dev/media0 | grep ^Grand
        set_up; stream mainpath 640 480 NV12 3
        only selfpath; path selfpath YUYV8_2X8 640x480 YUYV8_2X8 320x240; stream selfpath 320 240 XR24 3
        only both; path mainpath YUYV8_2X8 640x480 YUYV8_1_5X8 640x480
        main=$(media-ctl -e rkisp1_mainpath)
        v4l2-ctl -d $main -v width=640,height=480,pixelformat=NV12 || exit 6
        v4l2-ctl -d $(media-ctl -e rkisp1_selfpath) -v width=320,height=240,pixelformat=XR24 || exit 6
        stream selfpath 320 240 XR24 3 & stream mainpath 640 480 NV12 3; wait
        set_up; v4l2-ctl -d $main --stream-mmap=4 --stream-count=100000 > /tmp/first.log 2>&1 & program=$!
        flows
        v4l2-ctl -d $(media-ctl -e rkisp1_stats) --stream-mmap=4 --stream-count=3 > /tmp/log 2>&1 || exit 7
        v4l2-ctl -d $(media-ctl -e rkisp1_params) --stream-out-mmap=4 --stream-count=3 > /tmp/log 2>&1 || exit 7
        v4l2-ctl -d $main --stream-mmap=4 --stream-count=1 2>&1
        media-ctl -p > /dev/null; (only both) 2>&1; kill $program; wait $program
        set_up; for turn in $(seq 10); do stream mainpath 640 480 NV12 1; done
        rmmod rockchip-isp1 imx219 && modules; set_up; stream mainpath 640 480 NV12 2
        rmmod rockchip-isp1 imx219 i2c-rk3x phy-rockchip-dphy-rx0 && modules; set_up; stream mainpath 640 480 NV12 2
        rmmod rockchip-isp1 imx219 i2c-rk3x phy-rockchip-dphy-rx0; leaks
        grep debug_locks /proc/lockdep_stats; dmesg | grep -v ' cma: '"#);
    let (said, log) = printed.split_once("debug_locks:").unwrap_or_else(|| panic!("{printed}"));
    assert!(log.trim_start().starts_with('1'), "lockdep had stopped to look: {printed}");
    assert_eq!(said.matches("mainpath NV12: ").count(), 14, "{said}");
    assert_eq!(said.matches("selfpath XR24: ").count(), 2, "{said}");
    assert!(said.contains("VIDIOC_REQBUFS returned -1 (Device or resource busy)"), "{said}");
    assert!(said.contains("Unable to parse link: Device or resource busy"), "{said}");
    assert!(said.contains("Succeeded: 473, Failed: 8, Warnings: 0"), "{said}");
    assert!(!said.contains("unreferenced object"), "{said}");
    assert_silent(log);
}

/// Mistakes of Linux 6.1 that need no fault of the camera. If a later kernel does not have one, the camera's manual changes, too.
fn known_mistakes_are_found() {
    // What is done, and what the kernel log says then.
    let mistakes = [
        // rkisp1_csi_s_stream() has kept a pointer to the sensor, whose driver has freed it.
        ("sensor", "BUG: KASAN: use-after-free in rkisp1_csi_s_stream"),
        // The driver's state has the nodes in it, and goes with the device while they are open.
        ("node", "in v4l2_release"),
        // rkisp1_stats_vb2_stop_streaming() gives back only 8 buffers, and keeps pointers to the others.
        ("statistics", "stop_streaming operation is leaving buf"),
        ("statistics", "BUG: KASAN: use-after-free in rkisp1_stats_vb2_stop_streaming"),
    ];
    let printed = run(r#"unbind() { echo $2 > $1/unbind; }
        bind() { echo $2 > $1/bind; modules; set_up; stream mainpath 640 480 NV12 2; }
        modules; set_up
        driver="/sys/bus/i2c/drivers/imx219 0-0010"
        v4l2-ctl -d $(media-ctl -e rkisp1_mainpath) -v width=640,height=480,pixelformat=NV12 --stream-mmap=4 \
            --stream-count=100000 > /tmp/log 2>&1 & program=$!
        flows; unbind $driver; kill $program; wait $program; bind $driver; found sensor
        driver=/sys/bus/platform/drivers/rkisp1; driver="$driver $(basename $driver/*.isp)"
        exec 3<> $(media-ctl -e rkisp1_mainpath); unbind $driver; exec 3>&-; bind $driver; found node
        rkisp1-buffers statistics $(media-ctl -e rkisp1_stats) 2; found statistics"#);
    for (name, says) in mistakes {
        let (_, part) =
            printed.split_once(&format!("found: {name}\n")).unwrap_or_else(|| panic!("{printed}"));
        let part = part.split("found: ").next().unwrap_or_default();
        assert!(part.contains(says), "{name} was not found: {part}");
    }
}
