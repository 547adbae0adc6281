//! Tests that boot Linux with our own kernel. other_kernels.rs has the tests with other kernels.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use guest_images::{Arch, Kind};
use rustix::process::Signal;
use serde_json::Value;
use tests::{
    core_dump::{CoreDump, symbols},
    guest::{self, IN_WINDOW, end_within, exec, kill, printed, run, text, waits},
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::{
    api::GuestWindow,
    arch,
    observe::report::{MachineOutcome, Report},
};

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests = tests![
        meminfo_and_nothing_else,
        output_is_byte_exact,
        a_panic_ends_with_123_and_the_last_lines,
        reboot_and_halt_end_the_machine,
        a_signal_ends_the_machine,
        two_cpus,
        numa_nodes_have_what_was_asked_for,
        windows_are_where_they_were_asked_for,
        a_guest_without_window_and_camera,
    ];
    // The agent in the guest, the sockets and the program's own resources are the same on all architectures.
    let same = tests![
        the_exit_status_is_the_commands,
        files_come_out,
        files_and_modules_go_in,
        ctl_asks_pauses_and_stops_a_running_guest,
        a_command_that_powers_off_has_failed,
        a_shell_on_the_console,
        a_time_limit_ends_the_machine,
        input_reaches_the_command,
        an_initramfs_of_each_compression_is_unpacked,
        entropy_comes_from_the_host,
        runs_leave_nothing_behind,
    ];
    tests.extend(same.into_iter().map(Test::the_same_everywhere));
    tests.push(Test::new("a_bzimage_boots", a_bzimage_boots).only_on(Arch::X86_64));
    Group { name: "linux", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

fn meminfo_and_nothing_else() {
    let meminfo = printed(&exec("--cma 256M", "cat /proc/meminfo"));
    assert!(meminfo.starts_with("MemTotal:"), "{meminfo}");
    for line in meminfo.lines() {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("{line} is no line of meminfo"));
        let number = value.trim().trim_end_matches(" kB").parse::<u64>();
        assert!(number.is_ok(), "{line} is no line of meminfo");
        if name == "CmaTotal" {
            assert_eq!(number, Ok(262_144));
        }
    }
    assert!(meminfo.contains("CmaTotal:") && meminfo.ends_with(" kB\n"), "{meminfo}");
}

fn the_exit_status_is_the_commands() {
    assert_eq!(exec("--cma 256M", "exit 7").status.code(), Some(7));
    let missing = exec("", "no-such-program");
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("not found"), "{missing:?}");
    assert_eq!(exec("", "kill -9 $$").status.code(), Some(137));
}

fn output_is_byte_exact() {
    // Every byte value, many times, on both streams at once, without a newline at the end.
    let command = r"i=0; while [ $i -lt 256 ]; do printf \\$(printf %03o $i); i=$((i+1)); done > /tmp/all
        for i in 1 2 3 4 5 6 7 8; do cat /tmp/all /tmp/all > /tmp/more; cat /tmp/more /tmp/more > /tmp/all; done
        cat /tmp/all; printf end; tail -c 1000 /tmp/all >&2; printf end >&2";
    let output = exec("", command);
    assert_eq!(output.status.code(), Some(0));
    let all: Vec<u8> = (0..=255).cycle().take(256 << 16).collect();
    assert_eq!(output.stdout.len(), all.len() + 3);
    assert!(output.stdout[..all.len()] == all && output.stdout.ends_with(b"end"));
    assert!(output.stderr[..1000] == all[all.len() - 1000..] && &output.stderr[1000..] == b"end");
}

