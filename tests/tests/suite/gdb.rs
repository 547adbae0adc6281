//! `--gdb`: bare-metal guests on this machine's KVM, by gdb and by its remote protocol, and Linux by gdb and the symbols of its kernel.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use guest_images::{Arch, Kind, Release, debian};
use rustix::process::Signal;
use tests::{
    bare_metal::BareMetal,
    cross,
    differential::Random,
    guest,
    harness::{Extent, Group, Place, Test},
    python, tests,
};

/// The tests with bare-metal guests.
pub(crate) fn group() -> Group {
    // gdb is not in the lab of the other architecture.
    let with_gdb = tests![gdb_debugs_a_guest, a_debugger_that_sends_anything_hangs_nothing];
    let with_gdb = with_gdb.into_iter().map(|test| test.only_on(Arch::X86_64));
    let anywhere = tests![a_guest_stops_steps_and_shows_itself, random_packets_end_no_machine];
    Group { name: "gdb", place: Place::Kvm, tests: anywhere.into_iter().chain(with_gdb).collect() }
}

/// The tests with Linux. gdb runs on this host; minivmm runs the guest in a lab where it has to.
pub(crate) fn linux() -> Group {
    let mut tests = tests![gdb_debugs_linux, debuggers_read_a_memory_dump];
    tests.extend(tests![gdb_debugs_linux_on_aarch64].into_iter().map(Test::only_if_thorough));
    let tests = tests.into_iter().map(|test| test.only_on(Arch::X86_64)).collect();
    Group { name: "gdb_linux", place: Place::OutsideOfLabs, tests }
}

