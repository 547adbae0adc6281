//! The chip under the sequences of Linux's drivers of 6.1 and 7.2, and under hostile ones.

use std::time::Duration;

use media::{
    Phase,
    random::split_mix,
    sensor::{BLACK, Settings},
};

use super::*;
use crate::{
    faults::FaultHandle,
    i2c::{
        Bus,
        rk3x::{Controller, regs as i2c},
    },
    sensors::{Pattern, RAW8, RAW10, TestPattern, Window},
};

/// Writes a value of one or two bytes to the registers from `address` on, in a message.
fn write(chip: &mut Imx219, address: u16, value: &[u8]) {
    chip.start(false);
    assert!(address.to_be_bytes().iter().chain(value).all(|byte| chip.write(*byte)));
}

fn write16(chip: &mut Imx219, address: u16, value: u16) {
    write(chip, address, &value.to_be_bytes());
}

/// Reads the registers from `address` on.
fn read<const N: usize>(chip: &mut Imx219, address: u16) -> [u8; N] {
    write(chip, address, &[]);
    chip.start(true);
    [0; N].map(|_| chip.read())
}

/// Some of what both drivers write to undocumented registers.
const UNDOCUMENTED: &[(u16, u8)] = &[
    (0x30eb, 0x05),
    (0x30eb, 0x0c),
    (0x300a, 0xff),
    (0x300b, 0xff),
    (0x30eb, 0x05),
    (0x30eb, 0x09),
    (0x455e, 0x00),
    (0x471e, 0x4b),
    (0x479b, 0x0e),
];

/// A mode of the drivers: the size of a frame, the columns and lines that are read out, and lines from frame to frame.
struct Mode {
    size: [u16; 2],
    columns: [u16; 2],
    lines: [u16; 2],
    length: u16,
}

/// The modes. The length is that of 6.1.
const MODES: [Mode; 4] = [
    Mode { size: [3280, 2464], columns: [0, 3279], lines: [0, 2463], length: 3526 },
    Mode { size: [1920, 1080], columns: [680, 2599], lines: [692, 1771], length: 1763 },
    Mode { size: [1640, 1232], columns: [0, 3279], lines: [0, 2463], length: 1763 },
    Mode { size: [640, 480], columns: [1000, 2279], lines: [752, 1711], length: 1763 },
];

/// The controls of a driver: exposure in lines, codes of both gains, and the orientation.
#[derive(Clone, Copy)]
struct Controls {
    exposure: u16,
    gain: u8,
    digital: u16,
    orientation: u8,
}

const CONTROLS: Controls = Controls { exposure: 1600, gain: 0, digital: 256, orientation: 0 };

fn window(chip: &mut Imx219, mode: &Mode) {
    let [columns, lines] = [mode.columns, mode.lines];
    for (address, value) in (0x0164..).step_by(2).zip([columns, lines, mode.size].concat()) {
        write16(chip, address, value);
    }
}

/// The controls, in the order in which V4L2 applies them, and the start.
fn controls_and_start(chip: &mut Imx219, controls: Controls, length: u16) {
    write16(chip, 0x015a, controls.exposure);
    write(chip, 0x0157, &[controls.gain]);
    write16(chip, 0x0158, controls.digital);
    write(chip, 0x0172, &[controls.orientation]);
    write16(chip, 0x0160, length);
    write16(chip, 0x0600, 0);
    (0x0602..=0x0608).step_by(2).for_each(|address| write16(chip, address, 0x3ff));
    write(chip, 0x0100, &[1]);
}

