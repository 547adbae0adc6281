//! The results of streaming in a guest: checks a file of frames, and reads the driver's list of buffers.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    path::Path,
};

use devices::media::{
    Layout,
    stamp::{self, StampError},
};
use serde::Serialize;

/// Why a frame of a file is bad.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Its stamp or its checksum is wrong.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// It is whole, but not the next one.
    #[error("it has the sequence number {found} instead of {expected}")]
    Sequence {
        /// The number in its stamp.
        found: u32,
        /// The number that follows the last frame's.
        expected: u32,
    },
}

/// The result of a check of a file of frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Number of frames in the file. An incomplete frame at its end counts.
    pub frames: u64,
    /// The bad frames: their index in the file, from 0, and the reason.
    pub bad: Vec<(u64, FrameError)>,
}

/// Bytes of a frame in a file: all lines with their padding.
fn frame_bytes(layout: &Layout) -> u64 {
    layout.planes().map(|plane| u64::from(plane.stride) * u64::from(plane.lines)).sum()
}

/// Checks frames that follow each other without a gap, as `v4l2-ctl --stream-to` writes them. Each has to be whole, and their
/// sequence numbers have to be 0, 1, 2...
///
/// # Errors
/// If the frames cannot be read. A bad frame is not an error.
pub fn check(mut frames: impl Read, layout: &Layout) -> io::Result<Checked> {
    let mut checked = Checked::default();
    let mut expected = 0;
    let mut frame = Vec::new();
    loop {
        frame.clear();
        frames.by_ref().take(frame_bytes(layout)).read_to_end(&mut frame)?;
        if frame.is_empty() {
            return Ok(checked);
        }
        match stamp::check(&frame, layout) {
            Ok(stamp) => {
                if stamp.sequence != expected {
                    let error = FrameError::Sequence { found: stamp.sequence, expected };
                    checked.bad.push((checked.frames, error));
                }
                expected = stamp.sequence.wrapping_add(1);
            }
            Err(error) => {
                checked.bad.push((checked.frames, error.into()));
                expected = expected.wrapping_add(1);
            }
        }
        checked.frames += 1;
    }
}

/// Checks the frames in the file at `path`, as [`check`] does.
///
/// # Errors
/// If it cannot be read.
pub fn check_file(path: &Path, layout: &Layout) -> io::Result<Checked> {
    check(BufReader::new(File::open(path)?), layout)
}

/// Reads frame `index`, from 0, of the file at `path`.
///
/// # Errors
/// If it cannot be read, or ends before that frame does.
pub fn read_frame(path: &Path, layout: &Layout, index: u64) -> io::Result<Vec<u8>> {
    let len = frame_bytes(layout);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(index * len))?;
    let mut frame = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact(&mut frame)?;
    Ok(frame)
}

/// A buffer of our V4L2 driver: a line of its file `buffers` in debugfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// Its index in V4L2.
    pub index: u32,
    /// The address that the device writes to.
    pub address: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its state: dequeued, queued, inflight or done.
    pub state: String,
}

/// A line that describes no buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no buffer of the driver's; it writes: INDEX 0xADDRESS BYTES STATE")]
pub struct BufferError(String);

/// Parses the driver's list of buffers.
///
/// # Errors
/// The first line that is not as the driver writes it.
///
/// ```
/// let buffers = vmm::observe::frames::parse_buffers("0 0x0000000030000000 614400 queued\n")?;
/// assert_eq!((buffers[0].address, buffers[0].bytes), (0x3000_0000, 614_400));
/// # Ok::<(), vmm::observe::frames::BufferError>(())
/// ```
pub fn parse_buffers(text: &str) -> Result<Vec<Buffer>, BufferError> {
    text.lines().map(|line| parse_buffer(line).ok_or_else(|| BufferError(line.to_owned()))).collect()
}

fn parse_buffer(line: &str) -> Option<Buffer> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [index, address, bytes, state] = fields[..] else { return None };
    Some(Buffer {
        index: index.parse().ok()?,
        address: u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?,
        bytes: bytes.parse().ok()?,
        state: Some(state)
            .filter(|state| ["dequeued", "queued", "inflight", "done"].contains(state))?
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(u32::from_le_bytes(*b"GREY"), 160, 120).unwrap()
    }

    /// A grey frame with a stamp.
    fn frame(sequence: u32) -> Vec<u8> {
        let mut frame = vec![128; 160 * 120];
        frame[..stamp::LEN].fill(0);
        frame[..8].copy_from_slice(&stamp::MAGIC);
        frame[8..12].copy_from_slice(&sequence.to_le_bytes());
        frame[16..20].copy_from_slice(&[160, 0, 120, 0]);
        frame[20..24].copy_from_slice(b"GREY");
        let crc = crc32fast::hash(&frame);
        frame[12..16].copy_from_slice(&crc.to_le_bytes());
        frame
    }

    fn bad(sequences: &[u32]) -> Vec<(u64, FrameError)> {
        let bytes: Vec<u8> = sequences.iter().flat_map(|sequence| frame(*sequence)).collect();
        check(&bytes[..], &layout()).unwrap().bad
    }

    #[test]
    fn lost_and_repeated_frames_are_found_once() {
        assert_eq!(bad(&[0, 1, 2]), []);
        assert_eq!(bad(&[0, 2, 3]), [(1, FrameError::Sequence { found: 2, expected: 1 })]);
        assert_eq!(bad(&[0, 1, 1, 2]), [(2, FrameError::Sequence { found: 1, expected: 2 })]);
        assert_eq!(bad(&[1]), [(0, FrameError::Sequence { found: 1, expected: 0 })]);
    }

    #[test]
    fn torn_frames_and_pieces_are_bad() {
        let mut bytes = [frame(0), frame(1), frame(2), frame(3)].concat();
        bytes[160 * 120 + 5000] = 0;
        bytes.truncate(160 * 120 * 4 - 1);
        let checked = check(&bytes[..], &layout()).unwrap();
        assert_eq!(checked.frames, 4);
        assert!(
            matches!(
                &checked.bad[..],
                [
                    (1, FrameError::Stamp(StampError::Torn { sequence: 1, .. })),
                    (3, FrameError::Stamp(StampError::Length { len: 19_199, .. }))
                ]
            ),
            "{checked:?}"
        );
        assert_eq!(check(&[][..], &layout()).unwrap(), Checked::default());
    }

    #[test]
    fn one_frame_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [frame(0), frame(1)].concat()).unwrap();
        assert_eq!(read_frame(file.path(), &layout(), 1).unwrap(), frame(1));
        assert!(read_frame(file.path(), &layout(), 2).is_err());
    }

    #[test]
    fn lines_that_are_no_buffers() {
        assert_eq!(parse_buffers("").unwrap(), []);
        for line in
            ["0 0x10 4096", "0 10 4096 done", "x 0x10 4096 done", "0 0x10 -1 done", "0 0x10 1 lost", " "]
        {
            let text = format!("1 0x0000000000001000 4096 inflight\n{line}\n");
            assert_eq!(parse_buffers(&text), Err(BufferError(line.to_owned())));
        }
    }
}
