//! The kernel that reduces noise and sharpens. It works on luma, and changes all colours alike.

use super::{
    arith::CODED_MAX,
    lines::{vectors, vectors_mut},
    params::Detail,
};
use crate::simd::{LANES, kernel};

/// [`Detail`] in the form that the kernel takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strength {
    threshold: i16,
    denoise: i16,
    sharpen: i16,
    limit: i16,
}

impl Strength {
    pub(super) fn new(detail: &Detail) -> Self {
        let Detail { threshold, denoise, sharpen, limit } = *detail;
        let [threshold, denoise, sharpen, limit] =
            [threshold, denoise, sharpen, limit].map(|value| i16::try_from(value).unwrap_or(i16::MAX));
        Self { threshold, denoise, sharpen, limit }
    }

    /// Whether it has no effect.
    pub(super) fn is_none(&self) -> bool {
        self.limit == 0 || (self.denoise == 0 || self.threshold == 0) && self.sharpen == 0
    }
}

kernel! {
    /// Changes the even or the odd columns of a line. `luma` is the luma of these columns in the line above, in the line itself,
    /// and in the line below. `beside` is that of the other columns, where those at `left` and `left + 1` are the neighbours.
    fn detail<V>(
        luma: [&[i16]; 3],
        beside: [&[i16]; 3],
        left: isize,
        strength: &Strength,
        red: &mut [i16],
        green: &mut [i16],
        blue: &mut [i16],
        count: usize,
    ) {
        let count = count / LANES;
        let own = |line: usize| vectors(luma[line], 0, count);
        let (n, c, s) = (own(0), own(1), own(2));
        let sides = |line: usize, x| vectors(beside[line], x, count);
        let (nw, w, sw) = (sides(0, left), sides(1, left), sides(2, left));
        let (ne, e, se) = (sides(0, left + 1), sides(1, left + 1), sides(2, left + 1));
        let (red, green, blue) =
            (vectors_mut(red, count), vectors_mut(green, count), vectors_mut(blue, count));
        let Strength { threshold, denoise, sharpen, limit } = *strength;
        let (denoise, sharpen) = (V::splat(denoise), V::splat(sharpen));
        for i in 0..count {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let column = |n, c: V, s| load(n).mean(load(s)).mean(c);
                let c = load(c);
                let sides = column(nw, load(w), sw).mean(column(ne, load(e), se));
                let difference = c.sub(sides.mean(column(n, c, s)));
                let noise = difference.clamp(-threshold, threshold);
                // A difference has 14 bits and a sign, so twice the difference fits.
                let more = difference.sub(noise).shl(1).scale(sharpen).sub(noise.scale(denoise));
                let more = more.clamp(-limit, limit);
                let change = |colour: &mut [i16; LANES]| {
                    V::load(colour, step).add(more).clamp(0, CODED_MAX).store(colour, step);
                };
                change(&mut red[i]);
                change(&mut green[i]);
                change(&mut blue[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    /// The change of a pixel that differs from its flat surroundings by `step`.
    fn pixel(step: i16, detail: Detail) -> i16 {
        let flat = vec![8000; 3 * LANES];
        let mut spot = flat.clone();
        spot[LANES + 5] += step;
        let mut planes = [spot.clone(), spot.clone(), spot.clone()];
        let [red, green, blue] = &mut planes;
        let strength = Strength::new(&detail);
        super::detail(
            Level::SCALAR,
            [&flat, &spot, &flat],
            [&flat; 3],
            0,
            &strength,
            red,
            green,
            blue,
            LANES,
        );
        assert!(planes[0] == planes[1] && planes[1] == planes[2]);
        planes[0][LANES + 5] - 8000
    }

    #[test]
    fn small_differences_shrink_and_large_ones_grow() {
        let detail = Detail { threshold: 100, denoise: 0x4000, sharpen: 0x4000, limit: 5000 };
        // The mean of the surroundings contains a quarter of the pixel, so the difference is three quarters of `step`.
        assert_eq!(pixel(80, detail), 80 - 30);
        assert_eq!(pixel(-80, detail), -80 + 30);
        assert_eq!(pixel(800, detail), 800 + 500 - 50);
        assert_eq!(pixel(800, Detail { limit: 200, ..detail }), 1000);
        assert_eq!(pixel(800, Detail { sharpen: 0x2000, denoise: 0, ..detail }), 800 + 250);
        assert!(Strength::new(&Detail { limit: 0, ..detail }).is_none());
        assert!(!Strength::new(&detail).is_none());
    }

    #[test]
    fn extremes_stay_in_the_range_of_codes() {
        let detail = Detail { threshold: 0, denoise: 0x7fff, sharpen: 0x7fff, limit: 16_320 };
        assert_eq!(pixel(8320, detail), 8320);
        assert_eq!(pixel(-8000, detail), -8000);
    }
}
