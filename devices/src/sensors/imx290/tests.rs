//! The chip as Linux's driver programs it. The values are those of `drivers/media/i2c/imx290.c` in Linux 6.1 and 6.12.

use std::time::Duration;

use media::{Phase, random::split_mix, sensor::Settings};

use super::*;
use crate::sensors::{Pattern, RAW10, RAW12, TestPattern, Window};

/// A mode with four lanes: width and height, `HMAX`, `VMAX`, `CTRL_07`, and the corner on the array.
struct Mode {
    size: [u16; 2],
    hmax: u16,
    vmax: u16,
    control: u8,
    crop: [u32; 2],
}

/// The driver of 6.1 writes one `VMAX` for both.
const MODES_6_1: [Mode; 2] = [
    Mode { size: [1920, 1080], hmax: 0x0898, vmax: 0x465, control: 0x00, crop: [12, 8] },
    Mode { size: [1280, 720], hmax: 0x0ce4, vmax: 0x465, control: 0x10, crop: [332, 188] },
];

fn write(chip: &mut Imx290, address: u16, bytes: &[u8]) {
    chip.start(false);
    assert!(address.to_be_bytes().iter().chain(bytes).all(|byte| chip.write(*byte)));
}

fn write16(chip: &mut Imx290, address: u16, value: u16) {
    write(chip, address, &value.to_le_bytes());
}

/// Puts a mode into registers, with samples of 10 or 12 bits, and starts it.
fn start(mode: &Mode, bits: u8) -> Imx290 {
    let mut chip = Imx290::new();
    write(&mut chip, 0x3407, &[3]);
    write(&mut chip, 0x3443, &[3]);
    write16(&mut chip, 0x3018, mode.vmax);
    let is_wide = u8::from(bits == 12);
    write(&mut chip, 0x3005, &[is_wide]);
    write(&mut chip, 0x3046, &[is_wide]);
    write(&mut chip, 0x3441, &[bits]);
    write(&mut chip, 0x3442, &[bits]);
    write16(&mut chip, 0x300a, if bits == 12 { 0xf0 } else { 0x3c });
    write(&mut chip, 0x3007, &[mode.control]);
    write16(&mut chip, 0x3472, mode.size[0]);
    write16(&mut chip, 0x3418, mode.size[1]);
    write16(&mut chip, 0x301c, mode.hmax);
    assert_eq!(chip.output(), None);
    write(&mut chip, 0x3000, &[0]);
    assert_eq!(chip.output(), None);
    write(&mut chip, 0x3002, &[0]);
    chip
}

#[test]
fn the_modes_of_6_1_are_what_its_driver_says() {
    // HMAX times VMAX at 148.5 MHz: 60 and 40 frames a second. SHS1 stays 0, which is one line less than a frame.
    let times = [(16_666_666, 16_651_851), (25_000_000, 24_977_777)];
    for (mode, (interval, exposure_ns)) in MODES_6_1.iter().zip(times) {
        for (bits, data_type) in [(10, RAW10), (12, RAW12)] {
            let size = mode.size.map(u32::from);
            let expected = Output {
                size,
                bits: bits.into(),
                phase: Phase::Rggb,
                data_type,
                lanes: 4,
                interval: Duration::from_nanos(interval),
                settings: Settings {
                    crop: mode.crop,
                    size,
                    binning: 1,
                    flip_x: false,
                    flip_y: false,
                    exposure_ns,
                    analogue_gain: 256,
                    digital_gain: 256,
                    black: 240,
                },
                test_pattern: None,
            };
            assert_eq!(start(mode, bits).output(), Some(expected));
        }
    }
}

#[test]
fn controls_are_those_of_6_12() {
    // 720p at 60 frames a second: HMAX 3300, VMAX 750.
    let mode = Mode { vmax: 750, ..MODES_6_1[1] };
    let mut chip = start(&mode, 12);
    assert_eq!(chip.output().unwrap().interval, Duration::from_nanos(16_666_666));
    // An exposure of 100 lines of 22.2 us.
    write(
        &mut chip,
        0x3020,
        &[(750_u16 - 100 - 1).to_le_bytes()[0], (750_u16 - 100 - 1).to_le_bytes()[1], 0],
    );
    assert_eq!(chip.output().unwrap().settings.exposure_ns, 2_222_222);
    write(&mut chip, 0x3020, &[0xff, 0xff, 3]);
    assert_eq!(chip.output().unwrap().settings.exposure_ns, 0);
    // A flip leaves the phase alone.
    write(&mut chip, 0x3007, &[0x13]);
    let output = chip.output().unwrap();
    assert_eq!((output.phase, output.settings.crop), (Phase::Rggb, mode.crop));
    assert!(output.settings.flip_x && output.settings.flip_y);
    write(&mut chip, 0x3007, &[0x12]);
    let settings = chip.output().unwrap().settings;
    assert!(settings.flip_x && !settings.flip_y);
}

