//! The registers of the sensor (`SENSOR_*`): the lengths of a line, a frame and the exposure, and the gains. The lengths
//! determine the frame interval.

use std::time::Duration;

use super::regs;
use media::{Exposure, LARGEST_FRAME};

/// The values of the registers, all within their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SensorRegisters {
    line_length: u32,
    frame_length: u32,
    exposure: u32,
    analogue_gain: u32,
    digital_gain: u32,
    binning: u32,
}

impl SensorRegisters {
    /// The registers after a reset, with this frame interval.
    pub(super) fn new(interval: Duration) -> Self {
        let mut readout = Self {
            line_length: regs::SENSOR_LINE_LENGTH_MIN,
            frame_length: regs::SENSOR_FRAME_LENGTH_MIN,
            exposure: regs::SENSOR_EXPOSURE_RESET,
            analogue_gain: regs::SENSOR_GAIN_ONE,
            digital_gain: regs::SENSOR_GAIN_ONE,
            binning: 1,
        };
        readout.set_interval(interval);
        readout
    }

    /// Reads a register.
    pub(super) fn read(&self, register: u32) -> u32 {
        match register {
            regs::SENSOR_LINE_LENGTH => self.line_length,
            regs::SENSOR_FRAME_LENGTH => self.frame_length,
            regs::SENSOR_EXPOSURE => self.exposure,
            regs::SENSOR_ANALOGUE_GAIN => self.analogue_gain,
            regs::SENSOR_DIGITAL_GAIN => self.digital_gain,
            regs::SENSOR_BINNING => self.binning,
            _ => 0,
        }
    }

    /// Writes a register. Values are clamped to their limits.
    pub(super) fn write(&mut self, register: u32, value: u32) {
        match register {
            regs::SENSOR_LINE_LENGTH => {
                self.line_length = value.clamp(regs::SENSOR_LINE_LENGTH_MIN, regs::SENSOR_LINE_LENGTH_MAX);
            }
            regs::SENSOR_FRAME_LENGTH => {
                self.frame_length = value.clamp(regs::SENSOR_FRAME_LENGTH_MIN, regs::SENSOR_FRAME_LENGTH_MAX);
            }
            regs::SENSOR_EXPOSURE => {
                self.exposure = value.clamp(regs::SENSOR_EXPOSURE_MIN, regs::SENSOR_FRAME_LENGTH_MAX);
            }
            regs::SENSOR_ANALOGUE_GAIN => {
                self.analogue_gain = value.clamp(regs::SENSOR_GAIN_ONE, regs::SENSOR_ANALOGUE_GAIN_MAX);
            }
            regs::SENSOR_DIGITAL_GAIN => {
                self.digital_gain = value.clamp(regs::SENSOR_GAIN_ONE, regs::SENSOR_DIGITAL_GAIN_MAX);
            }
            regs::SENSOR_BINNING => self.binning = 1 << value.clamp(1, regs::SENSOR_BINNING_MAX).ilog2(),
            _ => {}
        }
    }

    /// The binning for a frame of this size: the largest one up to SENSOR_BINNING for which the array has enough pixels.
    pub(super) fn binning(&self, size: [u32; 2]) -> u32 {
        let fits = |binning: &u32| size.iter().zip(LARGEST_FRAME).all(|(size, most)| size * binning <= most);
        [4, 2].into_iter().filter(|binning| *binning <= self.binning).find(fits).unwrap_or(1)
    }

    /// The frame interval.
    pub(super) fn interval(&self) -> Duration {
        nanoseconds(u64::from(self.line_length) * u64::from(self.frame_length))
    }

    /// Sets the frame length to the one whose interval is nearest to `interval`.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        let lines = interval.as_nanos() * u128::from(regs::SENSOR_PIXEL_RATE);
        let line = u128::from(self.line_length) * 1_000_000_000;
        let lines = u32::try_from((lines + line / 2) / line).unwrap_or(u32::MAX);
        self.write(regs::SENSOR_FRAME_LENGTH, lines);
    }

    /// The exposure of the next frame. It ends before the read-out.
    pub(super) fn exposure(&self) -> Exposure {
        let lines = self.exposure.min(self.frame_length - regs::SENSOR_EXPOSURE_MARGIN);
        let time = nanoseconds(u64::from(self.line_length) * u64::from(lines));
        Exposure { time_ns: u32::try_from(time.as_nanos()).unwrap_or(u32::MAX), gain: self.analogue_gain }
    }

    /// Sets the exposure of the next frame, rounded down to whole lines.
    pub(super) fn expose(&mut self, exposure: Exposure) {
        let pixels = u64::from(exposure.time_ns) * PIXELS_PER_MICROSECOND / 1000;
        let lines = pixels / u64::from(self.line_length);
        self.write(regs::SENSOR_EXPOSURE, u32::try_from(lines).unwrap_or(u32::MAX));
        self.write(regs::SENSOR_ANALOGUE_GAIN, exposure.gain);
    }

    /// The digital gain, in 1/256.
    pub(super) fn digital_gain(&self) -> u32 {
        self.digital_gain
    }
}

