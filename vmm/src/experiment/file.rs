//! What an experiment is, and how its file is read: a mistake in it is told with its place before anything starts.

use std::{collections::BTreeMap, fs, io, ops::RangeInclusive, path::PathBuf};

use devices::{
    camera::Layout,
    faults::{
        Plan, PlanError, Rule,
        fields::{Fields, Problem, kind, number},
        rules,
    },
};
use toml::{Spanned, de::DeValue};

/// How experiments are written, for `--help`.
pub const HELP: &str = r#"An experiment is a TOML file:
  name = "an overflow costs one buffer"
  machine = "--cma 16M --camera timing=stall"    # options of `minivmm run`
  workload = """v4l2-ctl --stream-mmap=4 --stream-count=10 --stream-to=/out/frames --verbose 2>&1"""
  seeds = [1, 2]                                 # one run for each [default: 1]
  timeout = 60                                   # seconds, after which a run hangs [default: 120]
  [matrix]                                       # one run for each choice; {format} in machine and workload is the value
  format = ["GREY", "NV12"]
  [[rule]]                                       # the plan of faults, as devices/FAULTS.md describes it
  name = "overflow"
  on = "frame.dma"
  action = "overflow"
  when = { frames = [3, 3] }
  [expect]                                       # what has to hold; N is a number, or [LEAST, MOST]
  exit = 0                                       # the workload's exit status [default: 0]
  fired = { overflow = 1 }                       # how often each rule fired [default: at least once]
  log = ["line buffer overflow"]                 # what is in the guest's kernel log
  log-not = ["resetting"]                        # what is not, beside warnings, BUG, Oops and reports of KASAN and lockdep
  output = ["10 frames"]                         # what is in what the workload printed; output-not
  flagged = 1                                    # buffers with the error flag, as v4l2-ctl --verbose prints them
  counters = { overflows = 1 }                   # the camera's, as in --report
  frames = { file = "frames", format = "GREY", size = "320x240", count = 10, bad = 0, recovery = 1 }
                                                 # a file in /out: its frames, how many are bad, by how many frames after
                                                 # the last fault there is a good one"#;

/// Least and most of something that is counted.
pub type Count = RangeInclusive<u64>;

/// What a driver is put through, and what has to hold.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file.
    pub path: PathBuf,
    /// What it is called.
    pub name: String,
    /// Options of the machine, as words.
    pub machine: Vec<String>,
    /// What runs in the guest.
    pub workload: String,
    /// One run for each.
    pub seeds: Vec<u64>,
    /// What stands for what in machine and workload, one run for each choice of all.
    pub matrix: Vec<(String, Vec<String>)>,
    /// What goes wrong.
    pub rules: Vec<Rule>,
    /// What has to hold.
    pub expect: Expect,
    /// In seconds.
    pub timeout: u64,
}

/// What has to hold after a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expect {
    /// The workload's exit status.
    pub exit: u8,
    /// How often each rule fired.
    pub fired: BTreeMap<String, Count>,
    /// What is in the guest's kernel log, and what is not.
    pub log: Vec<String>,
    /// See [`Self::log`].
    pub log_not: Vec<String>,
    /// What is in what the workload printed, and what is not.
    pub output: Vec<String>,
    /// See [`Self::output`].
    pub output_not: Vec<String>,
    /// Buffers with V4L2_BUF_FLAG_ERROR.
    pub flagged: Option<Count>,
    /// The first camera's counters.
    pub counters: BTreeMap<String, Count>,
    /// The frames that the workload left.
    pub frames: Option<Frames>,
}

/// What a file of frames has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Its name in /out.
    pub file: String,
    /// What the frames are.
    pub layout: Layout,
    /// How many.
    pub count: Option<Count>,
    /// How many of them are not what the camera made, or not the next one.
    pub bad: Count,
    /// How many frames after the last fault one is good.
    pub recovery: Option<u64>,
}

/// One run of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it is chosen by, for people and as the name of a folder: `format=GREY,seed=1`.
    pub name: String,
    /// Options of the machine, as words.
    pub machine: Vec<String>,
    /// What runs in the guest.
    pub workload: String,
    /// Of the faults.
    pub seed: u64,
}

