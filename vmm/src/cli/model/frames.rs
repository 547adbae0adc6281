//! Counts the frames that a CMA window holds, and finds the kernel's answer to the next one, and the buffers that can be freed
//! without room for a larger frame.

use std::{fmt, str::FromStr};

use cma::{
    PAGE_SIZE, Window,
    area::{AllocError, Area, AreaError, Reason, Rules, dma_alignment},
    script::DEFAULT_BASE,
    spec::WindowSpec,
};
use devices::media::{FORMATS, Format, Layout, LayoutError};
use serde::Serialize;

use crate::observe::words::counted;

/// The most buffers of a queue (include/media/videobuf2-core.h, VB2_MAX_FRAME).
const MAX_BUFFERS: u64 = 32;

/// The most buffers that the text lists.
const LISTED: usize = 12;

/// Sizes with a name: width and height in pixels.
const SIZES: [(&str, u32, u32); 4] =
    [("480p", 640, 480), ("720p", 1280, 720), ("1080p", 1920, 1080), ("2160p", 3840, 2160)];

/// A frame, as `1080p:NV12` or `640x480:YUYV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame(Layout);

/// Why a text does not name a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The size is missing or unknown.
    #[error(
        "the frame \"{0}\" has an unknown size; write 480p, 720p, 1080p, 2160p or WIDTHxHEIGHT, a colon and a format, as in \
         1080p:NV12"
    )]
    Size(String),
    /// The format is unknown.
    #[error("there is no format \"{name}\"; the formats are {}", names(), name = .0)]
    Format(String),
    /// The format has no such size.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The names of the formats.
fn names() -> String {
    FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
}

impl Frame {
    /// Size of a buffer: V4L2's sizeimage.
    fn bytes(self) -> u64 {
        self.0.planes().map(|plane| plane.span()).sum()
    }
}

impl FromStr for Frame {
    type Err = FrameError;

    fn from_str(text: &str) -> Result<Self, FrameError> {
        let unknown = || FrameError::Size(text.to_owned());
        let (size, name) = text.split_once(':').ok_or_else(unknown)?;
        let named =
            SIZES.iter().find(|(known, ..)| *known == size).map(|(_, width, height)| (*width, *height));
        let written = || {
            let (width, height) = size.split_once('x')?;
            Some((width.parse().ok()?, height.parse().ok()?))
        };
        let (width, height) = named.or_else(written).ok_or_else(unknown)?;
        let format = FORMATS.iter().find(|format| format.name.eq_ignore_ascii_case(name));
        let Format { fourcc, .. } = format.ok_or_else(|| FrameError::Format(name.to_owned()))?;
        Ok(Self(Layout::new(*fourcc, width, height)?))
    }
}

/// The number of times that a frame fits in an empty window. Sizes are in bytes; a page has 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// V4L2's name for the format, without `V4L2_PIX_FMT_`.
    pub format: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of a buffer: V4L2's sizeimage.
    pub bytes: u64,
    /// Pages of a buffer.
    pub pages: u64,
    /// Their alignment, as an order of pages: the DMA API's.
    pub align: u32,
    /// The kernel's name for the window.
    pub window: String,
    /// Size of the window.
    pub window_size: u64,
    /// Buffers that fit.
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

/// Allocates buffers for `frame` in the empty window until one is refused, then frees some in vain for each of `others`.
///
/// # Errors
/// If the window is not possible.
pub fn fit(frame: Frame, others: &[Frame], window: &WindowSpec, rules: Rules) -> Result<Fit, AreaError> {
    let Frame(layout) = frame;
    let window = Window {
        name: window.name.clone().unwrap_or_else(|| "cma0".to_owned()),
        base: window.base.unwrap_or(DEFAULT_BASE),
        size: window.size,
        ..Default::default()
    };
    let mut area = Area::of_window(&window, 0, rules)?;
    let bytes = frame.bytes();
    let (pages, align) = (bytes.div_ceil(PAGE_SIZE), dma_alignment(bytes));
    let mut empty = area.clone();
    let fits = area.fill(pages, align);
    let refused = area.alloc(pages, align).expect_err("as many as fit are there");
    let dmesg = area.dmesg(&refused);
    let AllocError { reason, errno, .. } = refused;
    let patterns = if fits <= MAX_PATTERN { fits } else { 0 };
    let buffers: Vec<u64> =
        (0..patterns).filter_map(|_| empty.alloc(pages, align).ok()).map(|buffer| buffer.pfn).collect();
    let every_other = (buffers.len() > 1).then(|| {
        let mut area = area.clone();
        for pfn in buffers.iter().step_by(2) {
            area.release(*pfn, pages);
        }
        let hole = area.largest_hole_at(align);
        let freed = buffers.len().div_ceil(2) as u64;
        EveryOther { freed, free: area.free(), largest: hole.end - hole.start }
    });
    let larger =
        others.iter().filter(|other| other.bytes().div_ceil(PAGE_SIZE) > pages && !buffers.is_empty());
    let in_vain = larger.map(|other| in_vain(&area, &buffers, pages, *other)).collect();
    Ok(Fit {
        format: layout.format().name,
        width: layout.width(),
        height: layout.height(),
        bytes,
        pages,
        align,
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

/// Frees those of `buffers`, from the first on, with which `next` does not fit yet.
fn in_vain(full: &Area, buffers: &[u64], pages: u64, next: Frame) -> InVain {
    let (wanted, align) = (next.bytes().div_ceil(PAGE_SIZE), dma_alignment(next.bytes()));
    let mut area = full.clone();
    let mut kept = Vec::new();
    for (index, pfn) in (0..).zip(buffers) {
        let mut freed = area.clone();
        freed.release(*pfn, pages);
        let hole = freed.largest_hole_at(align);
        if hole.end - hole.start < wanted {
            area = freed;
        } else {
            kept.push(index);
        }
    }
    let Frame(layout) = next;
    InVain {
        format: layout.format().name,
        width: layout.width(),
        height: layout.height(),
        pages: wanted,
        freed: (buffers.len() - kept.len()) as u64,
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
            ("1080p:NV21", "there is no format \"NV21\"; the formats are YUYV, UYVY, NV12,"),
            ("641x480:NV12", "a frame cannot be 641x480; it is even"),
            ("4294967296x2:NV12", "has an unknown size"),
        ] {
            let error = frame.parse::<Frame>().unwrap_err().to_string();
            assert!(error.contains(part), "{frame}: {error}");
        }
    }
}
