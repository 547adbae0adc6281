//! Errors of minivmm: one sentence with the offending value. The exit status is 2 for a bad request and 1 for a failure of the host;
//! with --exec it is 125 for both. These tests need neither Linux nor a fit KVM.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::LazyLock,
};

use guest_images::Arch;
use tests::{
    bare_metal::BareMetal,
    harness::{Group, Place, Test},
    host, lab, programs, tests,
};
use vmm::arch;

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests = tests![
        kernels,
        initrds,
        additions,
        sizes_and_windows,
        no_image,
        a_cache_that_is_not_this_users,
        images_of_other_architectures,
        options,
        short_and_long_help,
        plans_of_faults,
        experiments,
        places_that_cannot_be_written,
        ports_that_are_taken,
        hosts_without_kvm,
        an_unfit_host_is_told_of_the_lab,
    ];
    tests.push(Test::new("interrupt_controllers", interrupt_controllers).only_on(Arch::AARCH64));
    Group { name: "bad_input", place: Place::Anywhere, tests }
}

static MINIVMM: LazyLock<std::path::PathBuf> =
    LazyLock::new(|| programs::minivmm().expect("cargo builds minivmm"));

fn minivmm(arguments: &[&str]) -> Output {
    Command::new(&*MINIVMM).args(arguments).output().unwrap()
}

/// Asserts that minivmm refuses `arguments` with `status` and a sentence that contains `parts`.
#[track_caller]
fn refused(arguments: &[&str], status: i32, parts: &[&str]) {
    check(&minivmm(arguments), arguments, status, parts);
}

#[track_caller]
fn check(output: &Output, arguments: &[&str], status: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{arguments:?}: \"{part}\" is missing in: {stderr}");
    }
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

/// A bare-metal kernel that loads everywhere.
fn good_kernel(folder: &Path) -> String {
    BareMetal::new("hello").build(folder).config.kernel.display().to_string()
}

fn kernels() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let missing = path("missing");
    refused(&["--kernel", &missing], 2, &["the kernel", "missing cannot be read: No such file"]);
    refused(&["--kernel", folder.path().to_str().unwrap()], 2, &["cannot be read", "directory"]);

    for (name, content) in
        [("empty", Vec::new()), ("text", b"#!/bin/sh\n".to_vec()), ("zeroes", vec![0; 4096])]
    {
        fs::write(path(name), content).unwrap();
        refused(&["--kernel", &path(name)], 2, &[name, "is not a kernel", arch::KERNEL_FORMATS]);
    }
    let good = fs::read(good_kernel(folder.path())).unwrap();
    for (name, content, parts) in bad_kernels(&good) {
        fs::write(path(name), content).unwrap();
        refused(&["--kernel", &path(name)], 2, &[&[name], parts].concat());
    }
}

