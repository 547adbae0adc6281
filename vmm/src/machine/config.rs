//! The configuration of a machine: plain data, from the command line or from a test.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use cma::spec::WindowSpec;
use devices::{
    REGISTRY,
    faults::Plan,
    platform::{DeviceSpec, Registration, options},
};

use crate::arch;

/// How the default window is advertised to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CmaMode {
    /// By a node of the device tree, like the other windows.
    #[default]
    Dt,
    /// By `cma=size@base` on the kernel command line, and no node.
    Cmdline,
    /// By both: the kernel then lets the command line overrule the node (kernel/dma/contiguous.c, rmem_cma_setup).
    Both,
}

/// A device that `--device NAME[,KEY=VALUE]...` adds.
#[derive(Debug, Clone)]
pub struct DeviceRequest {
    /// The device's line in the registry.
    pub registration: &'static Registration,
    /// Its specification.
    pub spec: Arc<dyn DeviceSpec>,
}

impl DeviceRequest {
    /// The device `name` with these options.
    ///
    /// # Errors
    /// If there is no such device, or it does not have such an option: a sentence that names the nearest right one.
    pub fn new(name: &str, options: &str) -> Result<Self, String> {
        let registration = registered(name)?;
        Ok(Self { registration, spec: (registration.parse)(options)? })
    }
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, options) = text.split_once(',').unwrap_or((text, ""));
        Self::new(name, options)
    }
}

/// The line of the device `name` in the registry.
///
/// # Errors
/// If it has none: a sentence that names the devices, and the nearest.
pub fn registered(name: &str) -> Result<&'static Registration, String> {
    let names = || REGISTRY.iter().map(|registration| registration.name);
    let found = REGISTRY.iter().find(|registration| registration.name == name);
    found.copied().ok_or_else(|| {
        let nearest = options::nearest(name, names()).map(|nearest| format!("; did you mean {nearest}?"));
        let all = names().collect::<Vec<_>>().join(", ");
        format!("there is no device '{name}'; the devices are {all}{}", nearest.unwrap_or_default())
    })
}

/// A file or folder of the host that goes into the guest's initramfs: the value of `--add`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path in the guest without the first slash. A file goes into a folder if that is empty or ends with a slash.
    pub guest: String,
}

impl FromStr for Addition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, guest) = text.rsplit_once(':').unwrap_or((text, ""));
        let Some(path) = guest.strip_prefix('/').filter(|_| !host.is_empty()) else {
            return Err(format!("'{text}' names no absolute path in the guest; write it as HOST:/PATH"));
        };
        let mut parts: Vec<&str> = path.split('/').filter(|part| !["", "."].contains(part)).collect();
        if parts.contains(&"..") {
            return Err(format!("'{text}' has '..' in the guest's path; write the path without"));
        }
        if !parts.is_empty() && path.ends_with('/') {
            parts.push("");
        }
        Ok(Self { host: host.into(), guest: parts.join("/") })
    }
}

/// The configuration of a machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// Guest memory in bytes.
    pub memory: u64,
    /// Back guest memory with 2 MiB pages of the host's pool.
    pub hugepages: bool,
    /// Number of vCPUs.
    pub cpus: u8,
    /// Number of NUMA nodes, among which memory and vCPUs are divided.
    pub numa: u8,
    /// The options that only this architecture has.
    pub arch: arch::Options,
    /// A file of one of [`arch::KERNEL_FORMATS`].
    pub kernel: PathBuf,
    /// The name of the guest image that the kernel belongs to.
    pub image: Option<String>,
    /// initramfs or initrd.
    pub initrd: Option<PathBuf>,
    /// Files and folders of the host that are added to the initramfs.
    pub added: Vec<Addition>,
    /// Kernel modules that are added to the initramfs, and that its init loads in this order.
    pub modules: Vec<PathBuf>,
    /// Appended to the kernel command line.
    pub cmdline: String,
    /// The guest kernel's unit for CMA windows in bytes, CMA_MIN_ALIGNMENT_BYTES (include/linux/cma.h).
    pub pageblock: u64,
    /// CMA windows.
    pub windows: Vec<WindowSpec>,
    /// How the default window is advertised to the guest.
    pub cma_mode: CmaMode,
    /// The devices beside those that every machine has.
    pub devices: Vec<DeviceRequest>,
    /// Fault injection.
    pub faults: Option<Plan>,
    /// Events are recorded with their times, for a timeline.
    pub timeline: bool,
    /// A command to run in the guest instead of a shell.
    pub exec: Option<String>,
    /// The command reads the standard input of this process; else it reads the end of a file.
    pub stdin: bool,
    /// The machine is ended after this time.
    pub time_limit: Option<Duration>,
    /// The guest has this time for its boot mark. Then a machine with a command is ended, and one without logs the likely reason
    /// if the guest has printed nothing.
    pub boot_limit: Option<Duration>,
    /// The folder for the files that the guest sends.
    pub out: Option<PathBuf>,
    /// Seed of everything random: the entropy device, noise, faults. None: the host's entropy.
    pub seed: Option<u64>,
    /// A copy of everything the guest prints to its serial console.
    pub console_log: Option<PathBuf>,
}

impl Default for Config {
    /// A machine with 1 GiB of memory and one CPU, and nothing to boot yet.
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            hugepages: false,
            cpus: 1,
            numa: 1,
            arch: arch::Options::default(),
            kernel: PathBuf::new(),
            image: None,
            initrd: None,
            added: Vec::new(),
            modules: Vec::new(),
            cmdline: String::new(),
            pageblock: arch::PAGEBLOCK,
            windows: Vec::new(),
            cma_mode: CmaMode::default(),
            devices: Vec::new(),
            faults: None,
            timeline: false,
            exec: None,
            stdin: false,
            time_limit: None,
            boot_limit: None,
            out: None,
            seed: None,
            console_log: None,
        }
    }
}

/// Smallest guest memory in bytes: room for a kernel, its page tables and the initramfs.
pub const MEMORY_MIN: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_name_an_absolute_path_in_the_guest() {
        let read = |text: &str| text.parse::<Addition>().map(|added| (added.host, added.guest));
        for (text, host, guest) in [
            ("a:/b", "a", "b"),
            ("dir/a:/usr//./bin/a", "dir/a", "usr/bin/a"),
            ("C:x:/etc/", "C:x", "etc/"),
            ("a:/", "a", ""),
        ] {
            assert_eq!(read(text), Ok((host.into(), guest.to_owned())));
        }
        for text in ["a", "a:b", "a:", ":/b", "a:b/c", ""] {
            assert!(read(text).unwrap_err().contains("write it as HOST:/PATH"), "{text}");
        }
        assert_eq!(
            read("a:/b/../c").unwrap_err(),
            "'a:/b/../c' has '..' in the guest's path; write the path without"
        );
    }
}
