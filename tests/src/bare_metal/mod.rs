//! Bare-metal guests from tests/bare-metal, without an operating system: they run on any KVM, in milliseconds.

mod parameters;

use std::{fs, path::Path, sync::PoisonError};

use vmm::{
    arch,
    boot::load::{load, load_with},
    guest::output::Output,
    machine::{Machine, Streams, config::Config, kvm::open_kvm, watch::Watch},
    observe::report::Report,
};

/// The guests that the build script compiled, by name.
static GUESTS: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// A bare-metal guest and its machine.
#[derive(Debug, Clone)]
pub struct BareMetal {
    /// The machine. [`build`](Self::build) makes its kernel.
    pub config: Config,
    name: &'static str,
    parameters: Vec<(&'static str, u64)>,
}

impl BareMetal {
    /// The guest tests/bare-metal/`name`.c on a machine with 64 MiB of memory and without a camera.
    pub fn new(name: &'static str) -> Self {
        let config = Config { memory: 64 << 20, seed: Some(1), ..Config::default() };
        Self { config, name, parameters: Vec::new() }
    }

    /// Sets the guest's parameter `name`. bare_metal/parameters.rs lists the parameters.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: u64) -> Self {
        self.parameters.push((name, value));
        self
    }

    /// Writes the guest to `folder`, with the addresses of its machine.
    ///
    /// # Panics
    /// If the guest or a parameter does not exist, or if the file cannot be written.
    #[must_use]
    pub fn build(mut self, folder: &Path) -> Self {
        let loaded = load_with(&self.config, None).expect("the machine can be laid out");
        let entry = |id: &str| loaded.devices.iter().find(|entry| entry.id == id);
        let address = |id| entry(id).map_or(0, |entry| entry.regions[0].start);
        let camera_line = entry("camera0").and_then(|entry| entry.lines.first().copied());
        let window = loaded.windows.first();
        let ram = arch::ram(self.config.memory);
        let parameters = [
            ("SERIAL", address("serial")),
            ("EXIT", address("exit")),
            ("CAMERA", address("camera0")),
            ("DISK", address("disk0")),
            ("CAMERA_IRQ", camera_line.unwrap_or(0).into()),
            ("RAM", ram[0].start),
            ("RAM_END", ram[ram.len() - 1].end),
            ("WINDOW", window.map_or(0, |window| window.base)),
            ("WINDOW_SIZE", window.map_or(0, |window| window.size)),
            #[cfg(target_arch = "aarch64")]
            ("GIC_DISTRIBUTOR", arch::GIC_DISTRIBUTOR),
        ];
        let (_, image) = GUESTS.iter().find(|(name, _)| *name == self.name).expect("there is such a guest");
        let mut image = image.to_vec();
        let mark = parameters::MAGIC.as_bytes();
        let words =
            image.windows(mark.len()).position(|bytes| bytes == mark).expect("every guest has the mark")
                + mark.len();
        for &(name, value) in parameters.iter().chain(&self.parameters) {
            let index = parameters::NAMES.iter().position(|known| *known == name).expect("it is a parameter");
            image[words + 8 * index..][..8].copy_from_slice(&value.to_le_bytes());
        }
        self.config.kernel = folder.join(self.name);
        fs::write(&self.config.kernel, image).expect("the folder is writable");
        self
    }

    /// Runs the guest to its end. Returns the report and the output.
    ///
    /// # Panics
    /// If the machine cannot be built.
    pub fn run(&self) -> (Report, String) {
        let kvm = open_kvm().expect("KVM opens");
        let (printed, stdout) = Output::buffer().unwrap();
        let streams = Streams {
            stdout,
            stderr: Output::new(std::io::sink()).unwrap(),
            console_log: None,
            signals: None,
            watch: Watch::default(),
            api: None,
            metrics: None,
            gdb: None,
            dump: None,
        };
        let loaded = load(&self.config).expect("the machine can be loaded");
        let report = Machine::start(&kvm, &self.config, loaded, streams)
            .and_then(Machine::run)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let printed = printed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (report, String::from_utf8_lossy(&printed).into_owned())
    }
}
