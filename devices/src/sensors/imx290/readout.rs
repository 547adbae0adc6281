//! From the registers to what the chip sends.

use std::time::Duration;

use media::{Phase, sensor::Settings};

use super::registers as regs;
use crate::sensors::{
    output::{Output, RAW10, RAW12, SHORTEST_INTERVAL},
    registers::Registers,
    test_pattern::{Pattern, TestPattern, Window},
};

/// Width and height of the array, in pixels: the driver's 1945x1097, in whole pairs of colours.
pub const ARRAY: [u32; 2] = [1944, 1096];

/// The left and the upper edge of the recording pixels, behind a margin for the processing of colours.
const RECORDING: [u32; 2] = [12, 8];

/// The windows, by `CTRL_07`: bits 4 to 6, width and height. This model has no window of free choice.
const WINDOWS: [(u32, [u32; 2]); 2] = [(0, [1920, 1080]), (1, [1280, 720])];

/// The periods of `HMAX`, in hertz (`IMX290_PIXEL_RATE` of the driver).
const PIXEL_RATE: u64 = 148_500_000;

/// The largest gain before quantisation, in steps of 0.3 dB.
const LARGEST_ANALOGUE_GAIN: u32 = 100;

/// The largest gain in all, in steps of 0.3 dB.
const LARGEST_GAIN: u32 = 240;

const NANOSECONDS: u64 = 1_000_000_000;

/// What a chip with these registers sends. None in standby, and if the registers describe no frame.
pub(super) fn output(registers: &Registers) -> Option<Output> {
    let get = |register| registers.get(register);
    if (get(regs::STANDBY) | get(regs::XMSTA)) & 1 != 0 {
        return None;
    }
    let (bits, data_type) = match (get(regs::CSI_DT_FMT), get(regs::ADBIT) & 1, get(regs::OUT_CTRL) & 1) {
        (0x0a0a, 0, 0) => (10, RAW10),
        (0x0c0c, 1, 1) => (12, RAW12),
        _ => return None,
    };
    let lanes = match (get(regs::PHY_LANE_NUM), get(regs::CSI_LANE_MODE)) {
        (1, 1) => 2,
        (3, 3) => 4,
        _ => return None,
    };
    let control = get(regs::CTRL_07);
    let (_, window) = WINDOWS.into_iter().find(|(number, _)| *number == control >> 4 & 7)?;
    let size = [get(regs::X_OUT_SIZE), get(regs::Y_OUT_SIZE)];
    let [left, top] = [0, 1].map(|axis| {
        let is_even = size[axis] > 0 && size[axis].is_multiple_of(2);
        // The windows have one middle.
        let fits = is_even && size[axis] <= window[axis];
        fits.then(|| RECORDING[axis] + (WINDOWS[0].1[axis] - window[axis]) / 2)
    });
    let [interval, exposure] = times(registers, size[1])?;
    let [analogue_gain, digital_gain] = gains(get(regs::GAIN));
    let settings = Settings {
        crop: [left?, top?],
        size,
        binning: 1,
        flip_x: control & 2 != 0,
        flip_y: control & 1 != 0,
        exposure_ns: u32::try_from(exposure.as_nanos()).unwrap_or(u32::MAX),
        analogue_gain,
        digital_gain,
        black: black(get(regs::BLKLEVEL), bits),
    };
    Some(Output {
        size,
        bits,
        // A flip reads a line more or a column more, so that the phase stays.
        phase: Phase::Rggb,
        data_type,
        lanes,
        interval,
        settings,
        test_pattern: test_pattern(get(regs::PGCTRL), size),
    })
}

/// The time of a frame of `height` lines, and that of its exposure.
fn times(registers: &Registers, height: u32) -> Option<[Duration; 2]> {
    let length = registers.get(regs::VMAX) & 0x3_ffff;
    let line = u64::from(registers.get(regs::HMAX));
    if length < height {
        return None;
    }
    let time = |lines: u32| Duration::from_nanos(u64::from(lines) * line * NANOSECONDS / PIXEL_RATE);
    let exposed = length.saturating_sub((registers.get(regs::SHS1) & 0x3_ffff) + 1);
    Some([time(length), time(exposed)]).filter(|[interval, _]| *interval >= SHORTEST_INTERVAL)
}

/// The gain before and the gain after quantisation, in 1/256.
fn gains(steps: u32) -> [u32; 2] {
    let steps = steps.min(LARGEST_GAIN);
    let analogue = steps.min(LARGEST_ANALOGUE_GAIN);
    [analogue, steps - analogue].map(|steps| {
        let factor = 10_f64.powf(0.3 / 20.0 * f64::from(steps));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 10^2.1, times 256")]
        let fixed = (256.0 * factor).round() as u32;
        fixed
    })
}

/// The sample without light, of 12 bits.
fn black(level: u32, bits: u32) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "9 bits, shifted by at most 2")]
    let level = ((level & 0x1ff) << (12 - bits)) as u16;
    level
}

/// The test pattern that takes the place of the picture. The driver's menu names seven; this model has those four that their names
/// describe, and shows the picture for the others.
fn test_pattern(control: u32, size: [u32; 2]) -> Option<TestPattern> {
    let pattern = match (control & 3, control >> 4) {
        (3, 2) => Pattern::Bars,
        (3, 3) => Pattern::StackedBars,
        (3, 5) => Pattern::Ramp,
        (3, 6) => Pattern::StackedRamp,
        _ => return None,
    };
    Some(TestPattern { pattern, window: Window { start: [0, 0], size } })
}
