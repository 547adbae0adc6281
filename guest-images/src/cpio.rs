//! Cpio archives for an initramfs. The bytes are reproducible: they do not depend on times and owners of this machine's
//! files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use ::cpio::{NewcBuilder, NewcReader, newc};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;
/// The bits of a mode that are the type.
const TYPE: u32 = 0o170_000;

/// The entries of an archive, by path without the first slash. In this order a folder precedes its content.
#[derive(Debug, Default)]
pub struct Archive(BTreeMap<String, Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// Type and permissions.
    mode: u32,
    /// Major and minor number.
    device: (u32, u32),
    data: Vec<u8>,
    /// It is a parent folder that was added automatically.
    is_implied: bool,
}

impl Archive {
    /// Adds a folder with these permissions. Other parent folders are added automatically.
    pub fn folder(&mut self, path: &str, permissions: u32) {
        self.insert(path, Entry { mode: FOLDER | permissions, ..Entry::default() });
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, permissions: u32, data: Vec<u8>) {
        self.insert(path, Entry { mode: FILE | permissions, data, ..Entry::default() });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Entry { mode: LINK | 0o777, data: target.into(), ..Entry::default() });
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        self.insert(path, Entry { mode: DEVICE | permissions, device, ..Entry::default() });
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        for (slash, _) in path.match_indices('/') {
            let folder = || Entry { mode: FOLDER | 0o755, is_implied: true, ..Entry::default() };
            self.0.entry(path[..slash].to_owned()).or_insert_with(folder);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Removes the parent folders that were added automatically and are in `existing`. An archive that is unpacked over another
    /// then keeps the permissions of these folders, and links in their place.
    pub fn without_parents(&mut self, existing: &BTreeSet<String>) {
        self.0.retain(|path, entry| !(entry.is_implied && existing.contains(path)));
    }

    /// The archive's bytes. The kernel accepts concatenated archives if each begins at a multiple of four
    /// bytes (Documentation/driver-api/early-userspace/buffer-format.rst).
    ///
    /// # Panics
    /// If an entry has 4 GiB or more, which the format does not support.
    pub fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (inode, (name, entry)) in (1..).zip(&self.0) {
            let builder = NewcBuilder::new(name)
                .ino(inode)
                .mode(entry.mode)
                .nlink(1)
                .rdev_major(entry.device.0)
                .rdev_minor(entry.device.1);
            let size = u32::try_from(entry.data.len()).expect("no program or module has 4 GiB");
            let mut writer = builder.write(&mut bytes, size);
            let written = writer.write_all(&entry.data).and_then(|()| writer.finish().map(drop));
            written.expect("memory takes all");
        }
        newc::trailer(&mut bytes).expect("memory takes all");
        bytes
    }
}

/// The paths of the folders and links in concatenated archives, without the first slash, up to the first part that is
/// compressed or malformed.
pub fn folders(mut archives: &[u8]) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    loop {
        // The kernel skips zero bytes between archives, too.
        archives = &archives[archives.iter().take_while(|byte| **byte == 0).count()..];
        let Ok(reader) = NewcReader::new(archives) else { return folders };
        let entry = reader.entry();
        if [FOLDER, LINK].contains(&(entry.mode() & TYPE)) {
            folders.insert(entry.name().trim_start_matches("./").trim_start_matches('/').to_owned());
        }
        let Ok(rest) = reader.finish() else { return folders };
        archives = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn archives_are_read_back_with_folders_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.file("a/b/c", 0o644, b"12345".to_vec());
        archive.device("dev/console", 0o600, (5, 1));
        archive.link("bin/sh", "busybox");
        archive.folder("a", 0o700);
        let packed = archive.pack();
        assert!(packed.len().is_multiple_of(4));

        let mut rest = &packed[..];
        let mut entries = Vec::new();
        loop {
            let mut reader = NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut data = String::new();
            reader.read_to_string(&mut data).unwrap();
            let entry = reader.entry();
            entries.push((entry.name().to_owned(), entry.mode(), entry.rdev_major(), data));
            rest = reader.finish().unwrap();
        }
        let entry = |name: &str, mode, major, data: &str| (name.to_owned(), mode, major, data.to_owned());
        let expected = [
            entry("a", 0o040_700, 0, ""),
            entry("a/b", 0o040_755, 0, ""),
            entry("a/b/c", 0o100_644, 0, "12345"),
            entry("bin", 0o040_755, 0, ""),
            entry("bin/sh", 0o120_777, 0, "busybox"),
            entry("dev", 0o040_755, 0, ""),
            entry("dev/console", 0o020_600, 5, ""),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn an_archive_relies_on_the_folders_of_another() {
        let mut first = Archive::default();
        first.folder("tmp", 0o1777);
        first.file("usr/bin/tool", 0o755, b"12345".to_vec());
        first.link("bin", "usr/bin");
        let mut more = Archive::default();
        more.folder("etc", 0o755);
        let mut archives = [first.pack(), vec![0; 8], more.pack(), b"\x1f\x8bcompressed".to_vec()].concat();
        let existing = folders(&archives);
        assert_eq!(existing.iter().collect::<Vec<_>>(), ["bin", "etc", "tmp", "usr", "usr/bin"]);
        let mut added = Archive::default();
        added.file("tmp/a/file", 0o644, Vec::new());
        added.file("bin/tool", 0o755, Vec::new());
        added.folder("etc", 0o700);
        added.without_parents(&existing);
        let names: Vec<_> = added.0.keys().collect();
        assert_eq!(names, ["bin/tool", "etc", "tmp/a", "tmp/a/file"], "a folder that is named stays");
        archives.truncate(50);
        assert!(folders(&archives).is_empty());
    }
}
