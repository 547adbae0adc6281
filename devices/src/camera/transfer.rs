//! The transfer of a frame to guest memory: a check of its configuration, then writes through the DMA port.

use std::sync::atomic::{AtomicBool, Ordering};

use crc32fast::Hasher;
use vm_memory::Bytes;

use super::{frame_config::FrameConfig, regs};
use crate::dma::{DmaPort, DmaWrite};
use media::{Layout, LayoutError, MAX_PLANES, PlaneLayout, TestFrame, isp::Rect, stamp};

/// The number of bytes that are copied between two looks at the abort flag. They take a fraction of a millisecond. With more
/// bytes libc's memcpy would bypass the caches, which would slow down the next reader of the frame.
const CHUNK: usize = 1 << 20;

/// The part of the sensor's output from which a frame is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Input {
    /// Width and height of the sensor's output.
    pub(super) size: [u32; 2],
    /// The part of that which becomes the frame.
    pub(super) crop: Rect,
}

/// Why a frame cannot be written.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("plane {plane} needs {span} bytes, but its length is {length}")]
    Length { plane: usize, span: u64, length: u32 },
    #[error(
        "channel {channel} has no format {fourcc:#010x}; channel 0 has the processed formats, channel 1 the Bayer formats, \
         channels 2 and 3 the ISP's metadata"
    )]
    Channel { channel: usize, fourcc: u32 },
    #[error(
        "{}x{} at ({}, {}) of the sensor's {}x{} cannot become the frame; that is an even part of it, and not smaller \
         than the frame",
        .0.crop.width, .0.crop.height, .0.crop.left, .0.crop.top, .0.size[0], .0.size[1]
    )]
    Crop(Input),
    #[error("plane {plane} cannot be transferred at {address:#x}")]
    Bus { plane: u8, address: u64 },
    #[error("the frame that it belongs to is refused")]
    NoFrame,
}

/// A frame that may be written. Its configuration is valid, and the DMA port permits the addresses of all its planes.
pub(super) struct Transfer<'a> {
    layout: Layout,
    input: Input,
    planes: [Option<DmaWrite<'a>>; MAX_PLANES],
    /// The number of lines of the frame that are written. Only a fault makes it less than all.
    limit: u32,
}

impl Input {
    /// The input of a frame of `layout`. A raw frame is all of the sensor's output.
    fn new(config: &FrameConfig, layout: &Layout) -> Result<Self, Refusal> {
        let frame = [layout.width(), layout.height()];
        let is_raw = layout.format().is_raw();
        let size = if is_raw || config.input_size == [0; 2] { frame } else { config.input_size };
        Layout::new(config.fourcc, size[0], size[1])?;
        let is_whole = is_raw || config.crop_size == [0; 2];
        let (position, length) =
            if is_whole { ([0; 2], size) } else { (config.crop_position, config.crop_size) };
        let [left, top] = position;
        let [width, height] = length;
        let input = Self { size, crop: Rect { left, top, width, height } };
        // Both have 16 bits, so no sum overflows.
        let fits = (0..2).all(|way| {
            (position[way] | length[way]).is_multiple_of(2)
                && position[way] + length[way] <= size[way]
                && length[way] >= frame[way]
        });
        if fits { Ok(input) } else { Err(Refusal::Crop(input)) }
    }
}

impl<'a> Transfer<'a> {
    /// Checks the whole configuration of a frame of `channel`, before anything is written.
    pub(super) fn new(channel: usize, config: &FrameConfig, dma: &'a DmaPort) -> Result<Self, Refusal> {
        let layout = Layout::new(config.fourcc, config.width, config.height)?.with_strides(config.strides)?;
        if regs::channel_of_format(layout.format()) as usize != channel {
            return Err(Refusal::Channel { channel, fourcc: config.fourcc });
        }
        let input = Input::new(config, &layout)?;
        for (plane, (shape, length)) in layout.planes().zip(config.lengths).enumerate() {
            let span = shape.span();
            if span > u64::from(length) {
                return Err(Refusal::Length { plane, span, length });
            }
        }
        let spans = || (0..).zip(config.addresses.into_iter().zip(layout.planes().map(|plane| plane.span())));
        // The port records a page as written when it hands it out, so all planes are checked first.
        for (plane, (address, span)) in spans() {
            dma.check(address, span).map_err(|error| Refusal::Bus { plane, address: error.address })?;
        }
        let mut planes = [const { None }; MAX_PLANES];
        for (slot, (plane, (address, span))) in planes.iter_mut().zip(spans()) {
            let write = dma.begin_write(address, span);
            *slot = Some(write.map_err(|error| Refusal::Bus { plane, address: error.address })?);
        }
        Ok(Self { layout, input, planes, limit: layout.height() })
    }

