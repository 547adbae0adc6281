//! The pixel formats of `minivmm model --frames`: the names that v4l2-ctl and DRM print, and the shapes of the planes in memory.
//!
//! The sources are include/uapi/linux/videodev2.h (V4L2_PIX_FMT_) and include/uapi/drm/drm_fourcc.h (DRM_FORMAT_) of Linux 7.2, and
//! Documentation/userspace-api/media/v4l/pixfmt-*.rst for the packing. Only sizes matter here, so formats that differ in the order of
//! their components share a row.

use std::fmt::Write as _;

/// The shape of a plane: groups of pixels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plane {
    /// Pixels of a group.
    pixels: u32,
    /// Bytes of a group.
    bytes: u32,
    /// Lines of the frame for each line of the plane.
    lines: u32,
}

impl Plane {
    /// Bytes of a line in a frame that is `width` pixels wide.
    pub(super) fn line_bytes(&self, width: u32) -> u64 {
        u64::from(width.div_ceil(self.pixels)) * u64::from(self.bytes)
    }

    /// Lines of the plane in a frame of `height` lines.
    pub(super) fn lines(&self, height: u32) -> u64 {
        u64::from(height.div_ceil(self.lines))
    }

    /// Bytes from one line to the next, if those of `first`, the first plane, are `stride` (drivers/media/v4l2-core/v4l2-common.c,
    /// v4l2_fill_pixfmt).
    pub(super) fn stride(&self, first: &Self, stride: u64) -> u64 {
        (stride * u64::from(self.bytes) * u64::from(first.pixels))
            .div_ceil(u64::from(self.pixels) * u64::from(first.bytes))
    }
}

/// Formats of one shape.
#[derive(Debug)]
pub(super) struct Format {
    /// The components, their sampling and their packing.
    what: &'static str,
    /// Their names, separated by spaces: V4L2's and DRM's without prefix, and the four-character codes without final spaces.
    names: &'static str,
    /// The planes.
    pub(super) planes: &'static [Plane],
    /// Whether each plane is a buffer of its own.
    pub(super) separate: bool,
}

const fn plane(pixels: u32, bytes: u32, lines: u32) -> Plane {
    Plane { pixels, bytes, lines }
}

const fn format(what: &'static str, planes: &'static [Plane], names: &'static str) -> Format {
    Format { what, names, planes, separate: false }
}

/// Formats whose planes are separate buffers: V4L2's multi-planar ones (`NV12M`).
const fn separate(what: &'static str, planes: &'static [Plane], names: &'static str) -> Format {
    Format { what, names, planes, separate: true }
}

const YUV_420: &[Plane] = &[plane(1, 1, 1), plane(2, 1, 2), plane(2, 1, 2)];
const YUV_422: &[Plane] = &[plane(1, 1, 1), plane(2, 1, 1), plane(2, 1, 1)];
const YUV_444: &[Plane] = &[plane(1, 1, 1), plane(1, 1, 1), plane(1, 1, 1)];
const NV_420: &[Plane] = &[plane(1, 1, 1), plane(2, 2, 2)];
const NV_422: &[Plane] = &[plane(1, 1, 1), plane(2, 2, 1)];
const NV_420_WORDS: &[Plane] = &[plane(1, 2, 1), plane(2, 4, 2)];

