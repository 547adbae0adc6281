//! The emulator as a child process that cannot outlive us.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Command, Stdio},
};

use devices::{helper::Helper, virtio::net::Forward};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

use super::recipe::Recipe;

/// A running emulator; dropping it ends it. It also ends when the thread that started it ends, however that ends.
pub(super) struct Qemu(Helper);

impl Qemu {
    /// The number of its process.
    pub(super) fn pid(&self) -> Pid {
        self.0.pid()
    }
}

/// Number 0 is for a console, and its default when it comes first.
const TERMINAL: &[&str] = &["-device", "virtconsole,chardev=terminal,nr=0"];

/// The emulator's arguments, and the descriptors that it inherits.
pub(super) struct Builder {
    program: &'static str,
    /// The machine and its devices. A saved state is one of a machine with the same arguments.
    machine: Vec<OsString>,
    /// What the devices lead to on this host.
    backends: Vec<OsString>,
    inherited: Vec<OwnedFd>,
}

/// Where the machine begins.
pub(super) enum Begin<'a> {
    /// At the start of a kernel.
    Boot { kernel: &'a Path, initramfs: &'a Path, cmdline: &'a str },
    /// In the state that another emulator saved into this file.
    Saved(File),
}

impl Builder {
    /// The machine of `recipe`, but for these `properties`, with `memory` MiB and `cpus` CPUs, and nothing else on it.
    pub(super) fn new(recipe: &Recipe, properties: Option<&str>, memory: u32, cpus: u32) -> Self {
        let mut builder =
            Self { program: recipe.qemu, machine: Vec::new(), backends: Vec::new(), inherited: Vec::new() };
        builder.machine(recipe.machine);
        if let Some(properties) = properties {
            builder.machine(&["-machine", properties]);
        }
        builder.machine(&["-nodefaults", "-display", "none", "-no-reboot"]);
        builder.machine(&["-m", &format!("{memory}M"), "-smp", &cpus.to_string()]);
        builder.machine(&["-device", "virtio-serial-pci,max_ports=16"]);
        builder
    }

    fn machine(&mut self, arguments: &[&str]) {
        self.machine.extend(arguments.iter().map(OsString::from));
    }

