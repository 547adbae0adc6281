//! Defect pixel correction.
//!
//! A pixel has eight neighbours of its colour: for red and blue those two columns or lines away, with the four that share its line
//! or column as the nearest; for green the four diagonal ones, which are the nearest, and four two columns or lines away. They are
//! sorted; rank 0 is the smallest. The methods find a pixel like this:
//!
//! - Peak gradient: 8 times its distance from the median of the neighbours exceeds the factor times their mean distance from it.
//! - Line check: its distance from the mean of the two neighbours of its line exceeds the threshold times 16, and 8 times this
//!   distance exceeds the factor times half of the difference of the two.
//! - Rank order: it is above or below all of the neighbours but `limit`.
//! - Rank neighbour difference: it is above or below the neighbour of rank `offset`, from either end, by more than the threshold
//!   times 16.
//! - Rank gradient: 8 times its distance from the range of all neighbours exceeds the factor times a quarter of the difference of
//!   ranks 6 and 1.
//!
//! The fixed set finds a pixel whose distance from the range of its neighbours exceeds the size of this range.

use super::{
    arith::{distance, wide},
    params::{DefectMethods, Defects},
};
use crate::{
    isp::lines::at,
    simd::{Level, kernel},
};

/// Comparators that sort eight values (Batcher's odd-even merge sort).
const NETWORK: [(usize, usize); 19] = [
    (0, 1),
    (2, 3),
    (4, 5),
    (6, 7),
    (0, 2),
    (1, 3),
    (4, 6),
    (5, 7),
    (1, 2),
    (5, 6),
    (0, 4),
    (1, 5),
    (2, 6),
    (3, 7),
    (2, 4),
    (3, 5),
    (1, 2),
    (3, 4),
    (5, 6),
];

/// Corrects the columns of one parity of a line. `lines` are the even and odd columns of five lines around it.
pub(super) fn correct(
    level: Level,
    defects: &Defects,
    lines: [[&[i16]; 2]; 5],
    parity: usize,
    is_green: bool,
    out: &mut [i16],
) {
    let kind = usize::from(!is_green);
    let count = out.len();
    let own = |line: usize, x: isize| at(lines[line][parity], x, count);
    let near = if is_green {
        let beside = |line: usize, x: isize| at(lines[line][1 - parity], x + parity.cast_signed(), count);
        [beside(1, -1), beside(1, 0), beside(3, -1), beside(3, 0)]
    } else {
        [own(0, 0), own(2, -1), own(2, 1), own(4, 0)]
    };
    let far = if is_green {
        [own(0, 0), own(2, -1), own(2, 1), own(4, 0)]
    } else {
        [own(0, -1), own(0, 1), own(4, -1), own(4, 1)]
    };
    let sets = defects
        .sets
        .map(|set| set.map(|methods| methods[kind]).filter(|methods| *methods != DefectMethods::default()));
    let tests = Tests {
        sets: sets.map(|set| Test::new(&set.unwrap_or_default(), set.is_some())),
        fixed_set: defects.fixed_set,
        with_centre: defects.with_centre[kind],
        eight: defects.eight[kind],
    };
    replace(level, own(2, 0), near, far, [own(2, -1), own(2, 1)], &tests, out);
}

/// The methods of a set in the form that the kernel takes. A method that is off has values that find every pixel.
#[derive(Clone, Copy)]
struct Test {
    is_on: bool,
    /// Factors, and what is added to the left side of the comparison.
    peak: [i16; 2],
    line: [i16; 2],
    line_threshold: i16,
    gradient: [i16; 2],
    /// The limit, and whether the method is off.
    order: (u8, bool),
    offset: u8,
    difference: i16,
}

impl Test {
    fn new(methods: &DefectMethods, is_on: bool) -> Self {
        let factor = |factor: Option<u8>| factor.map_or([0, 1], |factor| [i16::from(factor & 0x3f), 0]);
        let threshold = |codes: Option<u8>| codes.map_or(i16::MIN, |codes| i16::from(codes) << 4);
        Self {
            is_on,
            peak: factor(methods.peak_gradient),
            line: factor(methods.line.map(|[_, factor]| factor)),
            line_threshold: threshold(methods.line.map(|[threshold, _]| threshold)),
            gradient: factor(methods.rank_gradient),
            order: (methods.rank_order.unwrap_or(0) & 3, methods.rank_order.is_none()),
            offset: methods.rank_difference.map_or(0, |[offset, _]| offset & 3),
            difference: threshold(methods.rank_difference.map(|[_, threshold]| threshold)),
        }
    }
}