/// A file that is no experiment.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the experiment {} cannot be read: {source}; name a file that can", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{error}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, and where.
        error: PlanError,
    },
}

impl Experiment {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// If it cannot be read, and the first thing that is wrong with it.
    pub fn open(path: PathBuf) -> Result<Self, FileError> {
        match fs::read_to_string(&path) {
            Ok(text) => match read(&text) {
                Ok(experiment) => Ok(Self { path, ..experiment }),
                Err(problem) => Err(FileError::Wrong { error: problem.located(&text), path }),
            },
            Err(source) => Err(FileError::Read { path, source }),
        }
    }

    /// What goes wrong in it.
    pub fn plan(&self) -> Plan {
        Plan::of(self.rules.clone())
    }

    /// All runs.
    pub fn cases(&self) -> Vec<Case> {
        let mut choices = vec![Vec::new()];
        for (name, values) in &self.matrix {
            choices = choices
                .iter()
                .flat_map(|choice: &Vec<(&String, &String)>| {
                    values.iter().map(move |value| choice.iter().copied().chain([(name, value)]).collect())
                })
                .collect();
        }
        let case = |choice: &[(&String, &String)], seed: u64| {
            let put = |text: &String| {
                choice
                    .iter()
                    .fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
            };
            let choice = choice.iter().map(|(name, value)| format!("{name}={value}"));
            Case {
                name: choice.chain([format!("seed={seed}")]).collect::<Vec<_>>().join(","),
                machine: self.machine.iter().map(put).collect(),
                workload: put(&self.workload),
                seed,
            }
        };
        choices.iter().flat_map(|choice| self.seeds.iter().map(|seed| case(choice, *seed))).collect()
    }
}

fn read(text: &str) -> Result<Experiment, Problem> {
    let mut fields = Fields::of_file("an experiment", text)?;
    let name = fields.needed_text("name")?.into_inner();
    let machine = fields.needed_text("machine")?.into_inner();
    let workload = fields.needed_text("workload")?.into_inner();
    let seeds = match fields.take("seeds") {
        Some(value) => list("seeds", value, |value| unsigned("a seed", &value))?,
        None => vec![1],
    };
    let timeout =
        fields.number("timeout", 1..86_401)?.map_or(120, |seconds| seconds.get_ref().unsigned_abs());
    let matrix = fields.take("matrix").map(matrix).transpose()?.unwrap_or_default();
    let rules = match fields.take("rule") {
        Some(list) => rules(list)?,
        None => Vec::new(),
    };
    let expect = fields.take("expect");
    fields.end()?;
    let expect = match expect {
        Some(value) => expectations(value, &rules)?,
        None => default_expectations(&rules),
    };
    let machine = machine.split_whitespace().map(ToOwned::to_owned).collect();
    Ok(Experiment { path: PathBuf::new(), name, machine, workload, seeds, matrix, rules, expect, timeout })
}

/// Without a word about a rule, it has to have fired: else nothing was tried.
fn default_expectations(rules: &[Rule]) -> Expect {
    Expect {
        fired: rules.iter().map(|rule| (rule.name.clone(), 1..=u64::MAX)).collect(),
        ..Expect::default()
    }
}

fn expectations(value: Spanned<DeValue<'_>>, rules: &[Rule]) -> Result<Expect, Problem> {
    let mut fields = Fields::new("expect", value)?;
    let mut expect = default_expectations(rules);
    expect.exit =
        fields.number("exit", 0..256)?.map_or(0, |status| u8::try_from(*status.get_ref()).unwrap_or(0));
    for (name, fired) in counts(&mut fields, "fired")? {
        let Some(count) = expect.fired.get_mut(name.get_ref()) else {
            let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
            return Err(Problem::new(
                name.span(),
                format!("there is no rule '{}'; the rules are {}", name.get_ref(), names.join(", ")),
            ));
        };
        *count = fired;
    }
    for (name, texts) in [
        ("log", &mut expect.log),
        ("log-not", &mut expect.log_not),
        ("output", &mut expect.output),
        ("output-not", &mut expect.output_not),
    ] {
        if let Some(value) = fields.take(name) {
            *texts = list(name, value, |value| text("it", value))?;
        }
    }
    expect.flagged = fields.take("flagged").map(|value| count("flagged", &value)).transpose()?;
    for (name, value) in counts(&mut fields, "counters")? {
        const KNOWN: [&str; 9] = [
            "frames",
            "drops",
            "overflows",
            "bus_errors",
            "sync_losses",
            "config_errors",
            "irqs",
            "irqs_late",
            "bytes",
        ];
        if !KNOWN.contains(&name.get_ref().as_str()) {
            return Err(Problem::new(
                name.span(),
                format!("the camera has no counter '{}'; it has {}", name.get_ref(), KNOWN.join(", ")),
            ));
        }
        expect.counters.insert(name.into_inner(), value);
    }
    expect.frames = fields.take("frames").map(frames).transpose()?;
    fields.end()?;
    Ok(expect)
}

