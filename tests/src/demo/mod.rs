//! The demo: boots a guest with a CMA window, streams the camera, checks every frame, and saves pictures of a frame and
//! of the window. Its second part has libcamera develop a photograph.

pub mod libcamera;
mod page;
mod report;
mod scene;
mod tuning;

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use cma::map::{Map, Pages};
use devices::media::Layout;
use guest_images::{Arch, Error as ImageError, Kind, Release};
use rustix::process::Signal;
use vmm::{
    machine::kvm::{self, KvmError},
    observe::frames::{self, Buffer, Checked},
};

pub use report::{Host, Report, WindowReport};

use crate::{
    cross,
    lab::{Lab, LabError, Note, Output},
    programs,
};

/// The script for the guest.
const GUEST: &str = include_str!("guest.sh");
/// The file with the scene, in the demo's folder.
const SCENE: &str = "scene.png";
/// The size of the window in KiB, the unit of /proc/meminfo.
const CMA_KIB: u64 = 256 << 10;
/// The number of frames that [`GUEST`] streams, their format and size. With RGB24 a frame is a picture without conversion.
const FRAMES: u64 = 30;
const FOURCC: u32 = u32::from_le_bytes(*b"RGB3");
const SIZE: (u32, u32) = (640, 480);
/// The index of the frame that is saved as a picture.
const PICTURED: u64 = FRAMES / 2;
/// The time limit of the lab.
const LIMIT: Duration = Duration::from_secs(300);

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The guest image could not be built.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The lab could not run minivmm.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// An operation on a file, or the start of a program, failed.
    #[error("{what}: {source}")]
    Io {
        /// The action that failed, and its object.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// minivmm or the program in the guest failed.
    #[error("minivmm ended with {status}: {said}; the log of the guest's console is {}", console.display())]
    Machine {
        /// Its exit status.
        status: String,
        /// Its last message.
        said: String,
        /// The log of the console.
        console: PathBuf,
    },
    /// The machine ran, but a result is wrong.
    #[error("{0}")]
    Wrong(String),
}

impl DemoError {
    /// For `map_err`: the error of not being able to do `action` with `path`.
    fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {action} {}", path.display());
        move |source| Self::Io { what, source }
    }
}

/// The summary of the demo, in one line.
#[derive(Debug)]
pub struct Summary {
    report: Report,
    folder: PathBuf,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { frames, bad_frames, drops, cma_total_kib, .. } = self.report;
        let Report { peak_pages_used, seconds_to_init, seconds, .. } = self.report;
        write!(
            f,
            "{frames} frames, {bad_frames} bad, {drops} dropped; CmaTotal {cma_total_kib} kB, at most \
             {peak_pages_used} pages used; init after {seconds_to_init:.1} s, total {seconds:.1} s; pictures: {}",
            self.folder.join("index.html").display()
        )
    }
}

/// Runs the demo with a guest for `arch`, one of [`cross::architectures`], and our kernel of `release`. Its results are in the
/// folder `demo` of cargo's target folder.
///
/// # Errors
/// If a step fails or a result is wrong. The folder then has the results so far.
pub fn run(arch: &'static Arch, release: Release) -> Result<Summary, DemoError> {
    let begun = Instant::now();
    let io_error = |what: &str| {
        let what = what.to_owned();
        move |source| DemoError::Io { what, source }
    };
    let programs = programs::folder().map_err(io_error("cannot find this program"))?;
    let folder = programs.with_file_name("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(DemoError::io("empty", &folder))?;
    }
    let guest = folder.join("guest");
    fs::create_dir_all(&guest).map_err(DemoError::io("create", &guest))?;
    scene::draw(&folder.join(SCENE))?;
    let kind = Kind::Default(release);
    guest_images::build(arch, kind)?;
    let minivmm = cross::minivmm(arch).map_err(io_error("cannot build minivmm"))?;

    let (host, output) = boot(arch, kind, &minivmm, &folder)?;
    if output.status != 0 {
        let status = format!("status {}", output.status);
        let said = String::from_utf8_lossy(&output.stderr).trim_end().lines().last().map(str::to_owned);
        let said = said.unwrap_or_else(|| "it printed nothing".to_owned());
        return Err(DemoError::Machine { status, said, console: folder.join("console.log") });
    }
    let report = examine(arch, &folder, host, begun)?;
    Ok(Summary { report, folder })
}

