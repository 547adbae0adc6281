//! The verdict on a run: compares its evidence with the expectations of the experiment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    expect::{Expect, Frames},
    run::{Evidence, Looked},
    values::Count,
};
use crate::observe::{report::MachineOutcome, words::counted};

/// Texts that no run's kernel log may have. The kernel's reports of bugs in itself and in drivers begin with one of them: BUG,
/// WARN and oops, and those of KASAN, lockdep, kmemleak, UBSAN, DMA_API_DEBUG and of hung tasks.
const NEVER: &[&str] = &[
    "WARNING: ",
    "BUG: ",
    "Oops: ",
    "UBSAN: ",
    "DMA-API: device driver",
    "unreferenced object",
    "possible circular locking",
    "INFO: task",
];

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The expectations that do not hold. Without any the run has passed.
    pub complaints: Vec<Complaint>,
}

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Complaint {
    /// Its name in the file, as `fired` or `log`; `end` if the machine did not end by itself.
    pub expectation: String,
    /// A sentence with the evidence against it.
    pub text: String,
}

impl Verdict {
    /// Whether all expectations hold.
    pub fn passed(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// Judges a run.
pub fn judge(expect: &Expect, evidence: &Evidence) -> Verdict {
    let mut judge = Judge { expect, evidence, complaints: Vec::new() };
    judge.end();
    judge.fired();
    judge.texts();
    judge.flagged();
    judge.counters();
    if let Some(frames) = &expect.frames {
        match &evidence.frames {
            Some(looked) => judge.frames(frames, looked),
            None => judge.complain("frames", format!("there is no file /out/{}", frames.file)),
        }
    }
    Verdict { complaints: judge.complaints }
}

/// A run on its way to a verdict.
struct Judge<'a> {
    expect: &'a Expect,
    evidence: &'a Evidence,
    complaints: Vec<Complaint>,
}

impl Judge<'_> {
    fn complain(&mut self, expectation: &str, text: String) {
        self.complaints.push(Complaint { expectation: expectation.to_owned(), text });
    }

    /// How minivmm, the machine and the workload ended.
    fn end(&mut self) {
        let (expect, evidence) = (self.expect, self.evidence);
        if evidence.status.is_none() {
            return self.complain("end", "the run reached its timeout and was ended".to_owned());
        }
        let Some(report) = &evidence.report else {
            let last = evidence.output.lines().last().unwrap_or("minivmm printed nothing");
            return self.complain("end", format!("the machine left no report: {last}"));
        };
        let outcome = serde_json::to_value(&report.outcome).unwrap_or_default();
        if !expect.end.iter().any(|end| outcome["kind"] == **end) {
            let ends = expect.end.join(" or ");
            self.complain("end", format!("the machine's end is {outcome} instead of {ends}"));
        }
        if let MachineOutcome::Exit { status } = &report.outcome
            && *status != expect.exit
        {
            self.complain("exit", format!("the workload ended with {status} instead of {}", expect.exit));
        }
    }

    /// How often each rule fired.
    fn fired(&mut self) {
        let trace = self.evidence.report.as_ref().and_then(|report| report.faults.as_ref());
        let more = trace.map_or(0, |trace| trace.more);
        for (rule, count) in &self.expect.fired {
            let firings = self.evidence.firings().iter();
            let fired = firings.filter(|firing| firing.rule == *rule).count() as u64;
            // The firings that found no room on record may be any rule's.
            if *count.end() < fired || fired + more < *count.start() {
                self.complain(
                    "fired",
                    format!("the rule '{rule}' fired {} instead of {}", counted(fired, "time"), shown(count)),
                );
            }
        }
    }

    /// The kernel's log, and the workload's output.
    fn texts(&mut self) {
        let (expect, evidence) = (self.expect, self.evidence);
        for (name, text, patterns) in
            [("log", &evidence.log, &expect.log), ("output", &evidence.output, &expect.output)]
        {
            for pattern in patterns.iter().filter(|pattern| !text.contains(pattern.as_str())) {
                self.complain(name, format!("'{pattern}' is not in the {name}"));
            }
        }
        let allowed = |line: &&str| expect.log_allowed.iter().any(|pattern| line.contains(pattern.as_str()));
        for pattern in NEVER {
            // The kernel's messages after the workload's end are on the console alone.
            let mut all = evidence.log.lines().chain(evidence.console.lines());
            if let Some(line) = all.find(|line| line.contains(pattern) && !allowed(line)) {
                self.complain("log-not", format!("the log has: {}", line.trim()));
            }
        }
        for (name, noun, text, patterns) in [
            ("log-not", "log", &evidence.log, &expect.log_not),
            ("output-not", "output", &evidence.output, &expect.output_not),
        ] {
            for pattern in patterns {
                if let Some(line) = text.lines().find(|line| line.contains(pattern.as_str())) {
                    self.complain(name, format!("the {noun} has: {}", line.trim()));
                }
            }
        }
    }