/// Time limit of gdb, and of a machine's start.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine that is debugged through the socket `gdb` in `folder`.
fn start(minivmm: &mut Command, folder: &Path) -> (Child, PathBuf) {
    let socket = folder.join("gdb");
    let child = guest::spawn(minivmm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let begun = Instant::now();
    while !socket.exists() {
        assert!(begun.elapsed() < LIMIT, "there is no socket");
        thread::sleep(Duration::from_millis(10));
    }
    (child, socket)
}

/// As [`start`], with the bare-metal guest `debug`. If it `waits`, it waits for the debugger. Returns its kernel, too.
fn bare_metal(folder: &Path, waits: bool) -> (Child, PathBuf, PathBuf) {
    let kernel = BareMetal::new("debug").build(folder).config.kernel;
    let mut minivmm = Command::new(guest::minivmm());
    minivmm
        .args(["--any-host", "--camera", "none", "--memory", "64M", "--cpus", "2", "--kernel"])
        .arg(&kernel);
    minivmm.args(["--timeout", "60", "--gdb"]);
    minivmm.arg(format!("{}{}", folder.join("gdb").display(), if waits { "" } else { ",nowait" }));
    let (child, socket) = start(&mut minivmm, folder);
    (child, socket, kernel)
}

/// What gdb prints at these commands.
fn gdb(symbols: &Path, socket: &Path, commands: &[&str]) -> String {
    attached("gdb", symbols, socket, commands)
}

/// As [`gdb`], with a gdb for the guest's architecture.
fn attached(program: &str, symbols: &Path, socket: &Path, commands: &[&str]) -> String {
    // A lab takes some seconds before the first answer, for which gdb would ask again.
    let attach = ["set remotetimeout 100".to_owned(), format!("target remote {}", socket.display())];
    let commands: Vec<&str> = attach.iter().map(String::as_str).chain(commands.iter().copied()).collect();
    run_gdb(program, &[symbols], &commands)
}

/// What gdb prints with these files, at these commands.
fn run_gdb(program: &str, files: &[&Path], commands: &[&str]) -> String {
    let mut gdb = Command::new(program);
    gdb.args(["-nx", "-q", "-batch", "-iex", "add-auto-load-safe-path /"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = guest::run_within(gdb.args(files), LIMIT);
    guest::text(&output.stdout) + &guest::text(&output.stderr)
}

/// Checks that the texts are in `printed`, one after the other.
#[track_caller]
fn in_order(printed: &str, texts: &[&str]) {
    let mut rest = printed;
    for text in texts {
        let Some((_, after)) = rest.split_once(text) else {
            panic!("no {text:?} in its place in\n{printed}")
        };
        rest = after;
    }
}

fn gdb_debugs_a_guest() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, socket, kernel) = bare_metal(folder.path(), true);
    // Without a debugger the guest waits.
    thread::sleep(Duration::from_millis(200));
    let commands = [
        "p $pc == &_start",
        "info threads",
        "break count",
        "set var *(long *)&go = 1",
        "continue",
        "bt 1",
        "p *(long *)&counter",
        "continue",
        "p *(long *)&counter",
        "stepi",
        "p $pc > &count",
        "delete",
        "hbreak count",
        "continue",
        "p *(long *)&counter",
        "set var $rdi = 10",
        "detach",
    ];
    let printed = gdb(&kernel, &socket, &commands);
    in_order(
        &printed,
        &["$1 = 1", "(CPU 0)", "(CPU 1)", "Breakpoint 1 at", "Breakpoint 1, ", " in count ()"],
    );
    in_order(&printed, &["#0 ", " in count ()", "$2 = 0", "$3 = 1", "$4 = 1"]);
    in_order(&printed, &["Hardware assisted breakpoint 2", "Breakpoint 2, ", "$5 = 3"]);
    // gdb changed the third number, 3, to 10. It has left no breakpoint.
    let printed = gdb(&kernel, &socket, &["p *(long *)&counter", "set var *(long *)&go = 2", "detach"]);
    in_order(&printed, &["$1 = 22"]);
    assert_eq!(child.wait().unwrap().code(), Some(22));
}

/// A debugger that speaks gdb's remote protocol.
struct Debugger(UnixStream);

impl Debugger {
    fn attach(socket: &Path) -> Self {
        let stream = guest::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut debugger = Self(stream);
        assert_eq!(debugger.ask("QStartNoAckMode"), "OK");
        debugger.0.write_all(b"+").unwrap();
        debugger
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(&packet(text.as_bytes())).unwrap();
    }

    /// The next answer.
    fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"#") {
            self.0.read_exact(&mut byte).unwrap();
            text.extend(byte);
        }
        self.0.read_exact(&mut [0; 2]).unwrap();
        let text = guest::text(&text);
        unfolded(text.trim_start_matches(['+', '$']).trim_end_matches('#'))
    }

    fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.answer()
    }

    /// The 64-bit number at an address.
    fn number(&mut self, address: u64) -> u64 {
        let text = self.ask(&format!("m{address:x},8"));
        u64::from_str_radix(&text, 16).unwrap_or_else(|error| panic!("{text}: {error}")).swap_bytes()
    }

    /// The program counter of the first vCPU.
    fn pc(&mut self) -> u64 {
        // gdb's numbers of rip and pc in the order of the answer to `g`: 8 bytes each.
        let place = if Arch::host().name == "x86_64" { 16 } else { 32 } * 16;
        let registers = self.ask("g");
        u64::from_str_radix(&registers[place..place + 16], 16).unwrap().swap_bytes()
    }
}

/// A packet with a command that gdb sends, and random arguments.
fn random_packet(random: &mut Random) -> Vec<u8> {
    const BASES: [u64; 6] = [0, 0x1000, 0x10_0000, 0x4000_0000, 0x8000_0000, u64::MAX - 7];
    let address = random.pick(&BASES).wrapping_add(random.below(0x20_0000));
    let length = random.pick(&[0, 1, 4, 8, 4096, u64::MAX]);
    let thread = random.pick(&["-1", "0", "1", "2", "3", "ffffffff"]);
    let bytes: String = (0..random.below(1200)).map(|_| format!("{:02x}", random.below(256))).collect();
    let text = match random.below(16) {
        0 => "g".into(),
        1 => format!("G{bytes}"),
        2 => format!("m{address:x},{length:x}"),
        3 => format!("M{address:x},{:x}:{bytes}", bytes.len() / 2),
        4 => format!("X{address:x},{length:x}:{bytes}"),
        5 => format!("Z{},{address:x},{length:x}", random.below(6)),
        6 => format!("z{},{address:x},{length:x}", random.below(6)),
        7 => format!("H{}{thread}", random.pick(&["g", "c"])),
        8 => format!("vCont;{}:{thread}", random.pick(&["s", "c", "t", "C05", "S05"])),
        9 => format!("vCont;s:{thread};c"),
        10 => format!("qThreadExtraInfo,{thread}"),
        11 => format!("P{:x}={bytes}", random.below(80)),
        12 => format!("p{:x}", random.below(80)),
        13 => format!("qXfer:features:read:target.xml:{:x},{length:x}", random.below(4096)),
        14 => random.pick(&["?", "c", "s", "qfThreadInfo", "qsThreadInfo", "vMustReplyEmpty"]).into(),
        // Ctrl-C.
        _ => return vec![3],
    };
    packet(text.as_bytes())
}

