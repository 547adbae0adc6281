//! The host's end of the guest agent's ports: the exit status, and the files for `--out`.

use std::{
    io::{self, PipeWriter, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

/// Names of the agent's ports, as guest-images/init knows them.
pub mod port {
    /// The command's standard output.
    pub const STDOUT: &str = "minivmm.stdout";
    /// The command's standard error.
    pub const STDERR: &str = "minivmm.stderr";
    /// Lines from the agent; `exit N` is the last.
    pub const CONTROL: &str = "minivmm.control";
    /// What the guest leaves in /out, as a tar stream.
    pub const FILES: &str = "minivmm.files";
}

/// Longest line that the agent can mean.
const LINE_MAX: usize = 4096;

/// The control port: collects lines, keeps the exit status. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Mutex<ControlState>>);

#[derive(Debug, Default)]
struct ControlState {
    line: Vec<u8>,
    exit: Option<u8>,
}

impl Control {
    /// The status that the command ended with, when the agent has told it.
    pub fn exit(&self) -> Option<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).exit
    }
}

impl Write for Control {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in data {
            if byte != b'\n' {
                // What is longer is not the agent's; it is not kept.
                if state.line.len() < LINE_MAX {
                    state.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut state.line)).into_owned();
            match line.strip_prefix("exit ").and_then(|status| status.trim().parse().ok()) {
                Some(status) if state.exit.is_none() => state.exit = Some(status),
                _ => tracing::warn!("the guest agent said {line:?}, which means nothing"),
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks the files port's tar stream into the `--out` folder, on a thread of its own.
#[derive(Debug)]
pub struct Files {
    thread: JoinHandle<io::Result<()>>,
}

impl Files {
    /// Starts the unpacking into `folder`, which exists. The writer is the port's sink; dropping it ends the stream.
    ///
    /// # Errors
    /// If the host refuses a pipe or a thread.
    pub fn unpack_into(folder: &Path) -> io::Result<(Self, PipeWriter)> {
        let (mut reader, writer) = io::pipe()?;
        let folder = folder.to_owned();
        let thread = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
            let mut archive = tar::Archive::new(&mut reader);
            archive.set_preserve_mtime(false);
            archive.set_preserve_permissions(false);
            // The guest is not trusted: `unpack` refuses paths that lead out of the folder.
            let unpacked = archive.unpack(&folder);
            // The guest may send more: take it, so that its port does not stall.
            let _ = io::copy(&mut reader, &mut io::sink());
            unpacked
        })?;
        Ok((Self { thread }, writer))
    }

    /// Waits until all is unpacked; the sink must be dropped before.
    ///
    /// # Errors
    /// What unpacking met first: a malformed stream, a full disk.
    pub fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the unpacking thread panicked")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_comes_in_pieces_and_once() {
        let mut control = Control::default();
        control.write_all(b"hello\nex").unwrap();
        assert_eq!(control.exit(), None);
        control.write_all(b"it 7\nexit 8\n").unwrap();
        assert_eq!(control.exit(), Some(7));
    }

    #[test]
    fn nonsense_is_no_status() {
        for line in [&b"exit\n"[..], b"exit 256\n", b"exit -1\n", b"exit x\n", &[b'a'; 100_000], b"\xff\n"] {
            let mut control = Control::default();
            control.write_all(line).unwrap();
            assert_eq!(control.exit(), None);
        }
    }

    #[test]
    fn files_are_unpacked_and_stay_inside() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("out");
        std::fs::create_dir(&folder).unwrap();
        let (files, sink) = Files::unpack_into(&folder).unwrap();
        let mut builder = tar::Builder::new(sink);
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        builder.append_data(&mut header, "sub/frame.raw", &b"hello"[..]).unwrap();
        // append_data refuses such a name, so write it into the header by hand.
        let name = b"../escaped";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().name[name.len()] = 0;
        header.set_cksum();
        builder.append(&header, &b"hello"[..]).unwrap();
        drop(builder.into_inner().unwrap());
        files.finish().unwrap();
        assert_eq!(std::fs::read(folder.join("sub/frame.raw")).unwrap(), b"hello");
        assert!(!outer.path().join("escaped").exists());
    }

    #[test]
    fn a_stream_that_is_no_tar_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (files, mut sink) = Files::unpack_into(folder.path()).unwrap();
        sink.write_all(&[0x55; 4096]).unwrap();
        drop(sink);
        assert!(files.finish().is_err());
    }
}
