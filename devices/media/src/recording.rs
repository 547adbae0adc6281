//! Recordings: frames on disk, as a clip or as pictures. A separate thread writes them.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::{
    captured::{Captured, Chroma},
    threads::{self, Role},
};

/// The largest number of frames that wait for the disk.
const QUEUE: usize = 8;
/// The time between two looks at the abort flag while there is no room for a frame.
const LOOK: Duration = Duration::from_millis(5);

/// The files of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    /// `NAME.y4m`. A frame of another size, sampling or rate begins the next clip, `NAME-2.y4m`.
    Clip(PathBuf),
    /// `NAME%05d.png`, as ffmpeg names pictures: `%05d` stands for the number of the picture, counted from 0.
    Pictures {
        /// The part of the name before the number.
        before: String,
        /// The least number of digits.
        digits: usize,
        /// The part of the name after the number.
        after: String,
    },
}

impl Recording {
    /// The recording with this name: a `.y4m`, or a `.png` with one `%d` or `%0Nd`. Where there is no `%`, `-%05d` is put before
    /// `.png`. None for other names.
    pub fn named(name: &str) -> Option<Self> {
        if name.ends_with(".y4m") && name != ".y4m" {
            return Some(Self::Clip(name.into()));
        }
        let stem = name.strip_suffix(".png").filter(|stem| !stem.is_empty())?;
        let Some((before, rest)) = stem.split_once('%') else {
            return Some(Self::Pictures { before: format!("{stem}-"), digits: 5, after: ".png".into() });
        };
        let (width, after) = rest.split_once('d')?;
        let digits = match width {
            "" => 1,
            _ => width.strip_prefix('0')?.parse().ok().filter(|digits| (1..=9).contains(digits))?,
        };
        let after = format!("{after}.png");
        (!after.contains('%')).then(|| Self::Pictures { before: before.into(), digits, after })
    }

    /// The path of clip or picture `number`, counted from 0.
    fn path(&self, number: u64) -> PathBuf {
        match self {
            Self::Clip(path) if number == 0 => path.clone(),
            Self::Clip(path) => {
                let stem = path.file_stem().unwrap_or_default().display();
                path.with_file_name(format!("{stem}-{}.y4m", number + 1))
            }
            Self::Pictures { before, digits, after } => format!("{before}{number:0digits$}{after}").into(),
        }
    }

    /// The folder of its files.
    fn folder(&self) -> PathBuf {
        let first = self.path(0);
        let folder = first.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    }

    /// Checks that it can be written: creates the clip's first file, or reads the pictures' folder.
    fn prepare(&self) -> io::Result<Option<File>> {
        match self {
            Self::Clip(_) => File::create(self.path(0)).map(Some),
            Self::Pictures { .. } => fs::read_dir(self.folder()).map(|_| None),
        }
    }
}

