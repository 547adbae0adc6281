//! The command that builds the guest images.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use guest_images::{Arch, Error, Kind, Release, module};

#[derive(Parser)]
#[command(about = "Builds guest images: the kernel, the camera's driver and the initramfs")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build an image, if something changed, and print its folder
    Build {
        #[command(flatten)]
        choice: Choice,
        /// Take the newest kernel version in Debian. Without this option, each build uses the version of the first build. The files
        /// of the older version stay
        #[arg(long)]
        update: bool,
    },
    /// Print the folder of the image that was built last
    Path(Choice),
    /// Build a kernel module of your own for the kernel of an image, and print its path
    Module {
        /// The folder with the module's Kbuild file and sources. The module is built there
        folder: PathBuf,
        #[command(flatten)]
        choice: Choice,
        /// Also write the image's initramfs with the module in /lib/modules to this file, for minivmm --initrd
        #[arg(long, value_name = "FILE")]
        initramfs: Option<PathBuf>,
    },
    /// List the images: name, architecture, size in MiB, and folder
    List,
    /// Remove an image
    Remove(Choice),
    /// Remove everything from the cache but the images that were built last
    Clean,
}

#[derive(Args)]
struct Choice {
    /// The guest's architecture: x86_64 or aarch64 [default: this machine's]
    #[arg(long, value_parser = arch)]
    arch: Option<&'static Arch>,
    /// The image: default; debug, our kernel with KASAN, lockdep and other debugging options; on aarch64 also 64k, our
    /// kernel with 64 KiB pages, and debian, Debian's own kernel
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = kind)]
    image: Kind,
    /// The same as --image debug
    #[arg(long, conflicts_with = "image")]
    debug: bool,
    /// The release of our kernel: 6.1, 6.12 or 7.2 [default: the release in the image's name, or 6.1]
    #[arg(long, value_name = "RELEASE", value_parser = release)]
    release: Option<Release>,
}

impl Choice {
    fn arch(&self) -> &'static Arch {
        self.arch.unwrap_or_else(Arch::host)
    }

    fn kind(&self) -> Result<Kind, Error> {
        let image = if self.debug { Kind::Debug(Release::ALL[0]) } else { self.image };
        let kind = self.release.map_or(Some(image), |release| image.with(release));
        kind.ok_or_else(|| Error::NotOurs { image: image.name() })
    }
}

fn arch(name: &str) -> Result<&'static Arch, String> {
    Arch::named(name).ok_or_else(|| one_of(Arch::ALL.iter().map(|arch| arch.name.to_owned())))
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| one_of(Kind::all().map(Kind::name)))
}

fn release(name: &str) -> Result<Release, String> {
    Release::named(name).ok_or_else(|| one_of(Release::ALL.iter().map(|release| release.name().to_owned())))
}

fn one_of(names: impl Iterator<Item = String>) -> String {
    format!("the names are {}", names.collect::<Vec<_>>().join(", "))
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-images: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<(), Error> {
    let dir = match verb {
        Verb::Build { choice, update } => {
            let build = if *update { guest_images::update } else { guest_images::build };
            build(choice.arch(), choice.kind()?)?.dir
        }
        Verb::Path(choice) => {
            let (arch, kind) = (choice.arch(), choice.kind()?);
            guest_images::current(arch, kind)
                .ok_or(Error::NotBuilt { image: kind.name(), arch: arch.name })?
                .dir
        }
        Verb::Module { folder, choice, initramfs } => {
            let built = module::build(choice.arch(), choice.kind()?, folder, initramfs.as_deref())?;
            built.iter().for_each(|module| println!("{}", module.display()));
            return Ok(());
        }
        Verb::List => {
            for (arch, kind, image) in guest_images::list() {
                let mebibytes = image.bytes() >> 20;
                println!("{:<10} {:<8} {mebibytes:>5}  {}", kind.name(), arch.name, image.dir.display());
            }
            return Ok(());
        }
        Verb::Remove(choice) => return guest_images::remove(choice.arch(), choice.kind()?),
        Verb::Clean => return guest_images::clean(),
    };
    println!("{}", dir.display());
    Ok(())
}