const PIXELS_PER_MICROSECOND: u64 = regs::SENSOR_PIXEL_RATE as u64 / 1_000_000;

/// The time in which the sensor reads this number of pixels.
fn nanoseconds(pixels: u64) -> Duration {
    Duration::from_nanos(pixels * 1000 / PIXELS_PER_MICROSECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readout(fps: u32) -> SensorRegisters {
        SensorRegisters::new(Duration::from_secs(1) / fps)
    }

    #[test]
    fn intervals_are_lines_and_lines_are_pixels() {
        // The totals of 2160p60 (CTA-861, VIC 97) at its pixel clock, and half as many frames.
        let mut readout = readout(60);
        assert_eq!(
            (readout.read(regs::SENSOR_LINE_LENGTH), readout.read(regs::SENSOR_FRAME_LENGTH)),
            (4400, 2250)
        );
        assert_eq!(readout.interval(), Duration::from_nanos(16_666_666));
        readout.write(regs::SENSOR_FRAME_LENGTH, 4500);
        assert_eq!(readout.interval(), Duration::from_nanos(33_333_333));
        readout.write(regs::SENSOR_LINE_LENGTH, 8800);
        assert_eq!(readout.interval(), Duration::from_nanos(66_666_666));
        readout.set_interval(Duration::from_millis(100));
        assert_eq!(readout.read(regs::SENSOR_FRAME_LENGTH), 6750);
        readout.set_interval(Duration::from_micros(1));
        assert_eq!(readout.read(regs::SENSOR_FRAME_LENGTH), regs::SENSOR_FRAME_LENGTH_MIN);
        readout.set_interval(Duration::from_secs(10_000));
        assert_eq!(readout.read(regs::SENSOR_FRAME_LENGTH), regs::SENSOR_FRAME_LENGTH_MAX);
    }

    #[test]
    fn binning_is_a_power_of_two_that_the_array_has_room_for() {
        let mut readout = readout(30);
        for (value, is) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (u32::MAX, 4)] {
            readout.write(regs::SENSOR_BINNING, value);
            assert_eq!(readout.read(regs::SENSOR_BINNING), is, "{value}");
        }
        assert_eq!(
            [[640, 480], [960, 540], [962, 540], [1920, 1080], [160, 1082], [3840, 2160]]
                .map(|size| readout.binning(size)),
            [4, 4, 2, 2, 1, 1]
        );
        readout.write(regs::SENSOR_BINNING, 2);
        assert_eq!(readout.binning([640, 480]), 2);
    }

    #[test]
    fn exposure_is_lines_and_ends_with_the_frame() {
        let mut readout = readout(30);
        assert_eq!(readout.exposure(), Exposure { time_ns: 10_000_000, gain: 256 });
        readout.write(regs::SENSOR_EXPOSURE, 2700);
        assert_eq!(readout.exposure().time_ns, 20_000_000);
        readout.write(regs::SENSOR_FRAME_LENGTH, 1350 + regs::SENSOR_EXPOSURE_MARGIN);
        assert_eq!((readout.exposure().time_ns, readout.read(regs::SENSOR_EXPOSURE)), (10_000_000, 2700));
        readout.expose(Exposure { time_ns: 5_000_000, gain: 512 });
        assert_eq!(
            (readout.read(regs::SENSOR_EXPOSURE), readout.read(regs::SENSOR_ANALOGUE_GAIN)),
            (675, 512)
        );
        // Longer than the largest number of nanoseconds.
        readout.write(regs::SENSOR_FRAME_LENGTH, u32::MAX);
        readout.write(regs::SENSOR_LINE_LENGTH, u32::MAX);
        readout.write(regs::SENSOR_EXPOSURE, u32::MAX);
        assert_eq!(readout.exposure().time_ns, u32::MAX);
    }
}
