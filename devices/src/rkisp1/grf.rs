//! The general register file (GRF), of which the guest uses the part that controls the D-PHY of the receiver.
//!
//! Offsets are those of Linux's `drivers/phy/rockchip/phy-rockchip-dphy-rx0.c` for the RK3399. The upper half of a written word says
//! which bits of the lower half change.

/// The size of the register region in bytes.
pub(super) const SIZE: u32 = 0x1_0000;

/// The first of the registers `GRF_SOC_CON`.
const CON: u32 = 0x6224 - 9 * 4;
/// `GRF_SOC_CON21`: lanes on in bits 3:0, forced receive mode in 7:4, forced stop state in 11:8, no turnaround in 15:12.
const CON21: usize = 21;
/// `GRF_SOC_CON25`: test data in bits 7:0, enable in 8, clock in 9, clear in 10.
const CON25: usize = 25;
/// `GRF_SOC_CON25`: the PHY is held in reset.
const TEST_CLEAR: u16 = 1 << 10;
const TEST_CLOCK: u16 = 1 << 9;
const TEST_ENABLE: u16 = 1 << 8;
/// `GRF_SOC_STATUS1`: the data of the last test code in bits 7:0.
const STATUS1: u32 = 0xe2a4;

/// The registers.
#[derive(Debug, Clone, Default)]
pub(super) struct Grf {
    /// `GRF_SOC_CON9` to `GRF_SOC_CON25`, at their numbers.
    con: [u16; CON25 + 1],
    /// The test code that the PHY has latched.
    code: u8,
    /// The data of each test code: how the PHY is trimmed.
    trim: Trim,
}

/// The data of the test codes.
#[derive(Debug, Clone)]
struct Trim([u8; 256]);

impl Default for Trim {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl Grf {
    /// The word at `offset`.
    pub(super) fn load(&self, offset: u32) -> u32 {
        match (number(offset), offset) {
            (Some(number), _) => self.con[number].into(),
            (None, STATUS1) => self.trim.0[usize::from(self.code)].into(),
            _ => 0,
        }
    }

    /// The guest writes the word at `offset`.
    pub(super) fn store(&mut self, offset: u32, value: u32) {
        let Some(number) = number(offset) else { return };
        let [low, high] = [value & 0xffff, value >> 16].map(|half| u16::try_from(half).unwrap_or(0));
        let before = self.con[number];
        self.con[number] = before & !high | low & high;
        if number == CON25 {
            self.test(before, self.con[number]);
        }
    }

    /// The test interface of the PHY: a falling clock latches the code while it is enabled, a rising clock takes data otherwise.
    fn test(&mut self, before: u16, now: u16) {
        let data = now.to_le_bytes()[0];
        match (before & TEST_CLOCK != 0, now & TEST_CLOCK != 0) {
            (true, false) if now & TEST_ENABLE != 0 => self.code = data,
            (false, true) if now & TEST_ENABLE == 0 => self.trim.0[usize::from(self.code)] = data,
            _ => {}
        }
        if now & TEST_CLEAR != 0 {
            self.trim = Trim::default();
        }
    }

    /// The lanes of the receiver that are on: 0 while the PHY is in reset.
    pub(super) fn lanes(&self) -> u32 {
        if self.con[CON25] & TEST_CLEAR != 0 { 0 } else { (self.con[CON21] & 0xf).count_ones() }
    }
}

/// The number of the register `GRF_SOC_CON` at `offset`.
fn number(offset: u32) -> Option<usize> {
    let words = offset.checked_sub(CON)?;
    let number = words as usize / 4;
    (words.is_multiple_of(4) && (9..=CON25).contains(&number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_half_is_a_mask() {
        let mut grf = Grf::default();
        grf.store(0x6254, 0x000f_0003);
        assert_eq!((grf.load(0x6254), grf.lanes()), (3, 2));
        grf.store(0x6254, 0xf000_ffff);
        assert_eq!(grf.load(0x6254), 0xf003, "only the upper four bits change");
        grf.store(0x6264, 0x0400_0400);
        assert_eq!(grf.lanes(), 0, "the PHY is in reset");
        grf.store(0x6264, 0x0400_0000);
        assert_eq!(grf.lanes(), 2);
    }

    #[test]
    fn test_data_is_taken_as_the_driver_writes_it() {
        let mut grf = Grf::default();
        let mut write = |mask: u32, value: u32| grf.store(0x6264, mask << 16 | value);
        // The sequence of rk_dphy_write(), for code 0x44 and data 0x14.
        for (mask, value) in [
            (1 << 9, 1 << 9),
            (0xff, 0x44),
            (1 << 8, 1 << 8),
            (1 << 9, 0),
            (1 << 8, 0),
            (0xff, 0x14),
            (1 << 9, 1 << 9),
        ] {
            write(mask, value);
        }
        assert_eq!(grf.load(0xe2a4), 0x14);
    }

    #[test]
    fn other_offsets_hold_nothing() {
        let mut grf = Grf::default();
        for offset in [0, 0x6220, 0x6225, 0x6268, 0xfffc, u32::MAX] {
            grf.store(offset, u32::MAX);
            assert_eq!(grf.load(offset), 0, "{offset:#x}");
        }
    }
}