fn files_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/out");
    // One file is larger than the guest's memory.
    let command = "mkdir /out/sub; head -c 3000000 /dev/urandom > /out/sub/random; md5sum < /out/sub/random
        dd if=/dev/zero of=/out/large bs=1M count=100 2> /dev/null && echo end >> /out/large; ls /out; exit 3";
    let output = exec(&format!("--memory 96M --out {}", out.display()), command);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), stderr.as_str()), (Some(3), ""));
    let here = Command::new("md5sum").arg(out.join("sub/random")).output().unwrap();
    assert_eq!(text(&here.stdout).split(' ').next(), stdout.split(' ').next());
    assert!(stdout.ends_with("  -\nlarge\nsub\n"), "/out has nothing else: {stdout}");
    let mut large = fs::File::open(out.join("large")).unwrap();
    assert_eq!(large.metadata().unwrap().len(), (100 << 20) + 4);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..100 {
        large.read_exact(&mut piece).unwrap();
        assert!(piece.iter().all(|byte| *byte == 0));
    }
    let mut end = String::new();
    large.read_to_string(&mut end).unwrap();
    assert_eq!(end, "end\n");

    // Without a driver for the disk, files come out of memory.
    let arguments = format!("--out {} --cmdline initcall_blacklist=virtio_blk_init", out.display());
    let output = exec(&arguments, "echo from memory > /out/small");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("lacks CONFIG_VIRTIO_BLK") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(fs::read_to_string(out.join("small")).unwrap(), "from memory\n");
}

/// Files with their modes, links and folders; and modules that the guest does not load.
fn files_and_modules_go_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("tests/empty")).unwrap();
    fs::write(path("tests/run"), "#!/bin/sh\necho it runs\n").unwrap();
    symlink("run", path("tests/link")).unwrap();
    for (name, mode) in [("tests/run", 0o751), ("tests/empty", 0o1777), ("tests", 0o700)] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let arguments = format!(
        "--add {tests}:/opt/tests --add {tests}/run:/root/ --out {}",
        path("out").display(),
        tests = path("tests").display()
    );
    let command = "/opt/tests/link; ./run; readlink /opt/tests/link; cp /lib/modules/minivmm-camera.ko /out
        stat -c '%a %u %n' /opt /opt/tests /opt/tests/run /opt/tests/empty /root";
    let expected = "it runs\nit runs\nrun\n755 0 /opt\n700 0 /opt/tests\n751 0 /opt/tests/run\n1777 0 /opt/tests/empty\n700 0 /root\n";
    assert_eq!(printed(&exec(&arguments, command)), expected);

    let module = fs::read(path("out/minivmm-camera.ko")).unwrap();
    let with = |old: &[u8], new: &[u8], name: &str| {
        let at = module.windows(old.len()).position(|bytes| bytes == old).unwrap();
        fs::write(path(name), [&module[..at], new, &module[at + old.len()..]].concat()).unwrap();
        exec(&format!("--module {}", path(name).display()), "echo reached")
    };
    // It needs a symbol that the kernel does not have.
    let output = with(b"\0v4l2_device_register\0", b"\0v4l2_device_registex\0", "broken.ko");
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(123), ""), "{stderr}");
    let first = stderr.lines().next().unwrap();
    assert!(
        first.starts_with("minivmm: the guest did not load the module broken.ko: can't insert "),
        "{stderr}"
    );
    assert!(first.ends_with("Unknown symbol v4l2_device_registex (err -2)"), "{stderr}");
    let output = with(b"vermagic=6.", b"vermagic=5.", "old.ko");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("is for the kernel '5.") && stderr.contains(" --image default`"), "{stderr}");
}

fn a_panic_ends_with_123_and_the_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let cpus = Extent::asked().cpus();
    let arguments = format!("--cma 256M --cpus {cpus} --dump-on-panic {}", path.display());
    let output = exec(&arguments, "echo c > /proc/sysrq-trigger");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(123), "{stderr}");
    assert!(stderr.contains("the guest's kernel panicked"), "{stderr}");
    assert!(stderr.contains("Kernel panic - not syncing: sysrq triggered crash"), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.contains(&format!("its memory is in {}", path.display())), "{stderr}");
    check_dump(&path, cpus);
}

