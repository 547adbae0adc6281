//! The files of the host that `--add` and `--module` put into the guest: an archive that follows the initramfs.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cma::size;
use guest_images::cpio;

use super::module;
use crate::machine::config::{Addition, Config};

/// The guest's folder with modules.
const MODULES: &str = "lib/modules";
/// The list of the modules of `--module` in that folder, one a line, which the guest's init loads in this order.
const LIST: &str = "lib/modules/added";
/// What an entry takes in addition to its data and its path, in bytes.
const ENTRY: u64 = 128;

/// Why a file or folder was not put into the guest.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It cannot be read.
    #[error("{} cannot be put into the guest: {source}; name a readable file or folder", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a pipe, a socket or a device.
    #[error("{} cannot be put into the guest, because it is neither a file, nor a folder, nor a link; omit it", .0.display())]
    Kind(PathBuf),
    /// Its name is not text.
    #[error("{} cannot be put into the guest, because its name or target is not UTF-8; rename it", .0.display())]
    Name(PathBuf),
    /// They do not fit.
    #[error(
        "the files of --add and --module have more than {} MiB, the room for them in guest memory of {}; increase --memory",
        max >> 20, size::format(*.memory)
    )]
    TooLarge {
        /// The room in bytes.
        max: u64,
        /// Guest memory.
        memory: u64,
    },
    /// Two modules have one name.
    #[error("two modules of --module are named {0}; rename one of them")]
    Twice(String),
    /// It is not a module, or not for this kernel.
    #[error(transparent)]
    Module(#[from] module::ModuleError),
}

/// An archive with the files of `config`, of at most `max` bytes. Empty if there are none.
///
/// # Errors
/// The first file that cannot be put into the guest.
pub(super) fn pack(config: &Config, max: u64) -> Result<Vec<u8>, AddError> {
    if config.added.is_empty() && config.modules.is_empty() {
        return Ok(Vec::new());
    }
    let mut packing = Packing { archive: cpio::Archive::default(), left: max, max, memory: config.memory };
    for Addition { host, guest } in &config.added {
        packing.add(host, guest)?;
    }
    let (mut list, mut names) = (String::new(), HashSet::new());
    for path in &config.modules {
        let name = module::name(path)?;
        let data = packing.read(path)?;
        module::check(path, &data, config)?;
        packing.archive.file(&format!("{MODULES}/{name}"), 0o644, data);
        list += &format!("{name}\n");
        if !names.insert(name.clone()) {
            return Err(AddError::Twice(name));
        }
    }
    if !list.is_empty() {
        packing.archive.file(LIST, 0o644, list.into());
    }
    packing.archive.without_parents(&existing(config));
    Ok(packing.archive.pack())
}

/// The folders that the guest has anyway, as far as the initrd shows them.
fn existing(config: &Config) -> BTreeSet<String> {
    let archives = config.initrd.as_ref().and_then(|path| fs::read(path).ok());
    cpio::folders(&archives.unwrap_or_default())
}

struct Packing {
    archive: cpio::Archive,
    /// The bytes that still fit.
    left: u64,
    max: u64,
    memory: u64,
}