/// As the driver of 6.1 starts a mode with samples of 10 or 8 bits: byte by byte, with two lanes.
fn start_6_1(mode: &Mode, bits: u8, controls: Controls) -> Imx219 {
    let mut chip = Imx219::new();
    write(&mut chip, 0x0100, &[0]);
    UNDOCUMENTED.iter().for_each(|(address, value)| write(&mut chip, *address, &[*value]));
    let common = [
        (0x0301, 5),
        (0x0303, 1),
        (0x0304, 3),
        (0x0305, 3),
        (0x0306, 0),
        (0x0307, 0x39),
        (0x030b, 1),
        (0x030c, 0),
        (0x030d, 0x72),
        (0x0162, 0x0d),
        (0x0163, 0x78),
        (0x0170, 1),
        (0x0171, 1),
        (0x0114, 1),
        (0x0128, 0),
        (0x012a, 0x18),
        (0x012b, 0),
    ];
    common.into_iter().for_each(|(address, value)| write(&mut chip, address, &[value]));
    window(&mut chip, mode);
    // The test pattern of the smallest mode has the window of the one above it.
    let window = if mode.size[0] == 640 { [1640, 1232] } else { mode.size };
    write16(&mut chip, 0x0624, window[0]);
    write16(&mut chip, 0x0626, window[1]);
    [(0x018c, bits), (0x018d, bits), (0x0309, bits)]
        .into_iter()
        .for_each(|(address, value)| write(&mut chip, address, &[value]));
    let binning = match (mode.size[0] <= 1640, bits) {
        (false, _) => 0,
        (true, 8) => 0x0303,
        (true, _) => 0x0101,
    };
    write16(&mut chip, 0x0174, binning);
    controls_and_start(&mut chip, controls, mode.length);
    chip
}

/// As the driver of 7.2 starts a mode. Analogue binning brings two lines in the time of one, so that the driver halves lengths.
fn start_7_2(mode: &Mode, bits: u8, lanes: u8, controls: Controls) -> Imx219 {
    let mut chip = Imx219::new();
    write(&mut chip, 0x0100, &[0]);
    UNDOCUMENTED.iter().for_each(|(address, value)| write(&mut chip, *address, &[*value]));
    [(0x0170, 1), (0x0171, 1), (0x0128, 0), (0x0301, 5), (0x0303, 1), (0x0304, 3), (0x0305, 3), (0x030b, 1)]
        .into_iter()
        .for_each(|(address, value)| write(&mut chip, address, &[value]));
    write16(&mut chip, 0x012a, 0x1800);
    write16(&mut chip, 0x0306, if lanes == 2 { 57 } else { 88 });
    write16(&mut chip, 0x030c, if lanes == 2 { 114 } else { 91 });
    write(&mut chip, 0x0114, &[lanes - 1]);
    window(&mut chip, mode);
    let (binning, line, length, factor) =
        if mode.size[0] <= 1640 { (3, 3560, 1707, 2) } else { (0, 3448, mode.length, 1) };
    write(&mut chip, 0x0174, &[binning]);
    write(&mut chip, 0x0175, &[binning]);
    write16(&mut chip, 0x0624, mode.size[0]);
    write16(&mut chip, 0x0626, mode.size[1]);
    write(&mut chip, 0x018c, &[bits, bits]);
    write(&mut chip, 0x0309, &[bits]);
    write16(&mut chip, 0x0162, line);
    let controls = Controls { exposure: controls.exposure / factor, ..controls };
    controls_and_start(&mut chip, controls, length / factor);
    chip
}

/// Nanoseconds of this number of pixels at this rate, rounded down.
fn time(pixels: u64, rate: u64) -> u64 {
    pixels * 1_000_000_000 / rate
}

fn small(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds).unwrap()
}

#[test]
fn the_driver_finds_the_chip() {
    let mut chip = Imx219::new();
    assert_eq!(read(&mut chip, 0x0000), [0x02, 0x19]);
    write(&mut chip, 0x0000, &[7, 7]);
    assert_eq!(read(&mut chip, 0x0000), [0x02, 0x19]);
    assert_eq!(chip.output(), None);
    // The driver streams for a moment, so that the link gets into its idle state.
    write(&mut chip, 0x0100, &[1]);
    assert_eq!(chip.output().map(|output| (output.size, output.lanes)), Some((ARRAY, 4)));
    write(&mut chip, 0x0100, &[0]);
    assert_eq!(chip.output(), None);
}

