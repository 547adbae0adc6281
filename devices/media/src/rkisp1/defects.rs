//! Defect pixel correction.
//!
//! A pixel has eight neighbours of its colour: for red and blue those two columns or lines away, with the four that share its
//! line or column as the nearest; for green the four diagonal ones, which are the nearest, and four two columns or lines away.
//! They are sorted; rank 0 is the smallest. The methods find a pixel like this:
//!
//! - Peak gradient: its distance from the median of the neighbours exceeds their mean distance from it times the factor over 8.
//! - Line check: its distance from the mean of the two neighbours of its line exceeds the threshold times 16, and half of the
//!   difference of the two times the factor over 8.
//! - Rank order: it is above or below all of the neighbours but `limit`.
//! - Rank neighbour difference: it is above or below the neighbour of rank `offset`, from either end, by more than the
//!   threshold times 16.
//! - Rank gradient: its distance from the range of all neighbours exceeds a quarter of the difference of ranks 6 and 1 times
//!   the factor over 8.
//!
//! The fixed set finds a pixel whose distance from the range of its neighbours exceeds the size of this range.

use super::params::{DefectMethods, Defects};
use crate::{
    isp::lines::{vectors, vectors_mut},
    simd::{LANES, Level, Vector, kernel},
};

/// Corrects `count` columns of one parity of a line, which are rounded up to whole vectors. `lines` are the padded even and odd
/// columns of five lines around it.
pub(super) fn correct(
    level: Level,
    defects: &Defects,
    lines: [[&[i16]; 2]; 5],
    parity: usize,
    is_green: bool,
    out: &mut [i16],
    count: usize,
) {
    let kind = usize::from(!is_green);
    let count = count.div_ceil(LANES);
    let own = |line: usize, x: isize| vectors(lines[line][parity], x, count);
    let cross = [own(0, 0), own(2, -1), own(2, 1), own(4, 0)];
    let (near, far) = if is_green {
        let beside =
            |line: usize, x: isize| vectors(lines[line][1 - parity], x + parity.cast_signed(), count);
        ([beside(1, -1), beside(1, 0), beside(3, -1), beside(3, 0)], cross)
    } else {
        (cross, [own(0, -1), own(0, 1), own(4, -1), own(4, 1)])
    };
    let methods = |set: [DefectMethods; 2]| set[kind];
    let is_used = |methods: &DefectMethods| *methods != DefectMethods::default();
    let tests = Tests {
        sets: defects.sets.map(|set| set.map(methods).filter(is_used)),
        fixed_set: defects.fixed_set,
        with_centre: defects.with_centre[kind],
        eight: defects.eight[kind],
    };
    replace(level, own(2, 0), near, far, [own(2, -1), own(2, 1)], &tests, vectors_mut(out, count));
}

/// What finds and replaces a pixel.
pub(super) struct Tests {
    sets: [Option<DefectMethods>; 3],
    fixed_set: bool,
    with_centre: bool,
    eight: bool,
}

/// A pixel with its neighbours by rank, and what the methods compare.
struct Pixel<V> {
    value: V,
    ranks: [V; 8],
    /// The distance from the median, and the mean distance of the neighbours from it.
    peak: V,
    deviation: V,
    /// The distance from the range of the neighbours, negative inside it, and a quarter of the difference of ranks 6 and 1.
    outside: V,
    spread: V,
    /// The distance from the mean of the neighbours of the line, and half of their difference.
    step: V,
    slope: V,
}

impl<V: Vector> Pixel<V> {
    #[inline(always)]
    fn new(value: V, mut ranks: [V; 8], [west, east]: [V; 2]) -> Self {
        sort(&mut ranks);
        let median = middle(ranks[3], ranks[4]);
        let sum = ranks.into_iter().fold(V::splat(0), |sum, rank| sum.add(distance(rank, median)));
        Self {
            value,
            ranks,
            peak: distance(value, median),
            deviation: sum.shr::<3>(),
            outside: value.sub(ranks[7]).max(ranks[0].sub(value)),
            spread: ranks[6].sub(ranks[1]).shr::<2>(),
            step: distance(value, middle(west, east)),
            slope: distance(west, east).shr::<1>(),
        }
    }

    /// A mask of the pixels that all methods of a set find.
    #[inline(always)]
    fn found(&self, set: &DefectMethods) -> V {
        let mut found = V::splat(-1);
        if let Some(factor) = set.peak_gradient {
            found = found.max(exceeds(self.peak, eighths(self.deviation, factor)));
        }
        if let Some([threshold, factor]) = set.line {
            let limit = eighths(self.slope, factor).max(V::splat(i16::from(threshold) << 4));
            found = found.max(exceeds(self.step, limit));
        }
        if let Some(limit) = set.rank_order {
            found = found.max(exceeds(self.beyond(limit), V::splat(0)));
        }
        if let Some([offset, threshold]) = set.rank_difference {
            found = found.max(exceeds(self.beyond(offset), V::splat(i16::from(threshold) << 4)));
        }
        if let Some(factor) = set.rank_gradient {
            found = found.max(exceeds(self.outside, eighths(self.spread, factor)));
        }
        found
    }

