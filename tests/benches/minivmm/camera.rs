//! Frames by DMA to a bare-metal guest on the native /dev/kvm, compared with a memcpy of the same bytes.
//!
//! The guest (tests/bare-metal/stream.c) takes an interrupt for each frame, checks its stamp and commits the next
//! buffer. The time is that of the camera, from the start of one frame to the start of another [`MEASURED`] frames
//! later. It includes the whole cost of a frame, with interrupts and the guest's work, but neither the guest's boot
//! nor the [`WARM_UP`] frames before, in which the picture is drawn, its checksums are computed, and memory is first
//! touched. The memcpy copies whole planes, in a thread of its own, from a picture of the same shape to the same number of
//! buffers in memory like guest memory, after the same number of warm-up frames. Rounds of the two alternate.
//!
//! The guest's CPU spins while it waits, because not every KVM can wake a bare-metal guest. A thread also spins beside the
//! memcpy, so that both have the same share of a machine that does other work.

use std::{
    error::Error,
    hint, ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use serde::Serialize;
use tests::bare_metal::BareMetal;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm::{boot::memory, machine::config::DeviceRequest, observe::report::MachineOutcome};

use crate::{median, verdict};

/// Number of frames before the measured ones. The camera's pictures repeat after 61 frames.
pub(crate) const WARM_UP: usize = 62;
/// Number of measured frames in each round. The guest has enough interrupt vectors for them.
pub(crate) const MEASURED: usize = 150;
/// Odd, for medians.
const ROUNDS: usize = 7;
/// Goal for the ratio of DMA to memcpy.
const RATIO_GOAL: f64 = 0.9;
/// The number of phases of the camera's picture, each two lines further down (devices/media/src/test_pattern.rs).
const PHASES: usize = 61;
const PHASE_LINES: usize = 2;
/// Memory that is created like guest memory, large enough for the guest and its buffers.
const MEMORY: u64 = 128 << 20;
const WINDOW: u64 = 64 << 20;

/// One size and format.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    width: usize,
    height: usize,
    fourcc: &'static [u8; 4],
    /// For each plane: bytes of a line, and lines of the picture for each line of the plane.
    planes: &'static [(usize, usize)],
}

pub(crate) const CASES: [Case; 4] = [
    Case { name: "1080p YUYV", width: 1920, height: 1080, fourcc: b"YUYV", planes: &[(3840, 1)] },
    Case { name: "1080p NV12", width: 1920, height: 1080, fourcc: b"NV12", planes: &[(1920, 1), (1920, 2)] },
    Case { name: "2160p YUYV", width: 3840, height: 2160, fourcc: b"YUYV", planes: &[(7680, 1)] },
    Case { name: "2160p NV12", width: 3840, height: 2160, fourcc: b"NV12", planes: &[(3840, 1), (3840, 2)] },
];

impl Case {
    fn frame_bytes(&self) -> usize {
        self.planes.iter().map(|(line, lines)| line * (self.height / lines)).sum()
    }

    fn buffer_bytes(&self) -> usize {
        self.frame_bytes().next_multiple_of(4096)
    }

    /// Number of buffers: as many as the window holds, so that frames do not stay in a cache.
    fn buffers(&self) -> usize {
        (WINDOW / self.buffer_bytes() as u64).try_into().unwrap_or(usize::MAX)
    }
}

