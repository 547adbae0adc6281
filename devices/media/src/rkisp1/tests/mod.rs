//! Tests of the whole ISP: each block's arithmetic on flat fields and ramps, the measurements, windows, and any parameters.

use super::*;
use crate::{phase::Phase, random::split_mix, rect::Rect};

mod blocks;
mod measurements;
mod robustness;

const SIZE: [u32; 2] = [96, 64];

/// A whole frame.
fn frame(phase: Phase) -> Frame {
    Frame { size: SIZE, phase, window: Rect { left: 0, top: 0, width: SIZE[0], height: SIZE[1] } }
}

/// A picture in 4:2:2: luma, Cb and Cr, line by line.
type Picture = [Vec<Vec<u8>>; 3];

/// Processes a frame whose sample in a column of a line is `of`.
fn process(
    isp: &mut Isp,
    frame: &Frame,
    params: &Params,
    of: impl Fn(u32, u32) -> u16,
) -> (Picture, Statistics) {
    let mut picture = Picture::default();
    let mut statistics = Statistics::default();
    let mut write = |y: u32, line: &Line<'_>| {
        assert_eq!(y as usize, picture[0].len(), "lines come in order");
        picture
            .iter_mut()
            .zip([line.y, line.cb, line.cr])
            .for_each(|(plane, line)| plane.push(line.to_vec()));
    };
    let mut read = |y: u32, samples: &mut [u16]| {
        samples.iter_mut().zip(0..).for_each(|(sample, x)| *sample = of(x, y));
    };
    assert!(isp.process(frame, params, &mut read, &mut write, &mut statistics, &AtomicBool::new(false)));
    let [width, height] = [frame.window.width as usize, frame.window.height as usize];
    assert!(picture[0].len() == height && picture[0].iter().all(|line| line.len() == width));
    assert!(picture[1..].iter().flatten().all(|line| line.len() == width / 2));
    (picture, statistics)
}

/// Processes a frame of 96 x 64 pixels with a new ISP, at all levels of instructions, with the same result.
fn processed(phase: Phase, params: &Params, of: impl Fn(u32, u32) -> u16) -> (Picture, Statistics) {
    let mut results = Level::all().map(|level| {
        let mut isp = Isp::default();
        isp.set_level(level);
        process(&mut isp, &frame(phase), params, &of)
    });
    let first = results.next().unwrap();
    assert!(results.all(|result| result == first));
    first
}

/// The red, green and blue samples, with 12 bits, that gamma out gets from a frame of 96 x 64 pixels.
fn linear(phase: Phase, params: &Params, of: impl Fn(u32, u32) -> u16) -> [Vec<Vec<i16>>; 3] {
    let frame = frame(phase);
    let mut stages = Stages::default();
    stages.begin(&frame, params);
    let mut read = |y: u32, samples: &mut [u16]| {
        samples.iter_mut().zip(0..).for_each(|(sample, x)| *sample = of(x, y));
    };
    let mut components: [Vec<Vec<i16>>; 3] = Default::default();
    for y in 0..SIZE[1] {
        stages.colour(Level::best(), &frame, params, y, &mut read);
        for (component, planes) in components.iter_mut().zip(stages.picture().as_chunks::<2>().0) {
            component.push((0..96).map(|x| planes[x % 2][x / 2]).collect());
        }
    }
    components
}

/// A value without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is that of a register"
)]
fn whole(value: f64) -> u16 {
    value as u16
}

/// The samples of a flat field of red, green and blue.
fn flat(phase: Phase, [red, green, blue]: [u16; 3]) -> impl Fn(u32, u32) -> u16 {
    move |x, y| [red, green, green, blue][phase.channel(y, x as usize % 2)]
}

/// The colour space whose Y is a component's upper 8 bits, rounded, and whose chroma is grey.
fn only(component: usize) -> ColourSpace {
    let mut matrix = [[0; 3]; 3];
    matrix[0][component] = 128;
    ColourSpace { matrix, full_luma: true, full_chroma: true }
}

/// The components, with 8 bits, that go out of a flat field. All pixels have the same.
fn components(phase: Phase, params: &Params, rgb: [u16; 3]) -> [u8; 3] {
    [0, 1, 2].map(|component| {
        let params = Params { colour_space: only(component), ..params.clone() };
        let (picture, _) = processed(phase, &params, flat(phase, rgb));
        let value = picture[0][0][0];
        assert!(picture[0].iter().flatten().all(|&other| other == value));
        value
    })
}

/// The upper 8 bits of a 12-bit sample, of which the next 2 bits round.
fn upper(sample: f64) -> f64 {
    ((sample / 4.0).floor() / 4.0).round().min(255.0)
}