fn frames(value: Spanned<DeValue<'_>>) -> Result<Frames, Problem> {
    let mut fields = Fields::new("frames", value)?;
    let file = fields.needed_text("file")?.into_inner();
    let format = fields.needed_text("format")?;
    let size = fields.needed_text("size")?;
    let pair = size.get_ref().split_once('x');
    let pair = pair.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (width, height): (u32, u32) = pair.ok_or_else(|| {
        Problem::new(size.span(), format!("'{}' is no size; write it as 640x480", size.get_ref()))
    })?;
    let code: Option<[u8; 4]> = format.get_ref().as_bytes().try_into().ok();
    let layout = code.ok_or_else(|| {
        Problem::new(format.span(), format!("'{}' is no fourcc, as YUYV is", format.get_ref()))
    })?;
    let layout = Layout::new(u32::from_le_bytes(layout), width, height).map_err(|error| {
        Problem::new(
            format.span(),
            format!("the camera has no such frames: {error}; give another format or size"),
        )
    })?;
    let known = Frames {
        file,
        layout,
        count: fields.take("count").map(|value| count("count", &value)).transpose()?,
        bad: fields.take("bad").map_or(Ok(0..=0), |value| count("bad", &value))?,
        recovery: fields.take("recovery").map(|value| unsigned("recovery", &value)).transpose()?,
    };
    fields.end()?;
    Ok(known)
}

fn matrix(value: Spanned<DeValue<'_>>) -> Result<Vec<(String, Vec<String>)>, Problem> {
    pairs("matrix", value)?
        .into_iter()
        .map(|(name, values)| {
            Ok((name.into_inner(), list("a choice", values, |value| text("a value", value))?))
        })
        .collect()
}

/// A field with its name.
type Pair<'a> = (Spanned<String>, Spanned<DeValue<'a>>);

/// The fields of a table, whatever they are called.
fn pairs<'a>(what: &str, value: Spanned<DeValue<'a>>) -> Result<Vec<Pair<'a>>, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(table
            .into_iter()
            .map(|(name, value)| (Spanned::new(name.span(), name.into_inner().into_owned()), value))
            .collect()),
        other => Err(Problem::new(span, format!("{what} is a table, not {}", kind(&other)))),
    }
}

fn counts(fields: &mut Fields<'_>, name: &'static str) -> Result<Vec<(Spanned<String>, Count)>, Problem> {
    let Some(value) = fields.take(name) else { return Ok(Vec::new()) };
    pairs(name, value)?
        .into_iter()
        .map(|(key, value)| {
            let count = count(key.get_ref(), &value)?;
            Ok((key, count))
        })
        .collect()
}

/// A number, or a list of the least and the most.
fn count(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Count, Problem> {
    let DeValue::Array(ends) = value.get_ref() else {
        let number = unsigned(name, value)?;
        return Ok(number..=number);
    };
    let [least, most] = &ends[..] else {
        return Err(Problem::new(value.span(), format!("{name} is a number, or [least, most]")));
    };
    let (least, most) = (unsigned(name, least)?, unsigned(name, most)?);
    if least > most {
        return Err(Problem::new(
            value.span(),
            format!("no number lies from {least} to {most}; write the smaller one first"),
        ));
    }
    Ok(least..=most)
}

fn unsigned(name: &str, value: &Spanned<DeValue<'_>>) -> Result<u64, Problem> {
    Ok(number(name, value, &(0..i64::MAX))?.get_ref().unsigned_abs())
}

fn text(name: &str, value: Spanned<DeValue<'_>>) -> Result<String, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::String(text) if !text.is_empty() => Ok(text.into_owned()),
        other => Err(Problem::new(span, format!("{name} is a text, not {}", kind(&other)))),
    }
}

