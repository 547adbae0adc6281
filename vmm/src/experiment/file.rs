//! The file of an experiment: reads it, and reports a mistake with its place before a guest starts.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use devices::faults::{
    Plan, PlanError, Rule,
    fields::{Fields, Problem, kind},
    rules,
};
use toml::{Spanned, de::DeValue};

use super::{
    expect::{Expect, default_expectations, expectations},
    values::{list, pairs, unsigned},
};
use crate::boot::tree_faults::fault_tables;

/// The format of experiments, for `--help`.
pub const HELP: &str = r#"An experiment is a TOML file:
  name = "an overflow costs one buffer"
  machine = "--cma 16M --camera timing=stall"    # options of `minivmm run`
  workload = """v4l2-ctl --stream-mmap=4 --stream-count=10 --stream-to=/out/frames --verbose 2>&1"""
  seeds = [1, 2]                                 # one run for each, or { from = 1, count = 20 } [default: 1]
  timeout = 60                                   # seconds; a run that takes longer has failed [default: 120]
  [matrix]                                       # one run for each choice; {format} in a text of another field stands for
  format = ["GREY", "NV12"]                      # the value; "{lines}" alone is a number if the values are numbers
  [[rule]]                                       # the plan for fault injection, see devices/src/faults/FAULTS.md
  name = "overflow"
  on = "frame.dma"
  action = "overflow"
  when = { frames = [3, 3] }
  [expect]                                       # expectations; N is a number, or [LEAST, MOST]
  exit = 0                                       # the workload's exit status [default: 0]
  end = ["panic", "reset"]                       # how the machine may end, as in --report [default: exit]
  fired = { overflow = 1 }                       # how often each rule fired [default: at least once]
  log = ["line buffer overflow"]                 # texts that are in the guest's kernel log
  log-not = ["resetting"]                        # texts that are not in it; nor are warnings, BUG, Oops, KASAN, lockdep
  log-allowed = ["WARNING: CPU"]                 # of these, texts of lines that are allowed
  output = ["10 frames"]                         # texts that are in the workload's output; output-not = texts that are not
  flagged = 1                                    # buffers with the error flag, as v4l2-ctl --verbose prints them
  counters = { "camera0.overflows" = 1 }         # counters of devices, as in --report; overflows alone is camera0's
  frames = { file = "frames", format = "GREY", size = "320x240", count = 10, bad = 0, lost = 0, recovery = 1 }
                                                 # a file of frames in /out: the number of frames; of bad ones (torn, or
                                                 # out of order; default: 0); of missing ones; and the most frames from
                                                 # the last fault to the next good frame"#;

/// The most runs of an experiment.
const MOST_RUNS: u16 = 10_000;

/// An experiment: runs of a driver with faults, and expectations.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// The names of its matrix.
    pub matrix: Vec<String>,
    /// One run for each choice of the matrix and each seed; at least one.
    pub cases: Vec<Case>,
}

/// One run of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The choices that make it, for people and as the name of a folder: `format=GREY,seed=1`.
    pub name: String,
    /// Options of the machine, as words.
    pub machine: Vec<String>,
    /// The command in the guest.
    pub workload: String,
    /// The seed of the faults.
    pub seed: u64,
    /// The rules of the plan of faults.
    pub rules: Vec<Rule>,
    /// The expectations.
    pub expect: Expect,
    /// The time limit in seconds.
    pub timeout: u64,
}

/// Why a file is not an experiment.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("the experiment {} cannot be read: {source}; name a readable file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has a mistake.
    #[error("{}:{error}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The mistake and its place.
        error: PlanError,
    },
}

impl Experiment {
    /// Reads the file `path`. An entry of the matrix that `set` names has only the value from `set`, which may be a new one.
    ///
    /// # Errors
    /// If the file cannot be read, and its first mistake.
    pub fn open(path: PathBuf, set: &[(String, String)]) -> Result<Self, FileError> {
        match fs::read_to_string(&path) {
            Ok(text) => match Self::read(&text, set) {
                Ok(experiment) => Ok(Self { path, ..experiment }),
                Err(error) => Err(FileError::Wrong { error, path }),
            },
            Err(source) => Err(FileError::Read { path, source }),
        }
    }

