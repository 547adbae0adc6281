//! Reads a script: its lines, its repeats, and the checks that need all its steps.

use std::{collections::HashMap, ops::Range, str::FromStr};

use super::steps::{Script, Step, Verb};
use crate::{
    PAGE_SIZE, Window,
    area::{Area, AreaError, Rules, RulesError, dma_alignment},
    size::{self, SizeError},
    spec::is_node_name,
};

/// The base of a window without `base=`: 1 GiB, which is aligned for every request.
pub const DEFAULT_BASE: u64 = 1 << 30;

/// Maximum number of steps of a script, with its repeats unrolled.
pub const MAX_STEPS: u64 = 1_000_000;

/// The names of the turns of nested repeats, from the inside. Their number is the maximum depth.
const TURNS: [&str; 3] = ["{i}", "{j}", "{k}"];

/// Maximum length of an ID, in bytes.
const MAX_ID: usize = 64;

/// Why a text is not a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// An error in a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such verb.
    #[error(
        "the verb \"{0}\" is unknown; the verbs are window, alloc, free, busy, idle, repeat, end, expect, map and stats"
    )]
    UnknownVerb(String),
    /// A wrong number of words, or an unknown field.
    #[error("the line must have the form \"{0}\"")]
    Form(&'static str),
    /// A number could not be read.
    #[error("the {what} cannot be read: {source}")]
    Number {
        /// Which number.
        what: &'static str,
        /// What is wrong with it.
        source: SizeError,
    },
    /// The number of pages is zero.
    #[error("{0} has zero pages; the smallest number is 1")]
    ZeroPages(&'static str),
    /// An alignment or an order is too large.
    #[error("the {what} {order} is too large; it is an order of pages (2^{what} pages), from 0 to 51")]
    Order {
        /// Its name.
        what: &'static str,
        /// Its value.
        order: u64,
    },
    /// A name is not valid for a device-tree node.
    #[error(
        "the window has the name \"{0}\", which no device-tree node can have; use 1 to 31 of the characters \
         a-z A-Z 0-9 , . _ + - and begin with a letter"
    )]
    Name(String),
    /// The rules are unknown.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The area cannot exist.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// The script does not begin with a window.
    #[error("the script has no window before this line; begin it with a line such as \"window 64M\"")]
    NoWindow,
    /// A second window.
    #[error("line {0} already has a window; a script has one window")]
    TwoWindows(usize),
    /// An ID is invalid.
    #[error(
        "\"{0}\" is not a valid ID; use 1 to {MAX_ID} of the characters a-z A-Z 0-9 . _ : - and, within a repeat, {{i}} for its \
         turn ({{j}} and {{k}} for the turns of the enclosing repeats)"
    )]
    Id(String),
    /// An ID is in use, by a buffer or by an alloc that failed.
    #[error("the ID {id} is in use by the alloc in line {line}; free it first, or choose another")]
    Taken {
        /// The ID.
        id: String,
        /// The line of the alloc.
        line: usize,
    },
    /// No alloc has this ID.
    #[error("no earlier alloc has the ID {0}")]
    UnknownId(String),
    /// The ID was freed already.
    #[error("line {line} has already freed {id}")]
    DoubleFree {
        /// The ID.
        id: String,
        /// The line of the free.
        line: usize,
    },
    /// Pages outside the window.
    #[error(
        "{count} pages from page frame {pfn:#x} on are not in the window, which has the page frames {first:#x} to \
         {last:#x}"
    )]
    Outside {
        /// The first page.
        pfn: u64,
        /// How many.
        count: u64,
        /// The window's first.
        first: u64,
        /// The window's last.
        last: u64,
    },
    /// cma_alloc has no such answer.
    #[error(
        "\"{0}\" is not an answer of an alloc; expect ok, -12 (no room) or -16 (busy; since 6.15 also no room)"
    )]
    Answer(String),
    /// There is no alloc before.
    #[error("there is no alloc before this expect; put it after one")]
    NoAnswer,
    /// A repeat has no end.
    #[error("this repeat has no end; write \"end\" on a line after the lines to repeat")]
    NoEnd,
    /// An end without a repeat.
    #[error("this end has no repeat; remove it")]
    NoRepeat,
    /// Repeats are nested too deep.
    #[error("this repeat is nested in {} others, which is the maximum depth", TURNS.len())]
    TooDeep,
    /// The script has too many steps.
    #[error(
        "with this line the script has more than {MAX_STEPS} steps, counting each turn of a repeat; use fewer"
    )]
    TooManySteps,
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut parser = Parser::default();
        let mut last = 1;
        for (line, text) in (1..).zip(text.lines()) {
            last = line;
            parser.line(line, text).map_err(|problem| ScriptError { line, problem })?;
        }
        if let Some(open) = parser.open.last() {
            return Err(ScriptError { line: open.line, problem: Problem::NoEnd });
        }
        let (line, window, area) =
            parser.window.ok_or(ScriptError { line: last, problem: Problem::NoWindow })?;
        let mut script = Self { window, area, steps: vec![Step { line, verb: Verb::Window }] };
        script.unroll(&parser.items, &mut Vec::new());
        script.check()?;
        Ok(script)
    }
}