/// The dump in `path` has the registers of all vCPUs, and the memory of a guest of 1 GiB at the kernel's addresses.
fn check_dump(path: &Path, cpus: u8) {
    let dump = CoreDump::open(path);
    let image = guest_images::current(Arch::host(), Kind::DEFAULT).expect("the image is built");
    let names = ["_stext", "_etext", "saved_command_line", "cma_area_count", "panic_cpu"];
    let [start, end, cmdline, areas, panic_cpu] = symbols(&image.dir.join("vmlinux.debug"), names);
    let cmdline = dump.read(dump.number(cmdline), 32).expect("the dump has the command line");
    assert!(text(&cmdline).starts_with("console=ttyS0 panic=-1"), "{cmdline:?}");
    assert_eq!(dump.number(areas) & 0xffff_ffff, 1);
    assert_eq!(dump.registers.len(), usize::from(cpus));
    // The vCPU that panicked stands in the kernel, with its stack in the dump.
    let (pc, sp) = if cfg!(target_arch = "x86_64") { (16, 19) } else { (32, 31) };
    let registers = &dump.registers[usize::try_from(dump.number(panic_cpu) & 0xff).unwrap()];
    assert!((start..end).contains(&registers[pc]), "{registers:#x?}");
    assert!(dump.read(registers[sp], 64).is_some(), "{registers:#x?}");
    assert!(dump.vmcoreinfo.starts_with("OSRELEASE=6.1."), "{}", dump.vmcoreinfo);
    let (length, blocks) = dump.sizes();
    assert!(length > 1 << 30 && blocks < 256 << 20, "{length} bytes in {blocks}");
}

fn reboot_and_halt_end_the_machine() {
    let reboot = exec("", "echo b > /proc/sysrq-trigger");
    assert_eq!(reboot.status.code(), Some(123));
    assert!(text(&reboot.stderr).contains("reset itself"), "{reboot:?}");
    // Halts with interrupts off, without init. Linux on arm64 spins then, so the machine does not end.
    if cfg!(target_arch = "x86_64") {
        let halt = exec("--cpus 2", "busybox halt -f; sleep 100");
        assert_eq!(halt.status.code(), Some(123));
        assert!(text(&halt.stderr).contains("the guest halted"), "{halt:?}");
    }
}

fn a_signal_ends_the_machine() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut child = guest::spawn(
            Command::new(guest::minivmm())
                .args(["--cpus", "2", "--exec", "echo up; while :; do :; done"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit()),
        );
        let pid = child.id();
        let running = std::thread::spawn(move || {
            let mut up = [0; 3];
            child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
            kill(pid, signal);
            let start = Instant::now();
            (child.wait().unwrap(), start.elapsed())
        });
        end_within(&running, pid, guest::LIMIT);
        let (ended, took) = running.join().unwrap();
        assert_eq!(ended.code(), Some(status), "{signal:?}");
        assert!(took < Duration::from_secs(20), "{signal:?} took {took:?}");
    }
}

/// The command fills a pipe that the test does not read.
fn a_time_limit_ends_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let (report, out) = (folder.path().join("report"), folder.path().join("out"));
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--timeout", "12s", "--cmdline", "ignore_loglevel"]);
    minivmm.args(["--exec", "echo 'up and busy' > /dev/kmsg; echo > /out/file; cat /dev/zero"]);
    minivmm.arg("--report").arg(&report).arg("--out").arg(&out);
    let mut child = guest::spawn(minivmm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (pid, stdout) = (child.id(), child.stdout.take().unwrap());
    let running = std::thread::spawn(move || child.wait_with_output().unwrap());
    end_within(&running, pid, guest::LIMIT);
    drop(stdout);
    let ended = running.join().unwrap();
    let stderr = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(124), "{stderr}");
    assert!(stderr.contains("minivmm: stopped after 12 s, the limit of --timeout"), "{stderr}");
    assert!(stderr.contains("up and busy"), "the console's last lines are missing in {stderr}");
    let report: Report = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((report.outcome, report.exit.status), (MachineOutcome::TimedOut { seconds: 12 }, 124));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "no file is left");
}

/// A command with this input.
fn with_input(command: &str, input: Vec<u8>) -> std::process::Output {
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--exec", command]);
    let mut child = guest::spawn(minivmm.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (pid, mut stdin) = (child.id(), child.stdin.take().unwrap());
    let writing = std::thread::spawn(move || {
        // A command need not read its input.
        let _ = stdin.write_all(&input);
    });
    let running = std::thread::spawn(move || child.wait_with_output().unwrap());
    end_within(&running, pid, guest::LIMIT);
    let output = running.join().unwrap();
    writing.join().unwrap();
    output
}

fn input_reaches_the_command() {
    // Every byte value, more than all buffers on the way hold; and no byte.
    let all: Vec<u8> = (0..=255).cycle().take(3 << 20 | 5).collect();
    let output = with_input("cat", all.clone());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout == all, "{} bytes came back", output.stdout.len());
    assert_eq!(printed(&with_input("wc -c; cat /dev/stdin | wc -c", Vec::new())), "0\n0\n");
    assert_eq!(printed(&with_input("sleep 1; cat /dev/stdin", b"hi".to_vec())), "hi");
    // What the command does not read is dropped.
    assert_eq!(printed(&with_input("head -c 3", all)), "\u{0}\u{1}\u{2}");
}

