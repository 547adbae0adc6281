//! The last stage: kernels that convert finished lines to a pixel format.

use super::{
    arith::{code, mean},
    colour::{Parts, Yuv},
    lines::vectors,
};
use crate::format::{Component, Format, Pixels};
use crate::simd::{LANES, Level, Vector, kernel};

/// A finished line: the even and the odd columns of red, green and blue. `count` of each are used, from `offset` values after
/// the first one.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) halves: [&'a [i16]; 6],
    pub(super) offset: isize,
    pub(super) count: usize,
}

/// Converts lines to a format, and puts them out.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// A line of a plane in its final form.
    bytes: Vec<u8>,
    /// The codes of a line: of each colour, or of luma, and of U and V alternately.
    codes: [Vec<[[u8; 2]; LANES]>; 3],
    /// Cb and Cr of the line before and of this line, as coded values.
    chroma: [[Vec<[i16; LANES]>; 2]; 2],
}

impl Packer {
    /// A packer for lines of `width` pixels.
    pub(super) fn new(width: u32) -> Self {
        let width = width as usize;
        let count = (width / 2).div_ceil(LANES);
        Self {
            bytes: vec![0; 4 * width],
            codes: std::array::from_fn(|_| vec![[[0; 2]; LANES]; count]),
            chroma: std::array::from_fn(|_| std::array::from_fn(|_| vec![[0; LANES]; count])),
        }
    }

