//! The command `check-trees`: compares the rules of `minivmm check` with booted kernels on random device trees.

use std::{process::ExitCode, time::Instant};

use ::tests::{
    kernels,
    reserved::{self, machine::Machine, platform::Platform, random, tree::Tree},
};
use clap::Parser;
use guest_images::Release;

/// Boots random device trees on Debian's arm64 kernels or on our x86_64 kernel under QEMU, and compares what the kernel does with their reserved memory with
/// what `minivmm check` predicts. A difference is made smaller and printed as a tree.
#[derive(Parser)]
#[command(
    name = "check-trees",
    version,
    after_help = "Exit status: 0 without a difference, otherwise 1. A boot takes 1 to 5 s."
)]
struct Cli {
    /// Number of trees for each kernel
    #[arg(long, default_value_t = 100)]
    trees: u64,
    /// The first tree's seed; each further tree has the next number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A release: 6.1, 6.12 or 7.2; may be repeated [default: all; 6.1 with --ours]
    #[arg(long, value_parser = kernels::parse)]
    kernel: Vec<Release>,
    /// Boot our guest image's kernel for x86_64 instead of Debian's kernels for arm64
    #[arg(long)]
    ours: bool,
    /// Number of differences after which a kernel's trees end
    #[arg(long, default_value_t = 5)]
    differences: u64,
    /// Print the tree of the first seed instead of booting
    #[arg(long)]
    print: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.print {
        print!("{}", Tree::new(Platform::Virt, &random::items(cli.seed)).dts());
        return ExitCode::SUCCESS;
    }
    let all = if cli.ours { &Release::ALL[..1] } else { &Release::ALL[..] };
    let releases = if cli.kernel.is_empty() { all } else { &cli.kernel[..] };
    let mut total = 0;
    for release in releases {
        let machine = if cli.ours { Machine::ours(*release) } else { Machine::debian(*release) };
        let machine = match machine {
            Ok(machine) => machine,
            Err(error) => {
                eprintln!("check-trees: {error}");
                return ExitCode::FAILURE;
            }
        };
        total += campaign(&machine, &cli);
    }
    if total == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The number of differences.
fn campaign(machine: &Machine, cli: &Cli) -> u64 {
    let start = Instant::now();
    let (mut differences, mut trees) = (0, 0);
    for seed in cli.seed..cli.seed.saturating_add(cli.trees) {
        trees += 1;
        if let Err(mismatch) = reserved::compare_booted(&random::items(seed), machine) {
            differences += 1;
            println!("{}, seed {seed}: {mismatch}", machine.name);
            if differences == cli.differences {
                break;
            }
        }
    }
    println!(
        "{}: {trees} trees from seed {} in {:.0} s, {differences} with a difference",
        machine.name,
        cli.seed,
        start.elapsed().as_secs_f64()
    );
    differences
}
