//! A captured frame: what a device wrote last, as a PNG that travels in JSON and is drawn in a terminal.

use std::{fmt::Write as _, io::Cursor};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use devices::media::Captured;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A frame of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capture {
    /// The device's id.
    pub device: String,
    /// The number that the device gave the frame.
    pub sequence: u32,
    /// The frame's format in the guest: V4L2's name for it without `V4L2_PIX_FMT_`.
    pub format: String,
    /// The frame as RGB: a PNG, in base64 (RFC 4648, section 4).
    pub png: String,
}

/// Why a capture cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The text is not base64.
    #[error("the machine's capture is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The bytes are not a PNG.
    #[error("the machine's capture is no PNG: {0}")]
    Png(#[from] png::DecodingError),
    /// The PNG has other pixels.
    #[error("the machine's capture is no PNG with eight bits of red, green and blue")]
    Kind,
}

impl Capture {
    /// A capture of the frame that the device with this id wrote.
    ///
    /// # Errors
    /// If the frame cannot be written as a PNG.
    pub fn new(device: &str, captured: &Captured) -> Result<Self, png::EncodingError> {
        let mut png = Vec::new();
        captured.write_png(&mut png)?;
        Ok(Self {
            device: device.to_owned(),
            sequence: captured.sequence(),
            format: captured.layout().format().name.to_owned(),
            png: BASE64_STANDARD.encode(png),
        })
    }

    /// The PNG's bytes.
    ///
    /// # Errors
    /// If the text is not base64.
    pub fn file(&self) -> Result<Vec<u8>, CaptureError> {
        Ok(BASE64_STANDARD.decode(&self.png)?)
    }

    /// The frame as coloured blocks, in at most `columns` and `rows` of a terminal. Each block shows two pixels, one above the
    /// other.
    ///
    /// # Errors
    /// If the capture is no RGB PNG.
    pub fn blocks(&self, columns: u32, rows: u32) -> Result<String, CaptureError> {
        let mut reader = png::Decoder::new(Cursor::new(self.file()?)).read_info()?;
        let mut rgb = vec![0; reader.output_buffer_size().ok_or(CaptureError::Kind)?];
        let info = reader.next_frame(&mut rgb)?;
        if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
            return Err(CaptureError::Kind);
        }
        // A block's two pixels make it twice as high as wide, as a character is.
        let (width, height) = (info.width, info.height);
        let side = (width.div_ceil(columns.max(1))).max(height.div_ceil(2 * rows.max(1))).max(1);
        let (across, down) = (width / side, height / side);
        let mut text = String::new();
        for y in (0..down.max(1)).step_by(2) {
            for x in 0..across.max(1) {
                let [above, below] = [y, y + 1].map(|y| mean(&rgb, width, height, x * side, y * side, side));
                let [[r, g, b], [red, green, blue]] = [above, below];
                // ISO 8613-6's direct colours, and U+2580, the upper half of a block. Writing to a String cannot fail.
                let _ = write!(text, "\x1b[38;2;{r};{g};{b};48;2;{red};{green};{blue}m\u{2580}");
            }
            text += "\x1b[0m\n";
        }
        Ok(text)
    }
}

/// The mean colour of a square of pixels. The part of the square outside the frame does not count; a square without pixels is
/// black.
fn mean(rgb: &[u8], width: u32, height: u32, left: u32, top: u32, side: u32) -> [u8; 3] {
    let (right, bottom) = ((left + side).min(width), (top + side).min(height));
    let (mut sums, mut count) = ([0_u64; 3], 0);
    for y in top..bottom {
        let line = (y * width + left) as usize * 3..(y * width + right.max(left)) as usize * 3;
        for pixel in rgb[line].chunks_exact(3) {
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
            count += 1;
        }
    }
    sums.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use devices::media::Layout;

    use super::*;

    /// A grey frame of 160x120, which is black on the left and white on the right.
    fn capture() -> Capture {
        let layout = Layout::new(u32::from_le_bytes(*b"GREY"), 160, 120).unwrap();
        let line = [[16; 80], [235; 80]].concat();
        let captured = Captured::new(&layout, line.repeat(120)).unwrap();
        Capture::new("grabber2", &captured).unwrap()
    }

    #[test]
    fn a_frame_becomes_a_png_and_blocks() {
        let capture = capture();
        assert_eq!((capture.device.as_str(), capture.format.as_str()), ("grabber2", "GREY"));
        assert!(capture.file().unwrap().starts_with(b"\x89PNG"));
        let blocks = capture.blocks(8, 100).unwrap();
        assert_eq!((blocks.lines().count(), blocks.matches('\u{2580}').count()), (3, 24));
        let line = blocks.lines().next().unwrap();
        let (black, white) = ("38;2;0;0;0;48;2;0;0;0m", "38;2;255;255;255;48;2;255;255;255m");
        assert_eq!((line.matches(black).count(), line.matches(white).count()), (4, 4), "{line}");
        // Few rows make it narrow as well.
        assert_eq!(capture.blocks(1000, 3).unwrap().matches('\u{2580}').count(), 8 * 3);
        assert_eq!(capture.blocks(0, 0).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_capture_without_a_png_is_refused() {
        for (png, says) in [("?", "no base64"), ("AAAA", "no PNG")] {
            let error = Capture { png: png.into(), ..capture() }.blocks(80, 24).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
