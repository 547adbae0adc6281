//! The camera's driver in Linux: what programs get from its nodes, one or both at once, and from its sub-devices; that it
//! keeps to its window, and lets go.

use devices::media::stamp;
use guest_images::Kind;
use tests::{
    compliance,
    guest::{IN_WINDOW, counter, exec, layout, printed, stream, text},
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::observe::frames::{self, FrameError};

/// The tests.
pub(crate) fn group() -> Group {
    // These depend on no architecture: they test the devices and the portable part of our driver.
    let same = tests![
        every_format_streams_right,
        other_clients_stream,
        sub_devices_are_the_sensor_and_the_isp,
        v4l2_compliance,
        large_frames_and_the_frame_clock,
        a_slow_node_does_not_disturb_the_other,
        buffers_go_from_node_to_node,
        a_sensors_controls_are_seen_in_its_frames,
        blanking_and_interval_are_one,
        controls_are_those_that_have_an_effect,
        the_isp_crops_and_scales,
        planes_lie_apart_if_the_driver_is_told_so,
    ];
    Group {
        name: "camera",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![
            buffers_outside_the_window_are_errors,
            the_driver_lets_go_while_streaming,
            both_nodes_stream_at_once,
            a_camera_that_is_not_coherent_streams_right,
        ]
        .into_iter()
        .chain(same.into_iter().map(Test::the_same_everywhere))
        .collect(),
    }
}

fn every_format_streams_right() {
    let processed = ["YUYV", "UYVY", "NV12", "NV16", "YU12", "RGB3", "BGR3", "BX24", "XR24", "GREY"];
    let raw = [
        ["RGGB", "GRBG", "GBRG", "BA81"],
        ["RG10", "BA10", "GB10", "BG10"],
        ["RG12", "BA12", "GB12", "BG12"],
        ["pRAA", "pgAA", "pGAA", "pBAA"],
        ["pRCC", "pgCC", "pGCC", "pBCC"],
    ];
    let formats = processed.iter().chain(raw.as_flattened());
    let streams: Vec<_> = formats.map(|&fourcc| (fourcc, 160, 120, 6)).collect();
    let some: Vec<_> = streams.iter().copied().step_by(3).collect();
    let without_sensor = if Extent::asked() == Extent::Thorough { &streams } else { &some };
    for (source, streams) in [("scene=noise", without_sensor), ("sensor=yes", &streams)] {
        stream(&format!("--cma 256M --camera timing=stall,{source}"), streams);
    }
}

fn large_frames_and_the_frame_clock() {
    let large = [("YUYV", 160, 120, 70), ("YUYV", 1920, 1080, 5), ("NV12", 3840, 2160, 4)];
    let cpus = Extent::asked().cpus();
    stream(&format!("--cma 256M --camera timing=stall,scene=zone-plate --cpus {cpus}"), &large);
    // The frame clock runs on when nobody takes frames: they are dropped, and the sequence counts them.
    let command = "v4l2-ctl --stream-mmap=2 --stream-count=30 --stream-to=- 2> /dev/null | { usleep 500000; cat > /dev/null; }
        in_window cma0; cat /sys/kernel/debug/minivmm-camera/*/counters";
    let command = format!("{IN_WINDOW}{command}");
    let counters = printed(&exec("--cma 64M --camera timing=free,fps=20", &command));
    for (name, least) in [("frames ", 30), ("drops ", 1)] {
        assert!(counter(&counters, name) >= least, "{counters}");
    }
    assert_eq!(
        (counter(&counters, "bus_errors "), counter(&counters, "config_errors ")),
        (0, 0),
        "{counters}"
    );
}

fn other_clients_stream() {
    let command = "yavta -c5 -n3 -f YUYV -s 640x480 /dev/video0 && yavta -c5 -n3 -f SRGGB8 -s 640x480 /dev/video1 && media-ctl -p && v4l2-ctl --all && in_window cma0";
    let command = format!("{IN_WINDOW}{command}");
    let output = printed(&exec("--cma 64M --camera timing=stall", &command));
    assert!(output.contains("Captured 5 frames in"), "{output}");
    assert!(output.contains("driver          minivmm-camera"), "{output}");
    assert!(output.contains("Pixel Format      : 'YUYV'"), "{output}");
}

/// Without room in its window a device gets buffers from elsewhere (dma_direct_alloc): the camera may not write there.
fn buffers_outside_the_window_are_errors() {
    let command = "v4l2-ctl -v width=640,height=480,pixelformat=RGB3 --stream-mmap=6 --stream-count=12 \
            --stream-to=/dev/null > /tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
        cat /sys/kernel/debug/minivmm-camera/*/counters; dmesg
        # The others are outside, and seen to be.
        (in_window cma0) 2>&1";
    let command = format!("{IN_WINDOW}{command}");
    for timing in ["stall", "free"] {
        let arguments = format!("--memory 256M --cma 4M --camera timing={timing}");
        let output = exec(&arguments, &command);
        assert_eq!(output.status.code(), Some(9), "{output:?}");
        let output = text(&output.stdout);
        assert!(output.contains("are not in the window cma0"), "{output}");
        assert!(counter(&output, "frames ") >= 8, "{output}");
        assert!(counter(&output, "bus_errors ") >= 2, "{output}");
        assert!(output.contains("bus error at 0x"), "{output}");
        assert!(!output.contains("resetting"), "{output}");
    }
}

/// Unbinding while programs stream, one of them in its first read, then binding and loading anew.
fn the_driver_lets_go_while_streaming() {
    let command = "set -e
        driver=/sys/bus/platform/drivers/minivmm-camera
        device=$(basename $(echo $driver/*.camera))
        v4l2-ctl -p 30 > /dev/null
        everywhere() {
          v4l2-ctl -d /dev/video0 --stream-mmap --stream-count=100000 > /dev/null 2>&1 &
          v4l2-ctl -d /dev/video1 --stream-mmap --stream-count=100000 > /dev/null 2>&1 &
          # Without a frame before the device is gone it would wait for ever (v4l2_event_dequeue).
          timeout 20 v4l2-ctl -d /dev/v4l-subdev0 --wait-for-event=frame_sync > /dev/null 2>&1 &
          usleep 500000
        }
        everywhere
        echo $device > $driver/unbind; wait || true
        [ ! -e /dev/video0 ] && [ ! -e /dev/video1 ] && [ ! -e /dev/v4l-subdev0 ] && [ ! -e /dev/media0 ]
        echo $device > $driver/bind
        cat /dev/video0 > /dev/null 2>&1 & cat /dev/video1 > /dev/null 2>&1 & usleep 500000
        # In use, the module stays; the device can be taken away.
        ! rmmod minivmm_camera 2> /dev/null
        echo $device > $driver/unbind; wait || true
        rmmod minivmm_camera
        insmod /lib/modules/minivmm-camera.ko
        v4l2-ctl -p 30 > /dev/null
        v4l2-ctl --stream-mmap=3 --stream-count=5 --stream-to=/dev/null > /dev/null 2>&1
        in_window isp
        cat /sys/kernel/debug/minivmm-camera/*/counters
        dmesg";
    let command = format!("{IN_WINDOW}{command}");
    let arguments = "--cma 64M,name=other,default --cma 64M,name=isp --camera window=isp,fps=0.2";
    let output = printed(&exec(arguments, &command));
    assert!(counter(&output, "frames ") >= 5 && counter(&output, "bus_errors ") == 0, "{output}");
    for bad in ["WARNING", "BUG", "Oops", "resetting", "still busy"] {
        assert!(!output.contains(bad), "{bad} in {output}");
    }
}

/// The raw node joins the processed one; each has frames of its own size, and both the same sequence.
fn both_nodes_stream_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let command = "set -e -o pipefail
        v4l2-ctl -d /dev/video0 -v width=320,height=240,pixelformat=NV12
        v4l2-ctl -d /dev/video1 -v width=640,height=480,pixelformat=GBRG
        buffers=$(echo /sys/kernel/debug/minivmm-camera/*/buffers)
        capture() {
          v4l2-ctl -d /dev/video$1 --stream-mmap=4 --stream-count=$2 --stream-to=/out/$1.raw 2> /tmp/log$1
        }
        capture 0 300 & first=$!
        until grep -q inflight $buffers || ! kill -0 $first 2> /dev/null; do :; done
        capture 1 20 & second=$!
        wait $first; wait $second
        in_window cma0
        cat /sys/kernel/debug/minivmm-camera/*/counters; dmesg";
    let arguments = format!("--cma 64M --camera timing=stall --out {}", folder.path().display());
    let counters = printed(&exec(&arguments, &format!("{IN_WINDOW}{command}")));
    let check = |file: &str, layout| frames::check_file(&folder.path().join(file), &layout).unwrap();
    let processed = check("0.raw", layout("NV12", 320, 240));
    assert_eq!(processed, frames::Checked { frames: 300, bad: Vec::new() });
    // The first of the raw frames is the one that the sensor had come to, which is frame 0 on a busy host; those after it follow.
    let raw = check("1.raw", layout("GBRG", 640, 480));
    let first = match raw.bad[..] {
        [] => 0,
        [(0, FrameError::Sequence { found, expected: 0 })] => found,
        _ => panic!("{raw:?}"),
    };
    assert!(raw.frames == 20 && first < 300, "{raw:?}");
    assert!(counter(&counters, "processed_frames ") >= 300, "{counters}");
    assert!(counter(&counters, "raw_frames ") >= 20 && counter(&counters, "drops ") == 0, "{counters}");
    assert!(!counters.contains("WARNING"), "{counters}");
}

/// In free timing, what one node has no buffer for is dropped by it alone.
fn a_slow_node_does_not_disturb_the_other() {
    let command = "set -e
        v4l2-ctl -d /dev/video1 --stream-mmap=2 --stream-count=3 --stream-to=- 2> /tmp/raw | { usleep 2000000; cat > /dev/null; } &
        raw=$!
        v4l2-ctl -d /dev/video0 --stream-mmap=4 --stream-count=30 --stream-to=/dev/null > /tmp/processed 2>&1
        wait $raw; cat /sys/kernel/debug/minivmm-camera/*/counters";
    let counters = printed(&exec("--cma 64M --camera timing=free,fps=20", command));
    let count = |name| counter(&counters, name);
    assert!(count("processed_frames ") >= 30 && count("raw_frames ") >= 3, "{counters}");
    assert!(count("raw_drops ") >= 10 && count("raw_drops ") > count("processed_drops "), "{counters}");
    assert_eq!(count("drops "), count("raw_drops ") + count("processed_drops "), "{counters}");
}

/// By DMABUF: the raw node exports them, and the processed one fills them.
fn buffers_go_from_node_to_node() {
    let folder = tempfile::tempdir().unwrap();
    let command = "v4l2-ctl -d /dev/video1 -v width=640,height=480
        v4l2-ctl -d /dev/video0 -v width=320,height=240,pixelformat=YUYV
        v4l2-ctl -d /dev/video0 --stream-dmabuf --export-device=/dev/video1 --stream-count=12 \
            --stream-to=/out/dmabuf.raw 2> /tmp/log || { cat /tmp/log >&2; exit 1; }
        # read() has buffers of the driver's own.
        head -c $((320 * 240 * 2 * 3)) /dev/video0 > /out/read.raw
        in_window cma0";
    let arguments = format!("--cma 64M --camera timing=stall --out {}", folder.path().display());
    printed(&exec(&arguments, &format!("{IN_WINDOW}{command}")));
    for (file, count) in [("dmabuf.raw", 12), ("read.raw", 3)] {
        let checked = frames::check_file(&folder.path().join(file), &layout("YUYV", 320, 240)).unwrap();
        assert_eq!(checked, frames::Checked { frames: count, bad: Vec::new() }, "{file}");
    }
}

fn sub_devices_are_the_sensor_and_the_isp() {
    let folder = tempfile::tempdir().unwrap();
    let command = r#"set -e
        sensor=$(media-ctl -e 'minivmm sensor') isp=$(media-ctl -e 'minivmm isp')
        echo "nodes $(media-ctl -e 'minivmm capture') $(media-ctl -e 'minivmm raw capture')"
        # A format of the sensor's is the raw node's, and one of the ISP's the processed node's; each is told.
        v4l2-ctl -d /dev/video1 --wait-for-event=source_change=0 > /tmp/changed & changed=$!
        usleep 300000
        media-ctl -V '"minivmm sensor":0[fmt:SBGGR12_1X12/1280x720]'
        media-ctl -V '"minivmm isp":1[fmt:RGB888_1X24/800x600]'
        wait $changed; cat /tmp/changed
        media-ctl --get-v4l2 '"minivmm isp":0'
        v4l2-ctl -d /dev/video1 -V; v4l2-ctl -d /dev/video0 -V
        # The other way round, and a raw node that is in use keeps the sensor as it is.
        v4l2-ctl -d /dev/video1 -v width=320,height=240,pixelformat=pRAA
        media-ctl --get-v4l2 '"minivmm sensor":0'
        # How samples lie in memory stays with their code.
        media-ctl -V '"minivmm sensor":0[fmt:SRGGB10_1X10/640x480]'
        v4l2-ctl -d /dev/video1 -V
        v4l2-ctl -d /dev/video1 --stream-mmap --stream-count=1000000 > /dev/null 2>&1 & stream=$!
        v4l2-ctl -d $sensor --wait-for-event=frame_sync
        media-ctl -V '"minivmm sensor":0[fmt:SBGGR8_1X8/1280x720]' 2>&1 && exit 1
        { kill $stream; wait $stream; } 2> /dev/null || true
        # The sensor's controls are everyone's.
        v4l2-ctl -d $sensor -c horizontal_flip=1
        v4l2-ctl -d /dev/video0 -C horizontal_flip; v4l2-ctl -d /dev/video1 -C horizontal_flip
        capture() {
          v4l2-ctl -d /dev/video0 -v width=160,height=120,pixelformat=RGB3 --stream-mmap --stream-count=1               --stream-to=/out/$1.raw 2> /dev/null
        }
        capture flipped; v4l2-ctl -d /dev/video0 -c horizontal_flip=0; capture plain"#;
    let arguments =
        format!("--cma 64M --camera timing=stall,scene=gradient --out {}", folder.path().display());
    let output = printed(&exec(&arguments, command));
    let mut rest = output.as_str();
    for part in [
        "nodes /dev/video0 /dev/video1",
        "source_change: pad/input=0 changes: 1",
        "[fmt:SBGGR12_1X12/1280x720",
        "Width/Height      : 1280/720",
        "Pixel Format      : 'BG12'",
        "Width/Height      : 800/600",
        "[fmt:SRGGB10_1X10/320x240",
        "Width/Height      : 640/480",
        "Pixel Format      : 'pRAA'",
        "Bytes per Line    : 800",
        "frame_sync",
        "Device or resource busy",
        "horizontal_flip: 1",
        "horizontal_flip: 1",
    ] {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part} is missing in\n{output}"));
        rest = after;
    }
    // Red grows to the right.
    let red = |file: &str, x: usize| std::fs::read(folder.path().join(file)).unwrap()[(160 + x) * 3];
    assert_eq!([red("plain.raw", 0), red("plain.raw", 159)], [0, 255]);
    assert_eq!([red("flipped.raw", 0), red("flipped.raw", 159)], [255, 0]);
}

/// Raw samples of 12 bits are the light times exposure and gains, above black; and the picture follows.
fn a_sensors_controls_are_seen_in_its_frames() {
    let folder = tempfile::tempdir().unwrap();
    let command = r#"set -e
        sensor=$(media-ctl -e 'minivmm sensor')
        capture() {
          name=$1; shift
          for control in "$@"; do v4l2-ctl -d $sensor -c $control; done
          v4l2-ctl -d /dev/video1 -v width=160,height=120,pixelformat=RG12 --stream-mmap --stream-count=1 \
              --stream-to=/out/$name.raw 2> /dev/null
          v4l2-ctl -d /dev/video0 -v width=160,height=120,pixelformat=GREY --stream-mmap --stream-count=1 \
              --stream-to=/out/$name.grey 2> /dev/null
        }
        capture plain
        capture shorter exposure=675
        capture amplified analogue_gain=512
        capture brighter digital_gain=384
        capture longer exposure=1350 analogue_gain=256 digital_gain=256 horizontal_blanking=8640
        capture capped vertical_blanking=563 exposure=100000"#;
    let arguments = format!(
        "--cma 16M --camera timing=stall,sensor=yes,noise=no,scene=flat,lamp=0.5:0.5:0.5 --out {}",
        folder.path().display()
    );
    printed(&exec(&arguments, command));
    let light = |name: &str| {
        let frame = std::fs::read(folder.path().join(format!("{name}.raw"))).unwrap();
        let samples = frame[stamp::LEN..].as_chunks().0.iter().map(|sample| u16::from_le_bytes(*sample));
        samples.map(|sample| f64::from(sample) - 256.0).sum::<f64>() / (160.0 * 120.0)
    };
    let grey = |name: &str| {
        let frame = std::fs::read(folder.path().join(format!("{name}.grey"))).unwrap();
        frame[stamp::LEN..].iter().map(|&y| u64::from(y)).sum::<u64>() / (160 * 120)
    };
    let plain = light("plain");
    // The last exposes until the frame ends: 683 lines less the margin of 8, and lines are twice as long then.
    for (name, factor) in
        [("shorter", 0.5), ("amplified", 1.0), ("brighter", 1.5), ("longer", 2.0), ("capped", 1.0)]
    {
        let found = light(name) / plain;
        assert!((found / factor - 1.0).abs() < 0.01, "{name}: {found} instead of {factor}");
    }
    let greys = ["shorter", "plain", "brighter", "longer"].map(grey);
    assert!(greys.is_sorted_by(|a, b| a + 8 < *b), "{greys:?}");
    assert!(grey("amplified").abs_diff(grey("plain")) <= 1 && grey("capped").abs_diff(grey("plain")) <= 1);
}

/// VIDIOC_S_PARM and VBLANK: one moves the other, and the frame clock; and each is told.
fn blanking_and_interval_are_one() {
    let command = r#"set -e
        sensor=$(media-ctl -e 'minivmm sensor')
        v4l2-ctl -d $sensor -C pixel_rate,link_frequency,horizontal_blanking,vertical_blanking
        v4l2-ctl -d /dev/video0 -P
        v4l2-ctl -d $sensor --wait-for-event=ctrl=vertical_blanking > /tmp/told & told=$!
        usleep 300000
        v4l2-ctl -d /dev/video0 -p 50
        wait $told; cat /tmp/told
        v4l2-ctl -d $sensor -C vertical_blanking
        v4l2-ctl -d $sensor -L | grep exposure
        v4l2-ctl -d $sensor -c vertical_blanking=26520
        v4l2-ctl -d /dev/video1 -P
        v4l2-ctl -d $sensor -L | grep exposure
        # Ten frames of a fifth of a second; the first of them ends with the first.
        centiseconds() { awk '{ print int($1 * 100) }' /proc/uptime; }
        start=$(centiseconds); v4l2-ctl -d /dev/video0 --stream-mmap --stream-count=10 > /dev/null 2>&1
        echo took at least two seconds: $(($(centiseconds) - start >= 199))
        # Another size leaves lines and frames as long as they are.
        v4l2-ctl -d /dev/video1 -v width=1920,height=1080
        v4l2-ctl -d /dev/video1 -P
        v4l2-ctl -d $sensor -C horizontal_blanking,vertical_blanking
        # More frames than the sensor can do.
        v4l2-ctl -d /dev/video1 -p 500
        v4l2-ctl -d $sensor -C vertical_blanking"#;
    let output = printed(&exec("--cma 64M --camera timing=free,sensor=yes", command));
    let mut rest = output.as_str();
    for part in [
        "horizontal_blanking: 3760",
        "vertical_blanking: 4020",
        "pixel_rate: 594000000",
        "link_frequency: 0 (891000000 ",
        "Frames per second: 30.000 (30/1)",
        "vertical_blanking",
        "vertical_blanking: 2220",
        "max=2692",
        "Frames per second: 5.000 (5/1)",
        "max=26992",
        "took at least two seconds: 1",
        "Frames per second: 5.000 (5/1)",
        "horizontal_blanking: 2480",
        "vertical_blanking: 25920",
        "Frame rate set to 120.000 fps",
        "vertical_blanking: 45",
    ] {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part} is missing in\n{output}"));
        rest = after;
    }
}

/// A generator of test patterns has no exposure; and where the device exposes by itself, its controls tell how.
fn controls_are_those_that_have_an_effect() {
    let command = "v4l2-ctl -d /dev/v4l-subdev0 -L; v4l2-ctl -d /dev/video0 -L";
    let without = printed(&exec("--cma 16M --camera timing=stall", command));
    for absent in ["exposure", "gain", "blanking", "pixel_rate", "link_frequency"] {
        assert!(!without.contains(absent), "{without}");
    }
    assert!(without.contains("horizontal_flip"), "{without}");
    assert!(!without.contains("binning"), "{without}");

    let command = "v4l2-ctl --stream-mmap --stream-count=20 > /dev/null 2>&1
        v4l2-ctl -L; v4l2-ctl -c exposure=100 2>&1; v4l2-ctl -c digital_gain=300 && v4l2-ctl -C digital_gain
        v4l2-ctl -c binning=1 && v4l2-ctl -C binning";
    let output = printed(&exec("--cma 16M --camera timing=stall,auto=yes,lamp=0.05:0.05:0.05", command));
    let value = |name: &str| -> u32 {
        let line = output.lines().find(|line| line.trim().starts_with(name)).expect(name);
        assert!(line.contains("flags=read-only, volatile"), "{line}");
        let (_, value) = line.split_once("value=").expect(line);
        value.split(' ').next().and_then(|value| value.parse().ok()).expect(line)
    };
    // In so little light a frame of 4500 lines is exposed for 95 % of them, and there is gain.
    assert!(value("exposure").abs_diff(4275) <= 1 && value("analogue_gain") > 256, "{output}");
    assert!(output.contains("binning: 1 (2 0x2)"), "{output}");
    assert!(output.contains("digital_gain: 300") && !output.contains("exposure: 100"), "{output}");
}

/// The sensor goes along with a plain program, and not with one that sets the pads; what the ISP gets can be cropped while it
/// streams.
fn the_isp_crops_and_scales() {
    let folder = tempfile::tempdir().unwrap();
    let command = r#"set -e
        isp=$(media-ctl -e 'minivmm isp')
        capture() {
          v4l2-ctl -d /dev/video0 --stream-mmap=3 --stream-count=4 --stream-to=/out/$1.raw 2> /dev/null
        }
        v4l2-ctl -d /dev/video0 -v width=1280,height=720,pixelformat=RGB3
        media-ctl --get-v4l2 '"minivmm sensor":0'
        media-ctl --get-v4l2 '"minivmm isp":0'
        v4l2-ctl -d /dev/video0 -v width=640,height=480
        media-ctl --get-v4l2 '"minivmm sensor":0'
        capture plain
        media-ctl -V '"minivmm isp":1[fmt:RGB888_1X24/320x240]'
        v4l2-ctl -d /dev/video0 -V
        media-ctl --get-v4l2 '"minivmm sensor":0'
        capture scaled
        # It is even, within the frame, and no smaller than what is made of it.
        media-ctl -V '"minivmm isp":0[crop:(331,101)/100x401]'
        v4l2-ctl -d $isp --get-subdev-selection pad=0,target=crop
        media-ctl -V '"minivmm isp":0[crop:(320,120)/320x240]'
        capture right
        # While it streams: the first frames are those of the right half, and the last of the left.
        v4l2-ctl -d /dev/video0 --stream-mmap=3 --stream-count=60 --stream-to=- 2> /dev/null | {
          dd bs=4096 count=112 iflag=fullblock 2> /dev/null > /out/moved.raw
          media-ctl -V '"minivmm isp":0[crop:(0,120)/320x240]'
          cat >> /out/moved.raw
        }
        # A raw node in use keeps the sensor, and no frame is larger than the crop.
        v4l2-ctl -d /dev/video1 --stream-mmap --stream-count=1000000 > /dev/null 2>&1 & stream=$!
        v4l2-ctl -d /dev/v4l-subdev0 --wait-for-event=frame_sync > /dev/null
        v4l2-ctl -d /dev/video0 -v width=1920,height=1080
        v4l2-ctl -d /dev/video0 -V
        { kill $stream; wait $stream; } 2> /dev/null || true
        # Without that, the smaller sensor takes the frames along.
        v4l2-ctl -d /dev/video0 -v width=640,height=480
        v4l2-ctl -d /dev/video1 -v width=320,height=240
        v4l2-ctl -d /dev/video0 -V"#;
    let arguments =
        format!("--cma 64M --camera timing=stall,scene=gradient,noise=no --out {}", folder.path().display());
    let output = printed(&exec(&arguments, command));
    let mut rest = output.as_str();
    for part in [
        "/1280x720",
        "/1280x720",
        "/640x480",
        "Width/Height      : 320/240",
        "/640x480",
        "Left 320, Top 80, Width 320, Height 400",
        "Width/Height      : 320/240",
        "Width/Height      : 320/240",
    ] {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part} is missing in\n{output}"));
        rest = after;
    }
    // Red grows to the right: its means at both ends of a line in the middle.
    let red = |file: &str, [width, height]: [u32; 2], frame: u64| {
        let (file, layout) = (folder.path().join(format!("{file}.raw")), layout("RGB3", width, height));
        let checked = frames::check_file(&file, &layout).unwrap();
        assert!(checked.bad.is_empty(), "{checked:?}");
        let frame = frames::read_frame(&file, &layout, frame).unwrap();
        let line = &frame[(width * 3 * height / 2) as usize..][..width as usize * 3];
        [&line[..24], &line[line.len() - 24..]]
            .map(|end| end.iter().step_by(3).map(|&red| u32::from(red)).sum::<u32>() / 8)
    };
    let [left, right] = red("plain", [640, 480], 3);
    let middle = left.midpoint(right);
    let small = [320, 240];
    for (file, frame, expected) in [
        ("scaled", 3, [left, right]),
        ("right", 3, [middle, right]),
        ("moved", 0, [middle, right]),
        ("moved", 59, [left, middle]),
    ] {
        let found = red(file, small, frame);
        let close = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 8);
        assert!(close && right > left + 200, "{file} {frame}: {found:?} instead of {expected:?}");
    }
}

/// The multi-planar API: each plane of NV12M and YUV420M has its own place, and the others' come one after the other as ever.
fn planes_lie_apart_if_the_driver_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let command = "set -e -o pipefail
        v4l2-ctl --list-formats > /tmp/plain; ! grep -e NM12 -e YM12 /tmp/plain
        rmmod minivmm_camera; insmod /lib/modules/minivmm-camera.ko multiplanar=1
        v4l2-ctl -D | grep -c 'Video Capture Multiplanar'
        for format in NM12 YM12 NV12 YUYV pRAA; do
          [ $format = pRAA ] && node=1 list=buffers-raw || node=0 list=buffers
          v4l2-ctl -d /dev/video$node -v width=320,height=240,pixelformat=$format --stream-mmap=3 --stream-count=8 \
              --stream-to=- 2> /tmp/log | {
            dd bs=4096 count=4 iflag=fullblock 2> /dev/null > /out/$format.raw
            cat /sys/kernel/debug/minivmm-camera/*/$list > /out/$format.buffers
            cat >> /out/$format.raw
          } || { cat /tmp/log >&2; exit 1; }
        done
        in_window cma0";
    let arguments = format!("--cma 64M --camera timing=stall,scene=noise --out {}", folder.path().display());
    let output = printed(&exec(&arguments, &format!("{IN_WINDOW}{command}")));
    assert_eq!(output.trim(), "2", "of the driver, and of the node");
    for (name, contiguous, sizes) in [
        ("NM12", "NV12", &[76_800, 38_400][..]),
        ("YM12", "YU12", &[76_800, 19_200, 19_200]),
        ("NV12", "NV12", &[115_200]),
        ("YUYV", "YUYV", &[153_600]),
        ("pRAA", "pRAA", &[96_000]),
    ] {
        let file = folder.path().join(format!("{name}.raw"));
        let checked = frames::check_file(&file, &layout(contiguous, 320, 240)).unwrap();
        assert_eq!(checked, frames::Checked { frames: 8, bad: Vec::new() }, "{name}");
        let list = std::fs::read_to_string(file.with_extension("buffers")).unwrap();
        let buffers = frames::parse_buffers(&list).unwrap();
        assert!(buffers.len() >= 2 * sizes.len(), "{name}: {list}");
        let found: Vec<u64> = buffers.iter().map(|buffer| buffer.bytes).collect();
        assert_eq!(found, sizes.repeat(buffers.len() / sizes.len()), "{name}: {list}");
    }
}

fn v4l2_compliance() {
    compliance::passes("", &[]);
    compliance::passes_multiplanar();
}

/// On arm64 its buffers are mapped uncached then.
fn a_camera_that_is_not_coherent_streams_right() {
    let streams = [("YUYV", 640, 480, 10), ("NV12", 1280, 720, 8)];
    stream("--cma 64M --camera timing=stall,coherent=no", &streams);
}
