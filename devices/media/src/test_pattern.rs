//! The test pattern generator: frames of a drawn scene, made without sensor and ISP.
//!
//! The scene is rendered once for a format and a size, and each frame is a copy of a part of it. The rendered pattern is
//! higher than a frame. Each frame begins two lines below the frame before, for [`PHASES`] frames, and then at the top again.
//! So successive frames differ, each plane of a frame is one contiguous part of the pattern, and colour filters and
//! subsampled planes stay in phase.

use std::sync::atomic::{AtomicBool, Ordering};

use crc32fast::Hasher;

use super::{
    convert,
    format::{Layout, MAX_PLANES, PlaneShape},
    scene::{Scene, SceneSettings},
    stamp,
};

/// The pixels repeat after this number of frames. It is a prime, so that a ring of buffers seldom sees the same pixels in the
/// same buffer.
const PHASES: u32 = 61;

/// Lines from the start of one frame to that of the next. The number is even, for colour filters and subsampled planes.
const STEP: u32 = 2;

/// Lines that are drawn between two looks at the abort flag.
const BAND: u32 = 32;

/// A rendered test pattern, without padding.
#[derive(Debug)]
pub struct TestPattern {
    scene: SceneSettings,
    layout: Layout,
    planes: Vec<Vec<u8>>,
    /// The checksum of the bytes after the stamp, for each phase that was needed so far.
    checksums: [Option<Hasher>; PHASES as usize],
}

/// One frame of a test pattern.
#[derive(Debug)]
pub struct TestFrame<'a> {
    /// The stamp, which replaces the first bytes of plane 0.
    pub stamp: [u8; stamp::LEN],
    /// The lines of each plane, without padding. Planes that the format does not have are empty.
    pub planes: [&'a [u8]; MAX_PLANES],
}

impl TestPattern {
    /// Renders `scene` for frames with the format and size of `layout`. None if `abort` was set meanwhile.
    pub fn render(scene: SceneSettings, layout: &Layout, seed: u64, abort: &AtomicBool) -> Option<Self> {
        let (format, width) = (layout.format(), layout.width());
        let height = layout.height() + (PHASES - 1) * STEP;
        let drawn = Scene::drawn(scene, [width, height], seed);
        let bytes = |shape: &PlaneShape, lines| {
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
                drawn.line(y, line);
            }
            let mut band: Vec<&mut [u8]> = planes
                .iter_mut()
                .zip(format.planes)
                .map(|(plane, shape)| &mut plane[bytes(shape, start)..][..bytes(shape, lines)])
                .collect();
            convert::convert(format, width, rgb, &mut band);
        }
        Some(Self { scene, layout: *layout, planes, checksums: [const { None }; PHASES as usize] })
    }

    /// Whether it shows `scene` in frames with the format and size of `layout`.
    pub fn is(&self, scene: SceneSettings, layout: &Layout) -> bool {
        let key = |layout: &Layout| (layout.format().fourcc, layout.width(), layout.height());
        self.scene == scene && key(&self.layout) == key(layout)
    }

    /// Frame `sequence`.
    pub fn frame(&mut self, sequence: u32) -> TestFrame<'_> {
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
        TestFrame { stamp: stamp::make(sequence, &self.layout, checksum), planes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FORMATS, Pattern};

    fn picture(pattern: Pattern, fourcc: u32) -> (TestPattern, Layout) {
        let layout = Layout::new(fourcc, 160, 120).unwrap();
        let scene = SceneSettings { pattern, ..SceneSettings::default() };
        (TestPattern::render(scene, &layout, 1, &AtomicBool::new(false)).unwrap(), layout)
    }

    fn bytes(frame: &TestFrame) -> Vec<u8> {
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
            let pattern = Pattern::from_number(value).unwrap();
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
            let scene = SceneSettings { pattern: Pattern::Noise, flip_horizontal, flip_vertical };
            let picture = TestPattern::render(scene, &layout, 1, &AtomicBool::new(false)).unwrap();
            assert!(picture.is(scene, &layout) && !picture.is(SceneSettings::default(), &layout));
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
    fn rendering_ends_when_aborted() {
        let layout = Layout::new(FORMATS[0].fourcc, 3840, 2160).unwrap();
        assert!(TestPattern::render(SceneSettings::default(), &layout, 0, &AtomicBool::new(true)).is_none());
    }
}