/// All formats whose size follows from width and height.
const FORMATS: [Format; 50] = [
    format("YUV 4:2:2, packed", &[plane(2, 4, 1)], "YUYV YVYU UYVY VYUY YYUV"),
    format("YUV 4:2:2, packed, words of 16 bits", &[plane(2, 8, 1)], "Y210 Y212 Y216"),
    format("YUV 4:1:1, packed", &[plane(8, 12, 1)], "Y41P"),
    format("YUV 4:2:0, Y and UV", NV_420, "NV12 NV21 M420"),
    separate("YUV 4:2:0, Y and UV in separate buffers", NV_420, "NV12M NM12 NV21M NM21"),
    format("YUV 4:2:2, Y and UV", NV_422, "NV16 NV61"),
    separate("YUV 4:2:2, Y and UV in separate buffers", NV_422, "NV16M NM16 NV61M NM61"),
    format("YUV 4:4:4, Y and UV", &[plane(1, 1, 1), plane(1, 2, 1)], "NV24 NV42"),
    format("YUV 4:2:0, Y and UV, words of 16 bits", NV_420_WORDS, "P010 P012 P016"),
    separate("YUV 4:2:0, Y and UV in separate buffers, words of 16 bits", NV_420_WORDS, "P012M PM12"),
    format("YUV 4:2:2, Y and UV, words of 16 bits", &[plane(1, 2, 1), plane(2, 4, 1)], "P210"),
    format("YUV 4:2:0, Y and UV, 4 samples of 10 bits in 5 bytes", &[plane(4, 5, 1), plane(4, 5, 2)], "NV15"),
    format("YUV 4:2:2, Y and UV, 4 samples of 10 bits in 5 bytes", &[plane(4, 5, 1), plane(4, 5, 1)], "NV20"),
    format(
        "YUV 4:4:4, Y and UV, 4 samples of 10 bits in 5 bytes",
        &[plane(4, 5, 1), plane(4, 10, 1)],
        "NV30",
    ),
    format("YUV 4:2:0, Y and UV, 3 samples of 10 bits in 4 bytes", &[plane(3, 4, 1), plane(6, 8, 2)], "P030"),
    format("YUV 4:2:0, Y, U and V", YUV_420, "YUV420 YU12 YVU420 YV12"),
    separate("YUV 4:2:0, Y, U and V in separate buffers", YUV_420, "YUV420M YM12 YVU420M YM21"),
    format("YUV 4:2:2, Y, U and V", YUV_422, "YUV422P 422P YUV422 YU16 YVU422 YV16"),
    separate("YUV 4:2:2, Y, U and V in separate buffers", YUV_422, "YUV422M YM16 YVU422M YM61"),
    format("YUV 4:4:4, Y, U and V", YUV_444, "YUV444 YU24 YVU444 YV24"),
    separate("YUV 4:4:4, Y, U and V in separate buffers", YUV_444, "YUV444M YM24 YVU444M YM42"),
    format(
        "YUV 4:4:4, Y, U and V, words of 16 bits",
        &[plane(1, 2, 1), plane(1, 2, 1), plane(1, 2, 1)],
        "Q410 Q401",
    ),
    format(
        "YUV 4:1:1, Y, U and V",
        &[plane(1, 1, 1), plane(4, 1, 1), plane(4, 1, 1)],
        "YUV411P 411P YUV411 YU11 YVU411 YV11",
    ),
    format(
        "YUV 4:1:0, Y, U and V",
        &[plane(1, 1, 1), plane(4, 1, 4), plane(4, 1, 4)],
        "YUV410 YUV9 YVU410 YVU9",
    ),
    format("YUV 4:4:4, 12 bits of 16", &[plane(1, 2, 1)], "YUV444 Y444 YUV555 YUVO YUV565 YUVP"),
    format("YUV 4:4:4, packed", &[plane(1, 3, 1)], "YUV24 YUV3 VUY888 VU24"),
    format(
        "YUV 4:4:4, packed, 32 bits",
        &[plane(1, 4, 1)],
        "YUV32 YUV4 AYUV32 AYUV XYUV32 XYUV VUYA32 VUYA VUYX32 VUYX YUVA32 YUVA YUVX32 YUVX AVUY8888 AVUY \
         XYUV8888 XVUY8888 XVUY Y410 XVYU2101010 XV30",
    ),
    format("YUV 4:4:4, packed, 48 bits", &[plane(1, 6, 1)], "YUV48_12 Y312"),
    format(
        "YUV 4:4:4, packed, 64 bits",
        &[plane(1, 8, 1)],
        "Y412 Y416 XVYU12_16161616 XV36 XVYU16161616 XV48",
    ),
    format("RGB, 8 bits", &[plane(1, 1, 1)], "RGB332 RGB1 RGB8 BGR233 BGR8 HI240 HI24 PAL8 C8"),
    format(
        "RGB, 16 bits",
        &[plane(1, 2, 1)],
        "RGB565 RGBP RG16 BGR565 BG16 RGB565X RGBR RGB444 R444 RGB555 RGBO RGB555X RGBQ ARGB444 AR12 XRGB444 XR12 RGBA444 RA12 \
         RGBX444 RX12 ABGR444 AB12 XBGR444 XB12 BGRA444 GA12 BGRX444 BX12 ARGB555 AR15 XRGB555 XR15 RGBA555 RA15 RGBX555 RX15 \
         ABGR555 AB15 XBGR555 XB15 BGRA555 BA15 BGRX555 BX15 ARGB555X AR15-BE XRGB555X XR15-BE XRGB4444 XBGR4444 RGBX4444 \
         BGRX4444 ARGB4444 ABGR4444 RGBA4444 BGRA4444 BA12 XRGB1555 XBGR1555 RGBX5551 BGRX5551 ARGB1555 ABGR1555 RGBA5551 BGRA5551",
    ),
    format("RGB, 24 bits", &[plane(1, 3, 1)], "RGB24 RGB3 BGR24 BGR3 RGB888 RG24 BGR888 BG24 HSV24 HSV3"),
    format(
        "RGB, 32 bits",
        &[plane(1, 4, 1)],
        "RGB32 RGB4 BGR32 BGR4 BGR666 BGRH XRGB32 BX24 ARGB32 BA24 XBGR32 XR24 ABGR32 AR24 RGBX32 XB24 RGBA32 AB24 BGRX32 RX24 \
         BGRA32 RA24 HSV32 HSV4 XRGB8888 XBGR8888 RGBX8888 BGRX8888 ARGB8888 ABGR8888 RGBA8888 BGRA8888 XRGB2101010 XR30 \
         XBGR2101010 XB30 RGBX1010102 RX30 BGRX1010102 BX30 ARGB2101010 AR30 ABGR2101010 AB30 RGBA1010102 RA30 BGRA1010102 BA30",
    ),
    format("RGB, 48 bits", &[plane(1, 6, 1)], "RGB48 RGB6 BGR48 BGR6 BGR48_12 B312"),
    format(
        "RGB, 64 bits",
        &[plane(1, 8, 1)],
        "ABGR64_12 B412 XRGB16161616 XR48 XBGR16161616 XB48 ARGB16161616 AR48 ABGR16161616 AB48 XRGB16161616F XR4H XBGR16161616F \
         XB4H ARGB16161616F AR4H ABGR16161616F AB4H AXBXGXRX106106106106 AB10",
    ),
    format(
        "RGB, 32 bits, and a plane of alpha",
        &[plane(1, 4, 1), plane(1, 1, 1)],
        "XRGB8888_A8 XRA8 XBGR8888_A8 XBA8 RGBX8888_A8 RXA8 BGRX8888_A8 BXA8",
    ),
    format(
        "RGB, 24 bits, and a plane of alpha",
        &[plane(1, 3, 1), plane(1, 1, 1)],
        "RGB888_A8 R8A8 BGR888_A8 B8A8",
    ),
    format(
        "RGB, 16 bits, and a plane of alpha",
        &[plane(1, 2, 1), plane(1, 1, 1)],
        "RGB565_A8 R5A8 BGR565_A8 B5A8",
    ),
    format("grey, 1 byte", &[plane(1, 1, 1)], "GREY Y4 Y04 Y6 Y06 R8 D8 UV8"),
    format(
        "grey, words of 16 bits",
        &[plane(1, 2, 1)],
        "Y10 Y12 Y012 Y14 Y16 Y16_BE Y16-BE R10 R12 R16 Z16 Y8I RG88 GR88",
    ),
    format("grey, two samples of 12 bits in 3 bytes", &[plane(1, 3, 1)], "Y12I"),
    format("grey, two words of 16 bits", &[plane(1, 4, 1)], "Y16I RG1616 RG32 GR1616 GR32"),
    format("grey or palette, 4 bits", &[plane(2, 1, 1)], "C4 D4 R4 CNF4"),
    format("grey or palette, 2 bits", &[plane(4, 1, 1)], "C2 D2 R2"),
    format("grey or palette, 1 bit", &[plane(8, 1, 1)], "C1 D1 R1"),
    format(
        "raw, 1 byte",
        &[plane(1, 1, 1)],
        "SRGGB8 RGGB SGRBG8 GRBG SGBRG8 GBRG SBGGR8 BA81 SRGGB10ALAW8 aRA8 SGRBG10ALAW8 agA8 SGBRG10ALAW8 aGA8 SBGGR10ALAW8 aBA8 \
         SRGGB10DPCM8 bRA8 SGRBG10DPCM8 BD10 SGBRG10DPCM8 bGA8 SBGGR10DPCM8 bBA8 PISP_COMP1_RGGB PC1R PISP_COMP1_GRBG PC1G \
         PISP_COMP1_GBRG PC1g PISP_COMP1_BGGR PC1B PISP_COMP1_MONO PC1M PISP_COMP2_RGGB PC2R PISP_COMP2_GRBG PC2G PISP_COMP2_GBRG \
         PC2g PISP_COMP2_BGGR PC2B PISP_COMP2_MONO PC2M",
    ),
    format(
        "raw, words of 16 bits",
        &[plane(1, 2, 1)],
        "SRGGB10 RG10 SGRBG10 BA10 SGBRG10 GB10 SBGGR10 BG10 SRGGB12 RG12 SGRBG12 BA12 SGBRG12 GB12 SBGGR12 BG12 SRGGB14 RG14 \
         SGRBG14 GR14 SGBRG14 GB14 SBGGR14 BG14 SRGGB16 RG16 SGRBG16 GR16 SGBRG16 GB16 SBGGR16 BYR2",
    ),
    format(
        "raw or grey, 4 samples of 10 bits in 5 bytes",
        &[plane(4, 5, 1)],
        "SRGGB10P pRAA SGRBG10P pgAA SGBRG10P pGAA SBGGR10P pBAA Y10P Y10BPACK Y10B",
    ),
    format(
        "raw or grey, 2 samples of 12 bits in 3 bytes",
        &[plane(2, 3, 1)],
        "SRGGB12P pRCC SGRBG12P pgCC SGBRG12P pGCC SBGGR12P pBCC Y12P",
    ),
    format(
        "raw or grey, 4 samples of 14 bits in 7 bytes",
        &[plane(4, 7, 1)],
        "SRGGB14P pREE SGRBG14P pgEE SGBRG14P pGEE SBGGR14P pBEE Y14P",
    ),
];

