//! `minivmm ctl SOCKET events`: what happens in a running machine, as it happens.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use guest_images::Kind;
use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
    tests,
};
use vmm::{
    api::{Answer, Event},
    observe::report::MachineOutcome,
};

use crate::metrics::streaming;

/// The tests with bare-metal guests.
pub(crate) fn group() -> Group {
    let slow = Test::new("a_slow_client_loses_events", a_slow_client_loses_events);
    Group { name: "events", place: Place::Kvm, tests: vec![slow.the_same_everywhere()] }
}

/// The test with Linux.
pub(crate) fn linux() -> Group {
    Group {
        name: "events_of_linux",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![events_come_from_the_boot_to_the_end],
    }
}

#[track_caller]
fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < guest::LIMIT, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

fn ctl(socket: &Path, words: &[&str]) -> String {
    guest::printed(&guest::run(Command::new(guest::minivmm()).arg("ctl").arg(socket).args(words)))
}

/// A client that gets events.
struct Listener(Lines<BufReader<UnixStream>>);

impl Listener {
    fn new(socket: &Path) -> Self {
        let mut stream = guest::connect(socket).unwrap();
        stream.set_read_timeout(Some(guest::LIMIT)).unwrap();
        stream.write_all(b"{\"verb\":\"events\"}\n").unwrap();
        Self(BufReader::new(stream).lines())
    }

    /// The next line; none at the end of the stream.
    fn line(&mut self) -> Option<Answer> {
        let line = self.0.next()?.expect("a line comes in time");
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The events to the first one that `is` it.
    #[track_caller]
    fn to(&mut self, what: &str, is: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(line) = self.line() {
            let Answer::Event(event) = line else { panic!("{line:?} is no event") };
            events.push(event);
            if events.last().is_some_and(&is) {
                return events;
            }
        }
        panic!("{what} did not come, but {events:?}");
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event, Event::End { .. })
}

#[track_caller]
fn end(mut machine: Child, status: i32) {
    wait_for("the machine's end", || machine.try_wait().unwrap().is_some());
    assert_eq!(machine.wait().unwrap().code(), Some(status));
}

/// A rule fires for each frame. One client reads, and one does not until later.
fn a_slow_client_loses_events() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let machine = streaming(folder.path(), &["--api-socket", socket.to_str().unwrap()]);
    wait_for("the socket", || socket.exists());
    let (mut quick, mut slow) = (Listener::new(&socket), Listener::new(&socket));
    let number = |event: &Event| if let Event::Fired { event, .. } = event { Some(*event) } else { None };
    let Some(Answer::Status(status)) = quick.line() else { panic!("the stream begins with the state") };
    assert_eq!(status.cpus, 1);
    // More than all buffers hold: a line has more than a hundred bytes.
    let first = quick.to("a firing", |event| number(event).is_some());
    let enough = first.iter().find_map(number).unwrap() + 8_000;
    quick.to("many firings", |event| number(event).is_some_and(|number| number > enough));
    // The machine has not waited, and other clients are served.
    assert!(ctl(&socket, &["status"]).starts_with("minivmm "));
    assert!(matches!(slow.line(), Some(Answer::Status(_))));
    let events = slow.to("later firings", |event| number(event).is_some_and(|number| number > enough));
    let numbers: Vec<u64> = events.iter().filter_map(number).collect();
    let lost: u64 =
        events.iter().map(|event| if let Event::Lost { count, .. } = event { *count } else { 0 }).sum();
    let (got, all) = (numbers.len() as u64, numbers[numbers.len() - 1] - numbers[0] + 1);
    assert!(numbers.is_sorted() && lost > 1000, "{lost} lost of {all}");
    // The first write to the window is an event, too.
    assert!((all..=all + 1).contains(&(got + lost)), "{got} and {lost} lost are not {all}");
    drop(quick);

    ctl(&socket, &["pause"]);
    slow.to("the pause", |event| matches!(event, Event::Paused { .. }));
    ctl(&socket, &["resume"]);
    slow.to("the end of the pause", |event| matches!(event, Event::Resumed { .. }));
    ctl(&socket, &["stop"]);
    end(machine, 0);
}