/// Archives with a file `from-NAME`, compressed by gzip -9, zstd -19 --no-check, xz --check=crc32 and lz4 -l.
const COMPRESSED: [(&str, &[u8]); 4] = [
    (
        "gzip",
        b"\x1f\x8b\x08\0\0\0\0\0\x02\x033070704@\x02\x16\x86\x89&\x06\xd8\x81!\x1a\xdf\xd2\x808\
          \x90\x08c\xa4\x15\xe5\xe7\xea\xa6We\x160\x94\xe6\x15$&g\xa7\xa6p100\x18`\xb8\x01\x0f V\
          \x1d:H\x821B\x82\x1c=}\x5c\x83\x14\x15\x15\x81V3\0\0\x80SzE\0\x01\0\0",
    ),
    (
        "zstd",
        b"(\xb5/\xfd`\0\0\x85\x02\0\xa4\x03070701081a401090a0from-zstd\0unpacked\n\0\0\x0010b0TRAILE\
          R!!!\0\0\0\0\x09 \xd0\xdb\x03\x19\xde\x89s\xc1\xc1\xb4\x0c\x7f0\x19+m #",
    ),
    (
        "xz",
        b"\xfd7zXZ\0\0\x01i\x22\xde6\x02\0!\x01\x16\0\0\0t/\xe5\xa3\xe0\0\xff\0C]\0\x18\x0d\xdd\
          \x04c\x9d\x11\xdbA\x92Z\xff\x92\xa1M\x90@\x1ai\xfdA\xd2\x05\xc8P!?\xec\xdfm\xdd\xdf\x0dj\
          \xd6G\x9e\x0d\xc6\xa2\xe6\x7f\x0f\xcchZ# \xe6\xbc\xfa\x9d\x15\x7f|\x5c\xf6\xabm\x8a$k]\
          \x1cv\x04\0\0\0\xe8\xed\x9fX\0\x01[\x80\x02\0\0\0\xf0T\xf3\xbe>0\x0d\x8b\x02\0\0\0\0\x01\
          YZ",
    ),
    (
        "lz4",
        b"\x02!L\x18W\0\0\0w0707010\x01\0_81a40\x01\0\x03\x1b1\x10\0/90\x01\0\x13\x05(\0\xfe\x07fr\
          om-lz4\0\0unpacked\n\0\0\0\x84\0\x0fL\0\x08/10\x01\0#\x14b\x09\0\xe0TRAILER!!!\0\0\0\0",
    ),
];

/// They follow the image's initramfs in one file. The last is lz4's, as its format has no end (lib/decompress_unlz4.c).
fn an_initramfs_of_each_compression_is_unpacked() {
    let image = guest_images::current(Arch::host(), Kind::DEFAULT).unwrap();
    let mut archives = std::fs::read(&image.initramfs).unwrap();
    for (_, archive) in COMPRESSED {
        archives.resize(archives.len().next_multiple_of(4), 0);
        archives.extend_from_slice(archive);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archives).unwrap();
    let found = printed(&exec(&format!("--initrd {}", file.path().display()), "cat /from-*; echo /from-*"));
    assert_eq!(found, "unpacked\n".repeat(4) + "/from-gzip /from-lz4 /from-xz /from-zstd\n");
}

/// The answer of `minivmm ctl --json` to a verb.
fn ctl(socket: &Path, verb: &str) -> Value {
    let output = run(Command::new(guest::minivmm()).args(["ctl", "--json"]).arg(socket).arg(verb));
    serde_json::from_str(&printed(&output)).unwrap()
}

