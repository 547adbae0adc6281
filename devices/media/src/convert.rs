//! The conversion of a test pattern's RGB lines to a pixel format.

use super::{
    format::{Bayer, Component, Format, Pixels},
    yuv::{Encoding, Quantization, YcbcrEncoding, coefficients},
};

type Rgb = [u8; 3];

/// V4L2's defaults for `V4L2_COLORSPACE_SRGB`.
pub(super) const ENCODING: Encoding =
    Encoding { ycbcr: YcbcrEncoding::Bt601, quantization: Quantization::Limited };

const YUV: [[i32; 3]; 3] = coefficients(ENCODING);

/// Converts `rgb` to `format`. `rgb` is an even number of lines of `width` pixels, and its first line is an even line of the
/// frame. `planes` have room for exactly these lines, without padding.
pub(super) fn convert(format: &Format, width: u32, rgb: &[u8], planes: &mut [&mut [u8]]) {
    let width = width as usize;
    let (rgb, _) = rgb.as_chunks::<3>();
    match (&format.pixels, planes) {
        (Pixels::Yuyv, [plane]) => pairs(plane, rgb, |[y0, y1], [u, v]| [y0, u, y1, v]),
        (Pixels::Uyvy, [plane]) => pairs(plane, rgb, |[y0, y1], [u, v]| [u, y0, v, y1]),
        (Pixels::Nv12, [y, uv]) => {
            grey(y, rgb);
            quads(rgb, width).zip(uv.as_chunks_mut().0).for_each(|(chroma, uv)| *uv = chroma);
        }
        (Pixels::Nv16, [y, uv]) => {
            grey(y, rgb);
            rgb.as_chunks()
                .0
                .iter()
                .zip(uv.as_chunks_mut().0)
                .for_each(|(&pair, uv)| *uv = chroma::<2>(pair));
        }
        (Pixels::Yuv420, [y, u, v]) => {
            grey(y, rgb);
            let planes = u.iter_mut().zip(v.iter_mut());
            quads(rgb, width).zip(planes).for_each(|(chroma, (u, v))| [*u, *v] = chroma);
        }
        (Pixels::Grey, [plane]) => grey(plane, rgb),
        (Pixels::Packed(order), [plane]) => {
            for (pixel, &[r, g, b]) in plane.chunks_exact_mut(order.len()).zip(rgb) {
                let components = [r, g, b, 0xff];
                for (byte, &component) in pixel.iter_mut().zip(*order) {
                    *byte = components[component as usize];
                }
            }
        }
        (Pixels::Bayer(Bayer { filters, bits, packing }), [plane]) => {
            let mut samples = vec![0; width];
            let line_bytes = plane.len() / (rgb.len() / width);
            let lines = plane.chunks_exact_mut(line_bytes).zip(rgb.chunks_exact(width));
            for ((line, rgb), filter) in lines.zip(filters.iter().cycle()) {
                filter_line(&mut samples, *bits, rgb, *filter);
                packing.pack(&samples, *bits, line);
            }
        }
        (pixels, planes) => unreachable!("{} planes for {pixels:?}", planes.len()),
    }
}

/// The Y of a pixel.
pub(super) fn luma([r, g, b]: Rgb) -> u8 {
    let [red, green, blue] = YUV[0];
    let sum = red * i32::from(r) + green * i32::from(g) + blue * i32::from(b);
    ((sum + (16 << 16) + (1 << 15)) >> 16).to_le_bytes()[0]
}

/// The U and V of the mean of `pixels`.
pub(super) fn chroma<const N: usize>(pixels: [Rgb; N]) -> [u8; 2] {
    let [r, g, b] =
        [0, 1, 2].map(|component| pixels.iter().map(|rgb| i32::from(rgb[component])).sum::<i32>());
    let shift = 16 + N.ilog2();
    [YUV[1], YUV[2]].map(|[red, green, blue]| {
        let sum = red * r + green * g + blue * b;
        ((sum + (128 << shift) + (1 << (shift - 1))) >> shift).to_le_bytes()[0]
    })
}

/// The U and V of each square of 2x2 pixels, line by line.
fn quads(rgb: &[Rgb], width: usize) -> impl Iterator<Item = [u8; 2]> {
    rgb.chunks_exact(2 * width).map(move |lines| lines.split_at(width)).flat_map(|(upper, lower)| {
        let quads = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
        quads.map(|(&[a, b], &[c, d])| chroma([a, b, c, d]))
    })
}

fn grey(plane: &mut [u8], rgb: &[Rgb]) {
    for (y, &rgb) in plane.iter_mut().zip(rgb) {
        *y = luma(rgb);
    }
}

/// Converts pairs of pixels that share their chroma. `pack` puts the components in order.
fn pairs(plane: &mut [u8], rgb: &[Rgb], pack: impl Fn([u8; 2], [u8; 2]) -> [u8; 4]) {
    for (packed, &pair) in plane.as_chunks_mut().0.iter_mut().zip(rgb.as_chunks().0) {
        *packed = pack(pair.map(luma), chroma(pair));
    }
}