    /// The number of bytes from the first to the last that is written, summed over all planes.
    pub(super) fn span(&self) -> u32 {
        let planes = self.layout.planes().enumerate();
        let span = |(plane, shape): (usize, PlaneLayout)| {
            let lines = lines_within(&self.layout, plane, self.limit);
            if lines == 0 { 0 } else { PlaneLayout { lines, ..shape }.span() }
        };
        planes.map(|plane| u32::try_from(span(plane)).unwrap_or(u32::MAX)).fold(0, u32::saturating_add)
    }

    /// The layout of the frame.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The same transfer, of which only the first `lines` are written. The stamp is still that of the whole frame.
    pub(super) fn cut(self, lines: u32) -> Self {
        Self { limit: lines.min(self.layout.height()), ..self }
    }

    /// The input of the frame.
    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    /// Writes line `y` of `plane`. `bytes` are its visible bytes. Any thread may write any line; [`finish`](Self::finish) ends
    /// such a frame.
    pub(super) fn write_line(&self, plane: usize, y: u32, bytes: &[u8]) {
        if y >= lines_within(&self.layout, plane, self.limit) {
            return;
        }
        if let (Some(write), Some(shape)) = (&self.planes[plane], self.layout.planes().nth(plane)) {
            let bytes = &bytes[..bytes.len().min(shape.line_bytes as usize)];
            write.write(y as usize * shape.stride as usize, bytes);
        }
    }

    /// Stamps a frame whose lines were written. False if it was abandoned because of `abort`; then it has no stamp.
    pub(super) fn finish(&self, sequence: u32, abort: &AtomicBool) -> bool {
        // The checksum is that of the bytes in guest memory. If the guest changes them meanwhile, the frame is torn.
        let mut rest = Hasher::new();
        let mut buffer = [0; 4096];
        for (plane, (write, shape)) in self.planes.iter().flatten().zip(self.layout.planes()).enumerate() {
            let memory = write.memory();
            for y in 0..lines_within(&self.layout, plane, self.limit) {
                if abort.load(Ordering::Relaxed) {
                    return false;
                }
                let mut at = y as usize * shape.stride as usize;
                let end = at + shape.line_bytes as usize;
                if (plane, y) == (0, 0) {
                    at += stamp::LEN;
                }
                while at < end {
                    let bytes = &mut buffer[..(end - at).min(4096)];
                    match &memory {
                        Some(memory) => {
                            memory.read_slice(bytes, at).expect("the write spans the plane's lines");
                        }
                        // A fault lost it.
                        None => bytes.fill(0),
                    }
                    rest.update(bytes);
                    at += bytes.len();
                }
            }
        }
        self.end(&stamp::make(sequence, &self.layout, &rest));
        true
    }

    /// Writes the stamp, which is the last write of a frame.
    fn end(&self, stamp: &[u8; stamp::LEN]) {
        if let Some(write) = &self.planes[0]
            && self.limit > 0
        {
            write.write(0, stamp);
        }
        self.planes.iter().flatten().for_each(DmaWrite::publish);
    }

    /// Writes `frame`, which has the format and size of the transfer. The stamp is written last, so that a frame that is
    /// abandoned because of `abort` has none. Padding keeps its bytes. False if the frame was abandoned.
    pub(super) fn write(&self, frame: &TestFrame, abort: &AtomicBool) -> bool {
        let planes = self.planes.iter().flatten().zip(frame.planes).zip(self.layout.planes());
        for (index, ((write, lines), plane)) in planes.enumerate() {
            let lines =
                &lines[..lines_within(&self.layout, index, self.limit) as usize * plane.line_bytes as usize];
            if !write_plane(write, lines, &plane, abort) {
                return false;
            }
        }
        self.end(&frame.stamp);
        true
    }
}

/// The number of lines of a plane that belong to the first `limit` lines of the frame.
fn lines_within(layout: &Layout, plane: usize, limit: u32) -> u32 {
    let subsampling = layout.format().planes.get(plane).map_or(1, |shape| shape.subsampling);
    limit.min(layout.height()) / subsampling
}

fn write_plane(write: &DmaWrite<'_>, lines: &[u8], plane: &PlaneLayout, abort: &AtomicBool) -> bool {
    let (row, pitch) = if plane.stride == plane.line_bytes {
        (CHUNK, CHUNK)
    } else {
        (plane.line_bytes as usize, plane.stride as usize)
    };
    for (index, bytes) in lines.chunks(row).enumerate() {
        if abort.load(Ordering::Relaxed) {
            return false;
        }
        write.write(index * pitch, bytes);
    }
    true
}
