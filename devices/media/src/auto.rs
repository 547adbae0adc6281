//! Automatic exposure and white balance: the settings of the next frame follow from the statistics of the last.
//!
//! Both are textbook methods, for programs without their own. Exposure makes the mean of a frame's light a middle grey. White
//! balance makes the mean of its colours grey (Buchsbaum's grey-world assumption, 1980).

use std::time::Duration;

use super::isp::{GAIN_ONE, Params, Statistics};

/// The target for the mean of linear light, in 14 bits: 18 % grey.
const MIDDLE_GREY: u64 = (1 << 14) * 18 / 100;
/// The longest exposure, in percent of the frame interval.
const LONGEST: u32 = 95;
/// The largest gain, in 1/256.
const GAIN_MAX: u64 = 16 << 8;
/// The shortest exposure, in nanoseconds.
const SHORTEST: u64 = 20_000;

/// The exposure of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// Exposure time in nanoseconds.
    pub time_ns: u32,
    /// Analogue gain in 1/256.
    pub gain: u32,
}

impl Exposure {
    /// The exposure for the next frame, given the statistics of a frame with this exposure and the `interval` of frames. A
    /// longer time is preferred to a higher gain, which adds noise.
    pub(super) fn next(self, statistics: &Statistics, interval: Duration) -> Self {
        let mean = light(statistics);
        let now = u64::from(self.time_ns) * u64::from(self.gain);
        // The statistics do not show how far saturated light exceeds the range. So a step is at most a factor of four.
        let wanted = (now / mean.max(1) * MIDDLE_GREY).clamp(now / 4, now * 4);
        // A step goes half of the way, and the last small step all of it.
        let next = if wanted.abs_diff(now) > now / 16 { wanted.midpoint(now) } else { wanted };
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let longest = (interval / 100 * u64::from(LONGEST)).clamp(SHORTEST, u32::MAX.into());
        let time = (next >> 8).clamp(SHORTEST, longest);
        let gain = (next / time).clamp(256, GAIN_MAX);
        Self {
            time_ns: u32::try_from(time).unwrap_or(u32::MAX),
            gain: u32::try_from(gain).unwrap_or(u32::MAX),
        }
    }
}

/// The light of a frame. It is the mean of green, which white balance does not change, if most of the frame is neither black
/// nor saturated. Otherwise it is the mean of luma.
fn light(statistics: &Statistics) -> u64 {
    let zones = statistics.zones.as_flattened();
    let [quads, balanced, green, luma] = zones.iter().fold([0; 4], |[quads, balanced, green, luma], zone| {
        [
            quads + u64::from(zone.quads),
            balanced + u64::from(zone.balanced_quads),
            green + zone.balanced[1],
            luma + zone.luma,
        ]
    });
    let mean = if balanced > quads / 2 { green.checked_div(balanced) } else { luma.checked_div(quads) };
    mean.unwrap_or(MIDDLE_GREY)
}

/// Moves the gains of `params` a quarter of the way to those that make the mean colour of the frame grey. True if they changed.
pub(super) fn balance(params: &mut Params, statistics: &Statistics) -> bool {
    let zones = statistics.zones.as_flattened();
    let [red, green, blue] =
        [0, 1, 2].map(|channel| zones.iter().map(|zone| zone.balanced[channel]).sum::<u64>());
    let quads: u64 = zones.iter().map(|zone| u64::from(zone.balanced_quads)).sum();
    // With too little light the mean is not reliable.
    if quads < 64 || red == 0 || blue == 0 {
        return false;
    }
    let before = params.white_balance;
    let towards = |gain: u16, channel: u64| {
        // There are 225 zones of at most 2^16 quads with 14 bits each, so a sum is below 2^38.
        let wanted = u64::from(before[1]) * green / channel;
        let wanted = wanted.clamp(u64::from(GAIN_ONE) / 2, u64::from(u16::MAX));
        let gain = u64::from(gain);
        let step = wanted.abs_diff(gain).div_ceil(4);
        let next = if wanted > gain { gain + step } else { gain - step };
        u16::try_from(next).unwrap_or(u16::MAX)
    };
    params.white_balance[0] = towards(before[0], red);
    params.white_balance[3] = towards(before[3], blue);
    params.white_balance != before
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statistics of a frame of one colour, in 14 bits.
    fn flat([red, green, blue]: [u64; 3]) -> Statistics {
        let mut statistics = Statistics::default();
        for zone in statistics.zones.as_flattened_mut() {
            zone.quads = 100;
            zone.luma = 100 * (red + 2 * green + blue) / 4;
            zone.balanced_quads = 100;
            zone.balanced = [red, green, blue].map(|mean| 100 * mean);
        }
        statistics
    }

    #[test]
    fn exposure_comes_to_middle_grey_and_stays() {
        for light in [1_u64, 30, 300, 3_000] {
            let mut exposure = Exposure { time_ns: 10_000_000, gain: 256 };
            // The light in 10 ms, in 1/1000 of a full pixel.
            let seen = |exposure: Exposure| {
                let product = u64::from(exposure.time_ns) * u64::from(exposure.gain) / 256;
                (product * light / 1000 * 16_383 / 10_000_000).min(16_383)
            };
            for _ in 0..40 {
                exposure = exposure.next(&flat([seen(exposure); 3]), Duration::from_nanos(33_333_333));
            }
            let grey = seen(exposure);
            if light == 1 {
                assert_eq!((exposure.time_ns, exposure.gain), (31_666_635, 4096), "the limit");
            } else {
                assert!(grey.abs_diff(MIDDLE_GREY) < MIDDLE_GREY / 12, "{light}: {grey}");
            }
            assert!(exposure.gain == 256 || exposure.time_ns > 31_000_000, "{exposure:?}");
            let same = exposure.next(&flat([grey; 3]), Duration::from_nanos(33_333_333));
            assert!(
                same.time_ns.abs_diff(exposure.time_ns) <= exposure.time_ns / 12,
                "{exposure:?}, {same:?}"
            );
        }
    }

    #[test]
    fn colours_come_to_grey() {
        let mut params = Params::neutral();
        let [red, green, blue] = [1200_u64, 3000, 1900];
        for _ in 0..40 {
            balance(&mut params, &flat([red, green, blue]));
        }
        let [r, g, _, b] = params.white_balance.map(u64::from);
        for balanced in [red * r / g, blue * b / g] {
            assert!(balanced.abs_diff(green) < 5, "{balanced} beside {green}");
        }
        assert!(!balance(&mut params, &Statistics::default()));
    }
}
