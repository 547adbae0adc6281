//! Each block's effect is the arithmetic that the UAPI documents, within one code.

use super::*;

const PHASES: [Phase; 4] = [Phase::Rggb, Phase::Grbg, Phase::Gbrg, Phase::Bggr];

/// Asserts that codes are the exact values within one code.
fn assert_near(codes: [u8; 3], exact: [f64; 3]) {
    for (code, exact) in codes.into_iter().zip(exact) {
        let exact = upper(exact.clamp(0.0, 4095.0));
        assert!((f64::from(code) - exact).abs() <= 1.0, "{codes:?} not {exact:?}");
    }
}

#[test]
fn a_flat_field_stays_flat() {
    for phase in PHASES {
        for rgb in [[0, 0, 0], [4095; 3], [1000, 2000, 3000], [9, 8, 7]] {
            assert_near(components(phase, &Params::default(), rgb), rgb.map(f64::from));
        }
    }
}

#[test]
fn a_grey_ramp_stays_a_ramp() {
    let params = Params { colour_space: only(1), ..Params::default() };
    for threshold in [0, 12, 255] {
        let params = Params { demosaic: Demosaic { bypass: false, threshold }, ..params.clone() };
        let ramp = |x: u32, y: u32| u16::try_from(40 * x + 3 * y).unwrap();
        let (picture, _) = processed(Phase::Gbrg, &params, ramp);
        for (line, y) in picture[0].iter().zip(0..).skip(2).take(60) {
            for (&value, x) in line.iter().zip(0..).skip(2).take(92) {
                let exact = upper(f64::from(ramp(x, y)).min(4095.0));
                assert!((f64::from(value) - exact).abs() <= 1.0, "{value} not {exact} at {x}, {y}");
            }
        }
    }
}

#[test]
fn demosaicing_can_be_bypassed() {
    let params = Params {
        demosaic: Demosaic { bypass: true, threshold: 0 },
        colour_space: only(2),
        ..Params::default()
    };
    let of = |x: u32, y: u32| u16::try_from(split_mix(1, u64::from(100 * y + x)) & 0xff0).unwrap();
    let (picture, _) = processed(Phase::Rggb, &params, of);
    for (line, y) in picture[0].iter().zip(0..) {
        let expected: Vec<u8> = (0..SIZE[0]).map(|x| (of(x, y) >> 4).to_le_bytes()[0]).collect();
        assert_eq!(*line, expected);
    }
}

#[test]
fn the_black_level_belongs_to_a_position() {
    for phase in PHASES {
        // Positions A, B, C and D.
        let fixed = [64, 128, -300, 256];
        let black = BlackLevel { fixed, ..BlackLevel::default() };
        let params = Params { black_level: Some(black), ..Params::default() };
        let (picture, _) = processed(
            phase,
            &Params { demosaic: Demosaic { bypass: true, threshold: 0 }, colour_space: only(0), ..params },
            |_, _| 1600,
        );
        for (position, level) in (0..).zip(fixed) {
            let exact = upper(f64::from(1600 - level));
            assert!((f64::from(picture[0][position / 2][position % 2]) - exact).abs() <= 1.0);
        }
    }
}

#[test]
fn a_measured_black_level_is_subtracted_from_the_next_frame() {
    let windows = [Some(Window { left: 0, top: 0, width: 96, height: 8 }), None];
    let black = BlackLevel { measured: true, windows, samples: 6, ..BlackLevel::default() };
    let params = Params { black_level: Some(black), colour_space: only(1), ..Params::default() };
    let mut isp = Isp::default();
    // The picture begins below the black lines.
    let window = Rect { left: 0, top: 10, width: 96, height: 54 };
    let frame = Frame { window, ..frame(Phase::Rggb) };
    let scene = |_: u32, y: u32| if y < 8 { 240 } else { 2240 };
    for exact in [140, 125] {
        let (picture, statistics) = process(&mut isp, &frame, &params, scene);
        assert_eq!((picture[0][20][20], statistics.black_level), (exact, [240; 4]));
    }
    // Windows below the picture are measured too.
    let windows = [None, Some(Window { left: 4, top: 62, width: 16, height: 900 })];
    let black = BlackLevel { windows, samples: 3, ..black };
    let window = Rect { height: 20, ..window };
    let params = Params { black_level: Some(black), ..params };
    let (_, statistics) =
        process(&mut isp, &Frame { window, ..frame }, &params, |x, y| u16::try_from(x + 2 * y).unwrap());
    // Columns 4, 6, ... 18 of line 62: 11 + 124.
    assert_eq!(statistics.black_level, [135, 136, 137, 138]);
}

