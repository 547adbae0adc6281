//! The picture that is encoded, as the guest has it in memory.

use std::{cell::RefCell, mem};

use media::jpeg;

use super::regs::*;
use crate::dma::{DmaError, DmaPort, DmaRead};

/// Where the samples of a picture lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 4:2:0 in three planes.
    Planar,
    /// 4:2:0 in two planes, Cb before Cr.
    SemiPlanar,
    /// 4:2:2 in one plane, luma before chroma.
    Yuyv,
    /// 4:2:2 in one plane, chroma before luma.
    Uyvy,
}

impl Format {
    /// The format that `ENC_CTRL1` says; none if the encoder does not have it.
    pub(super) fn of(control: u32) -> Option<Self> {
        match control & ENC_FMT {
            ENC_FMT_PLANAR => Some(Self::Planar),
            ENC_FMT_SEMI_PLANAR => Some(Self::SemiPlanar),
            ENC_FMT_YUYV => Some(Self::Yuyv),
            ENC_FMT_UYVY => Some(Self::Uyvy),
            _ => None,
        }
    }

    /// The number of planes.
    fn planes(self) -> usize {
        match self {
            Self::Planar => 3,
            Self::SemiPlanar => 2,
            Self::Yuyv | Self::Uyvy => 1,
        }
    }
}

/// A picture and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) format: Format,
    /// The addresses of the planes.
    pub(super) planes: [u32; 3],
    /// Pixels from one line to the next.
    pub(super) row: u32,
    /// Width and height in pixels.
    pub(super) size: [u16; 2],
}

impl Place {
    /// Bytes from one line of `plane` to the next, bytes of a line that are read, and lines.
    fn shape(&self, plane: usize) -> [u32; 3] {
        let [width, height] = self.size.map(u32::from);
        match (self.format, plane) {
            (Format::Yuyv | Format::Uyvy, _) => [2 * self.row, 2 * width.next_multiple_of(2), height],
            (_, 0) => [self.row, width, height],
            (Format::Planar, _) => [self.row / 2, width.div_ceil(2), height.div_ceil(2)],
            (Format::SemiPlanar, _) => [self.row, width.next_multiple_of(2), height.div_ceil(2)],
        }
    }
}

/// A picture that is read line by line.
pub(super) struct Picture<'a> {
    place: Place,
    planes: [Option<DmaRead<'a>>; 3],
    /// A line of chroma, or of all samples.
    line: RefCell<Vec<u8>>,
    /// Bytes of the picture.
    pub(super) bytes: u64,
}

impl<'a> Picture<'a> {
    /// Begins to read. The buffer is for a line.
    pub(super) fn begin(place: Place, dma: &'a DmaPort, line: &mut Vec<u8>) -> Result<Self, DmaError> {
        let mut planes = [const { None }; 3];
        let mut bytes = 0;
        for (index, plane) in planes.iter_mut().enumerate().take(place.format.planes()) {
            let [stride, line, lines] = place.shape(index).map(u64::from);
            let length = stride * (lines - 1) + line;
            *plane = Some(dma.begin_read(place.planes[index].into(), length)?);
            bytes += length;
        }
        Ok(Self { place, planes, line: RefCell::new(mem::take(line)), bytes })
    }

    /// Gives the buffer back.
    pub(super) fn into_line(self) -> Vec<u8> {
        self.line.into_inner()
    }

    /// Reads line `y` of a plane to the end of `bytes`.
    fn read(&self, plane: usize, y: u16, bytes: &mut Vec<u8>) {
        let [stride, length, _] = self.place.shape(plane);
        let start = bytes.len();
        bytes.resize(start + length as usize, 0);
        if let Some(read) = &self.planes[plane] {
            read.read(u64::from(stride) * u64::from(y), &mut bytes[start..]);
        }
    }
}

impl jpeg::Picture for Picture<'_> {
    fn size(&self) -> [u16; 2] {
        self.place.size
    }

    fn line(&self, y: u16, [luma, cb, cr]: [&mut Vec<u8>; 3]) {
        let width = usize::from(self.place.size[0]);
        let mut line = self.line.borrow_mut();
        line.clear();
        match self.place.format {
            Format::Planar => {
                self.read(0, y, luma);
                for (index, plane) in [(1, cb), (2, cr)] {
                    line.clear();
                    self.read(index, y / 2, &mut line);
                    plane.extend(line.iter().flat_map(|&sample| [sample; 2]).take(width));
                }
            }
            Format::SemiPlanar => {
                self.read(0, y, luma);
                self.read(1, y / 2, &mut line);
                for (first, plane) in [cb, cr].into_iter().enumerate() {
                    plane.extend(
                        line.iter().skip(first).step_by(2).flat_map(|&sample| [sample; 2]).take(width),
                    );
                }
            }
            Format::Yuyv | Format::Uyvy => {
                self.read(0, y, &mut line);
                let first = usize::from(self.place.format == Format::Uyvy);
                luma.extend(line.iter().skip(first).step_by(2).take(width));
                for (pair, plane) in [cb, cr].into_iter().enumerate() {
                    let samples = line.iter().skip(1 - first + 2 * pair).step_by(4);
                    plane.extend(samples.flat_map(|&sample| [sample; 2]).take(width));
                }
            }
        }
    }
}