fn ctl_asks_pauses_and_stops_a_running_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (socket, report) = (path("api"), path("report"));
    // `free` frees the first pages of the last allocation, which leaves a hole.
    let command = "cd /sys/kernel/debug/cma/isp*; for pages in 1000 24 3000; do echo $pages > alloc; done
        echo 2500 > free; echo $(cat base_pfn count bitmap)
        n=0; while :; do n=$((n + 1)); [ $((n % 100)) -ne 0 ] || echo $n; done";
    let mut child = guest::spawn(
        Command::new(guest::minivmm())
            .args(["--cpus", "2", "--cma", "16M,default", "--cma", "64M,name=isp", "--api-socket"])
            .arg(&socket)
            .arg("--report")
            .arg(&report)
            .args(["--exec", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit()),
    );
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (sender, counts) = std::sync::mpsc::channel();
    let running = std::thread::spawn(move || {
        lines.by_ref().try_for_each(|line| sender.send(line)).unwrap();
        child.wait().unwrap()
    });
    let files = counts.recv_timeout(guest::LIMIT).unwrap();

    let status = &ctl(&socket, "status")["status"];
    assert_eq!((&status["cpus"], &status["memory"]), (&2.into(), &(1 << 30).into()), "{status}");
    assert_eq!(
        (&status["windows"][1]["name"], &status["windows"][1]["size"]),
        (&"isp".into(), &(64 << 20).into())
    );
    assert!(status["seconds_to_boot_mark"].is_f64() && status["paused"] == false, "{status}");
    assert_eq!(status["devices"], ctl(&socket, "devices")["devices"]);

    // The bitmap equals the one that the guest printed.
    let windows = &ctl(&socket, "cma")["cma"];
    let windows: Vec<GuestWindow> = serde_json::from_value(windows.clone()).unwrap();
    let isp = windows.iter().find(|window| window.name.starts_with("isp@")).unwrap();
    let mut numbers = files.split(' ').map(|number| number.parse::<u64>().unwrap());
    assert_eq!(numbers.next().map(|pfn| pfn * 4096), Some(isp.base));
    assert_eq!(numbers.next().map(|count| count * 4096), Some(isp.size));
    let mut words = vec![0; 16384 / 32];
    for page in isp.runs_allocated.iter().flat_map(|(first, count)| *first..first + count) {
        words[usize::try_from(page / 32).unwrap()] |= 1 << (page % 32);
    }
    assert_eq!(numbers.collect::<Vec<u64>>(), words);
    assert_eq!(isp.pages_allocated, 1000 + 24 + 500);
    let svg = path("window.svg");
    let arguments = ["--window", "isp", "--svg", svg.to_str().unwrap()];
    let drawn =
        printed(&run(Command::new(guest::minivmm()).arg("ctl").arg(&socket).arg("cma").args(arguments)));
    assert!(
        drawn.starts_with(&format!("isp@{:x} at {:#x}, 64 MiB: 1524 of 16384", isp.base, isp.base)),
        "{drawn}"
    );
    assert!(std::fs::read_to_string(svg).unwrap().contains("1524 of 16384 pages allocated"));

    let start = Instant::now();
    for _ in 0..10 {
        counts.recv_timeout(guest::LIMIT).unwrap();
    }
    let gap = start.elapsed() / 10;
    // During a pause the guest does not count, even over the time in which the machine checks for halted CPUs. Then it continues.
    assert_eq!(ctl(&socket, "pause"), serde_json::json!({"done": {}}));
    assert_eq!(ctl(&socket, "status")["status"]["paused"], true);
    std::thread::sleep(Duration::from_secs(1));
    assert!(counts.try_iter().count() > 0, "what was on its way when it paused");
    std::thread::sleep(10 * gap.max(Duration::from_millis(200)));
    assert_eq!(counts.try_iter().collect::<Vec<_>>(), Vec::<String>::new());
    // minivmm reads guest memory then, and the agent does not answer.
    assert_eq!(ctl(&socket, "cma")["cma"][0]["read_by"], "memory");
    for request in [&["cma", "--from", "agent"][..], &["capture"]] {
        let refused = run(Command::new(guest::minivmm()).arg("ctl").arg(&socket).args(request));
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("the machine is paused"), "{refused:?}");
    }
    assert_eq!(ctl(&socket, "resume"), serde_json::json!({"done": {}}));
    counts.recv_timeout(guest::LIMIT).unwrap();

    // A paused machine can be stopped, too.
    ctl(&socket, "pause");
    ctl(&socket, "stop");
    end_within(&running, pid, guest::LIMIT);
    assert_eq!(running.join().unwrap().code(), Some(143));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!((report.outcome, report.exit.status), (MachineOutcome::Stopped, 143));
    assert!(report.exit.meaning.contains("ctl SOCKET stop"), "{}", report.exit.meaning);
    assert!(!socket.exists());
    let gone = run(Command::new(guest::minivmm()).arg("ctl").arg(&socket).arg("status"));
    assert_eq!(gone.status.code(), Some(2));
    assert!(text(&gone.stderr).starts_with("minivmm: no machine listens on "), "{gone:?}");

    // A guest whose init has no agent.
    let (mut child, start) = (
        guest::spawn(
            Command::new(guest::minivmm())
                .args(["--cmdline", "rdinit=/bin/busybox -- sleep 1000000", "--api-socket"])
                .arg(&socket)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        ),
        Instant::now(),
    );
    while !socket.exists() {
        assert!(start.elapsed() < guest::LIMIT);
        std::thread::sleep(Duration::from_millis(20));
    }
    let without =
        run(Command::new(guest::minivmm()).arg("ctl").arg(&socket).args(["cma", "--from", "agent"]));
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without.stderr).contains("the guest has no agent on its virtio port"), "{without:?}");
    kill(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!socket.exists());
}

