//! The options that describe a machine, and the configuration that they make.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use cma::{
    size,
    spec::{SpecError, WindowSpec},
};
use devices::{
    REGISTRY,
    faults::Plan,
    platform::{Registration, options},
};

use super::{
    environment::{Variable, with_variables},
    error::CliError,
};
use crate::{
    arch,
    boot::{
        error::likely_size,
        images::{self, Image, ImageError},
        kernel_options,
        numa::NODES_MAX,
        tree_faults::fault_tables,
    },
    machine::config::{Addition, CmaMode, Config, DeviceRequest, MEMORY_MIN, registered},
};

/// The options that describe a machine and its device tree.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    #[arg(long, value_name = "SPEC", value_parser = parse_window, help = "A CMA window, as in 256M; may be repeated",
        long_help = cma_help())]
    pub(super) cma: Vec<WindowSpec>,
    /// How the guest learns of the default window: dt, cmdline or both
    ///
    /// By the device tree (dt), by cma= on the kernel command line (cmdline), or by both.
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub(super) cma_mode: CmaMode,
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse, help = memory_help())]
    pub(super) memory: u64,
    #[arg(long, value_name = "N", default_value_t = 1, help = cpus_help())]
    pub(super) cpus: u32,
    #[arg(long, value_name = "N", default_value_t = 1, help = numa_help(), long_help = long_numa_help(),
        hide_short_help = true)]
    pub(super) numa: u32,
    /// Guest image; `minivmm image build NAME` builds it
    #[arg(long, value_name = "NAME", default_value = images::DEFAULT, conflicts_with = "kernel")]
    pub(super) image: String,
    #[arg(long, value_name = "FILE", help = kernel_help(), long_help = long_kernel_help())]
    pub(super) kernel: Option<PathBuf>,
    /// Initramfs or initrd [default: the guest image's, with the image's kernel]
    #[arg(long, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,
    /// Pageblock of the guest's kernel, its unit for CMA windows [default: the guest image's, or 4M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse, hide_short_help = true)]
    pub(super) pageblock: Option<u64>,
    /// Append to the kernel command line
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) cmdline: String,
    /// A device: NAME[,KEY=VALUE]...; may be repeated; `help` lists the devices
    ///
    /// `--device help` lists the devices, and `--device NAME,help` the keys of one.
    #[arg(long, value_name = "NAME", value_parser = parse_device)]
    pub(super) device: Vec<DeviceArg>,
    #[arg(long, value_name = "SPEC", value_parser = parse_camera, long_help = camera_help(),
        help = "A camera, as of --device camera; `none` for none; may be repeated")]
    pub(super) camera: Vec<Option<DeviceRequest>>,
    #[arg(long, value_name = "FILE", value_parser = parse_disk, long_help = disk_help(),
        help = "A disk: FILE[,ro][,format=raw|qcow2][,queues=N]; may be repeated")]
    pub(super) disk: Vec<DeviceRequest>,
    #[arg(long, value_name = "DIR", value_parser = parse_share, long_help = share_help(),
        help = "A folder for the guest: DIR[:TAG][,ro], at /mnt/TAG; may be repeated")]
    pub(super) share: Vec<DeviceRequest>,
    /// Run commands in this userland: `/`, a root folder, or an image of a disk
    ///
    /// A tree of debootstrap is such a folder. An image has a file system that the kernel of the guest knows, as a whole or in a
    /// partition; `,format=qcow2` can follow. The guest sees the files as they are on the host, and its changes stay in its memory. Our
    /// init starts as without the option; the command of --exec and the shell have the userland as root, with /dev, /proc, /sys and the
    /// folders of --share. The init of the userland does not run. It is short for --device share,dir=DIR,tag=root,root=yes, and for
    /// --device disk,file=IMAGE,root=yes.
    #[arg(long, value_name = "DIR|IMAGE", value_parser = parse_root)]
    pub(super) root: Option<DeviceRequest>,
    #[arg(long, value_name = "WHERE", value_parser = parse_net, long_help = net_help(),
        help = "A network: user[,forward=PORT:PORT], tap=NAME or none; may be repeated")]
    pub(super) net: Vec<Option<DeviceRequest>>,
    #[arg(long, value_name = "SOCKET", value_parser = parse_vsock, long_help = vsock_help(),
        help = "A Unix socket for streams to and from programs of the guest")]
    pub(super) vsock: Option<DeviceRequest>,
    /// Seed of everything random: the entropy device, the camera's noise, fault injection
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(super) seed: Option<u64>,
    /// Fault injection: a plan, as devices/src/faults/FAULTS.md describes it
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
    #[command(flatten)]
    pub(super) arch: arch::Options,
}