    fn backend<S: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = S>) {
        self.backends.extend(arguments.into_iter().map(Into::into));
    }

    /// The emulator, and the arguments that a saved state depends on.
    pub(super) fn shape(&self) -> (&'static str, &[OsString]) {
        (self.program, &self.machine)
    }

    /// The host's folder `path` as the 9p share `tag`.
    pub(super) fn share(&mut self, tag: &str, path: &Path, writable: bool) {
        let readonly = if writable { "off" } else { "on" };
        let mut fsdev: OsString =
            format!("local,id={tag},security_model=none,multidevs=remap,readonly={readonly},path=").into();
        // In a list of options a comma is written twice.
        fsdev.push(double_commas(path.as_os_str()));
        self.backend([OsStr::new("-fsdev"), &fsdev]);
        self.machine(&["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
    }

    /// A network card. With `ports` it has the network of this user, and these ports of this host's 127.0.0.1 lead to the lab's; a port is
    /// one of TCP, or of UDP. Without, nothing is reached through it.
    pub(super) fn network(&mut self, ports: Option<&[Forward]>) {
        let restrict = if ports.is_some() { "off" } else { "on" };
        let forwards = ports.unwrap_or_default().iter().map(|Forward { is_udp, host: port, .. }| {
            let protocol = if *is_udp { "udp" } else { "tcp" };
            format!(",hostfwd={protocol}:127.0.0.1:{port}-127.0.0.1:{port}")
        });
        let forwards: String = forwards.collect();
        // Guests in the lab have addresses of 10.0.2.0/24.
        self.backend([
            "-netdev",
            &format!("user,id=network,net=10.0.3.0/24,ipv6=off,restrict={restrict}{forwards}"),
        ]);
        self.machine(&["-device", "virtio-net-pci,netdev=network,romfile="]);
    }

    /// The port `name`, which Linux finds by that name; returns our end.
    pub(super) fn port(&mut self, name: &str) -> io::Result<UnixStream> {
        self.machine(&["-device", &format!("virtserialport,chardev={name},name={name}")]);
        self.socket(name)
    }

    /// A port that leads nowhere.
    pub(super) fn idle_port(&mut self, name: &str) {
        self.machine(&["-device", &format!("virtserialport,chardev={name},name={name}")]);
        self.nothing(name);
    }

    /// A terminal, hvc0; returns our end.
    pub(super) fn terminal(&mut self) -> io::Result<UnixStream> {
        self.machine(TERMINAL);
        self.socket("terminal")
    }

    /// A terminal that leads nowhere.
    pub(super) fn idle_terminal(&mut self) {
        self.machine(TERMINAL);
        self.nothing("terminal");
    }

    fn nothing(&mut self, name: &str) {
        self.backend(["-chardev", &format!("null,id={name}")]);
    }

    fn socket(&mut self, name: &str) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.backend(["-chardev", &format!("socket,id={name},fd={}", theirs.as_raw_fd())]);
        self.inherited.push(theirs.into());
        Ok(ours)
    }

    /// The emulator's monitor; returns our end.
    pub(super) fn monitor(&mut self) -> io::Result<UnixStream> {
        let ours = self.socket("monitor")?;
        self.backend(["-mon", "chardev=monitor"]);
        Ok(ours)
    }

    /// The number that the emulator has for a file of ours.
    pub(super) fn file(&mut self, file: File) -> i32 {
        let number = file.as_raw_fd();
        self.inherited.push(file.into());
        number
    }

    /// Starts the emulator, on the CPUs in `cpus` if any are given. The stream returned has what the kernel says on its
    /// serial port and the emulator on its standard error, and ends with the emulator.
    pub(super) fn start(mut self, begin: Begin<'_>, cpus: Option<CpuSet>) -> io::Result<(Qemu, UnixStream)> {
        match begin {
            Begin::Boot { kernel, initramfs, cmdline } => {
                self.backend([OsStr::new("-kernel"), kernel.as_os_str()]);
                self.backend([OsStr::new("-initrd"), initramfs.as_os_str()]);
                self.backend(["-append", cmdline]);
            }
            Begin::Saved(state) => {
                let number = self.file(state);
                self.backend(["-incoming", &format!("fd:{number}")]);
            }
        }
        let log = self.socket("log")?;
        self.backend(["-serial", "chardev:log"]);
        let errors = self.inherited.last().expect("the log was just added").try_clone()?;
        let mut command = Command::new(self.program);
        command.args(self.machine).args(self.backends);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(errors));
        if let Some(cpus) = cpus {
            // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
            unsafe { command.pre_exec(move || Ok(sched_setaffinity(None, &cpus)?)) };
        }
        // The command goes there, and with it our copies of the emulator's ends.
        Helper::start(command, self.inherited).map(|helper| (Qemu(helper), log))
    }
}

fn double_commas(path: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut doubled = Vec::new();
    for &byte in path.as_bytes() {
        doubled.push(byte);
        if byte == b',' {
            doubled.push(byte);
        }
    }
    OsString::from_vec(doubled)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, thread};

    use super::*;

    /// Starts a program that never ends by itself; returns it with a stream that ends when it does.
    fn start() -> (Qemu, UnixStream) {
        let recipe =
            Recipe { qemu: "sh", machine: &["-c", "exec sleep 1000"], ..super::super::recipe::X86_64 };
        let boot = Begin::Boot { kernel: Path::new(""), initramfs: Path::new(""), cmdline: "" };
        Builder::new(&recipe, None, 256, 1).start(boot, None).unwrap()
    }

    fn wait_for_end(mut log: UnixStream) {
        assert_eq!(log.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn it_ends_with_its_owner() {
        let (qemu, log) = start();
        drop(qemu);
        wait_for_end(log);
    }

    #[test]
    fn it_ends_when_the_owner_panics() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let owner = thread::spawn(move || {
            let (_qemu, log) = start();
            sender.send(log).unwrap();
            panic!("this panic is part of the test");
        });
        assert!(owner.join().is_err());
        wait_for_end(receiver.recv().unwrap());
    }

    #[test]
    fn it_ends_with_the_thread_that_started_it() {
        let (qemu, log) = thread::spawn(start).join().unwrap();
        wait_for_end(log);
        drop(qemu);
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        assert_eq!(double_commas(OsStr::new("/a,b/,")), "/a,,b/,,");
    }
}