#[test]
fn degamma_has_a_curve_for_each_colour() {
    // Intervals of 64 and then of 512, so that the last point is at 64 * 9 + 512 * 7 = 4160.
    let intervals = std::array::from_fn(|index| if index < 9 { 2 } else { 5 });
    let point = |index: usize| if index < 10 { 64 * index } else { 576 + 512 * (index - 9) };
    let curve = |power: f64| {
        std::array::from_fn(|index| {
            let x = point(index) as f64 / 4095.0;
            whole(x.powf(power) * 4095.0).min(4095)
        })
    };
    let degamma = Degamma { intervals, curves: [curve(1.5), curve(0.7), curve(1.0)] };
    let params = Params { degamma: Some(degamma), ..Params::default() };
    for rgb in [[300, 300, 300], [70, 1500, 4000], [0, 4095, 600]] {
        let exact = [0, 1, 2].map(|colour| {
            let x = usize::from(rgb[colour]);
            let segment = (0..16).rfind(|&segment| point(segment) <= x).unwrap();
            let [a, b] = [segment, segment + 1].map(|index| f64::from(degamma.curves[colour][index]));
            a + (b - a) * (x - point(segment)) as f64 / (point(segment + 1) - point(segment)) as f64
        });
        assert_near(components(Phase::Grbg, &params, rgb), exact);
    }
}

#[test]
fn lens_shading_and_white_balance_multiply() {
    let gain = [1024, 1500, 1800, 3000];
    let lens = LensShading {
        gains: gain.map(|gain| [[gain; POINTS]; POINTS]),
        x_sizes: [6; 8],
        y_sizes: [4; 8],
        x_gradients: [32_768 / 6; 8],
        y_gradients: [32_768 / 8; 8],
    };
    let lens_only = Params { lens_shading: Some(lens), ..Params::default() };
    let greens = |red: f64, green: [f64; 2], blue: f64| [red, f64::midpoint(green[0], green[1]), blue];
    // Green pixels on both lines are alike only if their gains are.
    let even = LensShading { gains: [1024, 1500, 1500, 3000].map(|gain| [[gain; POINTS]; POINTS]), ..lens };
    let params = Params { lens_shading: Some(even), ..lens_only.clone() };
    for phase in PHASES {
        let exact = greens(1000.0, [2000.0 * 1500.0 / 1024.0; 2], 900.0 * 3000.0 / 1024.0);
        assert_near(components(phase, &params, [1000, 2000, 900]), exact);
    }
    let params = Params { white_balance: Some([400, 256, 256, 700]), ..Params::default() };
    for phase in PHASES {
        let exact = [(400.0_f64 * 1000.0 + 128.0) / 256.0, 2000.0, (700.0 * 900.0 + 128.0) / 256.0];
        assert_near(components(phase, &params, [1000, 2000, 900]), exact.map(f64::floor));
    }
    let both =
        Params { white_balance: Some([1023, 300, 300, 128]), lens_shading: Some(even), ..Params::default() };
    let exact =
        [1000.0 * 1023.0 / 256.0, 1500.0 / 1024.0 * 300.0 / 256.0 * 1000.0, 3000.0 / 1024.0 * 0.5 * 800.0];
    assert_near(components(Phase::Bggr, &both, [1000, 1000, 800]), exact);
    // All four gains differ: the bypassed demosaicing shows them.
    let params = Params {
        demosaic: Demosaic { bypass: true, threshold: 0 },
        white_balance: Some([256, 512, 768, 1023]),
        colour_space: only(0),
        ..lens_only
    };
    let (picture, _) = processed(Phase::Gbrg, &params, |_, _| 320);
    for (x, y, channel) in [(0, 0, 2), (1, 0, 3), (0, 1, 0), (1, 1, 1)] {
        let balance = [256.0, 512.0, 768.0, 1023.0][channel] / 256.0;
        let exact = upper((320.0 * f64::from(gain[channel]) / 1024.0 * balance).min(4095.0));
        assert!((f64::from(picture[0][y][x]) - exact).abs() <= 1.0);
    }
}

