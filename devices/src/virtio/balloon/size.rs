//! The size that the host asks for: its text, and its limits.

use super::pages::PAGE;
use crate::platform::options::{Given, OptionError};

/// The name of the device in `--device NAME`.
pub(super) const NAME: &str = "balloon";

/// The key of the size.
pub(super) const KEY: &str = "size";

/// What a size is. The configuration space has 32 bits for the number of pages.
const VALID: &str = "a size in whole pages of 4K below 16T, as in 64M";

/// A balloon that would take all of the guest's memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "a balloon of {size} bytes takes all {ram} bytes of guest memory; make size= smaller, or --memory larger"
)]
pub(super) struct TooLarge {
    size: u64,
    ram: u64,
}

/// Reads the value of the key, in bytes.
pub(super) fn read(value: &str) -> Result<u64, OptionError> {
    let given = Given { device: NAME, key: KEY, value };
    given.size(|size| size % PAGE == 0 && size / PAGE <= u32::MAX.into(), VALID)
}

/// Whether a balloon of `size` bytes leaves something of `ram` bytes to the guest.
pub(super) fn check(size: u64, ram: u64) -> Result<(), TooLarge> {
    if size < ram { Ok(()) } else { Err(TooLarge { size, ram }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_in_whole_pages() {
        assert_eq!((read("64M"), read("0")), (Ok(64 << 20), Ok(0)));
        for value in ["1", "16T", "-4K", ""] {
            let expected = format!("the balloon's size cannot be '{value}'; valid is {VALID}");
            assert_eq!(read(value).unwrap_err().to_string(), expected);
        }
        assert!(check(4096, 8192).is_ok() && check(8192, 8192).is_err());
    }
}
