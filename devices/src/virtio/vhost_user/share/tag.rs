//! The tag of a shared folder: the name by which the guest mounts it.

use std::{fs, path::Path};

/// Its most bytes (virtio 1.2, section 5.11.4).
const LONGEST: usize = 36;

/// A tag. It is the name of a folder in the guest, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

/// Why a text is no tag.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TagError {
    /// Its length.
    #[error("the tag '{tag}' has {} bytes; a tag has 1 to {LONGEST}", tag.len())]
    Length {
        /// The text.
        tag: String,
    },
    /// It cannot name a folder.
    #[error(
        "the tag '{0}' cannot be the name of a folder in the guest; write it without slashes, and not as . or .."
    )]
    Name(String),
    /// The folder has no name.
    #[error("{0} has no name that could be its tag; name one, as in DIR:TAG")]
    None(String),
}

impl Tag {
    /// The tag `text`.
    ///
    /// # Errors
    /// If it is too long, or no name of a folder.
    pub fn new(text: &str) -> Result<Self, TagError> {
        if !(1..=LONGEST).contains(&text.len()) {
            return Err(TagError::Length { tag: text.to_owned() });
        }
        if matches!(text, "." | "..") || text.contains(['/', '\0']) {
            return Err(TagError::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name of `folder`.
    ///
    /// # Errors
    /// If it has none that can be a tag.
    pub fn of(folder: &Path) -> Result<Self, TagError> {
        let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let name = whole.file_name().and_then(|name| name.to_str());
        Self::new(name.ok_or_else(|| TagError::None(folder.display().to_string()))?)
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// struct virtio_fs_config, for a device with this number of request queues: the tag, their number, and the size of a
    /// notification, which the device does not have.
    pub fn config(&self, queues: u16) -> Vec<u8> {
        let mut config = self.0.clone().into_bytes();
        config.resize(LONGEST, 0);
        config.extend(u32::from(queues).to_le_bytes());
        config.extend([0; 4]);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_a_folder() {
        let longest = "ä".repeat(18);
        assert_eq!(Tag::new(&longest).unwrap().as_str(), longest);
        for (text, wrong) in [
            ("", "the tag '' has 0 bytes; a tag has 1 to 36"),
            (&format!("{longest}a"), &format!("the tag '{longest}a' has 37 bytes; a tag has 1 to 36")),
            (
                "a/b",
                "the tag 'a/b' cannot be the name of a folder in the guest; write it without slashes, and not as . or ..",
            ),
        ] {
            assert_eq!(Tag::new(text).unwrap_err().to_string(), wrong);
        }
        assert!(Tag::new("..").is_err() && Tag::new(".").is_err());
    }

    #[test]
    fn a_folder_has_its_name_as_tag() {
        assert_eq!(Tag::of("/usr/../usr/lib/".as_ref()).unwrap().as_str(), "lib");
        assert_eq!(Tag::of("/no/such/folder".as_ref()).unwrap().as_str(), "folder");
        assert!(Tag::of(".".as_ref()).is_ok());
        let error = Tag::of("/".as_ref()).unwrap_err().to_string();
        assert_eq!(error, "/ has no name that could be its tag; name one, as in DIR:TAG");
    }
}
