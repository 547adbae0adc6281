//! Streams of files, whole, cut short and hostile.

use std::{fs, os::unix::fs::symlink};

use super::*;

/// Starts to unpack into `folder`. The second value is the sink.
fn unpack_into(folder: &Path) -> (Files, Output) {
    let files = Files::unpack_into(folder).unwrap();
    let sink = files.output().clone();
    (files, sink)
}

/// A header whose name is written as it is: the builder refuses some.
fn header(name: &str, kind: EntryType, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

#[test]
fn files_are_unpacked_and_stay_inside() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("out");
    fs::create_dir(&folder).unwrap();
    let precious = outer.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let outside = outer.path().to_str().unwrap();
    let long = format!("./{}/file", "x".repeat(200));

    // Twice: the second run meets what the first has left.
    for _ in 0..2 {
        let (files, sink) = unpack_into(&folder);
        let mut tar = tar::Builder::new(sink);
        tar.append_data(&mut header("", EntryType::Regular, "", 5), "sub/frame.raw", &b"hello"[..]).unwrap();
        tar.append_data(&mut header("", EntryType::Regular, "", 4), &long, &b"long"[..]).unwrap();
        for (name, kind, link) in [
            ("../escaped", EntryType::Regular, ""),
            ("/escaped", EntryType::Regular, ""),
            ("up", EntryType::Symlink, outside),
            ("up/escaped", EntryType::Regular, ""),
            ("precious", EntryType::Link, "../precious"),
            ("device", EntryType::Char, ""),
        ] {
            let data = if kind == EntryType::Regular { &b"hello"[..] } else { &[] };
            tar.append(&header(name, kind, link, data.len() as u64), data).unwrap();
        }
        drop(tar.into_inner().unwrap());
        files.finish().1.unwrap();
    }
    assert_eq!(fs::read(folder.join("sub/frame.raw")).unwrap(), b"hello");
    assert_eq!(fs::read(folder.join(&long)).unwrap(), b"long");
    assert!(folder.join("up").is_dir() && !folder.join("up").is_symlink());
    assert!(!folder.join("precious").exists() && !folder.join("device").exists());
    assert!(!outer.path().join("escaped").exists());
    assert_eq!(fs::read(precious).unwrap(), b"precious");
}

#[test]
fn a_file_that_is_cut_short_is_not_left() {
    let folder = tempfile::tempdir().unwrap();
    for earlier in [None, Some("whole")] {
        if let Some(earlier) = earlier {
            fs::write(folder.path().join("frames"), earlier).unwrap();
        }
        let (files, mut sink) = unpack_into(folder.path());
        sink.write_all(header("frames", EntryType::Regular, "", 10_000).as_bytes()).unwrap();
        sink.write_all(&[b'x'; 5000]).unwrap();
        drop(sink);
        assert!(files.finish().1.is_err());
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let texts: Vec<_> = left.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, Vec::from_iter(earlier), "{left:?}");
    }
}

#[test]
fn a_name_without_end_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (files, mut sink) = unpack_into(folder.path());
    sink.write_all(header("././@LongLink", EntryType::GNULongName, "", 1 << 40).as_bytes()).unwrap();
    for _ in 0..1000 {
        sink.write_all(&[b'x'; 4096]).unwrap();
    }
    drop(sink);
    assert!(files.finish().1.is_err());
}

#[test]
fn a_stream_that_is_no_tar_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (files, mut sink) = unpack_into(folder.path());
    sink.write_all(&[0x55; 4096]).unwrap();
    drop(sink);
    assert!(files.finish().1.is_err());
}

/// A file as a guest sends it.
fn put(sink: &mut Output, name: &str, data: &[u8]) {
    sink.write_all(header(name, EntryType::Regular, "", data.len() as u64).as_bytes()).unwrap();
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    sink.write_all(&data).unwrap();
}

#[test]
fn links_that_are_there_are_not_followed() {
    let outer = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (outer.path().join("out"), outer.path().join("elsewhere"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir_all(elsewhere.join("sub")).unwrap();
    fs::write(elsewhere.join("precious"), "the user's").unwrap();
    // One leads outside, one to a folder inside; a user may have put them there.
    symlink(&elsewhere, folder.join("link")).unwrap();
    fs::create_dir(folder.join("real")).unwrap();
    symlink("real", folder.join("inner")).unwrap();
    let (files, mut sink) = unpack_into(&folder);
    for name in ["link/precious", "link/sub/new", "link/new/new", "inner/file", "real/file"] {
        put(&mut sink, name, b"the guest's");
    }
    sink.write_all(header("link/folder", EntryType::Directory, "", 0).as_bytes()).unwrap();
    drop(sink);
    let (report, unpacked) = files.finish();
    unpacked.unwrap();
    assert_eq!(report, OutReport { files: 1, bytes: 11, skipped: 5, ..OutReport::default() });
    assert_eq!(fs::read_to_string(elsewhere.join("precious")).unwrap(), "the user's");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 2);
    assert_eq!(fs::read_dir(elsewhere.join("sub")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.join("real")).unwrap().count(), 1);
    // The folder itself may be a link of the user's.
    let way = outer.path().join("way");
    symlink(&folder, &way).unwrap();
    let (files, mut sink) = unpack_into(&way);
    put(&mut sink, "by the way", b"");
    drop(sink);
    files.finish().1.unwrap();
    assert!(folder.join("by the way").is_file());
}

#[test]
fn more_than_the_limits_is_counted_and_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 1000, entries: 5 };
    let files = Files::within(limits, folder.path()).unwrap();
    let mut sink = files.output().clone();
    put(&mut sink, "a", &[b'a'; 600]);
    // It is too large for the rest of the space.
    put(&mut sink, "b", &[b'b'; 500]);
    put(&mut sink, "c", &[b'c'; 400]);
    // Two folders and a file are the last entries.
    put(&mut sink, "d/e/f", b"");
    put(&mut sink, "g", b"");
    sink.write_all(header("h/i", EntryType::Directory, "", 0).as_bytes()).unwrap();
    drop(sink);
    let (report, unpacked) = files.finish();
    unpacked.unwrap();
    let expected = OutReport { files: 3, bytes: 1000, skipped: 0, over_limit: 3, bytes_over_limit: 500 };
    assert_eq!(report, expected);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "c", "d"]);
    assert!(folder.path().join("d/e/f").is_file());
}

#[test]
fn a_path_that_is_too_deep_or_too_long_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let (files, sink) = unpack_into(folder.path());
    let mut tar = tar::Builder::new(sink);
    let names =
        ["d/".repeat(64) + "file", "e/".repeat(65) + "file", "x".repeat(300), "y".repeat(300) + "/file"];
    for name in names {
        tar.append_data(&mut header("", EntryType::Regular, "", 0), name, &b""[..]).unwrap();
    }
    drop(tar.into_inner().unwrap());
    let (report, unpacked) = files.finish();
    unpacked.unwrap();
    assert_eq!((report.files, report.skipped), (1, 3));
    assert!(folder.path().join("d/".repeat(64) + "file").is_file());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
