//! Folders of `--share`, and devices of other vhost-user backends.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use guest_images::Kind;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use tests::{
    data::{bytes, sha256},
    guest::{self, text},
    harness::{Group, Place, Test},
    programs, tests,
};
use vmm::observe::report::Report;

/// Mistakes, for which no guest runs.
pub(crate) fn mistakes() -> Group {
    Group { name: "shares_refused", place: Place::Anywhere, tests: tests![mistakes_are_named] }
}

/// Tests with Linux.
pub(crate) fn group() -> Group {
    let mut tests = tests![
        folders_are_shared,
        a_lost_virtiofsd_is_an_error_and_no_hang,
        virtiofsd_ends_with_minivmm,
        another_backend_serves_a_disk,
    ];
    let gigabytes = Test::new("gigabytes_are_what_was_written", gigabytes_are_what_was_written);
    tests.push(gigabytes.only_if_thorough().in_its_own_lab());
    Group { name: "shares", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir_all(at("one/same")).unwrap();
    fs::create_dir_all(at("two/same")).unwrap();
    fs::write(at("file"), "").unwrap();
    // The size of the kernel does not matter: these mistakes are found before it runs.
    let kernel = tests::bare_metal::BareMetal::new("halt").build(folder.path()).config.kernel;
    let refused = |options: &[&str], status: i32, part: &str| {
        let mut minivmm = Command::new(programs::minivmm().unwrap());
        let output = minivmm.arg("--kernel").arg(&kernel).args(options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{options:?}: {said}");
        assert!(said.contains(part), "{options:?}: {said}");
    };
    let (one, two, file) = (at("one/same"), at("two/same"), at("file"));
    refused(&["--share", &at("none")], 2, "none cannot be shared: No such file or directory");
    refused(&["--share", &file], 2, "file is not a folder");
    refused(&["--share", &one, "--share", &two], 2, "share1 has the tag 'same', which share0 has");
    refused(&["--share", &format!("{one}:{}", "x".repeat(37))], 2, "has 37 bytes; a tag has 1 to 36");
    refused(&["--share", "/,ro"], 2, "/ has no name that could be its tag");
    refused(&["--device", &format!("vhost-user,id=2,socket={file}")], 2, "file is not a socket");
}

/// minivmm without a camera, with the command `exec`.
fn minivmm(shares: &[&str], exec: &str) -> Command {
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--cpus", "2", "--camera", "none"]);
    shares.iter().for_each(|share| {
        minivmm.args(["--share", share]);
    });
    minivmm.args(["--exec", exec]);
    minivmm
}

/// Two folders at once, and this machine's /usr, which in a lab comes by 9p. One folder is the working directory, the others are only
/// read. The driver leaves the device and takes it again.
fn folders_are_shared() {
    const SIZE: usize = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("work/sub")).unwrap();
    fs::create_dir(path("fixed")).unwrap();
    let data = bytes(SIZE);
    fs::write(path("work/data"), &data).unwrap();
    fs::write(path("fixed/text"), "fixed\n").unwrap();
    let fixed = format!("{},ro", path("fixed").display());
    let mut minivmm = minivmm(
        &[".", &fixed, "/usr:host,ro"],
        "set -e
        pwd; cat /mnt/fixed/text
        sha256sum < data | cut -d' ' -f1
        dd if=data of=sub/part bs=1M skip=3 count=8 2> /dev/null; mv sub/part sub/last; sync
        ln -s last sub/link; chmod 751 sub/last
        for folder in fixed host; do
            mount -o remount,rw /mnt/$folder
            ! echo x 2> /dev/null > /mnt/$folder/new
            ! touch /mnt/$folder 2> /dev/null
        done
        sha256sum < /mnt/host/bin/env | cut -d' ' -f1
        find /mnt/host/share/doc -maxdepth 1 | wc -l
        cd /
        umount /mnt/work /mnt/fixed /mnt/host
        for device in $(cd /sys/bus/virtio/drivers/virtiofs && echo virtio*); do
            echo $device > /sys/bus/virtio/drivers/virtiofs/unbind
            echo $device > /sys/bus/virtio/drivers/virtiofs/bind
        done
        mount -t virtiofs work /mnt/work
        sha256sum < /mnt/work/sub/last | cut -d' ' -f1
        echo again > /mnt/work/again",
    );
    minivmm.current_dir(path("work")).arg("--report").arg(path("report.json"));
    let output = guest::run(&mut minivmm);
    let (whole, part) = (sha256(&data), &data[3 << 20..11 << 20]);
    let last = sha256(part);
    let env = sha256(&fs::read("/usr/bin/env").unwrap());
    let documents = fs::read_dir("/usr/share/doc").unwrap().count() + 1;
    let expected = format!("/mnt/work\nfixed\n{whole}\n{env}\n{documents}\n{last}\n");
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(path("work/again")).unwrap(), "again\n");
    assert!(part == fs::read(path("work/sub/last")).unwrap(), "the guest wrote something else");
    assert_eq!(fs::read_link(path("work/sub/link")).unwrap(), Path::new("last"));
    assert_eq!(fs::read_dir(path("fixed")).unwrap().count(), 1);
    let report: Report = serde_json::from_slice(&fs::read(path("report.json")).unwrap()).unwrap();
    assert_eq!(report.counter("share0.starts"), Some(2), "{:?}", report.devices);
    assert_eq!(report.counter("share1.failures"), Some(0));
    assert!(report.counter("share0.interrupts").unwrap() > 0);
}