/// What finds and replaces a pixel.
pub(super) struct Tests {
    sets: [Test; 3],
    fixed_set: bool,
    with_centre: bool,
    eight: bool,
}

/// The value at one of the four ranks from an end.
#[inline(always)]
fn pick(ranks: [i16; 4], index: u8) -> i16 {
    match index {
        0 => ranks[0],
        1 => ranks[1],
        2 => ranks[2],
        _ => ranks[3],
    }
}

/// The mean of two samples, rounded down.
#[inline(always)]
fn mean(a: i16, b: i16) -> i16 {
    a.wrapping_add(b) >> 1
}

kernel! {
    fn replace(
        centre: &[i16],
        near: [&[i16]; 4],
        far: [&[i16]; 4],
        beside: [&[i16]; 2],
        tests: &Tests,
        out: &mut [i16],
    ) {
        let count = out.len();
        let centre = &centre[..count];
        let [near, far] = [near, far].map(|lines| lines.map(|line| &line[..count]));
        let beside = beside.map(|line| &line[..count]);
        for i in 0..count {
            let c = centre[i];
            let nearest = near.map(|line| line[i]);
            let mut n = [
                nearest[0], nearest[1], nearest[2], nearest[3], far[0][i], far[1][i], far[2][i], far[3][i],
            ];
            for (a, b) in NETWORK {
                (n[a], n[b]) = (n[a].min(n[b]), n[a].max(n[b]));
            }
            let (low, high) = ([n[0], n[1], n[2], n[3]], [n[7], n[6], n[5], n[4]]);
            let median = mean(n[3], n[4]);
            let mut deviation = 0_i16;
            for value in n {
                deviation = deviation.wrapping_add(distance(value, median));
            }
            let deviation = deviation.cast_unsigned() >> 3;
            let peak = distance(c, median);
            let outside = c.wrapping_sub(n[7]).max(n[0].wrapping_sub(c));
            let spread = n[6].wrapping_sub(n[1]) >> 2;
            let (west, east) = (beside[0][i], beside[1][i]);
            let step = distance(c, mean(west, east));
            let exceeds = |value: i16, factor: [i16; 2], limit: i16| {
                wide(value).0 * 8 + i32::from(factor[1]) > wide(limit).0 * i32::from(factor[0])
            };
            let mut found = tests.fixed_set & (outside > n[7].wrapping_sub(n[0]));
            for set in &tests.sets {
                let is_peak = (set.peak[1] != 0) | exceeds(peak, set.peak, deviation.cast_signed());
                let is_line = (set.line[1] != 0)
                    | (exceeds(step, set.line, distance(west, east) >> 1) & (step > set.line_threshold));
                let is_gradient = (set.gradient[1] != 0) | exceeds(outside, set.gradient, spread);
                let (limit, is_off) = set.order;
                let is_outer = is_off | (c > pick(high, limit)) | (c < pick(low, limit));
                let difference = c.wrapping_sub(pick(high, set.offset)).max(pick(low, set.offset).wrapping_sub(c));
                let is_different = difference > set.difference;
                found |= set.is_on & is_peak & is_line & is_gradient & is_outer & is_different;
            }
            let [a, b, c4, d] = nearest;
            let (low, high) = (a.min(b).max(c4.min(d)), a.max(b).min(c4.max(d)));
            // The two middle ones of four values.
            let (low, high) = (low.min(high), low.max(high));
            let middle = if tests.eight { (n[3], n[4]) } else { (low, high) };
            let median = if tests.with_centre { c.max(middle.0).min(middle.1) } else { mean(middle.0, middle.1) };
            out[i] = if found { median } else { c };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::LANES;

    #[test]
    fn the_network_sorts() {
        // By the 0-1 principle it sorts everything if it sorts all sequences of zeros and ones.
        for bits in 0_u32..256 {
            let mut values: [u32; 8] = std::array::from_fn(|at| bits >> at & 1);
            for (a, b) in NETWORK {
                (values[a], values[b]) = (values[a].min(values[b]), values[a].max(values[b]));
            }
            assert!(values.is_sorted());
        }
    }

    /// What becomes of a pixel of 1000 and `more` between neighbours that differ by `noise`.
    fn corrected(methods: DefectMethods, more: i16, noise: i16, is_green: bool) -> i16 {
        let line = |spot: Option<i16>| -> Vec<i16> {
            let at = |i: i16| if i == 4 { spot.unwrap_or(1000 + noise) } else { 1000 + i % 2 * noise };
            (0..3 * LANES)
                .map(|place| at(i16::try_from(place).unwrap() - i16::try_from(LANES).unwrap()))
                .collect()
        };
        let (flat, spot) = (line(None), line(Some(1000 + more)));
        let mut lines = [[&flat[..]; 2]; 5];
        lines[2][0] = &spot;
        let defects = Defects { sets: [None, Some([methods; 2]), None], ..Defects::default() };
        let mut results = Level::all().map(|level| {
            let mut out = [0; LANES];
            correct(level, &defects, lines, 0, is_green, &mut out);
            out[4]
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first));
        first
    }

    #[test]
    fn each_method_has_its_threshold() {
        let off = DefectMethods::default();
        for is_green in [false, true] {
            // A set without methods finds nothing.
            assert_eq!(corrected(off, 2000, 0, is_green), 3000);
            let order = DefectMethods { rank_order: Some(0), ..off };
            assert_eq!(corrected(order, 1, 0, is_green), 1000);
            assert_eq!(corrected(order, -1, 0, is_green), 1000);
            assert_eq!(corrected(order, 0, 0, is_green), 1000);
            let difference = DefectMethods { rank_difference: Some([1, 10]), ..off };
            assert_eq!(corrected(difference, 161, 0, is_green), 1000);
            assert_eq!(corrected(difference, 160, 0, is_green), 1160);
            let line = DefectMethods { line: Some([10, 4]), ..off };
            assert_eq!(corrected(line, -161, 0, is_green), 1000);
            assert_eq!(corrected(line, -160, 0, is_green), 840);
            let peak = DefectMethods { peak_gradient: Some(8), ..off };
            assert_eq!(corrected(peak, 1, 0, is_green), 1000);
            let gradient = DefectMethods { rank_gradient: Some(8), ..off };
            assert_eq!(corrected(gradient, 1, 0, is_green), 1000);
            // All methods of a set must agree.
            assert_eq!(
                corrected(DefectMethods { rank_order: Some(0), ..difference }, 160, 0, is_green),
                1160
            );
        }
        // Red: ranks 0 to 5 are 1080, as columns 3 and 5 are, and ranks 6 and 7 too: those of column 4 above and below.
        let peak = DefectMethods { peak_gradient: Some(63), ..off };
        assert_eq!(corrected(peak, 81, 80, false), 1080);
        assert_eq!(corrected(peak, 80, 80, false), 1080);
    }

    #[test]
    fn the_replacement_is_a_median() {
        let base: Vec<i16> = (0..2 * LANES).map(|place| i16::try_from(place).unwrap() * 10).collect();
        let mut spot = base.clone();
        spot[LANES + 4] = 4000;
        let mut lines = [[&base[..]; 2]; 5];
        lines[2][0] = &spot;
        let result = |with_centre, eight| {
            let defects = Defects {
                fixed_set: true,
                with_centre: [with_centre; 2],
                eight: [eight; 2],
                ..Defects::default()
            };
            let mut out = [0; LANES / 2];
            correct(Level::best(), &defects, lines, 0, false, &mut out);
            assert_eq!(out[8], base[LANES + 8], "no defect");
            out[4]
        };
        // The nearest are 350, 360, 360, 370; the eight have three of 350, two of 360 and three of 370.
        assert_eq!(result(false, false), 360);
        assert_eq!(result(true, false), 360);
        assert_eq!(result(false, true), 360);
    }
}