    /// Buffers with the error flag.
    fn flagged(&mut self) {
        let Some(count) = &self.expect.flagged else { return };
        let flagged = self.evidence.output.lines().filter(|line| line.contains("(error")).count() as u64;
        if !count.contains(&flagged) {
            self.complain(
                "flagged",
                format!("the number of buffers with the error flag is {flagged} instead of {}", shown(count)),
            );
        }
    }

    /// Counters of devices.
    fn counters(&mut self) {
        let report = self.evidence.report.as_ref();
        for (path, count) in &self.expect.counters {
            let found = report.and_then(|report| report.counter(path));
            if found.is_none_or(|found| !count.contains(&found)) {
                let found = found.map_or("missing".to_owned(), |found| found.to_string());
                self.complain("counters", format!("{path} is {found} instead of {}", shown(count)));
            }
        }
    }

    /// The file of frames that the run left.
    fn frames(&mut self, frames: &Frames, looked: &Looked) {
        if let Some(count) = frames.count.as_ref().filter(|count| !count.contains(&looked.count)) {
            self.complain(
                "frames",
                format!("the number of frames is {} instead of {}", looked.count, shown(count)),
            );
        }
        let bad = looked.bad.len() as u64;
        if !frames.bad.contains(&bad) {
            let first = looked.bad.first().map_or(String::new(), |(index, why)| {
                format!("; the first is frame {index} of the file: {why}")
            });
            self.complain(
                "frames",
                format!("the number of bad frames is {bad} instead of {}{first}", shown(&frames.bad)),
            );
        }
        if let Some(lost) = frames.lost.as_ref().filter(|lost| !lost.contains(&looked.lost)) {
            self.complain(
                "frames",
                format!("the number of lost frames is {} instead of {}", looked.lost, shown(lost)),
            );
        }
        let last = self.evidence.firings().iter().filter_map(|firing| firing.frame).max();
        if let (Some(within), Some(last)) = (frames.recovery, last) {
            let next = looked.good.iter().find(|sequence| **sequence > last);
            let after = next.map(|next| u64::from(next - last));
            if after.is_none_or(|after| after > within) {
                let found = match after {
                    Some(after) => format!("comes {} later", counted(after, "frame")),
                    None => "does not come".to_owned(),
                };
                self.complain(
                    "frames",
                    format!("after the last fault, at frame {last}, the next good frame {found}"),
                );
            }
        }
    }
}

