//! `--device share`: its keys, its resources, its node, and its line in the registry.

use std::{env, fs, path::PathBuf, str::FromStr, sync::Arc};

use virtio_bindings::virtio_ids::VIRTIO_ID_FS;

use super::{
    super::{
        device::{COUNTERS, ConfigSpace, Face, VhostUser},
        faults::SHARE_FAULTS,
    },
    tag::{Tag, TagError},
    virtiofsd::Virtiofsd,
};
use crate::{
    platform::{
        BuildError, DeviceSpec, Key, Node, Parts, PlatformDevice, Registration, Resources, Specification,
        Value,
        options::{self, Given, OptionError},
    },
    virtio::platform,
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "folder of the host, which virtiofsd serves (virtio-fs)",
    most: 16,
    keys: &[KEYS],
    changeable: &[],
    parse: |text| match text.parse::<ShareSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &SHARE_FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "share";

/// The short form of `ro=yes`.
const READ_ONLY: &str = "ro";

const KEYS: &[Key] = &[
    Key { name: "dir", value: "DIR", meaning: "the folder; it must exist" },
    Key {
        name: "tag",
        value: "NAME",
        meaning: "its name in the guest, of 1 to 36 bytes (default: the folder's); init mounts it at /mnt/NAME",
    },
    Key {
        name: READ_ONLY,
        value: "yes|no",
        meaning: "whether the guest can only read it (default no); `ro` alone means yes",
    },
    Key {
        name: "root",
        value: "yes|no",
        meaning: "whether commands have it as root, with changes in the guest's memory (default no); then ro=yes",
    },
];

/// A queue for urgent requests and one for the others: Debian 12's virtiofsd has no more.
const QUEUES: u16 = 2;
/// The size of each queue. A request of Linux's driver has at most as many pages.
const QUEUE_SIZE: u16 = 1024;

/// The specification of a shared folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSpec {
    /// The folder.
    pub folder: PathBuf,
    /// Its name in the guest.
    pub tag: Tag,
    /// The guest cannot write it.
    pub is_read_only: bool,
    /// Commands in the guest have it as their root, with changes in memory.
    pub is_root: bool,
}

/// What is wrong with the options of a shared folder.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// A key or a value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no folder.
    #[error("a share needs a folder; write it as dir=DIR")]
    NoFolder,
    /// The tag.
    #[error(transparent)]
    Tag(#[from] TagError),
}

impl FromStr for ShareSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (mut folder, mut tag) = (PathBuf::new(), None);
        let (mut is_read_only, mut is_root) = (false, false);
        let text = options::spell_out(text, READ_ONLY);
        for (key, value) in options::read(NAME, REGISTRATION.keys, &text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "dir" => folder = value.into(),
                "tag" => tag = Some(Tag::new(value)?),
                READ_ONLY => is_read_only = given.flag()?,
                _ => is_root = given.flag()?,
            }
        }
        if folder.as_os_str().is_empty() {
            return Err(SpecError::NoFolder);
        }
        let tag = tag.map_or_else(|| Tag::of(&folder), Ok)?;
        Ok(Self { folder, tag, is_read_only: is_read_only || is_root, is_root })
    }
}

impl ShareSpec {
    fn face(&self) -> Face {
        let config = ConfigSpace::Known(self.tag.config(QUEUES - 1));
        Face { id: VIRTIO_ID_FS, queues: QUEUES, queue_size: QUEUE_SIZE, config }
    }

    /// Whether it is the working directory of minivmm. Then commands in the guest start there.
    fn is_working_directory(&self) -> bool {
        let folder = fs::canonicalize(&self.folder).ok();
        folder.is_some() && folder == env::current_dir().ok()
    }
}

