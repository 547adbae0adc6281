//! Linux guests for tests: runs minivmm with a command, within a time limit, and checks the results.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use devices::{camera::regs, media::Layout};
use guest_images::{Arch, Kind, cpio};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;
use vmm::observe::{
    frames,
    report::{Report, WindowReport},
};

use crate::programs;

/// Time limit of a guest. After it, a test fails and shows where the threads wait.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A shell function for the guest: `in_window NAME` exits with 9 if a buffer of the camera's driver was outside the CMA window
/// NAME, or if there was no buffer.
pub const IN_WINDOW: &str = r#"in_window() {
        set -- "$1" $(cat /sys/kernel/debug/minivmm-camera/*/extent) /sys/kernel/debug/cma/$1*
        page=$(($(awk '/KernelPageSize/ { print $2; exit }' /proc/self/smaps) * 1024))
        base=$(($(cat $4/base_pfn) * page))
        [ $(($2)) -ge $base ] && [ $(($3)) -le $((base + $(cat $4/count) * page)) ] && [ $(($3)) -gt $(($2)) ] ||
            { echo "buffers at $2 to $3 are not in the window $1 at $base" >&2; exit 9; }
    }
    "#;

static MINIVMM: LazyLock<PathBuf> = LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

/// The path of minivmm, which is built if necessary.
///
/// # Panics
/// If it cannot be built.
pub fn minivmm() -> &'static Path {
    &MINIVMM
}

/// The initramfs of the image of `kind`, with these additional executable files.
///
/// # Panics
/// If the image is not built, or the file cannot be written.
pub fn initramfs_with(kind: Kind, files: &[(&str, &[u8])]) -> NamedTempFile {
    let image = guest_images::current(Arch::host(), kind).expect("the image is built");
    let mut archives = fs::read(image.initramfs).expect("the image has an initramfs");
    let mut ours = cpio::Archive::default();
    for (name, data) in files {
        ours.file(name, 0o755, data.to_vec());
    }
    archives.extend(ours.pack());
    let file = NamedTempFile::new().expect("there is room for a file");
    fs::write(file.path(), archives).expect("there is room for its content");
    file
}

/// Runs minivmm with `arguments` (words) and a command in the guest.
#[track_caller]
pub fn exec(arguments: &str, command: &str) -> Output {
    run(Command::new(minivmm()).args(arguments.split_whitespace()).args(["--exec", command]))
}

/// Runs a command to its end within the limit of a guest.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    run_within(command, LIMIT)
}

/// Starts `command`, which is killed if the test program ends before it.
pub fn spawn(command: &mut Command) -> Child {
    programs::end_with_us(command, Signal::KILL);
    command.spawn().expect("it starts")
}

/// Runs a command to its end within `limit`.
///
/// # Panics
/// If it takes longer. The message shows where its threads wait.
#[track_caller]
pub fn run_within(command: &mut Command, limit: Duration) -> Output {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command);
    let pid = child.id();
    let waiting = thread::spawn(move || child.wait_with_output().expect("it can be waited for"));
    end_within(&waiting, pid, limit);
    waiting.join().expect("the waiting thread ends")
}

/// Waits until `thread`, which waits for the process `pid`, has ended.
///
/// # Panics
/// If it takes longer than `limit`. The message shows where the threads of the process wait.
#[track_caller]
pub fn end_within<T>(thread: &JoinHandle<T>, pid: u32, limit: Duration) {
    let start = Instant::now();
    while !thread.is_finished() {
        if start.elapsed() > limit {
            let threads = waits(pid);
            kill(pid, Signal::KILL);
            panic!("no end after {limit:?}; its threads wait in {threads}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Connects to the socket of a machine. Its file is there a moment before the machine listens.
///
/// # Errors
/// If there is no such socket, or if nobody listens within [`LIMIT`].
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && start.elapsed() < LIMIT => {
                thread::sleep(Duration::from_millis(5));
            }
            stream => return stream,
        }
    }
}

/// The kernel function in which each thread of a process waits, for the report of a hang.
pub fn waits(pid: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read = |thread: &fs::DirEntry, file| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
    threads.map(|thread| format!("{} {}; ", read(&thread, "comm").trim(), read(&thread, "wchan"))).collect()
}

/// The time for which the main thread of a process has run; zero if it has ended.
pub fn main_thread_has_run(pid: u32) -> Duration {
    // The first number is in nanoseconds (Documentation/scheduler/sched-stats.rst).
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap_or_default();
    let ran = text.split(' ').next().and_then(|ran| ran.parse().ok());
    ran.map(Duration::from_nanos).unwrap_or_default()
}

/// Sends a signal to a child that has not been waited for.
///
/// # Panics
/// If there is no such child.
#[track_caller]
pub fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a child has a number");
    kill_process(pid, signal).expect("a child of ours takes a signal");
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The standard output of a command.
///
/// # Panics
/// If its exit status is not 0, or if stderr is not empty.
#[track_caller]
pub fn printed(output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}\n{stdout}", output.status);
    stdout
}

/// The value of one of the driver's counters.
///
/// # Panics
/// If no line begins with `name`.
#[track_caller]
pub fn counter(counters: &str, name: &str) -> u64 {
    let line = counters.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {counters}"))
}

/// A stream: fourcc, width, height, number of frames.
pub type Stream = (&'static str, u32, u32, u32);

/// A frame without padding.
///
/// # Panics
/// If the camera does not support it.
pub fn layout(fourcc: &str, width: u32, height: u32) -> Layout {
    let code = u32::from_le_bytes(fourcc.as_bytes().try_into().expect("a fourcc has four characters"));
    Layout::new(code, width, height).expect("the camera has this format")
}

/// Streams in one guest with one window. Checks the stamp, the checksum and the sequence number of every frame, and that all
/// buffers were in the window.
///
/// # Panics
/// If a check fails.
pub fn stream(arguments: &str, streams: &[Stream]) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let out = folder.path();
    // The driver's list of buffers is read in the middle of streaming: v4l2-ctl waits until the pipe has room.
    let mut command = String::from(
        "set -e -o pipefail
        stream() {
          v4l2-ctl -d /dev/video$5 -v width=$2,height=$3,pixelformat=$1 \
              --stream-mmap=4 --stream-count=$4 --stream-to=- 2> /tmp/log | {
            dd bs=4096 count=4 iflag=fullblock 2> /dev/null > /out/$1-$2.raw
            [ $5 = 0 ] && list=buffers || list=buffers-raw
            cat /sys/kernel/debug/minivmm-camera/*/$list > /out/$1-$2.buffers
            cat >> /out/$1-$2.raw
          } || { cat /tmp/log >&2; exit 1; }
        }\n",
    );
    for (fourcc, width, height, count) in streams {
        let node = regs::channel_of_format(layout(fourcc, *width, *height).format());
        let _ = writeln!(command, "stream {fourcc} {width} {height} {count} {node}");
    }
    let json = out.join("report.json");
    let output = exec(&format!("{arguments} --out {} --report {}", out.display(), json.display()), &command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let read =
        |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let report: Report = serde_json::from_str(&read(&json)).expect("the report is one");
    let [WindowReport { base, size, .. }] = report.windows[..] else { panic!("{:?}", report.windows) };
    for &(fourcc, width, height, count) in streams {
        let file = out.join(format!("{fourcc}-{width}.raw"));
        let layout = layout(fourcc, width, height);
        let checked = frames::check_file(&file, &layout).expect("the frames came out");
        assert!(checked.bad.is_empty() && checked.frames == u64::from(count), "{fourcc}: {checked:?}");

        let buffers = frames::parse_buffers(&read(&file.with_extension("buffers"))).expect("it is a list");
        assert!(buffers.len() >= 2, "{buffers:?}");
        for buffer in &buffers {
            assert!(
                buffer.address >= base && buffer.address + buffer.bytes <= base + size,
                "{buffer:?} is not in the window of {size:#x} bytes at {base:#x}"
            );
        }
    }
}
