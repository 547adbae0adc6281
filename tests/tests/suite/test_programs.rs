//! Test programs of others, which a lab's host and a guest run: pjdfstest on a shared folder, iperf3 through passt.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use guest_images::{Arch, cache::cache_dir, debian::Archive};
use tests::{
    cross,
    guest::text,
    harness::{Group, Place, Test},
    lab::Lab,
    tests,
};

/// The tests. They take programs from crates.io and Debian.
pub(crate) fn group() -> Group {
    let tests = tests![
        a_share_is_as_posix_has_it,
        a_share_on_aarch64_is_as_posix_has_it,
        iperf3_sends_and_receives,
        iperf3_on_aarch64,
    ];
    let only = |test: Test| test.only_if_thorough().only_on(Arch::X86_64);
    Group { name: "test_programs", place: Place::OutsideOfLabs, tests: tests.into_iter().map(only).collect() }
}

/// The output of a shell script with arguments, in a lab.
#[track_caller]
fn in_lab(arch: &'static Arch, script: &str, arguments: &[&Path]) -> String {
    let words = ["sh", "-c", script, "sh"].map(Into::into).into_iter();
    let words = words.chain(arguments.iter().map(|path| path.as_os_str().to_owned()));
    let lab = Lab::new().arch(arch).network(Vec::new()).timeout(Some(Duration::from_secs(3600)));
    let output = lab.output(words, b"").unwrap();
    assert_eq!(output.status, 0, "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The POSIX file system test suite, without libraries, so that it runs in any guest of `arch`.
fn pjdfstest(arch: &Arch) -> PathBuf {
    const VERSION: &str = "0.2.2";
    let folder = cache_dir().unwrap().join(format!("pjdfstest-{VERSION}-{}", arch.name));
    let program = folder.join("bin/pjdfstest");
    if !program.exists() {
        let libraries = Archive::of(arch.debian).unpacked("libacl1-dev").unwrap();
        let libraries = libraries.join(format!("usr/lib/{}-linux-gnu", arch.name));
        cross::install(arch, &format!("pjdfstest@{VERSION}"), &folder, &libraries).unwrap();
    }
    program
}

/// The results by test, of which the program prints a line each.
fn results(printed: &str) -> BTreeMap<&str, &str> {
    printed.lines().filter_map(result_of).collect()
}

/// The test and its result, if the line has one.
fn result_of(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.split_once(' ')?;
    let result = result.trim();
    (!name.is_empty() && ["ok", "FAILED", "skipped"].contains(&result)).then_some((name, result))
}

fn a_share_is_as_posix_has_it() {
    posix(Arch::host());
}

fn a_share_on_aarch64_is_as_posix_has_it() {
    posix(Arch::AARCH64);
}

/// A share on a tmpfs answers each test as the tmpfs itself does.
fn posix(arch: &'static Arch) {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[features]\nposix_fallocate = {}\n[settings]\nnaptime = 0.01\nallow_remount = false\n\
                    [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"tests\", \"tests\"]]\n";
    fs::write(folder.path().join("pjdfstest.toml"), settings).unwrap();
    let script = r#"
        mkdir -p /run/here /run/share; cd /run
        echo tests:x:1001:1001::/:/bin/false >> /etc/passwd; echo tests:x:1001: >> /etc/group
        "$1" -c "$2"/pjdfstest.toml -p /run/here
        echo the share
        "$3" --memory 512M --camera none --share /run/share:work --add "$1":/usr/bin/ --add "$2"/pjdfstest.toml:/root/ --exec '
            printf "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\ntests:x:1001:1001::/:/bin/false\n" > /etc/passwd
            printf "root:x:0:\nnogroup:x:65534:\ntests:x:1001:\n" > /etc/group
            pjdfstest -c /root/pjdfstest.toml -p /mnt/work; true'"#;
    let printed = in_lab(arch, script, &[&pjdfstest(arch), folder.path(), &cross::minivmm(arch).unwrap()]);
    let (here, share) = printed.split_once("the share\n").unwrap();
    let (here, share) = (results(here), results(share));
    assert_eq!(here, share);
    let count = |result: &str| share.values().filter(|found| **found == result).count();
    println!("{} ok, {} failed as on tmpfs, {} skipped", count("ok"), count("FAILED"), count("skipped"));
    assert!(count("ok") > 300, "{share:?}");
}

fn iperf3_sends_and_receives() {
    iperf3(Arch::host());
}

fn iperf3_on_aarch64() {
    iperf3(Arch::AARCH64);
}

/// In both directions, between a guest and its host.
fn iperf3(arch: &'static Arch) {
    const SIZE: u64 = 128 << 20;
    // The program and its libraries, for the lab and the guest.
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::of(arch.debian);
    for (package, place) in
        [("iperf3", "usr/bin"), ("libiperf0", "usr/lib"), ("libsctp1", "usr/lib"), ("libssl3", "usr/lib")]
    {
        let place = archive.unpacked(package).unwrap().join(place);
        let libraries = place.join(format!("{}-linux-gnu", arch.name));
        for entry in fs::read_dir(if libraries.exists() { libraries } else { place }).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    let script = format!(
        r#"cd /run; LD_LIBRARY_PATH="$2" "$2"/iperf3 --server --daemon
        "$1" --memory 512M --camera none --add "$2":/iperf3 --net user --exec '
            for direction in "" --reverse; do
                LD_LIBRARY_PATH=/iperf3 /iperf3/iperf3 --client 10.0.2.2 --bytes {SIZE} $direction --json; echo; echo end
            done'"#
    );
    let printed = in_lab(arch, &script, &[&cross::minivmm(arch).unwrap(), folder.path()]);
    let ends: Vec<_> = printed.split("\nend\n").filter(|part| !part.trim().is_empty()).collect();
    assert_eq!(ends.len(), 2, "{printed}");
    for json in ends {
        let said: serde_json::Value =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let (sent, received) = (&said["end"]["sum_sent"], &said["end"]["sum_received"]);
        println!("{:.0} Mbit/s", received["bits_per_second"].as_f64().unwrap() / 1e6);
        assert!(sent["bytes"].as_u64().unwrap() >= SIZE, "{sent}");
        // A receiver ends with the connection, before it has counted its last blocks.
        assert!(received["bytes"].as_u64().unwrap() >= SIZE / 100 * 95, "{received}");
    }
}
