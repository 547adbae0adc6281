//! The quality of the ISP's demosaicing compared with OpenCV, on pictures of scikit-image.

use std::{
    env, fs,
    path::Path,
    sync::{Mutex, atomic::AtomicBool},
};

use devices::media::{
    FORMATS, Phase,
    isp::{Input, Isp, Output, Params, Rect, Statistics},
};
use tests::{
    harness::{Group, Place},
    python, tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "demosaic",
        place: Place::OutsideOfLabs,
        tests: tests![colours_are_interpolated_at_least_as_well_as_by_opencv,],
    }
}

/// The packages of the script, for pip.
const PACKAGES: [&str; 3] = ["numpy==2.4.6", "opencv-python-headless==5.0.0.93", "scikit-image==0.26.0"];

/// Number of pixels at each edge that do not count: algorithms extrapolate the picture differently.
const EDGE: usize = 4;

/// The ISP's result for the mosaic of `rgb`, with all other stages neutral.
fn ours(rgb: &[u8], [width, height]: [u32; 2]) -> Vec<u8> {
    let format = FORMATS.iter().find(|format| format.name == "RGB24").unwrap();
    let input = Input { size: [width, height], phase: Phase::Rggb, bits: 8 };
    let crop = Rect { left: 0, top: 0, width, height };
    let output = Output { crop, size: [width, height], format };
    let mut isp = Isp::new(input, output, &Params::neutral(), 1).unwrap();
    let line = width as usize * 3;
    let made = Mutex::new(vec![0; rgb.len()]);
    let read = |y: u32, samples: &mut [u16]| {
        let pixels = rgb[y as usize * line..].as_chunks::<3>().0;
        for ((sample, pixel), x) in samples.iter_mut().zip(pixels).zip(0..) {
            *sample = pixel[(x % 2 + y % 2) as usize].into();
        }
    };
    let write = |_, y: u32, bytes: &[u8]| {
        made.lock().unwrap()[y as usize * line..][..line].copy_from_slice(bytes);
    };
    isp.process(&read, &write, &mut Statistics::default(), &AtomicBool::new(false));
    made.into_inner().unwrap()
}

/// Peak signal-to-noise ratio in decibels, of all three colours together.
fn psnr(made: &[u8], rgb: &[u8], width: usize) -> f64 {
    let line = width * 3;
    let inner = |pixels: &[u8]| -> Vec<u8> {
        let lines = pixels.chunks_exact(line);
        let count = lines.len();
        let inner = lines.skip(EDGE).take(count - 2 * EDGE);
        inner.flat_map(|line| line[3 * EDGE..line.len() - 3 * EDGE].to_vec()).collect()
    };
    let (made, rgb) = (inner(made), inner(rgb));
    let squares: f64 = made.iter().zip(&rgb).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * rgb.len() as f64 / squares).log10()
}

fn colours_are_interpolated_at_least_as_well_as_by_opencv() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/demosaic.py");
    let output = python::with(&PACKAGES).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    println!("{:<24}{:>10}{:>12}{:>8}   PSNR in dB", "", "bilinear", "edge-aware", "ours");
    let mut sums = [0.0; 3];
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(told.lines().count(), 9, "{told}");
    for line in told.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, width, height] = fields[..] else { panic!("{line}") };
        let size = [width, height].map(|length| length.parse().unwrap());
        let read = |kind: &str| fs::read(folder.path().join(format!("{name}.{kind}"))).unwrap();
        let rgb = read("rgb");
        let all = [read("bilinear"), read("edge-aware"), ours(&rgb, size)];
        let ratios = all.map(|made| psnr(&made, &rgb, size[0] as usize));
        let [bilinear, edge_aware, ours] = ratios;
        println!("{name:<24}{bilinear:>10.2}{edge_aware:>12.2}{ours:>8.2}");
        sums.iter_mut().zip(ratios).for_each(|(sum, ratio)| *sum += ratio / 9.0);
    }
    let [bilinear, edge_aware, ours] = sums;
    println!("{:<24}{bilinear:>10.2}{edge_aware:>12.2}{ours:>8.2}", "mean");
    assert!(ours >= edge_aware, "ours has {ours:.2} dB, OpenCV's edge-aware {edge_aware:.2}");
}
