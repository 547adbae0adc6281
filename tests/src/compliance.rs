//! v4l2-compliance on all that the camera's driver offers: the media device, its nodes, and streams in all formats.

use std::process::Command;

use crate::{
    guest::{self, text},
    harness::Extent,
};

/// In the guest: the media device with all its nodes, then each capture node with [`STREAMS`] by every way of doing I/O; the
/// buffers for DMABUF are the other node's, which are large enough.
const COMMAND: &str = "v4l2-compliance -m /dev/media0
    v4l2-ctl -d /dev/video1 -v width=1280,height=720
    v4l2-compliance -d /dev/video0 -e /dev/video1 $streams -a
    v4l2-ctl -d /dev/video0 -v width=1280,height=720
    v4l2-compliance -d /dev/video1 -e /dev/video0 $streams -a";

/// In the guest: the same for nodes of the multi-planar API.
const COMMAND_MULTIPLANAR: &str = "rmmod minivmm_camera; insmod /lib/modules/minivmm-camera.ko multiplanar=1
    v4l2-compliance -m /dev/media0
    v4l2-ctl -d /dev/video1 -v width=1280,height=720
    v4l2-compliance -d /dev/video0 -e /dev/video1 $streams
    # One plane of its frames is to be as large as one of the raw frames.
    v4l2-ctl -d /dev/video0 -v width=1280,height=720
    v4l2-compliance -d /dev/video1 -e /dev/video0 $streams";

/// Options for streams: of 60 frames, and then of two frames in all formats and sizes.
const STREAMS: &str = "-s -f2";

/// If the tests are not thorough: of eight frames, in one format.
const SHORT_STREAMS: &str = "-s8";

/// The parts that it reports on: the media device and its four nodes, then the two capture nodes.
const PARTS: usize = 7;

/// In the guest: the media device of a camera with an ISP, which has two nodes more; then streams of these, which need frames
/// beside them.
const COMMAND_WITH_ISP: &str = "v4l2-compliance -m /dev/media0
    v4l2-ctl -d /dev/video0 -v width=160,height=120 --stream-mmap --stream-count=1000000 > /dev/null 2>&1 & stream=$!
    v4l2-compliance -d /dev/video2 -e /dev/video1 $streams
    v4l2-compliance -d /dev/video3 -e /dev/video1 $streams
    kill $stream";

/// Runs it in a guest with a window for the largest frames. It must find the failures that are `known`, any number of
/// times, and no other failure or warning. All formats and sizes are streamed only if the tests are thorough.
///
/// # Panics
/// If it finds anything else.
pub fn passes(arguments: &str, known: &[&str]) {
    // Frames come when there are buffers for them, so that none is dropped however slow the guest is.
    let arguments = format!("{arguments} --memory 1536M --cma 512M --camera timing=stall");
    run(&arguments, COMMAND, PARTS, known);
}

/// The same for the nodes that a camera with an ISP has besides.
///
/// # Panics
/// If it finds anything.
pub fn passes_with_isp() {
    run("--cma 128M --camera timing=stall,sensor=yes", COMMAND_WITH_ISP, PARTS + 2, &[]);
}

/// The same for capture nodes of the multi-planar API.
///
/// # Panics
/// If it finds anything but the name of NV12M, which changed in Linux 6.0. The image builder corrects such names in the program, but
/// x86_64's program has this one only in pieces.
pub fn passes_multiplanar() {
    let known = "v4l2-test-formats.cpp(263): fmtdesc.description mismatch: was 'Y/UV 4:2:0 (N-C)', expected \
        'Y/CbCr 4:2:0 (N-C)'";
    run("--cma 128M --camera timing=stall", COMMAND_MULTIPLANAR, PARTS, &[known]);
}

fn run(arguments: &str, command: &str, parts: usize, known: &[&str]) {
    let streams = if Extent::asked() == Extent::Thorough { STREAMS } else { SHORT_STREAMS };
    let mut minivmm = Command::new(guest::minivmm());
    let command = format!("{{ streams='{streams}'\n{command}\n}} 2>&1");
    minivmm.args(arguments.split_whitespace()).args(["--exec", &command]);
    let output = guest::run_within(&mut minivmm, guest::LIMIT * 4);
    let log = text(&output.stdout).replace('\r', "\n");
    let lines = || log.lines().map(str::trim);
    let mut found: Vec<&str> =
        lines().filter_map(|line| line.split_once("fail: ")).map(|(_, what)| what).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, known, "{log}");
    let summaries: Vec<&str> = lines().filter(|line| line.starts_with("Total for ")).collect();
    assert_eq!(summaries.len(), parts, "{summaries:?}\n{log}");
    assert!(summaries.iter().all(|summary| summary.ends_with(", Warnings: 0")), "{log}");
    for tested in ["test MMAP (epoll): OK", "test DMABUF (select): OK"] {
        assert_eq!(lines().filter(|line| *line == tested).count(), 2, "{log}");
    }
    if known.is_empty() {
        assert!(summaries.iter().all(|summary| summary.contains(", Failed: 0,")), "{log}");
    }
    summaries.iter().for_each(|summary| println!("{summary}"));
}