/// Why a recording cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file cannot be written.
    #[error("the recording {} cannot be written: {source}; choose a file in a writable folder", path.display())]
    File {
        /// The first file of the recording.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no thread for it.
    #[error("the recording's thread cannot start: {0}")]
    Thread(#[from] io::Error),
}

/// Records frames.
#[derive(Debug)]
pub struct Recorder {
    name: PathBuf,
    /// Memory for frames that no frame uses. There are [`QUEUE`] pieces in all.
    free: Receiver<Vec<u8>>,
    /// The way to the thread, which ends when this is dropped.
    frames: Option<Sender<(Captured, Duration)>>,
    thread: Option<JoinHandle<u64>>,
    waits: bool,
    left_out: u64,
}

impl Recorder {
    /// Begins `recording`. If it `waits`, a frame waits for the disk; otherwise it is left out when the disk is too slow.
    ///
    /// # Errors
    /// If it cannot be written, or no thread can be started.
    pub fn new(recording: Recording, waits: bool) -> Result<Self, RecordingError> {
        let name = recording.path(0);
        let prepared = recording.prepare();
        let first = prepared.map_err(|source| RecordingError::File { path: name.clone(), source })?;
        let (give_back, free) = mpsc::channel();
        for _ in 0..QUEUE {
            // The memory is allocated with the first frames.
            let _ = give_back.send(Vec::new());
        }
        let (frames, to_write) = mpsc::channel();
        let role = Role::Recording(recording.folder());
        let thread = threads::start(role, Builder::new().name("recording".into()), move || {
            write_all(Writer::new(recording, first), &to_write, &give_back)
        })?;
        let (frames, thread) = (Some(frames), Some(thread));
        Ok(Self { name, free, frames, thread, waits, left_out: 0 })
    }

    /// Records a frame, which comes `interval` after the one before. `capture` copies it into the given memory. The frame is
    /// left out if `abort` is set while it waits for the disk. Returns whether the frame is recorded.
    pub fn record(
        &mut self,
        interval: Duration,
        abort: &AtomicBool,
        capture: impl FnOnce(Vec<u8>) -> Captured,
    ) -> bool {
        let (Some(memory), Some(frames)) = (self.memory(abort), &self.frames) else {
            self.left_out += 1;
            return false;
        };
        // The thread receives for as long as this end exists.
        let _ = frames.send((capture(memory), interval));
        true
    }

    /// Memory for a frame. Without free memory: None at once if the recorder does not wait, else None when `abort` is set.
    fn memory(&self, abort: &AtomicBool) -> Option<Vec<u8>> {
        loop {
            match self.free.try_recv() {
                Ok(memory) => return Some(memory),
                Err(_) if !self.waits || abort.load(Ordering::Relaxed) => return None,
                Err(_) => {}
            }
            if let Ok(memory) = self.free.recv_timeout(LOOK) {
                return Some(memory);
            }
        }
    }
}

impl Drop for Recorder {
    /// Waits until all frames are on disk, and warns about omitted frames.
    fn drop(&mut self) {
        self.frames = None;
        let written = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let (name, left_out) = (self.name.display(), self.left_out);
        if left_out > 0 {
            tracing::warn!(
                "the recording {name} lacks {left_out} of {} frames: the disk was slower than the device; a camera with \
                 timing=stall waits for it",
                written + left_out
            );
        }
    }
}

/// The thread: writes frames until the sender is gone. Returns the number of frames written. After a failure, such as a full
/// disk, it writes nothing more and only gives the memory back.
fn write_all(
    mut writer: Writer,
    frames: &Receiver<(Captured, Duration)>,
    give_back: &Sender<Vec<u8>>,
) -> u64 {
    let (mut written, mut failed) = (0, false);
    for (captured, interval) in frames {
        if !failed {
            match writer.write(&captured, interval) {
                Ok(()) => written += 1,
                Err(error) => {
                    failed = true;
                    tracing::error!(
                        "the recording ends after {written} frames: {} cannot be written: {error}; the machine goes on",
                        writer.path.display()
                    );
                }
            }
        }
        let _ = give_back.send(captured.into_bytes());
    }
    written
}

/// The properties that all frames of a clip share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    width: u32,
    height: u32,
    chroma: Chroma,
    interval: Duration,
}

/// Writes frames to the files of a recording.
struct Writer {
    recording: Recording,
    /// The first file, if it is open already.
    first: Option<File>,
    /// The number of files begun.
    files: u64,
    /// The last file begun.
    path: PathBuf,
    /// The clip that is being written, and its size in bytes.
    clip: Option<(Header, File, u64)>,
    /// A frame in the layout of the clip.
    frame: Vec<u8>,
}

impl Writer {
    fn new(recording: Recording, first: Option<File>) -> Self {
        let path = recording.path(0);
        Self { recording, first, files: 0, path, clip: None, frame: Vec::new() }
    }

