//! `minivmm ctl SOCKET snapshot`: a camera's frame as an answer, and what is made of that, a file or a picture of coloured
//! blocks in the terminal.

use std::{fmt::Write as _, io::Cursor};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use devices::media::Captured;

use crate::api::{Answer, Snapshot};

/// The answer that shows a frame of the camera with this number.
pub fn answer(camera: u32, captured: &Captured) -> Answer {
    let mut png = Vec::new();
    match captured.write_png(&mut png) {
        Ok(()) => Answer::Snapshot(Snapshot {
            camera,
            sequence: captured.sequence(),
            format: captured.layout().format().name.to_owned(),
            png: BASE64_STANDARD.encode(png),
        }),
        Err(error) => Answer::Error(format!("the frame cannot be made a picture: {error}")),
    }
}

/// What is wrong with a picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It is not base64.
    #[error("the machine's picture is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// It is no PNG.
    #[error("the machine's picture is no PNG: {0}")]
    Png(#[from] png::DecodingError),
    /// It is a PNG of another kind.
    #[error("the machine's picture is no PNG with eight bits of red, green and blue")]
    Kind,
}

impl Snapshot {
    /// The PNG.
    ///
    /// # Errors
    /// If it is not base64.
    pub fn file(&self) -> Result<Vec<u8>, PictureError> {
        Ok(BASE64_STANDARD.decode(&self.png)?)
    }

    /// Coloured blocks, of at most so many columns and rows of a terminal: in each two pixels, one above the other.
    ///
    /// # Errors
    /// If it is no such picture.
    pub fn blocks(&self, columns: u32, rows: u32) -> Result<String, PictureError> {
        let mut reader = png::Decoder::new(Cursor::new(self.file()?)).read_info()?;
        let mut rgb = vec![0; reader.output_buffer_size().ok_or(PictureError::Kind)?];
        let info = reader.next_frame(&mut rgb)?;
        if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
            return Err(PictureError::Kind);
        }
        // A block is as wide as it is high.
        let (width, height) = (info.width, info.height);
        let shrunk = (width.div_ceil(columns.max(1))).max(height.div_ceil(2 * rows.max(1))).max(1);
        let (across, down) = (width / shrunk, height / shrunk);
        let mut text = String::new();
        for y in (0..down.max(1)).step_by(2) {
            for x in 0..across.max(1) {
                let [above, below] =
                    [y, y + 1].map(|y| mean(&rgb, width, height, x * shrunk, y * shrunk, shrunk));
                let [[r, g, b], [red, green, blue]] = [above, below];
                // ISO 8613-6's direct colours, and U+2580, the upper half of a block. Writing to a String cannot fail.
                let _ = write!(text, "\x1b[38;2;{r};{g};{b};48;2;{red};{green};{blue}m\u{2580}");
            }
            text += "\x1b[0m\n";
        }
        Ok(text)
    }
}

/// The mean of a square of pixels, as far as there are any; black beyond.
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
    fn snapshot() -> Snapshot {
        let layout = Layout::new(u32::from_le_bytes(*b"GREY"), 160, 120).unwrap();
        let line = [[16; 80], [235; 80]].concat();
        let captured = Captured::new(&layout, line.repeat(120)).unwrap();
        let Answer::Snapshot(snapshot) = answer(2, &captured) else { panic!("there is a picture") };
        snapshot
    }

    #[test]
    fn a_frame_becomes_a_png_and_blocks() {
        let snapshot = snapshot();
        assert_eq!((snapshot.camera, snapshot.format.as_str()), (2, "GREY"));
        assert!(snapshot.file().unwrap().starts_with(b"\x89PNG"));
        let blocks = snapshot.blocks(8, 100).unwrap();
        assert_eq!((blocks.lines().count(), blocks.matches('\u{2580}').count()), (3, 24));
        let line = blocks.lines().next().unwrap();
        let (black, white) = ("38;2;0;0;0;48;2;0;0;0m", "38;2;255;255;255;48;2;255;255;255m");
        assert_eq!((line.matches(black).count(), line.matches(white).count()), (4, 4), "{line}");
        // Few rows make it narrow as well.
        assert_eq!(snapshot.blocks(1000, 3).unwrap().matches('\u{2580}').count(), 8 * 3);
        assert_eq!(snapshot.blocks(0, 0).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for (png, says) in [("?", "no base64"), ("AAAA", "no PNG")] {
            let error = Snapshot { png: png.into(), ..snapshot() }.blocks(80, 24).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
