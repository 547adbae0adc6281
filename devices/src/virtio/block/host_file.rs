//! The file or block device of the host that holds a disk, or the image of one.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

use imago::{
    Storage,
    io_buffers::{IoVector, IoVectorMut},
    storage::drivers::CommonStorageHelper,
};
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

/// An open file. Any number of threads may use it at a time: no call holds a lock.
#[derive(Debug)]
pub(super) struct HostFile {
    file: File,
    /// Its length as far as this process has written it.
    size: AtomicU64,
    helper: CommonStorageHelper,
}

impl HostFile {
    /// The file `file` of `size` bytes.
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file, size: AtomicU64::new(size), helper: CommonStorageHelper::default() }
    }

    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Has the host store what was written, so that it survives a loss of power, too.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Makes a hole, which reads as zeroes.
    pub(super) fn punch(&self, at: u64, length: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateMode::PunchHole, true, at, length)?)
    }

    /// Zeroes a range that stays allocated.
    pub(super) fn zero(&self, at: u64, length: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateMode::ZeroRange, true, at, length)?)
    }
}

impl fmt::Display for HostFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the image")
    }
}

/// The file as imago uses it for the formats of images. imago's own file has a lock that is held while the host stores data.
impl Storage for HostFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size.load(Ordering::Relaxed))
    }

    unsafe fn pure_readv(&self, buffers: IoVectorMut<'_>, mut offset: u64) -> io::Result<()> {
        for mut buffer in buffers.into_inner() {
            let mut rest = &mut buffer[..];
            while !rest.is_empty() {
                match self.file.read_at(rest, offset) {
                    // The file ends here, and zeroes follow.
                    Ok(0) => {
                        rest.fill(0);
                        break;
                    }
                    Ok(count) => {
                        offset += count as u64;
                        rest = &mut rest[count..];
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, buffers: IoVector<'_>, mut offset: u64) -> io::Result<()> {
        for buffer in buffers.into_inner() {
            self.write(&buffer, offset)?;
            offset += buffer.len() as u64;
            self.size.fetch_max(offset, Ordering::Relaxed);
        }
        Ok(())
    }

    unsafe fn pure_discard(&self, offset: u64, length: u64) -> io::Result<()> {
        // A hint, and not every file can have holes.
        let _ = self.punch(offset, length);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }
}
