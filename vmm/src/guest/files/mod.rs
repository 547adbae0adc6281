//! The files that a guest sends for `--out`: unpacks their tar stream into the folder, within limits, on a thread.

use std::{
    ffi::OsString,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    thread::{Builder, JoinHandle},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::{
    out_disk,
    out_folder::{OutFolder, Skipped, inside},
    output::Output,
    whole_file::WholeFile,
};
use crate::sandbox::{self, Kind};

/// How much of the guest's files is read and written at once, in bytes.
const BUFFER: usize = 256 << 10;
/// Longest path that a file can have on Linux, with its final zero (PATH_MAX).
const PATH_MAX: u64 = 4096;
/// The most files and folders that a guest can leave.
const ENTRIES_MAX: u64 = 1_000_000;

/// The files of `--out`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutReport {
    /// Number of the files that were written.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Number of the skipped entries that are neither files nor folders, or whose paths lead out of the folder, lead through a link,
    /// or are too deep or too long.
    pub skipped: u64,
    /// Number of the skipped entries that exceed the limits of `--out`.
    pub over_limit: u64,
    /// The size of their files in bytes, as the guest gives it.
    pub bytes_over_limit: u64,
}

/// The most that a guest can leave.
#[derive(Debug, Clone, Copy)]
struct Limits {
    bytes: u64,
    entries: u64,
}

/// Unpacks the files port's tar stream into the `--out` folder, on a thread of its own.
#[derive(Debug)]
pub struct Files {
    output: Output,
    thread: JoinHandle<(OutReport, io::Result<()>)>,
}

impl Files {
    /// Starts the unpacking into `folder`, which exists. The files take at most as many bytes as the disk for the guest's /out.
    ///
    /// # Errors
    /// If the folder cannot be opened, or the host refuses a thread.
    pub fn unpack_into(folder: &Path) -> io::Result<Self> {
        let limits = Limits { bytes: out_disk::size_beside(folder)?, entries: ENTRIES_MAX };
        Self::within(limits, folder)
    }

    fn within(limits: Limits, folder: &Path) -> io::Result<Self> {
        let path = folder;
        let folder = OutFolder::open(path, limits.entries)?;
        let (output, mut reader) = Output::pipe()?;
        let builder = Builder::new().name("files".to_owned());
        let thread = sandbox::start(Kind::Files, Some(path), builder, move || {
            let mut report = OutReport::default();
            let unpacked = unpack(&mut reader, folder, limits, &mut report);
            // The guest may send more: take it, so that its port does not stall.
            let _ = io::copy(&mut reader, &mut io::sink());
            (report, unpacked)
        })?;
        Ok(Self { output, thread })
    }

    /// The port's sink. The stream ends when its last clone is dropped.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Waits until all is unpacked; the other clones of the sink must be dropped before. Returns also the first error: a malformed
    /// stream, or a full disk.
    pub fn finish(self) -> (OutReport, io::Result<()>) {
        let Self { output, thread } = self;
        drop(output);
        let panicked = || Err(io::Error::other("the unpacking thread panicked"));
        thread.join().unwrap_or_else(|_| (OutReport::default(), panicked()))
    }
}

/// For fuzzing alone (`--cfg fuzzing`): unpacks `stream` into `folder` on this thread, within the given limits of bytes and entries.
#[cfg(fuzzing)]
pub fn unpack_within(
    mut stream: impl Read,
    folder: &Path,
    bytes: u64,
    entries: u64,
) -> (OutReport, io::Result<()>) {
    let mut report = OutReport::default();
    let unpacked = OutFolder::open(folder, entries)
        .and_then(|folder| unpack(&mut stream, folder, Limits { bytes, entries }, &mut report));
    (report, unpacked)
}

/// Unpacks the files and folders of a tar stream into `folder`.
///
/// The guest is not trusted. An entry that is neither a file nor a folder is skipped: a later write, of this run or the next,
/// would follow a link out of the folder. At most PATH_MAX bytes of a long name are read into memory.
fn unpack(
    stream: &mut impl Read,
    mut folder: OutFolder,
    limits: Limits,
    report: &mut OutReport,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, stream));
    let mut long_name = None;
    let mut unpack = || {
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            if kind == EntryType::GNULongName {
                let mut name = Vec::new();
                entry.by_ref().take(PATH_MAX).read_to_end(&mut name)?;
                name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                long_name = Some(PathBuf::from(OsString::from_vec(name)));
                continue;
            }
            let name = long_name.take().map_or_else(|| entry.path().map(PathBuf::from), Ok)?;
            let (size, mode) = (entry.size(), 0o600 | entry.header().mode()? & 0o777);
            let done = match (kind, inside(&name)) {
                (EntryType::Directory, Some(path)) => folder.make(&path).map(drop),
                (EntryType::Regular, Some(_)) if size > limits.bytes - report.bytes => Err(Skipped::Limit),
                (EntryType::Regular, Some(path)) => write_whole(&mut folder, &path, mode, size, &mut entry)
                    .map(|()| {
                        report.files += 1;
                        report.bytes += size;
                    }),
                _ => Err(Skipped::Path),
            };
            match done {
                Ok(()) => {}
                Err(Skipped::Path) => report.skipped += 1,
                Err(Skipped::Limit) => {
                    report.over_limit += 1;
                    report.bytes_over_limit = report.bytes_over_limit.saturating_add(size);
                }
                Err(Skipped::Host(error)) => return Err(error),
            }
        }
        Ok(())
    };
    let unpacked = unpack();
    warn(report, limits);
    unpacked
}

/// Warns of skipped entries.
fn warn(report: &OutReport, limits: Limits) {
    let OutReport { skipped, over_limit, .. } = report;
    if *skipped > 0 {
        tracing::warn!(
            "minivmm skipped {skipped} entries of the guest's /out, which are not files or folders, lie outside of it, lead through a \
             link, or have too long a path"
        );
    }
    if *over_limit > 0 {
        let Limits { bytes, entries } = limits;
        tracing::warn!(
            "minivmm skipped {over_limit} entries of the guest's /out, which exceed the limits of --out: {bytes} bytes and {entries} \
             entries"
        );
    }
}

/// Writes the file at `path` from `data`, which has `size` bytes. The file appears when it is whole, and replaces one that an
/// earlier run left. A folder stays, and is an error.
fn write_whole(
    folder: &mut OutFolder,
    path: &Path,
    mode: u32,
    size: u64,
    data: &mut impl Read,
) -> Result<(), Skipped> {
    let Some(name) = path.file_name() else { return Err(Skipped::Path) };
    let parent = folder.make(path.parent().unwrap_or(Path::new("")))?;
    folder.take_entry()?;
    let write = || {
        let mut file = WholeFile::create(parent, mode)?;
        let mut buffered = BufWriter::with_capacity(BUFFER, &mut file);
        let written = io::copy(data, &mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        if written < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.finish(name)
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidFilename => Skipped::Path,
        _ => Skipped::Host(error),
    })
}

#[cfg(test)]
mod tests;