    /// Reads the text of a file. The experiment has no path.
    ///
    /// # Errors
    /// The first mistake.
    pub fn read(text: &str, set: &[(String, String)]) -> Result<Self, PlanError> {
        read(text, set).map_err(|problem| problem.located(text))
    }
}

impl Case {
    /// Its plan of faults.
    pub fn plan(&self) -> Plan {
        Plan::of(self.rules.clone())
    }
}

/// An entry of the matrix with one of its values.
type Choice<'a> = (String, DeValue<'a>);

fn read<'a>(text: &'a str, set: &'a [(String, String)]) -> Result<Experiment, Problem> {
    let whole = || Fields::of_file("an experiment", text);
    let name = whole()?.needed_text("name")?.into_inner();
    let mut matrix = whole()?.take("matrix").map(matrix).transpose()?.unwrap_or_default();
    for (name, values) in &mut matrix {
        for (_, value) in set.iter().filter(|(set, _)| set == name.get_ref()) {
            *values = vec![Spanned::new(name.span(), set_value(value))];
        }
    }
    for (name, _) in &matrix {
        let braced = braced(name.get_ref());
        let mut others = whole()?;
        others.take("name");
        others.take("matrix");
        if !others.values().any(|value| mentions(value, &braced)) {
            return Err(Problem::new(
                name.span(),
                format!("no field uses {braced}; write it where the value belongs, or remove the choice"),
            ));
        }
    }
    let mut choices = vec![Vec::new()];
    for (name, values) in &matrix {
        choices = choices
            .iter()
            .flat_map(|choice| values.iter().map(|value| with(choice, name.get_ref(), value.get_ref())))
            .take(usize::from(MOST_RUNS) + 1)
            .collect();
    }
    let mut cases = Vec::new();
    for choice in choices {
        let mut fields = whole()?;
        fields.values_mut().for_each(|value| put(value, &choice));
        cases.extend(read_cases(fields, &choice)?);
        if cases.len() > usize::from(MOST_RUNS) {
            let span = whole()?.span;
            return Err(Problem::new(
                span,
                format!("the experiment has more than {MOST_RUNS} runs; use fewer seeds or choices"),
            ));
        }
    }
    let matrix = matrix.into_iter().map(|(name, _)| name.into_inner()).collect();
    Ok(Experiment { path: PathBuf::new(), name, matrix, cases })
}

/// A value from the command line: a whole number where it looks like one, else a text.
fn set_value(value: &str) -> DeValue<'_> {
    match DeValue::parse(value).map(Spanned::into_inner) {
        Ok(number @ DeValue::Integer(_)) => number,
        _ => DeValue::String(value.into()),
    }
}

/// `choice` with `value` for `name` in addition.
fn with<'a>(choice: &[Choice<'a>], name: &str, value: &DeValue<'a>) -> Vec<Choice<'a>> {
    [choice, &[(name.to_owned(), value.clone())]].concat()
}

/// The runs with this choice, whose values are in `fields` already.
fn read_cases(mut fields: Fields<'_>, choice: &[Choice<'_>]) -> Result<Vec<Case>, Problem> {
    // It is taken so that an error's list of fields has it.
    fields.take("name");
    let machine = fields.needed_text("machine")?.into_inner();
    let machine: Vec<String> = machine.split_whitespace().map(ToOwned::to_owned).collect();
    let workload = fields.needed_text("workload")?.into_inner();
    let seeds = fields.take("seeds").map_or(Ok(vec![1]), seeds)?;
    let timeout =
        fields.number("timeout", 1..86_401)?.map_or(120, |seconds| seconds.get_ref().unsigned_abs());
    fields.take("matrix");
    let rules = fields.take("rule").map_or(Ok(Vec::new()), |list| rules(list, &fault_tables()))?;
    let expect = fields.take("expect");
    fields.end()?;
    let expect = match expect {
        Some(value) => expectations(value, &rules)?,
        None => default_expectations(&rules),
    };
    let chosen: String = choice.iter().map(|(name, value)| format!("{name}={},", shown(value))).collect();
    let case = |seed| Case {
        name: format!("{chosen}seed={seed}"),
        machine: machine.clone(),
        workload: workload.clone(),
        seed,
        rules: rules.clone(),
        expect: expect.clone(),
        timeout,
    };
    Ok(seeds.into_iter().map(case).collect())
}

