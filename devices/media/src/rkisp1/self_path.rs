//! The conversion of the self path's lines from YCbCr to RGB.

use crate::yuv::{Encoding, Quantization, ToRgb};

/// The conversion to RGB. It is BT.601's.
#[derive(Debug, Clone, Copy)]
pub struct SelfPath(ToRgb);

impl SelfPath {
    /// The conversion of YCbCr in this range (`MI_CTRL`, bits 8 and 9).
    pub fn new(quantization: Quantization) -> Self {
        Self(ToRgb::new(Encoding { quantization, ..Encoding::default() }))
    }

    /// Converts a line to 32 bits a pixel: blue, green, red, and 0. A sample of chroma is for as many pixels as there are more
    /// of luma: one in 4:4:4, two in 4:2:2.
    pub fn xrgb(&self, luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [[u8; 4]]) {
        self.line(luma, cb, cr, out, |[r, g, b]| [b, g, r, 0]);
    }

    /// Converts a line to 16 bits a pixel, the lower byte first: 5 bits of red at the top, 6 of green, and 5 of blue.
    pub fn rgb565(&self, luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [[u8; 2]]) {
        let word = |[r, g, b]: [u8; 3]| u16::from(r >> 3) << 11 | u16::from(g >> 2) << 5 | u16::from(b >> 3);
        self.line(luma, cb, cr, out, |rgb| word(rgb).to_le_bytes());
    }

    fn line<T>(&self, luma: &[u8], cb: &[u8], cr: &[u8], out: &mut [T], pack: impl Fn([u8; 3]) -> T) {
        let share = luma.len().checked_div(cb.len()).unwrap_or(1).max(1);
        let groups = luma.chunks(share).zip(out.chunks_mut(share));
        for ((luma, out), (&cb, &cr)) in groups.zip(cb.iter().zip(cr)) {
            for (&y, out) in luma.iter().zip(out) {
                *out = pack(self.0.pixel(y, cb, cr));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_come_out() {
        // BT.601: white, black and red in limited range, and red in full range.
        let limited = SelfPath::new(Quantization::Limited);
        let mut out = [[9; 4]; 5];
        limited.xrgb(&[235, 16, 81, 82], &[128, 90], &[128, 240], &mut out);
        assert_eq!(out[..2], [[255, 255, 255, 0], [0, 0, 0, 0]]);
        let [b, g, r, _] = out[2];
        assert!(b <= 1 && g <= 1 && r >= 254, "{out:?}");
        assert_eq!(out[4], [9; 4], "no luma");
        let full = SelfPath::new(Quantization::Full);
        let mut out = [[0; 2]; 2];
        full.rgb565(&[76, 255], &[85, 128], &[255, 128], &mut out);
        assert_eq!(out.map(u16::from_le_bytes), [0xf800, 0xffff]);
        // Lines that do not fit each other.
        full.rgb565(&[1, 2, 3], &[], &[5], &mut out);
        full.rgb565(&[], &[1, 2], &[5], &mut out);
        assert_eq!(out.map(u16::from_le_bytes), [0xf800, 0xffff]);
    }
}
