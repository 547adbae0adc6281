//! What images are made from: the kernel's configuration and patches, the driver, and init. They are embedded in the program, so
//! that it needs no checkout.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cache::{self, Lock, cache_dir},
    error::Error,
    recipe::Recipe,
};

/// The files, by their paths below the crate's folder. build.rs lists them.
const FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The folder with the files, in the cache.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    unpack(&copies()?)
}

/// The folder in the cache with the files of this program, and of other versions of it.
pub(crate) fn copies() -> Result<PathBuf, Error> {
    Ok(cache_dir()?.join("sources"))
}

/// The folder with the files, below the folder `copies`.
fn unpack(copies: &Path) -> Result<PathBuf, Error> {
    let recipe =
        FILES.iter().fold(Recipe::new("sources"), |recipe, (name, content)| recipe.with(name).with(content));
    let copy = copies.join(recipe.name());
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
        let copies = tempfile::tempdir().unwrap();
        let copy = unpack(copies.path()).unwrap();
        assert_eq!(unpack(copies.path()).unwrap(), copy);
        for name in ["init", "driver/Kbuild", "driver/driver.c", "kernel/common.config"] {
            let content = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(content(&copy), content(Path::new(env!("CARGO_MANIFEST_DIR"))), "{name}");
        }
        assert!(fs::read_dir(copy.join("kernel/patches/6.1")).unwrap().count() > 0);
    }
}