/// The name of a file, its content, and parts of the error.
type BadKernel = (&'static str, Vec<u8>, &'static [&'static str]);

/// What may be taken for a kernel for this architecture, made of the one that is `good`.
#[cfg(target_arch = "x86_64")]
fn bad_kernels(good: &[u8]) -> Vec<BadKernel> {
    let cut = |length: usize| good[..length.min(good.len())].to_vec();
    let mut other = good.to_vec();
    other[18] = 183; // EM_AARCH64
    let mut bzimage = vec![0; 0x1000];
    bzimage[0x1f1] = 1;
    bzimage[0x1f4..0x1f8].copy_from_slice(&0x1000_u32.to_le_bytes());
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    bzimage[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    bzimage[0x211] = 1;
    bzimage[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    vec![
        ("5-bytes", cut(5), &["is truncated"]),
        ("40-bytes", cut(40), &["is truncated"]),
        ("64-bytes", cut(64), &["is truncated"]),
        ("100-bytes", cut(100), &["is truncated"]),
        ("two-thirds", cut(good.len() * 2 / 3), &["is truncated"]),
        ("other", other, &["is for another machine", "machine 183"]),
        ("arm64-image", arm64_image(), &["is a boot Image for arm64"]),
        ("bzimage", bzimage, &["is truncated"]),
    ]
}

/// What may be taken for a kernel for this architecture, made of the one that is `good`.
#[cfg(target_arch = "aarch64")]
fn bad_kernels(good: &[u8]) -> Vec<BadKernel> {
    let elf = |machine: u8| {
        let mut elf = vec![0; 64];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[18] = machine;
        elf
    };
    let mut big_endian = good.to_vec();
    big_endian[24] |= 1;
    let mut bzimage = vec![0; 0x1000];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    let mut huge = good.to_vec();
    huge[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    vec![
        ("63-bytes", good[..63].to_vec(), &["is truncated"]),
        ("truncated", arm64_image(), &["is truncated"]),
        ("vmlinux", elf(183), &["is an ELF vmlinux", "take arch/arm64/boot/Image"]),
        ("other", elf(62), &["is for another machine", "machine 62"]), // EM_X86_64
        ("bzimage", bzimage, &["is a bzImage, for x86"]),
        ("big-endian", big_endian, &["is a big-endian Image"]),
        ("gzip", b"\x1f\x8b\x08\0".to_vec(), &["is compressed with gzip"]),
        ("huge", huge, &["does not fit in the guest's memory", "--memory"]),
    ]
}

/// The beginning of an Image whose PE header has a section that ends after the file.
fn arm64_image() -> Vec<u8> {
    let mut image = vec![0; 0x206];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(56, b"ARM\x64");
    put(60, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x46, &1_u16.to_le_bytes());
    put(0x40 + 24 + 16, &0x1000_u32.to_le_bytes());
    put(0x40 + 24 + 20, &0x1000_u32.to_le_bytes());
    image
}

fn initrds() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = good_kernel(folder.path());
    let initrd = folder.path().join("initrd");
    let path = initrd.display().to_string();
    refused(&["--kernel", &kernel, "--initrd", &path], 2, &["the initrd", "cannot be read: No such file"]);
    fs::File::create(&initrd).unwrap().set_len(2 << 30).unwrap();
    refused(
        &["--kernel", &kernel, "--initrd", &path],
        2,
        &["does not fit above the kernel in guest memory of 1G", "--memory"],
    );
}

fn additions() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = good_kernel(folder.path());
    let with =
        |option: &str, value: &str, part: &str| refused(&["--kernel", &kernel, option, value], 2, &[part]);
    with("--add", "/no/such:/x", "/no/such cannot be put into the guest: No such file");
    with(
        "--add",
        "/etc/passwd:x",
        "--add: '/etc/passwd:x' names no absolute path in the guest; write it as HOST:/PATH",
    );
    with("--add", "/dev/null:/x", "/dev/null cannot be put into the guest, because it is neither a file");
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    with(
        "--add",
        &format!("{}:/x", folder.path().display()),
        "pipe cannot be put into the guest, because it is neither",
    );
    let large = folder.path().join("large.ko");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let large = large.display().to_string();
    for (option, value) in [("--add", format!("{large}:/large")), ("--module", large)] {
        with(option, &value, "in guest memory of 1G; increase --memory");
    }
    with("--module", "/no/such.ko", "/no/such.ko cannot be put into the guest: No such file");
    with("--module", "/etc/passwd", "/etc/passwd is not a kernel module; name a .ko file");
    refused(&["--kernel", &kernel, "--add", "/no/such:/x", "--exec", "true"], 125, &["/no/such"]);
}

fn sizes_and_windows() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = good_kernel(folder.path());
    let with = |arguments: &[&str], parts: &[&str]| {
        refused(&[&["--kernel", &kernel], arguments].concat(), 2, parts);
    };
    with(&["--memory", "1M"], &["--memory must be 32M to ", ", not 1M\n"]);
    with(&["--memory", "100T"], &["--memory must be 32M to ", ", not 100T\n"]);
    with(&["--memory", "lots"], &["\"lots\" is not a size"]);
    with(&["--memory", "256"], &[", not 256; did you mean 256M?\n"]);
    with(
        &["--memory", "67108865"],
        &["--memory must be a multiple of 4096 bytes, the page size, not 67108865 bytes"],
    );
    with(
        &["--memory", "65M", "--hugepages"],
        &["--memory must be a multiple of 2097152 bytes, the huge page size"],
    );
    for cpus in ["0", "255", "1000"] {
        with(&["--cpus", cpus], &["minivmm: --cpus must be 1 to 254\n"]);
    }
    for nodes in ["0", "9", "1000"] {
        with(&["--numa", nodes], &["minivmm: --numa must be 1 to 8\n"]);
    }
    with(&["--numa", "two"], &["--numa must be a whole number, not 'two'"]);
    with(
        &["--numa", "2", "--memory", "63M"],
        &["guest memory of 63M is too small for 2 NUMA nodes; increase --memory or decrease --numa"],
    );
    with(
        &["--cma", "64M,node=1"],
        &["cma0 is for NUMA node 1, but the last node is 0; --numa sets the number of nodes"],
    );
    with(
        &["--numa", "2", "--cma", "516M,node=1"],
        &["no room for the CMA window cma0", "the RAM of NUMA node 1 below"],
    );
    with(
        &["--numa", "2", "--camera", "node=2"],
        &["the camera uses NUMA node 2, but the guest's last node is 1; increase --numa"],
    );
    with(&["--cma", "0"], &["size zero"]);
    with(&["--cma", "256Q"], &["\"256Q\" is not a size"]);
    with(&["--cma", "256"], &["--cma: a CMA window of 256 bytes is too small; did you mean 256M?"]);
    with(&["--cma", "2G"], &["larger than the guest's memory of 1G"]);
    with(&["--cma", "1G"], &["there is no room for the CMA window cma0", "the largest free stretch"]);
    with(&["--cma", "5M"], &["not a multiple of the guest's pageblock of 4M"]);
    // Errors about the guest's memory, which has 1 GiB.
    let at = |offset: u64| format!("64M,base={:#x}", arch::ram(1 << 30)[0].start + offset);
    let unaligned = at(0x2000_1000);
    with(&["--cma", &unaligned], &[&unaligned["64M,".len()..].replace('=', " ")]);
    with(&["--cma", &at(0)], &["overlaps"]);
    with(&["--cma", &at(0x2000_0000), "--cma", &at(0x2200_0000)], &["overlaps the CMA window cma0"]);
    with(&["--cma", &at(1 << 30)], &["outside the guest's RAM"]);
    with(&["--numa", "2", "--cma", &at(0x1e00_0000)], &["lies in more than one NUMA node"]);
    let node = format!("{},node=1", at(0x1000_0000));
    with(&["--numa", "2", "--cma", &node], &["lies in NUMA node 0, not in node 1"]);
    with(
        &["--camera", "window=isp"],
        &["the camera uses the window \"isp\", but the CMA windows are none; add --cma size=...,name=isp"],
    );
    with(&["--camera", "scene=moon"], &["moon"]);
    with(&["--camera", "fps=5"].repeat(9), &["a machine has at most 8 cameras, not 9"]);
    with(&["--cmdline", &"x".repeat(3000)], &["but the kernel takes at most 2047"]);
    with(&["--log", "a=b=c"], &["the log filter"]);
}

fn no_image() {
    for (variable, value) in
        [("MINIVMM_CACHE", "/no/cache"), ("XDG_CACHE_HOME", "/no/cache"), ("HOME", "/no/home")]
    {
        let output = Command::new(&*MINIVMM)
            .env_remove("MINIVMM_CACHE")
            .env_remove("XDG_CACHE_HOME")
            .env(variable, value)
            .output()
            .unwrap();
        let place = if variable == "HOME" { "/no/home/.cache/minivmm" } else { value };
        check(
            &output,
            &[variable],
            2,
            &["the guest image default is not built", place, "minivmm image build default"],
        );
    }
}

fn a_cache_that_is_not_this_users() {
    let with = |variable: &str, value: &Path| {
        let mut minivmm = Command::new(&*MINIVMM);
        minivmm.env_remove("MINIVMM_CACHE").env_remove("XDG_CACHE_HOME").env(variable, value);
        minivmm.output().unwrap()
    };
    // A user without a home folder, too, has no absolute path of one.
    let names = ["there is no home folder", "HOME, XDG_CACHE_HOME or MINIVMM_CACHE"];
    check(&with("HOME", Path::new("home")), &["HOME"], 2, &names);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let parts = ["can be written by every user", "set MINIVMM_CACHE to a folder that only you can write"];
    check(&with("MINIVMM_CACHE", folder.path()), &["MINIVMM_CACHE"], 2, &parts);
}

fn images_of_other_architectures() {
    let known = ["default", "6.12", "7.2"];
    let arch = Arch::host().name;
    if arch == "x86_64" {
        let none = "there is no image debian for x86_64; there are: default, ";
        refused(&["--image", "debian", "--cma", "64M"], 2, &[&[none][..], &known].concat());
    }
    let none = format!("there is no image nonsense for {arch}; there are: ");
    refused(&["--image", "nonsense"], 2, &[&[none.as_str()][..], &known].concat());
}

fn options() {
    for (arguments, sentence) in [
        (&["--colour"][..], "unknown option '--colour'; `minivmm --help` lists all options and commands"),
        (&["--cpu", "2"], "unknown option '--cpu'; did you mean --cpus?"),
        (&["bake"], "unknown command 'bake'; `minivmm --help` lists all options and commands"),
        (&["chek", "x.dtb"], "unknown command 'chek'; did you mean check?"),
        (&["--out", "x"], "--exec <CMD> is missing, and the other arguments need it"),
        (&["--image", "x", "--kernel", "y"], "--image cannot be used with --kernel; omit one of them"),
        (&["--memory"], "--memory <SIZE> needs a value"),
        (&["check", "board.dtb", "--cma", "64M"], "[FILE] cannot be used with --cma; omit one of them"),
    ] {
        refused(arguments, 2, &[]);
        let said = String::from_utf8(minivmm(arguments).stderr).unwrap();
        assert_eq!(said, format!("minivmm: {sentence}\n"), "{arguments:?}");
    }
    refused(&["--cpu", "2", "--exec", "true"], 125, &["unknown option '--cpu'"]);
    refused(&["ctl", "/no/socket", "status"], 2, &["no machine listens on /no/socket", "--api-socket"]);
    refused(&["ctl", "/no/socket", "fly"], 2, &["<VERB> cannot be 'fly'; it must be status"]);
    refused(&["ctl", "/no/socket", "status", "now"], 2, &["unexpected word 'now'; omit it"]);
    refused(
        &["ctl", "/no/socket", "faults", "ad", "x"],
        2,
        &["faults needs list, add FILE, remove NAME or trigger NAME, not 'ad x'"],
    );
    refused(&["ctl", "/no/socket", "faults", "add", "/no/plan"], 2, &["/no/plan", "name a readable file"]);
    refused(&["ctl", "/no/socket", "frames"], 2, &["frames needs pause, step [N] or resume, not ''"]);
    refused(
        &["ctl", "/no/socket", "frames", "step", "0"],
        2,
        &["frames needs pause, step [N] or resume, not 'step 0'"],
    );
    refused(&["ctl", "/no/socket", "capture", "x"], 2, &["unexpected word 'x'; omit it"]);
    refused(
        &["ctl", "/no/socket", "status", "--device", "camera0"],
        2,
        &["--device is for the verbs devices, frames and capture"],
    );
    refused(
        &["ctl", "/no/socket", "status", "--png", "x"],
        2,
        &["--png and --follow are for the verb capture"],
    );
    refused(&["ctl", "/no/socket", "status", "--from", "agent"], 2, &["--from is for the verb cma; omit it"]);
    refused(&["ctl", "/no/socket", "status", "--svg", "x"], 2, &["--svg and --window are for the verb cma"]);
}

fn short_and_long_help() {
    let help = |arguments: &[&str]| {
        let output = minivmm(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (short, long) = (help(&["-h"]), help(&["--help"]));
    assert!(short.lines().count() <= 60 && 2 * short.len() < long.len(), "{short}");
    for part in ["Guest memory, 32M to ", "Number of vCPUs, 1 to 254"] {
        assert!(short.contains(part) && long.contains(part), "{part} is missing in {short}");
    }
    for part in [
        "Exit status",
        "  123      1  the guest panicked",
        "CONFIG_SERIAL_OF_PLATFORM",
        "CONFIG_RD_ZSTD",
        "align=SIZE",
    ] {
        assert!(long.contains(part) && !short.contains(part), "{part} is missing in {long}");
    }
    let check = help(&["check", "--help"]);
    for option in ["--cma ", "--memory ", "--faults ", "--json"] {
        assert!(check.contains(&format!("\n      {option}")), "{option} is missing in {check}");
    }
    for option in ["exec", "hugepages", "timeout", "report", "log", "out", "api-socket"] {
        assert!(
            !check.contains(&format!("\n      --{option} "))
                && !check.contains(&format!("\n      --{option}\n")),
            "{option}: {check}"
        );
    }
}

fn plans_of_faults() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    let path = plan.display().to_string();
    let rule = "[[rule]]\nname = \"a\"\non = \"irq\"\naction = \"lose\"\n";
    for (text, parts) in [
        (
            rule.replace("irq", "irk"),
            ["plan.toml:3:6: there is no point 'irk'", "the points are tree, sensor.link"],
        ),
        (format!("{rule}when = {{ probability = 1.5 }}"), ["plan.toml:5:24: probability", "at most 1"]),
        (format!("{rule}state = \"never\""), ["plan.toml:5:9: rule 'a' can never fire", "next-state"]),
        (rule.replace("irq", "frame.dma"), ["plan.toml:4:10: lose is no action of frame.dma", "one of irq"]),
    ] {
        fs::write(&plan, text).unwrap();
        refused(&["--faults", &path, "--exec", "true"], 125, &parts);
    }
    let kernel = good_kernel(folder.path());
    let with = |selector: &str, arguments: &[&str], part: &str| {
        fs::write(&plan, format!("{rule}{selector}")).unwrap();
        refused(&[&["--kernel", &kernel, "--faults", &path], arguments].concat(), 2, &[part]);
    };
    with(
        "camera = 1",
        &[],
        "rule 'a' is of camera1, and the machine has no such device; it has console, entropy, camera0",
    );
    with(
        "window = \"vpu\"",
        &["--cma", "size=16M,name=isp", "--camera", "window=isp"],
        "rule 'a' is of the window 'vpu', which no device uses; they use isp",
    );
    let missing = folder.path().join("no-plan").display().to_string();
    refused(
        &["--faults", &missing, "--exec", "true"],
        125,
        &["the plan ", "no-plan cannot be read", "name a readable file"],
    );
    refused(&["--trace", &missing, "--exec", "true"], 125, &["--faults <FILE> is missing"]);
    refused(
        &["replay", &missing],
        2,
        &["no-plan cannot be read", "name the --report of a run with --faults"],
    );
}

fn experiments() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (first, second) = (path("first.toml"), path("second.toml"));
    let good = "name = \"e\"\nmachine = \"--cma 16M\"\nworkload = \"true\"\n";
    for (text, parts) in [
        (good.replace("name", "nam"), ["first.toml:1:1: an experiment has no name", "give it one"]),
        (format!("{good}seeds = 3"), ["first.toml:4:9: seeds is a list", "not a whole number"]),
        (format!("{good}[expect]\nexit = 256"), ["first.toml:5:8: exit cannot be that", "from 0 to 255"]),
        (
            format!("{good}[[rule]]\nname = \"r\"\non = \"irk\""),
            ["first.toml:6:6: there is no point 'irk'", "irq"],
        ),
        (
            good.replace("--cma", "--cmb"),
            ["first.toml, seed=1, is wrong: unknown option '--cmb'", "the machine of"],
        ),
        (
            format!("{good}[matrix]\nformat = [\"GREY\"]"),
            ["first.toml:5:1: no field uses {format}", "remove the choice"],
        ),
        (
            format!("{}[matrix]\nn = [\"a b\", \"a/b\"]", good.replace("true", "echo {n}")),
            ["the runs n=a b,seed=1 and n=a/b,seed=1 of", "use values that differ"],
        ),
        (good.replace("16M\"", "16M --seed 3\""), ["are set by the experiment", "omit them"]),
    ] {
        fs::write(&first, text).unwrap();
        refused(&["experiment", "run", &first], 2, &parts);
    }
    fs::write(&first, good).unwrap();
    fs::write(&second, good).unwrap();
    refused(&["experiment", "list", &first, &second], 2, &["are both named 'e'", "a name of its own"]);
    refused(
        &["experiment", "run", &first, "--set", "a=b"],
        2,
        &["no experiment has 'a' in its matrix", "--set a="],
    );
    refused(&["experiment", "run", &first, "--set", "a"], 2, &["write it as NAME=VALUE"]);
    refused(&["experiment", "run", &path("none")], 2, &["cannot be read", "name a readable file"]);
    let listed = Command::new(&*MINIVMM).args(["experiment", "list", &first]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\n  seed=1\n"), "{listed:?}");
}

fn places_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = good_kernel(folder.path());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("below").display().to_string();
    let base = ["--kernel", &kernel, "--any-host", "--exec", "true"];
    for (option, part) in [
        ("--out", "the output folder"),
        ("--console-log", "the console log"),
        ("--report", "cannot be written"),
        ("--api-socket", "the API socket"),
        ("--dump-dtb", "cannot be written"),
        ("--dump-on-panic", "cannot be written"),
        ("--metrics", "cannot be written"),
    ] {
        refused(&[&base[..], &[option, &below]].concat(), 125, &[part, "below"]);
    }
    let socket = format!("unix:{below}");
    refused(&[&base[..], &["--metrics", &socket]].concat(), 125, &["the metrics socket", "below"]);
    refused(&["--metrics", "unix:"], 2, &["'unix:' names no file", "write FILE, or unix:FILE"]);
    let folder = folder.path().display().to_string();
    refused(&["--kernel", &kernel, "--any-host", "--metrics", &folder], 2, &["it is no regular file"]);
}

fn ports_that_are_taken() {
    let tcp_socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp_socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let [tcp, udp] =
        [tcp_socket.local_addr(), udp_socket.local_addr()].map(|address| address.unwrap().port());
    for (forward, protocol, port) in
        [(format!("{tcp}:22"), "TCP", tcp), (format!("udp:{udp}:53"), "UDP", udp)]
    {
        let why = format!("the {protocol} port {port} of 127.0.0.1 cannot be used: Address already in use");
        refused(&["--net", &format!("user,forward={forward}")], 2, &[&why, "name another port"]);
    }
}

fn interrupt_controllers() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = good_kernel(folder.path());
    refused(&["--kernel", &kernel, "--gic", "4"], 2, &["--gic cannot be '4'; it must be 2 or 3"]);
    if host::unfit().is_some() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: this host is unfit, it refuses all.");
        return;
    }
    let output = minivmm(&["--kernel", &kernel, "--gic", "2"]);
    if output.status.code() == Some(42) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: this host has a GICv2 for guests.");
        return;
    }
    check(&output, &["--gic", "2"], 1, &["this host's KVM has no GICv2 for guests", "give --gic 3"]);
}

