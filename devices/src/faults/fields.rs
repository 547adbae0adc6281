//! The fields of a table in a plan, each taken once and with its place, so that an error can say where it is.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::read::Problem;

/// What is left of a table's fields.
pub(super) struct Fields<'a> {
    /// What the table is, for errors.
    what: &'static str,
    table: DeTable<'a>,
    pub(super) span: Range<usize>,
    /// The names that were asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(what: &'static str, value: Spanned<DeValue<'a>>) -> Result<Self, Problem> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Ok(Self { what, table, span, known: Vec::new() }),
            other => Err(Problem::new(span, format!("{what} is a table, not {}", kind(&other)))),
        }
    }

    /// The field `name`, if there is one.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(name);
        self.table.remove(name)
    }

    /// The field `name`, which there must be.
    fn require<T>(&self, name: &str, taken: Option<T>) -> Result<T, Problem> {
        taken.ok_or_else(|| {
            Problem::new(self.span.clone(), format!("{} has no {name}; give it one", self.what))
        })
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<Spanned<String>>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) if !text.is_empty() => Ok(Some(Spanned::new(span, Cow::into_owned(text)))),
            other => Err(Problem::new(span, format!("{name} is a text, not {}", kind(&other)))),
        }
    }

    /// A text that there must be.
    pub(super) fn needed_text(&mut self, name: &'static str) -> Result<Spanned<String>, Problem> {
        let text = self.text(name)?;
        self.require(name, text)
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: Range<i64>,
    ) -> Result<Option<Spanned<i64>>, Problem> {
        self.take(name).map(|value| number(name, &value, &range)).transpose()
    }

    /// A whole number within `range` that there must be.
    pub(super) fn needed_number<T: TryFrom<i64>>(
        &mut self,
        name: &'static str,
        range: Range<i64>,
    ) -> Result<T, Problem> {
        let number = self.number(name, range)?;
        let number = self.require(name, number)?;
        T::try_from(*number.get_ref())
            .map_err(|_| Problem::new(number.span(), format!("{name} is too large")))
    }

    /// Complains about a field that nobody asked for.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.table.iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::new(
                name.span(),
                format!("{} has no '{}'; it has {}", self.what, name.get_ref(), self.known.join(", ")),
            )),
        }
    }
}

/// `value` as a whole number within `range`.
pub(super) fn number(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    range: &Range<i64>,
) -> Result<Spanned<i64>, Problem> {
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

/// What a value is, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
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
