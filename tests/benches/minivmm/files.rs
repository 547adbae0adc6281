//! The host's side of `--out`: a guest's file on its way from the console's port into the folder.
//!
//! A tar stream with one file is written in pieces of the size that the console hands over at once.

use std::{
    error::Error,
    fs,
    io::{self, Read, Write as _},
    path::Path,
    time::Instant,
};

use devices::virtio::console::Sink as _;
use serde::Serialize;
use vmm::guest::files::Files;

use crate::{median, verdict};

/// Odd, for medians.
const ROUNDS: usize = 5;
/// Size of the file in bytes.
const SIZE: usize = 512 << 20;
/// The pieces of the stream, in bytes.
const PIECE: usize = 64 << 10;
const MB: f64 = 1e6;
/// Goal: 100 MB/s.
const GOAL: f64 = 100.0 * MB;

/// The results.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Bytes a second, until the file is whole in the folder: the median of the rounds.
    rate: f64,
    /// Whether `rate` meets the goal.
    goal_met: bool,
}

/// Measures in a folder below `folder`.
pub(crate) fn run(folder: &Path) -> Result<Figures, Box<dyn Error>> {
    let rounds = (0..ROUNDS).map(|_| round(folder)).collect::<io::Result<Vec<_>>>()?;
    let rate = median(rounds);
    let figures = Figures { rate, goal_met: rate >= GOAL };
    let (size, verdict) = (SIZE >> 20, verdict(figures.goal_met));
    println!("\nA file of {size} MiB from the guest's port to --out   {:>6.0} MB/s  {verdict}", rate / MB);
    Ok(figures)
}

fn round(folder: &Path) -> io::Result<f64> {
    let out = tempfile::tempdir_in(folder)?;
    let files = Files::unpack_into(out.path())?;
    let mut sink = files.output().clone();
    // Each piece waits for room.
    sink.be_patient();
    let mut header = tar::Header::new_gnu();
    header.set_path("file")?;
    header.set_size(SIZE as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let piece = [0x5a; PIECE];
    let start = Instant::now();
    sink.write_all(header.as_bytes())?;
    for _ in 0..SIZE / PIECE {
        sink.has_room();
        sink.write_all(&piece)?;
    }
    sink.write_all(&[0; 1024])?;
    drop(sink);
    files.finish().1?;
    let seconds = start.elapsed().as_secs_f64();
    let mut first = [0; 8];
    fs::File::open(out.path().join("file"))?.read_exact(&mut first)?;
    assert_eq!(first, [0x5a; 8]);
    Ok(SIZE as f64 / seconds)
}
