//! A rectangle of pixels.

/// A part of a frame, like `struct v4l2_rect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// The number of columns to its left, which is even.
    pub left: u32,
    /// The number of lines above it, which is even.
    pub top: u32,
    /// The number of its columns, which is even.
    pub width: u32,
    /// The number of its lines, which is even.
    pub height: u32,
}
