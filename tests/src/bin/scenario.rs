//! The command `scenario`: tests claims about CMA in guests.

use std::process::ExitCode;

use ::tests::{
    cross, guest, host,
    lab::IN_LAB,
    scenario::{self, Scenario},
};
use clap::Parser;
use guest_images::Arch;

/// Tests claims about CMA in real guests.
#[derive(Parser)]
#[command(name = "scenario", version)]
enum Cli {
    /// Lists all scenarios with their claims.
    List,
    /// Boots the guests of a scenario. Prints the claim, what is true, and the model's predictions beside the guest's values. If
    /// this machine's KVM cannot run Linux, the guests boot in the lab.
    #[command(after_help = "Exit status: 0 if all predictions are correct, otherwise 1.")]
    Run {
        /// The name of the scenario
        #[arg(value_parser = find)]
        scenario: &'static Scenario,
    },
}

fn find(name: &str) -> Result<&'static Scenario, String> {
    let found = scenario::all().find(|scenario| scenario.name == name);
    found.ok_or_else(|| "there is none of that name; `scenario list` has them".to_owned())
}

fn main() -> ExitCode {
    match Cli::parse() {
        Cli::List => {
            let width = scenario::all().map(|scenario| scenario.name.len()).max().unwrap_or(0);
            for Scenario { name, claim, .. } in scenario::all() {
                println!("{name:width$}  {claim}");
            }
            ExitCode::SUCCESS
        }
        Cli::Run { scenario } => run(scenario),
    }
}

fn run(scenario: &'static Scenario) -> ExitCode {
    if std::env::var_os(IN_LAB).is_none() {
        let images = scenario::images(Arch::host());
        let mut images = images.into_iter().map(|kind| guest_images::build(Arch::host(), kind));
        let ready = images.try_for_each(|built| built.map(drop).map_err(|error| error.to_string()));
        let ready = ready.and_then(|_| cross::minivmm(Arch::host()).map_err(|error| error.to_string()));
        if let Err(error) = ready {
            eprintln!("scenario: {error}");
            return ExitCode::FAILURE;
        }
        if let Some(status) = host::move_to_lab_if_unfit(guest::LIMIT * 4) {
            return status;
        }
    }
    let played = scenario.play();
    print!("{played}");
    if played.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
