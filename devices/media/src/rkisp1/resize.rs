//! The resizers: each scales luma and chroma of a picture, separately in both directions.
//!
//! The ratio has the units of `rkisp1-resizer.c`. For a smaller picture it is `65536 * (out - 1) / (in - 1) + 1`, and for a
//! larger one `65536 * (in - 1) / (out - 1)`, rounded down. A sample is interpolated between two of the picture that comes in.

use super::encode::Line;
use crate::simd::{Level, kernel};

/// The unit of ratios.
const ONE: u64 = 1 << 16;

/// The number of samples of a line, and of lines, that a resizer makes at most (`RKISP1_RSZ_MP_SRC_MAX_WIDTH`).
const LARGEST: u32 = 4416;

/// The scaling of a plane in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// The ratio: if it scales down, that of the output to the input, and if it scales up, that of the input to the output, in
    /// units of 1/65536. It is limited to 1 to 65536.
    pub ratio: u32,
    /// It scales up.
    pub up: bool,
    /// The distance of the first sample that goes out from the first that comes in, in units of 1/65536 of the larger one of
    /// the distances between samples.
    pub phase: u16,
}

impl Axis {
    /// The ratio, as the distance from one outgoing sample to the next: numerator and denominator.
    fn step(self) -> (u64, u64) {
        let ratio = u64::from(self.ratio).clamp(1, ONE);
        if self.up { (ratio, ONE) } else { (ONE, ratio) }
    }

    /// The number of samples that `length` become. The last one does not lie behind the last one that comes in.
    pub fn length(self, length: u32) -> u32 {
        let (numerator, denominator) = self.step();
        let room = (u64::from(length.saturating_sub(1)) * denominator).saturating_sub(self.phase.into());
        u32::try_from(room / numerator + 1).unwrap_or(u32::MAX).min(if length == 0 { 0 } else { LARGEST })
    }

    /// The position of sample `index`: the sample before it, and the part of the way to the next, in 64ths.
    fn place(self, index: u32) -> (u32, u8) {
        let (numerator, denominator) = self.step();
        let position = u64::from(index) * numerator + u64::from(self.phase);
        let part = position % denominator * 64 / denominator;
        (u32::try_from(position / denominator).unwrap_or(u32::MAX), part.to_le_bytes()[0])
    }
}

/// The scaling of a plane. None keeps the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plane {
    /// Horizontally.
    pub across: Option<Axis>,
    /// Vertically.
    pub down: Option<Axis>,
}

impl Plane {
    /// Width and height of a plane that had `size`.
    pub fn size(&self, size: [u32; 2]) -> [u32; 2] {
        let of = |axis: Option<Axis>, length: u32| axis.map_or(length, |axis| axis.length(length));
        [of(self.across, size[0]), of(self.down, size[1])]
    }
}

/// The scaling of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Luma.
    pub luma: Plane,
    /// Cb and Cr, which come in with half the width.
    pub chroma: Plane,
    /// The weight of the second sample in 64ths, by the part of the way to it in 64ths. 6 bits.
    pub table: [u8; 64],
}

impl Default for Scale {
    /// Keeps the size, and has the table for linear interpolation, which the driver programs.
    fn default() -> Self {
        let table = std::array::from_fn(|index| u8::try_from(index).unwrap_or(63));
        Self { luma: Plane::default(), chroma: Plane::default(), table }
    }
}

