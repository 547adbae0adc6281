//! From the registers to what the chip sends.

use std::time::Duration;

use media::{
    Phase,
    sensor::{BLACK, Settings},
};

use super::registers as regs;
use crate::sensors::{
    output::{Output, RAW8, RAW10, SHORTEST_INTERVAL},
    registers::{Register, Registers},
    test_pattern::{Pattern, TestPattern, Window},
};

/// Width and height of the array, in pixels. Its phase is R G / G B.
pub const ARRAY: [u32; 2] = [3280, 2464];

/// The frequency of the external clock in hertz, the only one with which the driver works.
pub(super) const EXTERNAL_CLOCK: u32 = 24_000_000;

/// The pixels that a line takes at least (`IMX219_LLP_MIN` of the driver).
const SHORTEST_LINE: u32 = 3448;

/// The largest code of the analogue gain (`IMX219_ANA_GAIN_MAX` of the driver).
const LARGEST_GAIN_CODE: u32 = 232;

/// The largest digital gain, in 1/256 (`IMX219_DGTL_GAIN_MAX` of the driver).
const LARGEST_DIGITAL_GAIN: u32 = 0xfff;

/// The value of BINNING_X and BINNING_Y for analogue binning.
const ANALOGUE: u32 = 3;

const NANOSECONDS: u64 = 1_000_000_000;

/// What a chip with these registers sends. None in standby, and if the registers describe no frame.
pub(super) fn output(registers: &Registers) -> Option<Output> {
    let get = |register| registers.get(register);
    if get(regs::MODE_SELECT) & 1 == 0 {
        return None;
    }
    let (bits, data_type) = match get(regs::CSI_FORMAT) {
        0x0808 => (8, RAW8),
        0x0a0a => (10, RAW10),
        _ => return None,
    };
    let lanes = match get(regs::CSI_LANES) {
        1 => 2,
        3 => 4,
        _ => return None,
    };
    let size = [get(regs::X_SIZE), get(regs::Y_SIZE)];
    let binning = scale(get(regs::BINNING_X), get(regs::X_ODD_INCREMENT))?;
    if scale(get(regs::BINNING_Y), get(regs::Y_ODD_INCREMENT))? != binning {
        return None;
    }
    let [flip_x, flip_y] = [1, 2].map(|bit| get(regs::ORIENTATION) & bit != 0);
    let columns = [get(regs::X_START), get(regs::X_END)];
    let lines = [get(regs::Y_START), get(regs::Y_END)];
    let crop = [
        edge(columns, ARRAY[0], size[0], binning, flip_x)?,
        edge(lines, ARRAY[1], size[1], binning, flip_y)?,
    ];
    let [interval, exposure] = times(registers, size[1])?;
    if interval < SHORTEST_INTERVAL {
        return None;
    }
    let settings = Settings {
        crop,
        size,
        binning,
        flip_x,
        flip_y,
        exposure_ns: u32::try_from(exposure.as_nanos()).unwrap_or(u32::MAX),
        analogue_gain: analogue_gain(get(regs::ANALOGUE_GAIN)),
        digital_gain: get(regs::DIGITAL_GAIN).min(LARGEST_DIGITAL_GAIN),
        black: BLACK,
    };
    Some(Output {
        size,
        bits,
        phase: settings.phase(Phase::Rggb),
        data_type,
        lanes,
        interval,
        settings,
        test_pattern: test_pattern(registers),
    })
}

/// The pixels of a colour that make one in a direction. This model takes the mean of pixels that are skipped, as of binned ones.
fn scale(binning: u32, odd_increment: u32) -> Option<u32> {
    let binned = match binning {
        0 => 1,
        1 | ANALOGUE => 2,
        2 => 4,
        _ => return None,
    };
    let skipped = match odd_increment {
        1 => 1,
        3 => 2,
        _ => return None,
    };
    Some(binned * skipped).filter(|scale| *scale <= 4)
}

/// Where a frame of `size` pixels in a direction, of `scale` each, begins on the array. `first` and `last` are the pixels that are
/// read out. Columns and lines come in pairs of colours. A frame that is smaller than that shows what is read first.
fn edge([first, last]: [u32; 2], array: u32, size: u32, scale: u32, is_flipped: bool) -> Option<u32> {
    let end = last + 1;
    let available = end.checked_sub(first).filter(|_| end <= array)?;
    let are_pairs = [first, end, size].iter().all(|position| position.is_multiple_of(2));
    let used = size * scale;
    if !are_pairs || !(1..=available).contains(&used) {
        return None;
    }
    Some(if is_flipped { end - used } else { first })
}

/// The time of a frame of `height` lines, and that of its exposure, which is not longer.
fn times(registers: &Registers, height: u32) -> Option<[Duration; 2]> {
    let get = |register| registers.get(register);
    let line = get(regs::LINE_LENGTH);
    let length = get(regs::FRAME_LENGTH);
    // With analogue binning a line's time brings two lines: the driver halves what it writes.
    let is_analogue = get(regs::BINNING_X) == ANALOGUE && get(regs::BINNING_Y) == ANALOGUE;
    let capacity = if is_analogue { 2 * length } else { length };
    if line < SHORTEST_LINE || capacity < height {
        return None;
    }
    let rate = pixel_rate(registers)?;
    let time = |lines: u32| {
        let nanoseconds = (u64::from(lines) * u64::from(line) * NANOSECONDS).checked_div(rate)?;
        Some(Duration::from_nanos(nanoseconds))
    };
    Some([time(length)?, time(get(regs::EXPOSURE).min(length))?])
}

/// Pixels a second: two with each period of the PLL's output.
fn pixel_rate(registers: &Registers) -> Option<u64> {
    let get = |register| u64::from(registers.get(register));
    let divided = match get(regs::VT_PRE_DIVISOR) {
        divisor @ 1..=3 => u64::from(EXTERNAL_CLOCK) / divisor,
        _ => return None,
    };
    let multiplied = divided * (get(regs::VT_MULTIPLIER) & 0x7ff);
    (2 * multiplied).checked_div(get(regs::VT_PIXEL_DIVISOR) * get(regs::VT_SYSTEM_DIVISOR))
}

/// The analogue gain in 1/256, rounded.
fn analogue_gain(code: u32) -> u32 {
    let divisor = 256 - code.min(LARGEST_GAIN_CODE);
    (256 * 256 + divisor / 2) / divisor
}

/// The test pattern that takes the place of the picture.
fn test_pattern(registers: &Registers) -> Option<TestPattern> {
    let pattern = match registers.get(regs::TEST_PATTERN) {
        1 => {
            let colours = [regs::TEST_RED, regs::TEST_GREEN_RED, regs::TEST_GREEN_BLUE, regs::TEST_BLUE];
            Pattern::Solid(colours.map(|colour| (registers.get(colour) & 0x3ff) as u16))
        }
        2 => Pattern::Bars,
        3 => Pattern::FadingBars,
        4 => Pattern::Pn9,
        _ => return None,
    };
    let pair = |both: [Register; 2]| both.map(|register| registers.get(register));
    let window = Window {
        start: pair([regs::TEST_X, regs::TEST_Y]),
        size: pair([regs::TEST_WIDTH, regs::TEST_HEIGHT]),
    };
    Some(TestPattern { pattern, window })
}
