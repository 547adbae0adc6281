//! The value of `--metrics`: where the figures go.

use std::{path::PathBuf, str::FromStr};

/// What the name of a socket begins with.
pub const SOCKET: &str = "unix:";

/// Where the figures of a machine go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsPlace {
    /// A file that is replaced every few seconds.
    File(PathBuf),
    /// A Unix socket that answers HTTP.
    Socket(PathBuf),
}

impl FromStr for MetricsPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, place): (_, fn(PathBuf) -> Self) = match text.strip_prefix(SOCKET) {
            Some(path) => (path, Self::Socket),
            None => (text, Self::File),
        };
        if path.is_empty() || path.ends_with('/') {
            return Err(format!("'{text}' names no file; write FILE, or unix:FILE for a socket"));
        }
        Ok(place(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_prefix() {
        assert_eq!("a.prom".parse(), Ok(MetricsPlace::File("a.prom".into())));
        assert_eq!("./unix:a".parse(), Ok(MetricsPlace::File("./unix:a".into())));
        assert_eq!("unix:/run/a".parse(), Ok(MetricsPlace::Socket("/run/a".into())));
        for text in ["", "unix:", "folder/"] {
            assert!(text.parse::<MetricsPlace>().unwrap_err().contains("names no file"), "{text}");
        }
    }
}
