//! A machine of plain QEMU that boots a tree on one of Debian's kernels and returns the kernel's answer.

use std::{
    error::Error,
    fs, io,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use cma::check::{Arch, Boot, Kernel};
use guest_images::{Kind, Release, Stock, cpio, debian, module, stock};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    answer::{self, Answer},
    platform::{DTB, HIGH_RAM, INITRD, KERNEL, PC_RAM, Platform, RAM},
    tree::Tree,
};
use crate::{kernels, programs};

/// The Debian packages with QEMU and with the C library for the guest's program.
const ARM64_PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-system-arm"];
const X86_64_PACKAGES: [&str; 3] = ["gcc", "libc6-dev", "qemu-system-x86"];
/// Where a boot of arm64 begins: instructions that jump to the kernel.
const START: u64 = 0x4010_0000;
/// Time limit of a boot: many times what one takes, as the host may be busy.
const LIMIT: Duration = Duration::from_secs(90);
/// The CPU time without which a boot may last longer, up to [`BUSY_LIMIT`].
const LEAST_CPU: Duration = Duration::from_secs(15);
/// Time limit of a boot on a host that has hardly any time for it.
const BUSY_LIMIT: Duration = Duration::from_secs(900);
/// Time limit of a boot after a crash, of which Linux waits for the end without an end, perhaps.
const CRASHED_LIMIT: Duration = Duration::from_secs(15);
/// The longest answer in bytes.
const LONGEST: usize = 1 << 20;

/// A kernel and what boots it.
#[derive(Debug)]
pub struct Machine {
    /// The kernel, as the check knows it.
    pub rules: Kernel,
    /// What the check cannot read from the tree.
    pub boot: Boot,
    /// Its name for messages.
    pub name: String,
    /// The machine of QEMU.
    pub platform: Platform,
    kernel: PathBuf,
    /// The folder with the files that are the same for each boot.
    folder: TempDir,
}

/// QEMU, which ends when this is dropped, and when this thread ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// The arm64 machine with Debian's kernel of `release`. The kernel and the module are downloaded and built if necessary.
    ///
    /// # Errors
    /// If something is missing and cannot be installed, downloaded or built.
    pub fn debian(release: Release) -> Result<Self, Box<dyn Error>> {
        debian::install(&ARM64_PACKAGES)?;
        let Stock { kernel, module, .. } = stock(release, &guest().join("pools"))?;
        let folder = tempfile::tempdir()?;
        let size = initramfs(folder.path(), "aarch64-linux-gnu-gcc", &module)?;
        let [from, to] = INITRD;
        if size > to - from {
            return Err(io::Error::other("the initramfs is larger than its place in the guest").into());
        }
        fs::write(folder.path().join("start"), start())?;
        let rules = Kernel::debian(kernels::rules(release), Arch::Arm64, cma::PAGE_SIZE)?;
        let name = format!("Linux {}", release.name());
        Ok(Self { rules, boot: Boot::default(), name, platform: Platform::Virt, kernel, folder })
    }

    /// The x86_64 machine with the kernel of our guest image of `release`, which is built if necessary.
    ///
    /// # Errors
    /// If something is missing and cannot be installed or built.
    pub fn ours(release: Release) -> Result<Self, Box<dyn Error>> {
        debian::install(&X86_64_PACKAGES)?;
        let (arch, kind) = (guest_images::Arch::X86_64, Kind::Default(release));
        let image = guest_images::build(arch, kind)?;
        let folder = tempfile::tempdir()?;
        let work = folder.path().join("module");
        fs::create_dir(&work)?;
        for file in ["Kbuild", "pools.c"] {
            fs::copy(guest().join("pools").join(file), work.join(file))?;
        }
        let modules = module::build(arch, kind, &work)?;
        let size = initramfs(folder.path(), "gcc", &modules[0])?;
        let sizes: serde_json::Value = serde_json::from_slice(&fs::read(image.dir.join("image.json"))?)?;
        let pageblock = sizes["pageblock"].as_u64().ok_or("image.json has no pageblock")?;
        let rules = Kernel::guest(kernels::rules(release), Arch::X86_64, cma::PAGE_SIZE, pageblock)?;
        let boot = Boot { ram: PC_RAM.map(|[start, end]| start..end).to_vec(), cmdline: None };
        let name = format!("Linux {} on x86_64", release.name());
        let platform = Platform::Pc { initrd: pc_initrd(size) };
        Ok(Self { rules, boot, name, platform, kernel: image.dir.join("bzImage"), folder })
    }

    /// Boots `tree`.
    ///
    /// # Panics
    /// If QEMU cannot be started.
    pub fn boot(&self, tree: &Tree) -> Answer {
        fs::write(self.file("tree"), tree.blob()).expect("there is room for a tree");
        let mut qemu = match self.platform {
            Platform::Virt => self.virt(),
            Platform::Pc { .. } => self.pc(tree),
        };
        qemu.args(["-smp", "1", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        // A group of its own: this program's own end is what ends it.
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        programs::end_with_us(&mut qemu, Signal::KILL);
        let mut running = Running(qemu.spawn().expect("QEMU starts"));
        let output = running.0.stdout.take().expect("its output is a pipe");
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        let answer = listen(&lines, running.0.id());
        drop(running);
        // Its pipe is closed.
        let _ = reader.join();
        answer
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn virt(&self) -> Command {
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args([
            "-machine",
            "virt",
            "-cpu",
            "cortex-a57",
            "-m",
            &format!("{}M", (HIGH_RAM[1] - RAM[0]) >> 20),
        ]);
        let parts = [
            (&*self.kernel, KERNEL),
            (&self.file("initramfs"), INITRD[0]),
            (&self.file("tree"), DTB),
            (&self.file("start"), START),
        ];
        for (path, address) in parts {
            let path = path.to_string_lossy().replace(',', ",,");
            qemu.args(["-device", &format!("loader,file={path},addr={address:#x},force-raw=on")]);
        }
        qemu.args(["-device", &format!("loader,addr={START:#x},cpu-num=0")]);
        qemu
    }

    /// QEMU passes the tree in setup_data.
    fn pc(&self, tree: &Tree) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "pc,accel=tcg", "-cpu", "max", "-m", "3072M", "-append", tree.bootargs()]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(self.file("initramfs"));
        qemu.arg("-dtb").arg(self.file("tree"));
        qemu
    }
}

