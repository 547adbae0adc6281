//! The file system on the disk for the guest's /out, as e2fsck sees it. linux.rs has the guests that use it.

use std::process::Command;

use tests::{
    guest,
    harness::{Group, Place},
    tests,
};
use vmm::guest::out_disk;

/// The tests. e2fsck is this machine's.
pub(crate) fn group() -> Group {
    Group { name: "out_disk", place: Place::OutsideOfLabs, tests: tests![the_file_system_is_sound] }
}

fn the_file_system_is_sound() {
    for size in [128 << 20, 3 << 30, 64_u64 << 30] {
        let file = tempfile::NamedTempFile::new().unwrap();
        out_disk::format(file.as_file(), size).unwrap();
        // The folders of administrators' programs are not in every user's path.
        let output = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(file.path()).output().unwrap();
        let said = guest::text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}{}", guest::text(&output.stderr));
        let (blocks, inodes) = (size / 4096, size / 16384);
        assert!(said.contains(&format!(": 10/{inodes} files")), "{said}");
        assert!(said.contains(&format!("/{blocks} blocks")), "{said}");
    }
}
