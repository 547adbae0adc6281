//! The kernel that takes noise away and sharpens: by luma, for all colours the same.

use super::{
    arith::{add, clamp_coded, mean, scale, sub},
    level::kernel,
    lines::{LANES, at},
    params::Detail,
};

/// [`Detail`] as the kernel wants it.
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

    /// Whether it changes nothing.
    pub(super) fn is_none(&self) -> bool {
        self.limit == 0 || (self.denoise == 0 || self.threshold == 0) && self.sharpen == 0
    }
}

kernel! {
    /// Half a line: `luma` has the luma of its columns above, on and below it, and `beside` that of the other columns, of
    /// which those at `left` and `left + 1` are the neighbours.
    fn detail(
        luma: [&[i16]; 3],
        beside: [&[i16]; 3],
        left: isize,
        strength: &Strength,
        red: &mut [i16],
        green: &mut [i16],
        blue: &mut [i16],
        count: usize,
    ) {
        let [n, c, s] = luma.map(|line| at(line, 0, count));
        let [nw, w, sw] = beside.map(|line| at(line, left, count));
        let [ne, e, se] = beside.map(|line| at(line, left + 1, count));
        let [red, green, blue] = [red, green, blue].map(|plane| &mut plane[LANES..][..count]);
        let Strength { threshold, denoise, sharpen, limit } = *strength;
        for i in 0..count {
            let column = |n: i16, c: i16, s: i16| mean(mean(n, s), c);
            let sides = mean(column(nw[i], w[i], sw[i]), column(ne[i], e[i], se[i]));
            let difference = sub(c[i], mean(sides, column(n[i], c[i], s[i])));
            let noise = difference.max(sub(0, threshold)).min(threshold);
            // A difference has 14 bits and a sign: there is room for twice that.
            let more = sub(scale(sub(difference, noise) << 1, sharpen), scale(noise, denoise));
            let more = more.max(sub(0, limit)).min(limit);
            red[i] = clamp_coded(add(red[i], more));
            green[i] = clamp_coded(add(green[i], more));
            blue[i] = clamp_coded(add(blue[i], more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::isp::level::Level;

    /// The middle pixel of a flat line that differs by `step`.
    fn pixel(step: i16, detail: Detail) -> i16 {
        let flat = vec![8000; 3 * LANES];
        let mut spot = flat.clone();
        spot[LANES + 5] += step;
        let mut planes = [spot.clone(), spot.clone(), spot.clone()];
        let [red, green, blue] = &mut planes;
        let strength = Strength::new(&detail);
        super::detail(
            Level::BASELINE,
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
    fn little_differences_shrink_and_large_ones_grow() {
        let detail = Detail { threshold: 100, denoise: 0x4000, sharpen: 0x4000, limit: 5000 };
        // A lone pixel keeps three quarters of its difference.
        assert_eq!(pixel(80, detail), 80 - 30);
        assert_eq!(pixel(-80, detail), -80 + 30);
        assert_eq!(pixel(800, detail), 800 + 500 - 50);
        assert_eq!(pixel(800, Detail { limit: 200, ..detail }), 1000);
        assert_eq!(pixel(800, Detail { sharpen: 0x2000, denoise: 0, ..detail }), 800 + 250);
        assert!(Strength::new(&Detail { limit: 0, ..detail }).is_none());
        assert!(!Strength::new(&detail).is_none());
    }

    #[test]
    fn extremes_stay_codes() {
        let detail = Detail { threshold: 0, denoise: 0x7fff, sharpen: 0x7fff, limit: 16_320 };
        assert_eq!(pixel(8320, detail), 8320);
        assert_eq!(pixel(-8000, detail), -8000);
    }
}