/// Formats of the IPU3: 50 samples of 10 bits in 64 bytes (drivers/media/pci/intel/ipu3/ipu3-cio2.c, cio2_bytesperline).
const IPU3: Format = format(
    "raw or grey, 50 samples of 10 bits in 64 bytes",
    &[plane(50, 64, 1)],
    "IPU3_SRGGB10 ip3r IPU3_SGRBG10 ip3G IPU3_SGBRG10 ip3g IPU3_SBGGR10 ip3b IPU3_Y10 ip3y",
);

/// Names of formats whose size a driver decides: compressed ones, and planes of tiles or columns.
const UNSIZED: &str = "MJPEG MJPG JPEG H264 H264_NO_SC AVC1 H264_MVC M264 H264_SLICE S264 H263 MPEG MPEG1 MPG1 MPEG2 MPG2 MPEG2_SLICE \
    MG2S MPEG4 MPG4 XVID VC1_ANNEX_G VC1G VC1_ANNEX_L VC1L VP8 VP80 VP8_FRAME VP8F VP9 VP90 VP9_FRAME VP9F AV1 AV01 AV1_FRAME AV1F \
    HEVC HEVC_SLICE S265 FWHT FWHT_STATELESS SFWH DV dvsd NV12_4L4 VT12 NV12_16L16 HM12 NV12_32L32 ST12 NV15_4L4 VT15 P010_4L4 T010 \
    NV12M_8L128 NA12 NV12M_10BE_8L128 NT12-BE NV12MT TM12 NV12MT_16X16 VM12 NV12_COL128 NC12 NV12_10_COL128 NC30 MM21 MT21C MT21 \
    MT2110T MT2T MT2110R MT2R QC08C Q08C QC10C Q10C YUV420_8BIT YU08 YUV420_10BIT YU10 VUY101010 VU30";

