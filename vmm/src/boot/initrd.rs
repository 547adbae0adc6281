//! The initramfs or initrd in guest memory, with an archive of the files of `--add` and `--module` after it.

use std::{fs::File, io, ops::Range, path::Path};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{additions, error::LoadError};
use crate::machine::config::Config;

/// The largest page that a guest's kernel may have, as it frees the initrd in whole pages.
const ALIGN: u64 = 64 << 10;

/// Puts the initrd of `config` as high as it fits in `room`. None without an initrd and without files to add.
///
/// # Errors
/// If a file cannot be read, or does not fit.
pub(super) fn load(
    memory: &GuestMemoryMmap,
    config: &Config,
    room: Range<u64>,
) -> Result<Option<Range<u64>>, LoadError> {
    let mut file = config.initrd.as_deref().map(open).transpose()?;
    let length = file.as_ref().map_or(0, |(_, length)| *length);
    let start_of_added = start_of_added(length);
    let added = additions::pack(config, additions_max(config, &room).saturating_sub(start_of_added))?;
    let whole = if added.is_empty() { length } else { start_of_added + added.len() as u64 };
    if whole == 0 {
        return Ok(None);
    }
    let too_large = || LoadError::InitrdTooLarge {
        path: config.initrd.clone().unwrap_or_default(),
        length,
        memory: config.memory,
    };
    let start = room.end.checked_sub(whole).ok_or_else(too_large)? / ALIGN * ALIGN;
    if start < room.start {
        return Err(too_large());
    }
    if let (Some((file, _)), Some(path)) = (&mut file, &config.initrd) {
        let count = usize::try_from(length).map_err(|_| too_large())?;
        memory
            .read_exact_volatile_from(GuestAddress(start), file, count)
            .map_err(|source| LoadError::Initrd { path: path.clone(), source: io::Error::other(source) })?;
    }
    if !added.is_empty() {
        memory.write_slice(&added, GuestAddress(start + start_of_added))?;
    }
    Ok(Some(start..start + whole))
}

/// Opens the initrd at `path`. Returns it with its length.
fn open(path: &Path) -> Result<(File, u64), LoadError> {
    let error = |source| LoadError::Initrd { path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    // A pipe has no length to find a place for.
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(LoadError::NoInitrd(path.to_owned()));
    }
    Ok((file, metadata.len()))
}

/// Where the added archive begins after an initrd of `length` bytes: at a multiple of four, after at least four zero bytes. lz4's
/// format ends at these (lib/decompress_unlz4.c); for the other formats the kernel skips them.
fn start_of_added(length: u64) -> u64 {
    if length == 0 { 0 } else { (length + 4).next_multiple_of(4) }
}

/// The most bytes that an initrd with added files has. The kernel unpacks it to its root file system, which takes at most half of
/// the memory that is free at boot (mm/shmem.c). The memory of the CMA windows is not free then, nor is the packed initrd's.
fn additions_max(config: &Config, room: &Range<u64>) -> u64 {
    let windows: u64 = config.windows.iter().fold(0, |sum, window| sum.saturating_add(window.size));
    // A 64th of memory holds the page structures.
    let free = (config.memory - config.memory / 64).saturating_sub(windows);
    (free / 3).min(room.end.saturating_sub(room.start).saturating_sub(ALIGN))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use guest_images::cpio;

    use super::*;
    use crate::{arch, machine::config::Addition};

    #[test]
    fn an_archive_with_the_files_follows_the_initrd() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut image = cpio::Archive::default();
        image.folder("tmp", 0o1777);
        let image = [image.pack(), b"\x1f\x8b odd".to_vec()].concat();
        fs::write(path("initrd"), &image).unwrap();
        fs::write(path("file"), "content").unwrap();
        let mut config = Config { memory: 64 << 20, initrd: Some(path("initrd")), ..Config::default() };
        let memory = super::super::memory::create(&arch::ram(config.memory), false).unwrap();
        let start = arch::ram(config.memory)[0].start;
        let room = start + (16 << 20)..start + (48 << 20);
        let read = |place: &Range<u64>| {
            let mut bytes = vec![0; usize::try_from(place.end - place.start).unwrap()];
            memory.read_slice(&mut bytes, GuestAddress(place.start)).unwrap();
            bytes
        };
        let alone = load(&memory, &config, room.clone()).unwrap().unwrap();
        assert_eq!(read(&alone), image);

        config.added = vec![Addition { host: path("file"), guest: "tmp/file".into() }];
        let both = load(&memory, &config, room.clone()).unwrap().unwrap();
        let mut added = cpio::Archive::default();
        added.file("tmp/file", 0o644, b"content".to_vec());
        added.without_parents(&["tmp".to_owned()].into());
        let mut expected = image.clone();
        expected.resize((image.len() + 4).next_multiple_of(4), 0);
        expected.extend(added.pack());
        assert_eq!(read(&both), expected);
        assert!(both.start.is_multiple_of(ALIGN) && both.end <= room.end);

        // Without an initrd the archive is the initramfs.
        config.initrd = None;
        let only = load(&memory, &config, room.clone()).unwrap().unwrap();
        assert!(read(&only).starts_with(b"070701"));
        config.added.clear();
        assert_eq!(load(&memory, &config, room).unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_room_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(30 << 20).unwrap();
        let added = vec![Addition { host: large, guest: "large".into() }];
        let config = Config { memory: 64 << 20, added, ..Config::default() };
        let memory = super::super::memory::create(&arch::ram(config.memory), false).unwrap();
        let start = arch::ram(config.memory)[0].start;
        let error = load(&memory, &config, start..start + (64 << 20)).unwrap_err().to_string();
        assert_eq!(
            error,
            "the files of --add and --module have more than 21 MiB, the room for them in guest memory of 64M; increase --memory"
        );
    }
}