fn a_command_that_powers_off_has_failed() {
    let output = exec("", "echo before; poweroff -f; sleep 100");
    assert_eq!(output.status.code(), Some(123), "{output:?}");
    assert!(text(&output.stderr).contains("powered off before its command had ended"), "{output:?}");
}

fn a_shell_on_the_console() {
    // Each character of the kernel's log costs two exits, so that one guest prints it here.
    for (end, status, log) in [("exit", 0, "loglevel=7"), ("poweroff", 0, "quiet"), ("reboot", 1, "quiet")] {
        let mut child = guest::spawn(
            Command::new(guest::minivmm())
                .args(["--cma", "64M", "--cmdline", log])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit()),
        );
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let pid = child.id();
        let talking = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut typed = false;
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                if !typed && text(&seen).contains("minivmm:~# ") {
                    write!(stdin, "echo $((6 * 7)) from $(tty)\n{end}\n").unwrap();
                    typed = true;
                }
            }
            (text(&seen), child.wait().unwrap())
        });
        end_within(&talking, pid, guest::LIMIT);
        let (seen, ended) = talking.join().unwrap();
        assert_eq!(ended.code(), Some(status), "{end}: {seen}");
        assert!(seen.contains("42 from /dev/hvc0"), "{seen}");
        let has_log = seen.contains("created CMA memory pool");
        assert_eq!(has_log, log != "quiet", "the kernel's log is on the terminal too: {seen}");
    }
}

fn two_cpus() {
    let output = printed(&exec(
        "--cpus 2 --cma 64M",
        "nproc; grep -c ^processor /proc/cpuinfo; grep -e LOC -e arch_timer /proc/interrupts",
    ));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["2", "2"]);
    let ticks = lines[2].split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let ticks: Vec<u64> = ticks.take(2).collect();
    assert!(ticks.len() == 2 && ticks.iter().all(|&count| count > 0), "both CPUs have a timer: {output}");
}

