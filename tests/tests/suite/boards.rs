//! `minivmm diagnose` and `minivmm reproduce`: six made-up boards, as archives of `minivmm collect`, in tests/boards.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use guest_images::{Arch, Kind};
use serde_json::Value;
use tests::{
    guest::{self, text},
    harness::{Extent, Group, Place, Test},
    programs, tests,
};

/// The tests that need no guest.
pub(crate) fn group() -> Group {
    let tests = tests![
        each_board_is_diagnosed,
        pages_and_json_have_the_same,
        logs_alone,
        folders,
        files_of_two_boards,
        archives_that_cannot_be_read,
        a_window_whose_bitmap_is_too_long,
        what_cannot_be_reproduced,
    ];
    let tests = tests.into_iter().map(Test::the_same_everywhere).collect();
    Group { name: "boards", place: Place::Anywhere, tests }
}

/// The test that boots guests.
pub(crate) fn reproduced() -> Group {
    // On aarch64 the kernel has pages of the default window itself, its atomic pools (kernel/dma/pool.c).
    let tests = tests![three_boards_fail_again_in_guests, a_guest_is_a_board];
    let tests = tests.into_iter().map(|test| test.only_on(Arch::X86_64)).collect();
    Group { name: "reproduce", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

const BOARDS: [&str; 6] = [
    "arm-without-root",
    "busy-and-cut-short",
    "camera-fragmented",
    "pages-of-64k",
    "two-ranges",
    "two-windows-misaligned",
];

/// The order of the first files of an archive.
const FIRST: [&str; 8] =
    ["board.dtb", "missing", "meminfo", "iomem", "cmdline", "uname", "page_size", "dmesg"];

/// The properties of the live tree of the board that has no board.dtb.
const LIVE_TREE: [(&str, &[u8]); 6] = [
    ("device-tree/model", b"Avnet MiniZed\0"),
    ("device-tree/#address-cells", &[0, 0, 0, 1]),
    ("device-tree/#size-cells", &[0, 0, 0, 1]),
    ("device-tree/memory@0/device_type", b"memory\0"),
    ("device-tree/memory@0/reg", &[0, 0, 0, 0, 0x20, 0, 0, 0]),
    ("device-tree/chosen/name", b"chosen\0"),
];

static MINIVMM: LazyLock<PathBuf> = LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

fn folder(board: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("boards").join(board)
}

/// The files of a board, in the order of its archive.
fn files(board: &str) -> Vec<(String, Vec<u8>)> {
    let top = folder(board).join("board");
    let mut files = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
            if name == "board.dts" {
                let dtc =
                    Command::new("dtc").args(["-q", "-I", "dts", "-O", "dtb"]).arg(&path).output().unwrap();
                assert!(dtc.status.success(), "{}", text(&dtc.stderr));
                files.push(("board.dtb".to_owned(), dtc.stdout));
            } else {
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    if board == "arm-without-root" {
        files.extend(LIVE_TREE.map(|(name, value)| (name.to_owned(), value.to_vec())));
    }
    let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    files.sort_by(|(one, _), (two, _)| (rank(one), one).cmp(&(rank(two), two)));
    files
}

/// An archive as `minivmm collect` makes it.
fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("board/{name}"), &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The archive of a board.
fn archive(board: &str) -> Vec<u8> {
    let files = files(board);
    let archive = pack(&files);
    if board != "busy-and-cut-short" {
        return archive;
    }
    // It ends after the log.
    let log = files.iter().position(|(name, _)| name == "dmesg").unwrap();
    let whole = pack(&files[..=log]).len();
    archive[..whole].to_vec()
}

/// A file in a folder that goes when it is dropped.
struct OnDisk(tempfile::TempDir);

impl OnDisk {
    fn new(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("board.tar"), content).unwrap();
        Self(folder)
    }

    fn run(&self, verb: &str, words: &[&str]) -> Output {
        Command::new(&*MINIVMM).arg(verb).arg("board.tar").args(words).current_dir(&self.0).output().unwrap()
    }
}

fn diagnose(content: &[u8], words: &[&str]) -> Output {
    OnDisk::new(content).run("diagnose", words)
}

/// Asserts that the files are refused with a sentence that has `part`.
#[track_caller]
fn refused(verb: &str, content: &[u8], part: &str) {
    let output = OnDisk::new(content).run(verb, &[]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains(part) && output.stdout.is_empty(), "{part}: {said}");
}

/// What is said of each board is in its file diagnosis.txt. With UPDATE_PAGES in the environment, the files are written again.
fn each_board_is_diagnosed() {
    for board in BOARDS {
        let output = diagnose(&archive(board), &[]);
        let (said, errors) = (text(&output.stdout), text(&output.stderr));
        assert_eq!((output.status.code(), errors.as_str()), (Some(1), ""), "{board}: {said}");
        let path = folder(board).join("diagnosis.txt");
        if env::var_os("UPDATE_PAGES").is_some() {
            fs::write(&path, &said).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert_eq!(said, expected, "{}", path.display());
    }
}

fn pages_and_json_have_the_same() {
    for (board, cause, errno, pages) in [
        ("arm-without-root", "unknown", -12, 2025),
        ("busy-and-cut-short", "busy", -16, 512),
        ("camera-fragmented", "fragmented", -12, 1519),
        ("pages-of-64k", "misaligned", -12, 350),
        ("two-ranges", "fragmented", -16, 760),
        ("two-windows-misaligned", "misaligned", -12, 256),
    ] {
        let disk = OnDisk::new(&archive(board));
        let output = disk.run("diagnose", &["--json", "--html", "page.html"]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let case = &json["cases"][0];
        assert_eq!(
            (&case["cause"], &case["errno"], &case["pages"]),
            (&cause.into(), &errno.into(), &pages.into()),
            "{board}"
        );
        assert_eq!(json["version"], 1);
        let page = fs::read_to_string(disk.0.path().join("page.html")).unwrap();
        assert!(page.ends_with("</body></html>\n") && page.contains(&format!("{pages} pages")), "{board}");
        // It refers to no other file.
        assert!(!page.contains("src=") && !page.contains("href="), "{board}");
    }
}

fn logs_alone() {
    for board in BOARDS {
        let log = fs::read_to_string(folder(board).join("board/dmesg")).unwrap();
        let quoted: String = log.lines().map(|line| format!("> {line}\r\n")).collect();
        for log in [log, quoted] {
            let output = diagnose(log.as_bytes(), &["--json"]);
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(json["cases"].as_array().unwrap().len(), 1, "{board}: {json}");
            assert_eq!(output.status.code(), Some(1), "{board}");
        }
    }
    // From stdin.
    let mut command = Command::new(&*MINIVMM);
    command
        .args(["diagnose", "-"])
        .stdin(fs::File::open(folder("camera-fragmented").join("board/dmesg")).unwrap());
    let said = text(&command.output().unwrap().stdout);
    assert!(said.contains("2 requests for 1519 pages (5.9 MiB) in linux,cma failed with -12"), "{said}");
}

fn folders() {
    let top = folder("camera-fragmented");
    let output = Command::new(&*MINIVMM)
        .args(["diagnose", top.join("board").to_str().unwrap(), "--request", "1024"])
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("a request for 1024 pages (4 MiB) in linux,cma would pass"), "{said}");
}

fn files_of_two_boards() {
    let with = |board: &str, other: &str, name: &str| {
        let mut all = files(board);
        let (_, content) = files(other).into_iter().find(|(file, _)| file == name).unwrap();
        all.iter_mut().find(|(file, _)| file == name).unwrap().1 = content;
        pack(&all)
    };
    let mixed = with("camera-fragmented", "two-windows-misaligned", "dmesg");
    refused(
        "diagnose",
        &mixed,
        "the log is of Linux 6.12.20-lts-next, and uname says 6.1.21-v8+; collect them again",
    );
    // The same kernel, another board.
    let mut all = files("camera-fragmented");
    let log = &mut all.iter_mut().find(|(name, _)| name == "dmesg").unwrap().1;
    *log =
        text(log).replace("0x000000002ac00000, size 64 MiB", "0x000000001ac00000, size 128 MiB").into_bytes();
    refused(
        "diagnose",
        &pack(&all),
        "line 4 of the log places a window of 128M at 0x1ac00000, and debugfs has only linux,cma",
    );
    let mut all = files("camera-fragmented");
    let log = &mut all.iter_mut().find(|(name, _)| name == "dmesg").unwrap().1;
    *log = text(log).replace("of 16384 total", "of 8192 total").into_bytes();
    refused("diagnose", &pack(&all), "is about a window of 8192 pages, and linux,cma has 16384");
    refused("reproduce", &pack(&all), "is about a window of 8192 pages, and linux,cma has 16384");
}

fn archives_that_cannot_be_read() {
    let whole = archive("camera-fragmented");
    refused(
        "diagnose",
        &whole[..700],
        "the archive board.tar is cut short before the end of its first file; copy it again",
    );
    refused("diagnose", b"hello\n", "there is nothing to diagnose");
    refused("reproduce", b"hello\n", "there is nothing to diagnose");
    let output = Command::new(&*MINIVMM).args(["diagnose", "/nowhere.tar"]).output().unwrap();
    assert!(text(&output.stderr).contains("/nowhere.tar cannot be read: No such file"), "{output:?}");
    let output = diagnose(&whole, &["--request", "8", "--window", "isp"]);
    assert!(
        text(&output.stderr).contains("no window isp whose state is known; it has linux,cma"),
        "{output:?}"
    );
}

fn a_window_whose_bitmap_is_too_long() {
    let mut all = files("camera-fragmented");
    let bitmap = &mut all.iter_mut().find(|(name, _)| name == "cma/linux,cma/bitmap").unwrap().1;
    bitmap.extend(b"0 0\n");
    refused(
        "diagnose",
        &pack(&all),
        "board/cma/linux,cma, bitmap, line 2: the bitmap has 514 words of 32 bits; a bitmap of 16384 pages has 512",
    );
}

fn what_cannot_be_reproduced() {
    refused(
        "reproduce",
        &archive("arm-without-root"),
        "cannot be reproduced: no file shows which pages of the window were free",
    );
    let killed = "cma: cma_alloc: isp: alloc failed, req-size: 64 pages, ret: -4\n";
    refused("reproduce", killed.as_bytes(), "a signal ended the process, which is no state of the window");
}

/// The same answer for the same number of pages as on the board, and the same list of free pages.
fn three_boards_fail_again_in_guests() {
    let boards = [
        ("camera-fragmented", 1519, -12),
        ("two-windows-misaligned", 256, -12),
        ("busy-and-cut-short", 512, -16),
    ];
    // The last has held and busy pages.
    let count = if Extent::asked() == Extent::Thorough { boards.len() } else { 1 };
    for (board, pages, errno) in boards.into_iter().rev().take(count) {
        let disk = OnDisk::new(&archive(board));
        let mut command = Command::new(&*MINIVMM);
        command.args(["reproduce", "--json", "board.tar"]).current_dir(&disk.0);
        let output = guest::run(&mut command);
        let said = text(&output.stdout);
        println!("{said}");
        assert_eq!(output.status.code(), Some(0), "{board}: {said}{}", text(&output.stderr));
        let json: Value = serde_json::from_str(&said).unwrap();
        let failure = &json["failure"];
        assert_eq!((&failure["pages"], &failure["errno"]), (&pages.into(), &errno.into()), "{board}: {said}");
        assert_eq!(json["same"], true, "{board}: {said}");
        let log = fs::read(folder(board).join("board/dmesg")).unwrap();
        let wanted = cma::board::log::Log::read(&text(&log)).failures.pop().unwrap().listing.unwrap();
        assert_eq!(failure["listing"], serde_json::to_value(&wanted).unwrap(), "{board}: {said}");
    }
}

/// The script runs in a guest, whose programs are those of busybox, after a request failed there.
fn a_guest_is_a_board() {
    let script = Command::new(&*MINIVMM).args(["collect", "--print"]).output().unwrap().stdout;
    let disk = OnDisk::new(&script);
    let command = "cd /sys/kernel/debug/cma/isp*
        for pages in 600 3000 900; do echo $pages > alloc; done 2> /dev/null
        sh > /out/board.tar";
    let mut minivmm = Command::new(&*MINIVMM);
    minivmm
        .args(["--cma", "16M,name=isp", "--camera", "none", "--cmdline", "some.key=hunter2", "--out", "out"])
        .args(["--exec", command])
        .current_dir(&disk.0)
        .stdin(fs::File::open(disk.0.path().join("board.tar")).unwrap());
    let output = minivmm.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let archive = fs::read(disk.0.path().join("out/board.tar")).unwrap();
    let output = diagnose(&archive, &["--json"]);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    let json: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {errors}"));
    println!("{}", text(&diagnose(&archive, &[]).stdout));
    println!("{}", text(&output.stderr));
    let case = &json["cases"][0];
    assert_eq!(
        (&case["pages"], &case["errno"], &case["cause"]),
        (&900.into(), &(-12).into(), &"full".into()),
        "{said}"
    );
    assert_eq!(case["state"], "failure");
    let window = &json["windows"][0];
    assert_eq!(
        (&window["size"], &window["statistics"]["used"]),
        (&(16 << 20).into(), &3600.into()),
        "{said}"
    );
    assert_eq!(
        (&json["page_size"], &json["machine"]),
        (&4096.into(), &std::env::consts::ARCH.into()),
        "{said}"
    );
    // The device tree was read, and the kernel's configuration.
    assert_eq!(json["check"]["regions"][0]["outcome"], "cma_pool", "{said}");
    assert!(!archive.windows(7).any(|bytes| bytes == b"hunter2"));
    let missing = text(&archive).contains("cannot be read");
    assert!(!missing, "{said}");
}
