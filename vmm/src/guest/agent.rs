//! The host's end of the guest agent's ports: takes the exit status, marks, and the files for `--out`.

use std::{
    fs::{self, Permissions},
    io::{self, BufReader, BufWriter, PipeReader, PipeWriter, Read, Write},
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use devices::{faults::Faults, virtio::console::Sink};
use tar::EntryType;

use crate::observe::report::MachineOutcome;

/// Names of the agent's ports, as guest-images/init knows them.
pub mod port {
    /// The command's standard input. The port is there if there is input, and the host closes it at the end of the input.
    pub const STDIN: &str = "minivmm.stdin";
    /// The command's standard output.
    pub const STDOUT: &str = "minivmm.stdout";
    /// The command's standard error.
    pub const STDERR: &str = "minivmm.stderr";
    /// Lines from the guest: `mark TEXT` from any program that marks how far it is, and from the agent `out memory` if the guest
    /// cannot use the disk for /out, `exit N` at the end, or `module NAME: REASON` instead of the command if a module did not load.
    pub const CONTROL: &str = "minivmm.control";
    /// The files in the guest's /out, as a tar stream.
    pub const FILES: &str = "minivmm.files";
    /// Questions to the agent and its answers, while the guest runs: see [`areas`](super::areas).
    pub const AGENT: &str = "minivmm.agent";
}

/// Longest line of the agent, in bytes.
const LINE_MAX: usize = 4096;
/// How much of the guest's files is read and written at once, and waits in the pipe between the port and the files, in bytes.
const BUFFER: usize = 256 << 10;
/// Longest path that a file can have on Linux, with its final zero (PATH_MAX).
const PATH_MAX: u64 = 4096;

/// The control port: collects lines, and keeps how the agent has ended. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Mutex<ControlState>>);

#[derive(Debug, Default)]
struct ControlState {
    line: Vec<u8>,
    end: Option<MachineOutcome>,
    warned: bool,
    /// The guest has said that its /out is in memory.
    out_in_memory: bool,
    /// The plan that marks go to.
    faults: Option<Faults>,
}

impl Control {
    /// A port whose marks go to `faults`.
    pub fn new(faults: Option<Faults>) -> Self {
        Self(Arc::new(Mutex::new(ControlState { faults, ..ControlState::default() })))
    }

    /// How the agent has ended, once it has reported that: with the command's exit status, or before the command.
    pub fn end(&self) -> Option<MachineOutcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end.clone()
    }
}

impl Sink for Control {}

impl Write for Control {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in data {
            if byte != b'\n' {
                // A longer line is not the agent's: its end is dropped.
                if state.line.len() < LINE_MAX {
                    state.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut state.line)).into_owned();
            if let Some(mark) = line.strip_prefix("mark ") {
                if let Some(faults) = &state.faults {
                    faults.mark(mark.trim());
                }
                continue;
            }
            // Once, as below.
            if line == "out memory" {
                if !std::mem::replace(&mut state.out_in_memory, true) {
                    tracing::warn!(
                        "the guest's kernel lacks CONFIG_VIRTIO_BLK or CONFIG_EXT4_FS, so guest memory limits its files for --out"
                    );
                }
                continue;
            }
            match end(&line) {
                Some(end) if state.end.is_none() => state.end = Some(end),
                // The warning comes once, because the guest decides how many such lines there are.
                _ if !std::mem::replace(&mut state.warned, true) => {
                    tracing::warn!("unexpected line from the guest's agent: {line:?}");
                }
                _ => {}
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end that a line of the agent reports.
fn end(line: &str) -> Option<MachineOutcome> {
    if let Some(module) = line.strip_prefix("module ") {
        // It is printed on a terminal.
        return Some(MachineOutcome::ModuleNotLoaded { module: module.replace(char::is_control, "?") });
    }
    let status = line.strip_prefix("exit ")?.trim().parse().ok()?;
    Some(MachineOutcome::Exit { status })
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
        // A user has at most pipe-user-pages-soft (pipe(7)). A smaller pipe is slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, BUFFER);
        let folder = folder.to_owned();
        let thread = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
            let unpacked = unpack(&mut reader, &folder);
            // The guest may send more: take it, so that its port does not stall.
            let _ = io::copy(&mut reader, &mut io::sink());
            unpacked
        })?;
        Ok((Self { thread }, writer))
    }

    /// Waits until all is unpacked; the sink must be dropped before.
    ///
    /// # Errors
    /// The first error of unpacking: a malformed stream, or a full disk.
    pub fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the unpacking thread panicked")))
    }
}

/// Unpacks the files and folders of a tar stream into `folder`.
///
/// The guest is not trusted. An entry that is neither a file nor a folder is left out: a later write, of this run or the next,
/// would follow a link out of the folder. At most PATH_MAX bytes of a long name are read into memory.
fn unpack(stream: &mut PipeReader, folder: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, stream));
    let mut long_name = None;
    let mut left_out = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind == EntryType::GNULongName {
            let mut name = Vec::new();
            entry.by_ref().take(PATH_MAX).read_to_end(&mut name)?;
            name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
            long_name = Some(PathBuf::from(std::ffi::OsString::from_vec(name)));
            continue;
        }
        let name = long_name.take().map_or_else(|| entry.path().map(PathBuf::from), Ok)?;
        let path = inside(&name).map(|name| folder.join(name));
        match (kind, path) {
            (EntryType::Directory, Some(path)) => fs::create_dir_all(path)?,
            (EntryType::Regular, Some(path)) => {
                let (size, mode) = (entry.size(), 0o600 | entry.header().mode()? & 0o777);
                write_whole(&path, mode, size, &mut entry)?;
            }
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        tracing::warn!(
            "minivmm skipped {left_out} entries of the guest's /out, which are not files or folders, or lie outside of it"
        );
    }
    Ok(())
}

