//! No text makes the reader of plans panic, and a plan that it takes is the same when it is written and read again.

#![no_main]

use devices::faults::Plan;
use fuzz::Start;

/// One rule for each action.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for table in devices::fault_tables() {
        for point in table.points {
            for action in point.actions {
                let fields = action
                    .parameter
                    .as_ref()
                    .map_or_else(String::new, |field| format!("{} = 1\n", field.name));
                let rule = format!(
                    "[[rule]]\nname = \"r\"\non = \"{}\"\naction = \"{}\"\n{fields}",
                    point.name, action.name
                );
                seeds.push(format!("{rule}when = {{ nth = 2 }}\ntimes = 3\n").into_bytes());
                seeds.push(
                    format!("{rule}when = {{ probability = 0.5 }}\ndevice = \"camera0\"\n").into_bytes(),
                );
            }
        }
    }
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let tables = devices::fault_tables();
        if let Ok(plan) = Plan::read(text, &tables) {
            let written = Plan::of(plan.rules.clone());
            assert_eq!(Plan::read(&written.text, &tables).map(|again| again.rules), Ok(plan.rules));
        }
    }
});
