//! What images are made from: the kernel's configuration and patches, the driver, and init.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    cache::{self, Lock, cache_dir},
    recipe::Recipe,
};

/// This crate's folder in the checkout.
const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// The files, by their paths below the crate's folder. build.rs lists them.
const FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The folder with the files: this crate's if the checkout exists, else a copy in the cache.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    let checkout = Path::new(CHECKOUT);
    if FILES.iter().all(|(name, _)| checkout.join(name).exists()) {
        return Ok(checkout.to_owned());
    }
    unpack(&cache_dir())
}

/// The folder with a copy of the files, below the cache folder `cache`.
fn unpack(cache: &Path) -> Result<PathBuf, Error> {
    let recipe =
        FILES.iter().fold(Recipe::new("sources"), |recipe, (name, content)| recipe.with(name).with(content));
    let copy = cache.join("sources").join(recipe.name());
    let _lock = Lock::take(&copy.with_extension("lock"), || ())?;
    if !copy.is_dir() {
        cache::create_whole(&copy, |partial| {
            FILES.iter().try_for_each(|(name, content)| {
                let path = partial.join(name);
                let folder = path.parent().unwrap_or(partial);
                fs::create_dir_all(folder).map_err(Error::io("cannot create the folder", folder))?;
                fs::write(&path, content).map_err(Error::io("cannot write", &path))
            })
        })?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_what_the_checkout_has() {
        let cache = tempfile::tempdir().unwrap();
        let copy = unpack(cache.path()).unwrap();
        assert_eq!(unpack(cache.path()).unwrap(), copy);
        for name in ["init", "driver/Kbuild", "driver/driver.c", "kernel/common.config"] {
            let content = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(content(&copy), content(Path::new(CHECKOUT)), "{name}");
        }
        assert!(fs::read_dir(copy.join("kernel/patches/6.1")).unwrap().count() > 0);
    }
}
