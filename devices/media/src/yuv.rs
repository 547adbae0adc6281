//! The coefficients that convert R'G'B' to Y'CbCr, for each encoding and range of a frame.

/// The weights of red and blue in Y' (`enum v4l2_ycbcr_encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum YcbcrEncoding {
    /// ITU-R BT.601 (`V4L2_YCBCR_ENC_601`), the default of `V4L2_COLORSPACE_SRGB`.
    #[default]
    Bt601,
    /// ITU-R BT.709 (`V4L2_YCBCR_ENC_709`).
    Bt709,
}

/// The range of codes (`enum v4l2_quantization`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quantization {
    /// Y' from 16 to 235, Cb and Cr from 16 to 240 (`V4L2_QUANTIZATION_LIM_RANGE`).
    #[default]
    Limited,
    /// All 256 codes (`V4L2_QUANTIZATION_FULL_RANGE`).
    Full,
}

/// The encoding of R'G'B' as Y'CbCr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encoding {
    /// The weights of red and blue.
    pub ycbcr: YcbcrEncoding,
    /// The range.
    pub quantization: Quantization,
}

impl Encoding {
    /// The code of Y' for black.
    pub const fn black(self) -> u8 {
        match self.quantization {
            Quantization::Limited => 16,
            Quantization::Full => 0,
        }
    }
}

/// The weights of R', G' and B' in Y', in Cb and in Cr, in units of 2^-16. [`Encoding::black`] is added to Y', and 128 to Cb and
/// Cr.
pub const fn coefficients(Encoding { ycbcr, quantization }: Encoding) -> [[i32; 3]; 3] {
    // In units of 1/10000: BT.601-7, section 2.5.1, and BT.709-6, section 3.2.
    let (red, blue) = match ycbcr {
        YcbcrEncoding::Bt601 => (2990, 1140),
        YcbcrEncoding::Bt709 => (2126, 722),
    };
    let (luma, chroma) = match quantization {
        Quantization::Limited => (219, 224),
        Quantization::Full => (255, 255),
    };
    let one = 10_000;
    // Cb is (B' - Y') / 2 (1 - blue), so that its largest value is a half. Cr is alike. The weight of green makes each sum 0, so
    // that greys have no colour.
    let half = part(chroma, 2 * 255);
    let (cb_red, cr_blue) =
        (part(-red * chroma, 2 * (one - blue) * 255), part(-blue * chroma, 2 * (one - red) * 255));
    [
        [
            part(red * luma, one * 255),
            part((one - red - blue) * luma, one * 255),
            part(blue * luma, one * 255),
        ],
        [cb_red, -half - cb_red, half],
        [half, -half - cr_blue, cr_blue],
    ]
}

/// A fraction in units of 2^-16, rounded.
const fn part(numerator: i64, denominator: i64) -> i32 {
    let twice = (numerator << 17) / denominator;
    #[expect(clippy::cast_possible_truncation, reason = "no coefficient exceeds 1")]
    let rounded = ((if twice < 0 { twice - 1 } else { twice + 1 }) / 2) as i32;
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BT.601-7, table 3, gives, for eight bits, 65.738, 129.057, 25.064, -37.945, -74.494, 112.439, -94.154 and -18.285 of 256;
    /// here they are for codes from 0 to 255.
    #[test]
    fn coefficients_are_the_standards() {
        let table = |ycbcr, quantization| coefficients(Encoding { ycbcr, quantization });
        assert_eq!(
            table(YcbcrEncoding::Bt601, Quantization::Limited),
            [[16_829, 33_039, 6_416], [-9_714, -19_070, 28_784], [28_784, -24_103, -4_681]]
        );
        for (ycbcr, [kr, kb]) in
            [(YcbcrEncoding::Bt601, [0.299, 0.114]), (YcbcrEncoding::Bt709, [0.2126, 0.0722])]
        {
            for (quantization, [y, c]) in
                [(Quantization::Limited, [219.0, 224.0]), (Quantization::Full, [255.0; 2])]
            {
                let kg = 1.0 - kr - kb;
                let (b, r) = (2.0 * (1.0 - kb), 2.0 * (1.0 - kr));
                let exact = [
                    [kr * y, kg * y, kb * y],
                    [-kr / b * c, -kg / b * c, 0.5 * c],
                    [0.5 * c, -kg / r * c, -kb / r * c],
                ];
                for (row, exact) in table(ycbcr, quantization).into_iter().zip(exact) {
                    for (&part, exact) in row.iter().zip(exact) {
                        let exact: f64 = exact / 255.0 * 65_536.0;
                        assert!((f64::from(part) - exact).abs() < 1.01, "{ycbcr:?} {part} {exact}");
                    }
                    assert!(exact[0] > 0.0 || row.iter().sum::<i32>() == 0);
                }
            }
        }
    }
}
