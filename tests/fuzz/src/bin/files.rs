//! No tar stream of the guest makes the unpacking of its files panic, grow, or write outside the folder of --out.

#![no_main]

use std::{fs, io::Write as _, path::PathBuf, process, sync::LazyLock};

use fuzz::Start;
use vmm::guest::agent::Files;

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
        let (files, mut sink) = Files::unpack_into(&out).expect("there are threads");
        // The reader takes all, also after an error.
        sink.write_all(bytes).expect("the port takes all");
        drop(sink);
        let _ = files.finish();
        fs::remove_dir_all(&out).expect("the guest's files can be removed");
        let left = fs::read_dir(&*FOLDER).expect("it is there").count();
        let precious = fs::read(FOLDER.join("precious")).expect("it is there");
        assert!(left == 1 && precious == b"precious", "the guest wrote outside of --out");
    }
);
