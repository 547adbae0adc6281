//! A frame that comes in, and the part of it that goes out.

use crate::{phase::Phase, rect::Rect};

/// The number of columns and of lines that a frame, and its part that is processed, have at least.
pub const SMALLEST: u32 = 16;

/// The number of columns and of lines that a frame has at most.
pub const LARGEST: u32 = 8192;

/// A frame that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Width and height.
    pub size: [u32; 2],
    /// The colours of the first pixels.
    pub phase: Phase,
    /// The part that goes out.
    pub window: Rect,
}

impl Frame {
    /// The frame with an even width, and the part of the window inside it that has an even first column and width. None if one
    /// of them is too small, or the frame is too large.
    pub fn fitted(&self) -> Option<Self> {
        let size = [self.size[0] & !1, self.size[1]];
        if size.into_iter().any(|length| !(SMALLEST..=LARGEST).contains(&length)) {
            return None;
        }
        let Rect { left, top, width, height } = self.window;
        let left = left & !1;
        let width = width.min(size[0].checked_sub(left)?) & !1;
        let height = height.min(size[1].checked_sub(top)?);
        let is_large = width >= SMALLEST && height >= SMALLEST;
        is_large.then_some(Self { size, window: Rect { left, top, width, height }, ..*self })
    }
}
