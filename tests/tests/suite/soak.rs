//! A short soak: bare-metal machines whose host fails at random. The program `soak` runs thousands, and Linux guests in labs.

use std::{env, path::Path, process::Command, time::Duration};

use tests::{
    harness::{Group, Place, Test},
    soak::{self, Work},
    tests,
};

/// The number of machines, which take a third of a minute.
const MACHINES: u64 = 40;
const TIME: Duration = Duration::from_secs(45);

/// The tests.
pub(crate) fn group() -> Group {
    // The host's faults are the same on all architectures; `cargo soak` runs in a lab of each.
    let tests = tests![machines_end_in_time_and_leave_nothing].into_iter().map(Test::the_same_everywhere);
    Group { name: "soak", place: Place::Kvm, tests: tests.collect() }
}

fn machines_end_in_time_and_leave_nothing() {
    const ALONE: &str = "MINIVMM_SOAK_ALONE";
    // The soak counts what this process has, so it is alone in a process.
    let Some(kept) = env::var_os(ALONE) else {
        let kept = tempfile::tempdir().unwrap();
        let mut alone = Command::new(env::current_exe().unwrap());
        alone.args(["soak::machines_end_in_time_and_leave_nothing", "--exact", "--test-threads=1"]);
        assert!(alone.env(ALONE, kept.path()).status().unwrap().success());
        return;
    };
    let kept = Path::new(&kept).to_owned();
    let work = Work { seed: 1, first: 0, machines: Some(MACHINES), time: TIME, kept };
    let (mut count, mut stops, mut faults) = (0, 0, 0);
    soak::work(&work, |ended| {
        assert!(ended.problems.is_empty(), "{ended:#?}");
        count += 1;
        stops += u32::from(ended.stopped.is_some());
        faults += ended.faults.len();
    })
    .unwrap();
    // An emulated host has time for fewer.
    assert!(count >= 10 && stops > 2 && faults > 5, "{count} machines, {stops} stops, {faults} faults");
}
