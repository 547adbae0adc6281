//! The stamp in the first bytes of every frame. It shows whether a frame is torn, repeated or lost.
//!
//! The stamp replaces the first [`LEN`] bytes of the first line of plane 0. Numbers are little-endian:
//!
//! | bytes  | meaning |
//! |--------|---------|
//! | 0..8   | [`MAGIC`] |
//! | 8..12  | sequence number of the frame, as in the register CH_DONE_SEQUENCE |
//! | 12..16 | CRC-32 of the frame |
//! | 16..18 | width in pixels |
//! | 18..20 | height in pixels |
//! | 20..24 | the V4L2 four-character code of the pixel format |
//! | 24..32 | zero |
//!
//! The CRC is that of zip, PNG and Ethernet (IEEE 802.3, `zlib.crc32` in Python). It covers the visible bytes of
//! all planes in order, line by line without padding. The four bytes of the CRC itself count as zero, so the CRC covers the
//! rest of the stamp too, with the sequence number.

use crc32fast::Hasher;

use super::format::Layout;

/// The first bytes of a stamp.
pub const MAGIC: [u8; 8] = *b"MCVMSEQ\0";

/// The number of bytes of a stamp.
pub const LEN: usize = 32;

const CRC: std::ops::Range<usize> = 12..16;

/// The content of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The sequence number of the frame. It is 0 for the first frame after the start of streaming, and counts dropped frames.
    pub sequence: u32,
    /// CRC-32 of the frame.
    pub crc: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The V4L2 code of the pixel format.
    pub fourcc: u32,
}

/// Why a frame is not valid.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum StampError {
    /// It has too few or too many bytes for the layout.
    #[error("the frame has {len} bytes; in this format, size and stride it has from {min} to {max}")]
    Length {
        /// The number of its bytes.
        len: u64,
        /// The number of bytes from the first visible byte to the last.
        min: u64,
        /// The same with the padding of the last line.
        max: u64,
    },
    /// It has no stamp.
    #[error("the frame begins with {found:02x?} instead of a stamp; it was not written, or only in part")]
    NoMagic {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// It has another format or size.
    #[error(
        "the stamp belongs to a frame of {}x{} in format {:#010x}, not of {width}x{height} in {fourcc:#010x}",
        found.width, found.height, found.fourcc
    )]
    OtherLayout {
        /// The stamp.
        found: Stamp,
        /// The expected width.
        width: u32,
        /// The expected height.
        height: u32,
        /// The expected format.
        fourcc: u32,
    },
    /// It has pixels of different frames, or damaged ones.
    #[error("frame {sequence} is torn or damaged: its CRC is {found:#010x}, its stamp says {stamped:#010x}")]
    Torn {
        /// The sequence number in the stamp.
        sequence: u32,
        /// The CRC of the bytes.
        found: u32,
        /// The CRC in the stamp.
        stamped: u32,
    },
}

impl Stamp {
    /// Reads the stamp of a frame without a check of the frame, for example to find its layout.
    ///
    /// # Errors
    /// [`StampError::NoMagic`] if there is no stamp, or fewer than [`LEN`] bytes.
    pub fn read(frame: &[u8]) -> Result<Self, StampError> {
        let Some(bytes) = frame.first_chunk::<LEN>().filter(|bytes| bytes.starts_with(&MAGIC)) else {
            let mut found = [0; MAGIC.len()];
            found.iter_mut().zip(frame).for_each(|(found, byte)| *found = *byte);
            return Err(StampError::NoMagic { found });
        };
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Ok(Self {
            sequence: word(8),
            crc: word(CRC.start),
            width: word(16) & 0xffff,
            height: word(16) >> 16,
            fourcc: word(20),
        })
    }
}

/// The stamp of frame `sequence`. `rest` is the checksum of the visible bytes after the stamp.
pub fn make(sequence: u32, layout: &Layout, rest: &Hasher) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..20].copy_from_slice(&(layout.width() | layout.height() << 16).to_le_bytes());
    bytes[20..24].copy_from_slice(&layout.format().fourcc.to_le_bytes());
    let mut hasher = Hasher::new();
    hasher.update(&bytes);
    hasher.combine(rest);
    bytes[CRC].copy_from_slice(&hasher.finalize().to_le_bytes());
    bytes
}

