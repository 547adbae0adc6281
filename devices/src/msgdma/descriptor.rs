//! A descriptor: source, destination and length of a copy.

use super::regs;

/// Bytes of a word: what a stride counts in.
const WORD: u64 = 4;

/// A descriptor, as the guest commits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) source: Stretch,
    pub(super) destination: Stretch,
    /// In bytes.
    pub(super) length: u32,
    /// The guest's number for it.
    pub(super) sequence: u16,
    control: u32,
}

/// Words in memory, one after the other or with gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// That of the first word.
    pub(super) address: u64,
    /// Words from one word to the next: 1 for memory without gaps, 0 for one address, as that of a FIFO.
    stride: u16,
}

/// Bytes of a stretch that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) address: u64,
    pub(super) len: u64,
}

impl Stretch {
    /// The run from byte `position` of the stretch on; none if its address has more than 64 bits.
    pub(super) fn run(&self, position: u64) -> Option<Run> {
        if self.stride == 1 {
            let address = self.address.checked_add(position)?;
            return Some(Run { address, len: u64::MAX - address });
        }
        let (word, byte) = (position / WORD, position % WORD);
        let gap = word.checked_mul(WORD * u64::from(self.stride))?;
        Some(Run { address: self.address.checked_add(gap)?.checked_add(byte)?, len: WORD - byte })
    }
}

impl Descriptor {
    /// The descriptor in the eight words of the descriptor registers.
    pub(super) fn new(words: &[u32; 8]) -> Self {
        let [source, destination, length, burst_sequence, strides, source_high, destination_high, control] =
            *words;
        let address = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let [stride_low, stride_high] = [strides & 0xffff, strides >> 16].map(half);
        Self {
            source: Stretch { address: address(source, source_high), stride: stride_low },
            destination: Stretch { address: address(destination, destination_high), stride: stride_high },
            length,
            sequence: half(burst_sequence & 0xffff),
            control,
        }
    }

    /// Whether it requests an interrupt if it ends with this response status.
    pub(super) fn interrupts_at(&self, status: u32) -> bool {
        let errors = (self.control & regs::DESC_ERROR_IRQ) >> regs::DESC_ERROR_IRQ.trailing_zeros();
        let is_early = status & regs::RESP_EARLY != 0;
        self.control & regs::DESC_DONE_IRQ != 0
            || self.control & regs::DESC_EARLY_IRQ != 0 && is_early
            || errors & status & regs::RESP_ERROR != 0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "its callers hand in 16 bits")]
fn half(value: u32) -> u16 {
    value as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_a_descriptor() {
        let words = [0x1000, 0x2000, 64, 0x0101_0007, 0x0001_0002, 1, 2, regs::DESC_GO | regs::DESC_DONE_IRQ];
        let descriptor = Descriptor::new(&words);
        assert_eq!(descriptor.source, Stretch { address: 0x1_0000_1000, stride: 2 });
        assert_eq!(descriptor.destination, Stretch { address: 0x2_0000_2000, stride: 1 });
        assert_eq!((descriptor.length, descriptor.sequence), (64, 7));
    }

    #[test]
    fn a_stretch_has_runs() {
        let run = |address, stride, position| Stretch { address, stride }.run(position);
        assert_eq!(run(0x1000, 1, 5), Some(Run { address: 0x1005, len: u64::MAX - 0x1005 }));
        assert_eq!(run(0x1000, 0, 5), Some(Run { address: 0x1001, len: 3 }));
        assert_eq!(run(0x1000, 3, 8), Some(Run { address: 0x1018, len: 4 }));
        assert_eq!(run(u64::MAX, 1, 1), None);
        assert_eq!(run(u64::MAX, 0, 1), None);
        assert_eq!(run(u64::MAX - 3, 2, 4), None);
    }

    #[test]
    fn interrupts_are_those_that_it_asks_for() {
        let ends = |control, status| Descriptor::new(&[0, 0, 0, 0, 0, 0, 0, control]).interrupts_at(status);
        assert!(ends(regs::DESC_DONE_IRQ, 0) && !ends(0, 0));
        assert!(ends(regs::DESC_ERROR_IRQ, regs::RESP_ERROR_READ) && !ends(regs::DESC_ERROR_IRQ, 0));
        assert!(!ends(1 << 17, regs::RESP_ERROR_READ) && ends(1 << 17, regs::RESP_ERROR_WRITE));
        assert!(ends(regs::DESC_EARLY_IRQ, regs::RESP_EARLY) && !ends(0, regs::RESP_EARLY));
    }
}
