//! The loads and stores of A64 for which the CPU gives no syndrome (Arm Architecture Reference Manual, C4.1, "Loads and
//! Stores"): pairs, and single registers that change their base register. Those of vector registers are not decoded.

/// A load or store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) direction: Direction,
    /// Bytes that each register loads or stores.
    pub(super) size: usize,
    extension: Extension,
    first: u8,
    second: Option<u8>,
    /// The register with the address.
    pub(super) base: u8,
    offset: i64,
    index: Index,
}

/// Which way the data go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Load,
    Store,
}

/// How a load extends the value to the register's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    Zero,
    /// The sign, in all 64 bits.
    Sign,
    /// The sign, in the lower 32 bits; the upper ones are zero.
    SignOfWord,
}

/// What becomes of the base register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    /// The address is base and offset; the base stays.
    Offset,
    /// The address is base and offset; the base becomes the address.
    Before,
    /// The address is the base; the base becomes base and offset.
    After,
}

/// Bits `low` and the `count` - 1 above it.
const fn bits(instruction: u32, low: u32, count: u32) -> u32 {
    instruction >> low & ((1 << count) - 1)
}

/// As [`bits`], as a number with a sign.
fn signed(instruction: u32, low: u32, count: u32) -> i64 {
    let value = i64::from(bits(instruction, low, count));
    if value >> (count - 1) == 1 { value - (1 << count) } else { value }
}

/// A register's number.
#[expect(clippy::cast_possible_truncation, reason = "it has five bits")]
fn register(instruction: u32, low: u32) -> u8 {
    bits(instruction, low, 5) as u8
}

impl Access {
    /// The access that `instruction` makes, if it is one of those that need us.
    pub(super) fn decode(instruction: u32) -> Option<Self> {
        let access = match (bits(instruction, 27, 3), bits(instruction, 26, 1)) {
            (0b101, 0) => Self::pair(instruction),
            (0b111, 0) => Self::single(instruction),
            _ => None,
        }?;
        // Number 31 is the stack pointer here, and stacks are not in devices.
        (access.base != 31).then_some(access)
    }

    fn pair(instruction: u32) -> Option<Self> {
        let is_load = bits(instruction, 22, 1) == 1;
        let index = match bits(instruction, 23, 3) {
            // Without and with a hint that the data are not needed again soon.
            0b000 | 0b010 => Index::Offset,
            0b001 => Index::After,
            0b011 => Index::Before,
            _ => return None,
        };
        let (size, extension) = match (bits(instruction, 30, 2), is_load) {
            (0b00, _) => (4, Extension::Zero),
            (0b01, true) if bits(instruction, 23, 3) != 0 => (4, Extension::Sign),
            (0b10, _) => (8, Extension::Zero),
            _ => return None,
        };
        Some(Self {
            direction: if is_load { Direction::Load } else { Direction::Store },
            size,
            extension,
            first: register(instruction, 0),
            second: Some(register(instruction, 10)),
            base: register(instruction, 5),
            offset: signed(instruction, 15, 7) << size.trailing_zeros(),
            index,
        })
    }

    fn single(instruction: u32) -> Option<Self> {
        if bits(instruction, 24, 2) != 0 || bits(instruction, 21, 1) != 0 {
            return None;
        }
        let index = match bits(instruction, 10, 2) {
            0b01 => Index::After,
            0b11 => Index::Before,
            _ => return None,
        };
        let size = 1 << bits(instruction, 30, 2);
        let (direction, extension) = match (bits(instruction, 22, 2), size) {
            (0b00, _) => (Direction::Store, Extension::Zero),
            (0b01, _) => (Direction::Load, Extension::Zero),
            (0b10, 1..=4) => (Direction::Load, Extension::Sign),
            (0b11, 1..=2) => (Direction::Load, Extension::SignOfWord),
            _ => return None,
        };
        Some(Self {
            direction,
            size,
            extension,
            first: register(instruction, 0),
            second: None,
            base: register(instruction, 5),
            offset: signed(instruction, 12, 9),
            index,
        })
    }

