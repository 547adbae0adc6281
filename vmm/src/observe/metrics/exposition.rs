//! Prometheus' text exposition format, version 0.0.4 (prometheus.io, "Exposition formats"): writes families of samples.

use std::fmt::{Display, Write as _};

/// The media type of the format.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It changes in both directions.
    Gauge,
}

impl Kind {
    /// The format's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A text of the format. Each family is written once, with its samples.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins the family `name`: the samples that follow are of it.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {}", escaped(help, false));
        let _ = writeln!(self.0, "# TYPE {name} {}", kind.name());
        Family { text: &mut self.0, name }
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

/// A family of samples.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Family<'_> {
    /// Adds a sample. The `labels` have any text as value; no two samples of a family have the same labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(text, true));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

/// `text` with the escapes of the format: the backslash and the newline, and in the `value` of a label the quote, too.
fn escaped(text: &str, value: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if value => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `text` as a part of a metric's name: letters, digits and underscores.
pub fn name_part(text: &str) -> String {
    text.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_names_are_valid() {
        let mut exposition = Exposition::default();
        let mut family = exposition.family("a_total", Kind::Counter, "Back\\slash \"and\"\nnewline.");
        family.sample(&[("rule", "a\"b\\c\nd"), ("on", "x")], 3);
        family.sample(&[], 1.5);
        exposition.family("b", Kind::Gauge, "B.");
        assert_eq!(
            exposition.text(),
            "# HELP a_total Back\\\\slash \"and\"\\nnewline.\n# TYPE a_total counter\n\
             a_total{rule=\"a\\\"b\\\\c\\nd\",on=\"x\"} 3\na_total 1.5\n# HELP b B.\n# TYPE b gauge\n"
        );
        assert_eq!(name_part("bus-errors.é"), "bus_errors__");
    }
}
