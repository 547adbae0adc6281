//! A line of a kernel log as people paste it: without colours, quotes and control characters; its time stamp.

use std::iter::Peekable;

/// The text of a line: without escape sequences of a terminal, control characters, the `>` of a quotation and the escapes of HTML.
pub(super) fn clean(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape_sequence(&mut chars),
            '\t' | '\u{a0}' => text.push(' '),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    let text = text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&");
    text.trim_start_matches([' ', '>', '|']).trim_end().to_owned()
}

/// Skips the rest of an escape sequence: `[`, parameters, and a final letter (ECMA-48, control sequences).
fn skip_escape_sequence(chars: &mut Peekable<impl Iterator<Item = char>>) {
    if chars.next_if_eq(&'[').is_some() {
        while chars.next_if(|c| ('\u{20}'..'\u{40}').contains(c)).is_some() {}
        chars.next_if(|c| ('\u{40}'..'\u{7f}').contains(c));
    }
}

/// The time stamp of printk, in seconds since the boot: `[   12.345678]`, or `[   12.345678@0]` as some vendors print it.
pub(super) fn time(line: &str) -> Option<f64> {
    line.match_indices('[').find_map(|(at, _)| {
        let inside = line[at + 1..].trim_start_matches(' ');
        let end = inside.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &inside[..end];
        let (seconds, fraction) = number.split_once('.')?;
        let digits = |text: &str, most| (1..=most).contains(&text.len());
        let valid = digits(seconds, 10) && digits(fraction, 9) && inside[end..].starts_with([']', '@']);
        number.parse().ok().filter(|_| valid)
    })
}

/// The number after `before`, and the text after the number.
pub(super) fn number_after<'a>(text: &'a str, before: &str) -> Option<(u64, &'a str)> {
    let (_, rest) = text.split_once(before)?;
    let rest = rest.trim_start();
    let (digits, radix) = match rest.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (rest, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    Some((u64::from_str_radix(&digits[..end], radix).ok()?, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_kinds() {
        for line in [
            "cma: x",
            "> > cma: x\r",
            "\u{1b}[0;33mcma: \u{1b}[0mx\u{1b}[K",
            "  | cma:\u{a0}x  ",
            "&gt; cma: x\u{7}",
            "cma: x\u{1b}",
        ] {
            assert_eq!(clean(line), "cma: x", "{line:?}");
        }
        assert_eq!(clean("> =&gt; 3 free"), "=> 3 free");
    }

    #[test]
    fn time_stamps() {
        for (line, seconds) in [
            ("[    0.000000] x", Some(0.0)),
            ("<6>[  12.500000@2] x", Some(12.5)),
            ("Nov 29 08:00:00 host kernel: [12.5][    T1] x", Some(12.5)),
            ("[a4400, a4500) PFNs busy", None),
            ("[12] x [1.2.3] y [.5] [3.] z", None),
        ] {
            assert_eq!(time(line), seconds, "{line}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number_after("req-size: 12 pages", "req-size:"), Some((12, " pages")));
        assert_eq!(number_after("at 0x3c000000 on", "at "), Some((0x3c00_0000, " on")));
        assert_eq!(number_after("at all", "at "), None);
        assert_eq!(number_after("at 99999999999999999999", "at "), None);
    }
}
