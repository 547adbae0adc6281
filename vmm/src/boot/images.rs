//! Finds guest images in the user's cache folder, where the builder of guest-images puts them.

use std::{fs, io, path::PathBuf};

use guest_images::{Arch, cache::cache_dir};
use serde::Deserialize;

use crate::arch;

/// A kernel and an initramfs that belong together.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: Option<PathBuf>,
    /// The kernel's unit for CMA windows, in bytes.
    pub pageblock: u64,
}

/// The image for a command line that names none.
pub const DEFAULT: &str = "default";

/// The builder's description of an image: its file `image.json`.
#[derive(Deserialize)]
struct Description {
    pageblock: u64,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// This architecture has no image of that name.
    #[error("there is no image {name} for {}; there are: {}", arch::NAME, names.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names of its images.
        names: Vec<String>,
    },
    /// It is not built.
    #[error(
        "the guest image {name} is not built, as {} is missing; build it with `minivmm image build {name}`, or name a --kernel",
        folder.display()
    )]
    Absent {
        /// Its name.
        name: String,
        /// The folder that it should be in.
        folder: PathBuf,
    },
    /// There is no cache folder.
    #[error("{0}; or name a --kernel")]
    Cache(#[from] guest_images::Error),
    /// It is not complete.
    #[error("the guest image's {} cannot be read: {source}; remove the folder, and build the image again", path.display())]
    Description {
        /// Its description.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Finds the image called `name`.
///
/// # Errors
/// If it was not built, or is not complete.
pub fn find(name: &str) -> Result<Image, ImageError> {
    let folder = cache_dir()?.join("guest").join(arch::NAME).join(name);
    let (kernel, initrd) = (folder.join(arch::KERNEL_FILE), folder.join("initramfs"));
    // A name with a separator would lead to another folder.
    if name.contains('/') || !kernel.exists() || !initrd.exists() {
        let names: Vec<String> = Arch::host().kinds.iter().map(|kind| kind.name()).collect();
        if !names.iter().any(|known| known == name) {
            return Err(ImageError::Unknown { name: name.to_owned(), names });
        }
        return Err(ImageError::Absent { name: name.to_owned(), folder });
    }
    let path = folder.join("image.json");
    let description = fs::read(&path)
        .and_then(|json| serde_json::from_slice::<Description>(&json).map_err(io::Error::from))
        .map_err(|source| ImageError::Description { path, source })?;
    Ok(Image { kernel, initrd: Some(initrd), pageblock: description.pageblock })
}
