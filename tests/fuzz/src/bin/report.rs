//! No file makes the reader of reports panic, for example for `minivmm replay`, and what it takes can be written and read again.

#![no_main]

use fuzz::Start;
use vmm::observe::report::Report;

fuzz::target!(Start::default(), |bytes| {
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let text = serde_json::to_vec(&report).expect("a report can be written");
        serde_json::from_slice::<Report>(&text).expect("what was written can be read");
    }
});
