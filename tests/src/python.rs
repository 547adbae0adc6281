//! Python packages from PyPI, for scripts of tests.

use std::{
    fs::{self, File},
    process::Command,
};

use guest_images::{cache::cache_dir, debian};

/// Debian's Python, for which pip chooses packages. Another one can come first in the path.
const PYTHON: &str = "/usr/bin/python3";

/// Debian's Python with these packages, NAME==VERSION each. They are in a folder of the cache, which pip fills once.
///
/// # Panics
/// If Python, pip or the packages cannot be installed.
pub fn with(packages: &[&str]) -> Command {
    debian::install(&["python3", "python3-pip"]).unwrap();
    let cache = cache_dir().unwrap();
    fs::create_dir_all(&cache).unwrap();
    let folder = cache.join(format!("python-{}", packages.join("-").replace("==", "-")));
    let lock = File::create(folder.with_added_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.exists() {
        let partial = folder.with_added_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        let mut pip = Command::new(PYTHON);
        pip.args(["-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--target"])
            .arg(&partial)
            .args(packages);
        assert!(pip.status().unwrap().success(), "{pip:?}");
        fs::rename(partial, &folder).unwrap();
    }
    let mut python = Command::new(PYTHON);
    python.env("PYTHONPATH", folder);
    python
}
