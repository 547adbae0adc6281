//! The expectations of a run: the table `expect` of an experiment's file.

use std::collections::BTreeMap;

use devices::{
    REGISTRY,
    faults::{
        Rule,
        fields::{Fields, Problem},
    },
    media::Layout,
};
use toml::{Spanned, de::DeValue};

use super::values::{Count, count, counts, list, text, unsigned};

/// The ends that a guest can cause: the `kind` of each such [`MachineOutcome`](crate::observe::report::MachineOutcome).
pub(super) const ENDS: [&str; 6] = ["exit", "powered_off", "module_not_loaded", "panic", "halted", "reset"];

/// The expectations of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expect {
    /// The workload's exit status.
    pub exit: u8,
    /// How the machine may end: each is a `kind` of the report's outcome.
    pub end: Vec<String>,
    /// The number of times that each rule fires.
    pub fired: BTreeMap<String, Count>,
    /// Texts that are in the guest's kernel log.
    pub log: Vec<String>,
    /// Texts that are not in it.
    pub log_not: Vec<String>,
    /// Lines that are allowed in it although they report a bug of the kernel.
    pub log_allowed: Vec<String>,
    /// Texts that are in the workload's output.
    pub output: Vec<String>,
    /// Texts that are not in it.
    pub output_not: Vec<String>,
    /// Buffers with V4L2_BUF_FLAG_ERROR.
    pub flagged: Option<Count>,
    /// Counters of devices by `ID.COUNTER`, as in `msgdma0.descriptors`.
    pub counters: BTreeMap<String, Count>,
    /// A file of frames that the workload leaves.
    pub frames: Option<Frames>,
}

/// The expectations of a file of frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Its name in /out.
    pub file: String,
    /// The format and size of the frames.
    pub layout: Layout,
    /// Number of frames.
    pub count: Option<Count>,
    /// Number of frames that are torn, or that are not the next one.
    pub bad: Count,
    /// Number of frames that are missing between those in the file.
    pub lost: Option<Count>,
    /// Within this number of frames after the last fault there is a good one.
    pub recovery: Option<u64>,
}

/// The expectations of an experiment that states none: the machine ends by itself, and each rule fires.
pub(super) fn default_expectations(rules: &[Rule]) -> Expect {
    Expect {
        end: vec!["exit".to_owned()],
        fired: rules.iter().map(|rule| (rule.name.clone(), 1..=u64::MAX)).collect(),
        ..Expect::default()
    }
}

/// Reads the table `expect` of an experiment with these `rules`.
pub(super) fn expectations(value: Spanned<DeValue<'_>>, rules: &[Rule]) -> Result<Expect, Problem> {
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
        ("log-allowed", &mut expect.log_allowed),
        ("output", &mut expect.output),
        ("output-not", &mut expect.output_not),
    ] {
        if let Some(value) = fields.take(name) {
            *texts = list(name, value, |value| text("it", value))?;
        }
    }
    if let Some(value) = fields.take("end") {
        expect.end = list("end", value, end)?;
    }
    expect.flagged = fields.take("flagged").map(|value| count("flagged", &value)).transpose()?;
    for (name, value) in counts(&mut fields, "counters")? {
        let path = counter_path(name.get_ref()).map_err(|sentence| Problem::new(name.span(), sentence))?;
        expect.counters.insert(path, value);
    }
    expect.frames = fields.take("frames").map(frames).transpose()?;
    fields.end()?;
    Ok(expect)
}

/// Reads one of the [`ENDS`].
fn end(value: Spanned<DeValue<'_>>) -> Result<String, Problem> {
    let span = value.span();
    let kind = text("an end", value)?;
    if ENDS.contains(&kind.as_str()) {
        return Ok(kind);
    }
    Err(Problem::new(span, format!("'{kind}' is not an end of a machine; the ends are {}", ENDS.join(", "))))
}

/// The counter that a key means, as `ID.COUNTER`. A key without an id means the first camera.
fn counter_path(key: &str) -> Result<String, String> {
    let (id, counter) = key.split_once('.').unwrap_or(("camera0", key));
    let kind = id.trim_end_matches(|c: char| c.is_ascii_digit());
    let Some(registration) = REGISTRY.iter().find(|registration| registration.name == kind && id != kind)
    else {
        let ids: Vec<String> =
            REGISTRY.iter().map(|registration| format!("{}0", registration.name)).collect();
        return Err(format!(
            "'{id}' is not the id of a device with counters; such ids are {}",
            ids.join(", ")
        ));
    };
    if registration.counters.contains(&counter) {
        return Ok(format!("{id}.{counter}"));
    }
    Err(format!("a {kind} has no counter '{counter}'; its counters are {}", registration.counters.join(", ")))
}

/// Reads the table `frames`.
fn frames(value: Spanned<DeValue<'_>>) -> Result<Frames, Problem> {
    let mut fields = Fields::new("frames", value)?;
    let file = fields.needed_text("file")?.into_inner();
    let format = fields.needed_text("format")?;
    let size = fields.needed_text("size")?;
    let pair = size.get_ref().split_once('x');
    let pair = pair.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (width, height): (u32, u32) = pair.ok_or_else(|| {
        Problem::new(size.span(), format!("'{}' is not a size; write it as 640x480", size.get_ref()))
    })?;
    let code: Option<[u8; 4]> = format.get_ref().as_bytes().try_into().ok();
    let layout = code.ok_or_else(|| {
        Problem::new(
            format.span(),
            format!("'{}' is not a fourcc; write four characters, as in YUYV", format.get_ref()),
        )
    })?;
    let layout = Layout::new(u32::from_le_bytes(layout), width, height).map_err(|error| {
        Problem::new(
            format.span(),
            format!("frames of this format and size do not exist: {error}; choose another format or size"),
        )
    })?;
    let known = Frames {
        file,
        layout,
        count: fields.take("count").map(|value| count("count", &value)).transpose()?,
        bad: fields.take("bad").map_or(Ok(0..=0), |value| count("bad", &value))?,
        lost: fields.take("lost").map(|value| count("lost", &value)).transpose()?,
        recovery: fields.take("recovery").map(|value| unsigned("recovery", &value)).transpose()?,
    };
    fields.end()?;
    Ok(known)
}
