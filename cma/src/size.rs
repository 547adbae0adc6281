//! Sizes and addresses as people write them, in the syntax of the kernel's memparse (lib/cmdline.c).

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with an optional suffix.
    #[error(
        "\"{0}\" is not a size; write a number, decimal or 0x..., with K, M, G or T after it if wanted, as in 256M"
    )]
    Nonsense(String),
    /// It does not fit in 64 bits.
    #[error("\"{0}\" does not fit in 64 bits; the largest size is below 16E")]
    TooLarge(String),
}

/// Reads a size in bytes: decimal, 0x hexadecimal or 0 octal, then K, M, G, T, P or E in either case.
///
/// Unlike memparse, it refuses a text with trailing characters.
///
/// # Errors
/// If the text is not a size or does not fit in 64 bits.
///
/// ```
/// assert_eq!(cma::size::parse("256M"), Ok(256 << 20));
/// assert_eq!(cma::size::parse("0x40000000"), Ok(1 << 30));
/// assert!(cma::size::parse("256MB").is_err());
/// ```
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let nonsense = || SizeError::Nonsense(text.to_owned());
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.char_indices().next_back() {
        Some((at, 'k')) => (&lower[..at], 10),
        Some((at, 'm')) => (&lower[..at], 20),
        Some((at, 'g')) => (&lower[..at], 30),
        Some((at, 't')) => (&lower[..at], 40),
        Some((at, 'p')) => (&lower[..at], 50),
        // In hexadecimal an e is a digit.
        Some((at, 'e')) if !lower.starts_with("0x") => (&lower[..at], 60),
        _ => (lower.as_str(), 0),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(nonsense());
    }
    let too_large = || SizeError::TooLarge(text.to_owned());
    let number = u64::from_str_radix(digits, radix).map_err(|_| too_large())?;
    number.checked_mul(1 << shift).ok_or_else(too_large)
}

/// Writes a size in the largest unit that divides it.
///
/// ```
/// assert_eq!(cma::size::format(256 << 20), "256M");
/// assert_eq!(cma::size::format(4097), "4097");
/// ```
pub fn format(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    let (shift, unit) = [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes.trailing_zeros() >= *shift)
        .unwrap_or((0, ""));
    format!("{}{unit}", bytes >> shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_memparse_takes() {
        for (text, bytes) in
            [("0", 0), ("1k", 1024), ("010", 8), ("0x10M", 16 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse("0x1e"), Ok(0x1e));
        assert_eq!(parse("1e"), Ok(1 << 60));
    }

    #[test]
    fn nonsense_and_too_much_are_refused() {
        for text in ["", "M", "x", "-1M", "+1", "1 M", "1.5G", "256MB", "0x", "09", "ü", "1ü"] {
            assert!(matches!(parse(text), Err(SizeError::Nonsense(_))), "{text}");
        }
        for text in ["16E", "99999999999999999999", "0x1ffffffffffffffffK"] {
            assert!(matches!(parse(text), Err(SizeError::TooLarge(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u64) {
            prop_assert_eq!(parse(&format(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
