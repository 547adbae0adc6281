//! The recording of `--camera record=FILE`: the frames that the camera wrote to guest memory, on disk as a clip or as
//! pictures. A thread of its own writes them.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    CameraError,
    captured::{Captured, Chroma},
    face::Job,
    format::{Layout, MAX_PLANES},
    spec::Timing,
};
use crate::dma::DmaPort;

/// Frames that may be on their way to the disk.
const QUEUE: usize = 8;
/// How often a camera that waits for the disk looks if it was reset.
const LOOK: Duration = Duration::from_millis(5);

/// The files of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    /// `NAME.y4m`. What one clip cannot have, frames of another size, sampling or rate, begins the next: `NAME-2.y4m`.
    Clip(PathBuf),
    /// `NAME%05d.png`, as ffmpeg has it: the number of a picture, counted from 0, with at least so many digits.
    Pictures {
        /// What is before the number.
        before: String,
        /// Least number of digits.
        digits: usize,
        /// What is after it.
        after: String,
    },
}

impl Recording {
    /// What `name` asks for: a `.y4m`, or a `.png` with one `%d` or `%0Nd`; without, `-%05d` is put before `.png`.
    pub(super) fn named(name: &str) -> Option<Self> {
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

    /// The file of clip or picture `number`, counted from 0.
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

    /// Finds out if it can be written: makes the clip's file, or looks for the pictures' folder.
    fn prepare(&self) -> io::Result<()> {
        let first = self.path(0);
        match (self, first.parent().filter(|folder| !folder.as_os_str().is_empty())) {
            (Self::Clip(_), _) => File::create(&first).map(drop),
            (Self::Pictures { .. }, folder) => fs::read_dir(folder.unwrap_or(Path::new("."))).map(drop),
        }
    }
}

/// A recording that goes on.
pub(super) struct Recorder {
    name: PathBuf,
    /// Memory for frames; in all there is enough for [`QUEUE`] of them.
    free: Receiver<Vec<u8>>,
    /// To the thread; none once it is to end.
    frames: Option<Sender<(Captured, Duration)>>,
    thread: Option<JoinHandle<u64>>,
    /// In stall timing the camera waits for the disk.
    waits: bool,
    left_out: u64,
}

impl Recorder {
    /// Begins `recording`.
    ///
    /// # Errors
    /// If it cannot be written, or there is no thread for it.
    pub(super) fn new(recording: Recording, timing: Timing) -> Result<Self, CameraError> {
        let name = recording.path(0);
        recording.prepare().map_err(|source| CameraError::Record { path: name.clone(), source })?;
        let (give_back, free) = mpsc::channel();
        for _ in 0..QUEUE {
            // Nothing is taken for frames before there is one.
            let _ = give_back.send(Vec::new());
        }
        let (frames, to_write) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("recording".into())
            .spawn(move || write_all(Writer::new(recording), &to_write, &give_back))?;
        let (frames, thread) = (Some(frames), Some(thread));
        Ok(Self { name, free, frames, thread, waits: timing == Timing::Stall, left_out: 0 })
    }

    /// Records the frame of `job`, which was written in `layout` to `addresses`.
    pub(super) fn record(
        &mut self,
        job: &Job,
        layout: &Layout,
        addresses: [u64; MAX_PLANES],
        dma: &DmaPort,
        abort: &AtomicBool,
    ) {
        let (Some(memory), Some(frames)) = (self.memory(abort), &self.frames) else {
            self.left_out += 1;
            return;
        };
        let captured = Captured::read(layout, addresses, job.sequence, dma, memory);
        // The thread is there as long as its frames come from here.
        let _ = frames.send((captured, job.interval));
    }

    /// Memory for a frame; none if the disk has not made room, or the camera was reset while it waited for that.
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
    /// Waits until all is on disk, and says what is not.
    fn drop(&mut self) {
        self.frames = None;
        let written = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let (name, left_out) = (self.name.display(), self.left_out);
        if left_out > 0 {
            tracing::warn!(
                "the recording {name} lacks {left_out} of {} frames: the disk was slower than the camera; with \
                 timing=stall the camera waits for it",
                written + left_out
            );
        }
    }
}

/// The thread: writes what comes until there is no more; the number of frames written. After a failure, such as a full
/// disk, nothing is written any more, and the camera goes on.
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

/// What all frames of a clip have in common: it is in the header.
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
    /// Files begun.
    files: u64,
    /// The last of them.
    path: PathBuf,
    /// The clip that goes on, and its size.
    clip: Option<(Header, File, u64)>,
    /// A frame as the clip has it.
    frame: Vec<u8>,
}

impl Writer {
    fn new(recording: Recording) -> Self {
        let path = recording.path(0);
        Self { recording, files: 0, path, clip: None, frame: Vec::new() }
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
        File::create(&self.path)
    }

    fn write_picture(&mut self, captured: &Captured) -> io::Result<()> {
        let mut file = BufWriter::new(self.next_file()?);
        let written = captured.write_png(&mut file).map_err(io::Error::other).and_then(|()| file.flush());
        if written.is_err() {
            // Half a picture is none.
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
            // The clip ends with the last frame that is whole.
            let _ = file.set_len(size);
            return Err(error);
        }
        size += self.frame.len() as u64;
        self.clip = Some((header, file, size));
        Ok(())
    }
}

impl Header {
    /// The first line of the clip, as yuv4mpeg(5) of the mjpegtools has it; what begins with X is ffmpeg's. Of a crate's
    /// encoder there is none that says `Ip`: all lines of a frame are of one time.
    fn line(&self) -> String {
        let Self { width, height, .. } = self;
        // Chroma is the mean of the pixels that share it: it lies in their middle, as JPEG has it.
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