#[test]
fn a_defect_pixel_disappears() {
    let methods =
        DefectMethods { rank_order: Some(1), rank_difference: Some([1, 10]), ..DefectMethods::default() };
    let defects =
        Defects { sets: [Some([methods; 2]), None, None], with_centre: [true; 2], ..Defects::default() };
    let params = Params { defects: Some(defects), colour_space: only(1), ..Params::default() };
    for spot in [[40, 20], [41, 20], [40, 21], [41, 21], [0, 0], [95, 63], [1, 30]] {
        let scene = |x, y| if [x, y] == spot { 4000 } else { 1600 };
        let (picture, _) = processed(Phase::Rggb, &params, scene);
        assert!(picture[0].iter().flatten().all(|&value| value == 100), "{spot:?}");
        let (picture, _) = processed(Phase::Rggb, &Params { defects: None, ..params.clone() }, scene);
        assert!(picture[0].iter().flatten().any(|&value| value > 100));
    }
}

fn denoise() -> Denoise {
    Denoise {
        channels: [true; 4],
        green: [16; 6],
        red_blue: [16; 6],
        narrow: false,
        noise: [256; POINTS],
        logarithmic: false,
        inverse_strength: [64; 3],
        gains: NoiseGains::default(),
    }
}

#[test]
fn denoising_keeps_flat_fields_and_edges() {
    let params = Params { denoise: Some(denoise()), ..Params::default() };
    for phase in PHASES {
        assert_near(components(phase, &params, [1000, 2000, 3000]), [1000.0, 2000.0, 3000.0]);
    }
    // At the noise level of 256 a difference of 256 and more has no weight: 256 * 256 / 1024 = 64.
    let bypass =
        Params { demosaic: Demosaic { bypass: true, threshold: 0 }, colour_space: only(0), ..params };
    let edge = |x: u32, _: u32| if x < 48 { 1600 } else { 1856 };
    let (picture, _) = processed(Phase::Rggb, &bypass, edge);
    let expected: Vec<u8> = (0..96).map(|x| if x < 48 { 100 } else { 116 }).collect();
    assert!(picture[0].iter().all(|line| *line == expected));
}

/// A pixel of a frame in which one pixel of 1600 has 160 more. The pixels of the other colours do not matter.
fn denoised(params: &Params, at: [u32; 2]) -> f64 {
    let params = Params { demosaic: Demosaic { bypass: true, threshold: 0 }, ..params.clone() };
    let samples = linear(Phase::Rggb, &params, |x, y| if [x, y] == at { 1760 } else { 1600 });
    samples[0][at[1] as usize][at[0] as usize].into()
}

/// The denoised value of the pixel of 1760, whose `neighbours` of 1600 count with `weight`, of which `left` 64ths remain.
fn mixed(neighbours: f64, weight: f64, left: f64) -> f64 {
    1760.0 - 160.0 * neighbours * weight * left / (64.0 * (16.0 + neighbours * weight))
}

