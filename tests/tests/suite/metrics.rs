//! `--metrics`: the figures of a running machine in Prometheus' text format, at a socket and in a file.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tests::{
    bare_metal::BareMetal,
    exposition::{Sample, samples, value},
    guest,
    harness::{Group, Place},
    tests,
};
use vmm::machine::config::DeviceRequest;

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "metrics",
        place: Place::Kvm,
        tests: tests![the_socket_has_the_figures, the_file_has_the_figures_and_then_the_last_ones],
    }
}

/// A rule whose name has each character that the format escapes.
const PLAN: &str = "[[rule]]\nname = \"a \\\"rule\\\" \\\\ \\n\"\non = \"frame.dma\"\naction = \"none\"\nnext-state = \"on\"\n";
/// The name.
const RULE: &str = "a \"rule\" \\ \n";

/// Starts a bare-metal guest that streams from a camera without end, with `--metrics` and this value. `folder` is for its files.
pub(crate) fn streaming(folder: &Path, options: &[&str]) -> Child {
    let mut guest = BareMetal::new("frames");
    guest.config.windows = vec!["16M,name=isp".parse().unwrap()];
    guest.config.devices = vec![DeviceRequest::new("camera", "window=isp,timing=stall").unwrap()];
    let inputs = folder.join("inputs");
    fs::create_dir_all(&inputs).unwrap();
    let plan = inputs.join("plan.toml");
    fs::write(&plan, PLAN).unwrap();
    let mut machine = Command::new(guest::minivmm());
    machine.args(["--any-host", "--host", "kvm", "--memory", "64M", "--cma", "16M,name=isp"]);
    machine.args(["--camera", "window=isp,timing=stall", "--kernel"]);
    machine.arg(guest.build(&inputs).config.kernel).arg("--faults").arg(plan).args(options);
    guest::spawn(machine.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()))
}

/// Waits for what `look` finds.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < guest::LIMIT, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The whole answer to the bytes of a request.
fn answer(socket: &Path, request: &str) -> Option<String> {
    let mut stream = guest::connect(socket).ok()?;
    stream.set_read_timeout(Some(guest::LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    Some(text)
}

/// The body of an answer with this status.
#[track_caller]
fn body<'a>(answer: &'a str, status: &str) -> &'a str {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{answer}");
    body
}

/// Checks the figures that each machine of [`streaming`] has. Returns the number of frames.
#[track_caller]
fn check(samples: &[Sample]) -> f64 {
    let of = |name: &str| value(samples, name, &[]);
    assert_eq!(value(samples, "minivmm_info", &[("arch", std::env::consts::ARCH)]), 1.0);
    assert_eq!(of("minivmm_vcpus"), 1.0);
    assert_eq!(of("minivmm_guest_memory_bytes"), f64::from(64 << 20));
    assert!(of("minivmm_exits_total") > 10.0);
    assert!(of("minivmm_uptime_seconds") > of("minivmm_boot_mark_seconds"));
    assert!(of("minivmm_resident_bytes") > of("minivmm_overhead_bytes"));
    assert_eq!(value(samples, "minivmm_window_bytes", &[("window", "isp")]), f64::from(16 << 20));
    // Three buffers of 160 x 120 bytes, each in pages of its own.
    assert_eq!(value(samples, "minivmm_window_written_pages", &[("window", "isp")]), 15.0);
    let camera = [("device", "camera0"), ("kind", "camera")];
    let frames = value(samples, "minivmm_device_frames_total", &camera);
    let rule = [("rule", RULE), ("on", "frame.dma"), ("action", "none")];
    let firings = value(samples, "minivmm_fault_rule_firings_total", &rule);
    assert_eq!(firings, value(samples, "minivmm_fault_rule_events_total", &rule));
    // The rules are read after the counters.
    assert!(firings + 1.0 >= frames, "{firings} firings, {frames} frames");
    // A bare-metal guest has no CMA areas.
    assert!(!samples.iter().any(|sample| sample.name.starts_with("minivmm_cma_area")));
    frames
}

fn the_socket_has_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics.sock");
    let mut machine = streaming(folder.path(), &["--metrics", &format!("unix:{}", socket.display())]);
    let get = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    let figures = || {
        let answer = answer(&socket, get)?;
        let figures = samples(body(&answer, "200 OK")).unwrap_or_else(|error| panic!("{error}"));
        let frames = value(&figures, "minivmm_device_frames_total", &[("device", "camera0")]);
        (frames > 5.0).then_some(figures)
    };
    let first = wait("the first frames", figures);
    assert_eq!(value(&first, "minivmm_running", &[]), 1.0);
    let frames = check(&first);
    wait("further frames", || figures().filter(|figures| check(figures) > frames));
    for (request, status) in [
        ("GET /metrics?all HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "405 Method Not Allowed"),
        ("GET /metrics\r\n\r\n", "400 Bad Request"),
        ("{\"verb\":\"status\"}\n", "400 Bad Request"),
    ] {
        body(&answer(&socket, request).unwrap(), status);
    }
    // A client that does not ask, and one that does not read, delay nobody.
    let _silent = guest::connect(&socket).unwrap();
    (&guest::connect(&socket).unwrap()).write_all(get.as_bytes()).unwrap();
    body(&answer(&socket, get).unwrap(), "200 OK");
    guest::kill(machine.id(), Signal::TERM);
    let status = wait("the machine's end", || machine.try_wait().unwrap());
    assert_eq!(status.code(), Some(143), "{:?}", status.signal());
    assert!(!socket.exists());
}

fn the_file_has_the_figures_and_then_the_last_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (results, path) = (folder.path().join("results"), folder.path().join("results/machine.prom"));
    fs::create_dir(&results).unwrap();
    fs::write(&path, "of an earlier machine\n").unwrap();
    let mut machine = streaming(folder.path(), &["--metrics", path.to_str().unwrap()]);
    // A reader never sees a part of a version.
    let read = || {
        let (text, file) = (fs::read_to_string(&path).unwrap(), fs::metadata(&path).unwrap().ino());
        if text.starts_with("of") {
            return None;
        }
        Some((samples(&text).unwrap_or_else(|error| panic!("{error}")), file))
    };
    let (figures, first) = wait("the first file", read);
    assert_eq!(value(&figures, "minivmm_running", &[]), 1.0);
    let next = || read().filter(|(_, file)| *file != first);
    let (figures, _) = wait("the next file", next);
    let frames = check(&figures);
    guest::kill(machine.id(), Signal::TERM);
    let status = wait("the machine's end", || machine.try_wait().unwrap());
    assert_eq!(status.code(), Some(143), "{:?}", status.signal());
    let (figures, _) = read().unwrap();
    assert!(check(&figures) >= frames);
    assert_eq!(value(&figures, "minivmm_running", &[]), 0.0);
    assert_eq!(value(&figures, "minivmm_exit_status", &[]), 143.0);
    let names: Vec<_> = fs::read_dir(&results).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["machine.prom"]);
}
