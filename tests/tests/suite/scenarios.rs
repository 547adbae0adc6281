//! Every scenario, as a test: its predictions are correct, and the page of the lessons shows what it prints.

use std::fs;

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
            check_lesson(scenario.name, &played.to_string());
            println!("{played}");
        })
    };
    let of_windows = scenario::of_windows().map(|scenario| {
        let test = test(scenario);
        if OF_THE_ALLOCATOR.contains(&scenario.name) { test.the_same_everywhere() } else { test }
    });
    let of_requests = scenario::of_pages().map(test).map(Test::the_same_everywhere);
    // The tests called model:: compare the model with the kernel after each request, so that these seldom find more.
    let of_the_model = scenario::of_the_model().map(test).map(Test::only_if_thorough);
    Group {
        name: "scenarios",
        place: Place::Linux(if Extent::asked() == Extent::Thorough {
            scenario::images(arch)
        } else {
            vec![Kind::DEFAULT]
        }),
        tests: of_windows.chain(of_requests).chain(of_the_model).collect(),
    }
}

/// The scenarios of windows that show what the allocator does with them, which does not depend on the architecture.
const OF_THE_ALLOCATOR: [&str; 4] =
    ["the-device-has-its-own", "a-full-window-falls-back", "out-of-the-mask", "the-wrong-node-works"];

/// The page of the lessons.
const LESSONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cma/lessons/README.md");

/// The table of the lesson of that name, if there is one, has only lines that its scenario printed.
fn check_lesson(name: &str, printed: &str) {
    let page = fs::read_to_string(LESSONS).unwrap();
    let Some(lesson) = page.split("\n## ").find(|part| part.contains(&format!("({name}.svg)"))) else {
        return;
    };
    let table = lesson.split("```").nth(1).expect("a lesson has a table");
    let spaced = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let printed: Vec<String> = printed.lines().map(spaced).collect();
    for line in table.lines().map(spaced) {
        assert!(printed.contains(&line), "the lesson has {line:?}, but the scenario prints {printed:#?}");
    }
}
