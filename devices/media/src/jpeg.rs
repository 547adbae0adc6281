//! The scan of a baseline JPEG file, as a hardware encoder makes it whose driver writes the file's header.
//!
//! Chroma has half the width and half the height of luma, and the Huffman tables are those of ITU-T T.81, Annex K.

use std::io::{self, Write};

use jpeg_encoder::{
    ChromaSubsamplingMethod, Encoder, EncodingError, ImageBuffer, JpegColorType, QuantizationTableType,
    SamplingFactor,
};

/// A picture that is encoded.
pub trait Picture {
    /// Width and height in pixels. Blocks of 16x16 at the right and at the bottom that are not whole repeat the last column and line.
    fn size(&self) -> [u16; 2];

    /// Appends line `y` to the planes of Y, Cb and Cr: a sample for each pixel. It is called several times for a line.
    fn line(&self, y: u16, planes: [&mut Vec<u8>; 3]);
}

/// Writes the scan of `picture` and the end of the file (EOI) to `out`. The `tables` are the divisors of luma and of chroma, line by line
/// of a block.
///
/// # Errors
/// The error of `out`, or an empty picture.
pub fn scan(picture: &dyn Picture, tables: &[[u8; 64]; 2], out: &mut dyn Write) -> io::Result<()> {
    let mut encoder = Encoder::new(AfterHeader::new(out), 100);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let [luma, chroma] = tables.map(|table| QuantizationTableType::Custom(Box::new(table.map(u16::from))));
    encoder.set_quantization_tables(luma, chroma);
    encoder.encode_image(Lines(picture)).map_err(|error| match error {
        EncodingError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

/// A picture as the encoder asks for it.
struct Lines<'a>(&'a dyn Picture);

impl ImageBuffer for Lines<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.0.size()[0]
    }

    fn height(&self) -> u16 {
        self.0.size()[1]
    }

    fn fill_buffers(&self, y: u16, [luma, cb, cr, _]: &mut [Vec<u8>; 4]) {
        self.0.line(y, [luma, cb, cr]);
    }
}

/// The marker of a scan's header (SOS).
const START_OF_SCAN: u8 = 0xda;

/// Passes on what follows the header of the scan.
struct AfterHeader<'a> {
    out: &'a mut dyn Write,
    /// Bytes of the current segment that are still to come.
    skip: usize,
    /// The marker and the length of the next segment, as far as they came.
    head: [u8; 4],
    have: usize,
    is_scan: bool,
}

impl<'a> AfterHeader<'a> {
    /// The file begins with a marker that has no length (SOI).
    fn new(out: &'a mut dyn Write) -> Self {
        Self { out, skip: 2, head: [0; 4], have: 0, is_scan: false }
    }
}

impl Write for AfterHeader<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.skip > 0 {
                self.skip -= 1;
            } else if self.is_scan {
                self.out.write_all(rest)?;
                break;
            } else {
                self.head[self.have] = byte;
                self.have = (self.have + 1) % self.head.len();
                if self.have == 0 {
                    let [_, marker, high, low] = self.head;
                    // The length counts itself.
                    self.skip = usize::from(u16::from_be_bytes([high, low])).saturating_sub(2);
                    self.is_scan = marker == START_OF_SCAN;
                }
            }
            rest = after;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flat([u16; 2], [u8; 3]);

    impl Picture for Flat {
        fn size(&self) -> [u16; 2] {
            self.0
        }

        fn line(&self, _y: u16, planes: [&mut Vec<u8>; 3]) {
            for (plane, value) in planes.into_iter().zip(self.1) {
                plane.resize(plane.len() + usize::from(self.0[0]), value);
            }
        }
    }

    #[test]
    fn a_flat_picture_has_the_codes_of_annex_k() {
        let mut scan_of = Vec::new();
        scan(&Flat([16, 16], [128 + 10, 128, 128 - 20]), &[[8; 64], [16; 64]], &mut scan_of).unwrap();
        // DC is eight times the mean: 80 / 8 = 10 for luma, 0 for Cb, -160 / 16 = -10 for Cr. Each block ends without AC.
        let bits = [
            // Luma: category 4 (101) with 10 (1010), end of block (1010); then three times category 0 (00).
            "101", "1010", "1010", "00", "1010", "00", "1010", "00", "1010",
            // Chroma: category 0 (00), end of block (00); category 4 (1110) with -10 (0101), end of block.
            "00", "00", "1110", "0101", "00",
        ]
        .concat();
        let padded = format!("{bits:1<width$}", width = bits.len().next_multiple_of(8));
        let bytes = |from: &str| u8::from_str_radix(from, 2).unwrap();
        let mut expected: Vec<u8> =
            (0..padded.len()).step_by(8).map(|at| bytes(&padded[at..at + 8])).collect();
        expected.extend([0xff, 0xd9]);
        assert_eq!(scan_of, expected);
    }

    #[test]
    fn an_error_of_the_file_ends_it() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = scan(&Flat([640, 480], [1, 2, 3]), &[[1; 64]; 2], &mut Full(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(scan(&Flat([0, 16], [0; 3]), &[[1; 64]; 2], &mut Vec::new()).is_err(), "an empty picture");
    }
}