/// Memory is divided as in `arch::nodes`, on x86_64 by the kernel itself. A window is in the requested node.
fn numa_nodes_have_what_was_asked_for() {
    let command = "dmesg | sed -n 's/.*Initmem setup node \\([0-9]*\\) .mem \\([0-9a-fx]*\\)-\\([0-9a-fx]*\\).*/memory \\1 \\2 \\3/p'
        awk '/^Node/ { node = $2 + 0 } $1 == \"cma\" { pages[node] += $2 } END { for (node in pages) print \"cma\", node, pages[node] }' \
            /proc/zoneinfo
        for node in /sys/devices/system/node/node[0-9]*; do echo cpus ${node##*node} $(cat $node/cpulist); done
        for node in /sys/devices/system/node/node[0-9]*; do echo distance ${node##*node} $(cat $node/distance); done";
    // With 4 GiB, x86_64 has a gap.
    for (count, memory, cpus, windows, pages) in [
        (2, 1_u64, 2, "--cma 64M,node=1 --cma 16M,name=isp,node=0", [4096, 16384, 0]),
        (3, 4, 3, "--cma 64M,node=1 --cma 16M,name=isp,node=0", [4096, 16384, 0]),
        (2, 1, 2, "--cma 64M,node=0 --cma-mode cmdline", [16384, 0, 0]),
    ] {
        let arguments = format!("--numa {count} --memory {memory}G --cpus {cpus} {windows}");
        let output = printed(&exec(&arguments, command));
        let ram = arch::ram(memory << 30);
        let nodes = arch::nodes(&ram, count, arch::PAGEBLOCK).unwrap();
        for node in 0..u32::from(count) {
            let mine = || nodes.iter().filter(|(of, _)| *of == node).map(|(_, range)| range);
            let mut start = mine().map(|range| range.start).min().unwrap();
            // On x86_64 the first page belongs to the BIOS.
            if start == 0 {
                start = 0x1000;
            }
            let last = mine().map(|range| range.end).max().unwrap() - 1;
            // On x86_64 Linux has all CPUs in each node, and no distances.
            let (cpus, distances) = if cfg!(target_arch = "x86_64") {
                (format!("0-{}", cpus - 1), vec!["10"; count.into()])
            } else {
                let to = |other| if other == node { "10" } else { "20" };
                (node.to_string(), (0..u32::from(count)).map(to).collect())
            };
            let pages = pages[usize::try_from(node).unwrap()];
            for line in [
                format!("memory {node} {start:#018x} {last:#018x}"),
                format!("cma {node} {pages}"),
                format!("cpus {node} {cpus}"),
                format!("distance {node} {}", distances.join(" ")),
            ] {
                assert!(output.lines().any(|of| of == line), "{line} is missing in\n{output}");
            }
        }
        assert_eq!(output.matches("memory ").count(), usize::from(count), "{output}");
    }
}

fn a_bzimage_boots() {
    let image = guest_images::current(Arch::host(), Kind::DEFAULT).unwrap();
    let arguments = format!(
        "--kernel {} --initrd {} --cma 128M",
        image.dir.join("bzImage").display(),
        image.initramfs.display()
    );
    assert!(printed(&exec(&arguments, "grep CmaTotal /proc/meminfo")).contains("131072 kB"));
}

fn windows_are_where_they_were_asked_for() {
    let base = arch::ram(1 << 30)[0].start + 0x2000_0000;
    let arguments = format!(
        "--memory 1G --cma size=64M,name=isp,base={base:#x} --cma 128M,default --camera window=isp,timing=stall"
    );
    let command = "dmesg | grep -e 'Reserved memory' -e 'reserved memory node'; grep CmaTotal /proc/meminfo
        for w in /sys/kernel/debug/cma/*; do echo ${w##*/} $(cat $w/base_pfn $w/count $w/order_per_bit); done
        v4l2-ctl --stream-mmap=3 --stream-count=2 > /dev/null 2>&1
        in_window isp";
    let output = printed(&exec(&arguments, &format!("{IN_WINDOW}{command}")));
    for line in [
        format!("created CMA memory pool at {base:#018x}, size 64 MiB"),
        format!("assigned reserved memory node isp@{base:x}"),
        "CmaTotal:         196608 kB".to_owned(),
        format!("isp@{base:x} {} 16384 0", base / 4096),
    ] {
        assert!(output.contains(&line), "{line} is missing in\n{output}");
    }
}

fn a_guest_without_window_and_camera() {
    let output = printed(&exec(
        "--memory 128M --camera none",
        "grep Cma /proc/meminfo; ls /dev/video* 2>&1; ls /dev/hwrng",
    ));
    assert!(output.contains("CmaTotal:              0 kB"), "{output}");
    assert!(output.contains("/dev/video*: No such file"), "{output}");
    assert!(output.contains("/dev/hwrng"), "{output}");
}

fn entropy_comes_from_the_host() {
    // The device's unit tests check that a seed repeats the stream: in Linux a kernel thread reads from the device, too.
    let command = "cat /sys/class/misc/hw_random/rng_current; head -c 4096 /dev/hwrng | tee /tmp/r | wc -c; md5sum < /tmp/r";
    let (one, other) = (printed(&exec("", command)), printed(&exec("--seed 7", command)));
    assert!(one.starts_with("virtio_rng.0\n4096\n"), "{one}");
    assert_ne!(one, other);
}

/// All machines run in one process, so that leaks would add up.
fn runs_leave_nothing_behind() {
    let image = guest_images::current(Arch::host(), Kind::DEFAULT).unwrap();
    let config = vmm::machine::config::Config {
        memory: 256 << 20,
        kernel: image.kernel,
        initrd: Some(image.initramfs),
        windows: vec!["64M".parse().unwrap()],
        devices: vec!["camera,timing=stall".parse().unwrap()],
        exec: Some(format!(
            "{IN_WINDOW}v4l2-ctl --stream-mmap=3 --stream-count=5 --stream-to=/dev/null 2> /dev/null && in_window cma0"
        )),
        ..Default::default()
    };
    let runs = if Extent::asked() == Extent::Thorough { 20 } else { 5 };
    // A separate process counts, because other tests run in this one at the same time. It writes its count to a file, so that a
    // name that no longer matches is noticed.
    let Some(tally) = std::env::var_os("RUNS_TALLY") else {
        let tally = tempfile::NamedTempFile::new().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["linux::runs_leave_nothing_behind", "--exact", "--test-threads=1"])
            .env("RUNS_TALLY", tally.path())
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        assert_eq!(std::fs::read_to_string(tally.path()).unwrap(), runs.to_string());
        return;
    };
    let turn = Arc::new(AtomicU32::new(0));
    std::thread::spawn({
        let turn = turn.clone();
        move || loop {
            let seen = turn.load(Ordering::Relaxed);
            std::thread::sleep(guest::LIMIT);
            if turn.load(Ordering::Relaxed) == seen {
                eprintln!("run {seen} HANGS; its threads wait in {}", waits(std::process::id()));
                std::process::abort();
            }
        }
    });
    let kvm = vmm::machine::kvm::open_kvm().unwrap();
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let mut before = None;
    while turn.load(Ordering::Relaxed) < runs {
        let run = turn.load(Ordering::Relaxed);
        let loaded = vmm::boot::load::load(&config).unwrap();
        let (stdout, stderr) = (
            vmm::guest::output::Output::new(std::io::sink()).unwrap(),
            vmm::guest::output::Output::new(std::io::sink()).unwrap(),
        );
        let (watch, console_log) = (vmm::machine::watch::Watch::default(), None);
        let streams = vmm::machine::Streams {
            stdout,
            stderr,
            console_log,
            signals: None,
            watch,
            api: None,
            metrics: None,
            gdb: None,
            dump: None,
        };
        let report =
            vmm::machine::Machine::start(&kvm, &config, loaded, streams).and_then(vmm::machine::Machine::run);
        let report = report.unwrap_or_else(|error| panic!("run {run}: {error}"));
        assert_eq!(
            report.outcome,
            vmm::observe::report::MachineOutcome::Exit { status: 0 },
            "run {run}: {report:#?}"
        );
        let camera = |counter| report.counter(&format!("camera0.{counter}")).unwrap();
        // The camera wrote only in the window: its port permits nothing else.
        assert!(
            camera("frames") >= 5 && camera("bus_errors") == 0 && report.windows[0].pages_written > 0,
            "run {run}"
        );
        if run % 10 == 9 {
            eprintln!("{} runs, {:.0} s", run + 1, report.seconds);
        }
        // A joined thread is still listed for a moment.
        let start = Instant::now();
        let mut now = (count("fd"), count("task"));
        while before.is_some_and(|before| before != now) && start.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
            now = (count("fd"), count("task"));
        }
        assert_eq!(*before.get_or_insert(now), now, "run {run} left a file descriptor or a thread");
        turn.fetch_add(1, Ordering::Relaxed);
    }
    std::fs::write(tally, turn.load(Ordering::Relaxed).to_string()).unwrap();
}
