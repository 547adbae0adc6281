//! `--cma`: what the user asks for, before it has a place.

use std::str::FromStr;

use crate::size::{self, SizeError};

/// A window as asked for: `256M`, or `size=256M[,name=isp][,base=0x40000000][,default]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowSpec {
    /// Size in bytes, never zero.
    pub size: u64,
    /// Name of the node; [`place`](crate::place::place) finds one if there is none.
    pub name: Option<String>,
    /// First address; placed automatically if there is none.
    pub base: Option<u64>,
    /// This window is the default one.
    pub default: bool,
}

/// Why a window specification was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither a size nor a list of fields.
    #[error(
        "the CMA window \"{spec}\" has the unknown field \"{field}\"; the fields are size=, name=, base= and default"
    )]
    UnknownField {
        /// What was given.
        spec: String,
        /// The part of it that is unknown.
        field: String,
    },
    /// A size or an address could not be read.
    #[error("the CMA window \"{spec}\" has a bad {field}: {source}")]
    Size {
        /// What was given.
        spec: String,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        source: SizeError,
    },
    /// No size was given.
    #[error("the CMA window \"{0}\" has no size; give one, as in size=256M")]
    NoSize(String),
    /// Nothing to reserve.
    #[error("the CMA window \"{0}\" has size zero; leave --cma away for a guest without a window")]
    Zero(String),
    /// A name that no node of a device tree can have.
    #[error(
        "the CMA window \"{spec}\" has the name \"{name}\", which no device-tree node can have; \
         use 1 to 31 of the characters a-z A-Z 0-9 , . _ + - and begin with a letter"
    )]
    Name {
        /// What was given.
        spec: String,
        /// The name in it.
        name: String,
    },
    /// One field twice.
    #[error("the CMA window \"{spec}\" gives {field} twice; give it once")]
    Twice {
        /// What was given.
        spec: String,
        /// The field.
        field: &'static str,
    },
}

/// Whether a device-tree node can have this name (Devicetree Specification 0.4, section 2.2.1).
pub(crate) fn is_node_name(name: &str) -> bool {
    name.len() <= 31
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ",._+-".contains(c))
}

impl FromStr for WindowSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let spec = || text.to_owned();
        let number = |field, value: &str| {
            size::parse(value).map_err(|source| SpecError::Size { spec: spec(), field, source })
        };
        let mut window = Self::default();
        let mut given = Vec::new();
        for (position, part) in text.split(',').enumerate() {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let field = match key {
                "size" => {
                    window.size = number("size", value)?;
                    "size"
                }
                "base" => {
                    window.base = Some(number("base", value)?);
                    "base"
                }
                "name" => {
                    if !is_node_name(value) {
                        return Err(SpecError::Name { spec: spec(), name: value.to_owned() });
                    }
                    window.name = Some(value.to_owned());
                    "name"
                }
                "default" if part == "default" => {
                    window.default = true;
                    "default"
                }
                // The short form: the size alone, first.
                _ if position == 0 && !part.contains('=') => {
                    window.size = number("size", part)?;
                    "size"
                }
                _ => return Err(SpecError::UnknownField { spec: spec(), field: part.to_owned() }),
            };
            if given.contains(&field) {
                return Err(SpecError::Twice { spec: spec(), field });
            }
            given.push(field);
        }
        if !given.contains(&"size") {
            return Err(SpecError::NoSize(spec()));
        }
        if window.size == 0 {
            return Err(SpecError::Zero(spec()));
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms() {
        assert_eq!("256M".parse(), Ok(WindowSpec { size: 256 << 20, ..Default::default() }));
        assert_eq!(
            "size=64M,name=isp,base=0x40000000,default".parse(),
            Ok(WindowSpec {
                size: 64 << 20,
                name: Some("isp".into()),
                base: Some(0x4000_0000),
                default: true
            })
        );
        assert_eq!("64M,default".parse(), "default,size=64M".parse::<WindowSpec>());
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        for (text, part) in [
            ("", "not a size"),
            ("0", "size zero"),
            ("size=0", "size zero"),
            ("256Q", "\"256Q\" is not a size"),
            ("size=-1", "\"-1\" is not a size"),
            ("99E", "more than 64 bits"),
            ("name=isp", "has no size"),
            ("64M,colour=red", "unknown field \"colour=red\""),
            ("64M,default=1", "unknown field \"default=1\""),
            ("64M,", "unknown field \"\""),
            ("64M,64M", "unknown field \"64M\""),
            ("64M,size=64M", "gives size twice"),
            ("64M,name=a b", "which no device-tree node can have"),
            ("64M,name=", "which no device-tree node can have"),
            ("64M,base=here", "bad base"),
        ] {
            let error = text.parse::<WindowSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9=,xKMG ]{0,40}") {
            let _ = text.parse::<WindowSpec>();
        }
    }
}
