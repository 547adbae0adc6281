//! Properties: the output does not depend on instructions or threads, and no input causes a panic.

use proptest::{array::uniform4, collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    FORMATS,
    yuv::{Encoding, Quantization, YcbcrEncoding},
};

fn params() -> impl Strategy<Value = Params> {
    let tone = vec(0..=16_320_u16, TONE_POINTS)
        .prop_map(|points| ToneCurve { points: points.try_into().expect("so many were asked for") });
    let mesh = any::<Option<u64>>().prop_map(|seed| {
        let seed = seed?;
        let gain = |y: usize, x: usize, channel: usize| {
            let word = crate::random::split_mix(seed, (y << 16 | x << 8 | channel) as u64).to_le_bytes();
            u16::from_le_bytes([word[0], word[1]])
        };
        let channels = |y, x| std::array::from_fn(|channel| gain(y, x, channel));
        Some(Box::new(std::array::from_fn(|y| std::array::from_fn(|x| channels(y, x)))))
    });
    let detail = (0..=16_320_u16, 0..0x8000_u16, 0..0x8000_u16, 0..=16_320_u16)
        .prop_map(|(threshold, denoise, sharpen, limit)| Detail { threshold, denoise, sharpen, limit });
    let encoding = (
        select(vec![YcbcrEncoding::Bt601, YcbcrEncoding::Bt709]),
        select(vec![Quantization::Limited, Quantization::Full]),
    )
        .prop_map(|(ycbcr, quantization)| Encoding { ycbcr, quantization });
    let raw = (
        uniform4(0..2000_u16),
        any::<u16>(),
        mesh,
        any::<[u16; 2]>(),
        any::<[u16; 4]>(),
        0..=DIGITAL_GAIN_MAX,
    );
    let picture = (any::<[[i16; 3]; 3]>(), any::<[i16; 3]>(), tone, detail, encoding);
    (raw, picture).prop_map(|(raw, picture)| {
        let (black_level, threshold, lens_shading, awb_range, white_balance, digital_gain) = raw;
        let (colour_matrix, colour_offset, tone_curve, detail, encoding) = picture;
        Params {
            black_level,
            defect_pixel: DefectPixel { threshold: threshold >> 4 },
            lens_shading,
            awb_range,
            white_balance,
            digital_gain,
            colour_matrix,
            colour_offset,
            tone_curve,
            detail,
            encoding,
        }
    })
}

/// Half of the parameters are realistic. Many of the others give black or white.
fn any_params() -> impl Strategy<Value = Params> {
    let plain = Params::default_for(&crate::sensor::colour(), [64, 48]);
    prop_oneof![Just(plain), params()]
}

fn even(range: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = u32> {
    range.prop_map(|length| length / 2 * 2)
}

fn configuration() -> impl Strategy<Value = (Input, Output)> {
    let phases = select(vec![Phase::Rggb, Phase::Grbg, Phase::Gbrg, Phase::Bggr]);
    let formats: Vec<_> = FORMATS.iter().filter(|format| !format.is_raw()).collect();
    let part = |whole: u32| {
        even(32..=whole)
            .prop_flat_map(move |length| (even(0..=whole - length), Just(length), even(32..=length)))
    };
    (even(32..=210), even(32..=80), phases, select(vec![8, 10, 12, 14]), select(formats)).prop_flat_map(
        move |(width, height, phase, bits, format)| {
            let input = Input { size: [width, height], phase, bits };
            (part(width), part(height), any::<bool>()).prop_map(
                move |((left, width, out_width), (top, height, out_height), is_scaled)| {
                    let crop = Rect { left, top, width, height };
                    let size = if is_scaled { [out_width, out_height] } else { [width, height] };
                    (input, Output { crop, size, format })
                },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn instructions_and_threads_make_no_difference(
        (input, output) in configuration(),
        params in any_params(),
        seed in any::<u64>(),
        threads in 2..5_usize,
        mask in select(vec![0x3ff_u16, 0xfff, 0xffff]),
    ) {
        // Also samples with more bits than they may have.
        let read = |y: u32, samples: &mut [u16]| {
            for (sample, x) in samples.iter_mut().zip(0_u64..) {
                let word = crate::random::split_mix(seed, u64::from(y) << 32 | x >> 2).to_le_bytes();
                let at = 2 * (x % 4) as usize;
                *sample = u16::from_le_bytes([word[at], word[at + 1]]) & mask;
            }
        };
        let mut isp = Isp::new(input, output, &params, 1).unwrap();
        isp.set_level(Level::SCALAR);
        let expected = process(&mut isp, &read);
        for level in Level::all() {
            isp.set_level(level);
            prop_assert!(process(&mut isp, &read) == expected, "{}", level.name());
        }
        let mut isp = Isp::new(input, output, &params, threads).unwrap();
        prop_assert!(process(&mut isp, &read) == expected, "{} threads", threads);
    }
}
