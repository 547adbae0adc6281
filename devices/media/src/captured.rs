//! A copy of a processed frame, and its conversion to RGB, to the planes of a clip, and to a PNG.

use std::io::Write;

use super::{
    convert,
    format::{Component, Layout, Pixels},
    stamp, yuv,
};

/// A processed frame that was copied from where it was written.
#[derive(Debug, Clone)]
pub struct Captured {
    layout: Layout,
    sequence: u32,
    /// The lines of all planes, without padding.
    bytes: Vec<u8>,
}

/// The pixels that share their chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chroma {
    /// There is no chroma.
    None,
    /// 2x2 pixels.
    C420,
    /// Two neighbours of a line.
    C422,
    /// Each pixel has its own.
    C444,
}

impl Captured {
    /// A processed frame from a file. `bytes` are the lines of all planes without padding. None if they are not as many as
    /// `layout` has, or if its format is raw.
    pub fn new(layout: &Layout, bytes: Vec<u8>) -> Option<Self> {
        let layout = layout.tight();
        let sequence = stamp::check(&bytes, &layout).map_or(0, |stamp| stamp.sequence);
        let is_fit = !layout.format().is_raw() && bytes.len() as u64 == layout.visible_bytes();
        is_fit.then_some(Self { layout, sequence, bytes })
    }

    /// Copies the processed frame `sequence` of `layout` into `memory`, which may have any length. `read` fills a line, given
    /// the plane and the number of the line.
    pub fn read(
        layout: &Layout,
        sequence: u32,
        mut memory: Vec<u8>,
        mut read: impl FnMut(usize, u32, &mut [u8]),
    ) -> Self {
        let layout = layout.tight();
        memory.resize(layout.span() as usize, 0);
        let mut rest = &mut memory[..];
        for (index, plane) in layout.planes().enumerate() {
            for y in 0..plane.lines {
                let (line, after) = rest.split_at_mut(plane.line_bytes as usize);
                read(index, y, line);
                rest = after;
            }
        }
        Self { layout, sequence, bytes: memory }
    }

    /// Whether its stamp has its number and the checksum of its bytes.
    pub fn is_whole(&self) -> bool {
        stamp::check(&self.bytes, &self.layout).is_ok_and(|stamp| stamp.sequence == self.sequence)
    }

    /// Its format and size, without padding.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its number.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The lines of all planes, one after another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives its memory back.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends its planes of Y, U and V to `into`, in the layout of a clip. Samples of YUV formats are copied, and RGB is
    /// converted.
    pub(super) fn planes(&self, into: &mut Vec<u8>) -> Chroma {
        let every = |step: usize, first: usize| self.bytes.iter().copied().skip(first).step_by(step);
        let pixels = self.layout.width() as usize * self.layout.height() as usize;
        let (first, rest) = self.bytes.split_at(pixels.min(self.bytes.len()));
        match self.layout.format().pixels {
            Pixels::Yuyv => {
                into.extend(every(2, 0).chain(every(4, 1)).chain(every(4, 3)));
                Chroma::C422
            }
            Pixels::Uyvy => {
                into.extend(every(2, 1).chain(every(4, 0)).chain(every(4, 2)));
                Chroma::C422
            }
            Pixels::Nv12 | Pixels::Nv16 => {
                into.extend_from_slice(first);
                into.extend(rest.iter().step_by(2).chain(rest.iter().skip(1).step_by(2)));
                if self.layout.format().pixels == Pixels::Nv12 { Chroma::C420 } else { Chroma::C422 }
            }
            Pixels::Yuv420 => {
                into.extend_from_slice(&self.bytes);
                Chroma::C420
            }
            Pixels::Grey => {
                into.extend_from_slice(&self.bytes);
                Chroma::None
            }
            Pixels::Packed(_) => {
                let start = into.len();
                into.resize(start + 3 * pixels, 0);
                self.rgb_to_yuv(&mut into[start..]);
                Chroma::C444
            }
            Pixels::Bayer(_) => unreachable!("no captured frame is raw"),
        }
    }

    fn rgb_to_yuv(&self, planes: &mut [u8]) {
        let (y_plane, rest) = planes.split_at_mut(planes.len() / 3);
        let (u_plane, v_plane) = rest.split_at_mut(rest.len() / 2);
        let chroma = u_plane.iter_mut().zip(v_plane);
        let rgb = self.rgb();
        for ((y, (u, v)), &pixel) in y_plane.iter_mut().zip(chroma).zip(rgb.as_chunks().0) {
            *y = convert::luma(pixel);
            [*u, *v] = convert::chroma([pixel]);
        }
    }

    /// Converts it to RGB, three bytes a pixel.
    pub fn rgb(&self) -> Vec<u8> {
        if let Pixels::Packed(order) = self.layout.format().pixels {
            let places = [Component::R, Component::G, Component::B]
                .map(|wanted| order.iter().position(|component| *component == wanted).unwrap_or_default());
            let pixels = self.bytes.chunks_exact(order.len());
            return pixels.flat_map(|pixel| places.map(|place| pixel[place])).collect();
        }
        let width = self.layout.width() as usize;
        let mut planes = Vec::with_capacity(self.bytes.len());
        let chroma = self.planes(&mut planes);
        let (y_plane, rest) = planes.split_at(width * self.layout.height() as usize);
        let (u_plane, v_plane) = rest.split_at(rest.len() / 2);
        let planes = [y_plane, u_plane, v_plane];
        let rgb = match chroma {
            // One neutral sample is for all pixels.
            Chroma::None => {
                let height = self.layout.height() as usize;
                yuv::rgb_of_planes(convert::ENCODING, width, [y_plane, &[128], &[128]], [width, height])
            }
            Chroma::C420 => yuv::rgb_of_planes(convert::ENCODING, width, planes, [2, 2]),
            Chroma::C422 => yuv::rgb_of_planes(convert::ENCODING, width, planes, [2, 1]),
            Chroma::C444 => unreachable!("all formats with it are RGB"),
        };
        rgb.expect("the planes are of this size")
    }

    /// Writes it as a PNG file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_png(&self, to: impl Write) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(to, self.layout.width(), self.layout.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb())?;
        writer.finish()
    }
}