/// The most similar names that an error lists.
const NEAR: usize = 6;

/// Why a text names no format of one size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There is no such name.
    #[error("there is no format \"{name}\"; similar names are {near}, and minivmm model --help lists all")]
    Unknown {
        /// The name.
        name: String,
        /// The most similar names.
        near: String,
    },
    /// V4L2 and DRM use the name for formats of different sizes.
    #[error("the format {name} is {formats}; give the four-character code of the one that is meant")]
    Ambiguous {
        /// The name.
        name: String,
        /// The formats.
        formats: String,
    },
    /// A frame has no size of its own.
    #[error(
        "a frame of {0} has no size that follows from width and height; divide the driver's Size Image (v4l2-ctl --get-fmt-video) by \
         4096, and use alloc NAME PAGES in a script"
    )]
    Unsized(String),
}

/// All formats.
fn formats() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().chain([&IPU3])
}

impl Format {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split_ascii_whitespace()
    }

    /// The format called `name`, and the name as the table writes it. A name in the table's case wins over one in another case.
    ///
    /// # Errors
    /// If there is no format of that name with one size.
    pub(super) fn find(name: &str) -> Result<(&'static Self, &'static str), FormatError> {
        let plain = name.trim_end();
        let plain = ["V4L2_PIX_FMT_", "DRM_FORMAT_"]
            .iter()
            .find_map(|prefix| plain.strip_prefix(prefix))
            .unwrap_or(plain);
        let named = |is: &dyn Fn(&str) -> bool| -> Vec<(&'static Self, &'static str)> {
            formats().filter_map(|format| Some((format, format.names().find(|name| is(name))?))).collect()
        };
        let mut found = named(&|known| known == plain);
        if found.is_empty() {
            found = named(&|known| known.eq_ignore_ascii_case(plain));
        }
        match found[..] {
            [] => {}
            [(format, known), ref others @ ..]
                if others.iter().all(|(other, _)| other.planes == format.planes) =>
            {
                return Ok((format, known));
            }
            _ => {
                let formats: Vec<String> = found
                    .iter()
                    .map(|(format, known)| {
                        let code = format.names().skip_while(|name| name != known).nth(1).unwrap_or_default();
                        format!("{code} ({})", format.what)
                    })
                    .collect();
                return Err(FormatError::Ambiguous {
                    name: plain.to_owned(),
                    formats: formats.join(" and "),
                });
            }
        }
        if UNSIZED.split_ascii_whitespace().any(|known| known.eq_ignore_ascii_case(plain)) {
            return Err(FormatError::Unsized(plain.to_owned()));
        }
        Err(FormatError::Unknown { name: name.to_owned(), near: near(plain) })
    }
}

