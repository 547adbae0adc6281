//! The command `lab`: data between host and lab, and no leftovers.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use guest_images::cache::cache_dir;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use tests::{
    cross, guest,
    harness::{Group, Place, Test},
    pty::Pty,
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests = tests![
        a_command_runs_as_on_the_host_and_its_results_come_back,
        each_architectures_lab_has_its_programs_and_the_hosts_files,
        labs_of_one_state_differ,
        a_terminal_reaches_the_command_whole_and_is_restored,
        nothing_survives_the_lab,
        the_time_limit_ends_the_lab,
        a_lab_that_cannot_be_ends_with_125,
    ];
    let broken = Test::new("a_broken_state_is_replaced_by_a_boot", a_broken_state_is_replaced_by_a_boot);
    tests.push(broken.only_if_thorough());
    Group { name: "lab", place: Place::OutsideOfLabs, tests }
}

fn lab(options: &[&str], command: &[&str]) -> Command {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.arg("run").args(options).arg("--").args(command);
    lab
}

/// The process's children.
fn children(process: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Waits for the emulator that `lab` starts, after its preparation.
fn emulator(lab: &Child) -> u32 {
    let is_emulator = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu"))
    };
    wait(600, "the emulator", || children(lab.id()).into_iter().find(is_emulator))
}

/// Waits until the process is gone, or is a zombie.
fn assert_gone(process: u32) {
    wait(10, "the emulator's end", || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        matches!(state, None | Some('Z' | 'X')).then_some(())
    });
}

fn wait<T>(seconds: u64, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come in {seconds} s");
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), signal).unwrap();
}

/// Checks in one boot: streams, status, working directory, environment, rights, writable folders.
fn a_command_runs_as_on_the_host_and_its_results_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("it's, shared");
    let hidden = folder.path().join("hidden");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "host").unwrap();
    // Bytes of every value, in a sequence with a long period.
    let input: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let script = r#"
        cat
        exec >&2
        pwd
        printf '%s|' "$ODD" "$1" "$2"
        id -u
        test -c /dev/kvm && echo kvm
        cat "$SHARED/from-host"
        dd if=/dev/zero of="$SHARED/from-lab" bs=64k count=64 2>/dev/null
        chmod 640 "$SHARED/from-lab"
        echo secret > "$HIDDEN" && cat "$HIDDEN"
        echo again > /dev/stderr
        sleep 1000 &
        kill -s TERM $$
    "#;
    let mut lab = guest::spawn(
        lab(
            &["--writable", shared.to_str().unwrap(), "--timeout", "300"],
            &["sh", "-c", script, "sh", "it's \"one\"", "two\nlines"],
        )
        .current_dir(folder.path())
        .env("ODD", "a 'b' $c")
        .env("SHARED", &shared)
        .env("HIDDEN", &hidden)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped()),
    );
    let mut stdin = lab.stdin.take().unwrap();
    let sent = input.clone();
    let sender = thread::spawn(move || stdin.write_all(&sent));
    let output = lab.wait_with_output().unwrap();
    sender.join().unwrap().unwrap();

    let stderr = String::from_utf8(output.stderr).unwrap();
    let (first, said) = stderr.split_once('\n').unwrap();
    assert!(first.contains("lab"), "{first}");
    let directory = fs::canonicalize(folder.path()).unwrap();
    let expected =
        format!("{}\na 'b' $c|it's \"one\"|two\nlines|0\nkvm\nhostsecret\nagain\n", directory.display());
    assert!(said.ends_with(&expected), "{stderr}");
    assert!(output.stdout == input, "{} bytes came back of {}", output.stdout.len(), input.len());
    assert_eq!(output.status.code(), Some(128 + 15), "{stderr}");
    let written = fs::metadata(shared.join("from-lab")).unwrap();
    assert_eq!(written.len(), 4 << 20);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&written.permissions()) & 0o777, 0o640);
    assert!(!hidden.exists());
}

fn each_architectures_lab_has_its_programs_and_the_hosts_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "host\n").unwrap();
    // Each of the tests' helpers once, and a command of busybox's by its path.
    let script = "uname -m; cat file; test -c /dev/kvm && echo kvm; /usr/bin/seq 2; dtc --version > /dev/null && \
                  unshare --mount setpriv --bounding-set=-all env --chdir=/ pwd; exit 3";
    for arch in cross::architectures() {
        let output = lab(&["--arch", arch.name], &["sh", "-c", script])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        let expected = format!("{}\nhost\nkvm\n1\n2\n/\n", arch.name);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{stderr}");
    }
}

