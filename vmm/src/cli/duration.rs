//! Times on the command line: `30s`, `5m`, `1h`, or a plain number of seconds.

use std::time::Duration;

/// Reads a time of at least one second.
///
/// # Errors
/// If the text is not such a time: a sentence.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    // A number alone, as u64's parser also takes a sign.
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds =
        number.and_then(|number| number.checked_mul(unit)).filter(|seconds| (1..=MAX).contains(seconds));
    let seconds = seconds.ok_or_else(|| {
        format!("\"{text}\" is not a time; write a number of seconds, or a number with s, m or h, as in 30s, 5m or 1h")
    })?;
    Ok(Duration::from_secs(seconds))
}

/// The longest time, in seconds: a year.
const MAX: u64 = 366 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h", 3600), ("7", 7)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "0",
            "0m",
            "1.5s",
            "-1",
            "+1",
            "5 m",
            "5min",
            "1d",
            "99999999999h",
            "18446744073709551615",
        ] {
            assert!(
                parse(text).unwrap_err().starts_with(&format!("\"{text}\" is not a time; write ")),
                "{text}"
            );
        }
    }
}
