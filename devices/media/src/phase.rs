//! The phase of a Bayer filter: which colour each pixel of a raw frame has.

/// The colours of the first two pixels of the first two lines. The pattern repeats from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// R G / G B.
    Rggb,
    /// G R / B G.
    Grbg,
    /// G B / R G.
    Gbrg,
    /// B G / G R.
    Bggr,
}

impl Phase {
    /// Whether the pattern is moved against R G / G B by a column, and by a line.
    pub(crate) fn shift(self) -> [bool; 2] {
        match self {
            Self::Rggb => [false, false],
            Self::Grbg => [true, false],
            Self::Gbrg => [false, true],
            Self::Bggr => [true, true],
        }
    }

    /// Whether line `y` has red pixels, and whether these, or the blue ones of another line, are its even (0) or odd (1)
    /// columns.
    pub(crate) fn line(self, y: u32) -> (bool, usize) {
        let is_even = y.is_multiple_of(2);
        match self {
            Self::Rggb => (is_even, usize::from(!is_even)),
            Self::Grbg => (is_even, usize::from(is_even)),
            Self::Gbrg => (!is_even, usize::from(is_even)),
            Self::Bggr => (!is_even, usize::from(!is_even)),
        }
    }

    /// The channel of the even (0) or odd (1) columns of line `y`: 0 for red, 1 for green on lines with red, 2 for green on
    /// lines with blue, 3 for blue.
    pub fn channel(self, y: u32, parity: usize) -> usize {
        match self.line(y) {
            (true, colour) => usize::from(colour != parity),
            (false, colour) => 3 - usize::from(colour != parity),
        }
    }
}
