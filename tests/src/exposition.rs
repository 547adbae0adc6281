//! A strict reader of Prometheus' text exposition format 0.0.4: it refuses what some scraper could refuse.

use std::collections::{BTreeMap, BTreeSet};

/// A sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: String,
    /// The labels with their values, without escapes.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// The samples of a text, which has each metric in one group that begins with its lines HELP and TYPE.
///
/// # Errors
/// The first mistake, with its line.
pub fn samples(text: &str) -> Result<Vec<Sample>, String> {
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut reader = Reader::default();
    for (line, number) in text.trim_end_matches('\n').split('\n').zip(1..) {
        reader.line(line).map_err(|mistake| format!("line {number}: {mistake}: {line}"))?;
    }
    reader.end()?;
    Ok(reader.samples)
}

/// The value of the one sample with this name and, among others, these labels.
///
/// # Panics
/// If the text does not have exactly one.
#[track_caller]
pub fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
    };
    let found: Vec<&Sample> = samples.iter().filter(has).collect();
    let [sample] = found[..] else { panic!("{name} with {labels:?} has {} samples", found.len()) };
    sample.value
}

#[derive(Default)]
struct Reader {
    /// The metric of the group, and its type once that is known.
    group: Option<(String, Option<String>)>,
    /// The names of all groups.
    known: BTreeSet<String>,
    /// Whether the group has a sample.
    has_sample: bool,
    seen: BTreeSet<String>,
    samples: Vec<Sample>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').ok_or("HELP has no text")?;
            self.end()?;
            if !self.known.insert(name.to_owned()) {
                return Err("the metric has two groups".to_owned());
            }
            unescaped(text, false)?;
            is_name(name, true)?;
            (self.group, self.has_sample) = (Some((name.to_owned(), None)), false);
            Ok(())
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').ok_or("TYPE has no type")?;
            match &mut self.group {
                Some((of, known @ None)) if of == name && !self.has_sample => *known = Some(kind.to_owned()),
                _ => return Err("TYPE does not follow its HELP".to_owned()),
            }
            match kind {
                "gauge" => Ok(()),
                "counter" if name.ends_with("_total") => Ok(()),
                _ => Err("the type is not a gauge, or a counter whose name ends with _total".to_owned()),
            }
        } else {
            self.sample(line)
        }
    }

    /// The end of a group.
    fn end(&self) -> Result<(), String> {
        if self.group.is_some() && !self.has_sample {
            return Err("a group has no sample".to_owned());
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let name_end = line.find(['{', ' ']).ok_or("a sample has no value")?;
        let (name, rest) = line.split_at(name_end);
        let Some((group, Some(kind))) = &self.group else { return Err("a sample has no TYPE".to_owned()) };
        if name != group {
            return Err("the sample is of another metric".to_owned());
        }
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or("there is no space before the value")?;
        let is_number = |c: char| c.is_ascii_digit() || ['.', '-', '+', 'e', 'E'].contains(&c);
        if value.is_empty() || !value.chars().all(is_number) {
            return Err("the value is not a finite number, or something follows it".to_owned());
        }
        let value: f64 = value.parse().map_err(|error| format!("{error}"))?;
        if kind == "counter" && value < 0.0 {
            return Err("a counter is negative".to_owned());
        }
        if !self.seen.insert(format!("{name}{labels:?}")) {
            return Err("the sample comes twice".to_owned());
        }
        self.has_sample = true;
        self.samples.push(Sample { name: name.to_owned(), labels, value });
        Ok(())
    }
}

/// Reads labels to their closing brace. Returns them with what follows.
fn read_labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label has no value in quotes")?;
        is_name(name, false)?;
        let mut escaped = false;
        let end = after.find(|c| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let end = end.ok_or("the value of a label has no end")?;
        if labels.insert(name.to_owned(), unescaped(&after[..end], true)?).is_some() {
            return Err("a label comes twice".to_owned());
        }
        let after = &after[end + 1..];
        if let Some(after) = after.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = after.strip_prefix(',').ok_or("no comma follows a label")?;
    }
}

/// Whether `name` is that of a metric, or of a label.
fn is_name(name: &str, metric: bool) -> Result<(), String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || metric && c == ':';
    let is_next = |c: char| is_first(c) || c.is_ascii_digit();
    if name.starts_with(is_first) && name.chars().all(is_next) && (metric || !name.starts_with("__")) {
        Ok(())
    } else {
        Err(format!("'{name}' is no name"))
    }
}

/// `text` without its escapes. The `value` of a label can have a quote.
fn unescaped(text: &str, value: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if value => '"',
                other => return Err(format!("there is no escape \\{}", other.unwrap_or(' '))),
            },
            other => other,
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_read() {
        let text = "# HELP a_total A \\\\ b.\n# TYPE a_total counter\na_total{x=\"a,\\\"}\\\\\",y=\"\"} 3\n\
                    a_total 1e3\n# HELP b B.\n# TYPE b gauge\nb -0.5\n";
        let samples = samples(text).unwrap();
        assert_eq!(samples.len(), 3);
        assert_eq!((&*samples[0].labels["x"], &*samples[0].labels["y"]), ("a,\"}\\", ""));
        assert_eq!(value(&samples, "a_total", &[("y", "")]), 3.0);
        assert_eq!(value(&samples, "b", &[]), -0.5);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let good = "# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 1\n";
        samples(good).unwrap();
        for (from, to) in [
            ("1\n", "1"),
            ("# HELP a A.\n", ""),
            ("# TYPE a gauge\n", ""),
            ("# TYPE a gauge\n", "# TYPE a counter\n"),
            ("# TYPE a gauge\n", "# TYPE b gauge\n"),
            ("a{x=\"1\"} 1\n", ""),
            ("a{x=\"1\"} 1\n", "b 1\n"),
            ("a{x=\"1\"} 1\n", "a{x=\"1\"} 1\na{x=\"1\"} 2\n"),
            ("a{x=\"1\"} 1\n", "a{x=\"1\"} 1\n# HELP a A.\n# TYPE a gauge\na 2\n"),
            ("} 1", "}  1"),
            ("} 1", "} 1 1700000000"),
            ("} 1", "} NaN"),
            ("} 1", "} one"),
            ("\"1\"", "\"1"),
            ("\"1\"", "1"),
            ("\"1\"", "\"\\t\""),
            ("x=\"1\"", "x=\"1\","),
            ("x=\"1\"", "x=\"1\",x=\"2\""),
            ("x=", "1x="),
            ("A.", "A\\t."),
            ("A.\n", "A.\n\n"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(samples(&bad).is_err(), "{bad}");
        }
    }
}
