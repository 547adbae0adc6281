//! The pages and JSON schemas of the formats, compared with the types that they are generated from.
//!
//! `UPDATE_PAGES=1 cargo test -p vmm --lib formats` regenerates them.

use std::{
    collections::VecDeque,
    env, fs,
    path::{Path, PathBuf},
};

use devices::faults::Firing;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    api::{Answer, Request},
    boot::tree_faults::fault_tables,
    experiment::{file::HELP, results::Summary},
    observe::report::Report,
};

/// A page, and the schemas that it describes: their files, below `src`.
struct Page {
    path: &'static str,
    schemas: Vec<(&'static str, Value)>,
}

fn pages() -> [Page; 3] {
    let (reads, writes) =
        (SchemaSettings::draft2020_12().for_deserialize(), SchemaSettings::draft2020_12().for_serialize());
    [
        Page {
            path: "observe/REPORT.md",
            schemas: vec![
                ("observe/report.schema.json", schema::<Report>(&writes)),
                ("observe/trace.schema.json", schema::<Firing>(&writes)),
            ],
        },
        Page {
            path: "api/API.md",
            schemas: vec![
                ("api/request.schema.json", schema::<Request>(&reads)),
                ("api/answer.schema.json", schema::<Answer>(&writes)),
            ],
        },
        Page {
            path: "experiment/EXPERIMENTS.md",
            schemas: vec![("experiment/results.schema.json", schema::<Summary>(&writes))],
        },
    ]
}

/// The types into which an action is flattened, with its parameter.
const WITH_ACTION: [&str; 2] = ["Firing", "RuleStatus"];

fn schema<T: JsonSchema>(settings: &SchemaSettings) -> Value {
    let mut schema = settings.clone().into_generator().into_root_schema_for::<T>().to_value();
    for name in WITH_ACTION {
        let place = if schema["title"] == name { String::new() } else { format!("/$defs/{name}") };
        if let Some(Value::Object(properties)) = schema.pointer_mut(&(place + "/properties")) {
            add_parameters(properties);
        }
    }
    close(&mut schema);
    schema
}

fn add_parameters(properties: &mut Map<String, Value>) {
    let points = fault_tables().into_iter().flat_map(|table| table.points);
    for row in points.flat_map(|point| point.actions) {
        if let Some(parameter) = &row.parameter {
            let known = properties.entry(parameter.name).or_insert(json!({ "type": "integer" }));
            let action = format!("`{}`", row.name);
            match known["description"].as_str() {
                None => known["description"] = format!("The parameter of {action}.").into(),
                Some(text) if text.contains(&action) => {}
                Some(text) => {
                    known["description"] = format!("{}, {action}.", text.trim_end_matches('.')).into();
                }
            }
        }
    }
}

/// Forbids the fields that a schema does not name, and writes its descriptions as plain lines.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(false.into());
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
            map.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

/// The generated part of a page: a table for each type, the whole one first.
fn tables(schema: &Value) -> String {
    let mut text = String::new();
    let mut known = Vec::new();
    let name = schema["title"].as_str().unwrap().to_owned();
    let mut waiting = VecDeque::from([(name, schema)]);
    while let Some((name, part)) = waiting.pop_front() {
        if known.contains(&name) {
            continue;
        }
        references(part, &mut |name| waiting.push_back((name.to_owned(), &schema["$defs"][name])));
        text += &format!("\n### {name}\n\n{}\n\n{}", described(part), table(part));
        known.push(name);
    }
    text
}

/// Calls `found` with the name of each type that `schema` mentions, in the order of the fields.
fn references(schema: &Value, found: &mut impl FnMut(&str)) {
    if let Some(name) = schema["$ref"].as_str() {
        found(name.trim_start_matches("#/$defs/"));
    }
    for (_, part) in fields(schema) {
        references(part, found);
    }
    for list in ["oneOf", "anyOf", "prefixItems"] {
        schema[list].as_array().into_iter().flatten().for_each(|part| references(part, found));
    }
    for part in ["items", "additionalProperties"].iter().filter_map(|name| schema.get(name)) {
        references(part, found);
    }
}

/// The fields of an object: those that it always has in the order of the type, then the others.
fn fields(schema: &Value) -> Vec<(&str, &Value)> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().flat_map(Value::as_str).collect();
    let others = properties.keys().map(String::as_str).filter(|name| !required.contains(name));
    required.iter().copied().chain(others).map(|name| (name, &properties[name])).collect()
}

