//! The denoising pre-filter: a bilateral filter of pixels of the same colour.
//!
//! The weight of a neighbour is its spatial weight times what is left of 64 after subtracting its distance from the pixel, times the
//! inverse noise level, times the inverse strength, over 2^16. The weight of the pixel itself is 16 times 64, and what the neighbours
//! have lost. The noise level is looked up at the pixel's value without the gains, and the gains raise it.

use super::{
    arith::{MOST, W, distance, wide},
    curve::{EQUIDISTANT, LOGARITHMIC, Table},
    params::{ChannelGains, Denoise},
};
use crate::{
    isp::lines::at,
    simd::{Level, kernel},
};

/// The lines that the filter reads: four above and four below.
const LINES: usize = 9;

/// The lens shading's gain of 1.
const LENS_ONE: i32 = 1024;

/// A neighbour: its distance in columns and lines, and the number of its weight.
type Tap = (i8, i8, u8);

/// The neighbours of green in the quadrant of positive distances, as libcamera's `dpf.cpp` shows them.
const GREEN: [Tap; 12] = [
    (2, 0, 1),
    (4, 0, 3),
    (1, 1, 0),
    (3, 1, 2),
    (0, 2, 1),
    (2, 2, 2),
    (4, 2, 4),
    (1, 3, 2),
    (3, 3, 4),
    (0, 4, 3),
    (2, 4, 4),
    (4, 4, 5),
];

/// Those of red and blue. The last column is not in the narrow kernel.
const RED_BLUE: [Tap; 11] = [
    (2, 0, 0),
    (4, 0, 2),
    (6, 0, 4),
    (0, 2, 0),
    (2, 2, 1),
    (4, 2, 3),
    (6, 2, 4),
    (0, 4, 2),
    (2, 4, 3),
    (4, 4, 4),
    (6, 4, 5),
];

/// The filter's tables and buffers.
#[derive(Debug, Default)]
pub(super) struct Denoiser {
    of: Option<(Denoise, Option<[u16; 4]>)>,
    /// The noise function, and for each channel its value times the inverse strength, with the channel's gain.
    noise: Table,
    inverse: [Table; 4],
    /// The inverse noise of the pixels of a line, the sums, and the gains of the lens shading.
    line: Vec<i16>,
    sums: Vec<i32>,
    lens: Vec<i16>,
}

impl Denoiser {
    /// Room for lines with `half` even and as many odd columns.
    pub(super) fn resize(&mut self, half: usize) {
        (self.line, self.sums, self.lens) = (vec![0; half], vec![0; half], vec![0; half]);
    }

    /// Adapts to parameters.
    pub(super) fn set(&mut self, params: &Denoise, balance: Option<[u16; 4]>) {
        let of = Some((*params, balance));
        if self.of == of {
            return;
        }
        self.of = of;
        self.noise.set(if params.logarithmic { LOGARITHMIC } else { EQUIDISTANT }, params.noise, 0x3ff);
        let gains = match params.gains.channels {
            ChannelGains::One => [256; 4],
            ChannelGains::WhiteBalance => balance.unwrap_or([256; 4]).map(|gain| gain & 0x3ff),
            ChannelGains::Fixed(gains) => gains.map(|gain| gain & 0xfff),
        };
        for (channel, (table, gain)) in self.inverse.iter_mut().zip(gains).enumerate() {
            let gain = i32::from(gain.max(1));
            let strength = i32::from(params.inverse_strength[[0, 1, 1, 2][channel]]);
            table.fill(|sample| {
                let noise = self.noise.at(divided(i32::from(sample), 256, gain));
                divided(i32::from(noise) * strength / 64, 256, gain)
            });
        }
    }

    /// The gains of the lens shading at the pixels of a line, to be written.
    pub(super) fn lens_mut(&mut self) -> &mut [i16] {
        &mut self.lens
    }

    /// Filters the columns of one parity of a line. `lines` are the even and odd columns of the lines around it.
    #[expect(clippy::too_many_arguments, reason = "a line, and what is done to it")]
    pub(super) fn apply(
        &mut self,
        level: Level,
        params: &Denoise,
        lines: [[&[i16]; 2]; LINES],
        parity: usize,
        channel: usize,
        has_lens: bool,
        out: &mut [i16],
    ) {
        let count = out.len();
        let centre = at(lines[LINES / 2][parity], 0, count);
        if !params.channels[channel] {
            out.copy_from_slice(centre);
            return;
        }
        let table = &self.inverse[channel];
        if has_lens {
            for ((inverse, &value), &gain) in self.line.iter_mut().zip(centre).zip(&self.lens) {
                let gain = i32::from(gain).max(1);
                *inverse = divided(table.at(divided(value.into(), LENS_ONE, gain)).into(), LENS_ONE, gain);
            }
        } else {
            self.line.iter_mut().zip(centre).for_each(|(inverse, &value)| *inverse = table.at(value));
        }
        self.sums.fill(0);
        let is_green = matches!(channel, 1 | 2);
        let (taps, weights) =
            if is_green { (&GREEN[..], params.green) } else { (&RED_BLUE[..], params.red_blue) };
        let mut total = 16;
        for &(across, down, weight) in taps {
            let weight = weights[usize::from(weight)] & 0x1f;
            if weight == 0 || !is_green && params.narrow && across == 6 {
                continue;
            }
            // The quadrants share the weights. A neighbour on an axis is in two of them.
            for x in [-across, across].into_iter().skip(usize::from(across == 0)) {
                for y in [-down, down].into_iter().skip(usize::from(down == 0)) {
                    let place = isize::from(x) + parity.cast_signed();
                    let line = lines[(LINES / 2).wrapping_add_signed(y.into())];
                    let neighbour = at(line[place.rem_euclid(2).cast_unsigned()], place.div_euclid(2), count);
                    add(level, centre, neighbour, &self.line, i16::from(weight), &mut self.sums);
                    total += i32::from(weight);
                }
            }
        }
        finish(level, centre, &self.sums, total, out);
    }
}

/// `value * one / gain`, at most the largest sample.
fn divided(value: i32, one: i32, gain: i32) -> i16 {
    i16::try_from(value * one / gain).unwrap_or(MOST).min(MOST)
}

kernel! {
    /// Adds the weighted differences of a neighbour to the sums.
    fn add(centre: &[i16], neighbour: &[i16], inverse: &[i16], weight: i16, sums: &mut [i32]) {
        for (((sum, &c), &n), &inverse) in sums.iter_mut().zip(centre).zip(neighbour).zip(inverse) {
            let lost = (wide(distance(n, c)) * wide(inverse)).0 >> 10;
            let left = W(64) - W(lost.min(64));
            *sum = sum.wrapping_add((wide(weight) * left * (wide(n) - wide(c))).0);
        }
    }
}

kernel! {
    /// The pixels with their sums, which are divided by 64 times `total`.
    fn finish(centre: &[i16], sums: &[i32], total: i32, out: &mut [i16]) {
        #[expect(clippy::cast_precision_loss, reason = "it is below 2^17")]
        let factor = 1.0 / (64 * total) as f32;
        for ((out, &c), &sum) in out.iter_mut().zip(centre).zip(sums) {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a fraction of a code is lost")]
            // The offset makes the value positive, where the conversion rounds down.
            let change = (sum as f32 * factor + 4096.5) as i32 - 4096;
            *out = super::arith::sample(wide(c) + W(change));
        }
    }
}