/// The samples of a line behind the colour filters of the `even` and the `odd` columns. 255 becomes the largest value of `bits`
/// bits.
fn filter_line(samples: &mut [u16], bits: u32, rgb: &[Rgb], [even, odd]: [Component; 2]) {
    let sample = |value: u8| (u16::from(value) * 0x101) >> (16 - bits);
    for (pair, [left, right]) in samples.as_chunks_mut().0.iter_mut().zip(rgb.as_chunks().0) {
        *pair = [sample(left[even as usize]), sample(right[odd as usize])];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FORMATS;

    const WIDTH: u32 = 160;

    /// Two lines: the left half is red and the right half (10, 20, 30), the same in every format.
    fn converted(name: &str) -> Vec<Vec<u8>> {
        let line: Vec<u8> =
            (0..WIDTH).flat_map(|x| if x < WIDTH / 2 { [255, 0, 0] } else { [10, 20, 30] }).collect();
        let format = FORMATS.iter().find(|format| format.name == name).unwrap();
        let mut planes: Vec<Vec<u8>> = format
            .planes
            .iter()
            .map(|shape| vec![0; (shape.line_bytes(WIDTH) * 2 / shape.subsampling) as usize])
            .collect();
        let mut slices: Vec<&mut [u8]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        convert(format, WIDTH, &line.repeat(2), &mut slices);
        planes
    }

    /// Pixels near the left and the right end of line 1 of the first plane.
    fn ends<const N: usize>(name: &str) -> ([u8; N], [u8; N]) {
        let plane = converted(name).remove(0);
        let line = &plane[plane.len() / 2..];
        (line[..N].try_into().unwrap(), line[line.len() - N..].try_into().unwrap())
    }

    /// By BT.601's definition, limited range: red is Y 81, U 90, V 240; (10, 20, 30) is Y 32, U 134, V 123.
    #[test]
    fn yuv() {
        assert_eq!(ends("YUYV"), ([81, 90, 81, 240], [32, 134, 32, 123]));
        assert_eq!(ends("UYVY"), ([90, 81, 240, 81], [134, 32, 123, 32]));
        assert_eq!(ends("GREY"), ([81, 81], [32, 32]));
        let planes = converted("NV12");
        assert_eq!((&planes[0][..2], &planes[0][318..]), (&[81, 81][..], &[32, 32][..]));
        assert_eq!((&planes[1][..2], &planes[1][158..]), (&[90, 240][..], &[134, 123][..]));
        assert_eq!(converted("NV16"), [planes[0].clone(), planes[1].repeat(2)]);
        let planar = converted("YUV420");
        let both: Vec<u8> = planar[1].iter().zip(&planar[2]).flat_map(|(&u, &v)| [u, v]).collect();
        assert_eq!((&planar[0], &both), (&planes[0], &planes[1]));
    }

    #[test]
    fn the_range_is_limited_and_chroma_is_a_mean() {
        assert_eq!((luma([0; 3]), luma([255; 3])), (16, 235));
        for grey in 0..=255 {
            assert_eq!(chroma([[grey; 3]]), [128, 128]);
        }
        assert_eq!(chroma([[0, 0, 255]])[0], 240);
        assert_eq!(chroma([[255, 255, 0]])[0], 16);
        assert_eq!(chroma([[255, 0, 0], [0, 255, 255]]), [128, 128]);
    }

    #[test]
    fn rgb() {
        assert_eq!(ends("RGB24"), ([255, 0, 0], [10, 20, 30]));
        assert_eq!(ends("BGR24"), ([0, 0, 255], [30, 20, 10]));
        assert_eq!(ends("XRGB32"), ([255, 255, 0, 0], [255, 10, 20, 30]));
        assert_eq!(ends("XBGR32"), ([0, 0, 255, 255], [30, 20, 10, 255]));
    }

    #[test]
    fn bayer() {
        for (name, [[a, b], [c, d]]) in [
            ("SRGGB8", [[10, 20], [20, 30]]),
            ("SGRBG8", [[20, 10], [30, 20]]),
            ("SGBRG8", [[20, 30], [10, 20]]),
            ("SBGGR8", [[30, 20], [20, 10]]),
        ] {
            let plane = converted(name).remove(0);
            assert_eq!((&plane[158..160], &plane[318..320]), (&[a, b][..], &[c, d][..]), "{name}");
        }
    }

    /// The last samples of a line, of red and green, and what 8 bits become where there are more.
    #[test]
    fn bayer_of_more_bits() {
        let end = |name| ends::<4>(name).1;
        // 20 and 30 of 255 are 80 and 120 of 1023, and 321 and 481 of 4095.
        assert_eq!(end("SRGGB10"), [80, 0, 120, 0]);
        assert_eq!(end("SRGGB12"), [0x41, 1, 0xe1, 1]);
        assert_eq!(ends::<5>("SRGGB10P").1, [20, 30, 20, 30, 0]);
        assert_eq!(ends::<3>("SRGGB12P").1, [20, 30, 0x11]);
        assert_eq!(ends::<2>("SBGGR10").0, [0, 0], "red has no green");
        assert_eq!(ends::<4>("SBGGR10").0, [0, 0, 0xff, 3]);
    }
}
