//! Tests that boot Linux with the DMA engine msgdma: the kernel's own driver altera-msgdma, and dmatest, the kernel's test of DMA
//! engines.

use std::fs;

use devices::faults::{Change, Trace};
use guest_images::Kind;
use tests::{
    guest::{exec, text},
    harness::{Group, Place},
    tests,
};
use vmm::observe::report::Report;

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "msgdma",
        place: Place::Linux(vec![Kind::DEFAULT]),
        tests: tests![
            a_thousand_copies_are_right,
            two_engines_without_responses_are_right,
            flipped_bits_are_the_errors_that_dmatest_finds,
            a_lost_interrupt_is_a_timeout,
            a_bus_error_stops_the_engine,
        ],
    }
}

/// A script that runs dmatest with options, and prints the kernel log. dmatest's option `wait` does not wait for threads that
/// have not started yet, so the script reads the end of all threads from the log.
const DMATEST: &str = r#"
    count() {
        dmesg | grep -c "dmatest: $1"
    }
    dmatest() {
        modprobe altera-msgdma && modprobe dmatest "$@" run=1 || return
        until [ $(count 'dma.*: summary') = $(count Started) ]; do usleep 20000; done
    }
    unload() {
        rmmod dmatest altera_msgdma
    }
    lines() {
        echo interrupts: $(grep dma-controller /proc/interrupts)
        dmesg
    }
"#;

/// The results of a machine.
struct Ran {
    report: Report,
    /// The output of the guest: its interrupts, and the kernel log.
    printed: String,
}

impl Ran {
    fn counter(&self, path: &str) -> u64 {
        self.report.counter(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    fn trace(&self) -> &Trace {
        self.report.faults.as_ref().expect("there was a plan")
    }

    /// dmatest's summaries: tests and failures.
    fn summaries(&self) -> Vec<(u32, u32)> {
        let summary = |line: &str| {
            let (tests, rest) = line.split_once(": summary ")?.1.split_once(" tests, ")?;
            Some((tests.parse().ok()?, rest.split_once(" failures")?.0.parse().ok()?))
        };
        self.printed.lines().filter_map(summary).collect()
    }

    /// The failures in dmatest's results: the number of the test, the message, and the value in parentheses.
    fn results(&self) -> Vec<(u32, &str, u32)> {
        let result = |line: &'_ str| -> Option<(u32, usize, usize, u32)> {
            let (number, rest) = line.split_once(": result #")?.1.split_once(": '")?;
            let what = rest.split_once('\'')?.0;
            let value = rest.rsplit_once('(')?.1.trim_end_matches(')');
            let start = what.as_ptr() as usize - self.printed.as_ptr() as usize;
            Some((number.parse().ok()?, start, start + what.len(), value.parse().ok()?))
        };
        let all = self.printed.lines().filter_map(result);
        all.map(|(number, start, end, value)| (number, &self.printed[start..end], value)).collect()
    }
}

/// Runs `script` in a machine with these options, and with this plan unless it is empty.
#[track_caller]
fn run(options: &str, plan: &str, script: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut arguments = format!("{options} --seed 7 --report {}", path("report.json").display());
    if !plan.is_empty() {
        fs::write(path("plan.toml"), plan).unwrap();
        arguments += &format!(" --faults {}", path("plan.toml").display());
    }
    let output = exec(&arguments, &format!("{DMATEST}{script}; lines"));
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}{}", text(&output.stderr));
    for bad in ["WARNING:", "BUG:", "Oops", "nobody cared"] {
        assert!(!printed.contains(bad), "{printed}");
    }
    Ran { report: serde_json::from_slice(&fs::read(path("report.json")).unwrap()).unwrap(), printed }
}

fn a_thousand_copies_are_right() {
    let ran = run("--device msgdma", "", "dmatest iterations=1000");
    assert_eq!(ran.summaries(), [(1000, 0)], "{}", ran.printed);
    // The driver takes the interrupt as level-triggered: "fasteoi" of the I/O APIC, "Level" of the GIC.
    let line = ran.printed.lines().find(|line| line.starts_with("interrupts: ")).unwrap();
    assert!(line.contains("-fasteoi") || line.contains(" Level "), "{line}");
    let count: u64 = line.split_whitespace().nth(2).and_then(|count| count.parse().ok()).unwrap();
    assert_eq!((count, ran.counter("msgdma0.irqs")), (1000, 1000), "{line}");
    assert_eq!((ran.counter("msgdma0.descriptors"), ran.counter("msgdma0.responses")), (1000, 1000));
    assert_eq!((ran.counter("msgdma0.resets"), ran.counter("msgdma0.fifo_overflows")), (1, 0));
}