#[test]
fn a_gain_of_more_than_30_db_is_partly_digital() {
    let mut chip = start(&MODES_6_1[0], 12);
    let mut gains = |code: u8| {
        write(&mut chip, 0x3014, &[code]);
        let settings = chip.output().unwrap().settings;
        [settings.analogue_gain, settings.digital_gain]
    };
    // 6 dB are a factor of 1.9953, 30 dB of 31.623, 42 dB of 125.89.
    assert_eq!([gains(0), gains(1), gains(20)], [[256, 256], [265, 256], [511, 256]]);
    assert_eq!([gains(100), gains(120)], [[8095, 256], [8095, 511]]);
    assert_eq!([gains(240), gains(255)], [[8095, 32_228]; 2]);
}

#[test]
fn held_registers_have_their_effect_together() {
    let mut chip = start(&MODES_6_1[0], 12);
    let before = chip.output();
    write(&mut chip, 0x3001, &[1]);
    write(&mut chip, 0x3014, &[20]);
    write(&mut chip, 0x3001, &[1]);
    write16(&mut chip, 0x300a, 0);
    assert_eq!(chip.output(), before);
    chip.start(false);
    assert!(chip.write(0x30) && chip.write(0x14));
    chip.start(true);
    assert_eq!(chip.read(), 20);
    write(&mut chip, 0x3001, &[0]);
    let settings = chip.output().unwrap().settings;
    assert_eq!((settings.analogue_gain, settings.black), (511, 0));
}

#[test]
fn test_patterns_come_from_their_register() {
    let pattern = |control: u8| {
        let mut chip = start(&MODES_6_1[1], 10);
        write(&mut chip, 0x308c, &[control]);
        chip.output().unwrap().test_pattern
    };
    let of = |pattern| Some(TestPattern { pattern, window: Window { start: [0, 0], size: [1280, 720] } });
    assert_eq!([0x00, 0x13, 0x43, 0x73, 0x22].map(pattern), [None; 5]);
    let shown = [Pattern::Bars, Pattern::StackedBars, Pattern::Ramp, Pattern::StackedRamp];
    assert_eq!([0x23, 0x33, 0x53, 0x63].map(pattern), shown.map(of));
}

#[test]
fn registers_that_describe_no_frame_give_none() {
    let with = |changes: &[(u16, &[u8])]| {
        let mut chip = start(&MODES_6_1[0], 12);
        changes.iter().for_each(|(address, bytes)| write(&mut chip, *address, bytes));
        chip.output()
    };
    assert!(with(&[]).is_some());
    let none: [(u16, &[u8]); 13] = [
        (0x3000, &[1]),
        (0x3002, &[1]),
        (0x3005, &[0]),
        (0x3046, &[0]),
        (0x3441, &[0x0a]),
        (0x3407, &[0]),
        (0x3443, &[1]),
        (0x3007, &[0x40]),
        (0x3472, &[0x82, 0x07]),
        (0x3472, &[0x7f, 0x07]),
        (0x3418, &[0, 0]),
        (0x3018, &[0x37, 0x04]),
        // 1125 lines of 100 periods are less than 1 ms.
        (0x301c, &[100, 0]),
    ];
    for change in none {
        assert_eq!(with(&[change]), None, "{change:x?}");
    }
}

#[test]
fn hostile_registers_give_none_or_a_frame_of_the_array() {
    let mut frames = 0;
    for seed in 0..1000 {
        let mut chip = start(&MODES_6_1[usize::try_from(seed % 2).unwrap()], 12);
        for step in 0..40 {
            let [a, b, low, value, ..] = split_mix(seed, step).to_le_bytes();
            let address = match a % 8 {
                0 => u16::from_le_bytes([b, low]),
                1 => 0x3400 | u16::from(b % 128),
                _ => 0x3000 | u16::from(b),
            };
            if ![0x3000, 0x3002].contains(&address) {
                write(&mut chip, address, &[value]);
            }
            let Some(output) = chip.output() else { continue };
            frames += 1;
            let Settings { crop, size, .. } = output.settings;
            for (axis, array) in ARRAY.into_iter().enumerate() {
                assert!(crop[axis] + size[axis] <= array);
                assert!(size[axis] > 0 && size[axis] % 2 == 0 && crop[axis] % 2 == 0);
            }
            assert!(output.interval >= Duration::from_millis(1) && output.size == size);
        }
    }
    assert!(frames > 1000, "{frames}");
}
