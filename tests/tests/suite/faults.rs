//! Tests that boot Linux with a plan of faults, and check the reaction of the driver.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use devices::{faults::Trace, media::Layout};
use guest_images::Kind;
use tests::{
    guest::{self, exec, printed, text},
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::observe::{
    frames::{self, Checked},
    report::Report,
};

/// The tests.
pub(crate) fn group() -> Group {
    // These depend on no architecture: they test the devices and the portable part of our driver.
    let same = tests![
        what_nobody_tells_of_is_in_the_frame,
        a_trace_is_the_plans_and_the_seeds,
        a_report_is_replayed,
        rules_come_while_a_machine_runs,
        frames_are_stepped_and_a_timeline_has_them,
        a_device_that_hangs_is_reset,
    ];
    Group {
        name: "faults",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![an_error_costs_a_buffer_and_no_more, a_lost_interrupt_is_caught_up_with,]
            .into_iter()
            .chain(same.into_iter().map(Test::the_same_everywhere))
            .collect(),
    }
}

/// The results of a run.
struct Ran {
    trace: Trace,
    /// The frames that `v4l2-ctl` wrote, if it wrote any.
    frames: Option<Checked>,
    /// The output of the guest: that of `v4l2-ctl --verbose`, and the kernel's messages.
    printed: String,
}

/// Runs `script` in a guest whose camera has this plan. It checks the GREY frames of 320x240 in /out/frames.
fn run(plan: &str, script: &str) -> Ran {
    run_with_seed(7, plan, script)
}

fn run_with_seed(seed: u64, plan: &str, script: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("plan.toml"), plan).unwrap();
    let arguments = format!(
        "--cma 16M --camera timing=stall,scene=gradient --seed {seed} --faults {} --out {} --report {}",
        path("plan.toml").display(),
        path("out").display(),
        path("report.json").display()
    );
    let output = exec(&arguments, script);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let report: Report = serde_json::from_slice(&fs::read(path("report.json")).unwrap()).unwrap();
    let layout = Layout::new(u32::from_le_bytes(*b"GREY"), 320, 240).unwrap();
    let file = path("out/frames");
    let frames = file.exists().then(|| frames::check_file(&file, &layout).unwrap());
    Ran { trace: report.faults.unwrap(), frames, printed: text(&output.stdout) }
}

fn rule(rest: &str) -> String {
    format!("[[rule]]\nname = \"rule\"\nwhen = {{ frames = [3, 3] }}\n{rest}\n")
}

/// The number of frames that [`STREAM`] takes.
const FRAMES: u32 = 10;

/// In the guest: streams ten frames.
const STREAM: &str = "v4l2-ctl -v width=320,height=240,pixelformat=GREY --stream-mmap=4 --stream-count=10 \
                      --stream-to=/out/frames --verbose 2>&1 && dmesg";

fn an_error_costs_a_buffer_and_no_more() {
    for (action, message) in [
        ("on = \"frame.dma\"\naction = \"overflow\"", "line buffer overflow"),
        ("on = \"frame.dma\"\naction = \"bus-error\"", "bus error at"),
        ("on = \"sensor.link\"\naction = \"link-loss\"\nframes = 1", "sensor link lost"),
    ] {
        let Ran { trace, printed, .. } = run(&rule(action), STREAM);
        assert_eq!((trace.firings.len(), trace.firings[0].frame), (1, Some(3)), "{trace:?}");
        assert_eq!(printed.matches(message).count(), 1, "{printed}");
        let flagged: Vec<&str> = printed.lines().filter(|line| line.contains("(error")).collect();
        assert!(flagged.len() == 1 && flagged[0].contains("seq:      3"), "{flagged:?} in {printed}");
    }
}

fn what_nobody_tells_of_is_in_the_frame() {
    for (action, bad) in [
        ("action = \"flip\"\nbits = 1", 1),
        ("action = \"torn\"\nlines = 100", 1),
        // Its number is wrong, and the next frame does not follow it.
        ("action = \"duplicate\"", 2),
    ] {
        let Ran { trace, frames, printed } = run(&rule(&format!("on = \"frame.dma\"\n{action}")), STREAM);
        assert_eq!(trace.firings.len(), 1, "{trace:?}");
        let frames = frames.unwrap();
        assert_eq!((frames.frames, frames.bad.len()), (10, bad), "{action}: {frames:?}");
        assert!(!printed.contains("(error"), "{printed}");
    }
}

