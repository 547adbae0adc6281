//! Tiny guests without an operating system, compiled from tests/bare-metal: they run on any KVM, in milliseconds.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    process::Command,
    sync::PoisonError,
};

use vmm::{
    arch,
    config::Config,
    doctor::open_kvm,
    load::{load, load_with},
    machine::{Machine, Streams},
    output::Output,
    platform::Kind,
    report::Report,
};

/// A bare-metal guest and the machine that it runs on.
#[derive(Debug, Clone)]
pub struct BareMetal {
    /// The machine; its kernel is made by [`build`](Self::build).
    pub config: Config,
    name: &'static str,
    definitions: Vec<String>,
}

impl BareMetal {
    /// The guest tests/bare-metal/`name`.c on a machine with 64 MiB of memory and no camera.
    pub fn new(name: &'static str) -> Self {
        let config = Config {
            memory: 64 << 20,
            hugepages: false,
            cpus: 1,
            arch: arch::Options::default(),
            kernel: PathBuf::new(),
            initrd: None,
            cmdline: String::new(),
            pageblock: arch::PAGEBLOCK,
            windows: Vec::new(),
            camera: None,
            exec: None,
            out: None,
            seed: Some(1),
            console_log: None,
        };
        Self { config, name, definitions: Vec::new() }
    }

    /// Defines the macro `name` in the guest's source.
    #[must_use]
    pub fn define(mut self, name: &str, value: impl Display) -> Self {
        self.definitions.push(format!("-D{name}={value}"));
        self
    }

    /// Compiles the guest into `folder`, for the addresses of its machine.
    ///
    /// # Panics
    /// If the C compiler, which linking Rust needs as well, fails.
    #[must_use]
    pub fn build(mut self, folder: &Path) -> Self {
        let loaded = load_with(&self.config, None).expect("the machine can be laid out");
        let entry = |wanted: fn(&Kind) -> bool| loaded.devices.iter().find(|entry| wanted(&entry.kind));
        let address = |wanted| entry(wanted).map_or(0, |entry| entry.range.start);
        let camera = entry(|kind| matches!(kind, Kind::Camera { .. }));
        let window = loaded.windows.first();
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/bare-metal");
        let kernel = folder.join(self.name);
        let status = Command::new("cc")
            .args(["-m64", "-O2", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie"])
            .args(["-mgeneral-regs-only", "-mno-red-zone", "-fno-stack-protector", "-fcf-protection=none"])
            .args(["-Wall", "-Werror", "-Wl,-Ttext-segment=0x1000000,--build-id=none,-z,noexecstack"])
            .arg(format!("-I{}", concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-images/driver")))
            .arg(format!("-DSERIAL={:#x}UL", address(|kind| matches!(kind, Kind::Serial))))
            .arg(format!("-DEXIT={:#x}UL", address(|kind| matches!(kind, Kind::Exit))))
            .arg(format!("-DCAMERA={:#x}UL", camera.map_or(0, |entry| entry.range.start)))
            .arg(format!("-DCAMERA_IRQ={}", camera.and_then(|entry| entry.irq).unwrap_or(0)))
            .arg(format!("-DWINDOW={:#x}UL", window.map_or(0, |window| window.base)))
            .arg(format!("-DWINDOW_SIZE={:#x}UL", window.map_or(0, |window| window.size)))
            .args(&self.definitions)
            .args(["-o".as_ref(), kernel.as_os_str()])
            .arg(format!("{sources}/{}.c", self.name))
            .status()
            .expect("cc runs");
        assert!(status.success(), "cc could not compile {}", self.name);
        self.config.kernel = kernel;
        self
    }

    /// Runs the guest to its end: the report, and what it printed.
    ///
    /// # Panics
    /// If the machine cannot be had.
    pub fn run(&self) -> (Report, String) {
        let kvm = open_kvm().expect("KVM opens");
        let (printed, stdout) = Output::buffer();
        let streams =
            Streams { stdout, stderr: Output::new(std::io::sink()), console_log: None, signals: None };
        let loaded = load(&self.config).expect("the machine can be loaded");
        let report = Machine::start(&kvm, &self.config, loaded, streams)
            .and_then(Machine::run)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let printed = printed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (report, String::from_utf8_lossy(&printed).into_owned())
    }
}