/// A value of the matrix as text.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(number) => number.to_string(),
        _ => String::new(),
    }
}

fn braced(name: &str) -> String {
    format!("{{{name}}}")
}

/// Whether a text in `value` contains `braced`.
fn mentions(value: &Spanned<DeValue<'_>>, braced: &str) -> bool {
    match value.get_ref() {
        DeValue::String(text) => text.contains(braced),
        DeValue::Array(values) => values.iter().any(|value| mentions(value, braced)),
        DeValue::Table(table) => table.iter().any(|(_, value)| mentions(value, braced)),
        _ => false,
    }
}

/// Replaces names in braces by the values of `choice`. A text that is nothing but such a name becomes the value itself, which can
/// be a number.
fn put<'a>(value: &mut Spanned<DeValue<'a>>, choice: &[Choice<'a>]) {
    match value.get_mut() {
        DeValue::String(text) => {
            if let Some((_, chosen)) = choice.iter().find(|(name, _)| *text == braced(name)) {
                *value.get_mut() = chosen.clone();
                return;
            }
            for (name, chosen) in choice {
                if text.contains(&braced(name)) {
                    *text = text.replace(&braced(name), &shown(chosen)).into();
                }
            }
        }
        DeValue::Array(values) => values.iter_mut().for_each(|value| put(value, choice)),
        DeValue::Table(table) => table.iter_mut().for_each(|(_, value)| put(value, choice)),
        _ => {}
    }
}

fn seeds(value: Spanned<DeValue<'_>>) -> Result<Vec<u64>, Problem> {
    let span = value.span();
    let seeds = if let DeValue::Table(_) = value.get_ref() {
        let mut fields = Fields::new("seeds", value)?;
        let from: u64 = fields.needed_number("from", 0..i64::MAX)?;
        let count: u16 = fields.needed_number("count", 1..i64::from(MOST_RUNS) + 1)?;
        fields.end()?;
        (from..).take(count.into()).collect()
    } else {
        list("seeds", value, |value| unsigned("a seed", &value))?
    };
    let distinct: BTreeSet<u64> = seeds.iter().copied().collect();
    if distinct.len() < seeds.len() {
        return Err(Problem::new(span, "a seed is listed twice; list each once"));
    }
    Ok(seeds)
}

/// Reads a value of an entry of the matrix.
fn chosen(value: Spanned<DeValue<'_>>) -> Result<Spanned<DeValue<'_>>, Problem> {
    match value.get_ref() {
        DeValue::Integer(_) => Ok(value),
        DeValue::String(text) if !text.is_empty() => Ok(value),
        other => Err(Problem::new(
            value.span(),
            format!("a value is a text or a whole number, not {}", kind(other)),
        )),
    }
}

/// An entry of the matrix: its name and its values.
type Choices<'a> = (Spanned<String>, Vec<Spanned<DeValue<'a>>>);