#[test]
fn denoising_weighs_neighbours_by_their_difference() {
    let of = |denoise| {
        let white_balance = Some([256, 512, 512, 256]);
        denoised(&Params { denoise: Some(denoise), white_balance, ..Params::default() }, [40, 20])
    };
    // Each of 34 neighbours is rounded to an eighth, which adds up to two of 4095 codes.
    let assert = |value: f64, exact: f64| assert!((value - exact).abs() <= 2.5, "{value} not {exact}");
    // 160 times the noise function's 256 is 40 times 1024.
    assert(of(denoise()), mixed(34.0, 16.0, 24.0));
    // Twice the strength, or four times the gain, divides this by two or four.
    assert(of(Denoise { inverse_strength: [32, 0, 0], ..denoise() }), mixed(34.0, 16.0, 44.0));
    assert(of(Denoise { inverse_strength: [255, 0, 0], ..denoise() }), 1760.0);
    let gains = NoiseGains { channels: ChannelGains::Fixed([1024, 256, 256, 256]), lens: false };
    assert(of(Denoise { gains, ..denoise() }), mixed(34.0, 16.0, 54.0));
    let gains = NoiseGains { channels: ChannelGains::WhiteBalance, lens: true };
    assert(of(Denoise { gains, ..denoise() }), mixed(34.0, 16.0, 24.0));
    // 1760 lies in segment 6 of 16 linear ones, and in segment 10 of the logarithmic ones.
    let noise = std::array::from_fn(|point| if point >= 8 { 0 } else { 256 });
    assert(of(Denoise { noise, ..denoise() }), mixed(34.0, 16.0, 24.0));
    assert(of(Denoise { noise, logarithmic: true, ..denoise() }), mixed(34.0, 16.0, 64.0));
    assert(of(Denoise { channels: [false, true, true, true], ..denoise() }), 1760.0);
}

/// The kernels that libcamera's `dpf.cpp` shows, on a pixel of 2400 more than its surroundings.
#[test]
fn denoising_has_its_kernels() {
    const GREEN: [&str; 9] = [
        "6 5 4 5 6",
        " 5 3 3 5 ",
        "5 3 2 3 5",
        " 3 1 1 3 ",
        "4 2 0 2 4",
        " 3 1 1 3 ",
        "5 3 2 3 5",
        " 5 3 3 5 ",
        "6 5 4 5 6",
    ];
    const WIDE: [&str; 9] =
        ["6 5 4 3 4 5 6", "", "5 4 2 1 2 4 5", "", "5 3 1 0 1 3 5", "", "5 4 2 1 2 4 5", "", "6 5 4 3 4 5 6"];
    const NARROW: [&str; 9] =
        ["5 4 3 4 5", "", "4 2 1 2 4", "", "3 1 0 1 3", "", "4 2 1 2 4", "", "5 4 3 4 5"];
    let weights = [1, 3, 5, 7, 9, 11];
    for (kernel, narrow, at) in [
        (GREEN, false, [41, 20]),
        (GREEN, false, [40, 21]),
        (WIDE, false, [40, 20]),
        (WIDE, false, [41, 21]),
        (NARROW, true, [40, 20]),
        (NARROW, true, [41, 21]),
    ] {
        let digit = |x: i64, y: i64| -> Option<usize> {
            let line = usize::try_from(y + 4).ok().and_then(|y| kernel.get(y).copied()).unwrap_or("");
            let column = usize::try_from(x + i64::try_from(kernel[0].len()).unwrap() / 2).ok()?;
            line.chars().nth(column).and_then(|digit| digit.to_digit(10)).map(|digit| digit as usize)
        };
        let neighbours = kernel.iter().flat_map(|line| line.chars()).filter_map(|digit| digit.to_digit(10));
        let total: usize =
            neighbours.map(|digit| if digit == 0 { 16 } else { weights[digit as usize - 1] }).sum();
        let filter = Denoise {
            green: weights.map(|weight| u8::try_from(weight).unwrap()),
            red_blue: weights.map(|weight| u8::try_from(weight).unwrap()),
            narrow,
            noise: [0; POINTS],
            ..denoise()
        };
        let params = Params {
            denoise: Some(filter),
            demosaic: Demosaic { bypass: true, threshold: 0 },
            ..Params::default()
        };
        let samples = linear(Phase::Rggb, &params, |x, y| if [x, y] == at { 4000 } else { 1600 });
        for (line, y) in samples[0].iter().zip(-i64::from(at[1])..) {
            for (&sample, x) in line.iter().zip(-i64::from(at[0])..) {
                let weight = digit(x, y).map_or(0, |digit| if digit == 0 { 16 } else { weights[digit - 1] });
                let exact = 1600.0 + 2400.0 * weight as f64 / total as f64;
                assert!((f64::from(sample) - exact).abs() <= 1.5, "{sample} not {exact} at {x}, {y}");
            }
        }
    }
}

