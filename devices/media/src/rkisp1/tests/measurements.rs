//! The measurements of known scenes are those that the UAPI documents.

use super::*;

const WHOLE: Window = Window { left: 0, top: 0, width: 96, height: 64 };

/// libcamera's limits for YCbCr.
const LIMITS: WhiteLimits =
    WhiteLimits::Ycbcr { min_y: 16, max_y: Some(250), min_c: 16, max_sum: 250, reference: [128; 2] };

fn white(window: Window, limits: WhiteLimits, scene: impl Fn(u32, u32) -> u16) -> WhiteMeans {
    let params = Params { white: Some(WhiteMeasure { window, limits, frames: 0 }), ..Params::default() };
    processed(Phase::Rggb, &params, scene).1.white.unwrap()
}

#[test]
fn white_means_are_those_of_the_formula() {
    for rgb in [[2048, 2048, 2048], [3000, 2500, 2000], [800, 900, 1000]] {
        let means = white(WHOLE, LIMITS, flat(Phase::Rggb, rgb));
        let [r, g, b] = rgb.map(|value| f64::from(value) / 16.0);
        let exact = [
            16.0 + 0.25 * r + 0.5 * g + 0.1094 * b,
            128.0 - 0.1406 * r - 0.2969 * g + 0.4375 * b,
            128.0 + 0.4375 * r - 0.375 * g - 0.0625 * b,
        ];
        assert_eq!(means.count, 96 * 64);
        for (mean, exact) in [means.y_or_g, means.cb_or_b, means.cr_or_r].into_iter().zip(exact) {
            assert!((f64::from(mean) - exact).abs() <= 1.0, "{means:?} not {exact}");
        }
        let means = white(WHOLE, WhiteLimits::Rgb([250; 3]), flat(Phase::Rggb, rgb));
        let expected = rgb.map(|value| (value >> 4).to_le_bytes()[0]);
        assert_eq!((means.count, [means.cr_or_r, means.y_or_g, means.cb_or_b]), (96 * 64, expected));
    }
}

#[test]
fn white_pixels_are_within_the_limits() {
    // 64 columns of grey, 16 of black and 16 of red. Three columns beside an edge have colours of both sides.
    let scene = |x: u32, y: u32| match x {
        0..64 => 1600,
        64..80 => 0,
        _ => flat(Phase::Rggb, [4000, 0, 0])(x, y),
    };
    let window = Window { left: 0, top: 5, width: 60, height: 10 };
    assert_eq!(white(window, LIMITS, scene).count, 600);
    assert_eq!(white(Window { left: 68, top: 60, width: 8, height: 400 }, LIMITS, scene).count, 0, "black");
    let red = Window { left: 84, top: 0, width: 500, height: 64 };
    assert_eq!(white(red, LIMITS, scene).count, 12 * 64);
    // Y is 16 + 62.5, Cb 92.8 and Cr 237.4: the sum of the distances is 144.5.
    let limits = |min_y, max_y, min_c, max_sum| WhiteLimits::Ycbcr {
        min_y,
        max_y,
        min_c,
        max_sum,
        reference: [128; 2],
    };
    for (limits, count) in [
        (limits(77, Some(80), 91, 146), 12 * 64),
        (limits(80, None, 91, 146), 0),
        (limits(16, Some(77), 91, 146), 0),
        (limits(16, None, 95, 146), 0),
        (limits(16, None, 91, 143), 0),
    ] {
        assert_eq!(white(red, limits, scene).count, count, "{limits:?}");
    }
    let near = WhiteLimits::Ycbcr { min_y: 16, max_y: None, min_c: 16, max_sum: 8, reference: [93, 237] };
    assert_eq!(white(red, near, scene).count, 12 * 64);
    assert_eq!(white(window, near, scene).count, 0);
    for (limits, count) in [([250, 0, 0], 12 * 64), ([249, 0, 0], 0)] {
        assert_eq!(white(red, WhiteLimits::Rgb(limits), scene).count, count);
    }
}

