//! The command that builds the guest images.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use guest_images::Error;

#[derive(Parser)]
#[command(about = "Builds what runs inside: the guest's kernel, the camera's driver and the initramfs")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the images, as far as something changed, and print their folder
    Build,
    /// Print the folder of the images that were built last
    Path,
    /// Remove all but the images that were built last from the cache
    Clean,
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
    match verb {
        Verb::Build => println!("{}", guest_images::build()?.dir.display()),
        Verb::Path => println!("{}", guest_images::current().ok_or(Error::NotBuilt)?.dir.display()),
        Verb::Clean => guest_images::clean()?,
    }
    Ok(())
}
