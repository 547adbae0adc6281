//! Kernels on raw lines, whose even and odd columns lie apart: black level, defect pixels, lens shading, white balance.

use super::{
    arith::{LINEAR_MAX, add, amplify, scale, sub},
    level::kernel,
    lines::{LANES, at},
};

kernel! {
    /// Takes a line apart, brings its samples to 14 bits by `shift`, and subtracts the black levels of the two columns.
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
    /// Half a line, between the nearest above and below that have its colours: replaces defect pixels, undoes the lens's
    /// shading, whose gains are part `down` of the way from `gains[0]` to `gains[1]`, and stores the result in `plain`, and
    /// white-balanced in `balanced`.
    fn correct(
        lines: [&[i16]; 3],
        threshold: i16,
        gains: [&[i16]; 2],
        down: i16,
        balance: u16,
        plain: &mut [i16],
        balanced: &mut [i16],
        count: usize,
    ) {
        let [nw, n, ne] = [-1, 0, 1].map(|x| at(lines[0], x, count));
        let [w, c, e] = [-1, 0, 1].map(|x| at(lines[1], x, count));
        let [sw, s, se] = [-1, 0, 1].map(|x| at(lines[2], x, count));
        let [upper, lower] = gains.map(|gains| &gains[..count]);
        let (plain, balanced) = (&mut plain[LANES..][..count], &mut balanced[LANES..][..count]);
        for i in 0..count {
            let most = nw[i].max(n[i]).max(ne[i]).max(w[i]).max(e[i]).max(sw[i].max(s[i]).max(se[i]));
            let least = nw[i].min(n[i]).min(ne[i]).min(w[i]).min(e[i]).min(sw[i].min(s[i]).min(se[i]));
            let value = c[i];
            let value = if value > most.saturating_add(threshold) { most } else { value };
            let value = if value < least.saturating_sub(threshold) { least } else { value };
            let gain = add(upper[i], scale(sub(lower[i], upper[i]), down));
            // Gains of the mesh are in steps of 1/8192 here: their differences have a sign.
            #[expect(clippy::cast_sign_loss, reason = "a gain between two is not negative")]
            let value = amplify(value, (gain as u16) << 1);
            plain[i] = value;
            balanced[i] = amplify(value, balance);
        }
    }
}
