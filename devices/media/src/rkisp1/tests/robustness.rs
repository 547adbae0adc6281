//! Windows, frames that do not fit, abort, and any parameters.

use super::*;

/// Parameters with every block on.
fn random(seed: u64) -> Params {
    let mut index = 0;
    let mut next = || {
        index += 1;
        split_mix(seed, index)
    };
    // Half of the values are small, as most registers' are.
    let mut word = || {
        let value = next();
        let bits = if value >> 63 == 0 { value & 0x7f } else { value & 0xffff };
        u16::try_from(bits).unwrap()
    };
    macro_rules! bytes {
        () => {
            std::array::from_fn(|_| word().to_le_bytes()[0])
        };
    }
    macro_rules! words {
        () => {
            std::array::from_fn(|_| word())
        };
    }
    macro_rules! signed {
        () => {
            std::array::from_fn(|_| word().cast_signed())
        };
    }
    macro_rules! flags {
        () => {
            std::array::from_fn(|_| word() & 1 == 1)
        };
    }
    macro_rules! window {
        () => {{
            let [left, top, width, height] = words!();
            (word() & 3 > 0).then_some(Window { left, top, width, height })
        }};
    }
    macro_rules! sometimes {
        ($value:expr) => {
            (word() & 3 > 0).then_some($value)
        };
    }
    macro_rules! methods {
        () => {
            DefectMethods {
                peak_gradient: sometimes!(word().to_le_bytes()[0]),
                line: sometimes!(bytes!()),
                rank_order: sometimes!(word().to_le_bytes()[0]),
                rank_difference: sometimes!(bytes!()),
                rank_gradient: sometimes!(word().to_le_bytes()[0]),
            }
        };
    }
    let [a, b, c, d, e, f, g, h]: [u8; 8] = bytes!();
    let [p, q, r]: [bool; 3] = flags!();
    Params {
        black_level: sometimes!(BlackLevel {
            measured: p,
            fixed: signed!(),
            windows: [window!(), window!()],
            samples: a
        }),
        degamma: sometimes!(Degamma { intervals: bytes!(), curves: [words!(), words!(), words!()] }),
        lens_shading: sometimes!(LensShading {
            gains: std::array::from_fn(|_| std::array::from_fn(|_| words!())),
            x_sizes: words!(),
            y_sizes: words!(),
            x_gradients: words!(),
            y_gradients: words!(),
        }),
        white_balance: sometimes!(words!()),
        defects: sometimes!(Defects {
            sets: std::array::from_fn(|_| sometimes!([methods!(), methods!()])),
            fixed_set: q,
            with_centre: flags!(),
            eight: flags!(),
        }),
        denoise: sometimes!(Denoise {
            channels: flags!(),
            green: bytes!(),
            red_blue: bytes!(),
            narrow: p,
            noise: words!(),
            logarithmic: q,
            inverse_strength: bytes!(),
            gains: NoiseGains {
                channels: [ChannelGains::One, ChannelGains::WhiteBalance, ChannelGains::Fixed(words!())]
                    [usize::from(b % 3)],
                lens: r,
            },
        }),
        demosaic: Demosaic { bypass: c & 7 == 7, threshold: d },
        filter: sometimes!(Filter {
            dynamic: p,
            green_stage: e,
            chroma_across: f,
            chroma_down: g,
            blur_thresholds: words!(),
            sharp_thresholds: words!(),
            weight: bytes!(),
            blur_1: a,
            blur_0: b,
            mid: c,
            sharp_0: d,
            sharp_1: h,
        }),
        cross_talk: CrossTalk { matrix: [signed!(), signed!(), signed!()], offset: signed!() },
        gamma: sometimes!(GammaOut { logarithmic: r, points: words!() }),
        colour_space: ColourSpace { matrix: [signed!(), signed!(), signed!()], full_luma: p, full_chroma: q },
        colour_processing: sometimes!(ColourProcessing {
            contrast: a,
            brightness: b.cast_signed(),
            saturation: c,
            hue: d.cast_signed(),
            full_luma_in: p,
            full_luma_out: q,
            full_chroma_out: r,
        }),
        effect: sometimes!(Effect {
            kind: {
                let matrix = std::array::from_fn(|_| bytes!().map(u8::cast_signed));
                [
                    EffectKind::BlackWhite,
                    EffectKind::Negative,
                    EffectKind::Sepia([e, f].map(u8::cast_signed)),
                    EffectKind::ColourSelection { colours: e, threshold: f },
                    EffectKind::Emboss(matrix),
                    EffectKind::Sketch(matrix),
                ][usize::from(g % 6)]
            },
            full: r,
        }),
        white: window!().map(|window| WhiteMeasure {
            window,
            limits: if p {
                WhiteLimits::Rgb(bytes!())
            } else {
                WhiteLimits::Ycbcr {
                    min_y: a,
                    max_y: q.then_some(b),
                    min_c: c,
                    max_sum: d,
                    reference: bytes!(),
                }
            },
            frames: e,
        }),
        exposure: sometimes!(ExposureMeasure { sum: p, corner: words!(), cell: words!() }),
        histogram: sometimes!(HistogramMeasure {
            values: [HistogramValues::Rgb, HistogramValues::Component(f), HistogramValues::Luma]
                [usize::from(g % 3)],
            step: h,
            corner: words!(),
            cell: words!(),
            weights: bytes!(),
        }),
        focus: sometimes!(FocusMeasure {
            windows: [window!(), window!(), window!()],
            threshold: word(),
            shifts: bytes!(),
        }),
    }
}