    fn write(&mut self, captured: &Captured, interval: Duration) -> io::Result<()> {
        match self.recording {
            Recording::Clip(_) => self.write_to_clip(captured, interval),
            Recording::Pictures { .. } => self.write_picture(captured),
        }
    }

    fn next_file(&mut self) -> io::Result<File> {
        self.path = self.recording.path(self.files);
        self.files += 1;
        self.first.take().map_or_else(|| File::create(&self.path), Ok)
    }

    fn write_picture(&mut self, captured: &Captured) -> io::Result<()> {
        let mut file = BufWriter::new(self.next_file()?);
        let written = captured.write_png(&mut file).map_err(io::Error::other).and_then(|()| file.flush());
        if written.is_err() {
            // An incomplete picture is of no use.
            let _ = fs::remove_file(&self.path);
        }
        written
    }

    fn write_to_clip(&mut self, captured: &Captured, interval: Duration) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(b"FRAME\n");
        let chroma = captured.planes(&mut self.frame);
        let (width, height) = (captured.layout().width(), captured.layout().height());
        let header = Header { width, height, chroma, interval };
        let (mut file, mut size) = match self.clip.take() {
            Some((before, file, size)) if before == header => (file, size),
            _ => {
                let mut file = self.next_file()?;
                let line = header.line();
                file.write_all(line.as_bytes())?;
                (file, line.len() as u64)
            }
        };
        if let Err(error) = file.write_all(&self.frame) {
            // The clip ends with the last complete frame.
            let _ = file.set_len(size);
            return Err(error);
        }
        size += self.frame.len() as u64;
        self.clip = Some((header, file, size));
        Ok(())
    }
}

impl Header {
    /// The first line of the clip, in the format of yuv4mpeg(5) of the mjpegtools; the XCOLORRANGE field is ffmpeg's. It is
    /// written here because the encoder of the `y4m` crate does not write `Ip`, which says that frames are progressive.
    fn line(&self) -> String {
        let Self { width, height, .. } = self;
        // Chroma is the mean of the pixels that share it, so it is sited in their middle, as in JPEG.
        let tag = match self.chroma {
            Chroma::None => "mono",
            Chroma::C420 => "420jpeg",
            Chroma::C422 => "422",
            Chroma::C444 => "444",
        };
        let (second, interval) = (1_000_000, self.interval.as_micros().max(1));
        let common = greatest_common_divisor(second, interval);
        let (frames, seconds) = (second / common, interval / common);
        format!("YUV4MPEG2 W{width} H{height} F{frames}:{seconds} Ip A1:1 C{tag} XCOLORRANGE=LIMITED\n")
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered() {
        let paths = |name: &str| {
            let recording = Recording::named(name).unwrap();
            [0, 1, 123_456].map(|number| recording.path(number).display().to_string())
        };
        assert_eq!(paths("a/b.y4m"), ["a/b.y4m", "a/b-2.y4m", "a/b-123457.y4m"]);
        assert_eq!(paths("a/b.png"), ["a/b-00000.png", "a/b-00001.png", "a/b-123456.png"]);
        assert_eq!(paths("%03d-b.png"), ["000-b.png", "001-b.png", "123456-b.png"]);
        assert_eq!(paths("b%d.png"), ["b0.png", "b1.png", "b123456.png"]);
        for bad in ["a.mp4", "a", "a%s.png", "a%d%d.png", "a%3d.png", "a%0d.png", "a%00d.png", "a%.png"] {
            assert_eq!(Recording::named(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_frame_clock() {
        let line = |micros, chroma| {
            Header { width: 320, height: 240, chroma, interval: Duration::from_micros(micros) }.line()
        };
        let common = "YUV4MPEG2 W320 H240";
        assert_eq!(
            line(40_000, Chroma::C420),
            format!("{common} F25:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n")
        );
        assert_eq!(
            line(33_333, Chroma::None),
            format!("{common} F1000000:33333 Ip A1:1 Cmono XCOLORRANGE=LIMITED\n")
        );
    }
}
