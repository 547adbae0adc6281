//! The fields of a TOML table in a plan, or in an experiment. Each is taken once and with its place, so that an error can say
//! where it is.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A mistake in a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {text}")]
pub struct PlanError {
    /// Line; the first is 1.
    pub line: usize,
    /// Character of the line; the first is 1.
    pub column: usize,
    /// The mistake, and what would be right.
    pub text: String,
}

/// A mistake in a file, with the bytes where it is.
#[derive(Debug)]
pub struct Problem {
    span: Range<usize>,
    text: String,
}

impl Problem {
    /// A mistake in the bytes of `span`.
    pub fn new(span: Range<usize>, text: impl Into<String>) -> Self {
        Self { span, text: text.into() }
    }

    /// The same, with its line and character in the text of the file.
    pub fn located(self, file: &str) -> PlanError {
        let before = &file[..file.floor_char_boundary(self.span.start.min(file.len()))];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        PlanError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text: self.text,
        }
    }
}

/// The fields of a table that are not taken yet.
#[derive(Debug)]
pub struct Fields<'a> {
    /// The name of the table, for errors.
    what: &'static str,
    table: DeTable<'a>,
    /// Where it is.
    pub span: Range<usize>,
    /// The names that the reader asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of a `value`, which errors call `what`.
    ///
    /// # Errors
    /// If it is not a table.
    pub fn new(what: &'static str, value: Spanned<DeValue<'a>>) -> Result<Self, Problem> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Ok(Self { what, table, span, known: Vec::new() }),
            other => Err(Problem::new(span, format!("{what} is a table, not {}", kind(&other)))),
        }
    }

    /// The field `name`, if there is one.
    pub fn take(&mut self, name: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(name);
        self.table.remove(name)
    }

    /// The field `name`, if there is one, which is not taken yet.
    pub(super) fn get(&self, name: &str) -> Option<&Spanned<DeValue<'a>>> {
        self.table.get(name)
    }

    /// The complaint about a missing field `name`.
    pub(super) fn missing(&self, name: &str) -> Problem {
        Problem::new(self.span.clone(), format!("{} has no {name}; give it one", self.what))
    }

    /// The field `name`, or a complaint that it is missing.
    fn require<T>(&self, name: &str, taken: Option<T>) -> Result<T, Problem> {
        taken.ok_or_else(|| self.missing(name))
    }

    /// The fields of a whole file, which errors call `what`.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn of_file(what: &'static str, text: &'a str) -> Result<Self, Problem> {
        let table = DeTable::parse(text).map_err(|error| {
            // The parser's message may have lines of its own.
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            Problem::new(error.span().unwrap_or(0..0), format!("this is no TOML: {message}"))
        })?;
        Self::new(what, Spanned::new(table.span(), DeValue::Table(table.into_inner())))
    }

    /// The values that are not taken yet.
    pub fn values(&self) -> impl Iterator<Item = &Spanned<DeValue<'a>>> {
        self.table.iter().map(|(_, value)| value)
    }

    /// The values that are not taken yet, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Spanned<DeValue<'a>>> {
        self.table.iter_mut().map(|(_, value)| value)
    }

    /// The text `name`, if the table has it.
    ///
    /// # Errors
    /// If it is not a text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<Spanned<String>>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) if !text.is_empty() => Ok(Some(Spanned::new(span, Cow::into_owned(text)))),
            other => Err(Problem::new(span, format!("{name} is a text, not {}", kind(&other)))),
        }
    }

    /// The text `name`.
    ///
    /// # Errors
    /// If it is missing, or not a text.
    pub fn needed_text(&mut self, name: &'static str) -> Result<Spanned<String>, Problem> {
        let text = self.text(name)?;
        self.require(name, text)
    }

    /// The whole number `name` within `range`, if the table has it.
    ///
    /// # Errors
    /// If it is not such a number.
    pub fn number(&mut self, name: &'static str, range: Range<i64>) -> Result<Option<Spanned<i64>>, Problem> {
        self.take(name).map(|value| number(name, &value, &range)).transpose()
    }

    /// The whole number `name` within `range`.
    ///
    /// # Errors
    /// If it is missing, or not such a number.
    pub fn needed_number<T: TryFrom<i64>>(
        &mut self,
        name: &'static str,
        range: Range<i64>,
    ) -> Result<T, Problem> {
        let number = self.number(name, range)?;
        let number = self.require(name, number)?;
        T::try_from(*number.get_ref())
            .map_err(|_| Problem::new(number.span(), format!("{name} is too large")))
    }

    /// Ends the table.
    ///
    /// # Errors
    /// If it has a field that the reader did not ask for.
    pub fn end(self) -> Result<(), Problem> {
        match self.table.iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::new(
                name.span(),
                format!("{} has no '{}'; it has {}", self.what, name.get_ref(), self.known.join(", ")),
            )),
        }
    }
}

/// Reads `value` as a whole number within `range`.
///
/// # Errors
/// If it is not such a number.
pub fn number(name: &str, value: &Spanned<DeValue<'_>>, range: &Range<i64>) -> Result<Spanned<i64>, Problem> {
    let number = match value.get_ref() {
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok(),
        other => {
            return Err(Problem::new(value.span(), format!("{name} is a whole number, not {}", kind(other))));
        }
    };
    number
        .filter(|number| range.contains(number))
        .map(|number| Spanned::new(value.span(), number))
        .ok_or_else(|| {
            let (least, most) = (range.start, range.end - 1);
            let limits = if range.end == i64::MAX {
                format!("at least {least}")
            } else {
                format!("from {least} to {most}")
            };
            Problem::new(value.span(), format!("{name} cannot be that; it is {limits}"))
        })
}

/// The kind of a value, with its article.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(text) if text.is_empty() => "an empty one",
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
