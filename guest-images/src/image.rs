//! The kinds of guest images.

use crate::release::Release;

/// A kind of image: its kernel, and the kernel's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our kernel.
    Default(Release),
    /// Our kernel with pages of 64 KiB.
    Large(Release),
    /// Our kernel with options that find bugs in drivers: KASAN, lockdep, kmemleak and others.
    Debug(Release),
    /// Debian's kernel, unmodified.
    Debian,
}

impl Kind {
    /// The default image.
    pub const DEFAULT: Self = Self::Default(Release::ALL[0]);

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        let ours = |release| [Self::Default(release), Self::Large(release), Self::Debug(release)];
        Release::ALL.into_iter().flat_map(ours).chain([Self::Debian])
    }

    /// Its name on command lines and in the cache: `default`, `64k`, `debug`, `debian`; for other releases than the first
    /// `7.2`, `64k-7.2`, `debug-7.2`.
    pub fn name(self) -> String {
        let of = |name: &str, release: Release| {
            if release == Release::ALL[0] { name.to_owned() } else { format!("{name}-{}", release.name()) }
        };
        match self {
            Self::DEFAULT => "default".to_owned(),
            Self::Default(release) => release.name().to_owned(),
            Self::Large(release) => of("64k", release),
            Self::Debug(release) => of("debug", release),
            Self::Debian => "debian".to_owned(),
        }
    }

    /// The kind called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Its configuration fragment, in addition to those of the architecture.
    pub(crate) fn fragment(self) -> Option<&'static str> {
        match self {
            Self::Large(_) => Some("64k.config"),
            Self::Debug(_) => Some("debug.config"),
            Self::Default(_) | Self::Debian => None,
        }
    }

    /// The release of our kernel.
    pub fn release(self) -> Option<Release> {
        match self {
            Self::Default(release) | Self::Large(release) | Self::Debug(release) => Some(release),
            Self::Debian => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name() {
        for kind in Kind::all() {
            assert_eq!(Kind::named(&kind.name()), Some(kind));
        }
        let names: Vec<_> = Kind::all().map(Kind::name).collect();
        let ours =
            ["default", "64k", "debug", "6.12", "64k-6.12", "debug-6.12", "7.2", "64k-7.2", "debug-7.2"];
        assert_eq!(names, [&ours[..], &["debian"]].concat());
        assert_eq!(Kind::named("current"), None);
    }

    #[test]
    fn only_our_kernel_has_releases() {
        assert_eq!(Kind::named("64k-7.2").and_then(Kind::release), Some(Release::V7_2));
        assert_eq!(Kind::Debian.release(), None);
    }
}
