//! The JSON schemas of the formats: what programs read and write matches them, and so do the requests to a running machine and its
//! answers. Tests of guests check more files.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use serde_json::json;
use tests::{
    guest,
    harness::{Group, Place, Test},
    schema, tests,
};
use vmm::api::{FaultsRequest, FramesRequest, Reader, Request, SetRequest, Verb};

use crate::metrics::streaming;

/// The tests. The validator is a program of this machine, so they run outside of labs.
pub(crate) fn group() -> Group {
    Group {
        name: "schemas",
        place: Place::OutsideOfLabs,
        tests: tests![experiments_match_their_schema, an_unknown_field_is_a_mistake],
    }
}

/// The test of a machine. On a foreign architecture the lab has no validator.
pub(crate) fn of_machines() -> Group {
    let verbs = Test::new("requests_of_each_verb_and_their_answers", requests_of_each_verb_and_their_answers);
    Group { name: "schemas_of_machines", place: Place::Kvm, tests: vec![verbs.the_same_everywhere()] }
}

/// Requests of a verb, each with the name of its answer.
fn requests(verb: Verb) -> Vec<(Request, &'static str)> {
    let plain = Request::new(verb);
    let device = Request { device: Some("camera0".to_owned()), ..plain.clone() };
    let faults = |change| Request { faults: Some(change), ..plain.clone() };
    let frames = |change| Request { frames: Some(change), ..plain.clone() };
    let added = "[[rule]]\nname = \"later\"\non = \"irq\"\naction = \"lose\"\nwhen = { nth = 1000000000 }\n";
    match verb {
        Verb::Status | Verb::Events => vec![(plain, "status")],
        Verb::Devices => vec![(plain, "devices"), (device, "devices")],
        // A bare-metal guest has no kernel with symbols. `anywhere::` asks a guest with Linux.
        Verb::Cma => vec![(Request { from: Some(Reader::Memory), ..plain }, "error")],
        Verb::Faults => vec![
            (plain.clone(), "faults"),
            (faults(FaultsRequest::Add(added.to_owned())), "done"),
            (faults(FaultsRequest::List), "faults"),
            (faults(FaultsRequest::Trigger("later".to_owned())), "done"),
            (faults(FaultsRequest::Remove("later".to_owned())), "done"),
            (faults(FaultsRequest::Remove("later".to_owned())), "error"),
        ],
        Verb::Frames => vec![
            (frames(FramesRequest::Pause), "done"),
            (frames(FramesRequest::Step(2)), "done"),
            (frames(FramesRequest::Resume), "done"),
            (plain, "error"),
        ],
        // A camera has no key that changes.
        Verb::Set => {
            let set = Some(SetRequest { key: "fps".to_owned(), value: "5".to_owned() });
            vec![(Request { set, ..device }, "error"), (plain, "error")]
        }
        Verb::Capture => vec![(plain, "capture"), (device, "capture")],
        Verb::Pause | Verb::Resume | Verb::Stop => vec![(plain, "done")],
    }
}

/// A client of a machine.
struct Client(BufReader<UnixStream>);

impl Client {
    fn new(socket: &Path) -> Self {
        let stream = guest::connect(socket).unwrap();
        stream.set_read_timeout(Some(guest::LIMIT)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, request: &str) {
        writeln!(self.0.get_mut(), "{request}").unwrap();
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

/// A machine that runs answers requests of each verb, and ends by the last.
fn requests_of_each_verb_and_their_answers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let mut machine = streaming(folder.path(), &["--api-socket", socket.to_str().unwrap()]);
    let begun = Instant::now();
    while !socket.exists() {
        assert!(begun.elapsed() < guest::LIMIT, "there is no socket");
        thread::sleep(Duration::from_millis(5));
    }
    let (mut client, mut listener) = (Client::new(&socket), Client::new(&socket));
    let (mut asked, mut answered) = (String::new(), String::new());
    let (mut last, mut events) = (Vec::new(), false);
    for verb in Verb::value_variants() {
        for (request, name) in requests(*verb) {
            let request = serde_json::to_string(&request).unwrap();
            asked += &format!("{request}\n");
            match verb {
                Verb::Stop => last.push(request),
                Verb::Events => {
                    listener.send(&request);
                    let answer = listener.line();
                    assert!(answer.starts_with(&format!("{{\"{name}\":")), "{request}: {answer}");
                    answered += &answer;
                    events = true;
                }
                _ => {
                    client.send(&request);
                    let answer = client.line();
                    assert!(answer.starts_with(&format!("{{\"{name}\":")), "{request}: {answer}");
                    answered += &answer;
                }
            }
        }
    }
    assert!(events && last.len() == 1);
    for verb in ["pause", "resume"] {
        client.send(&format!("{{\"verb\":\"{verb}\"}}"));
        answered += &client.line();
    }
    let mut kinds = Vec::new();
    loop {
        // The last request follows the first firing after the pause.
        if kinds.last().is_some_and(|kind| kind == "fired") && kinds.contains(&"resumed".to_owned()) {
            for request in last.drain(..) {
                client.send(&request);
                answered += &client.line();
            }
        }
        let line = listener.line();
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { break };
        let kind = event["event"]["kind"].as_str().unwrap_or_else(|| panic!("{line} is no event")).to_owned();
        // Thousands of frames have an event each.
        if kind != "fired" || !kinds.contains(&kind) {
            answered += &line;
        }
        kinds.push(kind);
    }
    for kind in ["fired", "paused", "resumed"] {
        assert!(kinds.iter().any(|known| known == kind), "there was no event {kind}");
    }
    assert_eq!(kinds.last().map(String::as_str), Some("end"));
    assert_eq!(machine.wait().unwrap().code(), Some(0));
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        [path]
    };
    schema::check("api/request.schema.json", &file("requests.jsonl", &asked));
    schema::check("api/answer.schema.json", &file("answers.jsonl", &answered));
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
