//! Line buffers: planes of 16-bit values with padding on both sides, so that kernels can read beyond the ends of a line.

use crate::simd::LANES;

/// `count` values of a padded line, from `offset` values after its first one.
#[inline(always)]
pub(crate) fn at(line: &[i16], offset: isize, count: usize) -> &[i16] {
    &line[LANES.wrapping_add_signed(offset)..][..count]
}

/// The same in chunks of [`LANES`] values.
#[inline(always)]
pub(crate) fn vectors(line: &[i16], offset: isize, vectors: usize) -> &[[i16; LANES]] {
    &line[LANES.wrapping_add_signed(offset)..].as_chunks().0[..vectors]
}

/// The values of a padded line from its first one, in `vectors` chunks of [`LANES`] values, to be written.
#[inline(always)]
pub(crate) fn vectors_mut(line: &mut [i16], vectors: usize) -> &mut [[i16; LANES]] {
    &mut line[LANES..].as_chunks_mut().0[..vectors]
}

/// The last lines of a frame, each with `PLANES` planes of the same length.
#[derive(Debug, Default)]
pub(crate) struct Ring<const PLANES: usize> {
    data: Vec<i16>,
    /// The index at which the data is aligned to a vector.
    start: usize,
    /// The number of values of a plane with its padding.
    stride: usize,
    depth: usize,
}

impl<const PLANES: usize> Ring<PLANES> {
    /// Room for `depth` lines with planes of at least `count` values.
    pub(crate) fn new(depth: usize, count: usize) -> Self {
        let stride = count.next_multiple_of(LANES) + 2 * LANES;
        let data = vec![0; depth * PLANES * stride + LANES];
        // Without the alignment it is correct too, but slower.
        let start = data.as_ptr().align_offset(2 * LANES).min(LANES);
        Self { data, start, stride, depth }
    }

    fn range(&self, line: u32) -> std::ops::Range<usize> {
        let start = self.start + line as usize % self.depth * PLANES * self.stride;
        start..start + PLANES * self.stride
    }

    /// A plane of a line, padded.
    pub(crate) fn plane(&self, line: u32, plane: usize) -> &[i16] {
        &self.data[self.range(line)][plane * self.stride..][..self.stride]
    }

    /// All planes of a line, padded.
    pub(crate) fn planes(&self, line: u32) -> [&[i16]; PLANES] {
        std::array::from_fn(|plane| self.plane(line, plane))
    }

    /// All planes of a line, padded, to be written.
    pub(crate) fn planes_mut(&mut self, line: u32) -> [&mut [i16]; PLANES] {
        let range = self.range(line);
        let mut planes = self.data[range].chunks_exact_mut(self.stride);
        std::array::from_fn(|_| planes.next().unwrap_or_default())
    }
}

/// The line that is used for `line` of a frame of `height` lines. Lines beyond an edge are mirrored, which keeps the order of
/// colour filters.
pub(crate) fn mirrored(line: i64, height: u32) -> u32 {
    let last = i64::from(height) - 1;
    let inside = if line < 0 {
        -line
    } else if line > last {
        2 * last - line
    } else {
        line
    };
    // It is never negative, as frames have more than four lines.
    u32::try_from(inside).unwrap_or(0)
}

/// Mirrors a line at its ends, two columns on each side. `even` and `odd` have `half` columns each.
pub(crate) fn mirror(even: &mut [i16], odd: &mut [i16], half: usize) {
    let end = LANES + half;
    (even[LANES - 1], odd[LANES - 1]) = (even[LANES + 1], odd[LANES]);
    (even[end], odd[end]) = (even[end - 1], odd[end - 2]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_beyond_the_edges_are_mirrored() {
        let mut ring = Ring::<2>::new(1, 4);
        let [even, odd] = ring.planes_mut(0);
        for (at, value) in (LANES..LANES + 4).zip(0..) {
            (even[at], odd[at]) = (2 * value, 2 * value + 1);
        }
        mirror(even, odd, 4);
        assert_eq!((at(even, -1, 6), at(odd, -1, 6)), (&[2, 0, 2, 4, 6, 6][..], &[1, 1, 3, 5, 7, 5][..]));
        assert_eq!([-2, -1, 0, 9, 10, 11].map(|line| mirrored(line, 10)), [2, 1, 0, 9, 8, 7]);
    }

    #[test]
    fn lines_of_a_ring_do_not_overlap() {
        let mut ring = Ring::<3>::new(2, 40);
        for line in 0..2 {
            for (value, plane) in (1..).zip(ring.planes_mut(line)) {
                plane.fill(value + 10 * i16::try_from(line).unwrap());
            }
        }
        for line in 2..4 {
            for (value, plane) in (1..).zip(ring.planes(line)) {
                let expected = value + 10 * i16::try_from(line - 2).unwrap();
                assert!(plane.len() == 128 && plane.iter().all(|&value| value == expected));
            }
        }
    }
}
