//! A scene as the ISP puts it out, kept for as long as format, size and scene stay: each frame is a copy of it.
//!
//! The picture is higher than a frame. Successive frames begin two lines further down, for [`PHASES`] frames, then
//! at the top again: so frames differ, each plane of each is one contiguous stretch of the picture, and colour
//! filters and subsampled planes stay in step.

use std::sync::atomic::{AtomicBool, Ordering};

use crc32fast::Hasher;

use super::{
    convert,
    format::{Layout, MAX_PLANES},
    scene::{Pattern, Scene},
    stamp,
};

/// After so many frames the pixels repeat; a prime, so that they seldom keep step with a ring of buffers.
pub(super) const PHASES: u32 = 61;

/// Lines from one phase to the next: even, for colour filters and subsampled planes.
const STEP: u32 = 2;

/// Lines that are drawn before the abort flag is looked at again.
const BAND: u32 = 32;

/// What the sensor looks at, and how it is read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SensorSettings {
    pub(super) pattern: Pattern,
    /// Left and right are exchanged.
    pub(super) flip_horizontal: bool,
    /// Top and bottom are exchanged.
    pub(super) flip_vertical: bool,
}

/// A rendered scene, without padding.
pub(super) struct Picture {
    sensor: SensorSettings,
    layout: Layout,
    planes: Vec<Vec<u8>>,
    /// What went through after the stamp, for each phase, when it was first needed.
    checksums: [Option<Hasher>; PHASES as usize],
}

/// One frame of a picture.
pub(super) struct Frame<'a> {
    /// What takes the place of the first bytes of plane 0.
    pub(super) stamp: [u8; stamp::LEN],
    /// The lines of each plane, without padding; empty for planes that the format has not.
    pub(super) planes: [&'a [u8]; MAX_PLANES],
}

impl Picture {
    /// Renders what `sensor` sees for frames of the format and size of `layout`; none if `abort` was set meanwhile.
    pub(super) fn render(
        sensor: SensorSettings,
        layout: &Layout,
        seed: u64,
        abort: &AtomicBool,
    ) -> Option<Self> {
        let (format, width) = (layout.format(), layout.width());
        let height = layout.height() + (PHASES - 1) * STEP;
        let scene = Scene::new(sensor.pattern, width, height, seed);
        let bytes = |shape: &super::format::PlaneShape, lines| {
            shape.line_bytes(width) as usize * (lines / shape.subsampling) as usize
        };
        let mut planes: Vec<Vec<u8>> =
            format.planes.iter().map(|shape| vec![0; bytes(shape, height)]).collect();
        let mut rgb = vec![0; (width * 3 * BAND) as usize];
        for start in (0..height).step_by(BAND as usize) {
            if abort.load(Ordering::Relaxed) {
                return None;
            }
            let lines = BAND.min(height - start);
            let rgb = &mut rgb[..(width * 3 * lines) as usize];
            for (line, y) in rgb.chunks_exact_mut((width * 3) as usize).zip(start..) {
                scene.draw(if sensor.flip_vertical { height - 1 - y } else { y }, line);
                if sensor.flip_horizontal {
                    line.as_chunks_mut::<3>().0.reverse();
                }
            }
            let mut band: Vec<&mut [u8]> = planes
                .iter_mut()
                .zip(format.planes)
                .map(|(plane, shape)| &mut plane[bytes(shape, start)..][..bytes(shape, lines)])
                .collect();
            convert::convert(format, width, rgb, &mut band);
        }
        Some(Self { sensor, layout: *layout, planes, checksums: [const { None }; PHASES as usize] })
    }

    /// Whether it is what `sensor` sees in frames of the format and size of `layout`.
    pub(super) fn is(&self, sensor: SensorSettings, layout: &Layout) -> bool {
        let key = |layout: &Layout| (layout.format().fourcc, layout.width(), layout.height());
        self.sensor == sensor && key(&self.layout) == key(layout)
    }