/// A packet of gdb's remote protocol.
fn packet(text: &[u8]) -> Vec<u8> {
    let sum = text.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    [b"$", text, format!("#{sum:02x}").as_bytes()].concat()
}

/// The text of a packet without its run-length encoding: a character, `*`, and the number of its repetitions and 29.
fn unfolded(text: &str) -> String {
    let mut unfolded = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, unfolded.chars().last()) {
            ('*', Some(last)) => {
                let count = characters.next().map_or(0, |count| u32::from(count) - 29);
                (0..count).for_each(|_| unfolded.push(last));
            }
            _ => unfolded.push(character),
        }
    }
    unfolded
}

fn a_guest_stops_steps_and_shows_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, socket, _) = bare_metal(folder.path(), false);
    // The guest runs, and prints where its function and its variables are.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut address = || u64::from_str_radix(lines.next().unwrap().unwrap().trim(), 16).unwrap();
    let (count, counter, go) = (address(), address(), address());

    let mut debugger = Debugger::attach(&socket);
    assert!(debugger.ask("?").starts_with("T05thread:"));
    let threads = debugger.ask("qfThreadInfo");
    assert!(threads.starts_with('m') && threads.split(',').count() == 2, "{threads}");
    assert_eq!(debugger.number(go), 0);
    assert_eq!(debugger.ask(&format!("M{go:x},8:0100000000000000")), "OK");
    assert_eq!(
        debugger.ask(&format!("Z0,{count:x},{}", if cfg!(target_arch = "x86_64") { 1 } else { 4 })),
        "OK"
    );

    // A breakpoint, which a debugger does not see in memory, a step over it, and the breakpoint again.
    let is_at_count = |debugger: &mut Debugger, answer: String| {
        assert!(answer.starts_with("T05") && answer.contains("thread:"), "{answer}");
        assert_eq!(debugger.pc(), count);
    };
    let stop = debugger.ask("vCont;c");
    is_at_count(&mut debugger, stop);
    assert_eq!(debugger.number(counter), 0);
    let code = debugger.ask(&format!("m{count:x},4"));
    assert_eq!(debugger.ask(&format!("z0,{count:x},4")), "OK");
    assert_eq!(debugger.ask(&format!("m{count:x},4")), code);
    assert!(debugger.ask("vCont;s:1").starts_with("T05"));
    let after = debugger.pc();
    assert!((count + 1..count + 16).contains(&after), "{after:#x} is not behind {count:#x}");
    assert_eq!(debugger.ask(&format!("Z0,{count:x},4")), "OK");
    let stop = debugger.ask("vCont;c");
    is_at_count(&mut debugger, stop);
    assert_eq!(debugger.number(counter), 1);
    assert_eq!(debugger.ask(&format!("z0,{count:x},4")), "OK");

    // A watchpoint, where the KVM has them, stops at the store to the counter.
    let watch = debugger.ask(&format!("Z2,{counter:x},8"));
    if watch == "OK" {
        let answer = debugger.ask("vCont;c");
        assert!(answer.contains(&format!("watch:{counter:x}")), "{answer}");
        assert_eq!(debugger.ask(&format!("z2,{counter:x},8")), "OK");
    } else {
        assert!(watch.starts_with('E') && cfg!(target_arch = "x86_64"), "{watch}");
    }

    // It runs until Ctrl-C.
    debugger.send("vCont;c");
    thread::sleep(Duration::from_millis(100));
    debugger.0.write_all(&[3]).unwrap();
    let answer = debugger.answer();
    assert!(answer.starts_with("T02"), "{answer}");
    assert_eq!(debugger.number(counter), 15);

    // A debugger that is gone leaves no breakpoint, and the next one can attach.
    assert_eq!(debugger.ask(&format!("Z0,{count:x},4")), "OK");
    drop(debugger);
    let mut debugger = Debugger::attach(&socket);
    assert_eq!(debugger.ask(&format!("M{go:x},8:0200000000000000")), "OK");
    assert_eq!(debugger.ask("D"), "OK");
    assert_eq!(child.wait().unwrap().code(), Some(15));
}