impl Script {
    /// Appends the steps of `items`. `turns` are the turns of the enclosing repeats.
    fn unroll(&mut self, items: &[Item], turns: &mut Vec<u64>) {
        for item in items {
            match item {
                Item::Step(step) => {
                    let mut step = step.clone();
                    if let Verb::Alloc { id, .. } | Verb::Free { id } = &mut step.verb {
                        for (name, turn) in TURNS.iter().zip(turns.iter().rev()) {
                            *id = id.replace(name, &turn.to_string());
                        }
                    }
                    self.steps.push(step);
                }
                Item::Repeat { count, items } => {
                    for turn in 0..*count {
                        turns.push(turn);
                        self.unroll(items, turns);
                        turns.pop();
                    }
                }
            }
        }
    }

    /// The checks that need all steps in order.
    fn check(&self) -> Result<(), ScriptError> {
        // The lines where each ID was allocated and freed.
        let mut ids: HashMap<&str, (usize, Option<usize>)> = HashMap::new();
        for Step { line, verb } in &self.steps {
            let line = *line;
            let problem = match verb {
                Verb::Alloc { id, .. } => match ids.insert(id, (line, None)) {
                    Some((line, None)) => Problem::Taken { id: id.clone(), line },
                    _ => continue,
                },
                Verb::Free { id } => match ids.get_mut(id.as_str()) {
                    None => Problem::UnknownId(id.clone()),
                    Some((_, Some(line))) => Problem::DoubleFree { id: id.clone(), line: *line },
                    Some((_, freed)) => {
                        *freed = Some(line);
                        continue;
                    }
                },
                Verb::Expect(_) if ids.is_empty() => Problem::NoAnswer,
                Verb::Busy { pfn, count } | Verb::Idle { pfn, count } => {
                    let Range { start, end } = self.window.range();
                    let pfns = start / PAGE_SIZE..end / PAGE_SIZE;
                    if pfns.contains(pfn) && *count <= pfns.end - pfn {
                        continue;
                    }
                    let (first, last) = (pfns.start, pfns.end - 1);
                    Problem::Outside { pfn: *pfn, count: *count, first, last }
                }
                _ => continue,
            };
            return Err(ScriptError { line, problem });
        }
        Ok(())
    }
}

/// A step, or a repeat of steps.
#[derive(Debug)]
enum Item {
    Step(Step),
    Repeat { count: u64, items: Vec<Self> },
}

/// A repeat before its end.
#[derive(Debug)]
struct Open {
    line: usize,
    count: u64,
    /// The items before it.
    outer: Vec<Item>,
    outer_steps: u64,
}

/// The result of the lines so far.
#[derive(Debug, Default)]
struct Parser {
    window: Option<(usize, Window, Area)>,
    items: Vec<Item>,
    /// The number of steps of the items when unrolled.
    steps: u64,
    open: Vec<Open>,
}

impl Parser {
    fn line(&mut self, line: usize, text: &str) -> Result<(), Problem> {
        let text = text.split('#').next().unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let Some((verb, rest)) = words.split_first() else { return Ok(()) };
        let form = form(verb).ok_or_else(|| Problem::UnknownVerb(excerpt(verb)))?;
        match (&self.window, *verb) {
            (None, "window") => {
                let (window, area) = window(rest, form)?;
                self.window = Some((line, window, area));
                return Ok(());
            }
            (None, _) => return Err(Problem::NoWindow),
            (Some((first, ..)), "window") => return Err(Problem::TwoWindows(*first)),
            (Some(_), _) => (),
        }
        match (*verb, rest) {
            ("repeat", [count]) => self.repeat(line, number("number of turns", count)?),
            ("end", []) => self.end(),
            (verb, rest) => {
                let step = Step { line, verb: self.step(verb, rest, form)? };
                self.add(Item::Step(step), 1)
            }
        }
    }

    fn step(&self, verb: &str, rest: &[&str], form: &'static str) -> Result<Verb, Problem> {
        Ok(match (verb, rest) {
            ("alloc", [id, pages, options @ ..]) => {
                let [align] = fields(options, ["align"], form)?;
                let pages = nonzero("alloc", number("number of pages", pages)?)?;
                let default = || Ok(dma_alignment(pages.saturating_mul(PAGE_SIZE)));
                let align = align.map_or_else(default, |align| order("align", align))?;
                Verb::Alloc { id: self.id(id)?, pages, align }
            }
            ("free", [id]) => Verb::Free { id: self.id(id)? },
            ("busy" | "idle", [pfn, count]) => {
                let pfn = number("page frame number", pfn)?;
                let count = number("number of pages", count)?;
                match verb {
                    "busy" => Verb::Busy { pfn, count: nonzero("busy", count)? },
                    _ => Verb::Idle { pfn, count: nonzero("idle", count)? },
                }
            }
            ("expect", ["ok"]) => Verb::Expect(0),
            ("expect", ["-12"]) => Verb::Expect(-12),
            ("expect", ["-16"]) => Verb::Expect(-16),
            ("expect", [other]) => return Err(Problem::Answer(excerpt(other))),
            ("map", []) => Verb::Map,
            ("stats", []) => Verb::Stats,
            _ => return Err(Problem::Form(form)),
        })
    }

