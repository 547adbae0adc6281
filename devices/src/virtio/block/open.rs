//! Opens the file of a disk: checks its format and size, and locks it.

use std::{
    fs::{File, TryLockError},
    io::{self, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, FileTypeExt as _},
    path::{Path, PathBuf},
};

use super::{
    content::{Content, Format},
    limits::SECTOR,
    media::Media,
};

/// What an image of qcow2 begins with.
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Why the file of a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened or read.
    #[error("{} cannot be opened: {source}{}", path.display(), if *is_read_only { "" } else { "; `ro` makes a disk that is only read" })]
    Open {
        /// The file.
        path: PathBuf,
        /// Whether it was to be read only.
        is_read_only: bool,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, a pipe, or the like.
    #[error("{} is neither a file nor a block device", .0.display())]
    Kind(PathBuf),
    /// Another program has it.
    #[error("{} is in use: another program has locked it; `ro` in all of them shares it", .0.display())]
    Locked(PathBuf),
    /// The size of the disk is zero or has a part of a sector.
    #[error("the disk in {} has {size} bytes; its size must be a multiple of {SECTOR} bytes, and not 0", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The size.
        size: u64,
    },
    /// An image of qcow2 without the key that says so.
    #[error("{} begins as an image of qcow2 does; add format=qcow2, or format=raw if the guest is to see the image's own bytes", .0.display())]
    Unsaid(PathBuf),
    /// Not an image of qcow2, or one that cannot be used.
    #[error("{} cannot be used as an image of qcow2: {source}; `qemu-img convert -O qcow2` makes one that stands alone", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open file of a disk. It is locked until the disk is stopped: for all others, or for those that write if the disk is read-only.
#[derive(Debug)]
pub struct DiskFile {
    content: Content,
    is_read_only: bool,
}

impl DiskFile {
    /// Opens `path`. Without a `format` it is raw, and must not look like another format.
    ///
    /// # Errors
    /// If it cannot be used: why, and what would be right.
    pub fn open(path: &Path, format: Option<Format>, is_read_only: bool) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: path.to_owned(), is_read_only, source };
        // A pipe would be waited for.
        let kind = path.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::Kind(path.to_owned()));
        }
        let mut file = File::options().read(true).write(!is_read_only).open(path).map_err(failed)?;
        let locked = if is_read_only { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
            // Not every file system has locks.
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{} cannot be locked against other programs: {error}", path.display());
            }
        }
        // A block device has its length at its end only.
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let content = match format {
            Some(Format::Qcow2) => Content::qcow2(file, size, is_read_only)
                .map_err(|source| OpenError::Image { path: path.to_owned(), source })?,
            Some(Format::Raw) => Content::raw(file, size),
            None => {
                let mut begin = [0; QCOW2_MAGIC.len()];
                if file.read_exact_at(&mut begin, 0).is_ok() && begin == QCOW2_MAGIC {
                    return Err(OpenError::Unsaid(path.to_owned()));
                }
                Content::raw(file, size)
            }
        };
        let size = content.size();
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(OpenError::Size { path: path.to_owned(), size });
        }
        Ok(Self { content, is_read_only })
    }

    /// A raw disk of `size` bytes in `file`, which is open and has that length.
    pub fn raw(file: File, size: u64) -> Self {
        Self { content: Content::raw(file, size), is_read_only: false }
    }

    pub(super) fn into_media(self, serial: &str) -> Media {
        Media::new(self.content, self.is_read_only, serial)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error(path: &Path, format: Option<Format>, is_read_only: bool) -> String {
        DiskFile::open(path, format, is_read_only).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_a_disk_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        assert!(error(&path, None, true).contains("disk cannot be opened: No such file"));
        assert!(error(folder.path(), None, false).ends_with("is neither a file nor a block device"));
        assert!(error("/dev/null".as_ref(), None, false).ends_with("is neither a file nor a block device"));
        for (size, format) in [(0, None), (511, None), (1000, Some(Format::Raw))] {
            fs::write(&path, vec![1; size]).unwrap();
            let said = error(&path, format, false);
            assert!(
                said.contains(&format!("has {size} bytes; its size must be a multiple of 512")),
                "{said}"
            );
        }
        fs::write(&path, [1; 512]).unwrap();
        let said = error(&path, Some(Format::Qcow2), false);
        assert!(said.contains("disk cannot be used as an image of qcow2: "), "{said}");
        assert!(DiskFile::open(&path, None, false).is_ok());
    }

    /// A guest that writes the magic to its raw disk must not have the host read it as an image.
    #[test]
    fn a_raw_disk_does_not_look_like_an_image() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [&QCOW2_MAGIC[..], &[0; 508]].concat()).unwrap();
        assert!(error(file.path(), None, false).contains("; add format=qcow2, or format=raw if "));
        assert!(DiskFile::open(file.path(), Some(Format::Raw), false).is_ok());
    }

    #[test]
    fn one_writes_or_several_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(512).unwrap();
        let open = |is_read_only| DiskFile::open(file.path(), None, is_read_only);
        let writer = open(false).unwrap();
        for is_read_only in [false, true] {
            assert!(matches!(open(is_read_only), Err(OpenError::Locked(_))));
        }
        drop(writer);
        let readers = [open(true).unwrap(), open(true).unwrap()];
        assert!(error(file.path(), None, false).ends_with("in all of them shares it"));
        drop(readers);
        open(false).unwrap();
    }
}
