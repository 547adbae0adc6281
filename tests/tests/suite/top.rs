//! `minivmm top`, read from the screen of tmux.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use guest_images::Kind;
use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
};

pub(crate) fn group() -> Group {
    let test = Test::new("the_screen_shows_the_machine", the_screen_shows_the_machine);
    Group { name: "top", place: Place::Linux(vec![Kind::DEFAULT]), tests: vec![test.the_same_everywhere()] }
}

/// A tmux server with one screen, which runs `command` and then waits. It ends when this is dropped.
struct Screen<'a>(&'a Path);

impl<'a> Screen<'a> {
    fn new(socket: &'a Path, command: &str) -> Self {
        let screen = Self(socket);
        let command = format!("{command}; echo ended with $?; sleep 1000");
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "60", &command]);
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(self.0).args(words).output().unwrap();
        assert!(output.status.success(), "tmux {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Waits until the screen is as `is_right` says.
    fn wait(&self, what: &str, is_right: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let seen = self.tmux(&["capture-pane", "-p"]);
            if is_right(&seen) {
                return seen;
            }
            assert!(begun.elapsed() < guest::LIMIT, "the screen never had {what}:\n{seen}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(self.0).arg("kill-server").status();
    }
}

/// Windows, counters with their rates, and rules of a machine that streams; a pause by a key; the end by a key, and with the machine.
fn the_screen_shows_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let plan =
        "[[rule]]\nname = \"no-such-frame\"\non = \"irq\"\naction = \"lose\"\nwhen = { nth = 1000000 }\n";
    std::fs::write(path("plan.toml"), plan).unwrap();
    let mut child = guest::spawn(
        Command::new(guest::minivmm())
            .args(["--cma", "64M,name=isp", "--camera", "window=isp", "--faults"])
            .arg(path("plan.toml"))
            .arg("--api-socket")
            .arg(path("vm.sock"))
            .args(["--exec", "v4l2-ctl --stream-mmap --stream-count=1000000 > /dev/null 2>&1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    );
    let begun = Instant::now();
    while !path("vm.sock").exists() {
        assert!(begun.elapsed() < guest::LIMIT, "there is no socket");
        thread::sleep(Duration::from_millis(20));
    }
    let command = format!("{} top {}", guest::minivmm().display(), path("vm.sock").display());
    let screen_socket = path("tmux.sock");
    {
        let screen = Screen::new(&screen_socket, &command);
        // The counter, its value, and its rate, which is not 0.0/s.
        let is_streaming = |seen: &str| {
            seen.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                matches!(words[..], ["frames", count, rate] if count.parse::<u64>().is_ok_and(|count| count > 0)
                    && rate.strip_suffix("/s").is_some_and(|rate| rate.parse::<f64>().is_ok_and(|rate| rate > 0.0)))
            })
        };
        // The buffers of the stream. A screen can show frames before it has read the window again.
        let has_buffers =
            |seen: &str| seen.lines().any(|line| line.starts_with('W') || line.starts_with('#'));
        let seen =
            screen.wait("a rate of frames, and buffers", |seen| is_streaming(seen) && has_buffers(seen));
        assert!(seen.contains("CMA window isp@") && seen.contains("camera0 (camera)"), "{seen}");
        assert!(seen.contains("no-such-frame"), "{seen}");
        screen.tmux(&["send-keys", "p"]);
        screen.wait("a pause", |seen| seen.lines().next().is_some_and(|line| line.ends_with(", paused")));
        screen.tmux(&["send-keys", "p"]);
        screen.wait("an end of the pause", |seen| !seen.contains("paused") && is_streaming(seen));
        screen.tmux(&["send-keys", "q"]);
        let seen = screen.wait("an end by q", |seen| seen.contains("ended with"));
        assert!(seen.contains("ended with 0"), "{seen}");
    }
    let screen = Screen::new(&screen_socket, &command);
    screen.wait("the machine", |seen| seen.contains("CMA window isp@"));
    let stop = Command::new(guest::minivmm()).arg("ctl").arg(path("vm.sock")).arg("stop").status().unwrap();
    assert!(stop.success());
    let seen = screen.wait("the end of the machine", |seen| seen.contains("ended with"));
    assert!(seen.contains("has ended") && seen.contains("ended with 0"), "{seen}");
    drop(screen);
    // As SIGTERM does.
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let lost = Command::new(guest::minivmm()).arg("top").arg(path("vm.sock")).output().unwrap();
    assert!(text(&lost.stderr).contains("no machine listens on"), "{lost:?}");
    assert_eq!(lost.status.code(), Some(2));
}
