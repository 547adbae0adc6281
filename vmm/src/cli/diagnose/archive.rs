//! The files of a board: from an archive of `minivmm collect`, a folder, or a single file. Nothing is extracted to the disk.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use cma::board::Files;
use flate2::read::{GzDecoder, MultiGzDecoder};

/// Limits for what is read from files that strangers made.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of files.
    pub files: usize,
}

impl Limits {
    /// Those of the command. A bitmap of the largest window that is modelled has 92 MB.
    pub const USUAL: Self = Self { bytes: 256 << 20, files: 100_000 };
}

/// The beginnings of formats that are not read, and the programs that make them.
const OTHER_FORMATS: [(&[u8], &str); 4] =
    [(b"\xfd7zXZ", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"PK\x03\x04", "zip")];

/// Deepest folder that is read.
const MAX_DEPTH: usize = 32;

/// Files, and what is wrong with their archive.
#[derive(Debug, Default)]
pub struct Contents {
    /// The files.
    pub files: Files,
    /// The archive ends in the middle: what is missing then.
    pub cut: Option<String>,
}

/// Why no files can be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}; name an archive of `minivmm collect`, its folder, the output of dmesg, or - for stdin", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is too much of it.
    #[error("{} has more than {what}; give the files of one board", path.display())]
    TooMuch {
        /// The file or folder.
        path: PathBuf,
        /// The limit.
        what: String,
    },
    /// A format that is not read.
    #[error("{} is compressed by {by}; unpack it first, or compress it by gzip", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The program.
        by: &'static str,
    },
    /// An archive without a whole file.
    #[error("the archive {} is cut short before the end of its first file; copy it again", .0.display())]
    Cut(PathBuf),
}

/// Reads `path`: a folder, an archive, a log, or stdin if it is `-`.
///
/// # Errors
/// If it cannot be read, or exceeds the limits.
pub fn read(path: &Path, limits: Limits) -> Result<Contents, ArchiveError> {
    let error = |source| ArchiveError::Read { path: path.to_owned(), source };
    if path == Path::new("-") {
        return of_bytes(&read_all(io::stdin().lock(), path, limits)?, path, limits);
    }
    if fs::metadata(path).map_err(error)?.is_dir() {
        let mut read = Contents::default();
        let mut left = limits;
        folder(path, path, 0, &mut left, &mut read.files)?;
        return unpacked(read, path, limits);
    }
    of_bytes(&read_all(File::open(path).map_err(error)?, path, limits)?, path, limits)
}

fn read_all(from: impl io::Read, path: &Path, limits: Limits) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    let error = |source| ArchiveError::Read { path: path.to_owned(), source };
    // One byte beyond the limit shows that the file is too large.
    from.take(limits.bytes + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > limits.bytes { Err(too_large(path, limits)) } else { Ok(bytes) }
}

fn too_large(path: &Path, limits: Limits) -> ArchiveError {
    ArchiveError::TooMuch { path: path.to_owned(), what: format!("{} bytes", limits.bytes) }
}

fn too_many(path: &Path, limits: Limits) -> ArchiveError {
    ArchiveError::TooMuch { path: path.to_owned(), what: format!("{} files", limits.files) }
}

/// The files in the bytes of an archive, plain or compressed by gzip, or the file that the bytes are.
///
/// # Errors
/// If they exceed the limits.
pub fn of_bytes(bytes: &[u8], path: &Path, limits: Limits) -> Result<Contents, ArchiveError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let (bytes, whole) = gunzip(bytes, limits.bytes).ok_or_else(|| too_large(path, limits))?;
        let mut read = of_plain(&bytes, path, limits)?;
        if !whole {
            read.cut.get_or_insert_with(|| "the compressed archive ends too early".to_owned());
        }
        return Ok(read);
    }
    of_plain(bytes, path, limits)
}

/// The bytes that gzip compressed, as far as they go, and whether they are whole. None if there are too many.
fn gunzip(bytes: &[u8], most: u64) -> Option<(Vec<u8>, bool)> {
    let mut plain = Vec::new();
    let whole = MultiGzDecoder::new(bytes).take(most + 1).read_to_end(&mut plain).is_ok();
    (plain.len() as u64 <= most).then_some((plain, whole))
}

fn of_plain(bytes: &[u8], path: &Path, limits: Limits) -> Result<Contents, ArchiveError> {
    if let Some((_, by)) = OTHER_FORMATS.iter().find(|(beginning, _)| bytes.starts_with(beginning)) {
        return Err(ArchiveError::Compressed { path: path.to_owned(), by });
    }
    // POSIX.1-1988 archives have this word in the header of each file; pax and GNU tar too.
    if bytes.get(257..262) != Some(b"ustar") {
        let name = if bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) { "board.dtb" } else { "dmesg" };
        return Ok(Contents { files: Files::from([(name.to_owned(), bytes.to_vec())]), cut: None });
    }
    let mut read = Contents::default();
    let mut archive = tar::Archive::new(bytes);
    let mut left = limits;
    let mut last = None;
    let mut whole = || -> io::Result<Option<ArchiveError>> {
        for entry in archive.entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = name(&String::from_utf8_lossy(&entry.path_bytes()));
            last = Some(name.clone());
            if left.files == 0 {
                return Ok(Some(too_many(path, limits)));
            }
            left.files -= 1;
            let size = entry.size();
            if size > left.bytes {
                // What the header says can be more than the archive has.
                return if size > limits.bytes {
                    Ok(Some(too_large(path, limits)))
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            left.bytes -= size;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if (content.len() as u64) < size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read.files.insert(name, content);
        }
        Ok(None)
    };
    match whole() {
        Ok(None) => {}
        Ok(Some(error)) => return Err(error),
        Err(_) if read.files.is_empty() => return Err(ArchiveError::Cut(path.to_owned())),
        Err(_) => {
            let last = last.map_or_else(String::new, |last| format!(" in or after {last}"));
            read.cut = Some(format!("the archive is cut short{last}"));
        }
    }
    // An archive ends with two blocks of zeros.
    if read.cut.is_none() && !bytes.ends_with(&[0; 1024]) {
        read.cut = Some("the archive is cut short at the end".to_owned());
    }
    unpacked(read, path, limits)
}