fn two_engines_without_responses_are_right() {
    let machine = "--device msgdma,response=no --device msgdma,response=no,descriptors=8";
    let ran = run(machine, "", "dmatest iterations=100");
    assert_eq!(ran.summaries(), [(100, 0), (100, 0)], "{}", ran.printed);
    assert_eq!(ran.printed.matches("optional resource resp not defined").count(), 2, "{}", ran.printed);
    for engine in ["msgdma0", "msgdma1"] {
        assert_eq!(ran.counter(&format!("{engine}.descriptors")), 100);
        assert_eq!(ran.counter(&format!("{engine}.responses")), 0);
    }
}

/// A plan of one rule.
fn plan(rule: &str) -> String {
    format!("[[rule]]\nname = \"rule\"\ndevice = \"msgdma0\"\n{rule}\n")
}

fn flipped_bits_are_the_errors_that_dmatest_finds() {
    let flip = plan("on = \"dma.write\"\naction = \"flip\"\nbits = 1\nwhen = { every = 100 }");
    let ran = run("--device msgdma", &flip, "dmatest iterations=300");
    let firings = &ran.trace().firings;
    assert!(firings.len() >= 3, "{firings:?}");
    let mut made: Vec<(u8, u8)> = Vec::new();
    for firing in firings {
        let [Change { before, after, .. }] = firing.changes[..] else { panic!("{firing:?}") };
        made.push((before, after));
    }
    let hexadecimal = |text: &str| u8::from_str_radix(text.get(..2)?, 16).ok();
    let found = ran.printed.lines().filter(|line| line.contains(": dstbuf[")).filter_map(|line| {
        let (expected, got) = line.split_once("Expected ")?.1.split_once(", got ")?;
        Some((hexadecimal(expected)?, hexadecimal(got)?))
    });
    assert_eq!(found.collect::<Vec<_>>(), made, "{}", ran.printed);
    let failures = u32::try_from(firings.len()).unwrap();
    assert_eq!(ran.summaries(), [(300, failures)], "{}", ran.printed);
    assert!(ran.results().iter().all(|(_, what, errors)| *what == "data error" && *errors == 1));
}

fn a_lost_interrupt_is_a_timeout() {
    let lose = plan("on = \"irq\"\naction = \"lose\"\nwhen = { nth = 5 }");
    // The driver considers the engine busy until an interrupt comes, and starts no further copy. When it is loaded again, it
    // resets the engine.
    let script = "dmatest iterations=8 timeout=200; unload; dmatest iterations=8";
    let ran = run("--device msgdma", &lose, script);
    assert_eq!(ran.trace().firings.len(), 1);
    let timeouts: Vec<_> = (5..=8).map(|number| (number, "test timed out", 0)).collect();
    assert_eq!(ran.results(), timeouts, "{}", ran.printed);
    assert_eq!(ran.summaries(), [(8, 4), (8, 0)], "{}", ran.printed);
    assert_eq!((ran.counter("msgdma0.descriptors"), ran.counter("msgdma0.irqs")), (13, 12));
    assert_eq!(ran.counter("msgdma0.resets"), 2);
}

fn a_bus_error_stops_the_engine() {
    let refuse = plan("on = \"dma.write\"\naction = \"bus-error\"\nwhen = { nth = 5 }");
    // Each copy is one write of the engine.
    let options = "iterations=8 timeout=200 transfer_size=64 norandom=1";
    let ran = run("--device msgdma", &refuse, &format!("dmatest {options}; unload; dmatest iterations=8"));
    assert_eq!(ran.trace().firings.len(), 1);
    let mut results = vec![(5, "data error", 64)];
    results.extend((6..=8).map(|number| (number, "test timed out", 0)));
    assert_eq!(ran.results(), results, "{}", ran.printed);
    assert_eq!(ran.summaries(), [(8, 4), (8, 0)], "{}", ran.printed);
    assert_eq!(ran.counter("msgdma0.bus_errors"), 1);
}