#[test]
fn the_index_moves_on_and_stays_between_messages() {
    let mut chip = Imx219::new();
    write(&mut chip, 0x0157, &[1, 2, 3]);
    assert_eq!(read(&mut chip, 0x0156), [0, 1, 2, 3]);
    chip.start(true);
    assert_eq!((chip.read(), chip.read()), (0x06, 0x40));
    write(&mut chip, 0xffff, &[5]);
    assert_eq!(read(&mut chip, 0xffff), [5, 0x02, 0x19]);
    // One byte does not set the address, which has two.
    chip.start(false);
    assert!(chip.write(0x01));
    chip.start(false);
    assert!(chip.write(0x01) && chip.write(0x57) && chip.write(9));
    assert_eq!(read(&mut chip, 0x0157), [9]);
}

#[test]
fn a_software_reset_puts_all_registers_back() {
    let mut chip = start_6_1(&MODES[1], 10, CONTROLS);
    write(&mut chip, 0x0103, &[0]);
    assert!(chip.output().is_some());
    write(&mut chip, 0x0103, &[1]);
    assert_eq!(chip.output(), None);
    assert_eq!(read(&mut chip, 0x0103), [0]);
    assert_eq!(read(&mut chip, 0x016c), 3280_u16.to_be_bytes());
    let mut chip = start_6_1(&MODES[1], 10, CONTROLS);
    chip.reset();
    assert_eq!(chip.output(), None);
}

#[test]
fn the_modes_of_6_1_are_what_its_driver_says() {
    let crops = [[0, 0], [680, 692], [0, 0], [1000, 752]];
    // 15 and 30 frames a second.
    let intervals = [66_653_771, 33_326_885, 33_326_885, 33_326_885];
    for (index, mode) in MODES.iter().enumerate() {
        for (bits, data_type) in [(8, RAW8), (10, RAW10)] {
            let chip = start_6_1(mode, bits, CONTROLS);
            let size = mode.size.map(u32::from);
            let expected = Output {
                size,
                bits: bits.into(),
                phase: Phase::Rggb,
                data_type,
                lanes: 2,
                interval: Duration::from_nanos(intervals[index]),
                settings: Settings {
                    crop: crops[index],
                    size,
                    binning: if index < 2 { 1 } else { 2 },
                    flip_x: false,
                    flip_y: false,
                    exposure_ns: small(time(1600 * 3448, 182_400_000)),
                    analogue_gain: 256,
                    digital_gain: 256,
                    black: BLACK,
                },
                test_pattern: None,
            };
            assert_eq!(chip.output(), Some(expected), "mode {index}, {bits} bits");
            assert_eq!(time(u64::from(mode.length) * 3448, 182_400_000), intervals[index]);
        }
    }
}

#[test]
fn the_modes_of_7_2_are_what_its_driver_says() {
    for (lanes, rate) in [(2, 182_400_000), (4, 281_600_000)] {
        for (index, mode) in MODES.iter().enumerate() {
            let output = start_7_2(mode, 10, lanes, CONTROLS).output().unwrap();
            assert_eq!((output.size, output.lanes), (mode.size.map(u32::from), lanes));
            let (binning, pixels, lines) =
                if index < 2 { (1, 3448, u64::from(mode.length)) } else { (2, 3560, 853) };
            assert_eq!(output.settings.binning, binning);
            assert_eq!(output.interval, Duration::from_nanos(time(pixels * lines, rate)));
            let exposure = 1600 / u64::from(binning);
            assert_eq!(output.settings.exposure_ns, small(time(pixels * exposure.min(lines), rate)));
        }
    }
    // 60 frames a second with two lanes.
    let interval = start_7_2(&MODES[2], 8, 2, CONTROLS).output().unwrap().interval;
    assert_eq!(interval, Duration::from_nanos(16_648_464));
}

#[test]
fn flips_give_the_phases_of_the_drivers_table() {
    let phases = [Phase::Rggb, Phase::Grbg, Phase::Gbrg, Phase::Bggr];
    for (phase, orientation) in phases.into_iter().zip(0..) {
        for mode in &MODES {
            let output = start_6_1(mode, 10, Controls { orientation, ..CONTROLS }).output().unwrap();
            assert_eq!(output.phase, phase);
            assert_eq!(output.settings.flip_x, orientation & 1 != 0);
            assert_eq!(output.settings.flip_y, orientation & 2 != 0);
            assert_eq!(output.settings.crop, [mode.columns[0], mode.lines[0]].map(u32::from));
        }
    }
}