/// The processes with this name whose ancestor is `ancestor`.
fn descendants(ancestor: u32, name: &str) -> Vec<u32> {
    let stat = |process: u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let is_dead = fields.next()? == "Z";
        Some((head.split_once('(')?.1.to_owned(), fields.next()?.parse::<u32>().ok()?, is_dead))
    };
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let descends = |process: u32| {
        let mut at = process;
        while let Some((_, parent, _)) = stat(at) {
            if parent == ancestor {
                return true;
            }
            at = parent;
        }
        false
    };
    all.filter(|process| {
        stat(*process).is_some_and(|(found, _, is_dead)| found == name && !is_dead) && descends(*process)
    })
    .collect()
}

/// Starts minivmm with a shared folder. Returns it when its guest has printed a line, with the rest of the output.
fn started(folder: &Path, exec: &str, more: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut minivmm = minivmm(&[&format!("{}:it", folder.display())], exec);
    let minivmm = minivmm.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = guest::spawn(minivmm);
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "mounted\n");
    (child, said)
}

/// Ends a process of virtiofsd, which may have ended with another one.
fn kill(process: u32) {
    let pid = Pid::from_raw(process.try_into().unwrap()).unwrap();
    let killed = kill_process(pid, Signal::KILL);
    assert!(matches!(killed, Ok(()) | Err(Errno::SRCH)), "{killed:?}");
}

/// The guest sees it in the device's status, the user gets a sentence, and the machine goes on and ends in order.
fn a_lost_virtiofsd_is_an_error_and_no_hang() {
    let folder = tempfile::tempdir().unwrap();
    let exec = "echo mounted
        while [ $(($(cat /sys/bus/virtio/drivers/virtiofs/virtio*/status) & 64)) = 0 ]; do usleep 10000; done
        echo lost";
    let (mut child, mut said) = started(folder.path(), exec, &["--timeout", "100"]);
    let daemons = descendants(child.id(), "virtiofsd");
    assert!(!daemons.is_empty());
    daemons.into_iter().for_each(kill);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("lost\n", Some(0)), "{errors}");
    assert!(errors.contains("a virtio device needs a reset: share0: its backend has ended"), "{errors}");
}

fn virtiofsd_ends_with_minivmm() {
    let folder = tempfile::tempdir().unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        let (mut child, _said) = started(folder.path(), "echo mounted; sleep 1000", &[]);
        let daemons = descendants(child.id(), "virtiofsd");
        assert!(!daemons.is_empty());
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        let begun = Instant::now();
        let runs = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        };
        while daemons.iter().any(runs) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{signal:?}: virtiofsd still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// QEMU's block device, which is another program than virtiofsd, and has its configuration space itself.
fn another_backend_serves_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let data = bytes(4 << 20);
    fs::write(path("disk"), &data).unwrap();
    // It is in Debian's qemu-system-common, as virtiofsd is.
    let mut daemon = Command::new("qemu-storage-daemon");
    daemon.arg("--blockdev").arg(format!("driver=file,node-name=disk,filename={}", path("disk").display()));
    daemon.arg("--export").arg(format!(
        "type=vhost-user-blk,id=e,node-name=disk,writable=on,num-queues=2,addr.type=unix,addr.path={}",
        path("socket").display()
    ));
    let mut daemon = guest::spawn(&mut daemon);
    let begun = Instant::now();
    while !path("socket").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "qemu-storage-daemon makes no socket");
        thread::sleep(Duration::from_millis(10));
    }
    let device = format!("vhost-user,id=2,queues=2,socket={}", path("socket").display());
    let mut minivmm = minivmm(
        &[],
        "set -e
        sha256sum < /dev/vda | cut -d' ' -f1
        dd if=/dev/vda of=/dev/vda bs=1M skip=1 seek=2 count=1 conv=fsync 2> /dev/null
        cat /sys/block/vda/size; ls /sys/block/vda/mq",
    );
    let output = guest::run(minivmm.args(["--device", &device]));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let expected = format!("{}\n{}\n0\n1\n", sha256(&data), (4 << 20) / 512);
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    let written = fs::read(path("disk")).unwrap();
    let part = |from: usize| from << 20..(from + 1) << 20;
    assert!(written[part(2)] == data[part(1)] && written[part(3)] == data[part(3)]);
}

/// 4 GiB in each direction, 512 MiB at a time.
fn gigabytes_are_what_was_written() {
    const PART: usize = 512 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("it")).unwrap();
    let data = bytes(PART);
    fs::write(path("it/data"), &data).unwrap();
    let share = path("it").display().to_string();
    let whole = sha256(&data);
    for pass in 0..8 {
        let mut minivmm = minivmm(
            &[&share],
            "set -e; cd /mnt/it
            cat data > copy
            echo 3 > /proc/sys/vm/drop_caches
            sha256sum data copy | cut -d' ' -f1",
        );
        let output = guest::run_within(&mut minivmm, Duration::from_secs(900));
        assert_eq!(text(&output.stdout), format!("{whole}\n").repeat(2), "{pass}: {}", text(&output.stderr));
        assert_eq!(sha256(&fs::read(path("it/copy")).unwrap()), whole, "{pass}");
    }
}
