//! The balloon with Linux's own driver: memory that the guest gives away leaves the host, and is memory again with the right content.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use guest_images::Kind;
use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
    steps::Stepped,
    tests,
};
use vmm::observe::report::Report;

/// The tests.
pub(crate) fn group() -> Group {
    // The driver is the same everywhere; the way of pages back to the host is not.
    let rest = tests![
        the_guest_takes_memory_back_before_it_kills,
        the_size_changes_while_the_guest_runs,
        a_balloon_is_smaller_than_memory,
    ];
    let mut tests = tests![memory_leaves_the_host_and_comes_back];
    tests.extend(rest.into_iter().map(Test::the_same_everywhere));
    // The scenario a-free-window-leaves-the-host tests reports, too.
    tests.push(Test::new("free_memory_is_reported", free_memory_is_reported).only_if_thorough());
    Group { name: "balloon", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// The pages of a balloon in a mebibyte.
const PAGES: u64 = 256;

/// Functions for scripts. `at NAME` prints the guest's numbers, and waits for the test. `pattern MIB` prints data, and `right FILE
/// MIB` says whether the file has that.
const PRELUDE: &str = r#"
    meminfo() { sed -n "s/^$1: *\([0-9]*\) kB/\1/p" /proc/meminfo; }
    events() { sed -n "s/^balloon_$1 //p" /proc/vmstat; }
    at() {
        echo "$1 $(($(meminfo MemTotal) / 1024)) $(($(meminfo MemFree) / 1024)) $(events inflate) $(events deflate)"
        step
    }
    yes 'what the guest has in its memory' | dd of=/block bs=4M count=1 iflag=fullblock 2> /dev/null
    pattern() {
        blocks=
        for block in $(seq $(($1 / 4))); do blocks="$blocks /block"; done
        cat $blocks
    }
    right() { [ "$(md5sum < $1)" = "$(pattern $2 | md5sum)" ] && echo right || echo wrong; }
    driver=/sys/bus/virtio/drivers/virtio_balloon
    balloon=$(basename $driver/virtio*)
    mkdir /fill && mount -t tmpfs -o size=1G fill /fill
"#;

/// What a guest prints at a step: MemTotal and MemFree in MiB, and the pages that it put into its balloon and took out since its start.
struct Step {
    total: u64,
    free: u64,
    inflated: u64,
    deflated: u64,
}

/// The step at which the guest is.
fn step(machine: &mut Stepped, name: &str) -> Step {
    let line = machine.line();
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{line}"));
    assert_eq!((words[0], words.len()), (name, 5), "{line}");
    Step { total: number(1), free: number(2), inflated: number(3), deflated: number(4) }
}

/// A machine with these options, whose guest runs `script`.
fn start(options: &str, script: &str) -> Stepped {
    Stepped::start(&format!("--camera none {options}"), &format!("{PRELUDE}{script}"))
}

fn counter(report: &Report, name: &str) -> u64 {
    report.counter(&format!("balloon0.{name}")).unwrap_or_else(|| panic!("no {name}: {:?}", report.devices))
}

/// A balloon of 48 MiB. MemTotal follows, as the guest may not take pages back by itself.
fn memory_leaves_the_host_and_comes_back() {
    const SIZE: u64 = 48;
    let script = format!(
        "until [ $(events inflate) = {0} ]; do usleep 20000; done
         at first
         echo $balloon > $driver/unbind
         pattern 16 > /fill/kept; pattern 80 > /fill/file; rm /fill/file
         at touched
         echo $balloon > $driver/bind
         until [ $(events inflate) = $((2 * {0})) ]; do usleep 20000; done
         at inflated
         right /fill/kept 16
         echo $balloon > $driver/unbind
         at deflated
         pattern 80 > /fill/file; right /fill/file 80; right /fill/kept 16
         at again",
        SIZE * PAGES
    );
    let options = "--memory 160M --device balloon,size=48M,deflate-on-oom=no,reporting=no,statistics=1";
    let mut machine = start(options, &script);
    let mut steps = Vec::new();
    let mut words = Vec::new();
    for (name, before) in [("first", 0), ("touched", 0), ("inflated", 0), ("deflated", 1), ("again", 2)] {
        words.extend((0..before).map(|_| machine.line()));
        steps.push((step(&mut machine, name), machine.resident()));
        machine.go_on();
    }
    assert_eq!(words, ["right"; 3]);
    let [(first, _), (touched, full), (inflated, less), (deflated, _), (_, again)] = &steps[..] else {
        unreachable!("there are five steps")
    };
    let pages = |step: &Step| step.inflated - step.deflated;
    assert_eq!([first, touched, inflated, deflated].map(pages), [SIZE, 0, SIZE, 0].map(|size| size * PAGES));
    // Rounded to MiB.
    let near = |one: u64, other: u64| one.abs_diff(other) <= 1;
    assert!(near(touched.total, first.total + SIZE), "{} and {}", touched.total, first.total);
    assert!(near(inflated.total, first.total) && near(deflated.total, touched.total));
    assert!(inflated.free + SIZE / 2 < touched.free, "{} then {}", touched.free, inflated.free);
    // Some of the pages in the balloon had never been touched.
    assert!(less + SIZE / 2 < *full, "{full} MiB, then {less}");
    assert!(less + SIZE / 2 < *again, "{less} MiB, then {again}");
    let report = machine.end();
    assert_eq!(counter(&report, "refused"), 0);
    assert!(counter(&report, "inflated") >= 2 * SIZE * PAGES && counter(&report, "reported") == 0);
    assert!(counter(&report, "deflated") >= 2 * SIZE * PAGES);
    assert!(
        counter(&report, "statistics") > 1 && counter(&report, "minor_faults") > 0,
        "{:?}",
        report.devices
    );
}

/// Linux reports blocks of 4 MiB, two seconds after they are free, while it has 32 of them and more.
fn free_memory_is_reported() {
    let script = "pattern 200 > /fill/file; right /fill/file 200
        at full
        rm /fill/file
        at free
        pattern 200 > /fill/file; right /fill/file 200
        at again";
    let mut machine = start("--memory 512M --cma 128M --device balloon", script);
    assert_eq!(machine.line(), "right");
    step(&mut machine, "full");
    let full = machine.resident();
    assert!(full > 200, "{full} MiB");
    machine.go_on();
    step(&mut machine, "free");
    let begun = Instant::now();
    while machine.resident() + 150 > full {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} of {full} MiB stay", machine.resident());
        thread::sleep(Duration::from_millis(100));
    }
    machine.go_on();
    assert_eq!(machine.line(), "right");
    step(&mut machine, "again");
    assert!(machine.resident() > 200, "{} MiB", machine.resident());
    machine.go_on();
    let report = machine.end();
    assert!(counter(&report, "reported") > 150 * PAGES, "{:?}", report.devices);
    assert_eq!((counter(&report, "inflated"), counter(&report, "refused")), (0, 0));
}

fn the_guest_takes_memory_back_before_it_kills() {
    let script = format!(
        "until [ $(events inflate) = {} ]; do usleep 20000; done
         at inflated
         pattern 100 > /fill/file; right /fill/file 100
         at filled
         dmesg | grep -c 'Out of memory'; true",
        140 * PAGES
    );
    let mut machine = start("--memory 256M --device balloon,size=140M,reporting=no", &script);
    let inflated = step(&mut machine, "inflated");
    machine.go_on();
    assert!(inflated.free < 100 && inflated.deflated == 0, "{} MiB", inflated.free);
    assert!(inflated.total > 200, "MemTotal does not follow");
    assert_eq!(machine.line(), "right");
    let filled = step(&mut machine, "filled");
    machine.go_on();
    assert!(filled.deflated > PAGES, "{} pages", filled.deflated);
    assert_eq!(machine.line(), "0");
    let report = machine.end();
    assert!(counter(&report, "deflated") >= filled.deflated, "{:?}", report.devices);
}

fn the_size_changes_while_the_guest_runs() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api");
    let pages = 64 * PAGES;
    let script = format!(
        "at idle
         until [ $(events inflate) = {pages} ]; do usleep 20000; done
         at grown
         until [ $(events deflate) = {0} ]; do usleep 20000; done
         at shrunk",
        pages / 2
    );
    let options = format!("--memory 256M --device balloon,reporting=no --api-socket {}", socket.display());
    let mut machine = start(&options, &script);
    let set = |words: &[&str]| {
        let output =
            guest::run(Command::new(guest::minivmm()).arg("ctl").arg(&socket).arg("set").args(words));
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(step(&mut machine, "idle").inflated, 0);
    for (words, part) in [
        (&["balloon0", "size=256M"][..], "takes all 268435456 bytes of guest memory"),
        (&["balloon0", "size=much"], "the balloon's size cannot be 'much'"),
        (&["balloon0", "reporting=yes"], "'reporting' is not one of the keys of balloon0 that can change"),
        (&["balloon1", "size=1M"], "'balloon1' is not one of the machine's devices; they are balloon0"),
        (&["balloon0"], "set needs ID KEY=VALUE"),
    ] {
        let (status, errors) = set(words);
        assert!(status != Some(0) && errors.contains(part), "{words:?}: {errors}");
    }
    for (size, name) in [("size=64M", "grown"), ("size=32M", "shrunk")] {
        assert_eq!(set(&["balloon0", size]), (Some(0), String::new()));
        machine.go_on();
        step(&mut machine, name);
    }
    machine.go_on();
    let report = machine.end();
    assert!(counter(&report, "inflated") >= pages && counter(&report, "deflated") >= pages / 2);
}

fn a_balloon_is_smaller_than_memory() {
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--camera", "none", "--memory", "256M", "--device", "balloon,size=256M"]);
    let output = guest::run(&mut minivmm);
    let errors = text(&output.stderr);
    let expected = "a balloon of 268435456 bytes takes all 268435456 bytes of guest memory";
    assert!(errors.contains(expected) && output.status.code() == Some(2), "{errors}");
}
