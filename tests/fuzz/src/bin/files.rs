//! No tar stream of the guest makes the unpacking of its files panic, grow, exceed its limits, or write outside the folder of --out.

#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::LazyLock,
};

use fuzz::Start;
use vmm::guest::files::unpack_within;

/// The limits of --out.
const BYTES: u64 = 2000;
const ENTRIES: u64 = 8;

/// The bytes and the number of all files and folders below `folder`.
fn contents(folder: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).expect("it is a folder") {
        let entry = entry.expect("it can be read");
        let metadata = entry.metadata().expect("it is there");
        let (bytes, entries) = if metadata.is_dir() { contents(&entry.path()) } else { (metadata.len(), 0) };
        sum = (sum.0 + bytes, sum.1 + entries + 1);
    }
    sum
}

/// A folder in memory: in it are `out`, which the guest's files go to, and a file that must stay as it is.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/minivmm-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).expect("there is memory");
    fs::write(folder.join("precious"), "precious").expect("there is memory");
    folder
});

extern "C" fn remove() {
    let _ = fs::remove_dir_all(&*FOLDER);
}

/// An entry: name, type, size, data.
fn entry(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in [
        (100, "0000644\0"),
        (108, "0000000\0"),
        (116, "0000000\0"),
        (136, "00000000000\0"),
        (148, "        "),
    ] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar  \0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.to_vec();
    entry.extend(data);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

fn seeds() -> Vec<Vec<u8>> {
    let end = vec![0; 1024];
    let long = entry("././@LongLink", b'L', "", format!("{}/file\0", "x".repeat(150)).as_bytes());
    vec![
        [entry("./", b'5', "", b""), entry("./a", b'0', "", b"hello"), end.clone()].concat(),
        [entry("sub/", b'5', "", b""), entry("sub/a", b'0', "", &[b'x'; 600]), end.clone()].concat(),
        [long, entry("short", b'0', "", b"long"), end.clone()].concat(),
        [entry("up", b'2', "..", b""), entry("up/precious", b'0', "", b"bad"), end.clone()].concat(),
        [entry("link", b'1', "../precious", b""), entry("../precious", b'0', "", b"bad"), end.clone()]
            .concat(),
        [entry("a", b'0', "", b"file"), entry("a", b'5', "", b""), entry("a/b", b'0', "", b"x"), end]
            .concat(),
    ]
}

fuzz::target!(
    {
        // The tar crate checks sums, so most changes of a header are refused early. The data after the headers are not checked.
        // SAFETY: the function takes nothing, and can be called at the exit.
        unsafe { libc::atexit(remove) };
        Start { seeds: seeds(), heap: Some(8 << 20), ..Start::default() }
    },
    |bytes| {
        let out = FOLDER.join("out");
        fs::create_dir(&out).expect("there is memory");
        let (report, _) = unpack_within(bytes, &out, BYTES, ENTRIES);
        let (bytes, entries) = contents(&out);
        assert!(
            bytes <= BYTES && bytes <= report.bytes && entries <= ENTRIES,
            "{bytes} bytes, {entries} entries: {report:?}"
        );
        fs::remove_dir_all(&out).expect("the guest's files can be removed");
        let left = fs::read_dir(&*FOLDER).expect("it is there").count();
        let precious = fs::read(FOLDER.join("precious")).expect("it is there");
        assert!(left == 1 && precious == b"precious", "the guest wrote outside of --out");
    }
);
