//! Tests of the whole ISP: colours, formats, statistics, cropping and scaling, and refused input.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::*;
use crate::{
    FORMATS, Format, Phase,
    sensor::{self, Colour, Light, Sensor, Settings},
    yuv::{Encoding, Quantization, YcbcrEncoding},
};

mod properties;

fn format(name: &str) -> &'static Format {
    FORMATS.iter().find(|format| format.name == name).unwrap()
}

fn whole(size: [u32; 2], format: &'static Format) -> Output {
    Output { crop: Rect { left: 0, top: 0, width: size[0], height: size[1] }, size, format }
}

/// The planes of a frame, without padding.
fn process(isp: &mut Isp, read: &(dyn Fn(u32, &mut [u16]) + Sync)) -> (Vec<Vec<u8>>, Statistics) {
    let Output { format, size, .. } = isp.setup.output;
    let shapes = format.planes;
    let planes: Vec<_> =
        shapes.iter().map(|shape| Mutex::new(vec![None; (size[1] / shape.subsampling) as usize])).collect();
    let write = |plane: usize, y: u32, bytes: &[u8]| {
        assert_eq!(bytes.len(), shapes[plane].line_bytes(size[0]) as usize);
        let before = planes[plane].lock().unwrap()[y as usize].replace(bytes.to_vec());
        assert_eq!(before, None, "line {y} of plane {plane} comes once");
    };
    let mut statistics = Statistics::default();
    assert!(isp.process(read, &write, &mut statistics, &AtomicBool::new(false)));
    let lines = |plane: Mutex<Vec<Option<Vec<u8>>>>| plane.into_inner().unwrap().into_iter();
    let bytes = planes.into_iter().map(|plane| lines(plane).flat_map(|line| line.unwrap()).collect());
    (bytes.collect(), statistics)
}

const SIZE: [u32; 2] = [160, 120];

/// What the camera's sensor sees of a scene, at an exposure at which white just fills its pixels.
struct Scene {
    sensor: Sensor,
    light: Light,
    settings: Settings,
}

impl Scene {
    fn new(draw: impl Fn(u32, &mut [u8]), sensor: Sensor, flip_x: bool, flip_y: bool) -> Self {
        let light = Light::new(SIZE, Phase::Rggb, [1.0; 3], true, draw, &AtomicBool::new(false)).unwrap();
        let settings = Settings {
            crop: [0, 0],
            size: SIZE,
            binning: 1,
            flip_x,
            flip_y,
            exposure_ns: 11_111_111,
            analogue_gain: 256,
            digital_gain: 256,
            black: sensor::BLACK,
        };
        Self { sensor, light, settings }
    }

    fn input(&self, bits: u32) -> Input {
        Input { size: SIZE, phase: self.settings.phase(Phase::Rggb), bits }
    }

    fn picture(&self, bits: u32, format: &'static Format, params: &Params) -> Vec<Vec<u8>> {
        let mut isp = Isp::new(self.input(bits), whole(SIZE, format), params, 1).unwrap();
        let read = |y: u32, samples: &mut [u16]| {
            self.sensor.read_line(&self.light, &self.settings, 0, y, samples);
            samples.iter_mut().for_each(|sample| *sample >>= sensor::BITS - bits);
        };
        process(&mut isp, &read).0
    }
}

fn default_params() -> Params {
    Params::default_for(&sensor::colour(), SIZE)
}

fn quiet() -> Sensor {
    Sensor::new(0, false, 0)
}

#[test]
fn greys_come_back_within_one_code() {
    let check = |bits, grey: u8, most_off: u8| {
        let scene = Scene::new(|_, line| line.fill(grey), quiet(), false, false);
        let [rgb] = &scene.picture(bits, format("RGB24"), &default_params())[..] else { panic!() };
        for pixel in rgb.as_chunks::<3>().0 {
            let (least, most) = (pixel.iter().min().unwrap(), pixel.iter().max().unwrap());
            assert!(most - least <= most_off, "{pixel:?} is not neutral at {grey}, {bits} bits");
            let is_grey = pixel.iter().all(|value| value.abs_diff(grey) <= most_off);
            assert!(is_grey, "{pixel:?} is not {grey}, {bits} bits");
        }
    };
    [0, 60, 128, 200, 254, 255].iter().for_each(|&grey| check(12, grey, 1));
    [0, 128, 200, 254, 255].iter().for_each(|&grey| check(10, grey, 1));
    // In the dark sRGB is steep, and a step of the samples is more than a code: there it is they that are not neutral.
    check(12, 40, 2);
}

