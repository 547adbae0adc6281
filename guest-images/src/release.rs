//! The releases of Linux for our kernel: the Debian suite with the source, and the patches.

/// A release of Linux. Debian's package with the source has it in its name: `linux-source-6.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 6.1, the kernel of Debian 12. This machine's own apt provides it.
    V6_1,
    /// 6.12: the rules of 6.1 for CMA, with other messages.
    V6_12,
    /// 7.2: CMA areas of several ranges, which came with 6.15.
    V7_2,
}

impl Release {
    /// All releases. The first one is the default.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7_2];

    /// Its name on command lines and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    /// The release called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|release| release.name() == name)
    }

    /// The Debian suite with the source. None for the suite of this machine's apt.
    pub(crate) fn suite(self) -> Option<&'static str> {
        match self {
            Self::V6_1 => None,
            Self::V6_12 => Some("trixie"),
            Self::V7_2 => Some("sid"),
        }
    }

    /// The folder in guest-images/kernel/patches/ with the patches for this release. The patches for 6.12 also fit
    /// 7.2.
    pub(crate) fn patches(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 | Self::V7_2 => "6.12",
        }
    }

    /// The number of lines that tar prints for the source: the length of the progress bar.
    pub(crate) fn lines_of_tar(self) -> u64 {
        match self {
            Self::V6_1 => 83_000,
            Self::V6_12 => 92_000,
            Self::V7_2 => 101_000,
        }
    }

    /// The number of lines that make prints for a full build: the length of the progress bar.
    pub(crate) fn lines_of_make(self) -> u64 {
        match self {
            Self::V6_1 => 1_300,
            Self::V6_12 => 1_400,
            Self::V7_2 => 1_550,
        }
    }

    /// The lines of a configuration fragment for this release. A line for some releases only ends in a comment with their
    /// names: `CONFIG_CMA_DEBUG=y # 6.1`.
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
