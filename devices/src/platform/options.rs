//! `KEY=VALUE,...`: the parser of the options of a device, and its errors.

use std::str::FromStr;

use media::Recording;

use super::resources::{DmaNeeds, WindowChoice};

/// A key that a device's options have, for reading and for help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like, as in `NAME` or `yes|no`.
    pub value: &'static str,
    /// What it means; lines after the first go on in the same column.
    pub meaning: &'static str,
}

/// What is wrong with a device's options.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum OptionError {
    /// A key that the device does not have.
    #[error("a {device} has no '{key}'; it has {valid}, each as KEY=VALUE{}", nearest_is(.nearest.as_deref()))]
    Key {
        /// The device's name.
        device: &'static str,
        /// The key.
        key: String,
        /// The keys that the device has.
        valid: String,
        /// The nearest of these, if one is near.
        nearest: Option<String>,
    },
    /// A key given twice.
    #[error("the {device}'s {key} is given more than once; give it once")]
    Repeated {
        /// The device's name.
        device: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value that the key cannot have.
    #[error("the {device}'s {key} cannot be '{value}'; valid is {valid}")]
    Value {
        /// The device's name.
        device: &'static str,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it can be.
        valid: &'static str,
    },
}

fn nearest_is(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

/// Reads the options of a `device` with these `keys`.
///
/// # Errors
/// For a key that the device does not have, and for one that is given twice.
pub fn read<'a>(
    device: &'static str,
    keys: &[&'static [Key]],
    text: &'a str,
) -> Result<Vec<(&'static str, &'a str)>, OptionError> {
    let names = || keys.iter().copied().flatten().map(|key| key.name);
    let mut options: Vec<(&'static str, &str)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
        let (Some(key), Some(value)) = (names().find(|name| *name == key), value) else {
            return Err(OptionError::Key {
                device,
                key: key.to_owned(),
                // A key that several tables have, as `scene`, is named once.
                valid: distinct(names()).join(", "),
                nearest: nearest(key, names()).map(ToOwned::to_owned),
            });
        };
        if options.iter().any(|(other, _)| *other == key) {
            return Err(OptionError::Repeated { device, key });
        }
        options.push((key, value));
    }
    Ok(options)
}

/// `text` with `KEY=yes` in place of the short form `KEY` of the key `flag`.
pub fn spell_out(text: &str, flag: &str) -> String {
    let parts = text.split(',').map(|part| match part.trim() {
        part if part == flag => format!("{flag}=yes"),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

/// The one of `words` that is nearest to a mistyped `word`, if one is near.
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = words.map(|other| (strsim::damerau_levenshtein(word, other), other));
    let limit = word.chars().count().div_ceil(3);
    near.filter(|(distance, _)| (1..=limit).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// `keys` as lines for a command's help.
pub fn help(keys: &[&'static [Key]]) -> String {
    let keys = || keys.iter().copied().flatten();
    let head = |key: &Key| format!("{}={}", key.name, key.value);
    let width = keys().map(|key| head(key).len()).max().unwrap_or(0) + 2;
    let lines = keys().flat_map(|key| {
        let mut first = head(key);
        key.meaning.lines().map(move |line| {
            let line = format!("{first:width$}{line}");
            first.clear();
            line
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A key of a device with the value that the user gave it.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The device's name.
    pub device: &'static str,
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: &'a str,
}

impl Given<'_> {
    /// The error for an invalid value of the key. `valid` describes the valid values.
    pub fn invalid(self, valid: &'static str) -> OptionError {
        OptionError::Value { device: self.device, key: self.key, value: self.value.to_owned(), valid }
    }

    /// Reads `yes` or `no`.
    ///
    /// # Errors
    /// For any other value.
    pub fn flag(self) -> Result<bool, OptionError> {
        match self.value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(self.invalid("yes or no")),
        }
    }

    /// Reads a size in bytes for which `fits` holds: a decimal number, or a hexadecimal one after `0x`, and K, M, G or T after it if
    /// wanted, in either case (the kernel's memparse, lib/cmdline.c). `valid` says which sizes fit.
    ///
    /// # Errors
    /// For any other value.
    pub fn size(self, fits: impl Fn(u64) -> bool, valid: &'static str) -> Result<u64, OptionError> {
        let lower = self.value.to_ascii_lowercase();
        let suffixes = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];
        let found = suffixes.iter().find_map(|(suffix, shift)| Some((lower.strip_suffix(*suffix)?, *shift)));
        let (digits, shift) = found.unwrap_or((&lower, 0));
        let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
        // `from_str_radix` would take a sign.
        let number = digits
            .starts_with(|first: char| first.is_digit(radix))
            .then(|| u64::from_str_radix(digits, radix));
        let size = number.and_then(|number| number.ok()?.checked_mul(1 << shift));
        size.filter(|size| fits(*size)).ok_or_else(|| self.invalid(valid))
    }

    /// Reads a number for which `fits` holds; `valid` says which these are.
    ///
    /// # Errors
    /// For any other value.
    pub fn number<T: FromStr>(
        self,
        fits: impl Fn(&T) -> bool,
        valid: &'static str,
    ) -> Result<T, OptionError> {
        self.value.parse().ok().filter(fits).ok_or_else(|| self.invalid(valid))
    }

    /// Reads the name of a recording.
    ///
    /// # Errors
    /// For any other value.
    pub fn recording(self) -> Result<Recording, OptionError> {
        let valid = "a file .y4m, or .png with at most one %d or, for N digits, %0Nd";
        Recording::named(self.value).ok_or_else(|| self.invalid(valid))
    }
}

/// The key for the NUMA node of a device with DMA.
pub const NODE_KEY: Key =
    Key { name: "node", value: "N", meaning: "its NUMA node in the device tree (default: none)" };

/// The key for the coherence of a device's DMA.
pub const COHERENT_KEY: Key = Key {
    name: "coherent",
    value: "yes|no",
    meaning: "whether its DMA is coherent with the guest's caches, as the device tree says (default yes)",
};

/// The keys of a device whose DMA has [the usual defaults](DmaNeeds::default); [`DmaNeeds::set`] takes them.
pub const DMA_KEYS: &[Key] = &[
    Key {
        name: "window",
        value: "NAME",
        meaning: "CMA window of its buffers, and the only memory that it may access (default: the default window);\n\
                  none: the guest's kernel allocates its buffers anywhere, and it may access all memory",
    },
    NODE_KEY,
    Key { name: "address-bits", value: "N", meaning: "address lines of its DMA, 1 to 64 (default 32)" },
    COHERENT_KEY,
];

impl DmaNeeds {
    /// Takes one of the [`DMA_KEYS`]; false for another key.
    ///
    /// # Errors
    /// For a value that the key cannot have.
    pub fn set(&mut self, given: Given<'_>) -> Result<bool, OptionError> {
        match given.key {
            "window" => {
                self.window = match given.value {
                    "" => return Err(given.invalid("the name of a CMA window")),
                    "none" => WindowChoice::Anywhere,
                    name => WindowChoice::Named(name.to_owned()),
                };
            }
            "node" => self.numa_node = Some(given.number(|_| true, "the number of a NUMA node")?),
            "address-bits" => {
                self.address_bits = given.number(|bits| (1..=64).contains(bits), "a number from 1 to 64")?;
            }
            "coherent" => self.coherent = given.flag()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key { name: "fps", value: "N", meaning: "frames a second" },
        Key { name: "timing", value: "free|stall", meaning: "free: the clock runs;\nstall: it waits" },
    ];

    fn options(text: &str) -> Result<Vec<(&'static str, &str)>, String> {
        read("camera", &[KEYS, DMA_KEYS], text).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_pairs_in_their_order() {
        assert_eq!(
            options(" timing=stall, fps=5,,window=a=b"),
            Ok(vec![("timing", "stall"), ("fps", "5"), ("window", "a=b")])
        );
        assert_eq!(options(""), Ok(Vec::new()));
    }

    #[test]
    fn a_wrong_key_gets_the_nearest_right_one() {
        let keys = "it has fps, timing, window, node, address-bits, coherent, each as KEY=VALUE";
        assert_eq!(
            options("timming=free").unwrap_err(),
            format!("a camera has no 'timming'; {keys}; did you mean timing?")
        );
        assert_eq!(options("quality=9").unwrap_err(), format!("a camera has no 'quality'; {keys}"));
        assert_eq!(options("fps").unwrap_err(), format!("a camera has no 'fps'; {keys}"));
        assert_eq!(
            options("fps=1,fps=1").unwrap_err(),
            "the camera's fps is given more than once; give it once"
        );
    }

    #[test]
    fn help_has_a_column_for_meanings() {
        assert_eq!(
            help(&[KEYS]),
            "fps=N              frames a second\n\
             timing=free|stall  free: the clock runs;\n                   \
             stall: it waits"
        );
    }

    #[test]
    fn sizes_have_suffixes() {
        let size =
            |value| Given { device: "balloon", key: "size", value }.size(|size| size % 4096 == 0, "4K").ok();
        for (value, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64M", 64 << 20),
            ("0x1000", 4096),
            ("0xck", 12 << 10),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(value), Some(bytes), "{value}");
        }
        for value in
            ["", "M", "1", "-4K", "+4K", "0x", "64MB", "1.5M", " 4K", "16777216T", "18446744073709551616"]
        {
            assert_eq!(size(value), None, "{value}");
        }
    }

    #[test]
    fn dma_keys_are_read() {
        let mut dma = DmaNeeds::default();
        for (key, value) in [("window", "isp"), ("node", "1"), ("address-bits", "36"), ("coherent", "no")] {
            assert_eq!(dma.set(Given { device: "camera", key, value }), Ok(true));
        }
        let window = WindowChoice::Named("isp".into());
        assert_eq!(dma, DmaNeeds { address_bits: 36, coherent: false, window, numa_node: Some(1) });
        let none = Given { device: "camera", key: "window", value: "none" };
        assert!(dma.set(none).is_ok() && dma.window == WindowChoice::Anywhere);
        for (key, value) in [("window", ""), ("node", "two"), ("address-bits", "65"), ("coherent", "maybe")] {
            let error = dma.set(Given { device: "camera", key, value }).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("the camera's {key} cannot be '{value}'; valid is ")),
                "{error}"
            );
        }
        assert_eq!(dma.set(Given { device: "camera", key: "fps", value: "3" }), Ok(false));
    }
}