/// With samples that are neutral to the last bit, at each of their levels.
#[test]
fn neutral_samples_stay_neutral() {
    let size = [64, 4096];
    let params = Params { white_balance: [20_000; 4], lens_shading: None, ..default_params() };
    let input = Input { size, phase: Phase::Gbrg, bits: 12 };
    let mut isp = Isp::new(input, whole(size, format("RGB24")), &params, 1).unwrap();
    let rgb =
        process(&mut isp, &|y, samples: &mut [u16]| samples.fill(u16::try_from(y).unwrap())).0.remove(0);
    for (at, [r, g, b]) in rgb.as_chunks::<3>().0.iter().enumerate() {
        assert!(
            r.abs_diff(*g) <= 1 && g.abs_diff(*b) <= 1 && r.abs_diff(*b) <= 1,
            "{r} {g} {b} of {}",
            at / 64
        );
    }
}

#[test]
fn greys_have_no_chroma() {
    for (quantization, white) in [(Quantization::Limited, 235), (Quantization::Full, 255)] {
        for ycbcr in [YcbcrEncoding::Bt601, YcbcrEncoding::Bt709] {
            let params = Params { encoding: Encoding { ycbcr, quantization }, ..default_params() };
            let scene = Scene::new(|_, line| line.fill(255), quiet(), true, false);
            let planes = scene.picture(12, format("NV12"), &params);
            assert!(planes[0].iter().all(|&luma| luma.abs_diff(white) <= 1));
            assert!(planes[1].iter().all(|chroma| chroma.abs_diff(128) <= 1));
        }
    }
}

/// The 24 patches of the ColorChecker in sRGB, as its maker published them (X-Rite, 2005).
const PATCHES: [[u8; 3]; 24] = [
    [115, 82, 68],
    [194, 150, 130],
    [98, 122, 157],
    [87, 108, 67],
    [133, 128, 177],
    [103, 189, 170],
    [214, 126, 44],
    [80, 91, 166],
    [193, 90, 99],
    [94, 60, 108],
    [157, 188, 64],
    [224, 163, 46],
    [56, 61, 150],
    [70, 148, 73],
    [175, 54, 60],
    [231, 199, 31],
    [187, 86, 149],
    [8, 133, 161],
    [243, 243, 242],
    [200, 200, 200],
    [160, 160, 160],
    [122, 122, 121],
    [85, 85, 85],
    [52, 52, 52],
];

