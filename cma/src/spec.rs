//! `--cma`: the specification of a window, before the window has an address.

use std::{ops::Range, str::FromStr};

use crate::size::{self, SizeError};

/// The specification of a window: `256M`, or any of the fields of [`WindowSpec::HELP`], separated by commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowSpec {
    /// Size in bytes, never zero.
    pub size: u64,
    /// Name of the node. Without it [`place`](crate::place::place) makes one.
    pub name: Option<String>,
    /// First address. Without it the window is placed automatically.
    pub base: Option<u64>,
    /// Alignment of the base, if larger than a pageblock.
    pub align: Option<u64>,
    /// The NUMA node in whose RAM it lies.
    pub node: Option<u32>,
    /// The range in which the guest's kernel places it.
    pub alloc_ranges: Option<Range<u64>>,
    /// This window is the default one.
    pub default: bool,
    /// Its node has no `reusable`.
    pub not_reusable: bool,
    /// Its node has `no-map`.
    pub no_map: bool,
}

impl WindowSpec {
    /// The fields, for the help of a command.
    pub const HELP: &str = "\
size=SIZE          size with K, M or G; as the first field, `size=` can be omitted
name=NAME          name of its node (default: cma0, cma1, ...)
base=ADDRESS       first address (default: as high as possible below 4 GiB)
align=SIZE         alignment of the first address
node=N             the NUMA node in whose RAM it lies
alloc-ranges=A-B   addresses between which the guest's kernel chooses its place
default            the window of devices without a window of their own (default: the first window)
not-reusable       node without `reusable`: a carveout of coherent memory instead of a CMA window
no-map             node with `no-map`: the kernel does not map it";
}

/// Why a window specification was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It has an unknown field.
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
    /// The size is zero.
    #[error("the CMA window \"{0}\" has size zero; omit --cma for a guest without a window")]
    Zero(String),
    /// The alignment is invalid.
    #[error(
        "the CMA window \"{spec}\" has the alignment {align:#x}, which is not a power of two; give one, as in align=16M"
    )]
    Align {
        /// What was given.
        spec: String,
        /// The alignment in it.
        align: u64,
    },
    /// The range is invalid.
    #[error(
        "the CMA window \"{spec}\" has the range \"{range}\"; write the first address and the address after the last, as in alloc-ranges=0x60000000-0x80000000"
    )]
    Range {
        /// What was given.
        spec: String,
        /// The range in it.
        range: String,
    },
    /// The node is invalid.
    #[error("the CMA window \"{spec}\" has the NUMA node \"{node}\"; write its number, as in node=1")]
    Node {
        /// What was given.
        spec: String,
        /// The node in it.
        node: String,
    },
    /// It has two places.
    #[error("the CMA window \"{spec}\" has {other} and alloc-ranges; give one of them")]
    TwoPlaces {
        /// What was given.
        spec: String,
        /// The field that contradicts alloc-ranges.
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
    /// A field is given twice.
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
            ("99E", "does not fit in 64 bits"),
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