/// Debuggers write anything to registers and memory, set stops, and leave. The guest may fail, but the machine ends only as asked.
fn random_packets_end_no_machine() {
    let (machines, sessions) = if Extent::asked() == Extent::Thorough { (100, 20) } else { (2, 2) };
    for seed in 1..=machines {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, socket, _) = bare_metal(folder.path(), true);
        let mut random = Random::new(seed);
        for _ in 0..sessions {
            // The guest may have ended by a triple fault or the like.
            let Ok(mut stream) = guest::connect(&socket) else { break };
            let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
            let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
            for _ in 0..random.below(40) {
                let _ = stream.write_all(&random_packet(&mut random));
                let _ = stream.read(&mut [0; 4096]);
            }
        }
        if child.try_wait().unwrap().is_none() {
            guest::kill(child.id(), Signal::TERM);
        }
        let output = child.wait_with_output().unwrap();
        let said = guest::text(&output.stderr);
        // Its own end, or that by the signal, which may come before the machine handles it.
        let is_an_end = output.status.code().is_some_and(|code| code < 128 || code == 143)
            || output.status.signal() == Some(Signal::TERM.as_raw());
        assert!(is_an_end && !said.contains("panicked"), "seed {seed}: {}: {said}", output.status);
    }
}

fn a_debugger_that_sends_anything_hangs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, socket, kernel) = bare_metal(folder.path(), false);
    // A pseudorandom stream, in part as packets. Then the debugger is gone.
    let mut state = 1_u64;
    for round in 0..60 {
        let mut stream = guest::connect(&socket).unwrap();
        let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
        let bytes: Vec<u8> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let nonsense = [
            "?",
            "g",
            "m0,ffff",
            "mffffffffffffffff,10",
            "Z0,ffffffff81000000,1",
            "Z2,3,ffffffff",
            "vCont;s:1",
            "c",
        ];
        let message = match round % 3 {
            0 => bytes,
            1 => packet(&bytes[..20].iter().map(|byte| b' ' + byte % 95).collect::<Vec<_>>()),
            _ => nonsense.iter().flat_map(|text| packet(text.as_bytes())).collect(),
        };
        let _ = stream.write_all(&message);
        let _ = stream.read(&mut [0; 100]);
    }
    // One that reads nothing.
    let mut stream = guest::connect(&socket).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let ask = packet(b"g");
    while stream.write_all(&ask).is_ok() {}
    drop(stream);
    let printed = gdb(&kernel, &socket, &["p *(long *)&counter", "set var *(long *)&go = 2", "detach"]);
    in_order(&printed, &["$1 = 0"]);
    assert_eq!(child.wait().unwrap().code(), Some(15));
}

fn gdb_debugs_linux() {
    debug_linux(Arch::host(), "gdb", "break");
}

/// The same in a guest of the other architecture, which this host's gdb debugs. Its MMU is off at first, when memory has no breakpoints at
/// virtual addresses.
fn gdb_debugs_linux_on_aarch64() {
    debian::install(&["gdb-multiarch"]).unwrap();
    debug_linux(Arch::AARCH64, "gdb-multiarch", "hbreak");
}