    /// The registers that are loaded or stored, in the order of their addresses.
    pub(super) fn registers(&self) -> impl Iterator<Item = u8> + use<> {
        std::iter::once(self.first).chain(self.second)
    }

    /// The address of the first byte, with this value in the base register.
    pub(super) fn first_address(&self, base: u64) -> u64 {
        match self.index {
            Index::Offset | Index::Before => base.wrapping_add_signed(self.offset),
            Index::After => base,
        }
    }

    /// The value of the base register afterwards, if it changes.
    pub(super) fn base_after(&self, base: u64) -> Option<u64> {
        (self.index != Index::Offset).then(|| base.wrapping_add_signed(self.offset))
    }

    /// What a register has after the bytes of `value` were loaded, which has zeroes above them.
    pub(super) fn extended(&self, value: u64) -> u64 {
        let sign = value >> (self.size * 8 - 1) & 1;
        let above = if self.size == 8 { 0 } else { u64::MAX << (self.size * 8) };
        match self.extension {
            Extension::Sign if sign == 1 => value | above,
            Extension::SignOfWord if sign == 1 => (value | above) & u64::from(u32::MAX),
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(instruction: u32) -> Access {
        Access::decode(instruction).unwrap_or_else(|| panic!("{instruction:#x} was not decoded"))
    }

    #[test]
    fn pairs_are_decoded() {
        // stp x4, x5, [x0]
        let store = decode(0xa900_1404);
        assert_eq!((store.direction, store.size, store.base), (Direction::Store, 8, 0));
        assert_eq!(store.registers().collect::<Vec<_>>(), [4, 5]);
        assert_eq!((store.first_address(0x1000), store.base_after(0x1000)), (0x1000, None));
        // stp w1, w2, [x3, #-8]
        let store = decode(0x293f_0861);
        assert_eq!((store.size, store.first_address(0x1000)), (4, 0xff8));
        // ldp x6, x7, [x1], #16
        let load = decode(0xa8c1_1c26);
        assert_eq!((load.direction, load.size), (Direction::Load, 8));
        assert_eq!((load.first_address(0x1000), load.base_after(0x1000)), (0x1000, Some(0x1010)));
        // ldpsw x2, x3, [x4, #8]!
        let load = decode(0x69c1_0c82);
        assert_eq!((load.size, load.first_address(0), load.base_after(0)), (4, 8, Some(8)));
        assert_eq!(load.extended(0x8000_0000), 0xffff_ffff_8000_0000);
    }

    #[test]
    fn single_registers_that_change_their_base_are_decoded() {
        // str w1, [x0], #4
        let store = decode(0xb800_4401);
        assert_eq!((store.direction, store.size), (Direction::Store, 4));
        assert_eq!(store.registers().collect::<Vec<_>>(), [1]);
        assert_eq!((store.first_address(0x20), store.base_after(0x20)), (0x20, Some(0x24)));
        // ldrsb w1, [x2, #-1]!
        let load = decode(0x38df_fc41);
        assert_eq!((load.size, load.first_address(0x20), load.base_after(0x20)), (1, 0x1f, Some(0x1f)));
        assert_eq!((load.extended(0x80), load.extended(0x7f)), (0xffff_ff80, 0x7f));
        // ldr x1, [x2], #8
        assert_eq!(decode(0xf840_8441).extended(u64::MAX), u64::MAX);
    }

    #[test]
    fn other_instructions_are_not() {
        // str w1, [x0]: has a syndrome. stp q0, q1, [x0]. stp x29, x30, [sp, #-16]!. nop. All zeroes and ones.
        for instruction in [0xb900_0001, 0xad00_0400, 0xa9bf_7bfd, 0xd503_201f, 0, u32::MAX] {
            assert_eq!(Access::decode(instruction), None, "{instruction:#x}");
        }
    }
}
