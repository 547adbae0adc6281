//! Writes a frame of the two paths: crop, resizer, order of components, and planes in guest memory.

use media::{
    Captured, Layout,
    isp::Rect,
    rkisp1::{Line, Resizer, Scale, Scaled, SelfPath},
};
use vm_memory::{Bytes as _, GuestAddress};

use super::{
    registers::{Job, MAIN, Outcome, PATHS, PathConfig, Write},
    regs::{MI_BUS_ERROR, MI_WRAP_MP_Y, MI_WRAP_SP_Y},
};
use crate::dma::{DmaPort, DmaWrite};

/// The buffers of both paths, which stay from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Writer {
    paths: [Buffers; PATHS],
    samples: Vec<u16>,
    /// What the main path wrote last.
    written: Option<Written>,
}

/// The buffers of a path.
#[derive(Debug, Default)]
struct Buffers {
    /// The resizer, with the size and the scale that it is for.
    resizer: Option<([u32; 2], Scale, Resizer)>,
    /// A luma line that waits for its chroma.
    luma: Vec<u8>,
    /// A line as it goes to memory.
    bytes: Vec<u8>,
}

/// The picture that a path wrote.
#[derive(Debug, Clone, Copy)]
struct Written {
    config: PathConfig,
    /// Width and height of the picture, and of its chroma.
    luma: [u32; 2],
    chroma: [u32; 2],
}

/// A frame that is being written.
pub(super) struct Writing<'a> {
    paths: [Option<PathWriting<'a>>; PATHS],
    /// A line of raw samples, for the caller.
    pub(super) samples: Vec<u16>,
    kept: &'a mut Vec<u16>,
    written: &'a mut Option<Written>,
    outcome: Outcome,
}

/// A path that is being written.
struct PathWriting<'a> {
    config: PathConfig,
    crop: Rect,
    buffers: &'a mut Buffers,
    planes: [Option<DmaWrite<'a>>; 3],
    /// The next byte of each plane.
    at: [usize; 3],
    luma: [u32; 2],
    chroma: [u32; 2],
    bytes: u64,
    /// A bit for each plane that had no room for a line.
    full: u32,
}

impl Writer {
    /// Begins the frame of `job`. A path whose memory the port refuses writes nothing.
    pub(super) fn begin<'a>(&'a mut self, job: &Job, dma: &'a DmaPort) -> Writing<'a> {
        let mut outcome = Outcome::default();
        let mut paths = [const { None }; PATHS];
        for (path, buffers) in self.paths.iter_mut().enumerate() {
            let Some(config) = job.paths[path] else { continue };
            let whole = Rect { left: 0, top: 0, width: job.window.width, height: job.window.height };
            let crop = within(job.crops[path].unwrap_or(whole), whole);
            let (size, scale) = ([crop.width, crop.height], job.scales[path]);
            if buffers.resizer.as_ref().is_none_or(|(of, by, _)| (*of, *by) != (size, scale)) {
                buffers.resizer = Some((size, scale, Resizer::new(size, &scale)));
            }
            match begin_planes(&config, dma) {
                Some(planes) => {
                    paths[path] = Some(PathWriting {
                        config,
                        crop,
                        planes,
                        at: [0; 3],
                        luma: scale.luma.size(size),
                        chroma: scale.chroma.size([size[0] / 2, size[1]]),
                        buffers,
                        bytes: 0,
                        full: 0,
                    });
                }
                None => outcome.memory |= MI_BUS_ERROR,
            }
        }
        let samples = std::mem::take(&mut self.samples);
        Writing { paths, samples, kept: &mut self.samples, written: &mut self.written, outcome }
    }

    /// A copy of what the main path wrote last, if its format is one that can be shown.
    pub(super) fn captured(&self, job: &Job, dma: &DmaPort) -> Option<Captured> {
        let Written { config, luma: [width, height], chroma } = self.written?;
        let is_420 = chroma[1] < height;
        let fourcc = match (config.write, is_420) {
            (Write::SemiPlanar, true) if !config.swap => b"NV12",
            (Write::SemiPlanar, false) if !config.swap => b"NV16",
            (Write::Planar, true) => b"YU12",
            (Write::Interleaved, false) => b"YUYV",
            _ => return None,
        };
        let layout = Layout::new(u32::from_le_bytes(*fourcc), width, height).ok()?;
        let planes: Vec<_> = layout.planes().zip(config.planes).collect();
        let mut is_there = true;
        let captured = Captured::read(&layout, job.number, Vec::new(), |plane, y, line| {
            let (shape, memory) = planes[plane];
            let at = u64::from(memory.address) + u64::from(y) * u64::from(shape.stride);
            is_there &= dma.read_slice(line, GuestAddress(at)).is_ok();
        });
        is_there.then_some(captured)
    }
}

/// The part of `rect` that lies within `whole`: at least two columns and lines.
fn within(rect: Rect, whole: Rect) -> Rect {
    let left = rect.left.min(whole.width - 2) & !1;
    let top = rect.top.min(whole.height - 2);
    let width = rect.width.clamp(2, whole.width - left) & !1;
    let height = rect.height.clamp(2, whole.height - top);
    Rect { left, top, width, height }
}

/// The planes that a path writes; None if the port refuses one.
fn begin_planes<'a>(config: &PathConfig, dma: &'a DmaPort) -> Option<[Option<DmaWrite<'a>>; 3]> {
    let count = match config.write {
        Write::Planar => 3,
        Write::SemiPlanar => 2,
        Write::Interleaved | Write::Raw8 | Write::Raw16 | Write::Rgb565 | Write::Rgb888 => 1,
    };
    let mut planes = [const { None }; 3];
    for (plane, place) in planes.iter_mut().zip(config.planes).take(count) {
        *plane = Some(dma.begin_write(place.address.into(), place.size.into()).ok()?);
    }
    Some(planes)
}

