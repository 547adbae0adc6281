//! The engine's registers: the table from which the register file and the manual are made.
//!
//! Offsets are flat: a plan of faults selects a register by them. The region `csr` begins at 0, `desc` at [`DESCRIPTOR`] and
//! `resp` at [`RESPONSE`].

use crate::register_table::{constants, manual_page, registers};

registers! {
    STATUS = 0x000, W1c, 0x00a, "STATUS_* bits. Writing 1 clears STATUS_IRQ and the STATUS_STOPPED_ON_* bits; the others are read only.";
    CONTROL = 0x004, Rw, 0, "CONTROL_* bits.";
    FILL_LEVEL = 0x008, Ro, 0, "Descriptors in the FIFO: for the write side in bits 31:16, for the read side in 15:0. Both are equal here.";
    RESPONSE_FILL_LEVEL = 0x00c, Ro, 0, "Responses in the response FIFO, in bits 15:0.";
    SEQUENCE = 0x010, Ro, 0, "DESC_BURST_SEQUENCE of the descriptor that began last, bits 15:0: of the write side in bits 31:16, of the read side in 15:0.";
    DESC_READ_LO = 0x100, Wo, 0, "Address to read from, bits 31:0.";
    DESC_WRITE_LO = 0x104, Wo, 0, "Address to write to, bits 31:0.";
    DESC_LENGTH = 0x108, Wo, 0, "Length in bytes. A descriptor of length 0 is done at once.";
    DESC_BURST_SEQUENCE = 0x10c, Wo, 0, "Sequence number in bits 15:0. The burst lengths in 31:16 have no effect here.";
    DESC_STRIDE = 0x110, Wo, 0, "Words from one 32-bit word to the next: of the write side in bits 31:16, of the read side in 15:0. 1: memory without gaps; 0: one address.";
    DESC_READ_HI = 0x114, Wo, 0, "Address to read from, bits 63:32.";
    DESC_WRITE_HI = 0x118, Wo, 0, "Address to write to, bits 63:32.";
    DESC_CONTROL = 0x11c, Wo, 0, "DESC_* bits. A write with DESC_GO commits the descriptor.";
    RESP_BYTES = 0x200, Ro, 0, "Bytes that were transferred, of the oldest response.";
    RESP_STATUS = 0x204, Ro, 0, "RESP_* bits of the oldest response. A read removes it from the FIFO.";
}

constants! {
    STATUS_BUSY = 1 << 0, "A descriptor is in the FIFO or in work.";
    STATUS_DESC_EMPTY = 1 << 1, "The descriptor FIFO is empty.";
    STATUS_DESC_FULL = 1 << 2, "The descriptor FIFO is full.";
    STATUS_RESP_EMPTY = 1 << 3, "The response FIFO is empty.";
    STATUS_RESP_FULL = 1 << 4, "The response FIFO is full: no further descriptor begins.";
    STATUS_STOPPED = 1 << 5, "No transfer is in work, and none begins: CONTROL_STOP, CONTROL_STOP_DESCS or STATUS_STOPPED_ON_*.";
    STATUS_RESETTING = 1 << 6, "The transfer that a reset abandoned has not ended yet.";
    STATUS_STOPPED_ON_ERROR = 1 << 7, "A transfer ended with an error, with CONTROL_STOP_ON_ERROR set.";
    STATUS_STOPPED_ON_EARLY = 1 << 8, "A transfer ended early, with CONTROL_STOP_ON_EARLY set.";
    STATUS_IRQ = 1 << 9, "An interrupt condition occurred. The line is high while this bit and CONTROL_IRQ are set.";
    CONTROL_STOP = 1 << 0, "The transfer in work is held, and none begins; when it is cleared, the transfer goes on where it was.";
    CONTROL_RESET = 1 << 1, "Writing 1 abandons the transfer in work, empties the FIFOs and gives all registers their reset values.";
    CONTROL_STOP_ON_ERROR = 1 << 2, "An error stops the engine.";
    CONTROL_STOP_ON_EARLY = 1 << 3, "A transfer that ends early stops the engine.";
    CONTROL_IRQ = 1 << 4, "Interrupts are enabled.";
    CONTROL_STOP_DESCS = 1 << 5, "No further descriptor begins.";
    DESC_DONE_IRQ = 1 << 14, "The descriptor's end sets STATUS_IRQ.";
    DESC_EARLY_IRQ = 1 << 15, "An early end sets STATUS_IRQ.";
    DESC_ERROR_IRQ = 0xff << 16, "An end with the error of the same number in RESP_ERROR sets STATUS_IRQ.";
    DESC_GO = 1 << 31, "The descriptor is complete and goes into the FIFO.";
    RESP_ERROR = 0xff, "The error that ended the transfer; 0: none.";
    RESP_ERROR_READ = 1 << 0, "The bus refused an address to read from.";
    RESP_ERROR_WRITE = 1 << 1, "The bus refused an address to write to.";
    RESP_EARLY = 1 << 8, "The transfer ended early.";
    DESCRIPTOR = 0x100, "Where the region desc begins in this table.";
    RESPONSE = 0x200, "Where the region resp begins in this table.";
    CSR_SIZE = 0x20, "Bytes of the region csr.";
    DESCRIPTOR_SIZE = 0x20, "Bytes of the region desc.";
    RESPONSE_SIZE = 0x8, "Bytes of the region resp.";
}

/// The manual, as a page in Markdown.
pub fn reference() -> String {
    manual_page("The DMA engine `msgdma`", include_str!("manual.md"), REGISTERS, CONSTANTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_table::is_in_file;

    #[test]
    fn the_manual_is_this_table() {
        is_in_file("src/msgdma/MSGDMA.md", &reference());
    }

    #[test]
    fn offsets_are_aligned_ascending_and_inside_their_regions() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.offset < b.offset));
        let regions = [(0, CSR_SIZE), (DESCRIPTOR, DESCRIPTOR_SIZE), (RESPONSE, RESPONSE_SIZE)];
        for register in REGISTERS {
            let is_inside = |(base, size)| (base..base + size).contains(&register.offset);
            assert!(register.offset % 4 == 0 && regions.into_iter().any(is_inside), "{}", register.name);
        }
    }
}