/// A line that goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaled<'a> {
    /// Luma, with its line number.
    Luma(u32, &'a [u8]),
    /// Cb and Cr, with their line number.
    Chroma(u32, [&'a [u8]; 2]),
}

/// A resizer, which takes the lines of a picture one by one.
#[derive(Debug)]
pub struct Resizer {
    level: Level,
    table: [u8; 64],
    size: [u32; 2],
    luma: Scaler<1>,
    chroma: Scaler<2>,
}

impl Resizer {
    /// A resizer for a picture of this width and height.
    pub fn new(size: [u32; 2], scale: &Scale) -> Self {
        Self {
            level: Level::best(),
            table: scale.table.map(|weight| weight & 63),
            size,
            luma: Scaler::new(&scale.luma, size),
            chroma: Scaler::new(&scale.chroma, [size[0] / 2, size[1]]),
        }
    }

    /// Changes the level of instructions. The result stays the same.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// Takes line `y` of the picture, and puts out the lines that it finishes. Lines come in order; line 0 begins another
    /// picture. A line of another width than the picture's, and one after the last, puts out nothing.
    pub fn put(&mut self, y: u32, line: &Line<'_>, write: &mut dyn FnMut(Scaled<'_>)) {
        let width = self.size[0] as usize;
        let is_fitting = line.y.len() == width && line.cb.len() == width / 2 && line.cr.len() == width / 2;
        if y >= self.size[1] || !is_fitting {
            return;
        }
        let Self { level, table, luma, chroma, .. } = self;
        luma.put(*level, table, y, [line.y], &mut |y, [line]| write(Scaled::Luma(y, line)));
        chroma.put(*level, table, y, [line.cb, line.cr], &mut |y, lines| write(Scaled::Chroma(y, lines)));
    }
}

/// Scales `PLANES` planes of the same size.
#[derive(Debug)]
struct Scaler<const PLANES: usize> {
    /// The places of the columns that go out. Empty if the width stays.
    columns: Vec<(u32, u8)>,
    down: Option<Axis>,
    height: u32,
    /// The number of lines that go out, and the next one of them.
    lines: u32,
    next: u32,
    /// The last two lines with the outgoing width, and one between them.
    kept: [[Vec<u8>; PLANES]; 2],
    out: [Vec<u8>; PLANES],
}

impl<const PLANES: usize> Scaler<PLANES> {
    fn new(plane: &Plane, size: [u32; 2]) -> Self {
        let [width, lines] = plane.size(size);
        let columns = plane.across.map_or(0, |_| width);
        let last = size[0].saturating_sub(1);
        let place = |index| {
            let (column, part) = plane.across.map_or((index, 0), |axis| axis.place(index));
            // At the last sample there is no next one.
            if column >= last { (last, 0) } else { (column, part) }
        };
        let buffers = || std::array::from_fn(|_| vec![0; width as usize]);
        Self {
            columns: (0..columns).map(place).collect(),
            down: plane.down,
            height: size[1],
            lines,
            next: 0,
            kept: [buffers(), buffers()],
            out: buffers(),
        }
    }

    fn put(
        &mut self,
        level: Level,
        table: &[u8; 64],
        y: u32,
        lines: [&[u8]; PLANES],
        write: &mut dyn FnMut(u32, [&[u8]; PLANES]),
    ) {
        if y == 0 {
            self.next = 0;
        }
        let Self { columns, down, height, lines: end, next, kept, out } = self;
        if columns.is_empty() && down.is_none() {
            return write(y, lines);
        }
        let here = &mut kept[y as usize % 2];
        for (line, from) in here.iter_mut().zip(lines) {
            if columns.is_empty() {
                line.copy_from_slice(from);
            } else {
                across(columns, table, from, line);
            }
        }
        let Some(down) = *down else {
            return write(y, here.each_ref().map(Vec::as_slice));
        };
        while *next < *end {
            let (line, part) = down.place(*next);
            let weight = if line + 1 >= *height { 0 } else { table[usize::from(part % 64)] };
            let line = line.min(*height - 1);
            if line + u32::from(weight > 0) > y {
                return;
            }
            let [first, second] = [line, line + 1].map(|line| &kept[line as usize % 2]);
            if weight == 0 {
                write(*next, first.each_ref().map(Vec::as_slice));
            } else {
                for ((out, a), b) in out.iter_mut().zip(first).zip(second) {
                    blend(level, a, b, weight, out);
                }
                write(*next, out.each_ref().map(Vec::as_slice));
            }
            *next += 1;
        }
    }
}

/// Scales a line. A place never lies behind the line.
fn across(columns: &[(u32, u8)], table: &[u8; 64], line: &[u8], out: &mut [u8]) {
    for (out, &(column, part)) in out.iter_mut().zip(columns) {
        let first = line[column as usize];
        let second = line.get(column as usize + 1).copied().unwrap_or(first);
        *out = mix(first, second, table[usize::from(part % 64)]);
    }
}

/// The value between two, where the second one has a weight in 64ths.
#[inline(always)]
fn mix(first: u8, second: u8, weight: u8) -> u8 {
    let weight = u16::from(weight & 63);
    let sum = u16::from(first).wrapping_mul(64 - weight).wrapping_add(u16::from(second).wrapping_mul(weight));
    (sum.wrapping_add(32) >> 6).to_le_bytes()[0]
}

kernel! {
    fn blend(first: &[u8], second: &[u8], weight: u8, out: &mut [u8]) {
        for ((out, &first), &second) in out.iter_mut().zip(first).zip(second) {
            *out = mix(first, second, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The axis that the driver programs.
    fn axis(from: u32, to: u32) -> Option<Axis> {
        let up = from < to;
        let ratio = if up { ((from - 1) << 16) / (to - 1) } else { ((to - 1) << 16) / (from - 1) + 1 };
        (from != to).then_some(Axis { ratio, up, phase: 0 })
    }

    /// Scales a ramp of both directions to luma and chroma of these sizes.
    fn scaled(size: [u32; 2], luma: [u32; 2], chroma: [u32; 2]) -> [Vec<Vec<u8>>; 3] {
        let plane =
            |from: [u32; 2], to: [u32; 2]| Plane { across: axis(from[0], to[0]), down: axis(from[1], to[1]) };
        let scale = Scale {
            luma: plane(size, luma),
            chroma: plane([size[0] / 2, size[1]], chroma),
            ..Scale::default()
        };
        assert_eq!((scale.luma.size(size), scale.chroma.size([size[0] / 2, size[1]])), (luma, chroma));
        let mut resizer = Resizer::new(size, &scale);
        let mut results = Level::all().map(|level| {
            resizer.set_level(level);
            let mut planes: [Vec<Vec<u8>>; 3] = Default::default();
            for y in 0..size[1] {
                let line = |width: u32, more: u32| -> Vec<u8> {
                    (0..width).map(|x| u8::try_from(x + y + more).unwrap()).collect()
                };
                let (luma, cb, cr) = (line(size[0], 0), line(size[0] / 2, 40), line(size[0] / 2, 90));
                resizer.put(y, &Line { y: &luma, cb: &cb, cr: &cr }, &mut |line| match line {
                    Scaled::Luma(y, line) => {
                        assert_eq!(y as usize, planes[0].len());
                        planes[0].push(line.to_vec());
                    }
                    Scaled::Chroma(y, [cb, cr]) => {
                        assert_eq!(y as usize, planes[1].len());
                        planes[1].push(cb.to_vec());
                        planes[2].push(cr.to_vec());
                    }
                });
            }
            planes
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first));
        first
    }

    #[test]
    fn a_ramp_stays_a_ramp() {
        let size = [64, 48];
        for (luma, chroma) in [
            // The same size, 4:2:0, half, twice, and others.
            (size, [32, 48]),
            (size, [32, 24]),
            ([32, 24], [16, 12]),
            ([128, 96], [64, 48]),
            ([50, 96], [25, 48]),
            ([320, 31], [160, 16]),
        ] {
            let planes = scaled(size, luma, chroma);
            for (plane, (from, to, more)) in
                planes.iter().zip([(size, luma, 0.0), ([32, 48], chroma, 40.0), ([32, 48], chroma, 90.0)])
            {
                assert_eq!((plane.len(), plane[0].len()), (to[1] as usize, to[0] as usize));
                let step = [0, 1].map(|axis| f64::from(from[axis] - 1) / f64::from(to[axis] - 1));
                for (y, line) in plane.iter().enumerate() {
                    for (x, &value) in line.iter().enumerate() {
                        let exact = x as f64 * step[0] + y as f64 * step[1] + more;
                        assert!(
                            (f64::from(value) - exact).abs() <= 1.0,
                            "{value} not {exact} at {x}, {y} of {to:?}"
                        );
                    }
                }
            }
        }
        assert_eq!(scaled(size, size, [32, 48])[0][5][..3], [5, 6, 7]);
    }

    /// One line of 4 pixels to 7, with the phase 1/4: positions 1/4, 3/4, 5/4 and so on, as the ratio is 1/2.
    #[test]
    fn the_table_gives_the_weight() {
        let of =
            |table: [u8; 64]| {
                let across = Some(Axis { ratio: 1 << 15, up: true, phase: 1 << 14 });
                let luma = Plane { across, down: None };
                let mut resizer = Resizer::new([4, 1], &Scale { luma, table, ..Scale::default() });
                let mut out = Vec::new();
                resizer.put(0, &Line { y: &[0, 64, 128, 192], cb: &[1, 2], cr: &[3, 4] }, &mut |line| {
                    match line {
                        Scaled::Luma(0, line) => out.extend_from_slice(line),
                        line => assert_eq!(line, Scaled::Chroma(0, [&[1, 2], &[3, 4]])),
                    }
                });
                out
            };
        assert_eq!(of(Scale::default().table), [16, 48, 80, 112, 144, 176]);
        assert_eq!(of([0; 64]), [0, 0, 64, 64, 128, 128]);
        assert_eq!(
            of(std::array::from_fn(|part| if part == 48 { 63 } else { 1 })),
            [1, 63, 65, 127, 129, 191]
        );
        // Down to 2 of 4, at 0 and 2.
        let across = Some(Axis { ratio: 1 << 15, up: false, phase: 0 });
        assert_eq!(across.map(|axis| (axis.length(4), axis.length(5))), Some((2, 3)));
    }

    #[test]
    fn lengths_are_the_drivers() {
        for (from, to) in
            [(32, 4416), (640, 1280), (4032, 32), (1920, 1080), (1080, 540), (1920, 1919), (100, 101)]
        {
            let length = axis(from, to).unwrap().length(from);
            // Far up the ratio is too coarse to tell lengths apart.
            assert!(length == to || from * 10 < to && length >= to, "{from} {to} {length}");
        }
    }

    #[test]
    fn any_register_value_is_harmless() {
        for ratio in [0, 1, 100, 65_535, 65_536, u32::MAX] {
            for up in [false, true] {
                for phase in [0, u16::MAX] {
                    let axis = Some(Axis { ratio, up, phase });
                    let plane = Plane { across: axis, down: axis };
                    let scale = Scale { luma: plane, chroma: plane, table: [255; 64] };
                    for size in [[0, 0], [1, 1], [2, 3], [40, 2]] {
                        let [width, height] = scale.luma.size(size);
                        assert!(width <= LARGEST && height <= LARGEST);
                        let mut resizer = Resizer::new(size, &scale);
                        let mut lines = 0;
                        let line = vec![9; size[0] as usize];
                        let chroma = vec![8; size[0] as usize / 2];
                        for y in [0, 1, 2, 1, 7, 0, 1, 2] {
                            resizer.put(y, &Line { y: &line, cb: &chroma, cr: &chroma }, &mut |line| {
                                lines += 1;
                                if let Scaled::Luma(_, line) = line {
                                    assert!(
                                        line.len() == width as usize && line.iter().all(|&value| value == 9)
                                    );
                                }
                            });
                        }
                        assert!(lines <= 4 * LARGEST);
                    }
                }
            }
        }
    }
}