/// A breakpoint at the kernel's first function, one at a system call, the lines and types of the kernel's source, a watchpoint (in
/// a lab, where KVM has no debug registers, gdb steps for it), the kernel's own commands for gdb, and the guest runs on.
fn debug_linux(arch: &Arch, gdb: &str, first: &str) {
    let image = guest_images::current(arch, Kind::Default(Release::ALL[0])).expect("the image is built");
    let symbols = image.dir.join("vmlinux.debug");
    let folder = tempfile::tempdir().unwrap();
    let mut minivmm = cross::command(arch).unwrap();
    minivmm.args(["--cma", "16M", "--camera", "none", "--timeout", "100", "--exec", "echo ran", "--gdb"]);
    let (child, socket) = start(minivmm.arg(folder.path().join("gdb")), folder.path());
    let first = format!("{first} start_kernel");
    let printed = attached(
        gdb,
        &symbols,
        &socket,
        &[
            first.as_str(),
            "continue",
            "break cma_init_reserved_mem",
            "continue",
            "bt",
            "set can-use-hw-watchpoints 0",
            "watch cma_area_count",
            "delete 1-2",
            "continue",
            "delete",
            "break do_sys_openat2",
            "continue",
            "bt 2",
            "p how->flags >= 0",
            "delete",
            "finish",
            "lx-dmesg",
            "p cma_areas[0].name",
            "detach",
        ],
    );
    in_order(&printed, &["reakpoint 1, ", "start_kernel () at ", "init/main.c"]);
    in_order(
        &printed,
        &["Breakpoint 2, cma_init_reserved_mem (base=", "#1 ", "rmem_cma_setup", "start_kernel ()"],
    );
    in_order(&printed, &["Watchpoint 3: cma_area_count", "Old value = 0", "New value = 1"]);
    in_order(&printed, &["Breakpoint 4, do_sys_openat2 (", "fs/open.c", "#1 ", "= 1", "Value returned is"]);
    in_order(
        &printed,
        &["] Linux version ", "Reserved memory: created CMA memory pool", "\"", "[Inferior 1"],
    );
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout == b"ran\n", "{output:?}");
}

/// gdb walks the stack of the vCPU that panicked, and reads the kernel's variables. drgn does too, with its own knowledge of kernels.
fn debuggers_read_a_memory_dump() {
    let image =
        guest_images::current(Arch::host(), Kind::Default(Release::ALL[0])).expect("the image is built");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--memory", "128M", "--cma", "16M,name=isp", "--camera", "none", "--cpus", "2"]);
    minivmm.args(["--exec", "echo c > /proc/sysrq-trigger", "--dump-on-panic"]).arg(&path);
    let output = guest::run_within(&mut minivmm, LIMIT);
    assert_eq!(output.status.code(), Some(123), "{}", guest::text(&output.stderr));
    let commands = [
        "thread apply all bt",
        "p init_uts_ns.name.nodename",
        "p cma_areas[0].name",
        "p (char *)saved_command_line",
        "lx-dmesg",
    ];
    let printed = run_gdb("gdb", &[&image.dir.join("vmlinux.debug"), &path], &commands);
    in_order(&printed, &["pvpanic_panic_notify", "panic (", "sysrq_handle_crash", "write_sysrq_trigger"]);
    in_order(&printed, &["$1 = \"minivmm\"", "$2 = \"isp@", "$3 = ", "panic=-1", "Trigger a crash"]);

    let script = "
print(prog['init_uts_ns'].name.nodename.string_().decode())
for area in prog['cma_areas'][:prog['cma_area_count']]:
    print(area.name.string_().decode(), area.count.value_())
from drgn.helpers.linux import find_task, get_dmesg
print(find_task(prog, 1).comm.string_().decode(), 'Trigger a crash' in get_dmesg(prog).decode())";
    fs::write(folder.path().join("script"), script).unwrap();
    let mut drgn = python::with(&["drgn==0.3.0"]);
    drgn.args(["-m", "drgn", "-q", "-c"]).arg(&path).arg("-s").arg(image.dir.join("vmlinux.debug"));
    let output = guest::run_within(drgn.arg(folder.path().join("script")), LIMIT);
    let printed = guest::text(&output.stdout) + &guest::text(&output.stderr);
    in_order(&printed, &["minivmm\nisp@", " 4096\n", "init True\n"]);
}
