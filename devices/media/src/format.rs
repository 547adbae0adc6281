//! The pixel formats: one table of their names, their planes in memory, and the samples of a pixel.

use super::{packing::Packing, phase::Phase};

/// The most planes that a format has.
pub const MAX_PLANES: usize = 3;

/// Width and height of the smallest frame, in pixels.
pub const SMALLEST_FRAME: [u32; 2] = [160, 120];

/// Width and height of the largest frame, in pixels.
pub const LARGEST_FRAME: [u32; 2] = [3840, 2160];

/// A pixel format.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    /// V4L2's name of the format, without `V4L2_PIX_FMT_`.
    pub name: &'static str,
    /// V4L2's four-character code.
    pub fourcc: u32,
    /// The shapes of its planes.
    pub planes: &'static [PlaneShape],
    /// The samples of a pixel.
    pub(super) pixels: Pixels,
}

/// The shape of one plane of a format in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct PlaneShape {
    /// The number of pixels in a group.
    pub pixels: u32,
    /// The number of bytes of a group.
    pub bytes: u32,
    /// The number of lines of the frame for each line of the plane.
    pub subsampling: u32,
}

impl PlaneShape {
    /// The number of bytes of a line in a frame that is `width` pixels wide.
    pub fn line_bytes(&self, width: u32) -> u32 {
        width.div_ceil(self.pixels) * self.bytes
    }
}

/// The samples of a pixel. The YUV formats and grey have the encoding BT.601 and limited range, V4L2's defaults for
/// `V4L2_COLORSPACE_SRGB`. RGB and Bayer formats have full range.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pixels {
    /// Y0 U Y1 V.
    Yuyv,
    /// U Y0 V Y1.
    Uyvy,
    /// A plane of Y, and a plane of one U V pair for each 2x2 pixels.
    Nv12,
    /// A plane of Y, and a plane of one U V pair for two neighbours of a line.
    Nv16,
    /// A plane of Y, a plane of U and a plane of V, with one U and one V for each 2x2 pixels.
    Yuv420,
    /// Y only.
    Grey,
    /// These components in this order in memory.
    Packed(&'static [Component]),
    /// A colour filter array.
    Bayer(Bayer),
}

/// The samples of a raw format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bayer {
    /// The colour filters of even lines, and of odd lines.
    pub(super) filters: [[Component; 2]; 2],
    /// Bits of a sample.
    pub(super) bits: u32,
    /// The layout of samples in memory.
    pub(super) packing: Packing,
}

impl Bayer {
    /// The phase of its colour filters.
    pub(super) fn phase(&self) -> Phase {
        match self.filters[0] {
            [Component::R, _] => Phase::Rggb,
            [Component::B, _] => Phase::Bggr,
            [_, Component::R] => Phase::Grbg,
            [..] => Phase::Gbrg,
        }
    }
}

/// A component of a pixel in memory, as an index into red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Component {
    R = 0,
    G = 1,
    B = 2,
    /// Padding: all bits are ones.
    X = 3,
}

use Component::{B, G, R, X};

const BYTES_1: &[PlaneShape] = &[shape(1, 1, 1)];
const BYTES_2: &[PlaneShape] = &[shape(1, 2, 1)];
const BYTES_3: &[PlaneShape] = &[shape(1, 3, 1)];
const BYTES_4: &[PlaneShape] = &[shape(1, 4, 1)];
const MIPI_10: &[PlaneShape] = &[shape(4, 5, 1)];
const MIPI_12: &[PlaneShape] = &[shape(2, 3, 1)];
const SEMI_PLANAR_420: &[PlaneShape] = &[shape(1, 1, 1), shape(2, 2, 2)];
const SEMI_PLANAR_422: &[PlaneShape] = &[shape(1, 1, 1), shape(2, 2, 1)];
const PLANAR_420: &[PlaneShape] = &[shape(1, 1, 1), shape(2, 1, 2), shape(2, 1, 2)];

const fn shape(pixels: u32, bytes: u32, subsampling: u32) -> PlaneShape {
    PlaneShape { pixels, bytes, subsampling }
}

const RGGB: [[Component; 2]; 2] = [[R, G], [G, B]];
const GRBG: [[Component; 2]; 2] = [[G, R], [B, G]];
const GBRG: [[Component; 2]; 2] = [[G, B], [R, G]];
const BGGR: [[Component; 2]; 2] = [[B, G], [G, R]];

