//! `minivmm image`: builds, lists and removes guest images, and builds kernel modules for them.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use guest_images::{Arch, Error, Kind, Release, fragment, module, userland};

use crate::observe::exit_status::Reason;

/// The arguments of `minivmm image`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

/// Examples, for the end of the help.
const HELP: &str = "\
Examples:
  minivmm image build                              the default image, for this machine's architecture
  minivmm image build 7.2                          an image with Linux 7.2; `minivmm --image 7.2` boots it
  minivmm image build debian --arch aarch64        an image for another architecture
  minivmm image module my-driver                   a module of your own; `minivmm --module my-driver/x.ko` loads it
  minivmm image config --for ~/linux --merge       what a kernel of your own needs, added to its .config
  minivmm --root \"$(minivmm image userland)\"      Debian with ffmpeg, GStreamer, libcamera and OpenCV in the guest

Images are in ~/.cache/minivmm/guest and userlands in ~/.cache/minivmm/userlands, or in guest and userlands in the folder that
MINIVMM_CACHE names.
Exit status: 0; 1 for a failure; 2 for a bad request.";

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Build an image, if something changed, and print its folder
    ///
    /// The progress is on stderr. Missing Debian packages are installed, as root or with passwordless sudo.
    Build {
        #[command(flatten)]
        choice: Choice,
        /// Take the newest kernel version in Debian
        ///
        /// Without this option, each build uses the version of the first build. The files of the older version stay.
        #[arg(long)]
        update: bool,
    },
    /// List the images that were built: name, architecture, size and folder
    List,
    /// Remove an image
    ///
    /// Its kernel and its driver stay for the next build, until `minivmm image clean` removes them.
    Remove(Choice),
    /// Print the folder of an image
    Path(Choice),
    /// Build a kernel module of your own for the kernel of an image, and print its path
    Module {
        /// The folder with the module's Kbuild file and sources; the module is built there
        folder: PathBuf,
        #[arg(long, value_name = "NAME", default_value = "default", value_parser = kind, help = NAMES)]
        image: Kind,
        #[arg(long, value_parser = arch, help = ARCH)]
        arch: Option<&'static Arch>,
    },
    /// Print the options of our guest kernels, for a kernel of your own
    ///
    /// `minivmm --kernel FOLDER` boots the kernel that was built there, and `minivmm doctor --kernel FOLDER` says which options it lacks.
    Config {
        /// The folder of the kernel: its source, or its objects (make O=FOLDER); its release decides [default: Linux 6.1]
        #[arg(long = "for", value_name = "FOLDER")]
        folder: Option<PathBuf>,
        /// Add the options to the .config in the folder, and print those that the kernel does not accept
        #[arg(long, requires = "folder")]
        merge: bool,
        #[arg(long, value_parser = arch, help = ARCH)]
        arch: Option<&'static Arch>,
    },
    /// Build an image of a disk with Debian and programs for cameras, if it was not built, and print its path
    ///
    /// It has v4l-utils, ffmpeg, GStreamer, libcamera and OpenCV for Python. `minivmm --root PATH` runs commands in it. Building needs root or
    /// passwordless sudo.
    Userland {
        /// The suite of Debian
        #[arg(long, value_name = "NAME", default_value = userland::SUITE, value_parser = userland::SUITES)]
        suite: String,
        #[arg(long, value_parser = arch, help = ARCH)]
        arch: Option<&'static Arch>,
    },
    /// Remove everything from the cache that only makes the next build faster: sources, kernels and drivers
    Clean,
}

/// An image.
#[derive(Debug, Args)]
struct Choice {
    #[arg(value_name = "NAME", default_value = "default", value_parser = kind, help = NAMES)]
    image: Kind,
    #[arg(long, value_parser = arch, help = ARCH)]
    arch: Option<&'static Arch>,
}

const NAMES: &str = "The image: default; 6.12 or 7.2, our kernel of that release; debug, our kernel with KASAN and lockdep; on aarch64 also \
                     64k, our kernel with 64 KiB pages, and debian, Debian's own kernel";
const ARCH: &str = "The guest's architecture: x86_64 or aarch64 [default: this machine's]";

impl Choice {
    fn arch(&self) -> &'static Arch {
        self.arch.unwrap_or_else(Arch::host)
    }
}

fn arch(name: &str) -> Result<&'static Arch, String> {
    Arch::named(name).ok_or_else(|| one_of(Arch::ALL.iter().map(|arch| arch.name.to_owned())))
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| one_of(Kind::all().map(Kind::name)))
}

fn one_of(names: impl Iterator<Item = String>) -> String {
    format!("it must be one of {}", names.collect::<Vec<_>>().join(", "))
}

/// Runs the command. Returns the text that it prints.
///
/// # Errors
/// If an image or a module cannot be built, found or removed.
pub fn main(args: &ImageArgs) -> Result<String, Error> {
    let line = |path: &Path| format!("{}\n", path.display());
    match &args.command {
        ImageCommand::Build { choice, update } => {
            let build = if *update { guest_images::update } else { guest_images::build };
            build(choice.arch(), choice.image).map(|image| line(&image.dir))
        }
        ImageCommand::List => list(),
        ImageCommand::Remove(choice) => {
            guest_images::remove(choice.arch(), choice.image).map(|()| String::new())
        }
        ImageCommand::Path(choice) => {
            let (arch, image) = (choice.arch(), choice.image);
            let built = guest_images::current(arch, image);
            built
                .map(|built| line(&built.dir))
                .ok_or_else(|| Error::NotBuilt { image: image.name(), arch: arch.name })
        }
        ImageCommand::Module { folder, image, arch } => {
            let arch = arch.unwrap_or_else(Arch::host);
            let modules = module::build(arch, *image, folder)?;
            Ok(modules.iter().map(|module| line(module)).collect())
        }
        ImageCommand::Config { folder, merge, arch } => {
            let arch = arch.unwrap_or_else(Arch::host);
            match folder {
                Some(folder) if *merge => {
                    Ok(fragment::merge(arch, folder)?.into_iter().map(|line| line + "\n").collect())
                }
                Some(folder) => fragment::text(arch, fragment::release_of(arch, folder)?),
                None => fragment::text(arch, Release::ALL[0]),
            }
        }
        ImageCommand::Userland { suite, arch } => {
            userland::build(arch.unwrap_or_else(Arch::host), suite).map(|image| line(&image))
        }
        ImageCommand::Clean => guest_images::clean().map(|()| String::new()),
    }
}

/// A line for each image, under a line with the names of the columns.
fn list() -> Result<String, Error> {
    let mut text = format!("{:<10} {:<8} {:>8}  FOLDER\n", "NAME", "ARCH", "SIZE");
    for (arch, kind, image) in guest_images::list()? {
        let mebibytes = format!("{} MiB", image.bytes().div_ceil(1 << 20));
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "{:<10} {:<8} {mebibytes:>8}  {}", kind.name(), arch.name, image.dir.display());
    }
    Ok(text)
}

/// The reason for minivmm's exit status.
pub fn reason(error: &Error) -> Reason {
    match error {
        Error::NoSuchImage { .. }
        | Error::NotBuilt { .. }
        | Error::CachePath { .. }
        | Error::CacheOfOthers { .. }
        | Error::NoHome
        | Error::NotRoot
        | Error::NoConfig { .. }
        | Error::ModulePath { .. }
        | Error::NoModule { .. } => Reason::BadRequest,
        _ => Reason::Failed,
    }
}
