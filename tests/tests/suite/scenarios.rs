//! Every scenario, as a test: its predictions are correct.

use guest_images::{Arch, Kind};
use tests::{
    harness::{Extent, Group, Place, Test},
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
    let of_windows = scenario::of_windows().map(test);
    let of_requests = scenario::of_requests().map(test).map(Test::the_same_everywhere);
    Group {
        name: "scenarios",
        place: Place::Linux(if Extent::asked() == Extent::Thorough {
            scenario::images(arch)
        } else {
            vec![Kind::DEFAULT]
        }),
        tests: of_windows.chain(of_requests).collect(),
    }
}
