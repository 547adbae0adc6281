//! Kernels on raw lines, with separate even and odd columns: black level, defect pixels, lens shading, white balance.

use super::{
    arith::LINEAR_MAX,
    lines::{vectors, vectors_mut},
};
use crate::simd::{LANES, kernel};

kernel! {
    /// Separates the even and odd columns of a line, shifts its samples to 14 bits, and subtracts the black levels of the two
    /// columns.
    fn split(samples: &[u16], shift: u32, black: [u16; 2], even: &mut [i16], odd: &mut [i16]) {
        let (pairs, _) = samples.as_chunks::<2>();
        let (even, odd) = (&mut even[..pairs.len()], &mut odd[..pairs.len()]);
        let max = LINEAR_MAX.unsigned_abs() >> shift;
        #[expect(clippy::cast_possible_wrap, reason = "14 bits")]
        for i in 0..pairs.len() {
            even[i] = (pairs[i][0].min(max) << shift).saturating_sub(black[0]) as i16;
            odd[i] = (pairs[i][1].min(max) << shift).saturating_sub(black[1]) as i16;
        }
    }
}

kernel! {
    /// Corrects the even or the odd columns of a line. `lines` are the nearest line above with the same colours, the line
    /// itself, and the nearest one below. Defect pixels are replaced, and lens shading is corrected by gains that lie the part
    /// `down` of the way from `gains[0]` to `gains[1]`. The result goes to `plain`, and with white balance to `balanced`.
    fn correct<V>(
        lines: [&[i16]; 3],
        threshold: i16,
        gains: [&[i16]; 2],
        down: i16,
        balance: u16,
        plain: &mut [i16],
        balanced: &mut [i16],
        count: usize,
    ) {
        let count = count / LANES;
        let line = |line: usize, x: isize| vectors(lines[line], x, count);
        let (nw, n, ne) = (line(0, -1), line(0, 0), line(0, 1));
        let (w, c, e) = (line(1, -1), line(1, 0), line(1, 1));
        let (sw, s, se) = (line(2, -1), line(2, 0), line(2, 1));
        let (upper, lower) = (&gains[0].as_chunks().0[..count], &gains[1].as_chunks().0[..count]);
        let (plain, balanced) = (vectors_mut(plain, count), vectors_mut(balanced, count));
        let (threshold, down) = (V::splat(threshold), V::splat(down));
        let balance = V::splat(balance.cast_signed());
        // A value of 14 bits times a gain in units of 2^-14.
        let amplify = |value: V, gain: V| value.shl(2).high(gain).min_unsigned(V::splat(LINEAR_MAX));
        for i in 0..count {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let (nw, n, ne) = (load(nw), load(n), load(ne));
                let (w, c, e) = (load(w), load(c), load(e));
                let (sw, s, se) = (load(sw), load(s), load(se));
                let most = nw.max(n).max(ne.max(w)).max(e.max(sw).max(s.max(se)));
                let least = nw.min(n).min(ne.min(w)).min(e.min(sw).min(s.min(se)));
                let value = c.if_greater(most.saturating_add(threshold), most, c);
                let value = least.saturating_sub(threshold).if_greater(c, least, value);
                // Gains of the mesh are in units of 1/8192 here: the difference of two gains needs a bit for its sign.
                let (upper, lower) = (load(upper), load(lower));
                let gain = upper.add(lower.sub(upper).scale(down)).shl(1);
                let value = amplify(value, gain);
                value.store(&mut plain[i], step);
                amplify(value, balance).store(&mut balanced[i], step);
            }
        }
    }
}
