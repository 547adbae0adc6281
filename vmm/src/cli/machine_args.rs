//! The options that describe a machine, and the configuration that they make.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use cma::{size, spec::WindowSpec};
use devices::{
    REGISTRY,
    faults::Plan,
    platform::{Registration, options},
};

use super::error::CliError;
use crate::{
    arch,
    boot::{
        images::{self, Image, ImageError},
        tree_faults::fault_tables,
    },
    machine::config::{CmaMode, Config, DeviceRequest, registered},
};

/// The options that describe a machine.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    #[arg(long, value_name = "SPEC", help = cma_help())]
    pub(super) cma: Vec<WindowSpec>,
    /// How the default window is advertised to the guest: by the device tree, by cma= on the command line, or by both
    #[arg(long, value_name = "MODE", value_enum, default_value_t, hide_possible_values = true)]
    pub(super) cma_mode: CmaMode,
    /// Guest memory, with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    pub(super) memory: u64,
    /// Back guest memory with 2 MiB pages of the host's pool
    #[arg(long)]
    pub(super) hugepages: bool,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) cpus: u8,
    #[arg(long, value_name = "N", default_value_t = 1, help = numa_help())]
    pub(super) numa: u8,
    /// The guest image, of those that the builder of guest-images has built
    #[arg(long, value_name = "NAME", default_value = images::DEFAULT, conflicts_with = "kernel")]
    pub(super) image: String,
    #[arg(long, value_name = "FILE", help = kernel_help())]
    pub(super) kernel: Option<PathBuf>,
    /// Initramfs or initrd [default: the guest image's, if the kernel is]
    #[arg(long, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,
    /// The guest kernel's unit for CMA windows, its pageblock [default: the guest image's, or 4M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(super) pageblock: Option<u64>,
    /// Append to the kernel command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) cmdline: String,
    /// A device, may be repeated: NAME[,KEY=VALUE]...; `help` lists the devices, `NAME,help` the keys of one
    #[arg(long, value_name = "NAME", value_parser = parse_device)]
    pub(super) device: Vec<DeviceArg>,
    #[arg(long, value_name = "SPEC", value_parser = parse_camera, help = camera_help())]
    pub(super) camera: Vec<Option<DeviceRequest>>,
    /// Run one command in the guest instead of a shell, and end with its exit status
    #[arg(long, value_name = "CMD")]
    pub(super) exec: Option<String>,
    /// Seed of everything random: the guest's entropy device, the camera's noise, faults
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// What goes wrong on purpose: a plan, as devices/src/faults/FAULTS.md describes it
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
    #[command(flatten)]
    pub(super) arch: arch::Options,
}

/// The value of `--device`.
#[derive(Debug, Clone)]
pub(super) enum DeviceArg {
    /// A list of all devices is asked for.
    List,
    /// The keys of this device are asked for.
    Keys(&'static Registration),
    /// A device is asked for.
    Request(DeviceRequest),
}

/// The device of the short form `--camera SPEC`, and of a machine without either option.
const CAMERA: &str = "camera";

fn cma_help() -> String {
    format!(
        "A CMA window, may be repeated: a size (256M), or these fields with commas between\n{}",
        WindowSpec::HELP
    )
}

fn numa_help() -> String {
    format!("Number of NUMA nodes, among which memory and vCPUs are divided\n{}", arch::NUMA_HELP)
}

fn kernel_help() -> String {
    format!("{} instead of a guest image's", arch::KERNEL_FORMATS)
}

fn camera_help() -> String {
    let keys = registered(CAMERA).map_or_else(|error| error, |camera| options::help(camera.keys));
    format!(
        "A camera, may be repeated; short for --device camera,SPEC: none, or any of these fields with commas between\n{keys}"
    )
}

fn parse_camera(text: &str) -> Result<Option<DeviceRequest>, String> {
    if text == "none" { Ok(None) } else { DeviceRequest::new(CAMERA, text).map(Some) }
}

fn parse_device(text: &str) -> Result<DeviceArg, String> {
    match text.split_once(',') {
        None if text == "help" => Ok(DeviceArg::List),
        Some((name, "help")) => registered(name).map(DeviceArg::Keys),
        _ => text.parse().map(DeviceArg::Request),
    }
}

/// The help that a `--device` among these asks for.
pub(super) fn device_help(devices: &[DeviceArg]) -> Option<String> {
    devices.iter().find_map(|device| match device {
        DeviceArg::List => {
            let width = REGISTRY.iter().map(|device| device.name.len()).max().unwrap_or(0);
            let line = |device: &&Registration| format!("{:width$}  {}\n", device.name, device.summary);
            Some(
                REGISTRY.iter().map(line).collect::<String>()
                    + "\n--device NAME,help lists the keys of one.\n",
            )
        }
        DeviceArg::Keys(device) => {
            Some(format!("{}: {}\n{}\n", device.name, device.summary, options::help(device.keys)))
        }
        DeviceArg::Request(_) => None,
    })
}

/// The configuration that the options describe, and whether the image that they need was built.
pub(super) fn config(args: MachineArgs) -> Result<(Config, Result<(), ImageError>), CliError> {
    let faults = args.faults.as_deref().map(read_plan).transpose()?;
    let own = args.kernel.map(|kernel| Image { kernel, initrd: None, pageblock: arch::PAGEBLOCK });
    let (image, found) = match own.map_or_else(|| images::find(&args.image), Ok) {
        Ok(image) => (image, Ok(())),
        Err(error) => {
            (Image { kernel: PathBuf::new(), initrd: None, pageblock: arch::PAGEBLOCK }, Err(error))
        }
    };
    let others = args.device.into_iter().filter_map(|device| match device {
        DeviceArg::Request(request) => Some(request),
        DeviceArg::List | DeviceArg::Keys(_) => None,
    });
    let is_default = args.camera.is_empty();
    let mut devices: Vec<DeviceRequest> = args.camera.into_iter().flatten().chain(others).collect();
    // Without --camera, and without a camera among --device, the machine has one camera. `--camera none` prevents that.
    if is_default && !devices.iter().any(|device| device.registration.name == CAMERA) {
        devices.insert(0, DeviceRequest::new(CAMERA, "").map_err(CliError::Device)?);
    }
    let config = Config {
        memory: args.memory,
        hugepages: args.hugepages,
        cpus: args.cpus,
        numa: args.numa,
        arch: args.arch,
        kernel: image.kernel,
        initrd: args.initrd.or(image.initrd),
        cmdline: args.cmdline,
        pageblock: args.pageblock.unwrap_or(image.pageblock),
        windows: args.cma,
        cma_mode: args.cma_mode,
        devices,
        faults,
        timeline: false,
        exec: args.exec,
        out: None,
        seed: args.seed,
        console_log: None,
    };
    Ok((config, found))
}

/// Reads a plan of faults from a file.
fn read_plan(path: &Path) -> Result<Plan, CliError> {
    let text =
        fs::read_to_string(path).map_err(|source| CliError::ReadPlan { path: path.to_owned(), source })?;
    Plan::read(&text, &fault_tables()).map_err(|error| CliError::Plan { path: path.to_owned(), error })
}