#[test]
fn a_white_balance_measurement_takes_frames() {
    let measure = WhiteMeasure { window: WHOLE, limits: LIMITS, frames: 2 };
    let params = Params { white: Some(measure), ..Params::default() };
    let mut isp = Isp::default();
    let mut of = |level: u16| process(&mut isp, &frame(Phase::Rggb), &params, move |_, _| level).1.white;
    assert_eq!([of(1600), of(1600)], [None; 2]);
    let means = of(3200).unwrap();
    // Y of the levels 100 and 200: 101.9 and 187.9.
    assert_eq!(means.count, 3 * 96 * 64);
    assert!((f64::from(means.y_or_g) - (2.0 * 101.9 + 187.9) / 3.0).abs() <= 1.0, "{means:?}");
    assert_eq!(of(1600), None);
}

#[test]
fn white_balance_and_histogram_come_after_the_gains_and_before_gamma() {
    let params = Params {
        white_balance: Some([512, 256, 256, 256]),
        gamma: Some(GammaOut { logarithmic: false, points: [0; POINTS] }),
        white: Some(WhiteMeasure { window: WHOLE, limits: WhiteLimits::Rgb([255; 3]), frames: 0 }),
        ..Params::default()
    };
    let (_, statistics) = processed(Phase::Grbg, &params, flat(Phase::Grbg, [800, 1600, 2400]));
    let means = statistics.white.unwrap();
    assert_eq!([means.cr_or_r, means.y_or_g, means.cb_or_b], [100, 100, 150]);
}

#[test]
fn exposure_is_the_mean_of_cells() {
    // A ramp over columns and lines, and cells of 18 x 12 from column 3 and line 2 on.
    let scene = |x: u32, y: u32| u16::try_from(20 * x + 30 * y).unwrap();
    for sum in [false, true] {
        let exposure = ExposureMeasure { sum, corner: [3, 2], cell: [18, 12] };
        let params = Params { exposure: Some(exposure), ..Params::default() };
        let means = processed(Phase::Bggr, &params, scene).1.exposure.unwrap();
        for (index, mean) in means.into_iter().enumerate() {
            let (x, y) = (3.0 + 18.0 * (index % 5) as f64 + 8.5, 2.0 + 12.0 * (index / 5) as f64 + 5.5);
            let level = (20.0 * x + 30.0 * y) / 16.0;
            let exact = if sum { 3.0 * level * 85.0 / 256.0 } else { 16.0 + level * (0.25 + 0.5 + 0.1094) };
            assert!((f64::from(mean) - exact).abs() <= 1.0, "{mean} not {exact} in cell {index}");
        }
    }
    // Cells beside the picture have no luminance.
    let exposure = ExposureMeasure { sum: false, corner: [90, 0], cell: [10, 60] };
    let params = Params { exposure: Some(exposure), ..Params::default() };
    let means = processed(Phase::Bggr, &params, |_, _| 1600).1.exposure.unwrap();
    let expected: Vec<u8> = (0..25).map(|cell| if cell == 0 || cell == 5 { 101 } else { 0 }).collect();
    assert_eq!(means.to_vec(), expected);
}

fn histogram(measure: HistogramMeasure, scene: impl Fn(u32, u32) -> u16) -> [u32; 16] {
    let params = Params { histogram: Some(measure), ..Params::default() };
    processed(Phase::Rggb, &params, scene).1.histogram.unwrap()
}

const HISTOGRAM: HistogramMeasure = HistogramMeasure {
    values: HistogramValues::Rgb,
    step: 1,
    corner: [0; 2],
    cell: [19, 12],
    weights: [16; 25],
};