    /// The distance from the range of the neighbours without `rank` of them at each end.
    #[inline(always)]
    fn beyond(&self, rank: u8) -> V {
        let [low, high] = match rank & 3 {
            0 => [self.ranks[0], self.ranks[7]],
            1 => [self.ranks[1], self.ranks[6]],
            2 => [self.ranks[2], self.ranks[5]],
            _ => [self.ranks[3], self.ranks[4]],
        };
        self.value.sub(high).max(low.sub(self.value))
    }
}

/// Sorts eight values in each lane, with the comparators of Batcher's odd-even merge sort.
#[inline(always)]
fn sort<V: Vector>(values: &mut [V; 8]) {
    // A call each, not a loop over a table, so that the values stay in registers.
    let mut order = |a: usize, b: usize| {
        (values[a], values[b]) = (values[a].min(values[b]), values[a].max(values[b]));
    };
    order(0, 1);
    order(2, 3);
    order(4, 5);
    order(6, 7);
    order(0, 2);
    order(1, 3);
    order(4, 6);
    order(5, 7);
    order(1, 2);
    order(5, 6);
    order(0, 4);
    order(1, 5);
    order(2, 6);
    order(3, 7);
    order(2, 4);
    order(3, 5);
    order(1, 2);
    order(3, 4);
    order(5, 6);
}

#[inline(always)]
fn distance<V: Vector>(a: V, b: V) -> V {
    a.sub(b).max(b.sub(a))
}

/// The mean of two samples, rounded down.
#[inline(always)]
fn middle<V: Vector>(a: V, b: V) -> V {
    a.add(b).shr::<1>()
}

/// A difference of samples times a factor of 6 bits, over 8.
#[inline(always)]
fn eighths<V: Vector>(difference: V, factor: u8) -> V {
    difference.shl(3).scale(V::splat(i16::from(factor & 0x3f) << 9))
}

/// A mask, which is -1 where `value` exceeds the limit. The larger of two masks is their conjunction.
#[inline(always)]
fn exceeds<V: Vector>(value: V, limit: V) -> V {
    value.if_greater(limit, V::splat(-1), V::splat(0))
}

kernel! {
    fn replace<V>(
        centre: &[[i16; LANES]],
        near: [&[[i16; LANES]]; 4],
        far: [&[[i16; LANES]]; 4],
        beside: [&[[i16; LANES]]; 2],
        tests: &Tests,
        out: &mut [[i16; LANES]],
    ) {
        for i in 0..out.len() {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let value = load(centre);
                let [a, b, c, d] = near.map(load);
                let [e, f, g, h] = far.map(load);
                let pixel = Pixel::new(value, [a, b, c, d, e, f, g, h], beside.map(load));
                let mut found = V::splat(0);
                if tests.fixed_set {
                    found = exceeds(pixel.outside, pixel.ranks[7].sub(pixel.ranks[0]));
                }
                for set in tests.sets.iter().flatten() {
                    found = found.or(pixel.found(set));
                }
                let [low, high] = if tests.eight {
                    [pixel.ranks[3], pixel.ranks[4]]
                } else {
                    // The two middle ones of the nearest.
                    let [first, second] = [a.min(b).max(c.min(d)), a.max(b).min(c.max(d))];
                    [first.min(second), first.max(second)]
                };
                let median = if tests.with_centre { value.max(low).min(high) } else { middle(low, high) };
                V::splat(0).if_greater(found, median, value).store(&mut out[i], step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vector::Scalar;

    #[test]
    fn the_network_sorts() {
        // By the 0-1 principle it sorts everything if it sorts all sequences of zeros and ones.
        for bits in 0_i16..256 {
            let mut values = std::array::from_fn(|at| Scalar::splat(bits >> at & 1));
            sort(&mut values);
            let sorted = values.map(|value| {
                let mut lanes = [0; LANES];
                value.store(&mut lanes, 0);
                lanes[0]
            });
            assert!(
                sorted.is_sorted()
                    && sorted.iter().sum::<i16>().cast_unsigned()
                        == u16::try_from(bits.count_ones()).unwrap()
            );
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
            let mut out = [0; 3 * LANES];
            correct(level, &defects, lines, 0, is_green, &mut out, LANES);
            out[LANES + 4]
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
        let around = |values: [i16; 3]| {
            let mut line = vec![0; 3 * LANES];
            line[LANES + 3..][..3].copy_from_slice(&values);
            line
        };
        let (above, here, below) =
            (around([500, 110, 510]), around([200, 4000, 300]), around([520, 410, 530]));
        let mut lines = [[&above[..]; 2]; 5];
        (lines[2][0], lines[4][0]) = (&here, &below);
        // The nearest are 110, 200, 300 and 410; all are 110, 200, 300, 410, 500, 510, 520 and 530.
        for (with_centre, eight, expected) in
            [(false, false, 250), (true, false, 300), (false, true, 455), (true, true, 500)]
        {
            let defects = Defects {
                fixed_set: true,
                with_centre: [!with_centre, with_centre],
                eight: [!eight, eight],
                ..Defects::default()
            };
            for level in Level::all() {
                let mut out = [0; 3 * LANES];
                correct(level, &defects, lines, 0, false, &mut out, LANES);
                assert_eq!(out[LANES + 4], expected);
            }
        }
    }
}