/// A link to the description of a type.
fn linked(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase())
}

fn described(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn table(schema: &Value) -> String {
    let row = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    if let Some(ways) = schema["oneOf"].as_array() {
        let rows = ways.iter().map(|way| row(&[&format!("`{}`", shape(way)), described(way)]));
        return row(&["value", "meaning"]) + &row(&["---"; 2]) + &rows.collect::<String>();
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let rows = fields(schema).into_iter().map(|(name, part)| {
        let optional = if required.contains(&name.into()) { "" } else { ", optional" };
        row(&[&format!("`{name}`"), &format!("{}{optional}", kind(part, linked)), described(part)])
    });
    row(&["field", "value", "meaning"]) + &row(&["---"; 3]) + &rows.collect::<String>()
}

/// One way to write a value, as JSON with the kinds of its values.
fn shape(schema: &Value) -> String {
    if let Some(constant) = schema.get("const") {
        return constant.to_string();
    }
    if schema["properties"].is_null() {
        return kind(schema, str::to_owned);
    }
    let fields = fields(schema).into_iter().map(|(name, part)| format!("\"{name}\": {}", shape(part)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// The kind of a value, in words, with the names of types as `link` writes them.
fn kind(schema: &Value, link: fn(&str) -> String) -> String {
    let list = |schemas: &[Value], between: &str| {
        schemas.iter().map(|schema| kind(schema, link)).collect::<Vec<_>>().join(between)
    };
    if let Some(name) = schema["$ref"].as_str() {
        return link(name.trim_start_matches("#/$defs/"));
    }
    if let Some(ways) = schema["anyOf"].as_array() {
        return list(ways, " or ");
    }
    if let Some(kinds) = schema["type"].as_array() {
        let ways: Vec<Value> = kinds
            .iter()
            .map(|kind| {
                let mut way = schema.clone();
                way["type"] = kind.clone();
                way
            })
            .collect();
        return list(&ways, " or ");
    }
    match schema["type"].as_str() {
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => match schema["prefixItems"].as_array() {
            Some(parts) => format!("[{}]", list(parts, ", ")),
            None => format!("list of {}", kind(&schema["items"], link)),
        },
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("object: name to {}", kind(&schema["additionalProperties"], link))
        }
        Some("object") => "{}".to_owned(),
        other => other.unwrap_or_else(|| panic!("this schema has no words: {schema}")).to_owned(),
    }
}

/// The line of a page after which it is generated.
const MARK: &str = "<!-- Generated: UPDATE_PAGES=1 cargo test -p vmm --lib formats -->\n";

/// Compares the file `path` with `content`, or writes it.
fn compare(path: &Path, content: &str) {
    if env::var_os("UPDATE_PAGES").is_some() {
        fs::write(path, content).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap_or_default() == content,
        "{} differs from the types; regenerate it with UPDATE_PAGES=1 cargo test -p vmm --lib formats",
        path.display()
    );
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

#[test]
fn pages_and_schemas_are_those_of_the_types() {
    for Page { path, schemas } in pages() {
        let path = source(path);
        let page = fs::read_to_string(&path).unwrap();
        let (written, _) = page.split_once(MARK).unwrap_or_else(|| panic!("{} has no mark", path.display()));
        let mut known = Vec::new();
        let mut generated = String::new();
        for (file, schema) in &schemas {
            compare(&source(file), &(serde_json::to_string_pretty(schema).unwrap() + "\n"));
            let name = Path::new(file).file_name().unwrap().to_string_lossy();
            assert!(page.contains(&format!("({name})")), "{} does not name {name}", path.display());
            // A type that two schemas have is described once.
            for part in tables(schema).split("\n### ").skip(1) {
                if !known.iter().any(|known| known == part) {
                    generated += &format!("\n### {part}");
                    known.push(part.to_owned());
                }
            }
        }
        compare(&path, &format!("{written}{MARK}{generated}"));
    }
}

#[test]
fn the_page_of_experiments_has_the_example_of_the_help() {
    let page = fs::read_to_string(source("experiment/EXPERIMENTS.md")).unwrap();
    let (_, example) = HELP.split_once('\n').unwrap();
    let example: String =
        example.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap())).collect();
    assert!(page.contains(&format!("```toml\n{example}```\n")), "the page has another example than --help");
}