#[test]
fn the_lens_gain_raises_the_noise_level() {
    let lens = LensShading {
        gains: [[[2048; POINTS]; POINTS]; 4],
        x_sizes: [6; 8],
        y_sizes: [4; 8],
        x_gradients: [4095; 8],
        y_gradients: [4095; 8],
    };
    for (is_used, left) in [(false, 24.0), (true, 44.0)] {
        let gains = NoiseGains { channels: ChannelGains::One, lens: is_used };
        let params = Params {
            lens_shading: Some(lens),
            denoise: Some(Denoise { gains, ..denoise() }),
            demosaic: Demosaic { bypass: true, threshold: 0 },
            ..Params::default()
        };
        let samples = linear(Phase::Rggb, &params, |x, y| if [x, y] == [40, 20] { 880 } else { 800 });
        let exact = mixed(34.0, 16.0, left);
        assert!((f64::from(samples[0][20][40]) - exact).abs() <= 2.5, "{} not {exact}", samples[0][20][40]);
    }
}

#[test]
fn the_filter_keeps_flat_fields() {
    let filter = Filter {
        dynamic: true,
        green_stage: 4,
        chroma_across: 3,
        chroma_down: 3,
        blur_thresholds: [5, 13],
        sharp_thresholds: [26, 44],
        weight: [64, 32, 2],
        blur_1: 2,
        blur_0: 6,
        mid: 10,
        sharp_0: 12,
        sharp_1: 16,
    };
    let params = Params { filter: Some(filter), ..Params::default() };
    for phase in PHASES {
        assert_near(components(phase, &params, [1000, 2000, 3000]), [1000.0, 2000.0, 3000.0]);
    }
}

#[test]
fn cross_talk_is_a_matrix() {
    let cross_talk =
        CrossTalk { matrix: [[190, -40, -22], [-30, 180, -22], [10, -100, 218]], offset: [100, -50, 0] };
    let params = Params { cross_talk, ..Params::default() };
    for rgb in [[1000, 2000, 3000], [4095, 0, 0], [500, 600, 700]] {
        let exact = [0, 1, 2].map(|row| {
            let sum: f64 = cross_talk.matrix[row]
                .iter()
                .zip(rgb)
                .map(|(&part, value)| f64::from(part) * f64::from(value))
                .sum();
            sum / 128.0 + f64::from(cross_talk.offset[row])
        });
        assert_near(components(Phase::Rggb, &params, rgb), exact);
    }
}

#[test]
fn gamma_out_is_that_of_its_mode() {
    // libcamera's segments, and the curve with the power 1 / 2.2.
    let segments = [64, 64, 64, 64, 128, 128, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512];
    for logarithmic in [true, false] {
        let point =
            |index: usize| if logarithmic { segments[..index].iter().sum::<usize>() } else { 256 * index };
        let points: [u16; POINTS] =
            std::array::from_fn(|index| whole((point(index) as f64 / 4096.0).powf(1.0 / 2.2) * 1023.0));
        let params = Params { gamma: Some(GammaOut { logarithmic, points }), ..Params::default() };
        for rgb in [[0, 100, 1000], [4095, 2000, 63], [64, 255, 256]] {
            let codes = components(Phase::Rggb, &params, rgb);
            for (code, x) in codes.into_iter().zip(rgb.map(usize::from)) {
                let segment = (0..16).rfind(|&segment| point(segment) <= x).unwrap();
                let [a, b] = [points[segment], points[segment + 1]].map(f64::from);
                let exact =
                    a + (b - a) * (x - point(segment)) as f64 / (point(segment + 1) - point(segment)) as f64;
                assert!(
                    (f64::from(code) - (exact / 4.0).min(255.0)).abs() <= 1.0,
                    "{code} not {exact} / 4 at {x}"
                );
            }
        }
    }
}

