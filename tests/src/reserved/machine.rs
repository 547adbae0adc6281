//! A machine of plain QEMU that boots a tree on one of Debian's kernels and returns the kernel's answer.

use std::{
    fs, io,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use cma::check::{Arch, Kernel};
use guest_images::{Release, Stock, cpio, debian, stock};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    answer::Answer,
    tree::{DTB, INITRD, KERNEL, RAM, Tree},
};
use crate::{kernels, programs};

/// The Debian packages with QEMU and with the C library for the guest's program.
const PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-system-arm"];
/// Where a boot begins: instructions that jump to the kernel.
const START: u64 = 0x4010_0000;
/// Time limit of a boot: many times what one takes, as the host may be busy.
const LIMIT: Duration = Duration::from_secs(90);
/// The longest answer in bytes.
const LONGEST: usize = 1 << 20;

/// A kernel and what boots it.
#[derive(Debug)]
pub struct Machine {
    /// The kernel, as the check knows it.
    pub rules: Kernel,
    /// The release.
    pub release: Release,
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
    /// The machine with Debian's kernel of `release`. The kernel and the module are downloaded and built if necessary.
    ///
    /// # Errors
    /// If something is missing and cannot be installed, downloaded or built.
    pub fn debian(release: Release) -> Result<Self, Box<dyn std::error::Error>> {
        debian::install(&PACKAGES)?;
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
        let Stock { kernel, module, .. } = stock(release, &guest.join("pools"))?;
        let folder = tempfile::tempdir()?;
        let init = folder.path().join("init");
        let mut compiler = Command::new("aarch64-linux-gnu-gcc");
        compiler
            .args(["-O2", "-static", "-s", "-Wall", "-Werror", "-o"])
            .arg(&init)
            .arg(guest.join("pools-init.c"));
        if !compiler.status()?.success() {
            return Err("the program of the guest cannot be compiled".into());
        }
        let mut archive = cpio::Archive::default();
        archive.file("init", 0o755, fs::read(&init)?);
        archive.file("pools.ko", 0o644, fs::read(&module)?);
        let archive = archive.pack();
        let [from, to] = INITRD;
        if archive.len() as u64 > to - from {
            return Err(io::Error::other("the initramfs is larger than its place in the guest").into());
        }
        fs::write(folder.path().join("initramfs"), archive)?;
        fs::write(folder.path().join("start"), start())?;
        let rules = Kernel::debian(kernels::rules(release), Arch::Arm64, cma::PAGE_SIZE)?;
        Ok(Self { rules, release, kernel, folder })
    }

    /// Boots `tree`.
    ///
    /// # Panics
    /// If QEMU cannot be started.
    pub fn boot(&self, tree: &Tree) -> Answer {
        let file = |name: &str| self.folder.path().join(name);
        fs::write(file("tree"), tree.blob()).expect("there is room for a tree");
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.args(["-machine", "virt", "-cpu", "cortex-a57", "-smp", "1"]);
        qemu.args([
            "-m",
            &format!("{}M", (RAM[1] - RAM[0]) >> 20),
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]);
        qemu.args(["-serial", "stdio"]);
        let parts = [
            (&*self.kernel, KERNEL),
            (&file("initramfs"), INITRD[0]),
            (&file("tree"), DTB),
            (&file("start"), START),
        ];
        for (path, address) in parts {
            let path = path.to_string_lossy().replace(',', ",,");
            qemu.args(["-device", &format!("loader,file={path},addr={address:#x},force-raw=on")]);
        }
        qemu.args(["-device", &format!("loader,addr={START:#x},cpu-num=0")]);
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
        let answer = listen(&lines);
        drop(running);
        // Its pipe is closed.
        let _ = reader.join();
        answer
    }
}

/// Reads a boot to its end.
fn listen(lines: &mpsc::Receiver<String>) -> Answer {
    let end = Instant::now() + LIMIT;
    let mut text = Vec::new();
    let mut length = 0;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let is_last = line == "END" || line.contains("Kernel panic");
                length += line.len();
                text.push(line);
                if is_last || length > LONGEST {
                    return Answer::parse(&text);
                }
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
