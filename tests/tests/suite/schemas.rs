//! The JSON schemas of the formats: what programs read and write matches them. Tests of guests check more files.

use std::{fs, path::Path};

use serde_json::json;
use tests::{
    harness::{Group, Place},
    schema, tests,
};

/// The tests. The validator is a program of this machine, so they run outside of labs.
pub(crate) fn group() -> Group {
    Group {
        name: "schemas",
        place: Place::OutsideOfLabs,
        tests: tests![experiments_match_their_schema, an_unknown_field_is_a_mistake],
    }
}

fn experiments_match_their_schema() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/experiments"));
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<_> = files
        .into_iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() > 50);
    schema::check("experiment/file.schema.json", &files);
}

fn an_unknown_field_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer.json");
    let device = json!({ "id": "camera0", "kind": "camera", "counters": { "frames": 1 } });
    let mut answer = json!({ "devices": [device] });
    fs::write(&file, answer.to_string()).unwrap();
    schema::check("api/answer.schema.json", &[&file]);
    answer["devices"][0]["colour"] = "red".into();
    fs::write(&file, answer.to_string()).unwrap();
    let mistakes = schema::mistakes("api/answer.schema.json", &[&file]).unwrap();
    assert!(mistakes.contains("colour") || mistakes.contains("not valid under any"), "{mistakes}");
}