#[test]
fn gains_and_exposure_come_from_their_codes() {
    let settings = |controls| start_6_1(&MODES[1], 10, controls).output().unwrap().settings;
    // 256 / (256 - code), in 1/256; codes end at 232.
    for (gain, expected) in [(0, 256), (128, 512), (192, 1024), (232, 2731), (255, 2731), (1, 257)] {
        assert_eq!(settings(Controls { gain, ..CONTROLS }).analogue_gain, expected);
    }
    for (digital, expected) in [(0x0100, 256), (0x0fff, 4095), (0xffff, 4095)] {
        assert_eq!(settings(Controls { digital, ..CONTROLS }).digital_gain, expected);
    }
    let exposure = |exposure| settings(Controls { exposure, ..CONTROLS }).exposure_ns;
    assert_eq!((exposure(4), exposure(0)), (75_614, 0));
    // No longer than the frame.
    assert_eq!(exposure(u16::MAX), 33_326_885);
}

#[test]
fn a_frame_that_is_smaller_than_its_window_shows_what_is_read_first() {
    let mode = Mode { size: [640, 480], columns: [100, 1123], lines: [200, 967], length: 1763 };
    let crop = |orientation| {
        let mut chip = start_6_1(&mode, 10, Controls { orientation, ..CONTROLS });
        write16(&mut chip, 0x0174, 0);
        chip.output().unwrap().settings.crop
    };
    assert_eq!([crop(0), crop(1)], [[100, 200], [1124 - 640, 200]]);
    assert_eq!([crop(2), crop(3)], [[100, 968 - 480], [1124 - 640, 968 - 480]]);
}

#[test]
fn binning_and_skipping_give_the_scale() {
    let scale = |binning: u8, increment: u8| {
        let mut chip = start_6_1(&MODES[3], 10, CONTROLS);
        write16(&mut chip, 0x016c, 320);
        write16(&mut chip, 0x016e, 240);
        write(&mut chip, 0x0174, &[binning, binning]);
        write(&mut chip, 0x0170, &[increment, increment]);
        chip.output().map(|output| output.settings.binning)
    };
    assert_eq!([scale(0, 1), scale(1, 1), scale(2, 1), scale(3, 1)], [Some(1), Some(2), Some(4), Some(2)]);
    assert_eq!([scale(0, 3), scale(1, 3), scale(2, 3)], [Some(2), Some(4), None]);
    assert_eq!([scale(4, 1), scale(0, 0), scale(0, 2)], [None; 3]);
}

#[test]
fn registers_that_describe_no_frame_give_none() {
    let with = |changes: &[(u16, u16)]| {
        let mut chip = start_6_1(&MODES[1], 10, CONTROLS);
        changes.iter().for_each(|(address, value)| write16(&mut chip, *address, *value));
        chip.output()
    };
    assert!(with(&[]).is_some());
    for change in [
        (0x018c, 0x0a08),
        (0x018c, 0x0c0c),
        (0x0114, 0x0000),
        (0x0174, 0x0100),
        (0x0160, 1079),
        (0x0162, 3447),
        (0x0164, 681),
        (0x0164, 2600),
        (0x0166, 3280),
        (0x0166, 2597),
        (0x0168, 694),
        (0x016a, 2465),
        (0x016c, 0),
        (0x016c, 1919),
        (0x016c, 1922),
        (0x016e, 1082),
        (0x0301, 0x0001),
        (0x0303, 0x0003),
        (0x0304, 0x0003),
        (0x0304, 0x0403),
        (0x0306, 0),
    ] {
        assert_eq!(with(&[change]), None, "{change:x?}");
    }
    // An odd width, of which binning makes an even number of columns.
    let mut binned = start_6_1(&MODES[3], 10, CONTROLS);
    write16(&mut binned, 0x016c, 639);
    assert_eq!(binned.output(), None);
    // 64 lines of 3448 pixels at 182.4 MHz are 1.2 ms; 50 lines are less than 1 ms.
    assert!(with(&[(0x016e, 64), (0x0160, 64)]).is_some());
    assert_eq!(with(&[(0x016e, 50), (0x0160, 50)]), None);
}

