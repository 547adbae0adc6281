//! The stamp in the first bytes of every frame, by which a torn, repeated or lost frame is told from a good one.
//!
//! It takes the place of the first [`LEN`] bytes of the first line of plane 0. Numbers are little-endian:
//!
//! | bytes  | meaning |
//! |--------|---------|
//! | 0..8   | [`MAGIC`] |
//! | 8..12  | sequence number of the frame, as in the register CH_DONE_SEQUENCE |
//! | 12..16 | CRC-32 of the frame |
//! | 16..18 | width in pixels |
//! | 18..20 | height in pixels |
//! | 20..24 | V4L2's four-character code of the pixel format |
//! | 24..32 | zero |
//!
//! The CRC is that of zip, PNG and Ethernet (IEEE 802.3, `zlib.crc32` in Python). It covers the visible bytes of
//! all planes in order, line by line without padding, with the four bytes of the CRC itself taken as zero: the
//! rest of the stamp, and so the sequence number, is covered too.

use crc32fast::Hasher;

use super::format::Layout;

/// The stamp's first bytes.
pub const MAGIC: [u8; 8] = *b"MCVMSEQ\0";

/// Bytes of a stamp.
pub const LEN: usize = 32;

const CRC: std::ops::Range<usize> = 12..16;

/// What a stamp says about its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Sequence number of the frame: 0 for the first after the start of streaming, dropped frames counted.
    pub sequence: u32,
    /// CRC-32 of the frame.
    pub crc: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// V4L2's code of the pixel format.
    pub fourcc: u32,
}

/// Why a frame is not good.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum StampError {
    /// Too few or too many bytes for the layout.
    #[error("the frame has {len} bytes; in this format, size and stride it has from {min} to {max}")]
    Length {
        /// Its bytes.
        len: u64,
        /// Bytes from its first to its last visible byte.
        min: u64,
        /// The same with the last line's padding.
        max: u64,
    },
    /// No stamp.
    #[error("the frame begins with {found:02x?} instead of a stamp; it was never, or not wholly, written")]
    NoMagic {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// A frame, but another format or size.
    #[error(
        "the stamp is that of a frame of {}x{} in format {:#010x}, not of {width}x{height} in {fourcc:#010x}",
        found.width, found.height, found.fourcc
    )]
    OtherLayout {
        /// What the stamp says.
        found: Stamp,
        /// The width that was looked for.
        width: u32,
        /// The height that was looked for.
        height: u32,
        /// The format that was looked for.
        fourcc: u32,
    },
    /// Pixels of different frames, or damaged ones.
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
    /// Reads the stamp of a frame, and does not check the frame. Tells the layout of a frame that is not known:
    ///
    /// # Errors
    /// [`StampError::NoMagic`], also for less than [`LEN`] bytes.
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

/// Checks a frame as a program in the guest gets it (`v4l2-ctl --stream-to`): the planes one after the other, all
/// lines of each with their padding; the last line's may be missing.
///
/// # Errors
/// Says what is wrong with the frame.
///
/// ```
/// use devices::media::{Layout, stamp};
///
/// let layout = Layout::new(u32::from_le_bytes(*b"GREY"), 160, 120)?;
/// // A black frame, and the stamp that it has as frame 7.
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

    /// A good frame with padding after each line, made as the camera makes its own.
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
    fn says_what_else_is_wrong() {
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
