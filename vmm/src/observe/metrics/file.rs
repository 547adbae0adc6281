//! The file of `--metrics FILE`: a thread replaces it, so that a slow disk delays nothing else.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};

use rustix::{
    fs::{Mode, OFlags, open, openat},
    io::retry_on_intr,
};

use crate::{
    guest::whole_file::{WholeFile, folder_of},
    sandbox::{self, Kind},
};

/// Everybody may read the file, as the umask has it: another user's program collects it.
const MODE: u32 = 0o666;

/// Stack of the thread, in bytes.
const STACK: usize = 128 << 10;

/// A file that can be written, and is not yet.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    name: OsString,
    /// It stays open, as the thread may not reach it by its path.
    folder: OwnedFd,
}

impl MetricsFile {
    /// Checks that the file `path` can be written. It stays as it is.
    ///
    /// # Errors
    /// If its folder cannot be written, or the path is not a file's.
    pub fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("it is no regular file, and the metrics are replaced as a whole"));
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = retry_on_intr(|| open(folder_of(path), flags, Mode::empty()))?;
        let file = Self { path: path.to_owned(), name, folder };
        file.begin()?;
        Ok(file)
    }

    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    fn begin(&self) -> io::Result<WholeFile> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        WholeFile::create(retry_on_intr(|| openat(&self.folder, ".", flags, Mode::empty()))?, MODE)
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut file = self.begin()?;
        file.write_all(text.as_bytes())?;
        file.finish(&self.name)
    }
}

/// The thread that replaces the file. It ends when this is dropped.
#[derive(Debug)]
pub struct MetricsWriter {
    texts: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the host refuses it.
    pub fn start(file: MetricsFile) -> io::Result<Self> {
        let (texts, new) = sync_channel(1);
        let builder = Builder::new().name("metrics".to_owned()).stack_size(STACK);
        let folder = file.folder().to_owned();
        let thread = sandbox::start(Kind::Metrics, Some(&folder), builder, move || replace_all(&file, &new))?;
        Ok(Self { texts: Some(texts), thread: Some(thread) })
    }

    /// Has the file replaced by `text`, unless a text waits already.
    pub fn write(&self, text: String) {
        if let Some(texts) = &self.texts {
            let _ = texts.try_send(text);
        }
    }

    /// Has the file replaced by the last `text`, and waits until it is.
    pub fn finish(self, text: String) {
        if let Some(texts) = &self.texts {
            // If the thread has panicked, the file stays as it is.
            let _ = texts.send(text);
        }
    }
}

impl Drop for MetricsWriter {
    fn drop(&mut self) {
        self.texts = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Replaces the file by each text. It warns once of a failure, until a text succeeds.
fn replace_all(file: &MetricsFile, new: &Receiver<String>) {
    let mut has_failed = false;
    while let Ok(text) = new.recv() {
        match file.replace(&text) {
            Ok(()) => has_failed = false,
            Err(_) if has_failed => {}
            Err(error) => {
                has_failed = true;
                let path = file.path.display();
                tracing::warn!(
                    "the metrics cannot be written to {path}: {error}; the file keeps its figures"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.prom");
        let file = MetricsFile::open(&path).unwrap();
        assert!(!path.exists());
        let writer = MetricsWriter::start(file).unwrap();
        writer.write("a 1\n".to_owned());
        while !path.exists() {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a 1\n");
        writer.finish("a 2\n".to_owned());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a 2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_gone_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let writer = MetricsWriter::start(MetricsFile::open(&folder.path().join("a")).unwrap()).unwrap();
        drop(folder);
        writer.write("a 1\n".to_owned());
        writer.finish("a 2\n".to_owned());
    }

    #[test]
    fn a_place_that_cannot_have_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(MetricsFile::open(folder.path()).unwrap_err().to_string().contains("no regular file"));
        assert!(MetricsFile::open(&folder.path().join("no/file")).is_err());
    }
}