impl Packing {
    /// Adds the file or folder `host` as `guest`, a path without its first slash. A file goes into `guest` if that is empty or ends
    /// with a slash.
    fn add(&mut self, host: &Path, guest: &str) -> Result<(), AddError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| AddError::Read { path, source }
        };
        // Only a link that is named itself is followed.
        let metadata = fs::metadata(host).map_err(unreadable(host))?;
        let names_a_folder = guest.is_empty() || guest.ends_with('/');
        let guest = guest.trim_end_matches('/');
        let guest = if names_a_folder && !metadata.is_dir() {
            let name = host.file_name().and_then(|name| name.to_str());
            join(guest, name.ok_or_else(|| AddError::Name(host.to_owned()))?)
        } else {
            guest.to_owned()
        };
        let mut rest = vec![(host.to_owned(), guest, metadata)];
        while let Some((host, guest, metadata)) = rest.pop() {
            let permissions = metadata.mode() & 0o7777;
            if metadata.is_dir() {
                self.take(guest.len() as u64 + ENTRY)?;
                if !guest.is_empty() {
                    self.archive.folder(&guest, permissions);
                }
                for entry in fs::read_dir(&host).map_err(unreadable(&host))? {
                    let entry = entry.map_err(unreadable(&host))?;
                    let path = entry.path();
                    let metadata = entry.metadata().map_err(unreadable(&path))?;
                    let name = entry.file_name().into_string().map_err(|_| AddError::Name(path.clone()))?;
                    rest.push((path, join(&guest, &name), metadata));
                }
            } else if metadata.is_symlink() {
                self.take(guest.len() as u64 + ENTRY)?;
                let target = fs::read_link(&host).map_err(unreadable(&host))?;
                let target = target.to_str().ok_or_else(|| AddError::Name(host.clone()))?;
                self.archive.link(&guest, target);
            } else if metadata.is_file() {
                self.take(guest.len() as u64)?;
                let data = self.read(&host)?;
                self.archive.file(&guest, permissions, data);
            } else {
                return Err(AddError::Kind(host));
            }
        }
        Ok(())
    }

    /// The content of a regular file, as far as it fits.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, AddError> {
        let error = |source| AddError::Read { path: path.to_owned(), source };
        // A pipe is not opened, because that waits for its writer.
        let metadata = fs::metadata(path).map_err(error)?;
        if !metadata.is_file() {
            return Err(AddError::Kind(path.to_owned()));
        }
        // It is refused before it is read, and can grow meanwhile.
        self.take(metadata.len().saturating_add(ENTRY))?;
        let mut data = Vec::new();
        File::open(path).and_then(|file| file.take(metadata.len()).read_to_end(&mut data)).map_err(error)?;
        Ok(data)
    }

    fn take(&mut self, bytes: u64) -> Result<(), AddError> {
        let Self { left, max, memory, .. } = *self;
        self.left = left.checked_sub(bytes).ok_or(AddError::TooLarge { max, memory })?;
        Ok(())
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    };

    use super::*;

    /// The entries of the archive for these additions: path, mode, content.
    fn packed(added: &[(&Path, &str)]) -> Result<Vec<(String, u32, String)>, AddError> {
        let added = added.iter().map(|(host, guest)| Addition { host: host.into(), guest: (*guest).into() });
        let config = Config { added: added.collect(), ..Config::default() };
        let archive = pack(&config, 1 << 20)?;
        let mut rest = &archive[..];
        let mut entries = Vec::new();
        loop {
            let mut reader = ::cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return Ok(entries);
            }
            let mut content = String::new();
            reader.read_to_string(&mut content).unwrap();
            entries.push((reader.entry().name().to_owned(), reader.entry().mode(), content));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn modes_links_and_folders_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir_all(at("tests/empty")).unwrap();
        fs::write(at("tests/run"), "#!/bin/sh\n").unwrap();
        symlink("run", at("tests/link")).unwrap();
        symlink("/no/such", at("tests/dangling")).unwrap();
        symlink(at("tests/run"), at("to-run")).unwrap();
        mode(&at("tests/run"), 0o4751);
        mode(&at("tests/empty"), 0o1777);
        mode(&at("tests"), 0o700);
        let entry = |path: &str, mode, content: &str| (path.to_owned(), mode, content.to_owned());
        let script = "#!/bin/sh\n";
        assert_eq!(
            packed(&[(&at("tests"), "opt/tests")]).unwrap(),
            [
                entry("opt", 0o040_755, ""),
                entry("opt/tests", 0o040_700, ""),
                entry("opt/tests/dangling", 0o120_777, "/no/such"),
                entry("opt/tests/empty", 0o041_777, ""),
                entry("opt/tests/link", 0o120_777, "run"),
                entry("opt/tests/run", 0o104_751, script),
            ]
        );
        // A link that is named itself is followed, and a slash at the end names the folder.
        for (host, guest, path) in
            [("tests/run", "bin/", "bin/run"), ("to-run", "bin/x", "bin/x"), ("to-run", "", "to-run")]
        {
            let entries = packed(&[(&at(host), guest)]).unwrap();
            assert_eq!(entries.last(), Some(&entry(path, 0o104_751, script)));
        }
        let root = packed(&[(&at("tests"), "")]).unwrap();
        assert_eq!(root.first(), Some(&entry("dangling", 0o120_777, "/no/such")));
    }

    #[test]
    fn what_cannot_be_put_in_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let error = |path: &Path| packed(&[(path, "x")]).unwrap_err().to_string();
        assert!(error(&at("absent")).contains("absent cannot be put into the guest: No such file"));
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for path in [&at("socket"), folder.path(), Path::new("/dev/zero")] {
            assert!(error(path).contains("is neither a file, nor a folder, nor a link"), "{}", error(path));
        }
        File::create(at("large")).unwrap().set_len(1 << 40).unwrap();
        assert!(error(&at("large")).contains("more than 1 MiB"), "{}", error(&at("large")));
    }
}
