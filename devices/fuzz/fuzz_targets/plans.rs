//! No text makes the reader of plans panic, and a plan that it takes is the same when it is written and read again.

#![no_main]

use devices::faults::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let tables = devices::fault_tables();
    if let Ok(plan) = Plan::read(text, &tables) {
        let written = Plan::of(plan.rules.clone());
        assert_eq!(Plan::read(&written.text, &tables).map(|again| again.rules), Ok(plan.rules));
    }
});