/// Each lab continues from the same saved state, but has its own random numbers and the time of now.
fn labs_of_one_state_differ() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let run = || {
        let before = now();
        let script = "cat /proc/sys/kernel/random/uuid; date +%s.%N";
        let output = lab(&[], &["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let printed = guest::text(&output.stdout);
        let (uuid, date) = printed.trim_end().split_once('\n').unwrap();
        let date: f64 = date.parse().unwrap();
        // The lab's clock begins with a whole second.
        assert!((before - 1.0..now() + 1.0).contains(&date), "{before} to {}: {date}", now());
        uuid.to_owned()
    };
    assert_ne!(run(), run());
}

/// A state is cut short while nobody uses it, as by a full disk.
fn a_broken_state_is_replaced_by_a_boot() {
    let states = || {
        let labs = fs::read_dir(cache_dir().unwrap().join("lab")).into_iter().flatten().flatten();
        let states = labs.filter_map(|lab| fs::read_dir(lab.path().join("states")).ok()).flatten();
        states.map(|state| state.unwrap().path()).collect::<BTreeSet<_>>()
    };
    // No other test has such a lab.
    let run = || {
        let output = lab(&["--memory", "555M"], &["echo", "here"]).output().unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"here\n"[..]), "{output:?}");
        guest::text(&output.stderr)
    };
    let before = states();
    assert!(run().contains("saving its state, once"));
    assert!(!run().contains("saving its state, once"));
    let saved: Vec<_> = states().difference(&before).cloned().collect();
    assert!(!saved.is_empty());
    for state in &saved {
        File::options().write(true).open(state).unwrap().set_len(1 << 20).unwrap();
    }
    assert!(run().contains("A lab boots, for it could not continue from the saved state"));
    assert!(saved.iter().any(|state| !state.exists()), "it is gone");
}

fn a_terminal_reaches_the_command_whole_and_is_restored() {
    let terminal = Pty::new().unwrap();
    let device = || terminal.device().unwrap();
    let kept = device();
    tcsetwinsize(&kept, Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let script = "trap 'echo interrupted; stty size; exit 5' INT; stty size; echo ready; \
                  while :; do sleep 0.1; done";
    let mut lab = guest::spawn(
        lab(&["--timeout", "300"], &["sh", "-c", script]).stdin(device()).stdout(device()).stderr(device()),
    );
    let mut terminal = terminal.ours;
    let mut seen = String::new();
    let mut read_until = |wanted: &str| {
        let end = Instant::now() + Duration::from_secs(120);
        while !seen.contains(wanted) {
            let mut ready = [PollFd::new(&terminal, PollFlags::IN)];
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            if poll(&mut ready, Some(&second)).unwrap() == 0 {
                assert!(Instant::now() < end, "{wanted:?} did not come after {seen}");
                continue;
            }
            let mut buffer = [0; 1024];
            let count = terminal.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        terminal.try_clone().unwrap()
    };
    let mut keyboard = read_until("ready\r\n");
    assert!(
        !tcgetattr(&kept).unwrap().local_modes.contains(LocalModes::ISIG),
        "the terminal is raw meanwhile"
    );
    let larger = Winsize { ws_row: 44, ws_col: 88, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&kept, larger).unwrap();
    // It is not the controlling terminal of the lab, so the kernel sends no signal.
    signal(lab.id(), Signal::WINCH);
    thread::sleep(Duration::from_secs(2));
    keyboard.write_all(b"\x03").unwrap();
    read_until("44 88\r\n");
    assert_eq!(lab.wait().unwrap().code(), Some(5));
    assert!(tcgetattr(&kept).unwrap().local_modes.contains(LocalModes::ISIG | LocalModes::ECHO));
    assert!(seen.contains("33 77\r\n") && seen.contains("interrupted\r\n"), "{seen}");
}

fn nothing_survives_the_lab() {
    for (how, status) in [(Signal::KILL, None), (Signal::INT, Some(130)), (Signal::TERM, Some(143))] {
        let mut lab = guest::spawn(lab(&[], &["true"]).stdin(Stdio::null()).stderr(Stdio::null()));
        let emulator = emulator(&lab);
        signal(lab.id(), how);
        assert_eq!(lab.wait().unwrap().code(), status, "{how:?}");
        assert_gone(emulator);
    }
}

/// With a log, the lab boots, which takes longer than the limit.
fn the_time_limit_ends_the_lab() {
    let mut lab = guest::spawn(
        lab(&["--timeout", "1", "--log", "/dev/null"], &["true"]).stdin(Stdio::null()).stderr(Stdio::piped()),
    );
    let emulator = emulator(&lab);
    let mut stderr = String::new();
    lab.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(lab.wait().unwrap().code(), Some(124), "{stderr}");
    assert_gone(emulator);
    assert!(stderr.contains("time limit of 1 s was reached while the lab was booting"), "{stderr}");
}

fn a_lab_that_cannot_be_ends_with_125() {
    for (options, command, expected) in [
        (&["--writable", "/no/such/folder"][..], &["true"][..], "/no/such/folder"),
        (&["--log", "/no/such/folder/log"], &["true"], "/no/such/folder/log"),
        (&[], &["A=1"], "assignment"),
    ] {
        let output = lab(options, command).stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{stderr}");
        assert!(stderr.lines().last().unwrap().contains(expected), "{stderr}");
    }
}
