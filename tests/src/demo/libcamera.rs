//! The demo's second part: libcamera's exposure and white balance develop a photograph in coloured light on the camera rkisp1. A picture
//! has the scene, an early frame and the last frame side by side.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use devices::media::{Captured, Layout, SceneFile, sensor};
use guest_images::{
    Arch,
    debian::{self, Archive},
};
use rustix::process::Signal;

use super::{DemoError, picture, tuning};
use crate::{
    libcamera::{self, Frame},
    programs,
};

/// The Debian package that has the photograph, and where. It is in the public domain.
const PACKAGE: &str = "python3-scipy";
const PHOTOGRAPH: &str = "usr/lib/python3/dist-packages/scipy/misc/face.dat";
/// The size of the photograph.
const PHOTOGRAPH_SIZE: (u32, u32) = (1024, 768);
/// The light on it: that of an incandescent lamp.
const LAMP: &str = "1.6:1:0.5";
/// A frame: half of the sensor's binned frame in each direction, so that it shows the whole scene.
const SIZE: [u32; 2] = [820, 616];
/// The number of frames, and the number of the early one, counted from 1.
const FRAMES: usize = 120;
const EARLY: usize = 6;
/// The exposure of the first eight frames, in microseconds. Their gains of red and blue are those for daylight.
const DARK: u32 = 2000;
/// Frames between two lines about the progress.
const STEP: usize = 10;

/// The result of the demo.
#[derive(Debug)]
pub struct Developed {
    picture: PathBuf,
    /// The means of red, green and blue of the scene, of the early frame and of the last one.
    means: [[f64; 3]; 3],
    /// What libcamera chose for the last frame.
    last: Frame,
    took: Duration,
}

impl fmt::Display for Developed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24}{:>5}{:>7}{:>6}", "mean of", "red", "green", "blue")?;
        let early = format!("frame {EARLY}, by hand");
        let last = format!("frame {FRAMES}, by libcamera");
        for (name, [red, green, blue]) in ["the scene", &early, &last].into_iter().zip(self.means) {
            writeln!(f, "{name:24}{red:>5.0}{green:>7.0}{blue:>6.0}")?;
        }
        let Frame { exposure_us, gain, colours: [red, blue], .. } = self.last;
        writeln!(f, "libcamera chose {exposure_us:.0} us, gain {gain:.2}, red x{red:.2}, blue x{blue:.2}")?;
        write!(
            f,
            "total {:.0} s; scene, frame {EARLY} and frame {FRAMES} side by side: {}",
            self.took.as_secs_f64(),
            self.picture.display()
        )
    }
}

/// Runs the demo. Its results are in the folder `demo-libcamera` of cargo's target folder.
///
/// # Errors
/// If a step fails, or if libcamera's frame is not nearer to the scene than the early one.
pub fn run() -> Result<Developed, DemoError> {
    let begun = Instant::now();
    let programs = programs::folder()
        .map_err(|source| DemoError::Io { what: "cannot find this program".to_owned(), source })?;
    let folder = programs.with_file_name("demo-libcamera");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(DemoError::io("empty", &folder))?;
    }
    fs::create_dir_all(&folder).map_err(DemoError::io("create", &folder))?;
    let scene = folder.join("scene.png");
    picture(&photograph()?, PHOTOGRAPH_SIZE, &scene)?;
    let last = stream(&folder, &scene)?;
    let panels = [seen(&scene)?, developed(&folder.join("early"))?, developed(&folder.join("last"))?];
    let path = folder.join("picture.png");
    let [width, height] = SIZE;
    picture(&side_by_side(&panels), (3 * width, height), &path)?;
    judge(&panels)?;
    let means = panels.each_ref().map(|panel| means(panel));
    Ok(Developed { picture: path, means, last, took: begun.elapsed() })
}

/// The photograph, in RGB: SciPy's picture of a raccoon.
fn photograph() -> Result<Vec<u8>, DemoError> {
    debian::install(&["bzip2"])?;
    let path = Archive::of(Arch::host().debian).unpacked(PACKAGE)?.join(PHOTOGRAPH);
    let output =
        Command::new("bzip2").arg("-dc").arg(&path).output().map_err(DemoError::io("read", &path))?;
    let (width, height) = PHOTOGRAPH_SIZE;
    if output.stdout.len() as u64 != u64::from(width * height * 3) {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(DemoError::Wrong(format!("{} is not the photograph. {said}", path.display())));
    }
    Ok(output.stdout)
}