impl Writing<'_> {
    /// Takes a line of raw samples of 12 bits, of which the upper `bits` are used.
    pub(super) fn raw_line(&mut self, samples: &[u16], bits: u32) {
        let [Some(main), _] = &mut self.paths else { return };
        let mut bytes = std::mem::take(&mut main.buffers.bytes);
        bytes.clear();
        match main.config.write {
            Write::Raw8 => bytes.extend(samples.iter().map(|sample| (sample >> 4).to_le_bytes()[0])),
            _ => bytes.extend(samples.iter().flat_map(|sample| (sample >> (12 - bits)).to_le_bytes())),
        }
        main.put(0, &bytes, bytes.len());
        main.buffers.bytes = bytes;
    }

    /// Takes line `y` of the picture.
    pub(super) fn line(&mut self, y: u32, line: &Line<'_>) {
        for path in self.paths.iter_mut().flatten() {
            path.line(y, line);
        }
    }

    /// Ends the frame: what was written is visible to the guest.
    pub(super) fn finish(self) -> Outcome {
        let Self { paths, samples, kept, written, mut outcome } = self;
        *kept = samples;
        for ((index, path), full) in paths.into_iter().enumerate().zip([MI_WRAP_MP_Y, MI_WRAP_SP_Y]) {
            let Some(path) = path else { continue };
            path.planes.iter().flatten().for_each(DmaWrite::publish);
            outcome.memory |= path.full * full;
            outcome.bytes += path.bytes;
            if index == MAIN {
                *written = Some(Written { config: path.config, luma: path.luma, chroma: path.chroma });
            }
        }
        outcome
    }
}

impl PathWriting<'_> {
    /// Takes line `y` of the picture before the crop.
    fn line(&mut self, y: u32, line: &Line<'_>) {
        let Rect { left, top, width, height } = self.crop;
        if !(top..top + height).contains(&y) {
            return;
        }
        let columns = left as usize..(left + width) as usize;
        let pairs = columns.start / 2..columns.end / 2;
        let part = Line { y: &line.y[columns], cb: &line.cb[pairs.clone()], cr: &line.cr[pairs] };
        if let Some((size, scale, mut resizer)) = self.buffers.resizer.take() {
            resizer.put(y - top, &part, &mut |scaled| self.scaled(scaled));
            self.buffers.resizer = Some((size, scale, resizer));
        }
    }

    /// Takes a line that comes out of the resizer.
    fn scaled(&mut self, scaled: Scaled<'_>) {
        let stride = self.config.stride.map(|pixels| pixels as usize);
        match (self.config.write, scaled) {
            (Write::Planar | Write::SemiPlanar, Scaled::Luma(_, y)) => {
                self.put(0, y, stride.unwrap_or(y.len()));
            }
            (Write::Planar, Scaled::Chroma(_, [cb, cr])) => {
                let stride = stride.map_or(cb.len(), |stride| stride / 2);
                // A swap of planes is a swap of their addresses.
                self.put(1, cb, stride);
                self.put(2, cr, stride);
            }
            (Write::SemiPlanar, Scaled::Chroma(_, [cb, cr])) => {
                let (first, second) = if self.config.swap { (cr, cb) } else { (cb, cr) };
                let mut bytes = std::mem::take(&mut self.buffers.bytes);
                bytes.clear();
                bytes.extend(first.iter().zip(second).flat_map(|(&first, &second)| [first, second]));
                self.put(1, &bytes, stride.unwrap_or(bytes.len()));
                self.buffers.bytes = bytes;
            }
            (_, Scaled::Luma(_, y)) => {
                self.buffers.luma.clear();
                self.buffers.luma.extend_from_slice(y);
            }
            (_, Scaled::Chroma(_, [cb, cr])) => self.packed(cb, cr, stride),
        }
    }

    /// Writes the luma line that waits, with its chroma, as one line.
    fn packed(&mut self, cb: &[u8], cr: &[u8], stride: Option<usize>) {
        let Buffers { luma, bytes, .. } = &mut *self.buffers;
        bytes.clear();
        let rgb = SelfPath::new(self.config.range);
        let pixel = match self.config.write {
            Write::Rgb565 => {
                bytes.resize(2 * luma.len(), 0);
                rgb.rgb565(luma, cb, cr, bytes.as_chunks_mut().0);
                2
            }
            Write::Rgb888 => {
                bytes.resize(4 * luma.len(), 0);
                rgb.xrgb(luma, cb, cr, bytes.as_chunks_mut().0);
                4
            }
            _ => {
                let (first, second) = if self.config.swap { (cr, cb) } else { (cb, cr) };
                let pairs = luma.as_chunks::<2>().0.iter().zip(first.iter().zip(second));
                bytes.extend(pairs.flat_map(|(&[even, odd], (&first, &second))| [even, first, odd, second]));
                2
            }
        };
        let bytes = std::mem::take(bytes);
        self.put(0, &bytes, stride.map_or(bytes.len(), |pixels| pixels * pixel));
        self.buffers.bytes = bytes;
    }

    /// Writes a line to a plane, as far as there is room, and moves on by `stride` bytes.
    fn put(&mut self, plane: usize, line: &[u8], stride: usize) {
        let size = self.config.planes[plane].size as usize;
        let at = self.at[plane];
        let room = size.saturating_sub(at).min(line.len());
        if room < line.len() {
            self.full |= 1 << plane;
        }
        if let Some(write) = &self.planes[plane] {
            write.write(at.min(size), &line[..room]);
            self.bytes += room as u64;
        }
        self.at[plane] = at.saturating_add(stride);
    }
}
