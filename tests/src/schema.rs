//! Validates files against the JSON schemas of the formats, with the validator of Debian's package python3-jsonschema.

use std::{path::Path, process::Command};

/// Prints each mistake, and exits with 1 if there is one. A line of a JSONL file is a document.
const SCRIPT: &str = "
import json, sys, tomllib
from jsonschema import Draft202012Validator
with open(sys.argv[1]) as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
mistakes = 0
for path in sys.argv[2:]:
    with open(path, 'rb') as file:
        if path.endswith('.toml'):
            documents = [tomllib.load(file)]
        elif path.endswith('.jsonl'):
            documents = [json.loads(line) for line in file]
        else:
            documents = [json.load(file)]
    assert documents, path + ' is empty'
    for document in documents:
        for mistake in Draft202012Validator(schema).iter_errors(document):
            print(path, mistake.json_path, mistake.message[:1000])
            mistakes += 1
sys.exit(mistakes > 0)
";

/// The mistakes of `files`, which are JSON, JSONL or TOML, by the schema of that name in the folder of vmm's source; empty if
/// they have none.
///
/// # Errors
/// If the schema is not one of draft 2020-12, or a file cannot be read.
pub fn mistakes<P: AsRef<Path>>(schema: &str, files: &[P]) -> Result<String, String> {
    let schema = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../vmm/src")).join(schema);
    // Another Python can come first in the path.
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", SCRIPT]).arg(schema).args(files.iter().map(AsRef::as_ref));
    let output = python.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() || !stdout.is_empty() { Ok(stdout) } else { Err(stderr) }
}

/// Checks that `files` match the schema.
///
/// # Panics
/// If they do not.
#[track_caller]
pub fn check<P: AsRef<Path>>(schema: &str, files: &[P]) {
    assert_eq!(mistakes(schema, files), Ok(String::new()));
}
