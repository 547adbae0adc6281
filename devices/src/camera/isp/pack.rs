//! Kernels that put finished lines into a pixel format, and what a format needs of them.

use super::{
    arith::{code, mean},
    colour::Yuv,
    level::{Level, kernel},
    lines::at,
};
use crate::camera::format::{Component, Format, Pixels};

/// The even and the odd columns of red, green and blue, `count` of each, from `offset` beside their first.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) halves: [&'a [i16]; 6],
    pub(super) offset: isize,
    pub(super) count: usize,
}

/// Puts lines into a format, and out.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// A line of a plane as it goes out.
    bytes: Vec<u8>,
    /// A line of each colour, for formats that take three bytes together.
    colours: [Vec<u8>; 3],
    /// Cb and Cr of this line and of the one before.
    chroma: [[Vec<i16>; 2]; 2],
}

impl Packer {
    /// For lines of `width` pixels.
    pub(super) fn new(width: u32) -> Self {
        let width = width as usize;
        Self {
            bytes: vec![0; 4 * width],
            colours: std::array::from_fn(|_| vec![0; width]),
            chroma: std::array::from_fn(|_| std::array::from_fn(|_| vec![0; width / 2])),
        }
    }

    /// Puts line `y` out.
    pub(super) fn put(
        &mut self,
        level: Level,
        format: &Format,
        yuv: &Yuv,
        y: u32,
        line: Line<'_>,
        write: &(dyn Fn(usize, u32, &[u8]) + Sync),
    ) {
        let Self { bytes, colours, chroma } = self;
        let width = 2 * line.count;
        match &format.pixels {
            Pixels::Yuyv | Pixels::Uyvy => {
                let luma_shift = if format.pixels == Pixels::Yuyv { 0 } else { 8 };
                pairs(level, line.halves, line.offset, yuv, luma_shift, &mut bytes[..2 * width]);
                write(0, y, &bytes[..2 * width]);
            }
            Pixels::Nv12 | Pixels::Nv16 | Pixels::Yuv420 | Pixels::Grey => {
                luma(level, line.halves, line.offset, yuv, &mut bytes[..width]);
                write(0, y, &bytes[..width]);
                if format.pixels == Pixels::Grey {
                    return;
                }
                let [[u, v], [u2, v2]] = chroma;
                let is_pair = format.pixels != Pixels::Nv16;
                let (u, v) = if is_pair && y % 2 == 1 { (u2, v2) } else { (u, v) };
                self::chroma(level, line.halves, line.offset, yuv, u, v);
                if is_pair && y.is_multiple_of(2) {
                    return;
                }
                let [[u, v], [u2, v2]] = &self.chroma;
                let (u2, v2) = if is_pair { (u2, v2) } else { (u, v) };
                let y = if is_pair { y / 2 } else { y };
                if format.pixels == Pixels::Yuv420 {
                    for (plane, first, second) in [(1, u, u2), (2, v, v2)] {
                        planar(level, first, second, &mut bytes[..width / 2]);
                        write(plane, y, &bytes[..width / 2]);
                    }
                } else {
                    semi_planar(level, [u, u2], [v, v2], &mut bytes[..width]);
                    write(1, y, &bytes[..width]);
                }
            }
            Pixels::Packed(order) => {
                let (halves, _) = line.halves.as_chunks::<2>();
                for (colour, &[even, odd]) in colours.iter_mut().zip(halves) {
                    codes(level, even, odd, line.offset, colour);
                }
                let [r, g, b] = &*colours;
                let bytes = &mut bytes[..order.len() * width];
                let plane = |component: Component| [&r[..], g, b][(component as usize).min(2)];
                match **order {
                    [a, b, c] => interleave3(level, [a, b, c].map(plane), bytes),
                    [Component::X, b, c, d] => {
                        let [b, c, d] = [b, c, d].map(plane);
                        interleave4(level, [b, b, c, d], [0xff, 0, 0, 0], bytes);
                    }
                    [a, b, c, _] => {
                        let [a, b, c] = [a, b, c].map(plane);
                        interleave4(level, [a, b, c, c], [0, 0, 0, 0xff], bytes);
                    }
                    _ => unreachable!("pixels of {} components", order.len()),
                }
                write(0, y, bytes);
            }
            Pixels::Bayer(_) => unreachable!("raw formats are refused when the ISP is configured"),
        }
    }
}