/// Writes the file at `path` from `data`, which has `size` bytes. The file appears when it is whole, and replaces one that an
/// earlier run left. A folder stays, and is an error.
fn write_whole(path: &Path, mode: u32, size: u64, data: &mut impl Read) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".minivmm-partial-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut file);
    let written = io::copy(data, &mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    if written < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The path that `name` means below a folder, if it stays below it.
fn inside(name: &Path) -> Option<PathBuf> {
    name.components().filter(|part| *part != Component::CurDir).try_fold(PathBuf::new(), |path, part| {
        match part {
            Component::Normal(part) => Some(path.join(part)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use devices::faults::{Event, FaultHandle, Plan, fault_point};

    use super::*;
    use crate::boot::tree_faults::fault_tables;

    #[test]
    fn the_exit_status_comes_in_pieces_and_once() {
        let mut control = Control::default();
        control.write_all(b"hello\nex").unwrap();
        assert_eq!(control.end(), None);
        control.write_all(b"it 7\nexit 8\n").unwrap();
        assert_eq!(control.end(), Some(MachineOutcome::Exit { status: 7 }));
    }

    #[test]
    fn a_module_that_did_not_load_is_an_end() {
        let mut control = Control::default();
        control.write_all(b"module x.ko: unknown \x1b[2Jsymbol\nexit 0\n").unwrap();
        let module = "x.ko: unknown ?[2Jsymbol".to_owned();
        assert_eq!(control.end(), Some(MachineOutcome::ModuleNotLoaded { module }));
    }

    #[test]
    fn marks_are_passed_on() {
        let rule =
            "[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\nwhen = { mark = \"it streams\" }\n";
        fault_point! {
            /// An interrupt.
            enum Irq = "irq" [] {
                /// It is lost.
                Lose = "lose",
            }
        }
        let faults = Faults::new(Plan::read(rule, &fault_tables()).unwrap(), 1);
        let mut control = Control::new(Some(faults.clone()));
        let handle = FaultHandle::new(faults, "grabber0");
        let fires = || handle.consult::<Irq>(Event::PLAIN).is_some();
        for (said, then) in
            [("mark it\n", false), ("mark it stre", false), ("ams\n", true), ("mark \nexit 1\n", false)]
        {
            control.write_all(said.as_bytes()).unwrap();
            assert_eq!(fires(), then, "{said}");
        }
        assert_eq!(control.end(), Some(MachineOutcome::Exit { status: 1 }));
    }

    #[test]
    fn nonsense_is_no_status() {
        for line in [&b"exit\n"[..], b"exit 256\n", b"exit -1\n", b"exit x\n", &[b'a'; 100_000], b"\xff\n"] {
            let mut control = Control::default();
            control.write_all(line).unwrap();
            assert_eq!(control.end(), None);
        }
    }

    /// A header whose name is written as it is: the builder refuses some.
    fn header(name: &str, kind: EntryType, link: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        header
    }

    #[test]
    fn files_are_unpacked_and_stay_inside() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("out");
        fs::create_dir(&folder).unwrap();
        let precious = outer.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let outside = outer.path().to_str().unwrap();
        let long = format!("./{}/file", "x".repeat(200));

        // Twice: the second run meets what the first has left.
        for _ in 0..2 {
            let (files, sink) = Files::unpack_into(&folder).unwrap();
            let mut tar = tar::Builder::new(sink);
            tar.append_data(&mut header("", EntryType::Regular, "", 5), "sub/frame.raw", &b"hello"[..])
                .unwrap();
            tar.append_data(&mut header("", EntryType::Regular, "", 4), &long, &b"long"[..]).unwrap();
            for (name, kind, link) in [
                ("../escaped", EntryType::Regular, ""),
                ("/escaped", EntryType::Regular, ""),
                ("up", EntryType::Symlink, outside),
                ("up/escaped", EntryType::Regular, ""),
                ("precious", EntryType::Link, "../precious"),
                ("device", EntryType::Char, ""),
            ] {
                let data = if kind == EntryType::Regular { &b"hello"[..] } else { &[] };
                tar.append(&header(name, kind, link, data.len() as u64), data).unwrap();
            }
            drop(tar.into_inner().unwrap());
            files.finish().unwrap();
        }
        assert_eq!(fs::read(folder.join("sub/frame.raw")).unwrap(), b"hello");
        assert_eq!(fs::read(folder.join(&long)).unwrap(), b"long");
        assert!(folder.join("up").is_dir() && !folder.join("up").is_symlink());
        assert!(!folder.join("precious").exists() && !folder.join("device").exists());
        assert!(!outer.path().join("escaped").exists());
        assert_eq!(fs::read(precious).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_is_cut_short_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        for earlier in [None, Some("whole")] {
            if let Some(earlier) = earlier {
                fs::write(folder.path().join("frames"), earlier).unwrap();
            }
            let (files, mut sink) = Files::unpack_into(folder.path()).unwrap();
            sink.write_all(header("frames", EntryType::Regular, "", 10_000).as_bytes()).unwrap();
            sink.write_all(&[b'x'; 5000]).unwrap();
            drop(sink);
            assert!(files.finish().is_err());
            let left: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            let texts: Vec<_> = left.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
            assert_eq!(texts, Vec::from_iter(earlier), "{left:?}");
        }
    }

    #[test]
    fn a_name_without_end_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (files, mut sink) = Files::unpack_into(folder.path()).unwrap();
        sink.write_all(header("././@LongLink", EntryType::GNULongName, "", 1 << 40).as_bytes()).unwrap();
        for _ in 0..1000 {
            sink.write_all(&[b'x'; 4096]).unwrap();
        }
        drop(sink);
        assert!(files.finish().is_err());
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