fn shown(count: &Count) -> String {
    match (*count.start(), *count.end()) {
        (least, most) if least == most => least.to_string(),
        (least, u64::MAX) => format!("at least {least}"),
        (least, most) => format!("{least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use devices::{
        faults::{Action, Firing, Trace},
        media::Layout,
    };

    use super::*;
    use crate::observe::{
        exit_status::{ExitStatus, Reason},
        report::{DeviceReport, FORMAT_VERSION, Report},
    };

    fn evidence() -> Evidence {
        let firing = Firing {
            device: Some("grabber0".into()),
            window: None,
            frame: Some(3),
            on: "frame.dma".into(),
            rule: "r".into(),
            event: 4,
            channel: Some(0),
            register: None,
            accessed: None,
            action: Action::new("overflow", None),
            address: None,
            changes: Vec::new(),
        };
        let device = |id: &str, overflows| {
            DeviceReport::new(id.to_owned(), "grabber", [("drops", 0), ("overflows", overflows)])
        };
        let report = Report {
            sandbox: None,
            format_version: FORMAT_VERSION,
            version: String::new(),
            arguments: Vec::new(),
            outcome: MachineOutcome::Exit { status: 0 },
            exit: ExitStatus::new(Reason::Guest(0), true),
            seconds_to_boot_mark: None,
            seconds: 1.0,
            memory: 1 << 30,
            overhead_at_boot_mark: None,
            overhead_at_end: 0,
            windows: Vec::new(),
            guest_windows: None,
            devices: vec![device("grabber0", 1), device("grabber1", 5)],
            out: None,
            faults: Some(Trace {
                plan: String::new(),
                seed: 1,
                firings: vec![firing],
                more: 0,
                more_changes: 0,
            }),
            memory_dump: None,
            boot_failure: None,
            last_console_lines: Vec::new(),
        };
        Evidence {
            status: Some(std::process::ExitStatus::from_raw(0)),
            report: Some(report),
            output: "seq: 2\nseq: 3 (error, ts-monotonic)\n10 frames\n".into(),
            log: "[1.0] line buffer overflow\n".into(),
            console: "init\n".into(),
            frames: Some(Looked { count: 4, bad: vec![(3, "torn".into())], lost: 2, good: vec![0, 1, 2, 5] }),
            seconds: 1.0,
        }
    }

    fn complaints(expect: &Expect, evidence: &Evidence) -> Vec<String> {
        judge(expect, evidence).complaints.into_iter().map(|complaint| complaint.text).collect()
    }

    fn expect() -> Expect {
        Expect {
            end: vec!["exit".into()],
            fired: [("r".to_owned(), 1..=1)].into(),
            log: vec!["overflow".into()],
            output: vec!["10 frames".into()],
            flagged: Some(1..=1),
            counters: [("grabber0.overflows".to_owned(), 1..=1), ("grabber1.overflows".to_owned(), 2..=9)]
                .into(),
            frames: Some(Frames {
                file: "f".into(),
                layout: Layout::new(u32::from_le_bytes(*b"GREY"), 160, 120).unwrap(),
                count: Some(4..=4),
                bad: 1..=1,
                lost: Some(1..=2),
                recovery: Some(2),
            }),
            ..Expect::default()
        }
    }

    #[test]
    fn what_is_as_it_is_to_be_passes() {
        assert_eq!(complaints(&expect(), &evidence()), [""; 0]);
    }

    #[test]
    fn each_expectation_can_fail() {
        type Change = fn(&mut Expect, &mut Evidence);
        let changes: [(Change, &str); 17] = [
            (|expect, _| expect.exit = 1, "the workload ended with 0 instead of 1"),
            (|_, evidence| evidence.status = None, "the run reached its timeout"),
            (
                |_, evidence| evidence.report.as_mut().unwrap().outcome = MachineOutcome::Panic,
                "the machine's end is {\"kind\":\"panic\"} instead of exit",
            ),
            (
                |expect, _| expect.end = vec!["panic".into(), "reset".into()],
                "the machine's end is {\"kind\":\"exit\",\"status\":0} instead of panic or reset",
            ),
            (
                |expect, _| expect.fired.extend([("s".to_owned(), 1..=u64::MAX)]),
                "the rule 's' fired 0 times instead of at least 1",
            ),
            (|_, evidence| evidence.log.clear(), "'overflow' is not in the log"),
            (|_, evidence| evidence.log += "[2.0] WARNING: CPU: 0", "the log has: [2.0] WARNING: CPU: 0"),
            (|expect, _| expect.output_not.push("seq".into()), "the output has: seq: 2"),
            (
                |expect, _| expect.flagged = Some(0..=0),
                "the number of buffers with the error flag is 1 instead of 0",
            ),
            (
                |expect, _| expect.counters.extend([("grabber0.drops".to_owned(), 1..=2)]),
                "grabber0.drops is 0 instead of 1 to 2",
            ),
            (
                |expect, _| expect.counters.extend([("grabber1.overflows".to_owned(), 1..=1)]),
                "grabber1.overflows is 5 instead of 1",
            ),
            (
                |expect, _| expect.counters.extend([("grabber2.drops".to_owned(), 0..=0)]),
                "grabber2.drops is missing instead of 0",
            ),
            (|_, evidence| evidence.console += "[9.0] BUG: KASAN", "the log has: [9.0] BUG: KASAN"),
            (
                |expect, _| expect.frames.as_mut().unwrap().lost = Some(0..=1),
                "the number of lost frames is 2 instead of 0 to 1",
            ),
            (|_, evidence| evidence.frames = None, "there is no file /out/f"),
            (
                |expect, _| expect.frames.as_mut().unwrap().bad = 0..=0,
                "the number of bad frames is 1 instead of 0; the first is frame 3",
            ),
            (
                |expect, _| expect.frames.as_mut().unwrap().recovery = Some(1),
                "after the last fault, at frame 3, the next good frame comes 2 frames later",
            ),
        ];
        for (change, says) in changes {
            let (mut expect, mut evidence) = (expect(), evidence());
            change(&mut expect, &mut evidence);
            let complaints = complaints(&expect, &evidence);
            assert!(complaints.len() == 1 && complaints[0].starts_with(says), "{says}: {complaints:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_no_complaint() {
        let (mut expect, mut evidence) = (expect(), evidence());
        evidence.log += "[2.0] WARNING: CPU: 0 at videobuf2\n";
        expect.log_allowed.push("at videobuf2".into());
        assert_eq!(complaints(&expect, &evidence), [""; 0]);
        evidence.log += "[2.0] WARNING: CPU: 0 at driver\n";
        assert_eq!(complaints(&expect, &evidence), ["the log has: [2.0] WARNING: CPU: 0 at driver"]);
    }

    #[test]
    fn firings_without_room_on_record_may_be_any_rules() {
        let (mut expect, mut evidence) = (expect(), evidence());
        expect.fired.insert("r".to_owned(), 5..=u64::MAX);
        evidence.report.as_mut().unwrap().faults.as_mut().unwrap().more = 3;
        assert_eq!(complaints(&expect, &evidence), ["the rule 'r' fired 1 time instead of at least 5"]);
        evidence.report.as_mut().unwrap().faults.as_mut().unwrap().more = 4;
        assert_eq!(complaints(&expect, &evidence), [""; 0]);
    }
}