/// CIE L*a*b* of an sRGB colour, D65.
fn lab(rgb: [f64; 3]) -> [f64; 3] {
    let [r, g, b] = rgb.map(|value| {
        let value = value / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    let f = |value: f64| if value > 0.008_856 { value.cbrt() } else { 7.787 * value + 16.0 / 116.0 };
    let x = f((0.412_456 * r + 0.357_576 * g + 0.180_438 * b) / 0.950_47);
    let y = f(0.212_673 * r + 0.715_152 * g + 0.072_175 * b);
    let z = f((0.019_334 * r + 0.119_192 * g + 0.950_304 * b) / 1.088_83);
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// Delta E of CIE 1976: at 2.3 people begin to see a difference. Stated here: 1.0 at most for each patch, and 0.5 in the mean,
/// as the sensor's filters are known exactly. What is left is of rounding: of the sensor's samples, and to eight bits.
#[test]
fn a_colour_checker_comes_back() {
    let [across, down] = [SIZE[0] / 6, SIZE[1] / 4];
    let draw = |y: u32, line: &mut [u8]| {
        for (pixel, x) in line.as_chunks_mut::<3>().0.iter_mut().zip(0..) {
            *pixel = PATCHES[((y / down).min(3) * 6 + (x / across).min(5)) as usize];
        }
    };
    for (flip_x, flip_y) in [(false, false), (true, false), (false, true), (true, true)] {
        let scene = Scene::new(draw, quiet(), flip_x, flip_y);
        let rgb = scene.picture(12, format("RGB24"), &default_params()).remove(0);
        let pixels = rgb.as_chunks::<3>().0;
        let mut sum = 0.0;
        for (index, patch) in (0..).zip(PATCHES) {
            let (mut left, mut top) = (index % 6 * across, index / 6 * down);
            if flip_x {
                left = SIZE[0] - left - across;
            }
            if flip_y {
                top = SIZE[1] - top - down;
            }
            // The mean of the pixels that are not near an edge.
            let inner = (top + 8..top + down - 8)
                .flat_map(|y| (left + 8..left + across - 8).map(move |x| pixels[(y * SIZE[0] + x) as usize]));
            let inner: Vec<_> = inner.collect();
            let mean = [0, 1, 2].map(|channel| {
                inner.iter().map(|pixel| f64::from(pixel[channel])).sum::<f64>() / inner.len() as f64
            });
            let (seen, meant) = (lab(mean), lab(patch.map(f64::from)));
            let delta = seen.iter().zip(meant).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(delta <= 1.0, "patch {index}: {mean:?} instead of {patch:?}, Delta E {delta}");
            sum += delta;
        }
        assert!(sum / 24.0 <= 0.5, "mean Delta E {}", sum / 24.0);
    }
}

#[test]
fn defect_pixels_are_not_seen() {
    let draw = |y: u32, line: &mut [u8]| {
        for (pixel, x) in line.as_chunks_mut::<3>().0.iter_mut().zip(0_u32..) {
            pixel.fill((60 + x / 2 + y / 4).to_le_bytes()[0]);
        }
    };
    let picture = |defects, params: &Params| {
        Scene::new(draw, Sensor::new(3, false, defects), false, false)
            .picture(12, format("GREY"), params)
            .remove(0)
    };
    let worst = |params: &Params| {
        let (bad, good) = (picture(300, params), picture(0, params));
        bad.iter().zip(&good).map(|(bad, good)| bad.abs_diff(*good)).max().unwrap()
    };
    assert!(worst(&default_params()) <= 3, "{}", worst(&default_params()));
    let off = Params { defect_pixel: DefectPixel { threshold: u16::MAX }, ..default_params() };
    assert!(worst(&off) > 50);
}

/// A frame without structure, so that nothing that is mirrored or interpolated can be right by chance.
fn noise(seed: u32) -> impl Fn(u32, &mut [u16]) + Sync {
    move |y, samples: &mut [u16]| {
        for (sample, x) in samples.iter_mut().zip(0_u32..) {
            let word =
                (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ seed).wrapping_mul(0xc2b2_ae3d);
            let [.., a, b] = (word ^ word >> 15).wrapping_mul(0x27d4_eb2f).to_le_bytes();
            *sample = u16::from_le_bytes([a, b]) >> 6;
        }
    }
}

fn noise_input(size: [u32; 2]) -> Input {
    Input { size, phase: Phase::Rggb, bits: 10 }
}

#[test]
fn formats_have_the_same_picture() {
    let size = [98, 64];
    let picture = |name: &str| {
        let mut isp = Isp::new(noise_input(size), whole(size, format(name)), &default_params(), 1).unwrap();
        process(&mut isp, &noise(1)).0
    };
    let rgb = picture("RGB24").remove(0);
    let colours = rgb.as_chunks::<3>().0;
    let rearranged =
        |order: &dyn Fn([u8; 3]) -> Vec<u8>| colours.iter().flat_map(|&c| order(c)).collect::<Vec<_>>();
    assert_eq!(picture("BGR24")[0], rearranged(&|[r, g, b]| vec![b, g, r]));
    assert_eq!(picture("XRGB32")[0], rearranged(&|[r, g, b]| vec![255, r, g, b]));
    assert_eq!(picture("XBGR32")[0], rearranged(&|[r, g, b]| vec![b, g, r, 255]));

    // By the test pattern's converter, which knows only codes of eight bits.
    for name in ["GREY", "NV12", "NV16", "YUV420", "YUYV", "UYVY"] {
        let format = format(name);
        let lines =
            |shape: &crate::format::PlaneShape| shape.line_bytes(size[0]) * size[1] / shape.subsampling;
        let mut planes: Vec<Vec<u8>> =
            format.planes.iter().map(|shape| vec![0; lines(shape) as usize]).collect();
        let mut slices: Vec<&mut [u8]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
        crate::convert::convert(format, size[0], &rgb, &mut slices);
        for (ours, theirs) in picture(name).iter().zip(&planes) {
            assert_eq!(ours.len(), theirs.len());
            let worst = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(1), "{name}: {worst:?}");
        }
    }
}

#[test]
fn frames_are_the_same_on_every_architecture() {
    let (size, small) = ([322, 242], [160, 122]);
    let sum = |name: &str, size_out| {
        let format = format(name);
        let output = Output { size: size_out, ..whole(size, format) };
        let mut isp = Isp::new(noise_input(size), output, &default_params(), 1).unwrap();
        let (planes, Statistics { histogram, zones }) = process(&mut isp, &noise(5));
        let mut hasher = crc32fast::Hasher::new();
        planes.iter().for_each(|plane| hasher.update(plane));
        histogram.iter().for_each(|count| hasher.update(&count.to_le_bytes()));
        for zone in zones.as_flattened() {
            [zone.luma, zone.focus].iter().for_each(|sum| hasher.update(&sum.to_le_bytes()));
            zone.balanced.iter().for_each(|sum| hasher.update(&sum.to_le_bytes()));
        }
        hasher.finalize()
    };
    assert_eq!(
        [("NV12", size), ("RGB24", size), ("YUYV", size), ("YUV420", small)]
            .map(|(name, size)| sum(name, size)),
        [1652726020, 3404569582, 2485354220, 1672352674]
    );
}

#[test]
fn a_crop_is_a_part_of_the_whole() {
    let size = [128, 96];
    let crop = Rect { left: 22, top: 30, width: 64, height: 40 };
    for name in ["RGB24", "NV12", "YUV420"] {
        let format = format(name);
        for threads in [1, 3] {
            let mut isp =
                Isp::new(noise_input(size), whole(size, format), &default_params(), threads).unwrap();
            let (all, measured) = process(&mut isp, &noise(2));
            let output = Output { crop, size: [crop.width, crop.height], format };
            isp.configure(noise_input(size), output).unwrap();
            let (part, measured_too) = process(&mut isp, &noise(2));
            assert_eq!(measured, measured_too, "of the whole frame in any case");
            for ((all, part), shape) in all.iter().zip(&part).zip(format.planes) {
                let [line, begin, bytes] =
                    [size[0], crop.left, crop.width].map(|x| shape.line_bytes(x) as usize);
                let top = (crop.top / shape.subsampling) as usize;
                for (y, seen) in part.chunks_exact(bytes).enumerate() {
                    assert_eq!(seen, &all[(top + y) * line + begin..][..bytes], "{name}");
                }
            }
        }
    }
}

#[test]
fn a_smaller_picture_has_the_means_of_the_larger_one() {
    let size = [128, 96];
    let mut isp = Isp::new(noise_input(size), whole(size, format("GREY")), &default_params(), 1).unwrap();
    let all = process(&mut isp, &noise(3)).0.remove(0);
    for threads in [1, 2] {
        let mut isp =
            Isp::new(noise_input(size), whole(size, format("GREY")), &default_params(), threads).unwrap();
        isp.configure(noise_input(size), Output { size: [64, 32], ..whole(size, format("GREY")) }).unwrap();
        let small = process(&mut isp, &noise(3)).0.remove(0);
        for (at, &seen) in (0..).zip(&small) {
            let (x, y) = (at % 64 * 2, at / 64 * 3);
            let area = (0..3).flat_map(|v| (0..2).map(move |u| (y + v) * 128 + x + u));
            let mean = area.map(|at| f64::from(all[at])).sum::<f64>() / 6.0;
            assert!((f64::from(seen) - mean).abs() < 1.6, "{seen} instead of {mean} at {x}, {y}");
        }
    }
}

#[test]
fn statistics_are_the_scenes() {
    // The left half is red, the right one white.
    let draw = |_, line: &mut [u8]| {
        for (pixel, x) in line.as_chunks_mut::<3>().0.iter_mut().zip(0..) {
            *pixel = if x < SIZE[0] / 2 { [255, 0, 0] } else { [200, 200, 200] };
        }
    };
    let scene = Scene::new(draw, quiet(), false, false);
    let mut isp = Isp::new(scene.input(12), whole(SIZE, format("NV12")), &default_params(), 1).unwrap();
    let read = |y: u32, samples: &mut [u16]| {
        scene.sensor.read_line(&scene.light, &scene.settings, 0, y, samples);
    };
    let (_, Statistics { histogram, zones }) = process(&mut isp, &read);
    assert_eq!(histogram.iter().sum::<u32>(), SIZE[0] / 2 * SIZE[1] / 2);
    let grey = zones[7][13];
    let ratio = |zone: &Zone, a: usize, b: usize| zone.balanced[a] as f64 / zone.balanced[b] as f64;
    let Colour { white_balance: [red, green, blue], .. } = sensor::colour();
    assert!(
        (ratio(&grey, 1, 0) - red / green).abs() < 0.01 && (ratio(&grey, 1, 2) - blue / green).abs() < 0.01
    );
    // The expected value for 0.5776 of white's light, with the full range of 15356.
    assert!((grey.balanced[1] / u64::from(grey.balanced_quads)).abs_diff(8870) < 60, "{grey:?}");
    assert_eq!((grey.quads, grey.balanced_quads, grey.focus), (20, 20, grey.focus));
    assert!(ratio(&zones[7][1], 1, 0) < 0.4, "red has little green");
    assert!(zones[7][7].focus > 100 * zones[7][13].focus.max(1), "focus is where the edge is");
}

#[test]
fn a_frame_that_broke_off_leaves_nothing_behind() {
    let size = [64, 48];
    for threads in [1, 2] {
        let mut isp =
            Isp::new(noise_input(size), whole(size, format("NV12")), &default_params(), threads).unwrap();
        let expected = process(&mut isp, &noise(4));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            process(&mut isp, &|y, samples| if y == 40 { panic!("meant") } else { samples.fill(900) })
        }));
        assert!(broken.is_err());
        assert_eq!(process(&mut isp, &noise(4)), expected);
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let size = [64, 48];
    let refused = |input: Input, output: Output| {
        Isp::new(input, output, &Params::neutral(), 1).unwrap_err().to_string()
    };
    let good = (noise_input(size), whole(size, format("NV12")));
    assert_eq!(
        refused(Input { size: [64, 47], ..good.0 }, good.1),
        "a frame of the ISP cannot be 64x47; both are even, from 32 to 8192"
    );
    assert_eq!(
        refused(Input { bits: 9, ..good.0 }, good.1),
        "samples cannot have 9 bits; they have 8, 10, 12 or 14"
    );
    for (left, top, width, height) in
        [(2, 0, 64, 48), (1, 0, 32, 48), (0, 0, 33, 48), (u32::MAX - 1, 0, 2, 48)]
    {
        let crop = Rect { left, top, width, height };
        let message = refused(good.0, Output { crop, ..good.1 });
        assert_eq!(
            message,
            format!("the crop {width}x{height} at ({left}, {top}) is not an even part of a frame of 64x48")
        );
    }
    let crop = Rect { left: 0, top: 0, width: 34, height: 48 };
    assert_eq!(
        refused(good.0, Output { crop, ..good.1 }),
        "34x48 pixels cannot become 64x48; the ISP makes pictures smaller only"
    );
    assert!(refused(good.0, whole(size, format("SRGGB8"))).starts_with("SRGGB8 is a raw format"));
    let mut isp = Isp::new(good.0, good.1, &Params::neutral(), 1).unwrap();
    assert!(isp.configure(Input { size: [0, 0], ..good.0 }, good.1).is_err());
    assert_eq!(isp.setup.input, good.0, "nothing has changed");
}