#[test]
fn a_histogram_counts_by_weight() {
    let scene = flat(Phase::Rggb, [0x155, 0x888, 0xfff]);
    let bins = |values: HistogramValues, step: u8, weights: [u8; 25]| {
        histogram(HistogramMeasure { values, step, weights, ..HISTOGRAM }, &scene)
    };
    let pixels = 95 * 60;
    let counts = |pairs: &[(usize, u32)]| {
        let mut bins = [0; 16];
        pairs.iter().for_each(|&(bin, count)| bins[bin] = count);
        bins
    };
    let all = pixels * 16;
    assert_eq!(bins(HistogramValues::Rgb, 1, [16; 25]), counts(&[(1, all), (8, all), (15, all)]));
    for (component, bin) in [(0, 1), (1, 8), (2, 15)] {
        assert_eq!(bins(HistogramValues::Component(component), 0, [1; 25]), counts(&[(bin, pixels)]));
    }
    // Every third column and line: 32 x 20 pixels.
    assert_eq!(bins(HistogramValues::Component(1), 3, [2; 25]), counts(&[(8, 32 * 20 * 2)]));
    let mut weights = [0; 25];
    (weights[7], weights[24]) = (3, 63);
    assert_eq!(bins(HistogramValues::Component(1), 1, weights), counts(&[(8, 19 * 12 * (3 + 31))]));
    // Y in limited range: 16 + 111 * ... of a grey of 0x888 (546 of 1023) is 16 + 112 * 546 / 512 = 135.
    let grey = |_: u32, _: u32| 0x888;
    let measure = HistogramMeasure { values: HistogramValues::Luma, ..HISTOGRAM };
    assert_eq!(histogram(measure, grey), counts(&[(8, all)]));
    assert_eq!(histogram(measure, |_, _| 0), counts(&[(1, all)]), "black is 16");
}

#[test]
fn a_bin_has_20_bits() {
    let size = [512, 400];
    let window = Rect { left: 0, top: 0, width: 512, height: 400 };
    let measure = HistogramMeasure { cell: [102, 80], weights: [31; 25], ..HISTOGRAM };
    let params = Params { histogram: Some(measure), ..Params::default() };
    let (_, statistics) =
        process(&mut Isp::default(), &Frame { size, phase: Phase::Rggb, window }, &params, |_, _| 300);
    assert_eq!(statistics.histogram.unwrap()[..3], [0, 0xf_ffff, 0]);
}

#[test]
fn focus_sums_squares_of_differences() {
    // A grey ramp of 2 codes of 8 bits a column and 3 a line.
    let scene = |x: u32, y: u32| u16::try_from((2 * x + (3 * y) % 60) << 4).unwrap();
    let window = |left, top, width, height| Some(Window { left, top, width, height });
    let focus = FocusMeasure {
        windows: [window(11, 5, 20, 10), None, window(70, 3, 100, 4)],
        threshold: 12,
        shifts: [0, 2],
    };
    let measured = |focus| {
        let params = Params {
            focus: Some(focus),
            demosaic: Demosaic { bypass: true, threshold: 0 },
            ..Params::default()
        };
        processed(Phase::Rggb, &params, scene).1.focus.unwrap()
    };
    let [a, b, c] = measured(focus);
    let luminance = |columns: std::ops::Range<u32>, lines: std::ops::Range<u32>| {
        let of = |y: u32| columns.clone().map(move |x| 2 * x + 3 * y).sum::<u32>();
        lines.map(of).sum::<u32>() / 4
    };
    assert_eq!(a, Focus { sum: 200 * (4 + 9), luminance: luminance(11..31, 5..15) });
    assert_eq!((b, c), (Focus::default(), Focus { sum: 26 * 4 * 13, luminance: luminance(70..96, 3..7) }));
    // The threshold itself is not above it; the shift halves.
    assert_eq!(measured(FocusMeasure { threshold: 13, ..focus })[0].sum, 0);
    assert_eq!(measured(FocusMeasure { shifts: [3, 2], ..focus })[0].sum, 200 * 13 / 8);
    // Where the ramp begins anew, at line 20, the difference is 57.
    let again = FocusMeasure { windows: [window(10, 20, 10, 1), None, None], ..focus };
    assert_eq!(measured(again)[0].sum, 10 * (4 + 57 * 57));
}