fn matrix(value: Spanned<DeValue<'_>>) -> Result<Vec<Choices<'_>>, Problem> {
    pairs("matrix", value)?
        .into_iter()
        .map(|(name, values)| Ok((name, list("a choice", values, chosen)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use devices::media::Layout;

    use super::*;
    use crate::experiment::expect::ENDS;

    const HEAD: &str = "name = \"e\"\nmachine = \"--cma 16M --camera {camera}\"\nworkload = \"cat {file}\"\n";
    const PLAIN: &str = "name = \"e\"\nmachine = \"--cma 16M\"\nworkload = \"true\"\n";
    const RULE: &str = "[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\n";

    #[test]
    fn a_matrix_and_seeds_make_cases() {
        let text = format!(
            "{HEAD}seeds = [1, 7]\n[matrix]\ncamera = [\"fps=1\", \"fps=2\"]\nfile = [\"a b\"]\n{RULE}[expect]\nexit = 3\n\
             fired = {{ r = [2, 4] }}\nlog-not = [\"x\"]\nflagged = 1\ncounters = {{ drops = 0 }}\n\
             frames = {{ file = \"f\", format = \"GREY\", size = \"320x240\", count = 10, bad = [1, 2], lost = 1, recovery = 1 }}\n"
        );
        let cases = read(&text, &[]).unwrap().cases;
        assert_eq!(cases.len(), 4);
        let Case { name, machine, workload, seed, rules, expect, timeout } = cases[2].clone();
        assert_eq!((name.as_str(), seed, timeout), ("camera=fps=2,file=a b,seed=1", 1, 120));
        assert_eq!(machine, ["--cma", "16M", "--camera", "fps=2"]);
        assert_eq!((workload.as_str(), rules.len()), ("cat a b", 1));
        let Expect { exit, fired, flagged, counters, frames, .. } = expect;
        assert_eq!(
            (exit, &fired["r"], flagged, &counters["camera0.drops"]),
            (3, &(2..=4), Some(1..=1), &(0..=0))
        );
        let frames = frames.unwrap();
        assert_eq!((frames.count, frames.bad, frames.recovery), (Some(10..=10), 1..=2, Some(1)));
        assert_eq!(frames.lost, Some(1..=1));
    }

    #[test]
    fn a_choice_is_put_into_the_plan_and_what_is_expected_too() {
        let text = "name = \"e\"\nmachine = \"--cma 16M\"\nworkload = \"echo ${x} {format}\"\n\
             seeds = { from = 5, count = 2 }\n[matrix]\nformat = [\"GREY\", \"NV12\"]\nlines = [8, 16]\n\
             [[rule]]\nname = \"{lines} of {format}\"\non = \"frame.dma\"\naction = \"short\"\nlines = \"{lines}\"\n\
             [expect]\nlog = [\"{lines} lines\"]\nframes = { file = \"f\", format = \"{format}\", size = \"320x240\" }\n";
        let cases = read(text, &[]).unwrap().cases;
        assert_eq!(cases.iter().map(|case| case.seed).collect::<Vec<_>>(), [5, 6, 5, 6, 5, 6, 5, 6]);
        let case = &cases[7];
        assert_eq!(case.name, "format=NV12,lines=16,seed=6");
        assert_eq!((case.workload.as_str(), case.rules[0].name.as_str()), ("echo ${x} NV12", "16 of NV12"));
        assert_eq!(case.rules[0].action, devices::faults::Action::new("short", Some(("lines", 16))));
        assert_eq!((&case.expect.log[..], case.expect.fired.len()), (&["16 lines".to_owned()][..], 1));
        let nv12 = Layout::new(u32::from_le_bytes(*b"NV12"), 320, 240).unwrap();
        assert_eq!(case.expect.frames.as_ref().unwrap().layout, nv12);
    }

    #[test]
    fn a_value_that_is_set_stands_for_all_of_its_name() {
        let text = "name = \"e\"\nmachine = \"--cma {cma}\"\nworkload = \"sleep {seconds}\"\ntimeout = \"{seconds}\"\n\
             [matrix]\ncma = [\"16M\", \"32M\"]\nseconds = [1, 2]\n";
        let set = [("seconds".to_owned(), "1800".to_owned()), ("other".to_owned(), "x".to_owned())];
        let experiment = read(text, &set).unwrap();
        assert_eq!(experiment.matrix, ["cma", "seconds"]);
        let of = |case: &Case| (case.name.clone(), case.workload.clone(), case.timeout);
        assert_eq!(
            experiment.cases.iter().map(of).collect::<Vec<_>>(),
            ["16M", "32M"].map(|cma| (format!("cma={cma},seconds=1800,seed=1"), "sleep 1800".into(), 1800))
        );
    }

    #[test]
    fn the_ends_are_those_of_a_report() {
        for kind in ENDS {
            let outcome = serde_json::json!({ "kind": kind, "status": 0, "module": "" });
            assert!(
                serde_json::from_value::<crate::observe::report::MachineOutcome>(outcome).is_ok(),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_rule_has_to_fire_unless_it_is_said_otherwise() {
        let [case] = &read(&format!("{PLAIN}{RULE}"), &[]).unwrap().cases[..] else { panic!("one run") };
        assert_eq!(case.expect.fired["r"], 1..=u64::MAX);
        assert_eq!((case.seed, case.timeout), (1, 120));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for (rest, says) in [
            ("seeds = []", "4:9: seeds is an empty list; omit it"),
            ("seeds = [1, \"a\"]", "4:13: a seed is a whole number, not a text"),
            ("sedes = [1]", "4:1: an experiment has no 'sedes'; it has name, machine, workload, seeds"),
            ("[expect]\nfired = { x = 1 }", "5:11: there is no rule 'x'; the rules are "),
            ("[expect]\nflagged = [3, 1]", "5:11: 3 is larger than 1; write the smaller number first"),
            (
                "[expect]\ncounters = { drop = 1 }",
                "5:14: a camera has no counter 'drop'; its counters are frames, drops",
            ),
            (
                "[expect]\ncounters = { \"camera1.drop\" = 1 }",
                "5:14: a camera has no counter 'drop'; its counters are frames, drops",
            ),
            (
                "[expect]\ncounters = { \"cam0.drops\" = 1 }",
                "5:14: 'cam0' is not the id of a device with counters; such ids are camera0",
            ),
            (
                "[expect]\nframes = { file = \"f\", format = \"GREY\", size = \"320\" }",
                "5:48: '320' is not a size",
            ),
            (
                "[expect]\nframes = { file = \"f\", format = \"ABCD\", size = \"320x240\" }",
                "5:33: frames of this format and size do not exist",
            ),
            ("[[rule]]\nname = \"a\"\non = \"frame\"", "6:6: there is no point 'frame'"),
            ("[expect]\nlog = \"x\"", "5:7: log is a list, not a text"),
            (
                "[expect]\nend = [\"fire\"]",
                "5:8: 'fire' is not an end of a machine; the ends are exit, powered_off",
            ),
            ("seeds = [3, 3]", "4:9: a seed is listed twice"),
            ("seeds = { from = 1, count = 10001 }", "4:29: count cannot be that; it is from 1 to 10000"),
            ("[matrix]\nformt = [\"GREY\"]", "5:1: no field uses {formt}; write it where the value belongs"),
            ("[matrix]\nx = [1.5]", "5:6: a value is a text or a whole number, not a number with"),
        ] {
            let text = format!("{PLAIN}{rest}\n");
            let error = read(&text, &[]).unwrap_err().located(&text).to_string();
            assert!(error.starts_with(says), "{rest}: {error}");
        }
        let error = read("machine = \"x\"", &[]).unwrap_err().located("machine = \"x\"").to_string();
        assert!(error.starts_with("1:1: an experiment has no name; give it one"), "{error}");
    }

    #[test]
    fn the_schema_has_the_names_that_are_read() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("file.schema.json")).unwrap();
        let rule = format!("{PLAIN}{RULE}");
        let frames = "file = \"f\", format = \"GREY\", size = \"320x240\"";
        for (place, text) in [
            ("", format!("other = 1\n{PLAIN}")),
            ("/$defs/seeds", format!("{PLAIN}seeds = {{ from = 1, count = 1, other = 1 }}")),
            ("/$defs/expect", format!("{PLAIN}[expect]\nother = 1")),
            ("/$defs/frames", format!("{PLAIN}[expect]\nframes = {{ {frames}, other = 1 }}")),
            ("/$defs/rule", format!("{rule}other = 1")),
            ("/$defs/when", format!("{rule}when = {{ other = 1 }}")),
        ] {
            let error = read(&text, &[]).unwrap_err().located(&text).to_string();
            let (_, names) = error.split_once("has no 'other'; it has ").unwrap_or_else(|| panic!("{error}"));
            let names: BTreeSet<&str> = names.split(", ").collect();
            let fields = schema.pointer(&format!("{place}/properties")).and_then(|fields| fields.as_object());
            let fields: BTreeSet<&str> = fields.unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, names, "{place}");
        }
    }
}
