//! Cpio archives for an initramfs. The bytes are reproducible: they do not depend on times and owners of this machine's
//! files.

use std::{collections::BTreeMap, io::Write as _};

use ::cpio::{NewcBuilder, newc};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

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
            let folder = || Entry { mode: FOLDER | 0o755, ..Entry::default() };
            self.0.entry(path[..slash].to_owned()).or_insert_with(folder);
        }
        self.0.insert(path.to_owned(), entry);
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use ::cpio::NewcReader;

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
}