    /// Frame `sequence`.
    pub(super) fn frame(&mut self, sequence: u32) -> Frame<'_> {
        let phase = sequence % PHASES;
        let mut planes: [&[u8]; MAX_PLANES] = [&[]; MAX_PLANES];
        let shapes = self.layout.format().planes.iter().zip(self.layout.planes());
        for ((lines, plane), (shape, layout)) in planes.iter_mut().zip(&self.planes).zip(shapes) {
            let line = layout.line_bytes as usize;
            let first = (phase * STEP / shape.subsampling) as usize;
            *lines = &plane[first * line..][..layout.lines as usize * line];
        }
        let checksum = self.checksums[phase as usize].get_or_insert_with(|| {
            let mut hasher = Hasher::new();
            hasher.update(&planes[0][stamp::LEN..]);
            planes[1..].iter().for_each(|plane| hasher.update(plane));
            hasher
        });
        Frame { stamp: stamp::make(sequence, &self.layout, checksum), planes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::format::FORMATS;

    fn picture(pattern: Pattern, fourcc: u32) -> (Picture, Layout) {
        let layout = Layout::new(fourcc, 160, 120).unwrap();
        let sensor = SensorSettings { pattern, ..SensorSettings::default() };
        (Picture::render(sensor, &layout, 1, &AtomicBool::new(false)).unwrap(), layout)
    }

    fn bytes(frame: &Frame) -> Vec<u8> {
        let mut bytes = frame.planes.concat();
        bytes[..stamp::LEN].copy_from_slice(&frame.stamp);
        bytes
    }

    #[test]
    fn every_format_is_stamped_right_in_every_phase() {
        for format in FORMATS {
            let (mut picture, layout) = picture(Pattern::Noise, format.fourcc);
            for sequence in [0, 1, 60, 61, u32::MAX] {
                let frame = bytes(&picture.frame(sequence));
                assert_eq!(stamp::check(&frame, &layout).unwrap().sequence, sequence, "{}", format.name);
            }
        }
    }

    #[test]
    fn a_tear_between_two_frames_shows() {
        for value in 0..6 {
            let pattern = Pattern::from_register(value).unwrap();
            let (mut picture, layout) = picture(pattern, u32::from_le_bytes(*b"NV12"));
            let (first, second) = (bytes(&picture.frame(5)), bytes(&picture.frame(6)));
            assert_eq!(first.len(), second.len());
            let half = first.len() / 3;
            let torn = [&second[..half], &first[half..]].concat();
            assert!(matches!(stamp::check(&torn, &layout), Err(stamp::StampError::Torn { .. })), "{pattern}");
        }
    }

    #[test]
    fn frames_pan_downwards_and_stay_in_step_with_colour_filters() {
        let (mut picture, _) = picture(Pattern::Noise, u32::from_le_bytes(*b"RGGB"));
        let first = picture.frame(0).planes[0].to_vec();
        let second = picture.frame(1).planes[0].to_vec();
        assert_eq!(first[2 * 160..], second[..118 * 160]);
    }

    #[test]
    fn flips_turn_the_picture() {
        let (width, lines) = (160 * 3, 120 + (PHASES - 1) as usize * 2);
        let layout = Layout::new(u32::from_le_bytes(*b"RGB3"), 160, 120).unwrap();
        let planes = |flip_horizontal, flip_vertical| {
            let sensor = SensorSettings { pattern: Pattern::Noise, flip_horizontal, flip_vertical };
            let picture = Picture::render(sensor, &layout, 1, &AtomicBool::new(false)).unwrap();
            assert!(picture.is(sensor, &layout) && !picture.is(SensorSettings::default(), &layout));
            picture.planes.concat()
        };
        let (plain, horizontal) = (planes(false, false), planes(true, false));
        let (vertical, both) = (planes(false, true), planes(true, true));
        assert_eq!(plain[..3], horizontal[width - 3..width]);
        assert_eq!(plain[..width], vertical[(lines - 1) * width..]);
        assert_eq!(plain[..3], both[lines * width - 3..]);
        assert_eq!(plain[width..width + 3], both[(lines - 1) * width - 3..(lines - 1) * width]);
    }

    #[test]
    fn rendering_ends_when_told() {
        let layout = Layout::new(FORMATS[0].fourcc, 3840, 2160).unwrap();
        assert!(Picture::render(SensorSettings::default(), &layout, 0, &AtomicBool::new(true)).is_none());
    }
}