#[test]
fn the_colour_space_has_its_range() {
    // The driver's coefficients in full range: 0x1ea is -22, 0x1d6 -42, 0x1ca -54, 0x1f6 -10.
    let full = ColourSpace {
        matrix: [[38, 75, 15], [-22, -42, 64], [64, -54, -10]],
        full_luma: true,
        full_chroma: true,
    };
    for (space, [black, white], [least, most]) in
        [(ColourSpace::default(), [16, 235], [16, 240]), (full, [0, 255], [0, 255])]
    {
        let params = Params { colour_space: space, ..Params::default() };
        for rgb in
            [[0, 0, 0], [4095; 3], [2048; 3], [4095, 0, 0], [0, 4095, 0], [0, 0, 4095], [1000, 3000, 2000]]
        {
            let (picture, _) = processed(Phase::Bggr, &params, flat(Phase::Bggr, rgb));
            let exact = [0, 1, 2].map(|row| {
                let parts = space.matrix[row].iter().zip(rgb);
                let sum: f64 =
                    parts.map(|(&part, value)| f64::from(part) / 128.0 * f64::from(value >> 2) / 4.0).sum();
                sum + if row == 0 { f64::from(black) } else { 128.0 }
            });
            let limits = [[black, white], [least, most], [least, most]];
            for ((plane, exact), limits) in picture.iter().zip(exact).zip(limits) {
                let exact = exact.clamp(f64::from(limits[0]), f64::from(limits[1]));
                assert!(
                    plane.iter().flatten().all(|&code| (f64::from(code) - exact).abs() <= 1.0),
                    "{rgb:?} {exact}"
                );
            }
        }
    }
}

/// The picture of a flat field with Y, Cb and Cr as given, processed.
fn recoloured(params: &Params, [y, cb, cr]: [u16; 3]) -> [u8; 3] {
    // The components of the flat field are Y, Cb and Cr, and this colour space takes them as they are.
    let matrix = [[128, 0, 0], [0, 128, 0], [0, 0, 128]];
    let colour_space = ColourSpace { matrix, full_luma: true, full_chroma: true };
    let params = Params { colour_space, ..params.clone() };
    // Chroma gets 128 added, so that the values here are those above 128.
    let (picture, _) =
        processed(Phase::Rggb, &params, flat(Phase::Rggb, [y << 4, (cb - 128) << 4, (cr - 128) << 4]));
    [0, 1, 2].map(|plane| {
        let code = picture[plane][9][9];
        assert!(picture[plane].iter().flatten().all(|&other| other == code));
        code
    })
}

#[test]
fn colour_processing_scales_and_rotates() {
    let off = ColourProcessing {
        contrast: 128,
        brightness: 0,
        saturation: 128,
        hue: 0,
        full_luma_in: true,
        full_luma_out: true,
        full_chroma_out: true,
    };
    let of = |processing, pixel| {
        recoloured(&Params { colour_processing: Some(processing), ..Params::default() }, pixel)
    };
    assert_eq!(of(off, [100, 140, 200]), [100, 140, 200]);
    // Yout = Yin * contrast + brightness / 2.
    for (contrast, brightness, y) in
        [(255, 0, 100), (64, 0, 200), (128, 127, 50), (128, -128, 200), (200, -100, 90)]
    {
        let exact = f64::from(y) * f64::from(contrast) / 128.0 + f64::from(brightness) / 2.0;
        let [luma, cb, cr] = of(ColourProcessing { contrast, brightness, ..off }, [y, 140, 200]);
        assert!((f64::from(luma) - exact.clamp(0.0, 255.0)).abs() <= 1.0, "{luma} not {exact}");
        assert_eq!([cb, cr], [140, 200]);
        // With limited range black stays 16.
        let limited =
            ColourProcessing { full_luma_in: false, full_luma_out: false, contrast, brightness, ..off };
        let exact = (f64::from(y) - 16.0) * f64::from(contrast) / 128.0 + f64::from(brightness) / 2.0 + 16.0;
        let [luma, ..] = of(limited, [y, 140, 200]);
        assert!((f64::from(luma) - exact.clamp(16.0, 235.0)).abs() <= 1.0, "{luma} not {exact}");
    }
    for (saturation, hue) in [(255, 0), (64, 0), (0, 50), (128, 64), (128, -64), (200, -128), (128, 127)] {
        let [_, cb, cr] = of(ColourProcessing { saturation, hue, ..off }, [100, 150, 170]);
        let angle = (f64::from(hue) * 90.0 / 128.0).to_radians();
        let scale = f64::from(saturation) / 128.0;
        let exact = [22.0 * angle.cos() + 42.0 * angle.sin(), 42.0 * angle.cos() - 22.0 * angle.sin()];
        for (code, exact) in [cb, cr].into_iter().zip(exact) {
            let exact = (128.0 + exact * scale).clamp(0.0, 255.0);
            assert!((f64::from(code) - exact).abs() <= 1.0, "{code} not {exact}");
        }
    }
    let limited = ColourProcessing { saturation: 255, full_chroma_out: false, ..off };
    assert_eq!(of(limited, [100, 250, 250])[1..], [240, 240]);
}