/// Runs minivmm in a mount namespace of its own, with a /dev that `prepare` sets up.
fn with_dev(prepare: &str, run: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    // A folder that every user can read.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("minivmm");
    fs::copy(&*MINIVMM, &program).unwrap();
    let script = format!("{prepare} && exec {run} {} \"$@\"", program.display());
    let root = rustix::process::geteuid().is_root();
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !root {
        unshare.arg("--map-root-user");
    }
    unshare.args(["sh", "-c", &script, "sh"]).args(arguments).output().unwrap()
}

fn hosts_without_kvm() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let kernel = good_kernel(folder.path());
    let arguments = ["--host", "kvm", "--kernel", &kernel, "--cma", "16M"];
    let absent = with_dev("mount -t tmpfs none /dev", "", &arguments);
    let mut parts = vec!["there is no /dev/kvm on this host"];
    if !lab::is_inside() {
        parts.push("--host lab runs guests in an emulated machine");
    }
    check(&absent, &arguments, 1, &parts);

    let prepare = "mount -t tmpfs none /dev && touch /dev/kvm && chmod 000 /dev/kvm";
    let forbidden = with_dev(prepare, "setpriv --bounding-set=-all --inh-caps=-all", &arguments);
    check(&forbidden, &arguments, 1, &["/dev/kvm may not be opened by this user", "group kvm"]);

    let prepare = "mount -t tmpfs none /dev && touch /dev/kvm";
    check(&with_dev(prepare, "", &arguments), &arguments, 1, &["/dev/kvm has interface version -1, not 12"]);
}

fn an_unfit_host_is_told_of_the_lab() {
    let Some(reason) = host::unfit() else {
        // Writes to the terminal, because the output of a passed test is not shown.
        let _ = writeln!(std::io::stderr(), "SKIPPED: this host is fit, there is nothing to refuse here.");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let kernel = good_kernel(folder.path());
    let parts = [reason.as_str(), "--host lab runs guests in an emulated machine"];
    refused(&["--host", "kvm", "--kernel", &kernel, "--exec", "echo hi"], 125, &parts);
}
