//! The clock of the sensor's frames.

use std::time::Instant;

use crate::sensors::Output;

/// The clock of the sensor's frames.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When the next frame begins; none while the sensor does not stream.
    pub(super) next: Option<Instant>,
    /// The number of the next frame of the sensor.
    pub(super) number: u32,
    /// The exposure time that the next frame has: that of the sensor's registers when the frame before began.
    exposure_ns: Option<u32>,
    /// A frame is in work.
    pub(super) is_busy: bool,
    /// The worker ends.
    pub(super) is_off: bool,
    pub(super) is_paused: bool,
    /// Frames that may still begin; none for all.
    pub(super) steps: Option<u32>,
    /// Until when the next frame waits for the guest's handler, if the handler stores nothing more.
    pub(super) handled_by: Option<Instant>,
}

impl Clock {
    pub(super) fn restart(&mut self) {
        self.next = None;
        self.number = 0;
        self.exposure_ns = None;
    }

    /// The frame that begins while the sensor's registers say `sensor`. Its lines were exposed while the frame before was read out, so
    /// a change of the exposure time takes a frame longer than others. libcamera expects that of its sensors (`sensorDelays` of the
    /// IMX219 in `camera_sensor_properties.cpp`).
    pub(super) fn expose(&mut self, sensor: &Output) -> Output {
        let mut frame = *sensor;
        let set = sensor.settings.exposure_ns;
        frame.settings.exposure_ns = self.exposure_ns.replace(set).unwrap_or(set);
        frame
    }

    pub(super) fn abandon(&mut self) {
        self.is_busy = false;
    }

    /// The guest has stored: its handler may go on.
    pub(super) fn note_store(&mut self) {
        self.handled_by = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use media::{
        Phase,
        sensor::{BLACK, Settings},
    };

    use super::*;

    #[test]
    fn an_exposure_time_takes_effect_a_frame_later_than_gains() {
        let sensor = |exposure_ns, analogue_gain| Output {
            size: [64, 48],
            bits: 10,
            phase: Phase::Rggb,
            data_type: 0x2b,
            lanes: 2,
            interval: Duration::from_millis(10),
            settings: Settings {
                crop: [0, 0],
                size: [64, 48],
                binning: 1,
                flip_x: false,
                flip_y: false,
                exposure_ns,
                analogue_gain,
                digital_gain: 256,
                black: BLACK,
            },
            test_pattern: None,
        };
        let mut clock = Clock::default();
        let mut frame = |exposure_ns, analogue_gain| {
            let settings = clock.expose(&sensor(exposure_ns, analogue_gain)).settings;
            (settings.exposure_ns, settings.analogue_gain)
        };
        let frames = [frame(1000, 256), frame(2000, 512), frame(2000, 512), frame(2000, 512)];
        assert_eq!(frames, [(1000, 256), (1000, 512), (2000, 512), (2000, 512)]);
        // The first frame of a stream has what was programmed before.
        clock.restart();
        assert_eq!(clock.expose(&sensor(3000, 256)).settings.exposure_ns, 3000);
    }
}
