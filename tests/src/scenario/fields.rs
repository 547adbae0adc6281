//! The results of a guest's script: lines `name=value` on its standard output.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use crate::guest;

/// Shell functions for scripts in a guest. `window NAME` prints the folder of a CMA area in debugfs, `meminfo NAME` the value of a
/// line of /proc/meminfo in kB. `fill MIB` fills the page cache, and `said PATTERN` searches the kernel log.
pub(super) const PRELUDE: &str = "window() { echo /sys/kernel/debug/cma/$1*; }
    meminfo() { sed -n \"s/^$1: *\\([0-9]*\\) kB/\\1/p\" /proc/meminfo; }
    fill() {
        mkdir -p /fill && mount -t tmpfs -o size=95% fill /fill && dd if=/dev/zero of=/fill/file bs=1M count=$1 2> /dev/null
    }
    said() { dmesg | grep -q -e \"$1\" && echo yes || echo no; }
";

/// The values, by name.
#[derive(Debug)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Runs `script` in a guest of a minivmm with `arguments` (words).
    ///
    /// # Panics
    /// If its exit status is not 0.
    pub(super) fn of(arguments: &str, script: &str) -> Self {
        let output = guest::exec(arguments, &format!("{PRELUDE}{script}"));
        let printed = guest::text(&output.stdout);
        assert!(output.status.success(), "{arguments}: {printed}{}", guest::text(&output.stderr));
        Self::read(&printed)
    }

    /// The values in what a guest printed.
    pub(super) fn read(printed: &str) -> Self {
        let fields = printed.lines().filter_map(|line| line.split_once('='));
        Self(fields.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// The value called `name`.
    ///
    /// # Panics
    /// If it is missing, or has another type.
    pub(super) fn get<T: FromStr>(&self, name: &str) -> T
    where
        T::Err: Display,
    {
        let value = self.0.get(name).unwrap_or_else(|| panic!("there is no {name} in {self:?}"));
        value.parse().unwrap_or_else(|error| panic!("{name} is {value}: {error}"))
    }

    /// A number called `name`.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name)
    }

    /// A text called `name`.
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name)
    }
}
