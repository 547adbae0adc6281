//! Pixels as a display controller reads them from memory, and as they go to its panel.

/// A pixel in memory, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixel {
    /// 16 bits: red in 15:11, green in 10:5, blue in 4:0 (`DRM_FORMAT_RGB565`).
    Rgb565,
    /// 32 bits: red in 23:16, green in 15:8, blue in 7:0 (`DRM_FORMAT_XRGB8888`).
    Xrgb8888,
}

/// Bytes of a pixel on its way to the panel: red, green, blue.
pub const RGB: usize = 3;

impl Pixel {
    /// Bytes of a pixel in memory.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Rgb565 => 2,
            Self::Xrgb8888 => 4,
        }
    }

    /// Converts the whole pixels of `memory` to [`RGB`], as many as `rgb` has room for. Returns the number of bytes that it wrote there. The
    /// lower bits of a component with less than eight bits are its upper ones.
    pub fn to_rgb(self, memory: &[u8], rgb: &mut [u8]) -> usize {
        let pixels = rgb.as_chunks_mut::<RGB>().0;
        let count = pixels.len().min(memory.len() / self.bytes());
        match self {
            Self::Rgb565 => {
                for (pixel, bytes) in pixels.iter_mut().zip(memory.as_chunks().0) {
                    *pixel = rgb565(u16::from_le_bytes(*bytes));
                }
            }
            Self::Xrgb8888 => {
                for (pixel, &[blue, green, red, _]) in pixels.iter_mut().zip(memory.as_chunks().0) {
                    *pixel = [red, green, blue];
                }
            }
        }
        count * RGB
    }
}

fn rgb565(pixel: u16) -> [u8; RGB] {
    let component = |shift: u16, bits: u16| {
        let value = pixel >> shift & ((1 << bits) - 1);
        (value << (8 - bits) | value >> (2 * bits - 8)).to_le_bytes()[0]
    };
    [component(11, 5), component(5, 6), component(0, 5)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_16_bits_is_the_nearest_of_24_bits() {
        for pixel in 0..=u16::MAX {
            let mut rgb = [0; RGB];
            assert_eq!(Pixel::Rgb565.to_rgb(&pixel.to_le_bytes(), &mut rgb), RGB);
            let expected = [(pixel >> 11, 31.0), (pixel >> 5 & 63, 63.0), (pixel & 31, 31.0)]
                .map(|(value, most)| f64::from(value) * 255.0 / most);
            for (found, expected) in rgb.into_iter().zip(expected) {
                assert!((f64::from(found) - expected).abs() < 1.0, "{pixel:#06x}: {rgb:?}");
            }
        }
    }

    #[test]
    fn padding_is_left_out_and_a_part_of_a_pixel_stays() {
        let mut rgb = [9; 7];
        let length = Pixel::Xrgb8888.to_rgb(&[3, 2, 1, 0xff, 6, 5, 4, 0, 7, 7, 7], &mut rgb);
        assert_eq!((length, rgb), (6, [1, 2, 3, 4, 5, 6, 9]));
        assert_eq!(Pixel::Rgb565.to_rgb(&[0xff, 0xff, 0xff], &mut rgb), 3);
        assert_eq!(rgb, [255, 255, 255, 4, 5, 6, 9]);
        assert_eq!(Pixel::Rgb565.to_rgb(&[0; 16], &mut []), 0);
    }
}