/// The next event of the device raises the line again, and the driver handles all events.
fn a_lost_interrupt_is_caught_up_with() {
    let Ran { trace, frames, .. } = run(&rule("on = \"irq\"\naction = \"lose\""), STREAM);
    assert_eq!(trace.firings.len(), 1);
    let frames = frames.unwrap();
    assert!(frames.frames == 10 && frames.bad.is_empty(), "{frames:?}");
}

fn a_device_that_hangs_is_reset() {
    let actions = if Extent::asked() == Extent::Thorough { &["stuck", "reset"][..] } else { &["stuck"] };
    for action in actions {
        let Ran { trace, frames, printed } = run(
            &(rule(&format!("on = \"frame.start\"\naction = \"{action}\"")) + "times = 1\n"),
            &format!("timeout 3 v4l2-ctl --stream-mmap=4 --stream-count=10 > /dev/null 2>&1; {STREAM}"),
        );
        assert_eq!(trace.firings.len(), 1, "{action}");
        assert!(printed.contains("no end of the frame in work, resetting"), "{action}: {printed}");
        let frames = frames.unwrap();
        assert!(frames.frames == 10 && frames.bad.is_empty(), "{action}: {frames:?}");
    }
}

/// `minivmm replay` of the report finds no difference.
fn a_report_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (plan, report) = (path("plan.toml"), path("report.json"));
    fs::write(
        &plan,
        "[[rule]]\nname = \"bits\"\non = \"frame.dma\"\naction = \"flip\"\nbits = 2\nwhen = { frames = [0, 9], probability = 0.9 }\n",
    )
    .unwrap();
    // Without --seed the report has the seed that was used.
    exec(&format!("--cma 16M --camera timing=stall --faults {plan} --report {report}"), STREAM);
    let replay = |file: &str| guest::run(Command::new(guest::minivmm()).args(["replay", file]));
    let said = printed(&replay(&report));
    assert!(said.lines().last().is_some_and(|line| line.starts_with("the same ")), "{said}");
    // One fault is missing.
    let mut changed: Report = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    changed.faults.as_mut().unwrap().firings.pop();
    fs::write(&report, serde_json::to_vec(&changed).unwrap()).unwrap();
    let differs = replay(&report);
    assert!(
        differs.status.code() == Some(1) && text(&differs.stdout).contains(" differs: it was nothing"),
        "{differs:?}"
    );
}

/// Each run has a guest of its own, whose CPU and camera run concurrently.
fn a_trace_is_the_plans_and_the_seeds() {
    let plan = "[[rule]]\nname = \"bits\"\non = \"frame.dma\"\naction = \"flip\"\nbits = 2\nwhen = { probability = 0.3 }\n\
                [[rule]]\nname = \"edges\"\non = \"irq\"\naction = \"lose\"\nwhen = { probability = 0.2 }\n";
    let firings = |seed| {
        let mut firings = run_with_seed(seed, plan, STREAM).trace.firings;
        // How many more frames begin before the program has stopped depends on its speed.
        firings.retain(|firing| firing.frame < Some(FRAMES));
        serde_json::to_string(&firings).unwrap()
    };
    let first = firings(7);
    assert!(first.contains("\"bits\"") && first.contains("\"edges\""), "{first}");
    let runs = if Extent::asked() == Extent::Thorough { 20 } else { 2 };
    for _ in 1..runs {
        assert_eq!(firings(7), first);
    }
    assert_ne!(firings(8), first);
}

fn ctl(socket: &Path, words: &[&str]) -> Output {
    guest::run(Command::new(guest::minivmm()).arg("ctl").arg(socket).args(words))
}