#[test]
fn test_patterns_come_from_their_registers() {
    let pattern = |number: u16| {
        let mut chip = start_6_1(&MODES[3], 10, CONTROLS);
        (0x0602..)
            .step_by(2)
            .zip([1, 2, 3, 0xfc04])
            .for_each(|(address, value)| write16(&mut chip, address, value));
        write16(&mut chip, 0x0620, 5);
        write16(&mut chip, 0x0622, 6);
        write16(&mut chip, 0x0600, number);
        chip.output().unwrap().test_pattern
    };
    let window = Window { start: [5, 6], size: [1640, 1232] };
    let of = |pattern| Some(TestPattern { pattern, window });
    // Registers: red, green of red, blue, green of blue.
    assert_eq!([pattern(0), pattern(1)], [None, of(Pattern::Solid([1, 2, 4, 3]))]);
    assert_eq!(
        [pattern(2), pattern(3), pattern(4)],
        [Pattern::Bars, Pattern::FadingBars, Pattern::Pn9].map(of)
    );
    assert_eq!([pattern(5), pattern(0x0100)], [None; 2]);
}

#[test]
fn hostile_registers_give_none_or_a_frame_of_the_array() {
    let mut frames = 0;
    for seed in 0..1000 {
        let mut chip = start_6_1(&MODES[usize::try_from(seed % 4).unwrap()], 10, CONTROLS);
        for step in 0..40 {
            let random = split_mix(seed, step);
            let [a, b, low, value, small, ..] = random.to_le_bytes();
            // Mostly the registers that have an effect, and mostly small changes.
            let address = match a % 8 {
                0 => u16::from_le_bytes([b, low]),
                1 => 0x0300 | u16::from(b % 16),
                2 => 0x0600 | u16::from(b % 48),
                _ => 0x0156 + u16::from(b % 56),
            };
            let value = if small % 2 == 0 { value } else { value & 3 };
            if address != 0x0100 && address != 0x0103 {
                write(&mut chip, address, &[value]);
            }
            let Some(output) = chip.output() else { continue };
            frames += 1;
            let Settings { crop, size, binning, .. } = output.settings;
            for (axis, array) in ARRAY.into_iter().enumerate() {
                assert!(crop[axis] + size[axis] * binning <= array);
                assert!(size[axis] > 0 && size[axis] % 2 == 0 && crop[axis] % 2 == 0);
            }
            assert!(matches!(binning, 1 | 2 | 4));
            assert!(output.interval >= Duration::from_millis(1));
            assert!(output.size == size && (256..=2731).contains(&output.settings.analogue_gain));
            if let Some(pattern) = output.test_pattern {
                let mut samples = vec![0; size[0] as usize];
                pattern.line(size[1] - 1, output.phase, &mut samples);
                assert!(samples.iter().all(|sample| *sample < 1024));
            }
        }
    }
    assert!(frames > 1000, "{frames}");
}

#[test]
fn the_chip_answers_behind_the_controller() {
    let mut controller = Controller::new(Bus::new(vec![(ADDRESS, Imx219::new())]), FaultHandle::none());
    let address = u32::from(ADDRESS << 1);
    controller.store(i2c::MRXADDR, address | i2c::VALID);
    controller.store(i2c::MRXRADDR, i2c::VALID | i2c::VALID << 1);
    controller.store(i2c::CON, i2c::CON_EN | i2c::MOD_REGISTER_TX | i2c::CON_START | i2c::CON_ACTACK);
    controller.store(i2c::MRXCNT, 2);
    assert_eq!(controller.load(i2c::RXDATA), 0x1902);
    let sensor = |controller: &Controller<Imx219>| controller.bus().chip(ADDRESS).and_then(Imx219::output);
    assert_eq!(sensor(&controller), None);
    controller.store(i2c::CON, 0);
    controller.store(i2c::CON, i2c::CON_EN | i2c::MOD_TX | i2c::CON_START | i2c::CON_ACTACK);
    controller.store(i2c::TXDATA, address | 0x01 << 8 | 0x01 << 24);
    controller.store(i2c::MTXCNT, 4);
    assert!(sensor(&controller).is_some());
}