/// The results for a size and format: medians of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Size and format.
    name: &'static str,
    /// Bytes of a frame.
    frame_bytes: usize,
    /// Frames per second of the guest.
    frames_per_second: f64,
    /// Bytes per second of the guest.
    bytes_per_second: f64,
    /// Bytes per second of memcpy.
    memcpy_bytes_per_second: f64,
    /// The ratio of guest to memcpy in the same round.
    ratio: f64,
    /// The ratio of each round.
    ratios: Vec<f64>,
    /// Whether `ratio` meets the goal.
    goal_met: bool,
}

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    println!("Camera to a bare-metal guest on /dev/kvm, medians of {ROUNDS} rounds of {MEASURED} frames");
    println!("{:<12}{:>10}{:>10}{:>14}{:>8}", "", "frames/s", "GB/s", "memcpy GB/s", "ratio");
    let folder = tempfile::tempdir()?;
    let mut all = Vec::new();
    for case in &CASES {
        let guest = guest(case, "timing=stall")?.build(folder.path());
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((stream(&guest)?.0, copy(case)?));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let bytes = (MEASURED * case.frame_bytes()) as f64;
        let ratios: Vec<f64> = rounds.iter().map(|(camera, memcpy)| memcpy / camera).collect();
        let seconds = median(rounds.iter().map(|(camera, _)| *camera));
        let ratio = median(ratios.iter().copied());
        let figures = Figures {
            name: case.name,
            frame_bytes: case.frame_bytes(),
            frames_per_second: MEASURED as f64 / seconds,
            bytes_per_second: bytes / seconds,
            memcpy_bytes_per_second: bytes / median(rounds.iter().map(|(_, memcpy)| *memcpy)),
            ratio,
            ratios,
            goal_met: ratio >= RATIO_GOAL,
        };
        println!(
            "{:<12}{:>10.0}{:>10.2}{:>14.2}{:>8.2}  {}",
            figures.name,
            figures.frames_per_second,
            figures.bytes_per_second / 1e9,
            figures.memcpy_bytes_per_second / 1e9,
            figures.ratio,
            verdict(figures.goal_met)
        );
        all.push(figures);
    }
    Ok(all)
}

pub(crate) fn guest(case: &Case, camera: &str) -> Result<BareMetal, Box<dyn Error>> {
    let mut guest = BareMetal::new("stream")
        .with("FORMAT", u32::from_le_bytes(*case.fourcc).into())
        .with("WIDTH", case.width as u64)
        .with("HEIGHT", case.height as u64)
        .with("PLANES", case.planes.len() as u64)
        .with("BUFFERS", case.buffers() as u64)
        .with("WARM_UP", WARM_UP as u64)
        .with("MEASURED", MEASURED as u64);
    guest.config.memory = MEMORY;
    guest.config.windows = vec![cma::size::format(WINDOW).parse()?];
    guest.config.devices = vec![DeviceRequest::new("camera", camera)?];
    Ok(guest)
}

/// Streams to `guest`: the seconds that the measured frames took, and how many were dropped among them.
pub(crate) fn stream(guest: &BareMetal) -> Result<(f64, u32), Box<dyn Error>> {
    let (report, printed) = guest.run();
    if report.outcome != (MachineOutcome::Exit { status: 0 }) {
        return Err(format!("the streaming guest ended with {:?}: {printed}", report.outcome).into());
    }
    let (nanoseconds, drops) = printed.trim().split_once('\n').ok_or("the guest prints two numbers")?;
    Ok((nanoseconds.trim().parse::<f64>()? / 1e9, drops.parse()?))
}

/// Copies as many frames, beside a thread that spins: the seconds that the measured ones took.
fn copy(case: &Case) -> Result<f64, Box<dyn Error>> {
    let memory = memory::create(&[0..MEMORY], false)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        });
        let copying = scope.spawn(|| copy_frames(case, &memory));
        let seconds = copying.join();
        done.store(true, Ordering::Relaxed);
        seconds.map_err(|_| "the memcpy thread panicked".into())
    })
}

fn copy_frames(case: &Case, memory: &GuestMemoryMmap) -> f64 {
    let picture: Vec<Vec<u8>> = case
        .planes
        .iter()
        .map(|(line, lines)| vec![0x80; line * ((case.height + (PHASES - 1) * PHASE_LINES) / lines)])
        .collect();
    let mut begun = Instant::now();
    for frame in 0..WARM_UP + MEASURED {
        if frame == WARM_UP {
            begun = Instant::now();
        }
        let mut at = MEMORY - WINDOW + (frame % case.buffers() * case.buffer_bytes()) as u64;
        for (plane, (line, lines)) in picture.iter().zip(case.planes) {
            let bytes = line * (case.height / lines);
            let phase = &plane[frame % PHASES * PHASE_LINES / lines * line..][..bytes];
            let destination = memory.get_slice(GuestAddress(at), bytes).expect("buffers lie in the memory");
            // SAFETY: both have `bytes` bytes, and no other code accesses this memory.
            unsafe { ptr::copy_nonoverlapping(phase.as_ptr(), destination.ptr_guard_mut().as_ptr(), bytes) };
            at += bytes as u64;
        }
    }
    begun.elapsed().as_secs_f64()
}
