//! Every scenario, as a test: its predictions are correct.

use guest_images::{Arch, Kind};
use tests::{
    harness::{self, Group, Place, Test},
    scenario,
};

/// The tests, for guests of `arch`.
pub(crate) fn group(arch: &Arch) -> Group {
    let test = |scenario: &'static scenario::Scenario| {
        Test::new(scenario.name, || {
            let played = scenario.play();
            assert!(played.holds(), "{played}");
            println!("{played}");
        })
    };
    Group {
        name: "scenarios",
        place: Place::Linux(if harness::is_thorough() {
            scenario::images(arch)
        } else {
            vec![Kind::DEFAULT]
        }),
        tests: scenario::all().map(test).collect(),
    }
}
