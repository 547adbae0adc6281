//! How many frames of a camera a CMA window holds, and what the kernel says to the next one.

use std::{fmt, str::FromStr};

use cma::{
    PAGE_SIZE, Window,
    area::{Area, AreaError, Reason, dma_alignment},
    script::DEFAULT_BASE,
    spec::WindowSpec,
};
use devices::camera::{FORMATS, Format, Layout, LayoutError};
use serde::Serialize;

/// Buffers of a queue, at most (include/media/videobuf2-core.h, VB2_MAX_FRAME).
const MAX_BUFFERS: u64 = 32;

/// Sizes with a name: width and height in pixels.
const SIZES: [(&str, u32, u32); 4] =
    [("480p", 640, 480), ("720p", 1280, 720), ("1080p", 1920, 1080), ("2160p", 3840, 2160)];

/// A frame, as `1080p:NV12` or `640x480:YUYV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame(Layout);

/// Why a text is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No size, or none that can be read.
    #[error(
        "the frame \"{0}\" has no size that is known; write 480p, 720p, 1080p, 2160p or WIDTHxHEIGHT, a colon and a \
         format, as in 1080p:NV12"
    )]
    Size(String),
    /// No format that the camera has.
    #[error("the camera has no format \"{name}\"; it has {}", names(), name = .0)]
    Format(String),
    /// A size that the camera cannot do.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Names of the camera's formats.
fn names() -> String {
    FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
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

/// How often a frame fits in an empty window. Sizes are in bytes, a page is 4096 of them.
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
    /// What the next one is answered: -12 (-ENOMEM).
    pub errno: i32,
    /// What keeps the kernel from finding pages for it.
    pub reason: Reason,
    /// What the kernel prints about it, without time stamps.
    pub dmesg: Vec<String>,
}

/// Allocates buffers for `frame` in the empty window until one is refused.
///
/// # Errors
/// If there can be no such window.
pub fn fit(frame: Frame, window: &WindowSpec) -> Result<Fit, AreaError> {
    let Frame(layout) = frame;
    let window = Window {
        name: window.name.clone().unwrap_or_else(|| "cma0".to_owned()),
        base: window.base.unwrap_or(DEFAULT_BASE),
        size: window.size,
        ..Default::default()
    };
    let mut area = Area::of_window(&window, 0)?;
    let bytes: u64 = layout.planes().map(|plane| plane.span()).sum();
    let (pages, align) = (bytes.div_ceil(PAGE_SIZE), dma_alignment(bytes));
    let fits = area.fill(pages, align);
    let (reason, dmesg) = match area.alloc(pages, align) {
        Err(error) => (error.reason, error.dmesg),
        // There is no room left.
        Ok(_) => (Reason::NoRun, Vec::new()),
    };
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
        errno: reason.errno(),
        reason,
        dmesg,
    })
}

/// For people: a line, and indented ones for what belongs to it.
impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, width, height, bytes, pages, align, window, fits, errno, .. } = self;
        let size = cma::size::format(self.window_size);
        write!(f, "{width}x{height} {format}: {fits} buffers fit in {window} of {size}, ")?;
        write!(f, "each of {bytes} bytes, {pages} pages at alignment {align}")?;
        write!(f, "\n  request {}: {errno}, {}", fits + 1, self.reason.sentence())?;
        for line in &self.dmesg {
            write!(f, "\n  {line}")?;
        }
        if *fits > MAX_BUFFERS {
            write!(f, "\n  a V4L2 queue has {MAX_BUFFERS} buffers at most")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(frame: &str, window: &str) -> Fit {
        fit(frame.parse().unwrap(), &window.parse().unwrap()).unwrap()
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
             cma: number of available pages: 34@3038+34@6110=> 68 free of 6144 total pages"
        );
        assert!(fitted("480p:GREY", "64M").to_string().ends_with("a V4L2 queue has 32 buffers at most"));
    }

    #[test]
    fn a_frame_that_is_larger_than_the_window() {
        let fit = fitted("2160p:XRGB32", "4M");
        assert_eq!((fit.fits, fit.errno, fit.reason), (0, -12, Reason::LargerThanArea));
        assert!(fit.dmesg.is_empty());
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        for (frame, part) in [
            ("", "the frame \"\" has no size that is known; write 480p"),
            ("1080p", "as in 1080p:NV12"),
            ("1080i:NV12", "has no size that is known"),
            ("x:NV12", "has no size that is known"),
            ("640x-480:NV12", "has no size that is known"),
            ("1080p:NV21", "the camera has no format \"NV21\"; it has YUYV, UYVY, NV12,"),
            ("641x480:NV12", "a frame cannot be 641x480; it is even"),
            ("4294967296x2:NV12", "has no size that is known"),
        ] {
            let error = frame.parse::<Frame>().unwrap_err().to_string();
            assert!(error.contains(part), "{frame}: {error}");
        }
    }
}