/// The folder with the sources for guests.
fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

/// Makes the initramfs in `folder` with the program that `compiler` makes and `module`. Returns its size.
fn initramfs(folder: &Path, compiler: &str, module: &Path) -> Result<u64, Box<dyn Error>> {
    let init = folder.join("init");
    let mut command = Command::new(compiler);
    command.args(["-O2", "-static", "-s", "-Wall", "-Werror", "-o"]).arg(&init);
    if !command.arg(guest().join("pools-init.c")).status()?.success() {
        return Err(format!("{compiler} cannot compile the program of the guest").into());
    }
    let mut archive = cpio::Archive::default();
    archive.file("init", 0o755, fs::read(&init)?);
    archive.file("pools.ko", 0o644, fs::read(module)?);
    let archive = archive.pack();
    fs::write(folder.join("initramfs"), &archive)?;
    Ok(archive.len() as u64)
}

/// Where QEMU puts an initramfs of `size` bytes: below the limit that the kernel's header gives (hw/i386/x86.c, x86_load_linux). Linux
/// reserves whole pages.
fn pc_initrd(size: u64) -> [u64; 2] {
    const LAST: u64 = 0x7fff_ffff;
    let start = (LAST - size) & !(cma::PAGE_SIZE - 1);
    [start, (start + size).next_multiple_of(cma::PAGE_SIZE)]
}

/// The CPU time of a process (proc_pid_stat(5)). Zero if it has ended.
fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(1000 * ticks / rustix::param::clock_ticks_per_second())
}

/// Reads a boot to its end. `process` is QEMU.
fn listen(lines: &mpsc::Receiver<String>, process: u32) -> Answer {
    let start = Instant::now();
    let mut end = start + LIMIT;
    let mut text = Vec::new();
    let (mut length, mut has_crashed) = (0, false);
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let line = answer::plain(&line).to_owned();
                let is_last = line == "END" || line.contains("Kernel panic");
                length += line.len();
                if answer::is_crash(&line) {
                    has_crashed = true;
                    end = end.min(Instant::now() + CRASHED_LIMIT);
                }
                text.push(line);
                if is_last || length > LONGEST {
                    return Answer::parse(&text);
                }
            }
            Err(RecvTimeoutError::Timeout)
                if !has_crashed && start.elapsed() < BUSY_LIMIT && cpu_time(process) < LEAST_CPU =>
            {
                end = Instant::now() + CRASHED_LIMIT;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Answer::parse(&text),
        }
    }
}

/// The first instructions: the kernel's arguments, and a jump to it (Documentation/arch/arm64/booting.rst).
fn start() -> Vec<u8> {
    // ldr x0, DTB; mov x1, #0; mov x2, #0; mov x3, #0; ldr x4, KERNEL; br x4
    let code: [u32; 6] = [0x5800_00c0, 0xd280_0001, 0xd280_0002, 0xd280_0003, 0x5800_0084, 0xd61f_0080];
    let code = code.iter().flat_map(|word| word.to_le_bytes());
    code.chain(DTB.to_le_bytes()).chain(KERNEL.to_le_bytes()).collect()
}
