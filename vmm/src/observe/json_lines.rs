//! JSON for people and programs: indented, but with the innermost objects on one line each. A report has one for each changed byte.

use std::io::{self, Write};

use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// The depth below which everything is on one line: that of the changes in `faults.firings[].changes[]` of a report.
const DEPTH: usize = 5;

/// The formatter of a report.
#[derive(Default)]
pub struct JsonLines {
    pretty: PrettyFormatter<'static>,
    depth: usize,
}

/// Calls a method of the formatter for this depth.
macro_rules! at_depth {
    ($self:ident.$method:ident($($argument:ident),*)) => {
        if $self.depth > DEPTH {
            CompactFormatter.$method($($argument),*)
        } else {
            $self.pretty.$method($($argument),*)
        }
    };
}

impl Formatter for JsonLines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        at_depth!(self.begin_array(writer))
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let ended = at_depth!(self.end_array(writer));
        self.depth -= 1;
        ended
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        at_depth!(self.begin_array_value(writer, first))
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        at_depth!(self.end_array_value(writer))
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        at_depth!(self.begin_object(writer))
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let ended = at_depth!(self.end_object(writer));
        self.depth -= 1;
        ended
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        at_depth!(self.begin_object_key(writer, first))
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        at_depth!(self.begin_object_value(writer))
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        at_depth!(self.end_object_value(writer))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;
    use serde_json::{Serializer, Value, json};

    use super::*;

    #[test]
    fn a_change_is_a_line_and_the_rest_is_indented() {
        let change = |address: u64| json!({ "address": address, "list": [1, { "a": [] }] });
        let firing = json!({ "rule": "a", "changes": [change(1), change(2)], "none": [], "empty": {} });
        let report = json!({ "faults": { "firings": [firing.clone(), firing] }, "seconds": 1.5 });
        let mut text = Vec::new();
        report.serialize(&mut Serializer::with_formatter(&mut text, JsonLines::default())).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), report);
        let line = "          {\"address\":1,\"list\":[1,{\"a\":[]}]},\n";
        assert_eq!(text.matches(line).count(), 2, "{text}");
        let pretty = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(text.lines().next_back(), pretty.lines().next_back());
        assert!(text.contains("\n  \"seconds\": 1.5\n"), "{text}");
    }
}
