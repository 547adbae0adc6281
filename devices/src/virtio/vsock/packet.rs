//! The header of a packet (struct virtio_vsock_hdr; virtio 1.2, section 5.10.6).

/// Its length in bytes.
pub(super) const HEADER: usize = 44;

/// VIRTIO_VSOCK_TYPE_STREAM: the one type of socket that the device has.
pub(super) const STREAM: u16 = 1;

/// What a packet does (`VIRTIO_VSOCK_OP_*`).
pub(super) mod op {
    pub(in super::super) const REQUEST: u16 = 1;
    pub(in super::super) const RESPONSE: u16 = 2;
    pub(in super::super) const RESET: u16 = 3;
    pub(in super::super) const SHUTDOWN: u16 = 4;
    pub(in super::super) const DATA: u16 = 5;
    pub(in super::super) const CREDIT_UPDATE: u16 = 6;
    pub(in super::super) const CREDIT_REQUEST: u16 = 7;
}

/// Flags of a shutdown: the sender receives no more, and it sends no more.
pub(super) const NO_RECEIVE: u32 = 1 << 0;
pub(super) const NO_SEND: u32 = 1 << 1;

/// The fields of a header, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) from_port: u32,
    pub(super) to_port: u32,
    /// The length of the data behind it.
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    /// The room that the sender has for data of this connection.
    pub(super) room: u32,
    /// How much of the data it has passed on since the beginning.
    pub(super) passed_on: u32,
}

impl Header {
    /// Reads a header.
    pub(super) fn read(bytes: &[u8; HEADER]) -> Self {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Self {
            from: wide(0),
            to: wide(8),
            from_port: word(16),
            to_port: word(20),
            length: word(24),
            kind: half(28),
            op: half(30),
            flags: word(32),
            room: word(36),
            passed_on: word(40),
        }
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..16].copy_from_slice(&[self.from, self.to].map(u64::to_le_bytes).concat());
        bytes[16..28]
            .copy_from_slice(&[self.from_port, self.to_port, self.length].map(u32::to_le_bytes).concat());
        bytes[28..32].copy_from_slice(&[self.kind, self.op].map(u16::to_le_bytes).concat());
        bytes[32..].copy_from_slice(&[self.flags, self.room, self.passed_on].map(u32::to_le_bytes).concat());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_places() {
        let header = Header {
            from: 0x0807_0605_0403_0201,
            to: 3,
            from_port: 4,
            to_port: 5,
            length: 6,
            kind: 7,
            op: 8,
            flags: 9,
            room: 10,
            passed_on: 0xfefd_fcfb,
        };
        let bytes = header.bytes();
        assert_eq!(bytes[..12], [1, 2, 3, 4, 5, 6, 7, 8, 3, 0, 0, 0]);
        assert_eq!(bytes[24..34], [6, 0, 0, 0, 7, 0, 8, 0, 9, 0]);
        assert_eq!(bytes[40..], [0xfb, 0xfc, 0xfd, 0xfe]);
        assert_eq!(Header::read(&bytes), header);
    }
}