/// A list of at least one.
fn list<'a, T>(
    name: &str,
    value: Spanned<DeValue<'a>>,
    one: impl Fn(Spanned<DeValue<'a>>) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Array(values) if !values.is_empty() => values.into_iter().map(one).collect(),
        DeValue::Array(_) => Err(Problem::new(span, format!("{name} is an empty list; leave it out"))),
        other => Err(Problem::new(span, format!("{name} is a list, not {}", kind(&other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "name = \"e\"\nmachine = \"--cma 16M --camera {camera}\"\nworkload = \"cat {file}\"\n";
    const RULE: &str = "[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\n";

    #[test]
    fn a_matrix_and_seeds_make_cases() {
        let text = format!(
            "{HEAD}seeds = [1, 7]\n[matrix]\ncamera = [\"fps=1\", \"fps=2\"]\nfile = [\"a b\"]\n{RULE}[expect]\nexit = 3\n\
             fired = {{ r = [2, 4] }}\nlog-not = [\"x\"]\nflagged = 1\ncounters = {{ drops = 0 }}\n\
             frames = {{ file = \"f\", format = \"GREY\", size = \"320x240\", count = 10, bad = [1, 2], recovery = 1 }}\n"
        );
        let experiment = read(&text).unwrap();
        let cases = experiment.cases();
        assert_eq!(cases.len(), 4);
        assert_eq!(
            cases[2],
            Case {
                name: "camera=fps=2,file=a b,seed=1".into(),
                machine: ["--cma", "16M", "--camera", "fps=2"].map(Into::into).into(),
                workload: "cat a b".into(),
                seed: 1
            }
        );
        let Expect { exit, fired, flagged, counters, frames, .. } = experiment.expect;
        assert_eq!((exit, &fired["r"], flagged, &counters["drops"]), (3, &(2..=4), Some(1..=1), &(0..=0)));
        let frames = frames.unwrap();
        assert_eq!((frames.count, frames.bad, frames.recovery), (Some(10..=10), 1..=2, Some(1)));
    }

    #[test]
    fn a_rule_has_to_fire_unless_it_is_said_otherwise() {
        let experiment = read(&format!("{HEAD}{RULE}")).unwrap();
        assert_eq!(experiment.expect.fired["r"], 1..=u64::MAX);
        assert_eq!((experiment.seeds, experiment.timeout), (vec![1], 120));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        for (rest, says) in [
            ("seeds = []", "4:9: seeds is an empty list; leave it out"),
            ("seeds = [1, \"a\"]", "4:13: a seed is a whole number, not a text"),
            ("sedes = [1]", "4:1: an experiment has no 'sedes'; it has name, machine, workload, seeds"),
            ("[expect]\nfired = { x = 1 }", "5:11: there is no rule 'x'; the rules are "),
            ("[expect]\nflagged = [3, 1]", "5:11: no number lies from 3 to 1"),
            (
                "[expect]\ncounters = { drop = 1 }",
                "5:14: the camera has no counter 'drop'; it has frames, drops",
            ),
            (
                "[expect]\nframes = { file = \"f\", format = \"GREY\", size = \"320\" }",
                "5:48: '320' is no size",
            ),
            (
                "[expect]\nframes = { file = \"f\", format = \"ABCD\", size = \"320x240\" }",
                "5:33: the camera has no such",
            ),
            ("[[rule]]\nname = \"a\"\non = \"frame\"", "6:6: there is no point 'frame'"),
            ("[expect]\nlog = \"x\"", "5:7: log is a list, not a text"),
        ] {
            let text = format!("{HEAD}{rest}\n");
            let error = read(&text).unwrap_err().located(&text).to_string();
            assert!(error.starts_with(says), "{rest}: {error}");
        }
        let error = read("machine = \"x\"").unwrap_err().located("machine = \"x\"").to_string();
        assert!(error.starts_with("1:1: an experiment has no name; give it one"), "{error}");
    }
}
