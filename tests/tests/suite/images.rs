//! `minivmm image`: lists, finds and removes images in a cache of its own, and names the command that builds what is missing.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use guest_images::Arch;
use tests::{
    guest::{self, text},
    harness::{Group, Place},
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "images",
        place: Place::Anywhere,
        tests: tests![
            built_images_are_listed_and_removed,
            requests_that_cannot_be_met,
            progress_that_nobody_reads_is_lost
        ],
    }
}

/// Runs `minivmm image` with these words, in the cache folder `cache`. Returns its exit status, output and errors.
fn image(cache: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut minivmm = Command::new(guest::minivmm());
    let output = minivmm.arg("image").args(words).env("MINIVMM_CACHE", cache).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn built_images_are_listed_and_removed() {
    let cache = tempfile::tempdir().unwrap();
    let arch = Arch::host().name;
    let images = cache.path().join("guest").join(arch);
    // An image of 5 MiB, as the builder leaves it. Two names lead to it.
    let folder = images.join("0123456789abcdef");
    fs::create_dir_all(&folder).unwrap();
    for (name, mebibytes) in [("vmlinux", 3), ("initramfs", 2)] {
        File::create(folder.join(name)).unwrap().set_len(mebibytes << 20).unwrap();
    }
    for name in ["default", "7.2"] {
        symlink("0123456789abcdef", images.join(name)).unwrap();
    }
    let place = folder.canonicalize().unwrap().display().to_string();
    let rows = || -> Vec<String> {
        let (status, stdout, stderr) = image(cache.path(), &["list"]);
        assert_eq!((status, stderr.as_str()), (Some(0), ""));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        stdout.lines().map(words).collect()
    };
    let titles = "NAME ARCH SIZE FOLDER".to_owned();
    let row = |name: &str| format!("{name} {arch} 5 MiB {place}");
    assert_eq!(rows(), [titles.clone(), row("default"), row("7.2")]);
    assert_eq!(image(cache.path(), &["path"]), (Some(0), format!("{place}\n"), String::new()));
    assert_eq!(image(cache.path(), &["remove", "7.2"]), (Some(0), String::new(), String::new()));
    // The other name still needs the folder.
    assert_eq!(rows(), [titles.clone(), row("default")]);
    assert_eq!(image(cache.path(), &["remove"]).0, Some(0));
    assert_eq!(rows(), [titles]);
    assert!(!folder.exists());
}

fn requests_that_cannot_be_met() {
    let cache = tempfile::tempdir().unwrap();
    let arch = Arch::host().name;
    for words in [&["path", "7.2"][..], &["remove", "7.2"]] {
        let sentence = format!(
            "minivmm: the guest image 7.2 for {arch} is not built; build it: minivmm image build 7.2 --arch {arch}\n"
        );
        assert_eq!(image(cache.path(), words), (Some(2), String::new(), sentence));
    }
    let (status, _, stderr) = image(cache.path(), &["build", "debian", "--arch", "x86_64"]);
    assert_eq!(status, Some(2));
    assert_eq!(stderr, "minivmm: x86_64 has no image debian; its images are default, 6.12, 7.2, debug\n");
    let (status, _, stderr) = image(cache.path(), &["build", "nonsense"]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("'nonsense'") && stderr.contains("it must be one of default, "), "{stderr}");
    let (status, _, stderr) = image(cache.path(), &["module", "/no/such/folder"]);
    assert!(status == Some(1) && stderr.contains("/no/such/folder"), "{stderr}");
}

/// The reader of stderr has ended: a command that waits for another one goes on.
fn progress_that_nobody_reads_is_lost() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("guest")).unwrap();
    let lock = File::create(cache.path().join("guest/lock")).unwrap();
    lock.lock().unwrap();
    let (reader, stderr) = io::pipe().unwrap();
    drop(reader);
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["image", "remove"]).env("MINIVMM_CACHE", cache.path()).stderr(stderr);
    let mut minivmm = guest::spawn(&mut minivmm);
    // It would end at once.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(minivmm.try_wait().unwrap(), None);
    lock.unlock().unwrap();
    assert_eq!(minivmm.wait().unwrap().code(), Some(2));
}
