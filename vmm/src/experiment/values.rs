//! Reads values of an experiment's file: texts, lists, counts, and tables whose keys the user chooses.

use std::ops::RangeInclusive;

use devices::faults::fields::{Fields, Problem, kind, number};
use toml::{Spanned, de::DeValue};

/// The least and the most that a count may be.
pub(super) type Count = RangeInclusive<u64>;

/// A field with its name.
type Pair<'a> = (Spanned<String>, Spanned<DeValue<'a>>);

/// The fields of a table whose keys the user chooses.
pub(super) fn pairs<'a>(what: &str, value: Spanned<DeValue<'a>>) -> Result<Vec<Pair<'a>>, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(table
            .into_iter()
            .map(|(name, value)| (Spanned::new(name.span(), name.into_inner().into_owned()), value))
            .collect()),
        other => Err(Problem::new(span, format!("{what} is a table, not {}", kind(&other)))),
    }
}

/// The counts in the table `name`, by their keys.
pub(super) fn counts(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Result<Vec<(Spanned<String>, Count)>, Problem> {
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
pub(super) fn count(name: &str, value: &Spanned<DeValue<'_>>) -> Result<Count, Problem> {
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
            format!("{least} is larger than {most}; write the smaller number first"),
        ));
    }
    Ok(least..=most)
}

/// A whole number that is not negative.
pub(super) fn unsigned(name: &str, value: &Spanned<DeValue<'_>>) -> Result<u64, Problem> {
    Ok(number(name, value, &(0..i64::MAX))?.get_ref().unsigned_abs())
}

/// A text that is not empty.
pub(super) fn text(name: &str, value: Spanned<DeValue<'_>>) -> Result<String, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::String(text) if !text.is_empty() => Ok(text.into_owned()),
        other => Err(Problem::new(span, format!("{name} is a text, not {}", kind(&other)))),
    }
}

/// A list that is not empty; `read` reads each element.
pub(super) fn list<'a, T>(
    name: &str,
    value: Spanned<DeValue<'a>>,
    read: impl Fn(Spanned<DeValue<'a>>) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Array(values) if !values.is_empty() => values.into_iter().map(read).collect(),
        DeValue::Array(_) => Err(Problem::new(span, format!("{name} is an empty list; omit it"))),
        other => Err(Problem::new(span, format!("{name} is a list, not {}", kind(&other)))),
    }
}
