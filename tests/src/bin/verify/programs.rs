//! The test programs of the workspace, as cargo builds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{commands, without_cargo};

/// A test program.
#[derive(Debug, Clone)]
pub(crate) struct TestProgram {
    /// Its crate's folder, in which cargo runs it.
    pub folder: PathBuf,
    pub program: PathBuf,
    is_suite: bool,
}

/// Test programs that are built.
#[derive(Debug, Clone)]
pub(crate) struct TestPrograms(Vec<TestProgram>);

impl TestPrograms {
    /// cargo's arguments for all of them.
    pub(crate) const ALL: &[&str] = &["--workspace", "--lib", "--bins", "--tests"];
    /// cargo's arguments for all on another architecture than this machine's, on which the images are built.
    pub(crate) const ALL_ELSEWHERE: &[&str] =
        &["--workspace", "--exclude", "guest-images", "--lib", "--test", "*"];
    /// cargo's arguments for those of crates with code for one architecture, and the suite.
    pub(crate) const WITH_CODE_FOR_IT: &[&str] =
        &["--package", "media", "--package", "vmm", "--package", "tests", "--lib", "--test", SUITE];
    /// cargo's arguments for the suite alone.
    pub(crate) const SUITE: &[&str] = &["--package", "tests", "--test", SUITE];

    /// Builds those that `which` names by `cargo`, which was told to test.
    pub(crate) fn build(who: &str, mut cargo: Command, which: &[&str]) -> Result<Self, String> {
        cargo.args(["--quiet", "--no-run", "--message-format", "json-render-diagnostics"]).args(which);
        let messages = commands::output(who, commands::in_background(cargo))?;
        let programs = messages.lines().filter_map(|line| program(&serde_json::from_str(line).ok()?));
        Ok(Self(programs.collect()))
    }

    /// The unit tests.
    pub(crate) fn units(&self) -> impl Iterator<Item = &TestProgram> {
        self.0.iter().filter(|program| !program.is_suite)
    }

    /// Where the suite is.
    pub(crate) fn suite_path(&self) -> Result<&Path, String> {
        let suite = self.0.iter().find(|program| program.is_suite);
        suite.map(|suite| suite.program.as_path()).ok_or_else(|| "cargo has built no test suite".to_owned())
    }

    /// The suite, to be run on this machine.
    pub(crate) fn suite(&self) -> Result<Command, String> {
        self.suite_path().map(without_cargo)
    }
}

/// The name of the suite (tests/tests/suite).
const SUITE: &str = "suite";

/// The test program that a message of cargo names, if any (cargo's documentation, External tools).
fn program(message: &Value) -> Option<TestProgram> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    Some(TestProgram {
        folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
        program: message["executable"].as_str()?.into(),
        is_suite: message["target"]["name"] == SUITE,
    })
}
