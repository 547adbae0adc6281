//! The controller's registers: the table from which the register file and a manual are made.
//!
//! Offsets, bits and modes are those of Linux's driver `drivers/i2c/busses/i2c-rk3x.c`.

use crate::register_table::{constants, registers};

registers! {
    CON = 0x000, Rw, 0, "CON_* bits. A bit that rises, or CON_EN that rises under it, generates START or STOP.";
    CLKDIV = 0x004, Rw, 0, "Divisors of the bus clock: for its high phase in bits 31:16, for its low phase in 15:0. Bytes take no time here.";
    MRXADDR = 0x008, Rw, 0, "Address byte of MOD_REGISTER_TX in bits 7:0, if bit 24 says that it is valid. Bytes 1 and 2, for 10-bit addresses, have no effect.";
    MRXRADDR = 0x00c, Rw, 0, "Address of the register that MOD_REGISTER_TX selects: three bytes from bit 0 on. Bits 24, 25 and 26 say which of them are valid.";
    MTXCNT = 0x010, Rw, 0, "Bytes to transmit, bits 5:0, at most BUFFER_BYTES. A write in MOD_TX transmits them from TXDATA. The first byte after START is the address byte.";
    MRXCNT = 0x014, Rw, 0, "Bytes to receive, bits 5:0, at most BUFFER_BYTES. A write in MOD_RX receives them into RXDATA, and one in MOD_REGISTER_TX transmits the addresses before.";
    IEN = 0x018, Rw, 0, "INT_* bits that take the interrupt line high.";
    IPD = 0x01c, W1c, 0, "INT_* bits that are pending.";
    FCNT = 0x020, Ro, 0, "Bytes of the last transfer, with the addresses.";
    TXDATA = 0x100, Rw, 0, "The first of BUFFER_BYTES / 4 words to transmit, lowest byte first.";
    RXDATA = 0x200, Ro, 0, "The first of BUFFER_BYTES / 4 words that were received, lowest byte first.";
}

constants! {
    CON_EN = 1 << 0, "The controller is enabled. While it is 0, the controller has no message in progress, and START and STOP generate nothing.";
    CON_MOD = 3 << 1, "The mode, MOD_*. The fourth one, which the driver calls broken, transfers nothing here.";
    MOD_TX = 0, "Transmit TXDATA.";
    MOD_REGISTER_TX = 1 << 1, "Transmit MRXADDR and MRXRADDR, then a repeated START and MRXADDR with the read bit, and receive. If MRXADDR has the read bit itself, it is transmitted alone.";
    MOD_RX = 2 << 1, "Receive.";
    CON_START = 1 << 3, "Generate START.";
    CON_STOP = 1 << 4, "Generate STOP.";
    CON_LASTACK = 1 << 5, "Do not acknowledge the last byte that is received. The chips here do not depend on it.";
    CON_ACTACK = 1 << 6, "A byte that is not acknowledged ends the transfer.";
    CON_TUNING = 0xff << 8, "Hold and set-up times. They have no effect here.";
    VALID = 1 << 24, "Byte 0 of MRXADDR or MRXRADDR is valid; the bits above are for bytes 1 and 2.";
    COUNT = 0x3f, "The bits of MTXCNT and MRXCNT.";
    INT_BTF = 1 << 0, "A byte was transmitted. It is never set here: INT_MBTF says it for all bytes.";
    INT_BRF = 1 << 1, "A byte was received. It is never set here.";
    INT_MBTF = 1 << 2, "The bytes of MTXCNT were transmitted.";
    INT_MBRF = 1 << 3, "The bytes of MRXCNT were received.";
    INT_START = 1 << 4, "START was generated. After a repeated START it is set together with INT_MBRF.";
    INT_STOP = 1 << 5, "STOP was generated.";
    INT_NAKRCV = 1 << 6, "A byte was not acknowledged. With CON_ACTACK, neither INT_MBTF nor INT_MBRF follows.";
    INT_ALL = 0x7f, "The bits of IEN and IPD.";
    BUFFER_BYTES = 32, "Bytes of TXDATA, and of RXDATA.";
    SIZE = 0x1000, "Bytes of the register region, as in rk3399.dtsi.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_aligned_ascending_and_inside_the_region() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(REGISTERS.iter().all(|register| register.offset % 4 == 0 && register.offset < SIZE));
    }
}
