//! The releases of Linux that our kernel is built from: which Debian suite has each, and which patches it takes.

/// A release of Linux, as Debian's package with its source is called: `linux-source-6.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 6.1, which this machine's own apt has: that of Debian 12.
    V6_1,
    /// 6.12: the rules of 6.1 for CMA, with other messages.
    V6_12,
    /// 7.2: CMA areas of several ranges, which came with 6.15.
    V7_2,
}

impl Release {
    /// All of them; the first is the one that is built where none is named.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7_2];

    /// Its name on command lines and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|release| release.name() == name)
    }

    /// The Debian suite that has the source; none if it is what this machine's apt takes from.
    pub(crate) fn suite(self) -> Option<&'static str> {
        match self {
            Self::V6_1 => None,
            Self::V6_12 => Some("trixie"),
            Self::V7_2 => Some("sid"),
        }
    }

    /// The folder in guest-images/kernel/patches/ with the patches that not every release takes: those for 6.12 fit
    /// 7.2 as well.
    pub(crate) fn patches(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 | Self::V7_2 => "6.12",
        }
    }

    /// How much tar says of the source: the length of its progress bar.
    pub(crate) fn lines_of_tar(self) -> u64 {
        match self {
            Self::V6_1 => 83_000,
            Self::V6_12 => 92_000,
            Self::V7_2 => 101_000,
        }
    }

    /// How much make says when nothing was there before: the length of its progress bar.
    pub(crate) fn lines_of_make(self) -> u64 {
        match self {
            Self::V6_1 => 1_300,
            Self::V6_12 => 1_400,
            Self::V7_2 => 1_550,
        }
    }

    /// What of a configuration fragment is for this release. A line that not all of them have ends in the releases
    /// that do: `CONFIG_CMA_DEBUG=y # 6.1`.
    pub(crate) fn lines_of(self, fragment: &str) -> String {
        let line = |line: &str| {
            let option = line.starts_with("CONFIG_") || line.starts_with("# CONFIG_");
            match line.rsplit_once(" # ").filter(|_| option) {
                Some((_, releases)) if !releases.split(' ').any(|name| name == self.name()) => None,
                Some((option, _)) => Some(format!("{option}\n")),
                None => Some(format!("{line}\n")),
            }
        };
        fragment.lines().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_found_by_name() {
        for release in Release::ALL {
            assert_eq!(Release::named(release.name()), Some(release));
        }
        assert_eq!(Release::named("6.10"), None);
    }

    #[test]
    fn a_line_can_be_for_some_releases_alone() {
        let fragment = "# A # 6.1\nCONFIG_A=y\nCONFIG_B=\"#\" # 6.1 7.2\n# CONFIG_C is not set # 6.12\n";
        let lines = |release: Release| release.lines_of(fragment);
        assert_eq!(lines(Release::V6_1), "# A # 6.1\nCONFIG_A=y\nCONFIG_B=\"#\"\n");
        assert_eq!(lines(Release::V7_2), lines(Release::V6_1));
        assert_eq!(lines(Release::V6_12), "# A # 6.1\nCONFIG_A=y\n# CONFIG_C is not set\n");
    }
}
