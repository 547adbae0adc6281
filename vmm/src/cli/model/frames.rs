//! Counts the frames that a CMA window holds, and finds the kernel's answer to the next one, and the buffers that can be freed
//! without room for a larger frame.

use std::{fmt, str::FromStr};

use cma::{
    PAGE_SIZE, Window,
    area::{AllocError, Area, AreaError, Reason, Rules, dma_alignment},
    script::DEFAULT_BASE,
    spec::WindowSpec,
};
use serde::Serialize;

use super::formats::{Format, FormatError};
use crate::observe::words::counted;

/// The most buffers of a queue (include/media/videobuf2-core.h, VB2_MAX_FRAME).
const MAX_BUFFERS: u64 = 32;

/// The most buffers that the text lists.
const LISTED: usize = 12;

/// Sizes with a name: width and height in pixels.
const SIZES: [(&str, u32, u32); 4] =
    [("480p", 640, 480), ("720p", 1280, 720), ("1080p", 1920, 1080), ("2160p", 3840, 2160)];

/// The largest width or height, in pixels: more than any sensor's.
const MAX_LENGTH: u32 = 1 << 20;

/// A frame, as `1080p:NV12` or `4056x3040:SRGGB12P,stride=6112`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The format's name.
    format: &'static str,
    width: u32,
    height: u32,
    /// Bytes of each buffer: one for the frame, or for each plane. Zero for those that it does not have.
    buffers: [u64; MAX_BUFFERS_OF_A_FRAME],
}

/// The most planes of a format.
const MAX_BUFFERS_OF_A_FRAME: usize = 3;

/// Why frames cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The window is not possible.
    #[error(transparent)]
    Window(#[from] AreaError),
    /// Too many frames of several buffers fit.
    #[error(
        "more than {MAX_SEPARATE} frames of {0}, whose planes are separate buffers, fit in the window; give a smaller window, or \
         larger frames"
    )]
    TooMany(&'static str),
}

/// Why a text does not name a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The size is missing or unknown.
    #[error(
        "the frame \"{0}\" has an unknown size; write 480p, 720p, 1080p, 2160p or WIDTHxHEIGHT, a colon and a format, as in \
         1080p:NV12"
    )]
    Size(String),
    /// The size is zero or too large.
    #[error("a frame cannot be {0}x{1}; width and height must be 1 to {MAX_LENGTH}")]
    Length(u32, u32),
    /// The format is unknown.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The stride is no number, or something else follows the format.
    #[error(
        "after the format of \"{0}\" only a stride in bytes can follow, as in 4056x3040:SRGGB12P,stride=6112"
    )]
    Option(String),
    /// The stride is shorter than a line.
    #[error(
        "the frame \"{text}\" has a stride of {stride}, but a line takes {line} bytes; give V4L2's bytesperline"
    )]
    Stride {
        /// The frame.
        text: String,
        /// Its stride.
        stride: u32,
        /// Bytes of a line of the first plane.
        line: u64,
    },
}

impl Frame {
    /// Size of its buffers: V4L2's sizeimage, summed over the planes that are separate buffers.
    fn bytes(self) -> u64 {
        self.buffers.iter().sum()
    }

    /// Pages of each buffer, and its alignment as an order of pages: the DMA API's.
    fn requests(self) -> impl DoubleEndedIterator<Item = (u64, u32)> {
        let buffers = self.buffers.into_iter().filter(|bytes| *bytes > 0);
        buffers.map(|bytes| (bytes.div_ceil(PAGE_SIZE), dma_alignment(bytes)))
    }

    fn pages(self) -> u64 {
        self.requests().map(|(pages, _)| pages).sum()
    }

    /// The alignment of its largest buffer.
    fn align(self) -> u32 {
        self.requests().map(|(_, align)| align).max().unwrap_or(0)
    }

    /// Allocates its buffers in `area`, or none of them. Returns the places.
    fn alloc(self, area: &mut Area) -> Result<Places, AllocError> {
        let mut places = Vec::new();
        for (pages, align) in self.requests() {
            match area.alloc(pages, align) {
                Ok(buffer) => places.push((buffer.pfn, pages)),
                Err(refused) => {
                    release(area, &places);
                    return Err(refused);
                }
            }
        }
        Ok(places)
    }
}

impl FromStr for Frame {
    type Err = FrameError;

