//! The content of a disk, in the format of its file.

use std::{
    fs::File,
    io,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use imago::{FormatAccess, format::drivers::FormatDriverInstance as _, qcow2::Qcow2};

use super::{
    host_file::HostFile,
    limits::{CHUNK, SECTOR},
};

/// The format of a disk's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// The file has the disk's bytes.
    #[default]
    Raw,
    /// An image of QEMU's format, version 2 or 3.
    Qcow2,
}

impl Format {
    /// All formats, with their names.
    pub(super) const ALL: [(&str, Self); 2] = [("raw", Self::Raw), ("qcow2", Self::Qcow2)];
}

/// The content of a disk. Any number of threads may use it at a time.
#[derive(Debug)]
pub(super) enum Content {
    Raw {
        file: HostFile,
        size: u64,
    },
    Qcow2 {
        /// A request that frees clusters of the image has it alone, as another request may be about to use them.
        image: RwLock<FormatAccess<HostFile>>,
        cluster: u64,
    },
}

impl Content {
    /// A file that has the bytes of the disk, `size` of them.
    pub(super) fn raw(file: File, size: u64) -> Self {
        Self::Raw { file: HostFile::new(file, size), size }
    }

    /// An image of qcow2 in a `file` of `size` bytes.
    ///
    /// # Errors
    /// If the file is no such image, or if the image needs other files.
    pub(super) fn qcow2(file: File, size: u64, is_read_only: bool) -> io::Result<Self> {
        // This opens no other file. An image could name any file of the host.
        let image: Qcow2<HostFile> = Qcow2::open_image(HostFile::new(file, size), !is_read_only)?;
        if let Some(backing) = image.implicit_backing_file() {
            return Err(io::Error::other(format!("it has the backing file {backing}")));
        }
        if image.requires_external_data_file() {
            return Err(io::Error::other("its data is in another file"));
        }
        let cluster = image.zero_granularity().unwrap_or(SECTOR);
        Ok(Self::Qcow2 { image: RwLock::new(FormatAccess::new(image)), cluster })
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Raw { size, .. } => *size,
            Self::Qcow2 { image, .. } => shared(image).size(),
        }
    }

    /// The unit in which space is freed, in bytes.
    pub(super) fn unit(&self) -> u64 {
        match self {
            Self::Raw { .. } => SECTOR,
            Self::Qcow2 { cluster, .. } => *cluster,
        }
    }

    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::Raw { file, .. } => file.read(bytes, at),
            Self::Qcow2 { image, .. } => shared(image).read(bytes, at),
        }
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            Self::Raw { file, .. } => file.write(bytes, at),
            Self::Qcow2 { image, .. } => shared(image).write(bytes, at),
        }
    }

    /// Has the host store what was written.
    pub(super) fn flush(&self) -> io::Result<()> {
        match self {
            Self::Raw { file, .. } => file.sync_data(),
            Self::Qcow2 { image, .. } => {
                let image = shared(image);
                image.flush()?;
                image.sync()
            }
        }
    }

    /// Writes what the format keeps in memory, at the end of a machine whose guest may not have flushed it.
    pub(super) fn close(&self) -> io::Result<()> {
        match self {
            Self::Raw { .. } => Ok(()),
            Self::Qcow2 { image, .. } => shared(image).flush(),
        }
    }

    /// Frees the space of a range, as far as the format and the host can.
    pub(super) fn discard(&self, at: u64, length: u64) -> io::Result<()> {
        match self {
            Self::Raw { file, .. } => {
                // A hint, and not every file can have holes.
                let _ = file.punch(at, length);
                Ok(())
            }
            Self::Qcow2 { image, .. } => match alone(image).discard_to_any(at, length) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
                result => result,
            },
        }
    }

    /// Has a range read as zeroes. If the space `may_be_freed`, it is.
    pub(super) fn write_zeroes(&self, at: u64, length: u64, may_be_freed: bool) -> io::Result<()> {
        let result = match self {
            Self::Raw { file, .. } if may_be_freed => file.punch(at, length),
            Self::Raw { file, .. } => file.zero(at, length),
            Self::Qcow2 { image, .. } if may_be_freed => alone(image).discard_to_zero(at, length),
            Self::Qcow2 { image, .. } => shared(image).write_zeroes(at, length),
        };
        result.or_else(|_| self.fill_with_zeroes(at, length))
    }

    /// As where neither the format nor the host has a shorter way.
    pub(super) fn fill_with_zeroes(&self, at: u64, length: u64) -> io::Result<()> {
        let zeroes = vec![0; CHUNK];
        for start in (0..length).step_by(CHUNK) {
            let count = usize::try_from(length - start).map_or(CHUNK, |left| left.min(CHUNK));
            self.write(&zeroes[..count], at + start)?;
        }
        Ok(())
    }
}

fn shared<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
