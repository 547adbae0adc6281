//! Every scenario, as a test: what the guest shows is what the scenario states. Its main function is as in linux.rs.

use std::process::ExitCode;

use guest_images::Kind;
use tests::{harness, scenario};

fn main() -> ExitCode {
    let tests: Vec<_> = scenario::all()
        .map(|scenario| {
            let test = move || {
                let played = scenario.play();
                assert!(played.holds(), "{played}");
                println!("{played}");
            };
            (scenario.name, test)
        })
        .collect();
    harness::run_with_linux(&[Kind::DEFAULT], &tests)
}
