//! The requests of a block device, carried out on the content of its disk (virtio 1.2, section 5.2.6).

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::{
    content::Content,
    limits::{CHUNK, SECTOR},
};
use crate::{dma::DmaPort, platform::Counters, virtio::request::Request};

/// The longest range that is discarded or zeroed, in sectors: 16 MiB, so that a request takes a short time where the file system of
/// the host cannot do it by itself.
pub(super) const RANGE_SECTORS: u32 = 1 << 15;

/// The flag of a range to zero: its space may be freed.
const UNMAP: u32 = 1 << 0;

/// Length of the name that the guest can ask for, in bytes.
const SERIAL_BYTES: usize = 20;

/// Why a request failed.
enum Failure {
    /// The request is malformed, outside the disk, or a change of a disk that is read-only.
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

/// The names of a disk's counters.
pub(super) const COUNTERS: [&str; 8] =
    ["reads", "bytes_read", "writes", "bytes_written", "flushes", "discards", "write_zeroes", "errors"];

/// What a disk did.
#[derive(Debug, Default)]
struct Done {
    reads: AtomicU64,
    bytes_read: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    flushes: AtomicU64,
    discards: AtomicU64,
    write_zeroes: AtomicU64,
    errors: AtomicU64,
}

/// A disk as its requests see it. Any number of threads may use it at a time.
#[derive(Debug)]
pub(super) struct Media {
    content: Content,
    sectors: u64,
    is_read_only: bool,
    serial: [u8; SERIAL_BYTES],
    /// What was written is stable before a request ends.
    write_through: AtomicBool,
    done: Done,
    /// The first error of the host.
    failure: Arc<OnceLock<io::Error>>,
}

impl Media {
    /// The disk with this content. The guest sees the name `serial`, of at most 20 bytes.
    pub(super) fn new(content: Content, is_read_only: bool, serial: &str) -> Self {
        let mut bytes = [0; SERIAL_BYTES];
        bytes.iter_mut().zip(serial.bytes()).for_each(|(to, from)| *to = from);
        Self {
            sectors: content.size() / SECTOR,
            content,
            is_read_only,
            serial: bytes,
            write_through: AtomicBool::new(false),
            done: Done::default(),
            failure: Arc::default(),
        }
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The unit in which space is freed, in sectors.
    pub(super) fn unit(&self) -> u32 {
        u32::try_from(self.content.unit() / SECTOR).unwrap_or(1)
    }

    /// The first error of the host.
    pub(super) fn failure(&self) -> &Arc<OnceLock<io::Error>> {
        &self.failure
    }

    pub(super) fn set_write_through(&self, write_through: bool) {
        self.write_through.store(write_through, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        let Done { reads, bytes_read, writes, bytes_written, flushes, discards, write_zeroes, errors } =
            &self.done;
        let all = [reads, bytes_read, writes, bytes_written, flushes, discards, write_zeroes, errors];
        COUNTERS.into_iter().zip(all.map(|counter| counter.load(Ordering::Relaxed))).collect()
    }

    /// Completes the file, at the end of a machine.
    pub(super) fn close(&self) {
        if !self.is_read_only
            && let Err(error) = self.content.close()
        {
            tracing::warn!("the image of a disk is not complete: {error}");
            let _ = self.failure.set(error);
        }
    }

    /// Carries out `request`, with a `buffer` of [`CHUNK`] bytes, and writes its answer. The last byte of the answer is the status.
    pub(super) fn carry_out(&self, request: &mut Request, memory: &DmaPort, buffer: &mut [u8]) {
        // An image of a format is input, too: what it makes the format's code do stays an error of the request.
        let attempt = AssertUnwindSafe(|| self.attempt(request, memory, buffer));
        let result = catch_unwind(attempt)
            .unwrap_or_else(|_| Err(Failure::Host(io::Error::other("the format's code panicked"))));
        if result.is_err() {
            self.done.errors.fetch_add(1, Ordering::Relaxed);
        }
        let status = match result {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(Failure::Malformed) => VIRTIO_BLK_S_IOERR,
            Err(Failure::Unsupported) => VIRTIO_BLK_S_UNSUPP,
            Err(Failure::Host(error)) => {
                tracing::warn!("a disk of the guest has an I/O error: {error}");
                // The guest can repeat a request that fails.
                let _ = self.failure.set(error);
                VIRTIO_BLK_S_IOERR
            }
        };
        // The status comes behind all of the data's room, also after a part of the data. A memory that a plan of faults took away
        // stays without an answer.
        let zeroes = [0; 4096];
        while let Some(room) = request.writable.left().checked_sub(1).filter(|room| *room > 0) {
            let count = usize::try_from(room).map_or(zeroes.len(), |room| room.min(zeroes.len()));
            let _ = request.writable.write(memory, &zeroes[..count]);
        }
        let _ = request.writable.write(memory, &[status.to_le_bytes()[0]]);
        memory.finish_slices();
    }

    fn attempt(&self, request: &mut Request, memory: &DmaPort, buffer: &mut [u8]) -> Result<(), Failure> {
        // struct virtio_blk_req: type, reserved, sector.
        let header: [u8; 16] = fields(request, memory)?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        let kind = u32::from_le_bytes([a, b, c, d]);
        let changes = [VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES].contains(&kind);
        if changes && self.is_read_only {
            return Err(Failure::Malformed);
        }
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match kind {
            VIRTIO_BLK_T_IN => {
                count(&self.done.reads);
                self.read(sector, request, memory, buffer)
            }
            VIRTIO_BLK_T_OUT => {
                count(&self.done.writes);
                self.write(sector, request, memory, buffer)
            }
            VIRTIO_BLK_T_FLUSH => {
                count(&self.done.flushes);
                Ok(self.content.flush()?)
            }
            VIRTIO_BLK_T_GET_ID => {
                let room = room(request).min(SERIAL_BYTES as u64);
                let length = usize::try_from(room).unwrap_or(SERIAL_BYTES);
                request.writable.write(memory, &self.serial[..length]).map_err(|_| Failure::Malformed)?;
                Ok(())
            }
            VIRTIO_BLK_T_DISCARD => {
                let (at, length, flags) = self.range(request, memory)?;
                if flags != 0 {
                    return Err(Failure::Unsupported);
                }
                count(&self.done.discards);
                Ok(self.content.discard(at, length)?)
            }
            VIRTIO_BLK_T_WRITE_ZEROES => {
                let (at, length, flags) = self.range(request, memory)?;
                if flags & !UNMAP != 0 {
                    return Err(Failure::Unsupported);
                }
                count(&self.done.write_zeroes);
                self.content.write_zeroes(at, length, flags == UNMAP)?;
                self.written()
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(
        &self,
        sector: u64,
        request: &mut Request,
        memory: &DmaPort,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let mut left = room(request);
        let mut at = self.place(sector, left)?;
        while left > 0 {
            let count = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = &mut buffer[..count];
            self.content.read(chunk, at)?;
            request.writable.write(memory, chunk).map_err(|_| Failure::Malformed)?;
            self.done.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
            at += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    fn write(
        &self,
        sector: u64,
        request: &mut Request,
        memory: &DmaPort,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let mut at = self.place(sector, request.readable.left())?;
        loop {
            let count = request.readable.read(memory, buffer).map_err(|_| Failure::Malformed)?;
            if count == 0 {
                return self.written();
            }
            self.content.write(&buffer[..count], at)?;
            self.done.bytes_written.fetch_add(count as u64, Ordering::Relaxed);
            at += count as u64;
        }
    }

    /// Something was written.
    fn written(&self) -> Result<(), Failure> {
        if self.write_through.load(Ordering::Relaxed) {
            self.content.flush()?;
        }
        Ok(())
    }

    /// The one range of a request (struct virtio_blk_discard_write_zeroes): its place on the disk, its length in bytes, its flags.
    fn range(&self, request: &mut Request, memory: &DmaPort) -> Result<(u64, u64, u32), Failure> {
        let [sector @ .., a, b, c, d, e, f, g, h]: [u8; 16] = fields(request, memory)?;
        let (count, flags) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if count > RANGE_SECTORS || request.readable.left() > 0 {
            return Err(Failure::Malformed);
        }
        let length = u64::from(count) * SECTOR;
        Ok((self.place(u64::from_le_bytes(sector), length)?, length, flags))
    }

    /// Where `length` bytes from `sector` on are on the disk, if they are whole sectors of it.
    fn place(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let end = sector.checked_add(length / SECTOR).filter(|end| *end <= self.sectors);
        match end {
            Some(_) if length.is_multiple_of(SECTOR) => Ok(sector * SECTOR),
            _ => Err(Failure::Malformed),
        }
    }
}

/// The next bytes of a request's fields.
fn fields<const N: usize>(request: &mut Request, memory: &DmaPort) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match request.readable.read(memory, &mut bytes) {
        Ok(count) if count == N => Ok(bytes),
        _ => Err(Failure::Malformed),
    }
}

/// The room for data in the answer: the status comes behind it.
fn room(request: &Request) -> u64 {
    request.writable.left().saturating_sub(1)
}
