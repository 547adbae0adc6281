//! The requests of a block device, carried out on its file (virtio 1.2, section 5.2.6).

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    sync::{Arc, OnceLock},
};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_queue::{Reader, Writer};
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

use super::SECTOR;

/// The longest range that is discarded or zeroed, in sectors: 16 MiB, so that a request takes a short time where the file system of
/// the host cannot do it by itself.
pub(super) const RANGE_SECTORS: u32 = 1 << 15;

/// The flag of a range to zero: it may become a hole.
const UNMAP: u32 = 1 << 0;

/// How much is copied between the file and the guest at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Length of the name that the guest can ask for, in bytes.
const SERIAL_BYTES: usize = 20;

/// Why a request failed.
enum Failure {
    /// The request is malformed, or outside the disk.
    Malformed,
    /// The device has no such request, or not with these flags.
    Unsupported,
    /// The host failed.
    Host(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

/// The file with the content of a disk.
pub(super) struct Media {
    file: File,
    sectors: u64,
    serial: [u8; SERIAL_BYTES],
    /// What was written is stable before a request ends.
    write_through: bool,
    chunk: Box<[u8]>,
    /// The first error of the host.
    failure: Arc<OnceLock<io::Error>>,
}

impl Media {
    pub(super) fn new(file: File, size: u64, serial: &str) -> Self {
        let mut bytes = [0; SERIAL_BYTES];
        bytes.iter_mut().zip(serial.bytes()).for_each(|(to, from)| *to = from);
        Self {
            file,
            sectors: size / SECTOR,
            serial: bytes,
            write_through: false,
            chunk: vec![0; CHUNK].into(),
            failure: Arc::default(),
        }
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn failure(&self) -> Arc<OnceLock<io::Error>> {
        self.failure.clone()
    }

    pub(super) fn set_write_through(&mut self, write_through: bool) {
        self.write_through = write_through;
    }

    /// Carries out the request in `reader`. Its answer has `room` bytes and a status.
    ///
    /// # Errors
    /// If the answer cannot be written.
    pub(super) fn serve(&mut self, reader: &mut Reader, writer: &mut Writer, room: usize) -> io::Result<()> {
        let status = match self.carry_out(reader, writer, room) {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(Failure::Malformed) => VIRTIO_BLK_S_IOERR,
            Err(Failure::Unsupported) => VIRTIO_BLK_S_UNSUPP,
            Err(Failure::Host(error)) => {
                // The guest can repeat a request that fails.
                let _ = self.failure.set(error);
                VIRTIO_BLK_S_IOERR
            }
        };
        // The status is the last byte, also after a part of the data.
        io::copy(&mut io::repeat(0).take(writer.available_bytes().saturating_sub(1) as u64), writer)?;
        writer.write_all(&[status.to_le_bytes()[0]])
    }

    fn carry_out(&mut self, reader: &mut Reader, writer: &mut Writer, room: usize) -> Result<(), Failure> {
        // struct virtio_blk_req: type, reserved, sector.
        let mut header = [0; 16];
        reader.read_exact(&mut header).map_err(|_| Failure::Malformed)?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([a, b, c, d]) {
            VIRTIO_BLK_T_IN => self.read(sector, room, writer),
            VIRTIO_BLK_T_OUT => self.write(sector, reader),
            VIRTIO_BLK_T_FLUSH => Ok(self.file.sync_data()?),
            VIRTIO_BLK_T_GET_ID => Ok(writer.write_all(&self.serial[..room.min(SERIAL_BYTES)])?),
            VIRTIO_BLK_T_DISCARD => {
                let (at, length, flags) = self.range(reader)?;
                if flags != 0 {
                    return Err(Failure::Unsupported);
                }
                // Discarding is a hint. The host's file system may be unable to make holes.
                let _ = fallocate(&self.file, FallocateMode::PunchHole, true, at, length);
                Ok(())
            }
            VIRTIO_BLK_T_WRITE_ZEROES => {
                let (at, length, flags) = self.range(reader)?;
                let mode = match flags {
                    0 => FallocateMode::ZeroRange,
                    UNMAP => FallocateMode::PunchHole,
                    _ => return Err(Failure::Unsupported),
                };
                if fallocate(&self.file, mode, true, at, length).is_err() {
                    self.write_zeroes(at, length)?;
                }
                self.written()
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(&mut self, sector: u64, length: usize, writer: &mut Writer) -> Result<(), Failure> {
        let mut at = self.place(sector, length as u64)?;
        let mut left = length;
        while left > 0 {
            let count = left.min(CHUNK);
            let chunk = &mut self.chunk[..count];
            self.file.read_exact_at(chunk, at)?;
            writer.write_all(chunk)?;
            at += count as u64;
            left -= count;
        }
        Ok(())
    }

    fn write(&mut self, sector: u64, reader: &mut Reader) -> Result<(), Failure> {
        let mut at = self.place(sector, reader.available_bytes() as u64)?;
        loop {
            let count = reader.read(&mut self.chunk)?;
            if count == 0 {
                return self.written();
            }
            self.file.write_all_at(&self.chunk[..count], at)?;
            at += count as u64;
        }
    }

    pub(super) fn write_zeroes(&mut self, at: u64, length: u64) -> io::Result<()> {
        self.chunk.fill(0);
        for start in (0..length).step_by(CHUNK) {
            let count = usize::try_from(length - start).map_or(CHUNK, |left| left.min(CHUNK));
            self.file.write_all_at(&self.chunk[..count], at + start)?;
        }
        Ok(())
    }

    /// Something was written.
    fn written(&self) -> Result<(), Failure> {
        if self.write_through {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// The one range of a request (struct virtio_blk_discard_write_zeroes): its place in the file, its length in bytes, its flags.
    fn range(&self, reader: &mut Reader) -> Result<(u64, u64, u32), Failure> {
        let mut range = [0; 16];
        reader.read_exact(&mut range).map_err(|_| Failure::Malformed)?;
        let [sector @ .., a, b, c, d, e, f, g, h] = range;
        let (count, flags) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if count > RANGE_SECTORS || reader.available_bytes() > 0 {
            return Err(Failure::Malformed);
        }
        let length = u64::from(count) * SECTOR;
        Ok((self.place(u64::from_le_bytes(sector), length)?, length, flags))
    }

    /// Where `length` bytes from `sector` on are in the file, if they are whole sectors of the disk.
    fn place(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let end = sector.checked_add(length / SECTOR).filter(|end| *end <= self.sectors);
        match end {
            Some(_) if length.is_multiple_of(SECTOR) => Ok(sector * SECTOR),
            _ => Err(Failure::Malformed),
        }
    }
}