    fn from_str(text: &str) -> Result<Self, FrameError> {
        let unknown = || FrameError::Size(text.to_owned());
        let (size, rest) = text.split_once(':').ok_or_else(unknown)?;
        let named =
            SIZES.iter().find(|(known, ..)| *known == size).map(|(_, width, height)| (*width, *height));
        let written = || {
            let (width, height) = size.split_once('x')?;
            Some((width.parse().ok()?, height.parse().ok()?))
        };
        let (width, height) = named.or_else(written).ok_or_else(unknown)?;
        let lengths = 1..=MAX_LENGTH;
        if !lengths.contains(&width) || !lengths.contains(&height) {
            return Err(FrameError::Length(width, height));
        }
        let (name, option) = rest.split_once(',').map_or((rest, None), |(name, option)| (name, Some(option)));
        let (format, name) = Format::find(name)?;
        let first = &format.planes[0];
        let mut stride = first.line_bytes(width);
        if let Some(option) = option {
            let given = option.strip_prefix("stride=").and_then(|stride| stride.parse().ok());
            let given: u32 = given.ok_or_else(|| FrameError::Option(text.to_owned()))?;
            if u64::from(given) < stride {
                return Err(FrameError::Stride { text: text.to_owned(), stride: given, line: stride });
            }
            stride = given.into();
        }
        let mut buffers = [0; MAX_BUFFERS_OF_A_FRAME];
        for (index, plane) in format.planes.iter().enumerate() {
            let line = if option.is_some() { plane.stride(first, stride) } else { plane.line_bytes(width) };
            buffers[if format.separate { index } else { 0 }] += line * plane.lines(height);
        }
        Ok(Self { format: name, width, height, buffers })
    }
}

/// The number of times that a frame fits in an empty window. Sizes are in bytes; a page has 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The format's name, of V4L2 or of DRM, as it was asked for and without a prefix such as `V4L2_PIX_FMT_`.
    pub format: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of a frame: V4L2's sizeimage, summed over the planes that are separate buffers.
    pub bytes: u64,
    /// Pages of a frame.
    pub pages: u64,
    /// Their alignment, as an order of pages: the DMA API's. That of the largest buffer if a frame has several.
    pub align: u32,
    /// Pages of each buffer of a frame: one, or one for each plane of a multi-planar format such as NV12M.
    pub buffers: Vec<u64>,
    /// The kernel's name for the window.
    pub window: String,
    /// Size of the window.
    pub window_size: u64,
    /// Frames that fit.
    pub fits: u64,
    /// The answer to the next buffer: -12 (-ENOMEM), or by the rules since Linux 6.15 -16 (-EBUSY).
    pub errno: i32,
    /// The reason why the kernel finds no pages for it.
    pub reason: Reason,
    /// The kernel's messages about it, without time stamps.
    pub dmesg: Vec<String>,
    /// The window after every other buffer, the first included, was freed; null if no two fit, or more than 4096.
    pub every_other: Option<EveryOther>,
    /// For each larger one of the other frames, the number of buffers that can be freed in vain; empty if more than 4096 fit.
    pub in_vain: Vec<InVain>,
}

/// A full window of which every other buffer was freed. As each of them is room for the next of its kind, a pattern of
/// frees leaves no room only for larger ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EveryOther {
    /// Buffers that were freed.
    pub freed: u64,
    /// Free pages.
    pub free: u64,
    /// The most pages that a request at the alignment can have.
    pub largest: u64,
}

/// A pattern of frees, of a full window, after which a larger frame does not fit; with one buffer more freed it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InVain {
    /// The larger frame's format.
    pub format: &'static str,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// Its pages.
    pub pages: u64,
    /// The buffers that are kept, in the order of their places, from 0; the others are freed.
    pub kept: Vec<u64>,
    /// Buffers that are freed.
    pub freed: u64,
    /// Free pages.
    pub free: u64,
}

/// The most buffers whose patterns are searched: far more than a queue has.
const MAX_PATTERN: u64 = 4096;

/// The most frames of several buffers that are counted one by one.
const MAX_SEPARATE: u64 = 1 << 16;

