//! Lens shading: the gains of the pixels of a line, interpolated from a mesh.

use super::params::{LensMesh, MESH};
use crate::phase::Phase;
use crate::simd::{Level, kernel};

/// The number of cells of the mesh in each direction.
const CELLS: usize = MESH - 1;

/// A mesh of gains in units of 1/8192, for each channel in the order of [`Params`](super::Params).
pub(super) type Mesh = [[[i16; MESH]; MESH]; 4];

/// The mesh as one of each channel. Without a mesh all gains are 1.
pub(super) fn by_channels(mesh: Option<&LensMesh>) -> Mesh {
    let gain = |y: usize, x: usize, channel: usize| {
        mesh.map_or(1 << 13, |mesh| (mesh[y][x][channel] >> 1).cast_signed())
    };
    std::array::from_fn(|channel| std::array::from_fn(|y| std::array::from_fn(|x| gain(y, x, channel))))
}

/// The cell of the mesh that contains the position `at` of `length`, and the part of the way to the next cell, in units of
/// 2^-15.
fn cell(at: u32, length: u32) -> (usize, i16) {
    let place = u64::from(at) * ((CELLS as u64) << 15) / u64::from(length - 1);
    let cell = (place >> 15).min(CELLS as u64 - 1);
    // The last position is at the end of the last cell, where the part is 1: the largest value stands for it.
    (usize::try_from(cell).unwrap_or(CELLS), i16::try_from(place - (cell << 15)).unwrap_or(i16::MAX))
}

/// A value for each column, even and odd ones separate, of an even and of an odd line.
type Kinds = [[Vec<i16>; 2]; 2];

/// The gains along the two lines of the mesh around a line. They are kept for the following lines between the same two.
#[derive(Debug, Default)]
pub(super) struct Gains {
    size: [u32; 2],
    /// The position of each column in its cell, even and odd ones separate, and the first column of each cell.
    fractions: [Vec<i16>; 2],
    cells: [[usize; MESH]; 2],
    /// For an even and for an odd line of the mesh: its number, and the gains of the columns of even and odd lines of a frame.
    lines: [(Option<usize>, Kinds); 2],
}

impl Gains {
    /// Gains for frames of this size, with `count` even and as many odd columns.
    pub(super) fn new(size: [u32; 2], count: usize) -> Self {
        let half = |odd: u32| (0..).take(count).map(move |i| cell((2 * i + odd).min(size[0] - 1), size[0]));
        let begins = |odd| {
            let mut cells = [count; MESH];
            for (index, (cell, _)) in half(odd).enumerate().collect::<Vec<_>>().into_iter().rev() {
                cells[cell] = index;
            }
            // A cell without columns begins where the next one does.
            for cell in (0..MESH - 1).rev() {
                cells[cell] = cells[cell].min(cells[cell + 1]);
            }
            cells
        };
        Self {
            size,
            fractions: [0, 1].map(|odd| half(odd).map(|(_, fraction)| fraction).collect()),
            cells: [0, 1].map(begins),
            lines: std::array::from_fn(|_| {
                (None, std::array::from_fn(|_| std::array::from_fn(|_| vec![0; count])))
            }),
        }
    }

    /// Discards the gains, which are those of another mesh.
    pub(super) fn forget(&mut self) {
        self.lines.iter_mut().for_each(|(line, _)| *line = None);
    }

    /// The gains of line `y` for even and odd columns, each as those of the mesh line above and of the one below, and the
    /// part of the way from the first to the second.
    pub(super) fn line(
        &mut self,
        level: Level,
        mesh: &Mesh,
        phase: Phase,
        y: u32,
    ) -> ([[&[i16]; 2]; 2], i16) {
        let (cell, down) = cell(y, self.size[1]);
        for line in [cell, cell + 1] {
            let (kept, gains) = &mut self.lines[line % 2];
            if *kept == Some(line) {
                continue;
            }
            *kept = Some(line);
            for (kind, halves) in (0..).zip(gains) {
                for (parity, half) in halves.iter_mut().enumerate() {
                    let points = &mesh[phase.channel(kind, parity)][line];
                    for (points, ends) in points.windows(2).zip(self.cells[parity].windows(2)) {
                        let range = ends[0]..ends[1];
                        let fractions = &self.fractions[parity][range.clone()];
                        between(level, points[0], points[1], fractions, &mut half[range]);
                    }
                }
            }
        }
        let kind = (y % 2) as usize;
        let of = |line: usize, parity: usize| &self.lines[line % 2].1[kind][parity][..];
        ([0, 1].map(|parity| [of(cell, parity), of(cell + 1, parity)]), down)
    }
}

kernel! {
    fn between(left: i16, right: i16, fractions: &[i16], gains: &mut [i16]) {
        let step = i32::from(right) - i32::from(left);
        for (gain, &fraction) in gains.iter_mut().zip(fractions) {
            #[expect(clippy::cast_possible_truncation, reason = "the result lies between the two")]
            let rounded = (step.wrapping_mul(fraction.into()).wrapping_add(1 << 14) >> 15) as i16;
            *gain = left.wrapping_add(rounded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_linear_between_the_points_of_the_mesh() {
        let point = |x: usize, y: usize, channel: usize| 10_000 + 700 * x + 1300 * y + 2000 * channel;
        let mesh: LensMesh = std::array::from_fn(|y| {
            std::array::from_fn(|x| std::array::from_fn(|c| u16::try_from(point(x, y, c)).unwrap()))
        });
        let mesh = by_channels(Some(&mesh));
        let size = [161, 97].map(|length: u32| length.next_multiple_of(2));
        let mut gains = Gains::new(size, 96);
        for y in [0, 1, 40, 41, 97, 3] {
            let (halves, down) = gains.line(Level::best(), &mesh, Phase::Grbg, y);
            for x in 0..size[0] as usize {
                let [upper, lower] = halves[x % 2].map(|half| half[x / 2]);
                let way = i32::from(lower - upper) * i32::from(down);
                let gain = i32::from(upper) + ((way + (1 << 14)) >> 15);
                let channel = [[1.0, 0.0], [3.0, 2.0]][y as usize % 2][x % 2];
                let place = |at: f64, length: u32| at * 16.0 / f64::from(length - 1);
                let exact = 10_000.0
                    + 700.0 * place(x as f64, size[0])
                    + 1300.0 * place(y.into(), size[1])
                    + 2000.0 * channel;
                assert!((f64::from(gain) * 2.0 - exact).abs() < 4.0, "{gain} instead of {exact} at {x}, {y}");
            }
        }
    }

    #[test]
    fn without_a_mesh_gains_are_1() {
        assert!(by_channels(None).as_flattened().as_flattened().iter().all(|&gain| gain == 8192));
    }
}