/// A name without what would lead elsewhere: it is only compared, never opened.
fn name(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
    parts.collect::<Vec<_>>().join("/").chars().filter(|c| !c.is_control()).collect()
}

/// Replaces compressed files by their content.
fn unpacked(mut read: Contents, path: &Path, limits: Limits) -> Result<Contents, ArchiveError> {
    let packed: Vec<_> = read.files.keys().filter(|name| name.ends_with(".gz")).cloned().collect();
    for name in packed {
        let Some(bytes) = read.files.remove(&name) else { continue };
        let mut plain = Vec::new();
        // A cut file is read as far as it goes.
        let _ = GzDecoder::new(&bytes[..]).take(limits.bytes + 1).read_to_end(&mut plain);
        if plain.len() as u64 > limits.bytes {
            return Err(too_large(path, limits));
        }
        read.files.entry(name.trim_end_matches(".gz").to_owned()).or_insert(plain);
    }
    Ok(read)
}

/// Reads the files of a folder. Links are not followed.
fn folder(
    top: &Path,
    path: &Path,
    depth: usize,
    left: &mut Limits,
    files: &mut Files,
) -> Result<(), ArchiveError> {
    let error = |source| ArchiveError::Read { path: path.to_owned(), source };
    for entry in fs::read_dir(path).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(error)?);
        if kind.is_dir() && depth < MAX_DEPTH {
            folder(top, &path, depth + 1, left, files)?;
        }
        if !kind.is_file() {
            continue;
        }
        if left.files == 0 {
            return Err(too_many(top, Limits::USUAL));
        }
        left.files -= 1;
        let bytes = read_all(File::open(&path).map_err(error)?, top, *left)?;
        left.bytes -= bytes.len() as u64;
        let relative = path.strip_prefix(top).unwrap_or(&path);
        files.insert(name(&relative.to_string_lossy()), bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            // Names that the crate would refuse to write.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn of(bytes: &[u8]) -> Result<Contents, String> {
        of_bytes(bytes, Path::new("board.tar"), Limits { bytes: 1 << 20, files: 4 })
            .map_err(|error| error.to_string())
    }

    fn names(read: &Contents) -> Vec<&str> {
        read.files.keys().map(String::as_str).collect()
    }

    #[test]
    fn archives_and_what_is_none() {
        let tar = archive(&[
            ("board/dmesg", b"x"),
            ("../../etc/passwd", b"y"),
            ("board/config.gz", &gzip(b"CONFIG_CMA=y")),
        ]);
        for bytes in [tar.clone(), gzip(&tar)] {
            let read = of(&bytes).unwrap();
            assert_eq!(names(&read), ["board/config", "board/dmesg", "etc/passwd"]);
            assert_eq!((&read.files["board/config"][..], read.cut), (&b"CONFIG_CMA=y"[..], None));
        }
        assert_eq!(
            of(b"BZh91AY").unwrap_err(),
            "board.tar is compressed by bzip2; unpack it first, or compress it by gzip"
        );
        assert_eq!(names(&of(b"[ 0.0] text").unwrap()), ["dmesg"]);
        assert_eq!(names(&of(&[0xd0, 0x0d, 0xfe, 0xed]).unwrap()), ["board.dtb"]);
    }

    #[test]
    fn archives_that_are_cut_short() {
        let tar = archive(&[("board/a", &[7; 1000]), ("board/b", &[8; 1000])]);
        assert_eq!(
            of(&tar[..700]).unwrap_err(),
            "the archive board.tar is cut short before the end of its first file; copy it again"
        );
        let read = of(&tar[..2100]).unwrap();
        assert_eq!(
            (names(&read), read.cut.as_deref()),
            (vec!["board/a"], Some("the archive is cut short in or after board/b"))
        );
        let read = of(&tar[..tar.len() - 1024]).unwrap();
        assert_eq!(read.cut.as_deref(), Some("the archive is cut short at the end"));
        let packed = gzip(&tar);
        assert!(of(&packed[..packed.len() - 20]).map_or(true, |read| read.cut.is_some()));
    }

    #[test]
    fn limits() {
        let five = archive(&[("a", b""), ("b", b""), ("c", b""), ("d", b""), ("e", b"")]);
        assert_eq!(of(&five).unwrap_err(), "board.tar has more than 4 files; give the files of one board");
        let error = of(&gzip(&vec![0; 2 << 20])).unwrap_err();
        assert_eq!(error, "board.tar has more than 1048576 bytes; give the files of one board");
        let bomb = archive(&[("config.gz", &gzip(&vec![0; 2 << 20]))]);
        assert!(of(&bomb).unwrap_err().contains("more than 1048576 bytes"));
        let mut lie = archive(&[("a", b"")]);
        lie[124..135].copy_from_slice(b"77777777777");
        assert!(of(&lie).is_err());
    }

    #[test]
    fn a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("cma/isp")).unwrap();
        fs::write(folder.path().join("cma/isp/count"), "64").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert_eq!(names(&read(folder.path(), Limits::USUAL).unwrap()), ["cma/isp/count"]);
        let error = read(&folder.path().join("none"), Limits::USUAL).unwrap_err().to_string();
        assert!(
            error.contains("none cannot be read: No such file or directory (os error 2); name an archive"),
            "{error}"
        );
    }
}