/// Allocates buffers for `frame` in the empty window until one is refused, then frees some in vain for each of `others`.
///
/// # Errors
/// If the window is not possible, or if too many frames of several buffers fit.
pub fn fit(frame: Frame, others: &[Frame], window: &WindowSpec, rules: Rules) -> Result<Fit, FitError> {
    let window = Window {
        name: window.name.clone().unwrap_or_else(|| "cma0".to_owned()),
        base: window.base.unwrap_or(DEFAULT_BASE),
        size: window.size,
        ..Default::default()
    };
    let mut area = Area::of_window(&window, 0, rules)?;
    let mut empty = area.clone();
    let fits = fill(&mut area, frame).ok_or(FitError::TooMany(frame.format))?;
    let mut full = area.clone();
    let refused = frame.requests().find_map(|(pages, align)| full.alloc(pages, align).err());
    let refused = refused.expect("as many as fit are there");
    let dmesg = full.dmesg(&refused);
    let AllocError { reason, errno, .. } = refused;
    let patterns = if fits <= MAX_PATTERN { fits } else { 0 };
    let frames: Vec<Places> = (0..patterns).filter_map(|_| frame.alloc(&mut empty).ok()).collect();
    let align = frame.align();
    let every_other = (frames.len() > 1).then(|| {
        let mut area = area.clone();
        frames.iter().step_by(2).for_each(|places| release(&mut area, places));
        let hole = area.largest_hole_at(align);
        let freed = frames.len().div_ceil(2) as u64;
        EveryOther { freed, free: area.free(), largest: hole.end - hole.start }
    });
    let larger = others.iter().filter(|other| other.pages() > frame.pages() && !frames.is_empty());
    let in_vain = larger.map(|other| in_vain(&area, &frames, *other)).collect();
    Ok(Fit {
        format: frame.format,
        width: frame.width,
        height: frame.height,
        bytes: frame.bytes(),
        pages: frame.pages(),
        align,
        buffers: frame.requests().map(|(pages, _)| pages).collect(),
        window: area.name().to_owned(),
        window_size: window.size,
        fits,
        errno,
        reason,
        dmesg,
        every_other,
        in_vain,
    })
}

/// The buffers of a frame: first page and pages.
type Places = Vec<(u64, u64)>;

/// Allocates `frame` in `area` until it is refused. Returns the number of frames. None if more than [`MAX_SEPARATE`] frames of several
/// buffers fit.
fn fill(area: &mut Area, frame: Frame) -> Option<u64> {
    let requests: Vec<_> = frame.requests().collect();
    if let [(pages, align)] = requests[..] {
        return Some(area.fill(pages, align));
    }
    (0..=MAX_SEPARATE).find(|_| frame.alloc(area).is_err())
}

fn release(area: &mut Area, places: &[(u64, u64)]) {
    for (pfn, pages) in places {
        area.release(*pfn, *pages);
    }
}

/// Frees those of `frames`, from the first on, with which `next` does not fit yet.
fn in_vain(full: &Area, frames: &[Places], next: Frame) -> InVain {
    let mut area = full.clone();
    let mut kept = Vec::new();
    for (index, places) in (0..).zip(frames) {
        let mut freed = area.clone();
        release(&mut freed, places);
        if next.alloc(&mut freed.clone()).is_err() {
            area = freed;
        } else {
            kept.push(index);
        }
    }
    InVain {
        format: next.format,
        width: next.width,
        height: next.height,
        pages: next.pages(),
        freed: (frames.len() - kept.len()) as u64,
        kept,
        free: area.free(),
    }
}