/// Boots the guest: on this host if its KVM is fit, otherwise in the lab.
fn boot(arch: &'static Arch, kind: Kind, minivmm: &Path, folder: &Path) -> Result<(Host, Output), DemoError> {
    let mut camera = OsString::from("timing=stall,auto=yes,scene=");
    camera.push(folder.join(SCENE));
    let arguments = [
        "--image".into(),
        kind.name().into(),
        "--cma".into(),
        "256M".into(),
        "--camera".into(),
        camera,
        "--exec".into(),
        GUEST.into(),
        "--out".into(),
        folder.join("guest").into_os_string(),
        "--console-log".into(),
        folder.join("console.log").into_os_string(),
        "--report".into(),
        folder.join("machine.json").into_os_string(),
    ];
    let Some(reason) = why_in_the_lab(arch) else {
        eprintln!("This machine's KVM runs Linux: the guest boots on it");
        let mut command = Command::new(minivmm);
        // The machine ends with this process.
        programs::end_with_us(&mut command, Signal::TERM);
        let output = command.args(arguments).output().map_err(DemoError::io("run", minivmm))?;
        let status = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        return Ok((Host::Kvm, Output { status, stdout: output.stdout, stderr: output.stderr }));
    };
    eprintln!("{reason}: the guest boots in the lab");
    let lab = Lab::new().arch(arch).timeout(Some(LIMIT)).writable(folder).pass_signals().note(say);
    let command = std::iter::once(minivmm.into()).chain(arguments);
    Ok((Host::Lab, lab.output(command, &[])?))
}

fn say(note: &Note) {
    eprintln!("{note}");
}

/// Why the guest cannot run on this host, in a few words. None if it can.
fn why_in_the_lab(arch: &Arch) -> Option<String> {
    if arch.name != Arch::host().name {
        return Some(format!("This machine is not {}", arch.name));
    }
    Some(match kvm::open_kvm().and_then(|kvm| kvm::check_fit(&kvm)).err()? {
        KvmError::Absent => "This machine has no /dev/kvm".to_owned(),
        KvmError::Unfit(reason) => format!("This machine's KVM cannot run Linux ({reason})"),
        other => format!("This machine's KVM cannot be used ({other})"),
    })
}

/// Reads the results of the run, saves the pictures and the report, and checks the results.
fn examine(arch: &'static Arch, folder: &Path, host: Host, begun: Instant) -> Result<Report, DemoError> {
    let json = folder.join("machine.json");
    let machine = fs::read(&json).map_err(DemoError::io("read", &json))?;
    let machine: vmm::observe::report::Report = serde_json::from_slice(&machine)
        .map_err(io::Error::from)
        .map_err(DemoError::io("understand", &json))?;
    let missing = |what| DemoError::Wrong(format!("minivmm's report has no {what}"));
    let seconds_to_init = machine.seconds_to_boot_mark.ok_or_else(|| missing("boot mark"))?;
    let overhead_bytes = machine.overhead_at_boot_mark.ok_or_else(|| missing("overhead"))?;
    let [camera] = &machine.devices[..] else { return Err(missing("one device with counters")) };
    let drops = machine.counter("camera0.drops").ok_or_else(|| missing("camera"))?;
    let guest = folder.join("guest");
    let layout = Layout::new(FOURCC, SIZE.0, SIZE.1).map_err(|error| DemoError::Wrong(error.to_string()))?;
    let raw = guest.join("frames.raw");
    let checked = frames::check_file(&raw, &layout).map_err(DemoError::io("read", &raw))?;
    let [window] = &machine.windows[..] else {
        return Err(DemoError::Wrong(format!(
            "the machine has {} windows instead of 1",
            machine.windows.len()
        )));
    };
    let buffers = frames::parse_buffers(&read(&guest.join("camera/buffers"))?)
        .map_err(|error| DemoError::Wrong(error.to_string()))?;
    let map = map(&guest, window, &buffers)?;
    let report = Report {
        frames: checked.frames,
        bad_frames: checked.bad.len() as u64,
        drops,
        cma_total_kib: cma_total(&read(&guest.join("meminfo"))?)?,
        window: WindowReport { name: window.name.clone(), base: window.base, size: window.size },
        peak_pages_used: map.allocated.count(),
        buffers,
        seconds_to_init,
        seconds: begun.elapsed().as_secs_f64(),
        overhead_bytes,
        overhead_bytes_at_end: machine.overhead_at_end,
        arch: arch.name,
        host,
        camera: camera.counters.clone(),
    };
    report.write(&folder.join("report.json"))?;
    let svg = folder.join("cma-map.svg");
    fs::write(&svg, map.to_svg()).map_err(DemoError::io("write", &svg))?;
    judge(&report, &checked)?;
    let frame = frames::read_frame(&raw, &layout, PICTURED).map_err(DemoError::io("read", &raw))?;
    picture(&frame, SIZE, &folder.join("frame.png"))?;
    page::write(folder)?;
    Ok(report)
}