#[test]
fn effects_change_colours() {
    let of = |kind, full, pixel| {
        recoloured(&Params { effect: Some(Effect { kind, full }), ..Params::default() }, pixel)
    };
    let pixel = [100, 150, 170];
    assert_eq!(of(EffectKind::BlackWhite, true, pixel), [100, 128, 128]);
    assert_eq!(of(EffectKind::Negative, true, pixel), [155, 106, 86]);
    assert_eq!(of(EffectKind::Negative, false, pixel), [151, 106, 86]);
    assert_eq!(of(EffectKind::Sepia([-17, 15]), true, pixel), [100, 111, 143]);
    assert_eq!(of(EffectKind::Sepia([-128, 127]), false, pixel), [100, 16, 240]);
    // BT.601: R = 159, G = 62, B = 139 in full range.
    let select = |colours, threshold| of(EffectKind::ColourSelection { colours, threshold }, true, pixel);
    for (colours, threshold, is_kept) in [
        (4, 140, true),
        (4, 100, false),
        (5, 100, true),
        (5, 140, false),
        (0, 0, true),
        (7, 255, true),
        (2, 10, false),
    ] {
        let expected = if is_kept { [100, 150, 170] } else { [100, 128, 128] };
        assert_eq!(select(colours, threshold), expected, "{colours} {threshold}");
    }
    // Sums of the weights are 2 and -1.
    let emboss = EffectKind::Emboss([[1, 0, 0], [0, 0, 0], [0, 0, 1]]);
    assert_eq!(of(emboss, true, [20, 150, 170]), [168, 128, 128]);
    let sketch = EffectKind::Sketch([[-1, 0, 0], [0, 8, 0], [0, 0, -8]]);
    assert_eq!(of(sketch, true, [20, 150, 170]), [235, 128, 128]);
    assert_eq!(of(sketch, false, [20, 150, 170]), [215, 128, 128]);
}

/// Emboss and sketch find the edges of a picture, also at its first and last lines.
#[test]
fn effects_filter_three_lines() {
    let matrix = [[-1, -2, -1], [0, 0, 0], [1, 2, 1]];
    let params = |kind| Params {
        demosaic: Demosaic { bypass: true, threshold: 0 },
        colour_space: only(0),
        effect: Some(Effect { kind, full: true }),
        ..Params::default()
    };
    let scene = |x: u32, y: u32| u16::try_from((10 + 3 * y + u32::from(x > 50) * 5) << 4).unwrap();
    let (picture, _) = processed(Phase::Rggb, &params(EffectKind::Emboss(matrix)), scene);
    let expected: Vec<u8> = (0..64).map(|y| if y == 0 || y == 63 { 128 + 12 } else { 128 + 24 }).collect();
    for (line, expected) in picture[0].iter().zip(expected) {
        assert!(line.iter().all(|&value| value == expected), "{line:?} {expected}");
    }
    let across = [[0, 0, 0], [-4, 0, 4], [0, 0, 0]];
    let (picture, _) = processed(Phase::Rggb, &params(EffectKind::Sketch(across)), scene);
    for line in &picture[0] {
        assert!((0..96).all(|x| line[x] == if x == 50 || x == 51 { 235 } else { 255 }), "{line:?}");
    }
}
