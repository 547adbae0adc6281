//! The release of our kernel for tests that work with any release, and the model's rules for it.

use std::env;

use cma::area::Rules;
use guest_images::{Kind, Release};

/// The environment variable with the release. `cargo verify --release` sets it.
pub const VARIABLE: &str = "TEST_KERNEL";

/// Parses the name of a release, for command lines.
///
/// # Errors
/// If there is no such release.
pub fn parse(name: &str) -> Result<Release, String> {
    let names = Release::ALL.map(Release::name).join(", ");
    Release::named(name).ok_or_else(|| format!("the releases are {names}"))
}

/// The requested release. None without a request.
///
/// # Panics
/// If there is no such release.
pub fn chosen() -> Option<Release> {
    let name = env::var(VARIABLE).ok()?;
    Some(
        parse(&name)
            .unwrap_or_else(|error| panic!("{VARIABLE} is {name:?}, which is no kernel of ours; {error}")),
    )
}

/// The requested release, or the first one.
pub fn release() -> Release {
    chosen().unwrap_or(Release::ALL[0])
}

/// minivmm's argument for the image of `kind`.
pub fn image(kind: Kind) -> String {
    format!("--image {}", kind.name())
}

/// The rules of CMA in a release.
pub fn rules(release: Release) -> Rules {
    match release {
        Release::V6_1 => Rules::V6_1,
        Release::V6_12 => Rules::V6_12,
        Release::V7_2 => Rules::V7_2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_rules_of_its_name() {
        for release in Release::ALL {
            assert_eq!(rules(release).to_string(), release.name());
        }
    }
}