#[test]
fn a_frame_that_is_aborted_ends_within_its_lines() {
    let grey = format("GREY");
    let input = Input { size: SIZE, phase: Phase::Rggb, bits: 12 };
    for threads in [1, 3] {
        // The abort comes with the first line put out, and with the first one that is read: what follows needs at most the lines
        // of one more pair.
        for at_write in [true, false] {
            let mut isp = Isp::new(input, whole(SIZE, grey), &Params::neutral(), threads).unwrap();
            let (abort, reads) = (AtomicBool::new(false), AtomicU32::new(0));
            let read = |_: u32, samples: &mut [u16]| {
                samples.fill(0);
                if !at_write {
                    abort.store(true, Ordering::Relaxed);
                }
                reads.fetch_add(u32::from(abort.load(Ordering::Relaxed)), Ordering::Relaxed);
            };
            let write = |_: usize, _: u32, _: &[u8]| abort.store(true, Ordering::Relaxed);
            let mut statistics = Statistics::default();
            assert!(!isp.process(&read, &write, &mut statistics, &abort));
            assert_eq!(statistics, Statistics::default());
            let reads = reads.into_inner();
            assert!(reads <= 12 * u32::try_from(threads).unwrap(), "{reads} lines were read after the abort");
            // The next frame is whole.
            let (frame, _) = process(&mut isp, &|_, samples| samples.fill(sensor::BLACK));
            assert_eq!(frame[0].len(), (SIZE[0] * SIZE[1]) as usize);
        }
    }
}
