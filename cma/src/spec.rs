//! `--cma`: what the user asks for, before it has a place.

use std::{ops::Range, str::FromStr};

use crate::size::{self, SizeError};

/// A window as asked for: `256M`, or any of the fields of [`WindowSpec::HELP`], with commas between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowSpec {
    /// Size in bytes, never zero.
    pub size: u64,
    /// Name of the node; [`place`](crate::place::place) finds one if there is none.
    pub name: Option<String>,
    /// First address; placed automatically if there is none.
    pub base: Option<u64>,
    /// What the base is a multiple of, if more than a pageblock.
    pub align: Option<u64>,
    /// It lies in the RAM of this NUMA node.
    pub node: Option<u32>,
    /// The guest's kernel places it, in this range.
    pub alloc_ranges: Option<Range<u64>>,
    /// This window is the default one.
    pub default: bool,
    /// On purpose without `reusable`.
    pub not_reusable: bool,
    /// On purpose with `no-map`.
    pub no_map: bool,
}

impl WindowSpec {
    /// The fields, for a command's help.
    pub const HELP: &str = "\
size=SIZE          with K, M or G; first, it may be the number alone
name=NAME          of its node (default: cma0, cma1, ...)
base=ADDRESS       its place (default: as high as it fits below 4 GiB)
align=SIZE         its place is a multiple of this
node=N             its place is in the RAM of this NUMA node
alloc-ranges=A-B   its place is the guest kernel's choice between these addresses
default            the window of devices that have none of their own (default: the first)
not-reusable       without `reusable`: a carveout of coherent memory, and no CMA window
no-map             with `no-map`: the kernel does not map it";
}

/// Why a window specification was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither a size nor a list of fields.
    #[error(
        "the CMA window \"{spec}\" has the unknown field \"{field}\"; the fields are size=, name=, base=, align=, \
         node=, alloc-ranges=, default, not-reusable and no-map"
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
    /// An alignment that is none.
    #[error(
        "the CMA window \"{spec}\" has the alignment {align:#x}, which is not a power of two; give one, as in align=16M"
    )]
    Align {
        /// What was given.
        spec: String,
        /// The alignment in it.
        align: u64,
    },
    /// A range that is none.
    #[error(
        "the CMA window \"{spec}\" has the range \"{range}\"; write the first address and the one behind the last, as in alloc-ranges=0x60000000-0x80000000"
    )]
    Range {
        /// What was given.
        spec: String,
        /// The range in it.
        range: String,
    },
    /// A node that is none.
    #[error("the CMA window \"{spec}\" has the NUMA node \"{node}\"; write its number, as in node=1")]
    Node {
        /// What was given.
        spec: String,
        /// The node in it.
        node: String,
    },
    /// Two places.
    #[error("the CMA window \"{spec}\" has {other} and alloc-ranges; give one of them")]
    TwoPlaces {
        /// What was given.
        spec: String,
        /// What cannot be beside alloc-ranges.
        other: &'static str,
    },
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
                "align" => {
                    let align = number("align", value)?;
                    if !align.is_power_of_two() {
                        return Err(SpecError::Align { spec: spec(), align });
                    }
                    window.align = Some(align);
                    "align"
                }
                "node" => {
                    let node = value.parse();
                    window.node =
                        Some(node.map_err(|_| SpecError::Node { spec: spec(), node: value.to_owned() })?);
                    "node"
                }
                "alloc-ranges" => {
                    let range = value.split_once('-').and_then(|(start, end)| {
                        Some(size::parse(start).ok()?..size::parse(end).ok()?)
                            .filter(|range| !range.is_empty())
                    });
                    let bad = || SpecError::Range { spec: spec(), range: value.to_owned() };
                    window.alloc_ranges = Some(range.ok_or_else(bad)?);
                    "alloc-ranges"
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
                "not-reusable" if part == "not-reusable" => {
                    window.not_reusable = true;
                    "not-reusable"
                }
                "no-map" if part == "no-map" => {
                    window.no_map = true;
                    "no-map"
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
        if window.alloc_ranges.is_some() {
            for (given, other) in [(window.base.is_some(), "a base"), (window.node.is_some(), "a node")] {
                if given {
                    return Err(SpecError::TwoPlaces { spec: spec(), other });
                }
            }
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
            "size=64M,name=isp,base=0x40000000,node=1,default".parse(),
            Ok(WindowSpec {
                size: 64 << 20,
                name: Some("isp".into()),
                base: Some(0x4000_0000),
                node: Some(1),
                default: true,
                ..Default::default()
            })
        );
        assert_eq!(
            "64M,align=16M,alloc-ranges=1G-0x80000000,not-reusable,no-map".parse(),
            Ok(WindowSpec {
                size: 64 << 20,
                align: Some(16 << 20),
                alloc_ranges: Some(1 << 30..2 << 30),
                not_reusable: true,
                no_map: true,
                ..Default::default()
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
            ("64M,align=3M", "alignment 0x300000, which is not a power of two"),
            ("64M,alloc-ranges=1G", "has the range \"1G\"; write"),
            ("64M,alloc-ranges=2G-1G", "has the range \"2G-1G\"; write"),
            ("64M,base=1G,alloc-ranges=1G-2G", "has a base and alloc-ranges"),
            ("64M,node=1,alloc-ranges=1G-2G", "has a node and alloc-ranges"),
            ("64M,node=-1", "has the NUMA node \"-1\"; write its number, as in node=1"),
            ("64M,node=", "has the NUMA node \"\""),
            ("64M,node=4294967296", "has the NUMA node \"4294967296\""),
            ("64M,node=0,node=0", "gives node twice"),
            ("64M,no-map=1", "unknown field \"no-map=1\""),
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