impl Specification for ShareSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    /// The child is the device behind the transport (Documentation/devicetree/bindings/virtio/virtio-device.yaml). The guest's init
    /// reads its properties.
    fn node(&self, _id: &str) -> Node {
        let tag = Value::Strings(vec![self.tag.as_str().to_owned()]);
        let mut device = Node::new("share")
            .compatible(&[&format!("virtio,device{VIRTIO_ID_FS:x}")])
            .property("minivmm,tag", tag);
        if self.is_read_only {
            device = device.property("minivmm,read-only", Value::Empty);
        }
        if self.is_root {
            device = device.property("minivmm,root", Value::Empty);
        } else if self.is_working_directory() {
            device = device.property("minivmm,working-directory", Value::Empty);
        }
        platform::node().child(device)
    }
}

impl DeviceSpec for ShareSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let failed = |error| BuildError::new(parts.id.as_str(), error);
        let virtiofsd = Virtiofsd::find().map_err(failed)?;
        let face = self.face();
        let backend = virtiofsd.start(&self.folder, self.is_read_only, &face, &parts).map_err(failed)?;
        Ok(Arc::new(VhostUser::new(backend, face, parts)?))
    }

    fn reserve(&self) -> Result<Option<Box<dyn Send>>, String> {
        let folder = self.folder.display();
        match fs::metadata(&self.folder) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(format!("{folder} is not a folder")),
            Err(error) => return Err(format!("the folder {folder} cannot be shared: {error}")),
        }
        Virtiofsd::find().map(|_| None).map_err(|error| error.to_string())
    }

    fn name_in_guest(&self) -> Option<String> {
        Some(format!("the tag '{}'", self.tag.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: ShareSpec = "dir=/usr/lib,ro".parse().unwrap();
        let tag = Tag::new("lib").unwrap();
        let expected = ShareSpec { folder: "/usr/lib".into(), tag, is_read_only: true, is_root: false };
        assert_eq!(spec, expected);
        let spec: ShareSpec = "dir=/,tag=host,ro=no".parse().unwrap();
        assert_eq!((spec.tag.as_str(), spec.is_read_only), ("host", false));
        for (text, wrong) in [
            ("", "a share needs a folder; write it as dir=DIR"),
            ("dir=/", "/ has no name that could be its tag; name one, as in DIR:TAG"),
            ("dir=a,tag=", "the tag '' has 0 bytes; a tag has 1 to 36"),
            ("dir=a,ro=1", "the share's ro cannot be '1'; valid is yes or no"),
            (
                "dir=a,tags=b",
                "a share has no 'tags'; it has dir, tag, ro, root, each as KEY=VALUE; did you mean tag?",
            ),
        ] {
            assert_eq!(text.parse::<ShareSpec>().unwrap_err().to_string(), wrong);
        }
    }

    #[test]
    fn the_tree_says_what_init_does() {
        let node = |text: &str| text.parse::<ShareSpec>().unwrap().node("share0");
        let child = &node("dir=/usr/lib,tag=x,ro").children[0];
        let names: Vec<&str> = child.properties.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["compatible", "minivmm,tag", "minivmm,read-only"]);
        assert_eq!(child.properties[0].1, Value::Strings(vec!["virtio,device1a".to_owned()]));
        let child = &node("dir=.,tag=x,root=yes").children[0];
        let names: Vec<&str> = child.properties.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["compatible", "minivmm,tag", "minivmm,read-only", "minivmm,root"]);
        let last = node("dir=.,tag=x").children[0].properties.last().cloned();
        assert_eq!(last, Some(("minivmm,working-directory", Value::Empty)));
    }

    #[test]
    fn only_a_folder_can_be_shared() {
        let refused = |folder: &str| format!("dir={folder}").parse::<ShareSpec>().unwrap().reserve().err();
        assert_eq!(refused("/etc/passwd").unwrap(), "/etc/passwd is not a folder");
        let error = refused("/no/such/folder").unwrap();
        assert!(error.starts_with("the folder /no/such/folder cannot be shared: No such file"), "{error}");
    }
}