    /// Converts line `y`, and puts it out by `write`.
    pub(super) fn put(
        &mut self,
        level: Level,
        format: &Format,
        yuv: &Yuv,
        y: u32,
        line: Line<'_>,
        write: &(dyn Fn(usize, u32, &[u8]) + Sync),
    ) {
        let Self { bytes, codes: [first, second, third], chroma: [[u, v], [u2, v2]] } = self;
        let (half, width) = (line.count, 2 * line.count);
        match &format.pixels {
            Pixels::Yuyv | Pixels::Uyvy => {
                luma(level, line.halves, line.offset, yuv, first);
                chroma(level, line.halves, line.offset, yuv, u, v);
                semi_planar(level, [u, u], [v, v], second);
                let [a, b] = if format.pixels == Pixels::Yuyv { [first, second] } else { [second, first] };
                let [a, b] = [&*a, &*b].map(|codes| codes.as_flattened().as_flattened());
                interleave2(level, a, b, &mut bytes[..2 * width]);
                write(0, y, &bytes[..2 * width]);
            }
            Pixels::Nv12 | Pixels::Nv16 | Pixels::Yuv420 | Pixels::Grey => {
                luma(level, line.halves, line.offset, yuv, first);
                write(0, y, &first.as_flattened().as_flattened()[..width]);
                if format.pixels == Pixels::Grey {
                    return;
                }
                if format.pixels == Pixels::Nv16 {
                    chroma(level, line.halves, line.offset, yuv, u, v);
                    semi_planar(level, [u, u], [v, v], second);
                    write(1, y, &second.as_flattened().as_flattened()[..width]);
                    return;
                }
                if y.is_multiple_of(2) {
                    return chroma(level, line.halves, line.offset, yuv, u, v);
                }
                chroma(level, line.halves, line.offset, yuv, u2, v2);
                if format.pixels == Pixels::Nv12 {
                    semi_planar(level, [u, u2], [v, v2], second);
                    write(1, y / 2, &second.as_flattened().as_flattened()[..width]);
                } else {
                    for (plane, upper, lower) in [(1, u, u2), (2, v, v2)] {
                        planar(level, upper.as_flattened(), lower.as_flattened(), &mut bytes[..half]);
                        write(plane, y / 2, &bytes[..half]);
                    }
                }
            }
            Pixels::Packed(order) => {
                let [er, or, eg, og, eb, ob] = line.halves;
                codes(level, er, or, line.offset, first);
                codes(level, eg, og, line.offset, second);
                codes(level, eb, ob, line.offset, third);
                let [r, g, b] = [&*first, second, third].map(|codes| codes.as_flattened().as_flattened());
                let bytes = &mut bytes[..order.len() * width];
                let plane = |component: Component| [r, g, b][(component as usize).min(2)];
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

/// The 8-bit codes of two coded values, the first in the lower half of a word.
#[inline(always)]
fn codes_of<V: Vector>(first: V, second: V) -> V {
    let code = |value: V| value.add(V::splat(32)).shr::<6>();
    code(first).or(code(second).shl(8))
}

/// Stores the codes as vector `step` of the pairs.
#[inline(always)]
fn store_codes<V: Vector>(codes: V, pairs: &mut [[u8; 2]; LANES], step: usize) {
    let mut words = [0; LANES];
    codes.store(&mut words, step);
    let per_step = LANES / V::STEPS;
    let range = step * per_step..(step + 1) * per_step;
    for (pair, word) in pairs[range.clone()].iter_mut().zip(&words[range]) {
        *pair = word.to_le_bytes();
    }
}

kernel! {
    /// The luma of all columns.
    fn luma<V>(halves: [&[i16]; 6], offset: isize, yuv: &Yuv, out: &mut [[[u8; 2]; LANES]]) {
        let half = |half: usize| vectors(halves[half], offset, out.len());
        let (er, or, eg, og, eb, ob) = (half(0), half(1), half(2), half(3), half(4), half(5));
        let parts = Parts::<V>::new(yuv);
        for i in 0..out.len() {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let even = parts.luma(load(er), load(eg), load(eb));
                let odd = parts.luma(load(or), load(og), load(ob));
                store_codes(codes_of(even, odd), &mut out[i], step);
            }
        }
    }
}

kernel! {
    /// Cb and Cr of the mean of two neighbouring columns, as coded values.
    fn chroma<V>(halves: [&[i16]; 6], offset: isize, yuv: &Yuv, u: &mut [[i16; LANES]], v: &mut [[i16; LANES]]) {
        let v = &mut v[..u.len()];
        let half = |half: usize| vectors(halves[half], offset, u.len());
        let (er, or, eg, og, eb, ob) = (half(0), half(1), half(2), half(3), half(4), half(5));
        let parts = Parts::<V>::new(yuv);
        for i in 0..u.len() {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let (red, green, blue) =
                    (load(er).mean(load(or)), load(eg).mean(load(og)), load(eb).mean(load(ob)));
                let [cb, cr] = parts.chroma(red, green, blue);
                cb.store(&mut u[i], step);
                cr.store(&mut v[i], step);
            }
        }
    }
}

kernel! {
    /// U and V alternately, each the mean of two lines.
    fn semi_planar<V>(
        u: [&[[i16; LANES]]; 2],
        v: [&[[i16; LANES]]; 2],
        out: &mut [[[u8; 2]; LANES]],
    ) {
        let count = out.len();
        let (u, u2, v, v2) = (&u[0][..count], &u[1][..count], &v[0][..count], &v[1][..count]);
        for i in 0..count {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let codes = codes_of(load(u).mean(load(u2)), load(v).mean(load(v2)));
                store_codes(codes, &mut out[i], step);
            }
        }
    }
}

kernel! {
    /// The codes of the mean of two lines.
    fn planar(first: &[i16], second: &[i16], out: &mut [u8]) {
        for (out, (&first, &second)) in out.iter_mut().zip(first.iter().zip(second)) {
            *out = code(mean(first, second)).to_le_bytes()[0];
        }
    }
}

kernel! {
    /// The codes of one colour of all columns.
    fn codes<V>(even: &[i16], odd: &[i16], offset: isize, out: &mut [[[u8; 2]; LANES]]) {
        let (even, odd) = (vectors(even, offset, out.len()), vectors(odd, offset, out.len()));
        for i in 0..out.len() {
            for step in 0..V::STEPS {
                let codes = codes_of(V::load(&even[i], step), V::load(&odd[i], step));
                store_codes(codes, &mut out[i], step);
            }
        }
    }
}

kernel! {
    fn interleave2(first: &[u8], second: &[u8], out: &mut [u8]) {
        let out = out.as_chunks_mut::<2>().0;
        let (a, b) = (&first[..out.len()], &second[..out.len()]);
        for i in 0..out.len() {
            out[i] = [a[i], b[i]];
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
    /// Interleaves four planes, and sets the bits of `ones` in each pixel.
    fn interleave4(planes: [&[u8]; 4], ones: [u8; 4], out: &mut [u8]) {
        let out = out.as_chunks_mut::<4>().0;
        let [a, b, c, d] = planes.map(|plane| &plane[..out.len()]);
        for i in 0..out.len() {
            out[i] = [a[i] | ones[0], b[i] | ones[1], c[i] | ones[2], d[i] | ones[3]];
        }
    }
}
