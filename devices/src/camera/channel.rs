//! A DMA channel: checks a frame's configuration, then writes the frame through the DMA port.

use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{Bytes, VolatileSlice};

use super::{
    format::{Layout, LayoutError, MAX_PLANES, PlaneLayout},
    picture::Frame,
};
use crate::dma::DmaPort;

/// Bytes that are copied before the abort flag is looked at again: a fraction of a millisecond, and less than
/// what makes libc's memcpy write past the caches, which the next reader of the frame would pay for.
const CHUNK: usize = 1 << 20;

/// What the guest programmed for one frame (`CH_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FrameConfig {
    pub(super) fourcc: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) strides: [u32; MAX_PLANES],
    pub(super) addresses: [u64; MAX_PLANES],
    pub(super) lengths: [u32; MAX_PLANES],
}

/// Why a frame cannot be written.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("plane {plane} takes {span} bytes, its length is {length}")]
    Length { plane: usize, span: u64, length: u32 },
    #[error(
        "channel {channel} has no format {fourcc:#010x}; channel 0 has the processed ones, channel 1 the Bayer ones"
    )]
    Channel { channel: usize, fourcc: u32 },
    #[error("plane {plane} cannot be written at {address:#x}")]
    Bus { plane: u8, address: u64 },
}

/// A frame that may be written: its configuration is right, and so are the addresses of all its planes.
pub(super) struct Transfer<'a> {
    layout: Layout,
    planes: [Option<VolatileSlice<'a>>; MAX_PLANES],
    dma: &'a DmaPort,
}

impl<'a> Transfer<'a> {
    /// Checks all of `config`, which is for `channel`, before anything is written.
    pub(super) fn new(channel: usize, config: &FrameConfig, dma: &'a DmaPort) -> Result<Self, Refusal> {
        let layout = Layout::new(config.fourcc, config.width, config.height)?.with_strides(config.strides)?;
        if layout.format().channel() as usize != channel {
            return Err(Refusal::Channel { channel, fourcc: config.fourcc });
        }
        for (plane, (shape, length)) in layout.planes().zip(config.lengths).enumerate() {
            let span = shape.span();
            if span > u64::from(length) {
                return Err(Refusal::Length { plane, span, length });
            }
        }
        let spans = || (0..).zip(config.addresses.into_iter().zip(layout.planes().map(|plane| plane.span())));
        // A page counts as written once the port has handed it out: ask about all planes first.
        for (plane, (address, span)) in spans() {
            dma.check(address, span).map_err(|error| Refusal::Bus { plane, address: error.address })?;
        }
        let mut planes = [const { None }; MAX_PLANES];
        for (slot, (plane, (address, span))) in planes.iter_mut().zip(spans()) {
            let slice = dma.slice_for_writing(address, span);
            *slot = Some(slice.map_err(|error| Refusal::Bus { plane, address: error.address })?);
        }
        Ok(Self { layout, planes, dma })
    }

    /// The format, size and strides.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes `frame`, which has the transfer's format and size: pixels first and the stamp last, so that a frame
    /// abandoned because of `abort` has no stamp. Padding stays as it was. False if it was abandoned.
    pub(super) fn write(&self, frame: &Frame, abort: &AtomicBool) -> bool {
        for ((slice, lines), plane) in
            self.planes.iter().flatten().zip(frame.planes).zip(self.layout.planes())
        {
            if !write_plane(slice, lines, &plane, abort) {
                return false;
            }
        }
        if let Some(slice) = &self.planes[0] {
            slice.copy_from(&frame.stamp);
        }
        self.planes.iter().flatten().for_each(|slice| self.dma.publish(slice));
        true
    }
}

fn write_plane(slice: &VolatileSlice, lines: &[u8], plane: &PlaneLayout, abort: &AtomicBool) -> bool {
    let (row, pitch) = if plane.stride == plane.line_bytes {
        (CHUNK, CHUNK)
    } else {
        (plane.line_bytes as usize, plane.stride as usize)
    };
    for (index, bytes) in lines.chunks(row).enumerate() {
        if abort.load(Ordering::Relaxed) {
            return false;
        }
        slice.write_slice(bytes, index * pitch).expect("the slice spans the plane's lines");
    }
    true
}