/// Prints it for people: a line, and indented lines with details.
impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, width, height, bytes, pages, align, window, fits, errno, .. } = self;
        let size = cma::size::format(self.window_size);
        let (fit, buffer_pages) = (counted(*fits, "buffer"), counted(*pages, "page"));
        let verb = if *fits == 1 { "fits" } else { "fit" };
        write!(f, "{width}x{height} {format}: {fit} {verb} in {window} of {size}, ")?;
        write!(f, "each of {bytes} bytes, {buffer_pages} at alignment {align}")?;
        if let [_, _, ..] = self.buffers[..] {
            let each: Vec<_> = self.buffers.iter().map(u64::to_string).collect();
            write!(f, ", in separate buffers of {}", each.join(" and "))?;
        }
        write!(f, "\n  request {}: {errno}, {}", fits + 1, self.reason.sentence())?;
        for line in &self.dmesg {
            write!(f, "\n  {line}")?;
        }
        if let Some(EveryOther { freed, free, largest }) = self.every_other {
            let free = counted(free, "page");
            write!(
                f,
                "\n  with every other buffer freed ({freed} of {fits}) and {free} free, a request for more than "
            )?;
            write!(f, "{largest} at alignment {align} is refused")?;
        }
        for InVain { format, width, height, pages, kept, freed, free } in &self.in_vain {
            let (pages, free) = (counted(*pages, "page"), counted(*free, "page"));
            write!(f, "\n  {width}x{height} {format}, of {pages}, ")?;
            if kept.is_empty() {
                write!(f, "does not fit even with all buffers freed")?;
                continue;
            }
            let listed: Vec<_> = kept.iter().take(LISTED).map(u64::to_string).collect();
            let more = if kept.len() > LISTED { " ..." } else { "" };
            write!(f, "is refused with {freed} of {fits} buffers freed and {free} free, if the buffers ")?;
            write!(f, "{}{more} (from 0) remain; with one more freed it fits", listed.join(" "))?;
        }
        if *fits > MAX_BUFFERS {
            write!(f, "\n  a V4L2 queue has at most {MAX_BUFFERS} buffers")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(frame: &str, window: &str) -> Fit {
        fit(frame.parse().unwrap(), &[], &window.parse().unwrap(), Rules::V6_1).unwrap()
    }

    #[test]
    fn hand_checked_numbers() {
        for (frame, bytes, pages, fits) in [
            ("1080p:YUYV", 4_147_200, 1013, 16),
            ("1080p:NV12", 3_110_400, 760, 21),
            ("1920x1080:rgb24", 6_220_800, 1519, 10),
            ("720p:YUYV", 1_843_200, 450, 32),
        ] {
            let fit = fitted(frame, "64M");
            assert_eq!((fit.bytes, fit.pages, fit.align, fit.fits), (bytes, pages, 8, fits), "{frame}");
            assert_eq!((fit.errno, fit.reason), (-12, Reason::NoRun));
        }
    }

    #[test]
    fn frames_of_real_cameras() {
        for (frame, window, bytes, pages, fits) in [
            // IMX477: 4056 samples of 12 bits are 6084 bytes, which its driver pads to 6112.
            ("4056x3040:SRGGB12P,stride=6112", "512M", 6112 * 3040, 4537, 28),
            ("4056x3040:pRCC", "512M", 6084 * 3040, 4516, 28),
            ("4640x3472:GREY", "64M", 4640 * 3472, 3934, 4),
            ("1080p:XRGB8888", "8M", 1920 * 1080 * 4, 2025, 1),
            ("1080p:XR24", "8M", 1920 * 1080 * 4, 2025, 1),
            ("641x481:NV12", "64M", 641 * 481 + 642 * 241, 114, 128),
            ("1920x1088:YU12,stride=2048", "64M", 2048 * 1088 * 3 / 2, 816, 16),
        ] {
            let fit = fitted(frame, window);
            assert_eq!((fit.bytes, fit.pages, fit.fits), (bytes, pages, fits), "{frame}");
        }
    }

    /// Y has 507 pages, which take 512 at its alignment, and UV has 254, which take 256.
    #[test]
    fn planes_in_separate_buffers() {
        let fit = fitted("1080p:NM12", "8M");
        assert_eq!(
            (fit.bytes, fit.pages, fit.fits, fit.buffers.clone()),
            (3_110_400, 761, 2, vec![507, 254])
        );
        let text = fit.to_string();
        assert!(text.contains("761 pages at alignment 8, in separate buffers of 507 and 254"), "{text}");
        assert!(super::fit("1x1:NM12".parse().unwrap(), &[], &"1G".parse().unwrap(), Rules::V6_1).is_err());
        // The Y plane of the third frame is in use when its UV plane is refused.
        for part in [
            "alloc failed, req-size: 254 pages, ret: -12",
            "pages: 5@507+2@766+5@1275+2@1534+5@2043=> 19 free of 2048",
            "with every other buffer freed (1 of 2) and 1287 pages free",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_people_read() {
        let text = fitted("2160p:NV12", "size=24M,name=isp,base=0x80000000").to_string();
        // 12,441,600 bytes are 3037.5 pages; the second begins at the next multiple of 256, 3072.
        assert_eq!(
            text,
            "3840x2160 NV12: 2 buffers fit in isp@80000000 of 24M, each of 12441600 bytes, 3038 pages at alignment 8\n  \
             request 3: -12, no run of free pages is long enough at that alignment\n  \
             cma: cma_alloc: isp@80000000: alloc failed, req-size: 3038 pages, ret: -12\n  \
             cma: number of available pages: 34@3038+34@6110=> 68 free of 6144 total pages\n  \
             with every other buffer freed (1 of 2) and 3106 pages free, a request for more than 3072 at alignment 8 is refused"
        );
        assert!(fitted("480p:GREY", "64M").to_string().ends_with("a V4L2 queue has at most 32 buffers"));
    }

    #[test]
    fn one_buffer_is_not_one_buffers() {
        let text = fitted("160x120:GREY", "32K").to_string();
        assert!(text.starts_with("160x120 GREY: 1 buffer fits in cma0"), "{text}");
    }

    #[test]
    fn a_frame_that_is_larger_than_the_window() {
        let fit = fitted("2160p:XRGB32", "4M");
        assert_eq!((fit.fits, fit.errno, fit.reason), (0, -12, Reason::LargerThanArea));
        assert!(fit.dmesg.is_empty());
    }

    #[test]
    fn patterns_that_leave_no_room_for_larger_ones() {
        let frames: Vec<Frame> = ["1080p:NV12", "1080p:RGB24", "2160p:NV12", "720p:YUYV"]
            .map(|frame| frame.parse().unwrap())
            .into();
        let window: WindowSpec = "64M".parse().unwrap();
        let fit = fit(frames[0], &frames, &window, Rules::V7_2).unwrap();
        assert_eq!((fit.fits, fit.errno), (21, -16));
        // Slots of 768 pages, and 256 behind the last.
        let every_other = fit.every_other.clone().unwrap();
        assert_eq!(every_other, EveryOther { freed: 11, free: 16384 - 10 * 760, largest: 1024 });
        // Two slots have room for RGB24, four for 2160p NV12; the last with what lies behind it is no more than one.
        let kept: Vec<_> =
            fit.in_vain.iter().map(|pattern| (pattern.pages, pattern.kept.clone(), pattern.freed)).collect();
        let odd = (0..10).map(|n| 2 * n + 1).collect();
        assert_eq!(kept, [(1519, odd, 11), (3038, vec![3, 7, 11, 15, 19], 16)]);
        let text = fit.to_string();
        for part in [
            "with every other buffer freed (11 of 21) and 8784 pages free, a request for more than 1024 at alignment 8",
            "\n  1920x1080 RGB24, of 1519 pages, is refused with 11 of 21 buffers freed and 8784 pages free, if the buffers 1 3 5 7 \
             9 11 13 15 17 19 (from 0) remain; with one more freed it fits\n",
            "3840x2160 NV12, of 3038 pages, is refused with 16 of 21 buffers freed and 12584 pages free, if the buffers 3 7 11",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let huge = super::fit(frames[3], &frames, &"8M".parse().unwrap(), Rules::V6_1).unwrap();
        assert!(
            huge.to_string()
                .ends_with("3840x2160 NV12, of 3038 pages, does not fit even with all buffers freed"),
            "{huge}"
        );
        assert_eq!(fitted("480p:GREY", "4G").in_vain, []);
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        for (frame, part) in [
            ("", "the frame \"\" has an unknown size; write 480p"),
            ("1080p", "as in 1080p:NV12"),
            ("1080i:NV12", "has an unknown size"),
            ("x:NV12", "has an unknown size"),
            ("640x-480:NV12", "has an unknown size"),
            ("1080p:NV13", "there is no format \"NV13\"; similar names are NV12, "),
            ("0x480:NV12", "a frame cannot be 0x480; width and height must be 1 to 1048576"),
            ("640x1048577:NV12", "a frame cannot be 640x1048577"),
            ("640x480:MJPG", "a frame of MJPG has no size"),
            ("640x480:YUYV,stride=1279", "has a stride of 1279, but a line takes 1280 bytes"),
            (
                "640x480:YUYV,stride=-1",
                "only a stride in bytes can follow, as in 4056x3040:SRGGB12P,stride=6112",
            ),
            ("640x480:YUYV,1280", "only a stride in bytes can follow"),
            ("4294967296x2:NV12", "has an unknown size"),
        ] {
            let error = frame.parse::<Frame>().unwrap_err().to_string();
            assert!(error.contains(part), "{frame}: {error}");
        }
    }
}