/// Waits until `is_so` returns true, while `machine` runs.
#[track_caller]
fn wait_for(what: &str, machine: &thread::JoinHandle<Output>, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < guest::LIMIT && !machine.is_finished(), "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// `minivmm ctl` triggers a rule that never fires by itself; the guest sees the effect; `ctl` removes the rule.
fn rules_come_while_a_machine_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (socket, report, plan) = (path("socket"), path("report.json"), path("plan.toml"));
    let rule =
        "[[rule]]\nname = \"later\"\non = \"frame.dma\"\naction = \"overflow\"\nwhen = { nth = 1000000 }\n";
    fs::write(&plan, rule).unwrap();
    let arguments = format!(
        "--cma 16M --camera timing=stall --api-socket {} --report {}",
        socket.display(),
        report.display()
    );
    let machine = thread::spawn(move || {
        exec(
            &arguments,
            "until dmesg | grep 'line buffer overflow'; do
                v4l2-ctl --stream-mmap=3 --stream-count=20 > /dev/null 2>&1
            done",
        )
    });
    wait_for("there is no socket", &machine, || socket.exists());
    let plan = plan.display().to_string();
    assert_eq!(printed(&ctl(&socket, &["faults", "list"])), "no rules\n");
    printed(&ctl(&socket, &["faults", "add", &plan]));
    let twice = ctl(&socket, &["faults", "add", &plan]);
    assert!(
        twice.status.code() == Some(1) && text(&twice.stderr).contains("there is already a rule 'later'")
    );
    let unknown = ctl(&socket, &["faults", "trigger", "sooner"]);
    assert!(text(&unknown.stderr).contains("there is no rule 'sooner'; the rules are: later"), "{unknown:?}");
    printed(&ctl(&socket, &["faults", "trigger", "later"]));
    let output = machine.join().unwrap();
    assert!(printed(&output).contains("line buffer overflow"), "{output:?}");
    let report: Report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let trace = report.faults.as_ref().unwrap();
    assert!(trace.plan.contains("name = \"later\"") && trace.firings.len() == 1, "{trace:?}");
    assert_eq!(report.counter("camera0.overflows"), Some(1));
}

/// The guest streams six frames: first none of them begins, then two, then all.
fn frames_are_stepped_and_a_timeline_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (socket, timeline, plan) = (path("socket"), path("timeline.json"), path("plan.toml"));
    fs::write(&plan, rule("on = \"irq\"\naction = \"duplicate\"")).unwrap();
    let arguments = format!(
        "--cma 16M --camera timing=stall --api-socket {} --timeline {} --faults {}",
        socket.display(),
        timeline.display(),
        plan.display()
    );
    let machine = thread::spawn(move || {
        exec(
            &arguments,
            "name=$(grep -l minivmm.control /sys/class/virtio-ports/*/name)
            echo 'mark streaming' > /dev/$(basename ${name%/name})
            v4l2-ctl --stream-mmap=3 --stream-count=6 2>&1",
        )
    });
    wait_for("there is no socket", &machine, || socket.exists());
    printed(&ctl(&socket, &["frames", "pause"]));
    let frames = || {
        let answer: serde_json::Value =
            serde_json::from_slice(&ctl(&socket, &["devices", "--device", "camera0", "--json"]).stdout)
                .unwrap();
        answer["devices"][0]["counters"]["frames"].as_u64().unwrap()
    };
    let is_booted = || printed(&ctl(&socket, &["status"])).contains("booted after");
    wait_for("it did not boot", &machine, is_booted);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(frames(), 0);
    printed(&ctl(&socket, &["frames", "step", "2"]));
    wait_for("no two frames came", &machine, || frames() == 2);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(frames(), 2);
    printed(&ctl(&socket, &["frames", "resume"]));
    printed(&machine.join().unwrap());

    let timeline: serde_json::Value = serde_json::from_slice(&fs::read(timeline).unwrap()).unwrap();
    let events = timeline["traceEvents"].as_array().unwrap();
    let named = |kind: &str, name: &str| -> Vec<f64> {
        let is_its = |event: &&serde_json::Value| event["ph"] == kind && event["name"] == name;
        events.iter().filter(is_its).map(|event| event["ts"].as_f64().unwrap()).collect()
    };
    for frame in 0..6 {
        assert_eq!(named("X", &format!("frame {frame}")).len(), 1, "frame {frame} in {events:?}");
    }
    assert!(named("i", "interrupt").len() > 6);
    let (mark, first, rule) = (named("i", "streaming")[0], named("X", "frame 0")[0], named("i", "rule")[0]);
    assert!(mark < first && first < rule, "{mark} {first} {rule}");
    // A second passed between the second and the third.
    assert!(named("X", "frame 2")[0] - named("X", "frame 1")[0] > 1e6);
}
