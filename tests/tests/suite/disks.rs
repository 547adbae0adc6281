//! Disks of `--disk`: with a driver of our own that a kill interrupts, and with Linux's.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use guest_images::Kind;
use tests::{
    bare_metal::BareMetal,
    data::{bytes, sha256},
    guest::{self, text},
    harness::{Extent, Group, Place, Test},
    qcow2, tests,
};
use vmm::{machine::config::DeviceRequest, observe::report::Report};

/// Tests with a bare-metal guest.
pub(crate) fn group() -> Group {
    let tests = tests![what_was_flushed_survives_kills, a_disk_that_is_in_use_is_refused];
    Group { name: "disks", place: Place::Kvm, tests }
}

/// Tests with Linux.
pub(crate) fn linux() -> Group {
    let mut tests = tests![linux_uses_raw_disks_and_images];
    let gigabytes = Test::new("gigabytes_are_what_was_written", gigabytes_are_what_was_written);
    tests.push(gigabytes.only_if_thorough().in_its_own_lab());
    Group { name: "disks_of_linux", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// The blocks that the bare-metal guest uses, and the size of its disk in bytes.
const BLOCKS: u64 = 256;
const DISK: u64 = BLOCKS * 136 * 512;
const FORMATS: [&str; 2] = ["raw", "qcow2"];

/// An empty disk in `folder`.
fn create(folder: &Path, format: &str, size: u64) -> String {
    let path = folder.join(format!("disk.{format}"));
    match format {
        "raw" => File::create(&path).and_then(|file| file.set_len(size)).unwrap(),
        _ => qcow2::create(&path, size).unwrap(),
    }
    format!("{},format={format},queues=2", path.display())
}

/// minivmm with the guest disk.c and a disk.
fn minivmm(folder: &Path, disk: &str, parameters: &[(&'static str, u64)]) -> Command {
    let mut guest = BareMetal::new("disk");
    guest.config.devices = vec![DeviceRequest::new("disk", &format!("file={disk}")).unwrap()];
    let guest = parameters.iter().fold(guest, |guest, &(name, value)| guest.with(name, value));
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--any-host", "--camera", "none", "--memory", "64M", "--disk", disk]);
    minivmm.arg("--kernel").arg(guest.build(folder).config.kernel);
    minivmm
}

/// The guest writes blocks in an order that its epoch decides, with 16 requests at a time in two queues, flushes, and says how many
/// writes are flushed. Each round ends with SIGKILL at another time. The guest of the next round finds each block as the last flushed
/// write of it left it, or as a later one did.
fn what_was_flushed_survives_kills() {
    let rounds = match Extent::asked() {
        Extent::Brief => 2,
        Extent::Usual => 3,
        Extent::Thorough => 200,
    };
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let disk = create(folder.path(), format, DISK);
        let (mut previous, mut acked, mut flushed) = (0, 0, 0);
        // The last one only checks.
        for round in 0..=rounds {
            let epoch = 1 + (round << 32);
            let parameters = [("BLOCKS", BLOCKS), ("EPOCH", epoch), ("PREVIOUS", previous), ("ACKED", acked)];
            let mut minivmm = minivmm(folder.path(), &disk, &parameters);
            let mut child =
                guest::spawn(minivmm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
            let mut said = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            said.read_line(&mut line).unwrap();
            if line == "checked\n" && round < rounds {
                // Each block is written once before the first number.
                for _ in 0..1 + round * 7 % 12 {
                    line.clear();
                    said.read_line(&mut line).unwrap();
                }
                thread::sleep(Duration::from_micros(round * 331 % 2500));
            }
            child.kill().unwrap();
            let mut rest = String::new();
            said.read_to_string(&mut rest).unwrap();
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            child.wait().unwrap();
            let said = format!("{line}{rest}");
            if round == rounds {
                assert_eq!(line, "checked\n", "{format}: round {round}: {said}{errors}");
                break;
            }
            // A line without its end is of a print that the kill interrupted.
            let last = said.split_inclusive('\n').rfind(|line| line.ends_with('\n'));
            acked = last.and_then(|line| line.trim().parse().ok()).unwrap_or(0);
            assert!(acked >= BLOCKS, "{format}: round {round}: {said}{errors}");
            (previous, flushed) = (epoch, flushed + acked);
        }
        println!("{format}: {rounds} kills, {flushed} flushed writes, none lost");
    }
}

/// 4 GiB to each format, 512 MiB at a time and other bytes each time.
fn gigabytes_are_what_was_written() {
    const PART: usize = 512 << 20;
    const PASSES: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let data = bytes(PART + PASSES * 4096);
    fs::write(path("data"), &data).unwrap();
    let hashes: String = (0..PASSES).map(|pass| sha256(&data[pass * 4096..][..PART]) + "\n").collect();
    for format in FORMATS {
        let disk = create(folder.path(), format, PART as u64);
        let mut minivmm = Command::new(guest::minivmm());
        minivmm.args(["--cpus", "2", "--camera", "none", "--report"]).arg(path("report.json"));
        minivmm.arg("--disk").arg(disk).arg("--disk").arg(format!("{},ro", path("data").display()));
        minivmm.args([
            "--exec",
            "set -e
            for pass in 0 1 2 3 4 5 6 7; do
                (dd bs=4k skip=$pass count=0; dd bs=1M count=512) < /dev/vdb 2> /dev/null | dd of=/dev/vda bs=1M iflag=fullblock conv=fsync 2> /dev/null
                echo 3 > /proc/sys/vm/drop_caches
                sha256sum < /dev/vda | cut -d' ' -f1
            done",
        ]);
        let output = guest::run_within(&mut minivmm, Duration::from_secs(1800));
        assert_eq!(text(&output.stdout), hashes, "{format}: {}", text(&output.stderr));
        let report: Report = serde_json::from_slice(&fs::read(path("report.json")).unwrap()).unwrap();
        let bytes = (PART * PASSES) as u64;
        assert_eq!(report.counter("disk0.bytes_written"), Some(bytes), "{format}");
        assert!(report.counter("disk0.bytes_read").unwrap() >= bytes, "{format}");
    }
}

/// The lock of the first machine, and what else makes a file unusable.
fn a_disk_that_is_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = create(folder.path(), "raw", DISK);
    let parameters = [("BLOCKS", BLOCKS), ("EPOCH", 1)];
    let mut first = minivmm(folder.path(), &disk, &parameters);
    let mut child = guest::spawn(first.stdin(Stdio::null()).stdout(Stdio::piped()));
    // It stays open: a machine without a reader ends.
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "checked\n");
    let file = folder.path().join("disk.raw");
    let refused = |disk: &str| {
        let output = guest::run(&mut minivmm(folder.path(), disk, &parameters));
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        text(&output.stderr)
    };
    let reads = format!("{},ro", file.display());
    for disk in [&disk, &reads] {
        let said = refused(disk);
        assert!(said.contains("disk.raw is in use: another program has locked it"), "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
    let said = refused(&reads);
    assert!(said.contains("has 1000 bytes; its size must be a multiple of 512 bytes"), "{said}");
    qcow2::create(&file, 1 << 20).unwrap();
    let said = refused(&reads);
    assert!(said.contains("begins as an image of qcow2 does; add format=qcow2"), "{said}");
}

/// A file system on a raw disk, plain bytes on an image, and a disk that is only read.
fn linux_uses_raw_disks_and_images() {
    const SIZE: u64 = 128 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let raw = File::create(path("raw")).unwrap();
    vmm::guest::out_disk::format(&raw, SIZE).unwrap();
    qcow2::create(&path("qcow2"), SIZE).unwrap();
    let data = bytes(3 << 20);
    fs::write(path("data"), &data).unwrap();
    let whole = sha256(&data);
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--cpus", "2", "--camera", "none", "--report"]).arg(path("report.json"));
    for (name, more) in [("raw", ""), ("qcow2", ",format=qcow2"), ("data", ",ro")] {
        minivmm.arg("--disk").arg(format!("{}{more}", path(name).display()));
    }
    // The disks are vda, vdb and vdc in the order of the options. The copy in the file system is not flushed: init unmounts it.
    minivmm.args([
        "--exec",
        "set -e
        cat /sys/block/vd?/serial; echo
        cat /sys/block/vd?/ro /sys/block/vdb/queue/discard_granularity
        ls /sys/block/vda/mq
        hash() { sha256sum | cut -d' ' -f1; }
        hash < /dev/vdc
        ! echo x 2> /dev/null > /dev/vdc
        mkdir /m; mount /dev/vda /m; cp /dev/vdc /m/gone; sync; rm /m/gone; fstrim /m; cp /dev/vdc /m/copy
        dd if=/dev/vdc of=/dev/vdb bs=1M seek=7 conv=fsync 2> /dev/null
        dd if=/dev/vdb bs=1M skip=7 count=3 iflag=direct 2> /dev/null | hash
        blkdiscard -o 8M -l 1M /dev/vdb
        dd if=/dev/vdb bs=1M skip=8 count=1 iflag=direct 2> /dev/null | tr -d '\\0' | wc -c
        dd if=/dev/vdb bs=1M skip=9 count=1 iflag=direct 2> /dev/null | hash",
    ]);
    let output = guest::run(&mut minivmm);
    let part = sha256(&data[2 << 20..]);
    let expected = format!("disk0disk1disk2\n0\n0\n1\n65536\n0\n1\n{whole}\n{whole}\n0\n{part}\n");
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    let report: Report = serde_json::from_slice(&fs::read(path("report.json")).unwrap()).unwrap();
    let counter = |path: &str| report.counter(path).unwrap();
    assert!(counter("disk0.discards") > 0 && counter("disk0.flushes") > 0, "{:?}", report.devices);
    assert!(
        counter("disk1.discards") > 0 && counter("disk1.bytes_written") == 3 << 20,
        "{:?}",
        report.devices
    );
    assert_eq!((counter("disk2.writes"), counter("disk0.errors"), counter("disk1.errors")), (0, 0, 0));

    // The file that was never flushed is in the file system, as a guest sees it that cannot repair anything.
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--camera", "none", "--disk"]).arg(format!("{},ro", path("raw").display()));
    minivmm.args(["--exec", "mkdir /m && mount -o ro /dev/vda /m && ls /m && sha256sum < /m/copy"]);
    let output = guest::run(&mut minivmm);
    assert_eq!(text(&output.stdout), format!("copy\n{whole}  -\n"), "{}", text(&output.stderr));
}