/// All formats.
pub const FORMATS: &[Format] = &[
    format("YUYV", b"YUYV", BYTES_2, Pixels::Yuyv),
    format("UYVY", b"UYVY", BYTES_2, Pixels::Uyvy),
    format("NV12", b"NV12", SEMI_PLANAR_420, Pixels::Nv12),
    format("NV16", b"NV16", SEMI_PLANAR_422, Pixels::Nv16),
    format("YUV420", b"YU12", PLANAR_420, Pixels::Yuv420),
    format("RGB24", b"RGB3", BYTES_3, Pixels::Packed(&[R, G, B])),
    format("BGR24", b"BGR3", BYTES_3, Pixels::Packed(&[B, G, R])),
    format("XRGB32", b"BX24", BYTES_4, Pixels::Packed(&[X, R, G, B])),
    format("XBGR32", b"XR24", BYTES_4, Pixels::Packed(&[B, G, R, X])),
    format("GREY", b"GREY", BYTES_1, Pixels::Grey),
    format("SRGGB8", b"RGGB", BYTES_1, bayer(RGGB, 8, Packing::Bytes)),
    format("SGRBG8", b"GRBG", BYTES_1, bayer(GRBG, 8, Packing::Bytes)),
    format("SGBRG8", b"GBRG", BYTES_1, bayer(GBRG, 8, Packing::Bytes)),
    format("SBGGR8", b"BA81", BYTES_1, bayer(BGGR, 8, Packing::Bytes)),
    format("SRGGB10", b"RG10", BYTES_2, bayer(RGGB, 10, Packing::Words)),
    format("SGRBG10", b"BA10", BYTES_2, bayer(GRBG, 10, Packing::Words)),
    format("SGBRG10", b"GB10", BYTES_2, bayer(GBRG, 10, Packing::Words)),
    format("SBGGR10", b"BG10", BYTES_2, bayer(BGGR, 10, Packing::Words)),
    format("SRGGB12", b"RG12", BYTES_2, bayer(RGGB, 12, Packing::Words)),
    format("SGRBG12", b"BA12", BYTES_2, bayer(GRBG, 12, Packing::Words)),
    format("SGBRG12", b"GB12", BYTES_2, bayer(GBRG, 12, Packing::Words)),
    format("SBGGR12", b"BG12", BYTES_2, bayer(BGGR, 12, Packing::Words)),
    format("SRGGB10P", b"pRAA", MIPI_10, bayer(RGGB, 10, Packing::Mipi)),
    format("SGRBG10P", b"pgAA", MIPI_10, bayer(GRBG, 10, Packing::Mipi)),
    format("SGBRG10P", b"pGAA", MIPI_10, bayer(GBRG, 10, Packing::Mipi)),
    format("SBGGR10P", b"pBAA", MIPI_10, bayer(BGGR, 10, Packing::Mipi)),
    format("SRGGB12P", b"pRCC", MIPI_12, bayer(RGGB, 12, Packing::Mipi)),
    format("SGRBG12P", b"pgCC", MIPI_12, bayer(GRBG, 12, Packing::Mipi)),
    format("SGBRG12P", b"pGCC", MIPI_12, bayer(GBRG, 12, Packing::Mipi)),
    format("SBGGR12P", b"pBCC", MIPI_12, bayer(BGGR, 12, Packing::Mipi)),
];

const fn format(
    name: &'static str,
    fourcc: &[u8; 4],
    planes: &'static [PlaneShape],
    pixels: Pixels,
) -> Format {
    Format { name, fourcc: u32::from_le_bytes(*fourcc), planes, pixels }
}

const fn bayer(filters: [[Component; 2]; 2], bits: u32, packing: Packing) -> Pixels {
    Pixels::Bayer(Bayer { filters, bits, packing })
}

impl Format {
    /// The format with the V4L2 code `fourcc`.
    pub fn find(fourcc: u32) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.fourcc == fourcc)
    }

    /// Whether its pixels are raw samples of a sensor.
    pub fn is_raw(&self) -> bool {
        matches!(self.pixels, Pixels::Bayer(_))
    }
}

/// Why a frame cannot have a layout.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The format is not in [`FORMATS`].
    #[error("the camera has no format {0:#010x} (V4L2's four-character code)")]
    Format(u32),
    /// The size is odd, or outside the limits.
    #[error("a frame cannot be {width}x{height}; it is even in both directions, from 160x120 to 3840x2160")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The stride is shorter than a line.
    #[error("plane {plane} cannot have a line every {stride} bytes; a line takes {line_bytes}")]
    Stride {
        /// The plane.
        plane: usize,
        /// The number of bytes from one line to the next.
        stride: u32,
        /// The number of bytes of a line.
        line_bytes: u32,
    },
}

/// The layout of a frame in memory: its format, size and strides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    format: &'static Format,
    width: u32,
    height: u32,
    strides: [u32; MAX_PLANES],
}

/// The layout of one plane of a frame in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaneLayout {
    /// The number of visible bytes of a line.
    pub line_bytes: u32,
    /// The number of lines.
    pub lines: u32,
    /// The number of bytes from one line to the next, at least `line_bytes`.
    pub stride: u32,
}

impl PlaneLayout {
    /// The number of bytes from the first visible byte to the last.
    pub fn span(&self) -> u64 {
        u64::from(self.stride) * u64::from(self.lines - 1) + u64::from(self.line_bytes)
    }
}