#[test]
fn any_parameters_give_a_picture_that_does_not_depend_on_instructions() {
    let mut isps: Vec<Isp> = Level::all()
        .map(|level| {
            let mut isp = Isp::default();
            isp.set_level(level);
            isp
        })
        .collect();
    for seed in 0..300 {
        let params = random(seed);
        let shape = split_mix(seed, 0).to_le_bytes().map(u32::from);
        let frame = Frame {
            size: [16 + shape[0] / 2, 16 + shape[1] / 4],
            phase: [Phase::Rggb, Phase::Grbg, Phase::Gbrg, Phase::Bggr][shape[2] as usize % 4],
            window: Rect {
                left: shape[3] / 16,
                top: shape[4] / 16,
                width: 16 + shape[5],
                height: 16 + shape[6],
            },
        };
        let Some(frame) = frame.fitted() else { continue };
        let of = |x: u32, y: u32| {
            let [low, high, kind, ..] = split_mix(seed + 1000, u64::from(y * 1000 + x)).to_le_bytes();
            if kind == 0 { 4095 } else { u16::from_le_bytes([low, high]) >> (seed % 5) }
        };
        let mut results = isps.iter_mut().map(|isp| process(isp, &frame, &params, of));
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first), "{seed}");
    }
}

#[test]
fn an_isp_takes_frames_of_different_sizes() {
    let has_tables = |params: &Params| {
        let has_curves = params.degamma.is_some() && params.gamma.is_some();
        has_curves && params.denoise.is_some() && params.lens_shading.is_some() && params.filter.is_some()
    };
    let Params { degamma, gamma, denoise, lens_shading, filter, .. } =
        (0..).map(random).find(has_tables).unwrap();
    let params = Params { degamma, gamma, denoise, lens_shading, filter, ..Params::default() };
    let of = |x: u32, y: u32| u16::try_from(split_mix(3, u64::from(y * 1000 + x)) & 0xfff).unwrap();
    let mut isp = Isp::default();
    for size in [[96, 64], [40, 70], [96, 64], [96, 40]] {
        let window = Rect { left: 2, top: 3, width: size[0] - 8, height: size[1] - 9 };
        let frame = Frame { size, phase: Phase::Rggb, window };
        assert_eq!(process(&mut isp, &frame, &params, of), process(&mut Isp::default(), &frame, &params, of));
    }
}

#[test]
fn a_window_is_a_part_of_the_picture() {
    let params = Params { denoise: None, ..Params::default() };
    let of = |x: u32, y: u32| u16::try_from(split_mix(3, u64::from(y * 1000 + x)) & 0xfff).unwrap();
    let (whole, _) = process(&mut Isp::default(), &frame(Phase::Grbg), &params, of);
    // The first column becomes even.
    let window = Rect { left: 31, top: 11, width: 41, height: 500 };
    let fitted = Frame { window, ..frame(Phase::Grbg) }.fitted().unwrap();
    assert_eq!(fitted.window, Rect { left: 30, top: 11, width: 40, height: 53 });
    let (part, _) = process(&mut Isp::default(), &fitted, &params, of);
    for (y, line) in part[0].iter().enumerate() {
        assert_eq!(line[..], whole[0][y + 11][30..70]);
        assert_eq!(part[2][y][..], whole[2][y + 11][15..35]);
    }
}

#[test]
fn frames_that_do_not_fit_are_not_processed() {
    let mut isp = Isp::default();
    let window = |left, top, width, height| Rect { left, top, width, height };
    for (size, window) in [
        ([0, 0], window(0, 0, 0, 0)),
        ([96, 64], window(96, 0, 96, 64)),
        ([96, 64], window(u32::MAX, u32::MAX, u32::MAX, u32::MAX)),
        ([96, 64], window(82, 0, 96, 64)),
        ([96, 15], window(0, 0, 96, 15)),
        ([u32::MAX, 64], window(0, 0, 64, 64)),
        ([9000, 64], window(0, 0, 64, 64)),
    ] {
        let frame = Frame { size, phase: Phase::Rggb, window };
        let mut statistics = Statistics { black_level: [1; 4], ..Statistics::default() };
        let abort = AtomicBool::new(false);
        let mut read = |_: u32, _: &mut [u16]| unreachable!("no line is read");
        let mut write = |_: u32, _: &Line<'_>| unreachable!("no line is written");
        assert!(!isp.process(&frame, &Params::default(), &mut read, &mut write, &mut statistics, &abort));
        assert_eq!(statistics.black_level, [1; 4]);
    }
}

#[test]
fn abort_ends_a_frame() {
    let abort = AtomicBool::new(false);
    let mut isp = Isp::default();
    let mut lines = 0;
    let mut statistics = Statistics { black_level: [1; 4], ..Statistics::default() };
    let mut write = |y: u32, _: &Line<'_>| {
        lines += 1;
        if y == 20 {
            abort.store(true, Ordering::Relaxed);
        }
    };
    let mut read = |_: u32, samples: &mut [u16]| samples.fill(9);
    let frame = frame(Phase::Rggb);
    assert!(!isp.process(&frame, &Params::default(), &mut read, &mut write, &mut statistics, &abort));
    assert_eq!((lines, statistics.black_level), (21, [1; 4]));
    // The next frame is whole again.
    process(&mut isp, &frame, &Params::default(), |_, _| 0);
}