fn events_come_from_the_boot_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (socket, plan) = (path("api.sock"), path("plan.toml"));
    let rule = "[[rule]]\nname = \"third\"\non = \"irq\"\naction = \"duplicate\"\nwhen = { nth = 3 }\n";
    fs::write(&plan, rule).unwrap();
    let command = "name=$(grep -l minivmm.control /sys/class/virtio-ports/*/name)
        v4l2-ctl --stream-mmap=3 --stream-count=6 > /dev/null 2>&1
        sleep 1
        echo 'mark streamed' > /dev/$(basename ${name%/name})
        read line
        echo c > /proc/sysrq-trigger; sleep 1000";
    let mut machine = guest::spawn(
        Command::new(guest::minivmm())
            .args(["--cma", "16M,name=isp", "--camera", "window=isp,timing=stall", "--faults"])
            .arg(&plan)
            .arg("--api-socket")
            .arg(&socket)
            .args(["--exec", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    wait_for("the socket", || socket.exists());
    let mut listener = Listener::new(&socket);
    let Some(Answer::Status(status)) = listener.line() else { panic!("the stream begins with the state") };
    assert_eq!(status.seconds_to_boot_mark, None);
    // What ctl prints, as text and as JSON.
    let printing = [&["events"][..], &["events", "--json"]].map(|words| {
        let mut ctl = Command::new(guest::minivmm());
        guest::spawn(ctl.arg("ctl").arg(&socket).args(words).stdin(Stdio::null()).stdout(Stdio::piped()))
    });
    let events = listener.to("the mark", |event| matches!(event, Event::Mark { .. }));
    let place = |what: &str, is: &dyn Fn(&Event) -> bool| {
        events.iter().position(is).unwrap_or_else(|| panic!("{what} is not in {events:?}"))
    };
    let booted = place("the boot mark", &|event| matches!(event, Event::BootMark { .. }));
    // The driver resets the camera when it finds it.
    let reset =
        place("a reset", &|event| matches!(event, Event::Reset { device, .. } if device == "camera0"));
    let written = place(
        "the first write",
        &|event| matches!(event, Event::WindowWritten { window, .. } if window == "isp"),
    );
    let fired = place("the firing", &|event| {
        matches!(event, Event::Fired { device: Some(device), on, rule, event: 3, action, .. }
            if device == "camera0" && on == "irq" && rule == "third" && action == "duplicate")
    });
    let mark = place("the mark", &|event| matches!(event, Event::Mark { text, .. } if text == "streamed"));
    assert!(reset < fired && booted < mark && written < mark && fired < mark, "{events:?}");
    assert!(events.is_sorted_by_key(Event::seconds), "{events:?}");

    ctl(&socket, &["pause"]);
    ctl(&socket, &["resume"]);
    machine.stdin.take().unwrap().write_all(b"\n").unwrap();
    let events = listener.to("the end", is_end);
    let [
        Event::Paused { .. },
        Event::Resumed { .. },
        ..,
        Event::Panicked { .. },
        Event::End { outcome, exit, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((outcome, exit.status), (&MachineOutcome::Panic, 123));
    assert!(listener.line().is_none());
    end(machine, 123);

    let [printed, json] = printing.map(|ctl| {
        let output = ctl.wait_with_output().unwrap();
        assert!(output.status.success());
        text(&output.stdout)
    });
    let mut lines = printed.lines();
    assert!(lines.next().unwrap().starts_with("minivmm "), "{printed}");
    for line in [
        " s  boot mark",
        " s  camera0: reset",
        " s  window isp: first write by a device",
        " s  camera0: rule third fired: duplicate on irq, event 3",
        " s  mark streamed",
        " s  paused",
        " s  resumed",
        " s  the guest's kernel panicked",
    ] {
        assert!(printed.lines().any(|printed| printed.contains(line)), "{line} is not in\n{printed}");
    }
    assert!(
        printed.lines().last().unwrap().contains(" s  end with status 123: the guest panicked"),
        "{printed}"
    );
    let answers: Vec<Answer> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(answers[0], Answer::Status(_)), "{json}");
    assert!(matches!(answers.last(), Some(Answer::Event(event)) if is_end(event)), "{json}");
}