    fn repeat(&mut self, line: usize, count: u64) -> Result<(), Problem> {
        if self.open.len() == TURNS.len() {
            return Err(Problem::TooDeep);
        }
        let (outer, outer_steps) = (std::mem::take(&mut self.items), std::mem::take(&mut self.steps));
        self.open.push(Open { line, count, outer, outer_steps });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Open { count, outer, outer_steps, .. } = self.open.pop().ok_or(Problem::NoRepeat)?;
        let items = std::mem::replace(&mut self.items, outer);
        let steps = std::mem::replace(&mut self.steps, outer_steps);
        // An empty turn takes time, too.
        self.add(Item::Repeat { count, items }, count.saturating_mul(steps.max(1)))
    }

    fn add(&mut self, item: Item, steps: u64) -> Result<(), Problem> {
        self.items.push(item);
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS { Err(Problem::TooManySteps) } else { Ok(()) }
    }

    /// Checks an ID, in which the names of the present turns are allowed.
    fn id(&self, text: &str) -> Result<String, Problem> {
        let mut rest = text.to_owned();
        for name in &TURNS[..self.open.len()] {
            rest = rest.replace(name, "");
        }
        let allowed = rest.chars().all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
        if allowed && text.len() <= MAX_ID { Ok(text.to_owned()) } else { Err(Problem::Id(excerpt(text))) }
    }
}

/// The form of a verb's line.
pub(super) fn form(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "window" => "window SIZE [base=A] [name=S] [order_per_bit=N] [rules=R]",
        "alloc" => "alloc ID PAGES [align=N]",
        "free" => "free ID",
        "busy" => "busy PFN COUNT",
        "idle" => "idle PFN COUNT",
        "repeat" => "repeat N",
        "end" => "end",
        "expect" => "expect ok|-12|-16",
        "map" => "map",
        "stats" => "stats",
        _ => return None,
    })
}

/// The window of a line, and its area, with the name of a node of /reserved-memory.
fn window(words: &[&str], form: &'static str) -> Result<(Window, Area), Problem> {
    let [size, options @ ..] = words else { return Err(Problem::Form(form)) };
    let [base, name, bit, rules] = fields(options, ["base", "name", "order_per_bit", "rules"], form)?;
    let size = number("size", size)?;
    let base = base.map_or(Ok(DEFAULT_BASE), |base| number("base", base))?;
    let bit = bit.map_or(Ok(0), |bit| order("order_per_bit", bit))?;
    let name = name.unwrap_or("cma0");
    if !is_node_name(name) {
        return Err(Problem::Name(excerpt(name)));
    }
    let window = Window { name: name.to_owned(), base, size, ..Default::default() };
    let area = Area::of_window(&window, bit, rules.map_or(Ok(Rules::default()), str::parse)?)?;
    Ok((window, area))
}

/// The values of the fields `names`. Each may be given once, and no others.
fn fields<'a, const N: usize>(
    words: &[&'a str],
    names: [&str; N],
    form: &'static str,
) -> Result<[Option<&'a str>; N], Problem> {
    let mut values = [None; N];
    for word in words {
        let (name, value) = word.split_once('=').ok_or(Problem::Form(form))?;
        let index = names.iter().position(|known| *known == name).ok_or(Problem::Form(form))?;
        if values[index].replace(value).is_some() {
            return Err(Problem::Form(form));
        }
    }
    Ok(values)
}

fn number(what: &'static str, text: &str) -> Result<u64, Problem> {
    size::parse(text).map_err(|error| {
        let source = match error {
            SizeError::Nonsense(text) => SizeError::Nonsense(excerpt(&text)),
            SizeError::TooLarge(text) => SizeError::TooLarge(excerpt(&text)),
        };
        Problem::Number { what, source }
    })
}

fn nonzero(verb: &'static str, pages: u64) -> Result<u64, Problem> {
    if pages == 0 { Err(Problem::ZeroPages(verb)) } else { Ok(pages) }
}

fn order(what: &'static str, text: &str) -> Result<u32, Problem> {
    let order = number(what, text)?;
    u32::try_from(order).ok().filter(|order| *order < 52).ok_or(Problem::Order { what, order })
}

/// The beginning of a word, for an error, with control characters escaped.
fn excerpt(word: &str) -> String {
    word.chars().take(40).flat_map(char::escape_debug).collect()
}