/// Checks a frame as a program in the guest captures it (`v4l2-ctl --stream-to`): the planes follow each other, and each line
/// has its padding. The padding of the last line may be missing.
///
/// # Errors
/// If the frame is not valid.
///
/// ```
/// use media::{Layout, stamp};
///
/// let layout = Layout::new(u32::from_le_bytes(*b"GREY"), 160, 120)?;
/// // A black frame with the stamp of frame 7.
/// let mut frame = vec![0; 160 * 120];
/// frame[..8].copy_from_slice(&stamp::MAGIC);
/// frame[8..12].copy_from_slice(&7_u32.to_le_bytes());
/// frame[16..20].copy_from_slice(&[160, 0, 120, 0]);
/// frame[20..24].copy_from_slice(b"GREY");
/// let crc = crc32fast::hash(&frame);
/// frame[12..16].copy_from_slice(&crc.to_le_bytes());
///
/// assert_eq!(stamp::check(&frame, &layout)?.sequence, 7);
///
/// frame[10_000] = 1;
/// let error = stamp::check(&frame, &layout).unwrap_err();
/// assert!(error.to_string().starts_with("frame 7 is torn or damaged"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check(frame: &[u8], layout: &Layout) -> Result<Stamp, StampError> {
    let whole = |plane: super::format::PlaneLayout| u64::from(plane.stride) * u64::from(plane.lines);
    let max = layout.planes().map(whole).sum();
    let min = max - layout.planes().last().map_or(0, |last| whole(last) - last.span());
    let len = frame.len() as u64;
    if !(min..=max).contains(&len) {
        return Err(StampError::Length { len, min, max });
    }
    let stamp = Stamp::read(frame)?;
    let (width, height, fourcc) = (layout.width(), layout.height(), layout.format().fourcc);
    if (stamp.width, stamp.height, stamp.fourcc) != (width, height, fourcc) {
        return Err(StampError::OtherLayout { found: stamp, width, height, fourcc });
    }
    let mut hasher = Hasher::new();
    let mut rest = frame;
    for (index, plane) in layout.planes().enumerate() {
        let stride = plane.stride as usize;
        let (bytes, after) = rest.split_at(rest.len().min(stride * plane.lines as usize));
        for (y, line) in bytes.chunks(stride).enumerate() {
            let mut line = &line[..plane.line_bytes as usize];
            if (index, y) == (0, 0) {
                hasher.update(&line[..CRC.start]);
                hasher.update(&[0; CRC.end - CRC.start]);
                line = &line[CRC.end..];
            }
            hasher.update(line);
        }
        rest = after;
    }
    let found = hasher.finalize();
    if found == stamp.crc {
        Ok(stamp)
    } else {
        Err(StampError::Torn { sequence: stamp.sequence, found, stamped: stamp.crc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NV12: u32 = u32::from_le_bytes(*b"NV12");

    /// A valid frame with padding after each line.
    fn frame(sequence: u32) -> (Vec<u8>, Layout) {
        let layout = Layout::new(NV12, 160, 120).unwrap().with_strides([192, 256, 0]).unwrap();
        let mut frame: Vec<u8> = (0..192 * 120 + 256 * 60).map(|at: u32| at.to_le_bytes()[0]).collect();
        let mut rest = Hasher::new();
        rest.update(&frame[LEN..160]);
        for y in 1..120 {
            rest.update(&frame[y * 192..][..160]);
        }
        for y in 0..60 {
            rest.update(&frame[192 * 120 + y * 256..][..160]);
        }
        frame[..LEN].copy_from_slice(&make(sequence, &layout, &rest));
        (frame, layout)
    }

    #[test]
    fn a_good_frame_with_or_without_its_last_padding() {
        let (mut frame, layout) = frame(41);
        assert_eq!(check(&frame, &layout).unwrap().sequence, 41);
        frame[170] ^= 1;
        frame.truncate(192 * 120 + 256 * 59 + 160);
        let stamp = check(&frame, &layout).unwrap();
        assert_eq!((stamp.sequence, stamp.width, stamp.height, stamp.fourcc), (41, 160, 120, NV12));
    }

    #[test]
    fn every_visible_byte_counts() {
        let (good, layout) = frame(41);
        for at in [8, 12, 31, 32, 159, 192, 192 * 119 + 159, 192 * 120, 192 * 120 + 256 * 59 + 159] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(matches!(check(&bad, &layout), Err(StampError::Torn { .. })), "byte {at}");
        }
        let mut torn = good.clone();
        torn[192 * 60..].rotate_left(192);
        assert!(matches!(check(&torn, &layout), Err(StampError::Torn { sequence: 41, .. })));
    }

    #[test]
    fn other_faults_have_their_own_errors() {
        let (frame, layout) = frame(0);
        let (min, max) = (192 * 120 + 256 * 59 + 160, 192 * 120 + 256 * 60);
        for len in [0, min - 1, max + 1] {
            let bytes = vec![0; usize::try_from(len).unwrap()];
            assert_eq!(check(&bytes, &layout), Err(StampError::Length { len, min, max }));
        }
        let blank = vec![0; frame.len()];
        assert_eq!(check(&blank, &layout), Err(StampError::NoMagic { found: [0; 8] }));
        let other = Layout::new(NV12, 160, 122).unwrap().with_strides([192, 246, 0]).unwrap();
        let error = check(&frame, &other).unwrap_err();
        assert!(matches!(error, StampError::OtherLayout { height: 122, .. }), "{error}");
        assert_eq!(Stamp::read(b"MCVM"), Err(StampError::NoMagic { found: *b"MCVM\0\0\0\0" }));
    }
}
