//! Names build results by a hash of their inputs.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::Error;

/// A hash of the inputs of a build result. Each input is preceded by its length, so different lists of inputs cannot give the
/// same bytes.
pub(crate) struct Recipe(Sha256);

impl Recipe {
    /// An empty recipe for a result of `kind`.
    pub(crate) fn new(kind: &str) -> Self {
        Self(Sha256::new()).with(kind)
    }

    /// Adds text or bytes.
    pub(crate) fn with(mut self, ingredient: impl AsRef<[u8]>) -> Self {
        let bytes = ingredient.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds the name and the content of a file.
    pub(crate) fn with_file(self, path: &Path) -> Result<Self, Error> {
        let content = fs::read(path).map_err(Error::io("cannot read", path))?;
        Ok(self.with(path.file_name().unwrap_or_default().as_encoded_bytes()).with(content))
    }

    /// The name: 16 hexadecimal digits.
    pub(crate) fn name(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The files in `folder` with this extension, sorted by name.
pub(crate) fn sorted_files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let unreadable = || Error::io("cannot read the folder", folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable())? {
        let path = entry.map_err(unreadable())?.path();
        if path.extension() == Some(OsStr::new(extension)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_recipes_apart() {
        let name = |parts: &[&str]| parts.iter().fold(Recipe::new("test"), Recipe::with).name();
        assert_eq!(name(&["a", "b"]).len(), 16);
        assert_eq!(name(&["a", "b"]), name(&["a", "b"]));
        assert_ne!(name(&["a", "b"]), name(&["ab"]));
        assert_ne!(name(&["a", "b"]), name(&["b", "a"]));
        assert_ne!(Recipe::new("kernel").name(), Recipe::new("driver").name());
    }
}
