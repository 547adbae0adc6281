//! The conversions between R'G'B' and Y'CbCr, for each encoding and range of a frame.

/// The weights of red and blue in Y' (`enum v4l2_ycbcr_encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum YcbcrEncoding {
    /// ITU-R BT.601 (`V4L2_YCBCR_ENC_601`), the default of `V4L2_COLORSPACE_SRGB`.
    #[default]
    Bt601,
    /// ITU-R BT.709 (`V4L2_YCBCR_ENC_709`).
    Bt709,
}

impl YcbcrEncoding {
    /// The weights of red and blue in units of 1/10000: BT.601-7, section 2.5.1, and BT.709-6, section 3.2.
    const fn weights(self) -> (i64, i64) {
        match self {
            Self::Bt601 => (2990, 1140),
            Self::Bt709 => (2126, 722),
        }
    }
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

impl Quantization {
    /// The differences between the largest and the smallest code, of Y' and of Cb and Cr.
    const fn spans(self) -> (i64, i64) {
        match self {
            Self::Limited => (219, 224),
            Self::Full => (255, 255),
        }
    }
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
    let (red, blue) = ycbcr.weights();
    let (luma, chroma) = quantization.spans();
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

/// The conversion of Y'CbCr to R'G'B': the inverse of [`coefficients`], in units of 2^-16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToRgb {
    /// The code of Y' for black.
    black: i32,
    /// The weight of Y' in each component.
    luma: i32,
    /// The weight of Cr in red, of Cb and Cr in green, and of Cb in blue.
    red_cr: i32,
    green_cb: i32,
    green_cr: i32,
    blue_cb: i32,
}

impl ToRgb {
    /// The weights are those of BT.601-7 and BT.709-6, solved for R', G' and B'.
    pub(crate) const fn new(encoding: Encoding) -> Self {
        let (red, blue) = encoding.ycbcr.weights();
        let (luma, chroma) = encoding.quantization.spans();
        let one = 10_000;
        let green = one - red - blue;
        Self {
            black: encoding.black() as i32,
            luma: part(255, luma),
            red_cr: part(2 * (one - red) * 255, one * chroma),
            green_cb: part(-2 * blue * (one - blue) * 255, green * chroma * one),
            green_cr: part(-2 * red * (one - red) * 255, green * chroma * one),
            blue_cb: part(2 * (one - blue) * 255, one * chroma),
        }
    }

    /// R'G'B' of a pixel.
    pub(crate) fn pixel(self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let luma = (i32::from(y) - self.black) * self.luma + (1 << 15);
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        let sums = [
            luma + self.red_cr * cr,
            luma + self.green_cb * cb + self.green_cr * cr,
            luma + self.blue_cb * cb,
        ];
        sums.map(|sum| (sum >> 16).clamp(0, 255).to_le_bytes()[0])
    }
}

/// Converts planes of Y', Cb and Cr to R'G'B', three bytes a pixel. A line of Y' has `width` bytes. A sample of chroma is for
/// `across` pixels of `down` lines; it is not interpolated. None if the planes of chroma are too short.
pub(crate) fn rgb_of_planes(
    encoding: Encoding,
    width: usize,
    [y, cb, cr]: [&[u8]; 3],
    [across, down]: [usize; 2],
) -> Option<Vec<u8>> {
    let to_rgb = ToRgb::new(encoding);
    let chroma_width = width.div_ceil(across);
    let mut rgb = vec![0; y.len() * 3];
    let lines = y.chunks(width).zip(rgb.chunks_mut(width * 3));
    for (number, (luma, rgb)) in lines.enumerate() {
        let start = number / down * chroma_width;
        let [cb, cr] = [cb.get(start..start + chroma_width)?, cr.get(start..start + chroma_width)?];
        let groups = luma.chunks(across).zip(rgb.chunks_mut(3 * across));
        for ((luma, rgb), (&cb, &cr)) in groups.zip(cb.iter().zip(cr)) {
            for (&y, pixel) in luma.iter().zip(rgb.as_chunks_mut().0) {
                *pixel = to_rgb.pixel(y, cb, cr);
            }
        }
    }
    Some(rgb)
}

/// A fraction in units of 2^-16, rounded.
const fn part(numerator: i64, denominator: i64) -> i32 {
    let twice = (numerator << 17) / denominator;
    #[expect(clippy::cast_possible_truncation, reason = "no coefficient exceeds 3")]
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

    /// Every colour comes back through the definition in floating point within one code for each rounding of a component.
    #[test]
    fn rgb_comes_back() {
        for ycbcr in [YcbcrEncoding::Bt601, YcbcrEncoding::Bt709] {
            for quantization in [Quantization::Limited, Quantization::Full] {
                let encoding = Encoding { ycbcr, quantization };
                let weights = coefficients(encoding).map(|row| row.map(|part| f64::from(part) / 65_536.0));
                for rgb in
                    (0..512_u16).map(|n| [n % 8, n / 8 % 8, n / 64].map(|step| step.to_le_bytes()[0] * 36))
                {
                    let code = |row: [f64; 3], zero: u8| {
                        let sum: f64 =
                            row.iter().zip(rgb).map(|(weight, value)| weight * f64::from(value)).sum();
                        #[expect(clippy::cast_possible_truncation, reason = "codes have 8 bits")]
                        let code = (sum + f64::from(zero)).round() as u8;
                        code
                    };
                    let [y, cb, cr] = [(0, encoding.black()), (1, 128), (2, 128)]
                        .map(|(row, zero)| code(weights[row], zero));
                    let back = rgb_of_planes(encoding, 1, [&[y], &[cb], &[cr]], [1, 1]).unwrap();
                    let is_near = rgb.iter().zip(&back).all(|(a, b)| a.abs_diff(*b) <= 2);
                    assert!(is_near, "{encoding:?} {rgb:?} {back:?}");
                }
            }
        }
    }

    #[test]
    fn pixels_share_their_chroma() {
        let encoding = Encoding { quantization: Quantization::Full, ..Encoding::default() };
        // Three pixels and three lines: the last ones have samples of chroma for themselves.
        let (luma, grey, red) = ([100; 9], [128; 4], [128, 228, 128, 228]);
        let rgb = rgb_of_planes(encoding, 3, [&luma, &grey, &red], [2, 2]).unwrap();
        let reds: Vec<u8> = rgb.iter().copied().step_by(3).collect();
        assert_eq!(reds, [100, 100, 240].repeat(3));
        assert_eq!(rgb_of_planes(encoding, 3, [&luma, &grey, &red[..3]], [2, 2]), None);
    }
}
