//! The filter of the demosaicing stage: green is denoised and sharpened, and the differences of red and blue from it are
//! blurred.
//!
//! Green has a blurred version, with the mask [1 2 1] in both directions. Stage 1 mixes it with green: with the selection `s`,
//! its part is (8 - s) / 16. The detail that remains above the blurred version is multiplied by the factor over 8. The factor
//! depends on the sum of the absolute horizontal and vertical gradients of green, in codes of 10 bits, times a weight over 128:
//! the minimum plus the gain times the luminance of green, which counts up to the kink.
//!
//! The vertical masks of the chroma filter are [8 16 8], [10 12 10] and [12 8 12] over 32, and the first horizontal one is
//! [10 12 10], as Rockchip's register descriptions have them. The other horizontal ones, which are dynamic there, are
//! [4 8 8 8 4] and [6 7 6 7 6].

use super::{
    arith::{W, distance, sample, wide},
    encode::Planes,
    params::Filter,
    raw::mirror,
};
use crate::{
    isp::lines::{Ring, at},
    simd::{LANES, Level, kernel},
};

/// The weights of a sample and of one of its vertical neighbours.
const DOWN: [[i16; 2]; 4] = [[32, 0], [16, 8], [12, 10], [8, 12]];

/// The weights of a sample and of its horizontal neighbours at the distances 1 and 2.
const ACROSS: [[i16; 3]; 4] = [[32, 0, 0], [12, 10, 0], [8, 8, 4], [6, 7, 6]];

/// The filter with the buffers of a line.
#[derive(Debug, Default)]
pub(super) struct Smoother {
    half: usize,
    /// The vertically filtered differences of red and of blue from green, each for even and odd columns.
    chroma: Ring<4>,
}

impl Smoother {
    /// Room for lines with `half` even and as many odd columns.
    pub(super) fn resize(&mut self, half: usize) {
        *self = Self { half, chroma: Ring::new(1, half) };
    }