/// The names that are most similar to `name`, the most similar first.
fn near(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    let mut names: Vec<(usize, &str)> = formats()
        .flat_map(Format::names)
        .map(|known| (distance(&name, &known.to_ascii_uppercase()), known))
        .collect();
    names.sort_by_key(|(distance, _)| *distance);
    let mut near: Vec<&str> = Vec::new();
    for (_, known) in names {
        if near.len() < NEAR && !near.contains(&known) {
            near.push(known);
        }
    }
    near.join(", ")
}

/// The least number of characters to insert, remove or replace to get from `from` to `to` (Levenshtein). Only the start of a long
/// text counts.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, character) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// The table of formats, for the long help.
pub(super) fn help() -> String {
    let mut text =
        "Formats for --frames, by the names of V4L2 and DRM and their four-character codes:".to_owned();
    for format in formats() {
        let planes: Vec<String> = format
            .planes
            .iter()
            .map(|Plane { pixels, bytes, lines }| match lines {
                1 => format!("{bytes}/{pixels}"),
                _ => format!("{bytes}/{pixels} in one of {lines} lines"),
            })
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}; bytes/pixels: {}", format.what, planes.join(", "));
        let mut column = usize::MAX;
        for name in format.names() {
            if column.saturating_add(name.len()) > 100 {
                text.push_str("\n     ");
                column = 5;
            }
            let _ = write!(text, " {name}");
            column += name.len() + 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use devices::media;

    use super::*;

    #[test]
    fn names_are_found_with_and_without_a_prefix() {
        for (name, known) in [
            ("NV12", "NV12"),
            ("nv12", "NV12"),
            ("V4L2_PIX_FMT_SRGGB12P", "SRGGB12P"),
            ("DRM_FORMAT_XRGB8888", "XRGB8888"),
            ("XR24", "XR24"),
            ("pBAA", "pBAA"),
            ("Y10 ", "Y10"),
            ("ip3G", "ip3G"),
        ] {
            assert_eq!(Format::find(name).unwrap().1, known);
        }
        // Codes that differ only in case.
        assert_eq!(Format::find("pgAA").unwrap().1, "pgAA");
        assert_eq!(Format::find("pGAA").unwrap().1, "pGAA");
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let error = |name: &str| Format::find(name).unwrap_err().to_string();
        assert!(
            error("NV13").starts_with("there is no format \"NV13\"; similar names are NV12, NV1"),
            "{}",
            error("NV13")
        );
        assert!(error("SRGB10P").contains("similar names are SRGGB10P, "), "{}", error("SRGB10P"));
        assert!(error(&"x".repeat(1 << 16)).len() < (1 << 17));
        assert_eq!(
            error("YUV444"),
            "the format YUV444 is YU24 (YUV 4:4:4, Y, U and V) and Y444 (YUV 4:4:4, 12 bits of 16); give the four-character code of \
             the one that is meant"
        );
        assert!(
            error("mjpg")
                .starts_with("a frame of mjpg has no size that follows from width and height; divide")
        );
    }

    /// No name of one size is that of another, apart from the one that the errors explain.
    #[test]
    fn a_name_has_one_size() {
        for name in formats().flat_map(Format::names) {
            let found = Format::find(name);
            assert_eq!(found.is_err(), name == "YUV444", "{found:?}");
            assert!(!UNSIZED.split_ascii_whitespace().any(|other| other == name), "{name}");
        }
    }

    /// The camera's formats have the same sizes here.
    #[test]
    fn the_table_agrees_with_the_cameras() {
        for format in media::FORMATS {
            let code = String::from_utf8(format.fourcc.to_le_bytes().to_vec()).unwrap();
            for name in [format.name, &code] {
                let (found, _) = Format::find(name).unwrap();
                let layout = media::Layout::new(format.fourcc, 1280, 720).unwrap();
                let planes: Vec<_> =
                    found.planes.iter().map(|plane| (plane.line_bytes(1280), plane.lines(720))).collect();
                let known: Vec<_> = layout
                    .planes()
                    .map(|plane| (u64::from(plane.line_bytes), u64::from(plane.lines)))
                    .collect();
                assert_eq!(planes, known, "{name}");
            }
        }
    }

    #[test]
    fn the_help_has_each_name_on_lines_of_moderate_length() {
        let help = help();
        for name in formats().flat_map(Format::names) {
            assert!(help.split_ascii_whitespace().any(|word| word == name), "{name}");
        }
        assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    }
}