/// The map of the window in the middle of streaming.
fn map(
    guest: &Path,
    window: &vmm::observe::report::WindowReport,
    buffers: &[Buffer],
) -> Result<Map, DemoError> {
    let wrong = |error: &dyn fmt::Display| DemoError::Wrong(error.to_string());
    let place = cma::Window {
        name: window.name.clone(),
        base: window.base,
        size: window.size,
        default: true,
        ..Default::default()
    };
    let mut map = Map::new(&place);
    let areas = guest.join("cma");
    for area in fs::read_dir(&areas).map_err(DemoError::io("read", &areas))? {
        let area = area.map_err(DemoError::io("read", &areas))?.path();
        let number = |file| {
            let text = read(&area.join(file))?;
            text.trim()
                .parse::<u64>()
                .map_err(|_| wrong(&format!("{file} of {} is no number", area.display())))
        };
        if number("base_pfn")? != window.base / cma::PAGE_SIZE {
            continue;
        }
        let count = number("count")?;
        if count != map.pages() {
            let pages = map.pages();
            return Err(wrong(&format!("the guest's window has {count} pages, not {pages}")));
        }
        map.allocated = Pages::parse(&read(&area.join("bitmap"))?, count).map_err(|error| wrong(&error))?;
        let (used, bits) = (number("used")?, map.allocated.count());
        if used != bits {
            return Err(wrong(&format!("the guest says that {used} pages are used, but its bitmap {bits}")));
        }
        for buffer in buffers {
            let name = format!("buffer {}", buffer.index);
            map.add_owner(&name, buffer.address, buffer.bytes).map_err(|error| wrong(&error))?;
        }
        for &(first, count) in &window.runs_written {
            map.written.insert(first..first.saturating_add(count));
        }
        return Ok(map);
    }
    Err(wrong(&format!("the guest has no CMA window at {:#x}", window.base)))
}

/// CmaTotal of the guest's /proc/meminfo, in KiB.
fn cma_total(meminfo: &str) -> Result<u64, DemoError> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("CmaTotal:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .ok_or_else(|| DemoError::Wrong("the guest's /proc/meminfo has no line CmaTotal".to_owned()))
}

/// Checks the results.
fn judge(report: &Report, checked: &Checked) -> Result<(), DemoError> {
    let wrong = |text| Err(DemoError::Wrong(text));
    if let Some((index, error)) = checked.bad.first() {
        let (bad, frames) = (checked.bad.len(), checked.frames);
        return wrong(format!(
            "{bad} of {frames} frames are bad; the first is frame {index} of the file: {error}"
        ));
    }
    if report.frames != FRAMES {
        return wrong(format!("{} frames were streamed instead of {FRAMES}", report.frames));
    }
    if report.drops != 0 {
        return wrong(format!(
            "the camera dropped {} frames; with stall timing it must not drop any",
            report.drops
        ));
    }
    if report.cma_total_kib != CMA_KIB {
        return wrong(format!("the guest has CmaTotal {} kB instead of {CMA_KIB} kB", report.cma_total_kib));
    }
    let pages: u64 = report.buffers.iter().map(|buffer| buffer.bytes.div_ceil(cma::PAGE_SIZE)).sum();
    if pages == 0 || report.peak_pages_used < pages {
        let used = report.peak_pages_used;
        return wrong(format!(
            "the buffers have {pages} pages, but only {used} pages of the window were used"
        ));
    }
    Ok(())
}

/// Writes RGB pixels to the file `path`, as a PNG.
fn picture(pixels: &[u8], (width, height): (u32, u32), path: &Path) -> Result<(), DemoError> {
    let file = fs::File::create(path).map_err(DemoError::io("create", path))?;
    let mut encoder = png::Encoder::new(io::BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(pixels).and_then(|()| writer.finish()))
        .map_err(io::Error::other)
        .map_err(DemoError::io("write", path))
}

fn read(path: &Path) -> Result<String, DemoError> {
    fs::read_to_string(path).map_err(DemoError::io("read", path))
}