    /// Filters a line. `lines` are the padded planes of the line above, the line itself, and the line below.
    pub(super) fn apply(
        &mut self,
        level: Level,
        params: &Filter,
        lines: [Planes<'_>; 3],
        out: [&mut [i16]; 6],
    ) {
        let half = self.half;
        let [even_red, odd_red, even_green, odd_green, even_blue, odd_blue] =
            out.map(|plane| &mut plane[LANES..][..half]);
        let steps = Steps::new(params);
        let plane = |index: usize| lines.map(|planes| planes[index]);
        let (even, odd) = (plane(2), plane(3));
        green(level, even, odd, -1, &steps, even_green);
        green(level, odd, even, 0, &steps, odd_green);
        let weights = DOWN[usize::from(params.chroma_down & 3)];
        let mut differences = self.chroma.planes_mut(0);
        for ((difference, colour), green) in
            differences.iter_mut().zip([0, 1, 4, 5]).zip([even, odd, even, odd])
        {
            vertical(level, plane(colour), green, weights, &mut difference[LANES..][..half]);
        }
        let [red, odd_difference, blue, odd_blue_difference] = differences;
        mirror([red, odd_difference], half);
        mirror([blue, odd_blue_difference], half);
        let weights = ACROSS[usize::from(params.chroma_across & 3)];
        let [red, red_odd, blue, blue_odd] = self.chroma.planes(0);
        horizontal(level, red, red_odd, -1, weights, even_green, even_red);
        horizontal(level, red_odd, red, 0, weights, odd_green, odd_red);
        horizontal(level, blue, blue_odd, -1, weights, even_green, even_blue);
        horizontal(level, blue_odd, blue, 0, weights, odd_green, odd_blue);
    }
}

/// The parameters of green in the form that the kernel takes.
pub(super) struct Steps {
    stage: i16,
    thresholds: [i16; 4],
    /// The factors from the least gradient to the largest.
    factors: [i16; 5],
    weight: [i16; 3],
}

impl Steps {
    fn new(params: &Filter) -> Self {
        let Filter { blur_1, blur_0, mid, sharp_0, sharp_1, .. } = *params;
        let factors = if params.dynamic { [blur_1, blur_0, mid, sharp_0, sharp_1] } else { [mid; 5] };
        let [[a, b], [c, d]] = [params.blur_thresholds, params.sharp_thresholds];
        Self {
            stage: i16::from(params.green_stage.min(8)),
            thresholds: [a, b, c, d].map(|threshold| (threshold & 0x3ff).cast_signed()),
            factors: factors.map(|factor| i16::from(factor & 0x3f)),
            weight: params.weight.map(i16::from),
        }
    }
}

kernel! {
    /// Green of the columns of one parity. `left` is the place of the left neighbour among the other columns.
    fn green(own: [&[i16]; 3], beside: [&[i16]; 3], left: isize, steps: &Steps, out: &mut [i16]) {
        let count = out.len();
        let own = own.map(|line| at(line, 0, count));
        let [west, east] = [left, left + 1].map(|x| beside.map(|line| at(line, x, count)));
        let [least, kink, gain] = steps.weight.map(wide);
        let [blur_1, blur_0, mid, sharp_0, sharp_1] = steps.factors.map(wide);
        for i in 0..count {
            let column = |lines: [&[i16]; 3]| wide(lines[0][i]) + wide(lines[1][i]) * W(2) + wide(lines[2][i]);
            let blurred = (column(west) + column(own) * W(2) + column(east) + W(8)) >> 4;
            let centre = wide(own[1][i]);
            let first = (centre * (wide(steps.stage) + W(8)) + blurred * (W(8) - wide(steps.stage)) + W(8)) >> 4;
            let luminance = W((centre.0 >> 4).min(kink.0));
            let weight = least + gain * luminance;
            let gradient = wide(distance(west[1][i], east[1][i])) + wide(distance(own[0][i], own[2][i]));
            let gradient = ((gradient >> 2) * weight) >> 7;
            let [a, b, c, d] = steps.thresholds.map(i32::from);
            let factor = if gradient.0 < a { blur_1 } else { mid };
            let factor = if (gradient.0 >= a) & (gradient.0 < b) { blur_0 } else { factor };
            let factor = if gradient.0 > c { sharp_0 } else { factor };
            let factor = if gradient.0 > d { sharp_1 } else { factor };
            out[i] = sample(blurred + (((first - blurred) * factor + W(4)) >> 3));
        }
    }
}

kernel! {
    /// The vertically filtered differences of a colour from green.
    fn vertical(colour: [&[i16]; 3], green: [&[i16]; 3], weights: [i16; 2], out: &mut [i16]) {
        let count = out.len();
        let [colour, green] = [colour, green].map(|lines| lines.map(|line| at(line, 0, count)));
        let [own, beside] = weights.map(wide);
        for i in 0..count {
            let difference = |line: usize| wide(colour[line][i]) - wide(green[line][i]);
            let sum = difference(1) * own + (difference(0) + difference(2)) * beside;
            out[i] = super::arith::narrow((sum + W(16)) >> 5, i16::MIN, i16::MAX);
        }
    }
}

kernel! {
    /// A colour from its horizontally filtered differences and green.
    fn horizontal(own: &[i16], beside: &[i16], left: isize, weights: [i16; 3], green: &[i16], out: &mut [i16]) {
        let count = out.len();
        let [far_west, centre, far_east] = [-1, 0, 1].map(|x| at(own, x, count));
        let [west, east] = [left, left + 1].map(|x| at(beside, x, count));
        let green = &green[..count];
        let [own, near, far] = weights.map(wide);
        for i in 0..count {
            let nearest = wide(west[i]) + wide(east[i]);
            let farther = wide(far_west[i]) + wide(far_east[i]);
            let sum = wide(centre[i]) * own + nearest * near + farther * far;
            out[i] = sample(wide(green[i]) + ((sum + W(16)) >> 5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTER: Filter = Filter {
        dynamic: true,
        green_stage: 8,
        chroma_across: 0,
        chroma_down: 0,
        blur_thresholds: [5, 13],
        sharp_thresholds: [26, 44],
        weight: [128, 0, 0],
        blur_1: 0,
        blur_0: 4,
        mid: 8,
        sharp_0: 12,
        sharp_1: 16,
    };

    /// Filters three lines of 64 pixels, given by colour, line and column.
    fn filtered(params: &Filter, of: impl Fn(usize, usize, i16) -> i16) -> [Vec<i16>; 3] {
        let mut results = Level::all().map(|level| {
            let mut rings = Ring::<6>::new(3, 32);
            for (line, y) in (0..3).zip(0_usize..) {
                for (index, plane) in rings.planes_mut(line).into_iter().enumerate() {
                    for (place, x) in
                        (LANES..).zip((0..32).map(|half| 2 * half + i16::try_from(index % 2).unwrap()))
                    {
                        plane[place] = of(index / 2, y, x);
                    }
                }
                let [er, or, eg, og, eb, ob] = rings.planes_mut(line);
                [[er, or], [eg, og], [eb, ob]].into_iter().for_each(|planes| mirror(planes, 32));
            }
            let mut smoother = Smoother::default();
            smoother.resize(32);
            let mut out = Ring::<6>::new(1, 32);
            smoother.apply(level, params, [0, 1, 2].map(|line| rings.planes(line)), out.planes_mut(0));
            [0, 1, 2]
                .map(|colour| (0..64).map(|x| out.planes(0)[2 * colour + x % 2][LANES + x / 2]).collect())
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first));
        first
    }

    /// A green pixel of 160 more than its surroundings: it is blurred to 160 / 4, so that 120 are detail. Beside a line of it
    /// the gradient is what the line's neighbours differ by.
    #[test]
    fn the_factor_depends_on_the_gradient() {
        for (step, factor) in [
            (0, 0.0),
            (19, 0.0),
            (20, 0.5),
            (51, 0.5),
            (52, 1.0),
            (104, 1.0),
            (108, 1.5),
            (176, 1.5),
            (180, 2.0),
        ] {
            let green = |y: usize, x: i16| {
                1000 + step * i16::try_from(y).unwrap() / 2 + if x == 10 { 160 } else { 0 }
            };
            let [red, out, _] = filtered(&FILTER, |colour, y, x| if colour == 1 { green(y, x) } else { 800 });
            let blurred = f64::from(1000 + step / 2) + 80.0;
            let exact = blurred + 80.0 * factor;
            assert!((f64::from(out[10]) - exact).abs() <= 1.0, "{} not {exact} with {step}", out[10]);
            // Without a chroma filter the difference of red from green stays.
            assert!((out[10] - red[10] - (green(1, 10) - 800)).abs() <= 1);
        }
        let still = Filter { dynamic: false, mid: 4, ..FILTER };
        let [_, out, _] = filtered(&still, |_, _, x| 1000 + if x == 10 { 160 } else { 0 });
        assert_eq!(out[9..12], [1020, 1120, 1020]);
    }

    #[test]
    fn stage_1_blurs_up_to_a_half() {
        for (green_stage, more) in [(8, 160), (4, 140), (0, 120), (200, 160)] {
            let params = Filter { dynamic: false, green_stage, ..FILTER };
            let [_, out, _] = filtered(&params, |_, _, x| 1000 + if x == 10 { 160 } else { 0 });
            assert_eq!(out[10], 1000 + more);
        }
    }

    #[test]
    fn gradients_weigh_less_in_the_dark() {
        // Weight 64 + 2 * luminance up to 32: a half at black, 1 from a luminance of 32, which is 512 of 4096, on.
        let params = Filter { weight: [64, 32, 2], ..FILTER };
        for (level, gradient, factor) in [(0, 7, 0.0), (0, 16, 0.5), (2000, 4, 0.0), (2000, 5, 0.5)] {
            let [_, out, _] = filtered(&params, |_, y, x| {
                let step = if y == 2 { 4 * gradient } else { 0 };
                level + step + if x == 10 { 16 } else { 0 }
            });
            let blurred = f64::from(level) + f64::from(gradient) + 8.0;
            let exact = blurred + (f64::from(level + 16) - blurred) * factor;
            assert!((f64::from(out[10]) - exact).abs() <= 1.0, "{} not {exact}", out[10]);
        }
    }

    #[test]
    fn the_chroma_filter_has_its_masks() {
        let spot = |colour: usize, y: usize, x: i16| if (colour, y, x) == (0, 1, 10) { 1320 } else { 1000 };
        let line = |colour: usize, y: usize, _: i16| if (colour, y) == (2, 2) { 1320 } else { 1000 };
        let masks = [[0, 0, 320, 0, 0], [0, 100, 120, 100, 0], [40, 80, 80, 80, 40], [60, 70, 60, 70, 60]];
        for (chroma_across, mask) in (0..).zip(masks) {
            let params = Filter { chroma_across, ..FILTER };
            let [red, green, blue] = filtered(&params, spot);
            assert_eq!(red[8..13], mask.map(|value| 1000 + value));
            assert!(green.iter().chain(&blue).all(|&value| value == 1000));
        }
        for (chroma_down, more) in [(0, 0), (1, 80), (2, 100), (3, 120)] {
            let params = Filter { chroma_down, ..FILTER };
            assert!(filtered(&params, line)[2].iter().all(|&blue| blue == 1000 + more));
        }
    }
}
