//! The register file of a sensor with addresses of 16 bits: the bytes behind all addresses, and how I2C messages reach them.
//!
//! A message begins with the address of a register, two bytes, high byte first. The bytes that follow go to the registers from
//! there on, or come from them.

/// A register that has an effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register {
    /// The address of its first byte.
    pub(super) address: u16,
    /// Its size in bytes, up to 4.
    pub(super) bytes: u16,
    /// Its value after power-on.
    pub(super) reset: u32,
}

impl Register {
    fn addresses(self) -> impl DoubleEndedIterator<Item = u16> {
        self.address..self.address + self.bytes
    }
}

/// Declares the registers of a chip: a constant for each, and the table `ALL`.
macro_rules! registers {
    ($($name:ident = $address:literal, $bytes:literal, $reset:literal, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub(super) const $name: $crate::sensors::registers::Register =
                $crate::sensors::registers::Register { address: $address, bytes: $bytes, reset: $reset };
        )*

        /// All of them, by address.
        pub(super) const ALL: &[$crate::sensors::registers::Register] = &[$($name),*];
    };
}
pub(super) use registers;

/// The order of the bytes of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The highest byte has the lowest address.
    HighestFirst,
    /// The lowest byte has the lowest address.
    LowestFirst,
}

/// The number of addresses.
const ADDRESSES: usize = 1 << 16;

/// The bytes behind all addresses. Those of no register keep what is written.
#[derive(Clone)]
pub(super) struct Registers {
    order: Order,
    bytes: Vec<u8>,
}

impl Registers {
    /// The state after power-on of a chip with the registers `all`.
    pub(super) fn new(all: &[Register], order: Order) -> Self {
        let mut registers = Self { order, bytes: vec![0; ADDRESSES] };
        for register in all {
            let bytes = register.reset.to_le_bytes();
            // From the lowest byte on.
            match order {
                Order::LowestFirst => registers.fill(register.addresses(), bytes),
                Order::HighestFirst => registers.fill(register.addresses().rev(), bytes),
            }
        }
        registers
    }

    fn fill(&mut self, addresses: impl Iterator<Item = u16>, bytes: [u8; 4]) {
        addresses.zip(bytes).for_each(|(address, byte)| self.write(address, byte));
    }

    /// The byte at an address.
    pub(super) fn read(&self, address: u16) -> u8 {
        self.bytes[usize::from(address)]
    }

    /// Writes the byte at an address.
    pub(super) fn write(&mut self, address: u16, byte: u8) {
        self.bytes[usize::from(address)] = byte;
    }

    /// The value of a register.
    pub(super) fn get(&self, register: Register) -> u32 {
        let join = |value, address| value << 8 | u32::from(self.read(address));
        match self.order {
            Order::HighestFirst => register.addresses().fold(0, join),
            Order::LowestFirst => register.addresses().rev().fold(0, join),
        }
    }
}

/// The place in the register file that a message has reached.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The address of the register that the next byte is for.
    index: u16,
    /// Bytes of that address that the message has yet to bring.
    missing: u8,
}

impl Cursor {
    /// A message begins. It begins with an address unless the controller reads.
    pub(super) fn start(&mut self, read: bool) {
        self.missing = if read { 0 } else { 2 };
    }

    /// Takes a byte of the message. The address of the register that it is for; none if it belongs to an address itself.
    pub(super) fn take(&mut self, byte: u8) -> Option<u16> {
        if self.missing == 0 {
            return Some(self.advance());
        }
        self.missing -= 1;
        self.index = self.index << 8 | u16::from(byte);
        None
    }

    /// The address of this byte. The next one is for the register behind it.
    pub(super) fn advance(&mut self) -> u16 {
        let index = self.index;
        self.index = index.wrapping_add(1);
        index
    }
}

/// Asserts that the registers `all` are in order and apart, and that a chip after power-on has their values and no others.
#[cfg(test)]
pub(super) fn assert_is_table(all: &[Register], order: Order) {
    assert!(all.is_sorted_by(|a, b| a.address + a.bytes <= b.address));
    let registers = Registers::new(all, order);
    assert!(all.iter().all(|register| registers.get(*register) == register.reset));
    let set = (0..=u16::MAX).filter(|address| registers.read(*address) != 0).count();
    let bytes = all.iter().flat_map(|register| register.reset.to_le_bytes());
    assert_eq!(set, bytes.filter(|byte| *byte != 0).count());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_bytes_is_the_chips() {
        let register = Register { address: 0x10, bytes: 3, reset: 0x0001_0203 };
        for (order, bytes) in [(Order::HighestFirst, [1, 2, 3]), (Order::LowestFirst, [3, 2, 1])] {
            assert_is_table(&[register], order);
            let registers = Registers::new(&[register], order);
            assert_eq!([0x10, 0x11, 0x12].map(|address| registers.read(address)), bytes);
        }
    }
}