/// Streams to `folder`, whose guest leaves there its early and its last frame, and shows the progress. Returns what libcamera chose for
/// the last frame.
fn stream(folder: &Path, scene: &Path) -> Result<Frame, DemoError> {
    let [width, height] = SIZE;
    let [red, green, blue] = sensor::colour().white_balance;
    let script = format!(
        "cat > /tmp/tuning.yaml << 'END'\n{}END
        export LIBCAMERA_RKISP1_TUNING_FILE=/tmp/tuning.yaml
        {}
        cam -c1 --capture={FRAMES} -s width={width},height={height},pixelformat=NV12,colorspace=smpte170m --metadata --script=/tmp/script \
            --file=/tmp/frame-# 2> /out/cam.log
        mv $(ls /tmp/frame-* | sed -n {EARLY}p) /out/early
        mv $(ls /tmp/frame-* | tail -n 1) /out/last",
        tuning::file(SIZE),
        libcamera::by_hand(DARK, 1.0, Some([red / green, blue / green]))
    );
    let keys = format!("scene={},lamp={LAMP}", scene.display());
    let prepare = |source| DemoError::Io { what: "cannot prepare the guest".to_owned(), source };
    let mut minivmm = libcamera::minivmm(&keys, &script, folder).map_err(prepare)?;
    let console = folder.join("console.log");
    minivmm.arg("--console-log").arg(&console).stdin(Stdio::null()).stdout(Stdio::piped());
    // The machine ends with this process.
    programs::end_with_us(&mut minivmm, Signal::TERM);
    eprintln!("The guest boots, and streams {FRAMES} frames");
    let run = |source| DemoError::Io { what: "cannot run minivmm".to_owned(), source };
    let mut child = minivmm.spawn().map_err(run)?;
    let mut frames: Vec<Frame> = Vec::new();
    let mut said = String::new();
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        said = line.map_err(run)?;
        let before = frames.len();
        // A frame is complete when the next one begins.
        if said.contains(" seq: ") && before > 0 && before.is_multiple_of(STEP) {
            let Frame { exposure_us, gain, colours: [red, blue], .. } = frames[before - 1];
            eprintln!(
                "frame {before} of {FRAMES}: {exposure_us:.0} us, gain {gain:.2}, red x{red:.2}, blue x{blue:.2}"
            );
        }
        libcamera::take(&said, &mut frames);
    }
    let status = child.wait().map_err(run)?;
    if !status.success() {
        return Err(DemoError::Machine { status: status.to_string(), said, console });
    }
    let count = frames.len();
    let last = frames.pop().filter(|_| count == FRAMES);
    last.ok_or_else(|| DemoError::Wrong(format!("cam captured {count} frames instead of {FRAMES}")))
}

/// The scene as the sensor sees it, in the size of a frame.
fn seen(scene: &Path) -> Result<Vec<u8>, DemoError> {
    let wrong = |what: &dyn fmt::Display| DemoError::Wrong(what.to_string());
    let file = SceneFile::open(scene).map_err(|error| wrong(&error))?;
    file.scaled(0, SIZE, &AtomicBool::new(false)).ok_or_else(|| wrong(&"the scene cannot be scaled"))
}

/// A frame of the guest, in RGB.
fn developed(path: &Path) -> Result<Vec<u8>, DemoError> {
    let bytes = fs::read(path).map_err(DemoError::io("read", path))?;
    let [width, height] = SIZE;
    let layout = Layout::new(u32::from_le_bytes(*b"NV12"), width, height)
        .map_err(|error| DemoError::Wrong(error.to_string()))?;
    let frame = Captured::new(&layout, bytes);
    let frame = frame.ok_or_else(|| DemoError::Wrong(format!("{} is no frame", path.display())))?;
    Ok(frame.rgb())
}

/// The lines of the pictures, one after another.
fn side_by_side(panels: &[Vec<u8>; 3]) -> Vec<u8> {
    let line = SIZE[0] as usize * 3;
    (0..SIZE[1] as usize)
        .flat_map(|y| panels.iter().flat_map(move |panel| &panel[y * line..][..line]).copied())
        .collect()
}

/// The means of red, green and blue.
fn means(panel: &[u8]) -> [f64; 3] {
    let pixels = panel.as_chunks::<3>().0;
    [0, 1, 2]
        .map(|colour| pixels.iter().map(|pixel| f64::from(pixel[colour])).sum::<f64>() / pixels.len() as f64)
}

/// Checks that libcamera's frame is at most half as far from the scene as the early one: the scene, the early frame and the last one.
fn judge([scene, early, last]: &[Vec<u8>; 3]) -> Result<(), DemoError> {
    let distance = |panel: &[u8]| {
        let sum: u64 = panel.iter().zip(scene).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / scene.len() as f64
    };
    let [early, last] = [early, last].map(|panel| distance(panel));
    if last > early / 2.0 {
        return Err(DemoError::Wrong(format!(
            "the picture of libcamera differs from the scene by {last:.0} of 255 on average, and the early one by {early:.0}"
        )));
    }
    Ok(())
}