impl Layout {
    /// A frame without padding between its lines.
    ///
    /// # Errors
    /// If the format is unknown, or the size is odd or outside the limits.
    pub fn new(fourcc: u32, width: u32, height: u32) -> Result<Self, LayoutError> {
        let format = Format::find(fourcc).ok_or(LayoutError::Format(fourcc))?;
        let fits = |length: u32, way: usize| {
            length.is_multiple_of(2) && (SMALLEST_FRAME[way]..=LARGEST_FRAME[way]).contains(&length)
        };
        if !fits(width, 0) || !fits(height, 1) {
            return Err(LayoutError::Size { width, height });
        }
        let mut strides = [0; MAX_PLANES];
        for (stride, plane) in strides.iter_mut().zip(format.planes) {
            *stride = plane.line_bytes(width);
        }
        Ok(Self { format, width, height, strides })
    }

    /// The same frame with these strides. Strides of planes that the format does not have are ignored.
    ///
    /// # Errors
    /// If a stride is shorter than a line.
    pub fn with_strides(self, strides: [u32; MAX_PLANES]) -> Result<Self, LayoutError> {
        for (plane, (layout, &stride)) in self.planes().zip(&strides).enumerate() {
            let line_bytes = layout.line_bytes;
            if stride < line_bytes {
                return Err(LayoutError::Stride { plane, stride, line_bytes });
            }
        }
        Ok(Self { strides, ..self })
    }

    /// The same frame without padding between its lines.
    pub fn tight(self) -> Self {
        let mut strides = [0; MAX_PLANES];
        for (stride, plane) in strides.iter_mut().zip(self.planes()) {
            *stride = plane.line_bytes;
        }
        Self { strides, ..self }
    }

    /// The pixel format.
    pub fn format(&self) -> &'static Format {
        self.format
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The planes, in order.
    pub fn planes(&self) -> impl Iterator<Item = PlaneLayout> {
        self.format.planes.iter().zip(self.strides).map(|(shape, stride)| PlaneLayout {
            line_bytes: shape.line_bytes(self.width),
            lines: self.height / shape.subsampling,
            stride,
        })
    }

    /// The number of visible bytes in all planes.
    pub fn visible_bytes(&self) -> u64 {
        self.planes().map(|plane| u64::from(plane.line_bytes) * u64::from(plane.lines)).sum()
    }

    /// The number of bytes from the first visible byte to the last, summed over all planes. It saturates.
    pub fn span(&self) -> u32 {
        self.planes()
            .map(|plane| u32::try_from(plane.span()).unwrap_or(u32::MAX))
            .fold(0, u32::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(code: &[u8; 4], width: u32, height: u32) -> Result<Layout, LayoutError> {
        Layout::new(u32::from_le_bytes(*code), width, height)
    }

    #[test]
    fn planes_of_a_semi_planar_format() {
        let planes: Vec<_> = layout(b"NV12", 320, 240).unwrap().planes().collect();
        assert_eq!(
            planes,
            [
                PlaneLayout { line_bytes: 320, lines: 240, stride: 320 },
                PlaneLayout { line_bytes: 320, lines: 120, stride: 320 }
            ]
        );
        let padded = layout(b"NV12", 320, 240).unwrap().with_strides([512, 384, 0]).unwrap();
        assert_eq!(padded.planes().map(|plane| plane.span()).collect::<Vec<_>>(), [122_688, 46_016]);
    }

    #[test]
    fn planes_of_a_planar_format() {
        let planes = |code| -> Vec<_> {
            layout(code, 320, 240).unwrap().planes().map(|plane| (plane.line_bytes, plane.lines)).collect()
        };
        assert_eq!(planes(b"YU12"), [(320, 240), (160, 120), (160, 120)]);
        assert_eq!(planes(b"NV16"), [(320, 240), (320, 240)]);
        assert_eq!(planes(b"pRAA"), [(400, 240)]);
        assert_eq!(planes(b"pRCC"), [(480, 240)]);
    }

    #[test]
    fn a_line_of_a_packed_format_ends_with_a_complete_group() {
        let line = |code, width| layout(code, width, 240).unwrap().planes().next().unwrap().line_bytes;
        assert_eq!([322, 324, 326].map(|width| line(b"pBAA", width)), [405, 405, 410]);
        assert_eq!(line(b"pBCC", 322), 483);
    }

    #[test]
    fn codes_are_unique_and_planes_are_not_too_many() {
        for (index, format) in FORMATS.iter().enumerate() {
            assert_eq!(FORMATS.iter().position(|other| other.fourcc == format.fourcc), Some(index));
            assert!((1..=MAX_PLANES).contains(&format.planes.len()));
        }
    }

    #[test]
    fn unknown_formats_and_sizes_outside_the_limits_are_refused() {
        assert_eq!(layout(b"MJPG", 640, 480), Err(LayoutError::Format(0x4750_4a4d)));
        for (width, height) in
            [(158, 120), (160, 118), (3842, 2160), (3840, 2162), (641, 480), (640, 481), (0, 0)]
        {
            assert_eq!(layout(b"YUYV", width, height), Err(LayoutError::Size { width, height }));
        }
        assert!(layout(b"YUYV", 160, 120).is_ok() && layout(b"YUYV", 3840, 2160).is_ok());
        assert_eq!(
            layout(b"NV12", 640, 480).unwrap().with_strides([640, 638, 0]),
            Err(LayoutError::Stride { plane: 1, stride: 638, line_bytes: 640 })
        );
    }
}