/// The options of a guest that say nothing about its reserved memory.
#[derive(Debug, Default, Args)]
pub(super) struct GuestArgs {
    /// Run one command in the guest, and end with its exit status
    ///
    /// Without the option, the guest has a shell. The command reads minivmm's standard input, unless that is a terminal. Its output and errors are minivmm's.
    #[arg(long, value_name = "CMD")]
    pub(super) exec: Option<String>,
    /// Set a variable for the command of --exec; may be repeated
    ///
    /// NAME alone takes the value that the variable has here.
    #[arg(long, value_name = "NAME[=VALUE]", requires = "exec", hide_short_help = true)]
    pub(super) env: Vec<Variable>,
    /// Put a file or folder of this host into the guest; may be repeated
    ///
    /// GUEST is an absolute path. A file goes into the folder GUEST if that ends with a slash. Permissions, and the links in a
    /// folder, are kept.
    #[arg(long, value_name = "HOST:GUEST")]
    pub(super) add: Vec<Addition>,
    /// Load this kernel module before the command starts; may be repeated
    ///
    /// The init of our guest images loads the modules in the order of the options, and before the camera's driver. If one does not
    /// load, a guest of --exec ends with status 123. `minivmm image module` builds a module for the kernel of an image.
    #[arg(long, value_name = "FILE.ko")]
    pub(super) module: Vec<PathBuf>,
    /// Back guest memory with 2 MiB pages of the host's pool
    #[arg(long, hide_short_help = true)]
    pub(super) hugepages: bool,
}

