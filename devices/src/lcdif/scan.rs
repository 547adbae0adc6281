//! The scan-out of a frame: memory, pixels on their way to the panel, their checksum, and a copy of them for those who look.

use std::sync::atomic::{AtomicBool, Ordering};

use crc32fast::Hasher;
use media::{
    Captured, Layout,
    display::{Pixel, RGB},
};

use super::{
    faults::Scan,
    registers::{Job, Outcome},
};
use crate::dma::DmaPort;

/// Bytes of memory that are read at a time: whole pixels of any size.
const PIECE: usize = 16 << 10;

/// The pixels of a piece, if they are the smallest.
const PIXELS: usize = PIECE / Pixel::Rgb565.bytes();

/// Scans frames out. Its memory stays from frame to frame.
#[derive(Debug)]
pub(super) struct Scanner {
    piece: Vec<u8>,
    rgb: Vec<u8>,
    /// The picture that was scanned out last, if it was kept.
    picture: Vec<u8>,
    layout: Option<Layout>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { piece: vec![0; PIECE], rgb: vec![0; PIXELS * RGB], picture: Vec::new(), layout: None }
    }
}

impl Scanner {
    /// Scans out the frame of `job`. The picture is kept if it `is_kept` and is one that can be shown. Ends early if `abandon` is set: the
    /// outcome is of no use then.
    pub(super) fn scan(&mut self, job: &Job, dma: &DmaPort, is_kept: bool, abandon: &AtomicBool) -> Outcome {
        self.layout = None;
        let [width, height] = job.size;
        let Some(pixel) = job.pixel.filter(|_| width > 0 && height > 0) else { return Outcome::default() };
        let line = u64::from(width) * pixel.bytes() as u64;
        let read = match dma.begin_read(job.address.into(), line * u64::from(height)) {
            Ok(read) => read,
            Err(error) => return Outcome { refused: Some(error.address), ..Outcome::default() },
        };
        let lines = match job.fault {
            Some(Scan::Underrun { lines }) => lines.min(height),
            None => height,
        };
        let bytes = line * u64::from(lines);
        let mut panel = Panel {
            hasher: Hasher::new(),
            picture: &mut self.picture,
            layout: Layout::new(u32::from_le_bytes(*b"RGB3"), width, height).ok().filter(|_| is_kept),
        };
        panel.picture.clear();
        let mut at = 0;
        while at < bytes && !abandon.load(Ordering::Relaxed) {
            let piece = piece_of(&mut self.piece, bytes - at);
            read.read(at, piece);
            let length = pixel.to_rgb(piece, &mut self.rgb);
            panel.take(&self.rgb[..length]);
            at += piece.len() as u64;
        }
        let mut black = u64::from(width) * u64::from(height - lines) * RGB as u64;
        self.rgb.fill(0);
        while black > 0 && !abandon.load(Ordering::Relaxed) {
            let piece = piece_of(&mut self.rgb, black);
            panel.take(piece);
            black -= piece.len() as u64;
        }
        self.layout = panel.layout;
        let crc = Some(panel.hasher.finalize());
        Outcome { crc, refused: None, is_short: lines < height, bytes }
    }

    /// The picture that was scanned out last; none if it was not kept.
    pub(super) fn picture(&self) -> Option<Picture<'_>> {
        self.layout.map(|layout| Picture { layout, rgb: &self.picture })
    }
}

/// A picture as the panel shows it.
pub(super) struct Picture<'a> {
    layout: Layout,
    rgb: &'a [u8],
}

impl Picture<'_> {
    /// A copy in `memory`, as the frame with this number.
    pub(super) fn captured(&self, number: u32, memory: Vec<u8>) -> Captured {
        let mut lines = self.rgb.chunks_exact(self.layout.width() as usize * RGB);
        Captured::read(&self.layout, number, memory, |_, _, line| {
            if let Some(from) = lines.next() {
                line.copy_from_slice(from);
            }
        })
    }
}

/// The first bytes of `buffer`, at most `rest`.
fn piece_of(buffer: &mut [u8], rest: u64) -> &mut [u8] {
    let length = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
    &mut buffer[..length]
}

/// Where the pixels go.
struct Panel<'a> {
    hasher: Hasher,
    picture: &'a mut Vec<u8>,
    /// That of the picture, if it is kept.
    layout: Option<Layout>,
}

impl Panel<'_> {
    fn take(&mut self, rgb: &[u8]) {
        self.hasher.update(rgb);
        if self.layout.is_some() {
            self.picture.extend_from_slice(rgb);
        }
    }
}
