//! The bus: chips by their addresses, and the bytes of messages.

/// The bit of an address byte that says that the controller reads.
pub(super) const READ: u8 = 1;

/// A chip on a bus. The guest decides which calls come, in which order: a chip accepts any.
pub trait Chip: Send {
    /// A message to this chip begins, after a START or a repeated START. The controller is going to read its bytes if `read`, and to
    /// write them otherwise.
    fn start(&mut self, read: bool);

    /// Takes a byte. Whether the chip acknowledges it.
    fn write(&mut self, byte: u8) -> bool;

    /// Sends the next byte.
    fn read(&mut self) -> u8;

    /// Puts the chip into the state that it has after power-on.
    fn reset(&mut self);
}

impl<C: Chip + ?Sized> Chip for Box<C> {
    fn start(&mut self, read: bool) {
        (**self).start(read);
    }

    fn write(&mut self, byte: u8) -> bool {
        (**self).write(byte)
    }

    fn read(&mut self) -> u8 {
        (**self).read()
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}

/// A bus. Chips of several kinds are boxes.
#[derive(Debug)]
pub struct Bus<C> {
    /// Each chip behind its 7-bit address.
    chips: Vec<(u8, C)>,
    /// The place in `chips` of the one that the message is for.
    selected: Option<usize>,
}

impl<C: Chip> Bus<C> {
    /// A bus with these chips, each behind its 7-bit address.
    pub const fn new(chips: Vec<(u8, C)>) -> Self {
        Self { chips, selected: None }
    }

    /// The chip with this 7-bit address.
    pub fn chip(&self, address: u8) -> Option<&C> {
        self.chips.iter().find(|(own, _)| *own == address).map(|(_, chip)| chip)
    }

    /// A START and an address byte: the 7-bit address above the bit that says whether the controller reads. Whether a chip
    /// acknowledges it.
    pub fn select(&mut self, byte: u8) -> bool {
        self.selected = self.chips.iter().position(|(own, _)| *own == byte >> 1);
        let chip = self.selected();
        let is_there = chip.is_some();
        if let Some(chip) = chip {
            chip.start(byte & READ != 0);
        }
        is_there
    }

    /// Writes a byte of the message. Whether the chip acknowledges it.
    pub fn write(&mut self, byte: u8) -> bool {
        self.selected().is_some_and(|chip| chip.write(byte))
    }

    /// Reads a byte of the message: all ones if no chip drives the bus.
    pub fn read(&mut self) -> u8 {
        self.selected().map_or(u8::MAX, Chip::read)
    }

    /// The end of the message.
    pub fn release(&mut self) {
        self.selected = None;
    }

    /// Puts all chips into the state that they have after power-on.
    pub fn reset(&mut self) {
        self.release();
        self.chips.iter_mut().for_each(|(_, chip)| chip.reset());
    }

    fn selected(&mut self) -> Option<&mut C> {
        self.chips.get_mut(self.selected?).map(|(_, chip)| chip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chip that keeps its last message and reads as its own number.
    #[derive(Default)]
    struct Note {
        number: u8,
        reads: bool,
        written: Vec<u8>,
    }

    impl Chip for Note {
        fn start(&mut self, read: bool) {
            self.reads = read;
            self.written.clear();
        }

        fn write(&mut self, byte: u8) -> bool {
            self.written.push(byte);
            byte != 0xee
        }

        fn read(&mut self) -> u8 {
            self.number
        }

        fn reset(&mut self) {
            *self = Self { number: self.number, ..Self::default() };
        }
    }

    fn bus() -> Bus<Note> {
        let chip = |number| Note { number, ..Note::default() };
        Bus::new(vec![(0x10, chip(1)), (0x36, chip(2))])
    }

    #[test]
    fn a_message_reaches_the_chip_of_its_address() {
        let mut bus = bus();
        assert!(bus.select(0x36 << 1) && bus.write(7) && !bus.write(0xee));
        assert_eq!(bus.chip(0x36).unwrap().written, [7, 0xee]);
        assert!(bus.chip(0x10).unwrap().written.is_empty());
        assert!(bus.select(0x10 << 1 | READ));
        assert!(bus.chip(0x10).unwrap().reads && !bus.chip(0x36).unwrap().reads);
        assert_eq!(bus.read(), 1);
    }

    #[test]
    fn nobody_acknowledges_or_drives_an_empty_address() {
        let mut bus = bus();
        assert!(bus.select(0x10 << 1));
        assert!(!bus.select(0x11 << 1) && !bus.write(7));
        assert_eq!(bus.read(), 0xff);
        assert!(bus.chip(0x11).is_none() && bus.chip(0x10).unwrap().written.is_empty());
    }

    #[test]
    fn after_the_end_of_a_message_no_chip_is_selected() {
        let mut bus = bus();
        assert!(bus.select(0x10 << 1));
        bus.release();
        assert!(!bus.write(7));
        assert!(bus.select(0x10 << 1) && bus.write(7));
        bus.reset();
        assert!(!bus.write(7) && bus.chip(0x10).unwrap().written.is_empty());
    }
}
