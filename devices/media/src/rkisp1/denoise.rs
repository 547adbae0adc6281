//! The denoising pre-filter: a bilateral filter of pixels of the same colour.
//!
//! The weight of a neighbour is its spatial weight times what is left of 64 after subtracting its distance from the pixel,
//! times the inverse noise level, times the inverse strength, over 2^16. The weight of the pixel itself is 16 times 64, and
//! what the neighbours have lost. What a neighbour adds is rounded to an eighth of a code. The noise level is looked up at the
//! pixel's value without the gains, and the gains raise it.

use super::{
    arith::MOST,
    curve::{EQUIDISTANT, LOGARITHMIC, Table},
    params::{ChannelGains, Denoise},
};
use crate::{
    isp::lines::{vectors, vectors_mut},
    simd::{LANES, Level, kernel},
};

/// The lines that the filter reads: four above and four below.
const LINES: usize = 9;

/// The lens shading's gain of 1.
const LENS_ONE: i32 = 1024;

/// The neighbours of a pixel at most: green has the most.
const NEIGHBOURS: usize = 40;

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
    /// The inverse noise of the pixels of a line in whole vectors, and the gains of the lens shading.
    line: Vec<i16>,
    lens: Vec<i16>,
}

impl Denoiser {
    /// Room for lines with `half` even and as many odd columns.
    pub(super) fn resize(&mut self, half: usize) {
        (self.line, self.lens) = (vec![0; half.next_multiple_of(LANES)], vec![0; half]);
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

    /// Filters the columns of one parity of a line, rounded up to whole vectors. `lines` are the padded even and odd
    /// columns of the lines around it.
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
        let count = self.line.len() / LANES;
        let centre = vectors(lines[LINES / 2][parity], 0, count);
        let out = vectors_mut(out, count);
        if !params.channels[channel] {
            out.copy_from_slice(centre);
            return;
        }
        let table = &self.inverse[channel];
        let values = self.line.iter_mut().zip(centre.as_flattened());
        if has_lens {
            for ((inverse, &value), &gain) in values.zip(&self.lens) {
                let gain = i32::from(gain).max(1);
                *inverse = divided(table.at(divided(value.into(), LENS_ONE, gain)).into(), LENS_ONE, gain);
            }
        } else {
            values.for_each(|(inverse, &value)| *inverse = table.at(value));
        }
        let is_green = matches!(channel, 1 | 2);
        let (shape, weights) =
            if is_green { (&GREEN[..], params.green) } else { (&RED_BLUE[..], params.red_blue) };
        let mut neighbours = [(centre, 0); NEIGHBOURS];
        let mut rest = neighbours.iter_mut();
        let mut total = 16;
        for &(across, down, weight) in shape {
            if !is_green && params.narrow && across == 6 {
                continue;
            }
            let weight = i32::from(weights[usize::from(weight)] & 0x1f);
            // The quadrants share the weights. A neighbour on an axis is in two of them.
            for x in [-across, across].into_iter().skip(usize::from(across == 0)) {
                for y in [-down, down].into_iter().skip(usize::from(down == 0)) {
                    let place = isize::from(x) + parity.cast_signed();
                    let line = lines[(LINES / 2).wrapping_add_signed(y.into())];
                    let line = vectors(line[place.rem_euclid(2).cast_unsigned()], place.div_euclid(2), count);
                    rest.by_ref().take(1).for_each(|neighbour| *neighbour = (line, weight));
                    total += weight;
                }
            }
        }
        // A weight is less than half of the total, as at least two neighbours have it.
        let part = |weight: i32| i16::try_from((weight << 16) / total).unwrap_or(i16::MAX);
        let neighbours = neighbours.map(|(line, weight)| (line, part(weight)));
        smooth(level, centre, self.line.as_chunks().0, &neighbours, out);
    }
}

/// `value * one / gain`, at most the largest sample.
fn divided(value: i32, one: i32, gain: i32) -> i16 {
    i16::try_from(value * one / gain).unwrap_or(MOST).min(MOST)
}

kernel! {
    /// Adds the weighted differences of the neighbours to the pixels. A neighbour has its weight in units of 2^-16 of the
    /// total.
    fn smooth<V>(
        centre: &[[i16; LANES]],
        inverse: &[[i16; LANES]],
        neighbours: &[(&[[i16; LANES]], i16); NEIGHBOURS],
        out: &mut [[i16; LANES]],
    ) {
        for i in 0..out.len() {
            for step in 0..V::STEPS {
                let c = V::load(&centre[i], step);
                // The upper half of the product with 4 times a distance is the product over 2^10.
                let inverse = V::load(&inverse[i], step).shl(4);
                // The sum of the changes, in units of 1/8.
                let mut sum = V::splat(0);
                for (line, part) in neighbours.iter().filter(|(_, part)| *part > 0) {
                    let change = V::load(&line[i], step).sub(c);
                    let distance = change.max(V::splat(0).sub(change));
                    let left = V::splat(64).sub(distance.shl(2).high(inverse).min_unsigned(V::splat(64)));
                    sum = sum.add(change.shl(3).scale(left.shl(8).scale(V::splat(*part))));
                }
                c.add(sum.add(V::splat(4)).shr::<3>()).clamp(0, MOST).store(&mut out[i], step);
            }
        }
    }
}