kernel! {
    fn luma(halves: [&[i16]; 6], offset: isize, yuv: &Yuv, out: &mut [u8]) {
        let out = out.as_chunks_mut::<2>().0;
        let [er, or, eg, og, eb, ob] = halves.map(|half| at(half, offset, out.len()));
        let yuv = *yuv;
        for i in 0..out.len() {
            let even = code(yuv.luma([er[i], eg[i], eb[i]]));
            let odd = code(yuv.luma([or[i], og[i], ob[i]]));
            out[i] = (even | odd << 8).to_le_bytes();
        }
    }
}

kernel! {
    /// Cb and Cr of the mean of each two columns, in coded values.
    fn chroma(halves: [&[i16]; 6], offset: isize, yuv: &Yuv, u: &mut [i16], v: &mut [i16]) {
        let v = &mut v[..u.len()];
        let [er, or, eg, og, eb, ob] = halves.map(|half| at(half, offset, u.len()));
        let yuv = *yuv;
        for i in 0..u.len() {
            [u[i], v[i]] = yuv.chroma([mean(er[i], or[i]), mean(eg[i], og[i]), mean(eb[i], ob[i])]);
        }
    }
}

kernel! {
    /// Two pixels that share their chroma, in four bytes; luma lies at `luma_shift` of each two.
    fn pairs(halves: [&[i16]; 6], offset: isize, yuv: &Yuv, luma_shift: u32, out: &mut [u8]) {
        let out = out.as_chunks_mut::<4>().0;
        let [er, or, eg, og, eb, ob] = halves.map(|half| at(half, offset, out.len()));
        let yuv = *yuv;
        let chroma_shift = 8 - luma_shift;
        for i in 0..out.len() {
            let even = code(yuv.luma([er[i], eg[i], eb[i]]));
            let odd = code(yuv.luma([or[i], og[i], ob[i]]));
            let [u, v] =
                yuv.chroma([mean(er[i], or[i]), mean(eg[i], og[i]), mean(eb[i], ob[i])]).map(code);
            let first = even << luma_shift | u << chroma_shift;
            let second = odd << luma_shift | v << chroma_shift;
            out[i] = (u32::from(first) | u32::from(second) << 16).to_le_bytes();
        }
    }
}

kernel! {
    /// U and V in turn, each the mean of two lines.
    fn semi_planar(u: [&[i16]; 2], v: [&[i16]; 2], out: &mut [u8]) {
        let out = out.as_chunks_mut::<2>().0;
        let [u, u2, v, v2] = [u[0], u[1], v[0], v[1]].map(|half| &half[..out.len()]);
        for i in 0..out.len() {
            out[i] = (code(mean(u[i], u2[i])) | code(mean(v[i], v2[i])) << 8).to_le_bytes();
        }
    }
}

kernel! {
    /// The mean of two lines.
    fn planar(first: &[i16], second: &[i16], out: &mut [u8]) {
        for (out, (&first, &second)) in out.iter_mut().zip(first.iter().zip(second)) {
            *out = code(mean(first, second)).to_le_bytes()[0];
        }
    }
}

kernel! {
    /// A colour's even and odd columns as bytes.
    fn codes(even: &[i16], odd: &[i16], offset: isize, out: &mut [u8]) {
        let out = out.as_chunks_mut::<2>().0;
        let [even, odd] = [even, odd].map(|half| at(half, offset, out.len()));
        for i in 0..out.len() {
            out[i] = (code(even[i]) | code(odd[i]) << 8).to_le_bytes();
        }
    }
}

kernel! {
    fn interleave3(planes: [&[u8]; 3], out: &mut [u8]) {
        let out = out.as_chunks_mut::<3>().0;
        let [a, b, c] = planes.map(|plane| &plane[..out.len()]);
        for i in 0..out.len() {
            out[i] = [a[i], b[i], c[i]];
        }
    }
}

kernel! {
    /// The bits of `ones` are set as well.
    fn interleave4(planes: [&[u8]; 4], ones: [u8; 4], out: &mut [u8]) {
        let out = out.as_chunks_mut::<4>().0;
        let [a, b, c, d] = planes.map(|plane| &plane[..out.len()]);
        for i in 0..out.len() {
            out[i] = [a[i] | ones[0], b[i] | ones[1], c[i] | ones[2], d[i] | ones[3]];
        }
    }
}
