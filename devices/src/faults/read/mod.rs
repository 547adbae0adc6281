//! Reads a plan of faults, and refuses one that makes no sense.

use std::{
    collections::HashSet,
    ops::{Range, RangeInclusive},
};

use toml::{Spanned, de::DeValue};

use super::{
    action::Action,
    fields::{Fields, PlanError, Problem, kind, number},
    plan::{Plan, Rule, START, When},
    table::{Ids, Table},
    vocabulary::{Place, Vocabulary, distinct, has_action, rows},
};

/// The most rules of a plan: each event checks all rules of its point.
const MOST_RULES: usize = 256;

/// A number of 32 bits.
const WORD: Range<i64> = 0..u32::MAX as i64 + 1;

impl Plan {
    /// Reads a plan, as `--faults` takes it. Its rules may use the points and actions of these tables.
    ///
    /// # Errors
    /// The first mistake in it, with its place.
    pub fn read(text: &str, tables: &[&'static Table]) -> Result<Self, PlanError> {
        read(text, tables).map_err(|problem| problem.located(text))
    }
}

fn read(text: &str, tables: &[&'static Table]) -> Result<Plan, Problem> {
    let mut fields = Fields::of_file("a plan", text)?;
    let span = fields.span.clone();
    let list = fields.take("rule");
    fields.end()?;
    let list = list.ok_or_else(|| Problem::new(span, "a plan has rules; give it at least one [[rule]]"))?;
    Ok(Plan { text: text.to_owned(), rules: rules(list, tables)? })
}

/// Reads a list of rules. They may use the points and actions of these tables.
///
/// # Errors
/// The first mistake in it.
pub fn rules(list: Spanned<DeValue<'_>>, tables: &[&'static Table]) -> Result<Vec<Rule>, Problem> {
    let list_span = list.span();
    let DeValue::Array(list) = list.into_inner() else {
        return Err(Problem::new(list_span, "rules are tables of a list; begin each with [[rule]]"));
    };
    if list.len() > MOST_RULES {
        return Err(Problem::new(
            list_span,
            format!("a plan has at most {MOST_RULES} rules, not {}", list.len()),
        ));
    }
    let (mut rules, mut states) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for value in list {
        let (rule, name, state) = rule(value, Vocabulary(tables))?;
        if !names.insert(rule.name.clone()) {
            return Err(Problem::new(
                name,
                format!("there are two rules '{}'; give each a name of its own", rule.name),
            ));
        }
        states.push(state);
        rules.push(rule);
    }
    for (rule, span) in rules.iter().zip(states) {
        let Some(state) = &rule.state else { continue };
        // A rule that only its own firing would let fire does not lead there.
        let reached = state == START
            || rules.iter().any(|other| other.name != rule.name && other.next_state.as_ref() == Some(state));
        if !reached {
            return Err(Problem::new(
                span,
                format!(
                    "rule '{}' can never fire: no other rule has next-state = \"{state}\", and a plan begins in \"{START}\"",
                    rule.name
                ),
            ));
        }
    }
    Ok(rules)
}

/// Reads a rule; also returns where its name is, and where its state is.
fn rule(
    value: Spanned<DeValue<'_>>,
    words: Vocabulary<'_>,
) -> Result<(Rule, Range<usize>, Range<usize>), Problem> {
    let mut fields = Fields::new("a rule", value)?;
    let name = fields.needed_text("name")?;
    let (on, places) = point(&fields.needed_text("on")?, words)?;
    let action = action(on, &places, &mut fields, words)?;
    let when = match fields.take("when") {
        Some(value) => when(on, &places, value, words)?,
        None => When::default(),
    };
    let times = fields.number("times", 1..i64::MAX)?.map(|times| times.get_ref().unsigned_abs());
    let (device, window, channel) = selectors(on, &places, &action, &mut fields, words)?;
    let state = fields.text("state")?;
    let next_state = fields.text("next-state")?;
    fields.end()?;
    if action == Action::NONE && next_state.is_none() {
        return Err(Problem::new(
            name.span(),
            format!("rule '{}' does nothing (none) and leads nowhere; give it a next-state", name.get_ref()),
        ));
    }
    if let Some(times) = times.filter(|times| *times > 1)
        && when.nth.is_some()
    {
        return Err(Problem::new(
            name.span(),
            format!(
                "rule '{}' fires at one event (nth), and so not {times} times; leave one out",
                name.get_ref()
            ),
        ));
    }
    let state_span = state.as_ref().map_or(0..0, Spanned::span);
    let name_span = name.span();
    let rule = Rule {
        name: name.into_inner(),
        on,
        action,
        when,
        times,
        device,
        window,
        channel,
        state: state.map(Spanned::into_inner),
        next_state: next_state.map(Spanned::into_inner),
    };
    Ok((rule, name_span, state_span))
}

/// The point that a rule acts on, and the places that have it.
fn point(name: &Spanned<String>, words: Vocabulary<'_>) -> Result<(&'static str, Vec<Place>), Problem> {
    let places: Vec<Place> = words.places(name.get_ref()).collect();
    match places.first() {
        Some((_, point)) => Ok((point.name, places)),
        None => Err(Problem::new(
            name.span(),
            format!(
                "there is no point '{}'; the points are {}",
                name.get_ref(),
                words.names(|_| true).join(", ")
            ),
        )),
    }
}

/// The action of a rule on `on`, with its parameter.
fn action(
    on: &str,
    places: &[Place],
    fields: &mut Fields<'_>,
    words: Vocabulary<'_>,
) -> Result<Action, Problem> {
    let name = fields.needed_text("action")?;
    let text = name.get_ref().as_str();
    if text == Action::NONE.name() {
        return Ok(Action::NONE);
    }
    let Some(row) = rows(places, text).next() else {
        let elsewhere = words.names(|(_, point)| has_action(point, text));
        let says = if elsewhere.is_empty() {
            let here = places.iter().flat_map(|(_, point)| point.actions).map(|row| row.name);
            let all = distinct(std::iter::once("none").chain(here));
            format!("there is no action '{text}'; those of {on} are {}", all.join(", "))
        } else {
            format!("{text} is no action of {on}; it is one of {}", elsewhere.join(", "))
        };
        return Err(Problem::new(name.span(), says));
    };
    // Devices may differ in the parameter of an action, and in its range: it is right if it is one of theirs.
    let mut wrong = None;
    for parameter in rows(places, text).filter_map(|row| row.parameter.as_ref()) {
        let Some(value) = fields.get(parameter.name) else { continue };
        let permitted = *parameter.permitted.start()..parameter.permitted.end().saturating_add(1);
        match number(parameter.name, value, &permitted) {
            Ok(value) => {
                fields.take(parameter.name);
                return Ok(Action::new(row.name, Some((parameter.name, *value.get_ref()))));
            }
            Err(problem) => wrong = wrong.or(Some(problem)),
        }
    }
    match (wrong, &row.parameter) {
        (Some(problem), _) => Err(problem),
        (None, Some(parameter)) if rows(places, text).all(|row| row.parameter.is_some()) => {
            Err(fields.missing(parameter.name))
        }
        (None, _) => Ok(Action::new(row.name, None)),
    }
}

/// The device, the window and the channel whose events a rule counts.
type Selectors = (Option<String>, Option<String>, Option<u32>);

fn selectors(
    on: &str,
    places: &[Place],
    action: &Action,
    fields: &mut Fields<'_>,
    words: Vocabulary<'_>,
) -> Result<Selectors, Problem> {
    let refused = |span, selector: &str, what: &str, has: &dyn Fn(&Place) -> bool| {
        let points = words.names(has).join(", ");
        Err(Problem::new(span, format!("{on} is of no {what}; leave {selector} out, or act on {points}")))
    };
    // The field that names the device, and what that is.
    let mut device: Option<(&str, &str, Spanned<String>)> = None;
    for table in words.0 {
        if let Ids::Numbered(kind) = table.ids
            && let Some(number) = fields.number(kind, WORD)?
        {
            let id = Spanned::new(number.span(), format!("{kind}{}", number.get_ref()));
            device = Some((kind, kind, id));
        }
    }
    let window = fields.text("window")?;
    let channels =
        places.iter().filter(|(_, point)| point.scope.channel).map(|(table, _)| table.channels).max();
    let channel = fields.number("channel", channels.map_or(WORD, |channels| 0..i64::from(channels)))?;
    if let Some(id) = fields.text("device")? {
        if let Some((selector, ..)) = device {
            return Err(Problem::new(id.span(), format!("device is there beside {selector}; leave one out")));
        }
        if words.table(id.get_ref()).is_none() {
            let ids: Vec<String> = words.0.iter().filter_map(|table| table.ids.listed()).collect();
            return Err(Problem::new(
                id.span(),
                format!("there is no device '{}'; devices are called {}", id.get_ref(), ids.join(", ")),
            ));
        }
        device = Some(("device", "", id));
    }
    if let Some(channel) = &channel
        && channels.is_none()
    {
        return refused(channel.span(), "channel", "channel", &|(_, point)| point.scope.channel);
    }
    if let Some((selector, kind, id)) = &device
        && let Some(table) = words.table(id.get_ref())
        && !places.iter().any(|(other, point)| std::ptr::eq(*other, table) && point.takes(action))
    {
        let what = if kind.is_empty() { id.get_ref() } else { *kind };
        return refused(id.span(), selector, what, &|(other, point)| {
            std::ptr::eq(*other, table) && (point.name != on || point.takes(action))
        });
    }
    if let Some(window) = &window
        && !places.iter().any(|(table, _)| table.windows)
    {
        return refused(window.span(), "window", "window", &|(table, _)| table.windows);
    }
    let channel = channel.and_then(|channel| u32::try_from(*channel.get_ref()).ok());
    Ok((device.map(|(.., id)| id.into_inner()), window.map(Spanned::into_inner), channel))
}

/// The conditions of a rule on `on`.
fn when(
    on: &str,
    places: &[Place],
    value: Spanned<DeValue<'_>>,
    words: Vocabulary<'_>,
) -> Result<When, Problem> {
    let mut fields = Fields::new("when", value)?;
    let span = fields.span.clone();
    let count = |number: Spanned<i64>| number.get_ref().unsigned_abs();
    let nth = fields.number("nth", 1..i64::MAX)?.map(count);
    let every = fields.number("every", 1..i64::MAX)?.map(count);
    let frames = fields.take("frames").map(|value| range(on, places, &value)).transpose()?;
    let probability = fields.take("probability").map(|value| probability(&value)).transpose()?;
    let register = fields.number("register", WORD)?;
    let value = fields.number("value", WORD)?;
    let after = fields.number("after", 1..i64::MAX)?.map(count);
    let mark = fields.text("mark")?.map(Spanned::into_inner);
    fields.end()?;
    if let Some(value) = value.as_ref().filter(|_| register.is_none()) {
        return Err(Problem::new(value.span(), "value is that of a register; say which, with register"));
    }
    if nth.is_some() && (every.is_some() || probability.is_some()) {
        return Err(Problem::new(
            span,
            "nth says which event alone; leave out nth, or every and probability",
        ));
    }
    if let Some(register) = &register {
        if !places.iter().any(|(_, point)| point.scope.access) {
            let points = words.names(|(_, point)| point.scope.access).join(" or ");
            return Err(Problem::new(
                register.span(),
                format!("{on} is no access to a register; leave register out, or act on {points}"),
            ));
        }
        if register.get_ref() % 4 != 0 {
            return Err(Problem::new(register.span(), "registers lie 4 bytes apart; give a multiple of 4"));
        }
    }
    let small = |number: Spanned<i64>| u32::try_from(*number.get_ref()).ok();
    let (register, value) = (register.and_then(small), value.and_then(small));
    Ok(When { nth, every, frames, probability, register, value, after, mark })
}

/// `[first, last]`, frames by their numbers.
fn range(on: &str, places: &[Place], value: &Spanned<DeValue<'_>>) -> Result<RangeInclusive<u32>, Problem> {
    let span = value.span();
    if !places.iter().any(|(_, point)| point.scope.frame) {
        return Err(Problem::new(
            span,
            format!("{on} is of no frame; leave frames out, or count by nth and every"),
        ));
    }
    let DeValue::Array(ends) = value.get_ref() else {
        return Err(Problem::new(
            span,
            format!("frames is a list [first, last], not {}", kind(value.get_ref())),
        ));
    };
    let [first, last] = &ends[..] else {
        return Err(Problem::new(span, format!("frames is a list [first, last], not one of {}", ends.len())));
    };
    let number = |value| number("a frame's number", value, &WORD).map(|number| *number.get_ref());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(Problem::new(
            span,
            format!("no frame lies from {first} to {last}; write the smaller one first"),
        ));
    }
    let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(small(first)..=small(last))
}

fn probability(value: &Spanned<DeValue<'_>>) -> Result<f64, Problem> {
    let number = match value.get_ref() {
        DeValue::Float(digits) => digits.as_str().replace('_', "").parse().ok(),
        DeValue::Integer(digits) => digits.as_str().parse().ok(),
        other => {
            return Err(Problem::new(value.span(), format!("probability is a number, not {}", kind(other))));
        }
    };
    match number {
        Some(number) if number > 0.0 && number <= 1.0 => Ok(number),
        Some(0.0) => Err(Problem::new(
            value.span(),
            "with probability 0 the rule can never fire; it is above 0 and at most 1",
        )),
        _ => Err(Problem::new(value.span(), "probability is above 0 and at most 1")),
    }
}

#[cfg(test)]
mod tests;