/// The value of `--device`.
#[derive(Debug, Clone)]
pub(super) enum DeviceArg {
    /// `help`: list all devices.
    List,
    /// `NAME,help`: list the keys of this device.
    Keys(&'static Registration),
    /// A device of the machine.
    Request(DeviceRequest),
}

/// The device of the short form `--camera SPEC`, and of a machine without either option.
const CAMERA: &str = "camera";
/// The device of the short form `--disk FILE`.
const DISK: &str = "disk";
/// The device of the short form `--share DIR`.
const SHARE: &str = "share";
/// The device of the short form `--net WHERE`.
const NET: &str = "net";
/// The device of the short form `--vsock SOCKET`.
const VSOCK: &str = "vsock";

fn cma_help() -> String {
    format!(
        "A CMA window: a size, as in 256M, or these fields with commas between them; may be repeated\n{}",
        WindowSpec::HELP
    )
}

fn memory_help() -> String {
    format!("Guest memory, {} to {}", size::format(MEMORY_MIN), size::format(arch::MEMORY_MAX))
}

fn cpus_help() -> String {
    format!("Number of vCPUs, 1 to {}", arch::Options::default().cpus_max())
}

fn numa_help() -> String {
    format!("Number of NUMA nodes, 1 to {NODES_MAX}")
}

fn long_numa_help() -> String {
    format!("{}; memory and vCPUs are divided among them\n{}", numa_help(), arch::NUMA_HELP)
}

fn kernel_help() -> String {
    format!(
        "Kernel: {}, or the folder where Linux was built, instead of a guest image's",
        arch::KERNEL_FORMATS
    )
}

fn long_kernel_help() -> String {
    format!("{}\n{}", kernel_help(), kernel_options::help())
}

fn camera_help() -> String {
    let keys = registered(CAMERA).map_or_else(|error| error, |camera| options::help(camera.keys));
    format!(
        "A camera, short for --device camera,SPEC: `none`, or these fields with commas between them; may be repeated\n{keys}"
    )
}

fn disk_help() -> String {
    let keys = registered(DISK).map_or_else(|error| error, |disk| options::help(disk.keys));
    format!(
        "A disk, short for --device disk,file=FILE,...: the file, and these fields with commas between them; may be repeated\n\
         The guest's first disk is /dev/vda. Everything that a guest wrote and flushed is in the file, also after a crash of minivmm.\n\
         A file with a comma in its name cannot be given.\n{keys}"
    )
}

fn share_help() -> String {
    let keys = registered(SHARE).map_or_else(|error| error, |share| options::help(share.keys));
    format!(
        "A folder of the host, short for --device share,dir=DIR,tag=TAG,...: DIR or DIR:TAG, and these fields with commas between \
         them; may be repeated\n\
         init mounts it at /mnt/TAG; TAG is the folder's name by default. If it is the working directory, as in --share ., the command \
         and the shell start in it. Files have the rights that they have on the host. minivmm starts virtiofsd for it, and ends it.\n\
         A folder with a comma in its name cannot be given.\n{keys}"
    )
}

fn net_help() -> String {
    let keys = registered(NET).map_or_else(|error| error, |net| options::help(net.keys));
    format!(
        "A network, short for --device net,WHERE: `none`, or these fields with commas between them; may be repeated\n\
         The init of our guest images asks for an address by DHCP.\n{keys}"
    )
}

fn vsock_help() -> String {
    let keys = registered(VSOCK).map_or_else(|error| error, |vsock| options::help(vsock.keys));
    format!(
        "A Unix socket for streams to programs of the guest, short for --device vsock,socket=SOCKET,...\n\
         A program of this host connects to it and sends `CONNECT PORT`, a line; it reads `OK PORT` when the guest's program has accepted.\n\
         {keys}"
    )
}

fn parse_window(text: &str) -> Result<WindowSpec, String> {
    let window: WindowSpec = text.parse().map_err(|error: SpecError| error.to_string())?;
    match likely_size(window.size) {
        Some(likely) => {
            Err(format!("a CMA window of {} bytes is too small; did you mean {likely}?", window.size))
        }
        None => Ok(window),
    }
}

fn parse_camera(text: &str) -> Result<Option<DeviceRequest>, String> {
    if text == "none" { Ok(None) } else { DeviceRequest::new(CAMERA, text).map(Some) }
}

fn parse_disk(text: &str) -> Result<DeviceRequest, String> {
    DeviceRequest::new(DISK, &format!("file={text}"))
}

fn parse_share(text: &str) -> Result<DeviceRequest, String> {
    let (place, more) = text.split_once(',').unwrap_or((text, ""));
    let place =
        place.rsplit_once(':').map_or_else(|| place.to_owned(), |(dir, tag)| format!("{dir},tag={tag}"));
    DeviceRequest::new(SHARE, &format!("dir={place},{more}"))
}

fn parse_root(text: &str) -> Result<DeviceRequest, String> {
    let (place, _) = text.split_once(',').unwrap_or((text, ""));
    // What does not exist is refused as a folder.
    if Path::new(place).metadata().is_ok_and(|file| !file.is_dir()) {
        return DeviceRequest::new(DISK, &format!("file={text},root=yes"));
    }
    DeviceRequest::new(SHARE, &format!("dir={text},tag=root,root=yes"))
}

fn parse_net(text: &str) -> Result<Option<DeviceRequest>, String> {
    if text == "none" { Ok(None) } else { DeviceRequest::new(NET, text).map(Some) }
}

fn parse_vsock(text: &str) -> Result<DeviceRequest, String> {
    DeviceRequest::new(VSOCK, &format!("socket={text}"))
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
pub(super) fn config(
    args: MachineArgs,
    guest: GuestArgs,
) -> Result<(Config, Result<(), ImageError>), CliError> {
    let faults = args.faults.as_deref().map(read_plan).transpose()?;
    let image_name = args.kernel.is_none().then(|| args.image.clone());
    let own = args.kernel.map(|kernel| Image {
        kernel: kernel_of(kernel),
        initrd: None,
        pageblock: arch::PAGEBLOCK,
    });
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
    let mut devices: Vec<DeviceRequest> = args
        .camera
        .into_iter()
        .flatten()
        .chain(others)
        .chain(args.disk)
        .chain(args.share)
        .chain(args.root)
        .chain(args.net.into_iter().flatten())
        .chain(args.vsock)
        .collect();
    // Without --camera, and without a camera among --device, the machine has one camera. `--camera none` prevents that.
    if is_default && !devices.iter().any(|device| device.registration.name == CAMERA) {
        devices.insert(0, DeviceRequest::new(CAMERA, "").map_err(CliError::Device)?);
    }
    let config = Config {
        memory: args.memory,
        hugepages: guest.hugepages,
        // Their limits, which are smaller, are checked with those of the other options.
        cpus: u8::try_from(args.cpus).unwrap_or(u8::MAX),
        numa: u8::try_from(args.numa).unwrap_or(u8::MAX),
        arch: args.arch,
        kernel: image.kernel,
        image: image_name,
        initrd: args.initrd.or(image.initrd),
        added: guest.add,
        modules: guest.module,
        cmdline: args.cmdline,
        pageblock: args.pageblock.unwrap_or(image.pageblock),
        windows: args.cma,
        cma_mode: args.cma_mode,
        devices,
        faults,
        exec: guest.exec.map(|command| with_variables(&guest.env, command)),
        seed: args.seed,
        ..Config::default()
    };
    Ok((config, found))
}

/// The kernel that was built in a folder, or the file itself.
fn kernel_of(path: PathBuf) -> PathBuf {
    if !path.is_dir() {
        return path;
    }
    let mut built = arch::KERNELS_OF_TREE.iter().map(|file| path.join(file));
    // If none of the files exists, the error names the first.
    built.clone().find(|file| file.is_file()).or_else(|| built.next()).unwrap_or(path)
}

/// Reads a plan of faults from a file.
fn read_plan(path: &Path) -> Result<Plan, CliError> {
    let text =
        fs::read_to_string(path).map_err(|source| CliError::ReadPlan { path: path.to_owned(), source })?;
    Plan::read(&text, &fault_tables()).map_err(|error| CliError::Plan { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_the_kernel_that_was_built_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let [.., last] = arch::KERNELS_OF_TREE else { panic!("there is one") };
        let place = |file: &str| folder.path().join(file);
        assert_eq!(kernel_of(place("no such file")), place("no such file"));
        assert_eq!(kernel_of(folder.path().to_owned()), place(arch::KERNELS_OF_TREE[0]), "it is missed");
        fs::create_dir_all(place(last).parent().unwrap()).unwrap();
        fs::write(place(last), "").unwrap();
        assert_eq!(kernel_of(folder.path().to_owned()), place(last));
        assert_eq!(kernel_of(place(last)), place(last));
    }
}
