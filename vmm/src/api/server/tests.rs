//! Clients that ask too much, too little or nothing.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use event_manager::{EventManager, SubscriberId, SubscriberOps};

use super::{super::Verb, *};
use crate::clients::CLIENTS_MAX;

type Shared = Arc<Mutex<Server>>;

/// A server in an event loop that a test turns by hand.
struct Loop {
    manager: EventManager<Shared>,
    server: Shared,
    id: SubscriberId,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Loop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api");
        let server = Arc::new(Mutex::new(Server::bind(&path).unwrap()));
        let mut manager = EventManager::new().unwrap();
        let id = manager.add_subscriber(server.clone());
        Self { manager, server, id, path, _folder: folder }
    }

    fn connect(&mut self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        self.turn();
        stream
    }

    /// Handles events until there are none, without an answer to a request.
    fn turn(&mut self) -> usize {
        let mut turns = 0;
        while self.manager.run_with_timeout(0).unwrap() > 0 {
            turns += 1;
            assert!(turns < 10_000, "the loop spins");
        }
        turns
    }

    /// Handles events, and answers each request with its verb.
    fn serve(&mut self) -> Vec<Request> {
        let mut seen = Vec::new();
        loop {
            let turns = self.turn();
            let before = seen.len();
            let mut server = self.server.lock().unwrap();
            let mut ops = self.manager.event_ops(self.id).unwrap();
            while let Some((client, request)) = server.next_request(&mut ops) {
                server.answer(client, &Answer::Error(format!("{:?}", request.verb)), &mut ops);
                seen.push(request);
            }
            if turns == 0 && seen.len() == before {
                return seen;
            }
        }
    }

    /// A client that gets events.
    fn listen(&mut self) -> UnixStream {
        let mut client = self.connect();
        client.write_all(EVENTS).unwrap();
        self.turn();
        let mut server = self.server.lock().unwrap();
        let mut ops = self.manager.event_ops(self.id).unwrap();
        let (id, request) = server.next_request(&mut ops).unwrap();
        assert_eq!(request.verb, Verb::Events);
        server.begin_events(id, &Answer::Done {}, &mut ops);
        client
    }

    fn tell(&mut self, event: Event) {
        let mut ops = self.manager.event_ops(self.id).unwrap();
        self.server.lock().unwrap().tell(vec![event], &mut ops);
    }

    fn clients(&self) -> usize {
        self.server.lock().unwrap().0.all().len()
    }
}

fn line(stream: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

const STATUS: &[u8] = b"{\"verb\":\"status\"}\n";
const EVENTS: &[u8] = b"{\"verb\":\"events\"}\n";
const STATUS_ANSWER: &str = "{\"error\":\"Status\"}\n";

#[test]
fn requests_are_answered_in_halves_and_in_bunches() {
    let mut server = Loop::new();
    let mut client = server.connect();
    for byte in STATUS {
        assert_eq!(server.serve().len(), 0);
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(server.serve().len(), 1);
    assert_eq!(line(&client), STATUS_ANSWER);

    client.write_all(&STATUS.repeat(1000)).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        all
    });
    let mut seen = 0;
    while !reader.is_finished() {
        seen += server.serve().len();
    }
    assert_eq!(seen, 1000);
    assert_eq!(reader.join().unwrap(), STATUS_ANSWER.repeat(1000));
    assert_eq!(server.clients(), 0);
}

#[test]
fn garbage_is_answered_and_the_client_stays() {
    let mut server = Loop::new();
    let mut client = server.connect();
    for garbage in [&b"hello\n"[..], b"\n", b"\xff\0\n", b"{\"verb\":\"fly\"}\n", b"[[[[[[[[\n", b"{}\n"] {
        client.write_all(garbage).unwrap();
        assert_eq!(server.serve(), []);
        let answer = line(&client);
        assert!(answer.starts_with("{\"error\":\"invalid request: "), "{answer}");
    }
    client.write_all(STATUS).unwrap();
    assert_eq!(server.serve().len(), 1);
    assert_eq!(line(&client), STATUS_ANSWER);
}

#[test]
fn a_line_without_end_is_refused_and_takes_no_memory() {
    let mut server = Loop::new();
    for end in [&b""[..], b"\n"] {
        let mut client = server.connect();
        client.write_all(&[&[b' '; REQUEST_MAX][..], end].concat()).unwrap();
        assert_eq!(server.serve(), []);
        let refused =
            format!("{{\"error\":\"the request is too long; a request has at most {REQUEST_MAX} bytes");
        assert!(line(&client).starts_with(&refused));
        assert_eq!(server.clients(), 0);
    }
    // The longest one is not.
    let mut client = server.connect();
    client.write_all(&[&vec![b' '; REQUEST_MAX - STATUS.len()], STATUS].concat()).unwrap();
    assert_eq!(server.serve().len(), 1);
}

#[test]
fn who_waits_or_does_not_read_harms_nobody() {
    let mut server = Loop::new();
    let mut waiting = server.connect();
    waiting.write_all(STATUS).unwrap();
    server.turn();
    let handed_out = {
        let mut ops = server.manager.event_ops(server.id).unwrap();
        server.server.lock().unwrap().next_request(&mut ops).unwrap().0
    };
    // It waits for its answer, and sends on.
    waiting.set_nonblocking(true).unwrap();
    while waiting.write(&[b'x'; 4096]).is_ok() {}
    assert!(server.server.lock().unwrap().0.all()[0].input.len() <= 2 * REQUEST_MAX);

    let mut deaf = server.connect();
    deaf.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while deaf.write(STATUS).is_ok_and(|count| count == STATUS.len()) {
        sent += 1;
        server.serve();
        assert!(sent < 1_000_000, "there is no end to what is taken from a client that does not read");
    }
    let mut other = server.connect();
    other.write_all(STATUS).unwrap();
    assert_eq!(server.serve().len(), 1);
    assert_eq!(line(&other), STATUS_ANSWER);

    // The answer for a client that has gone is dropped.
    drop(waiting);
    server.turn();
    assert_eq!(server.clients(), 2);
    let mut ops = server.manager.event_ops(server.id).unwrap();
    server.server.lock().unwrap().answer(handed_out, &Answer::Done {}, &mut ops);
}

fn mark(text: &str) -> Event {
    Event::Mark { seconds: 1.0, text: text.to_owned() }
}

/// The events that a client has got, without the answer before them.
fn events(lines: &mut impl Iterator<Item = io::Result<String>>) -> Vec<Event> {
    let events = lines.map_while(Result::ok).map(|line| match serde_json::from_str(&line).unwrap() {
        Answer::Event(event) => event,
        other => panic!("{other:?} is no event"),
    });
    events.collect()
}

#[test]
fn events_follow_the_answer_until_the_client_leaves() {
    let mut server = Loop::new();
    let (mut one, other) = (server.listen(), server.listen());
    server.tell(mark("first"));
    // It sends no more requests, whether it says so or not.
    one.write_all(STATUS).unwrap();
    other.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.serve(), []);
    server.tell(mark("second"));
    drop(one);
    server.turn();
    assert_eq!(server.clients(), 1);
    assert!(server.server.lock().unwrap().has_listeners());
    let end = Event::Paused { seconds: 3.0 };
    server.server.lock().unwrap().tell_the_end(vec![end.clone()]);
    let Loop { manager, server, .. } = server;
    drop((manager, server));
    let mut lines = BufReader::new(other).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "{\"done\":{}}");
    assert_eq!(events(&mut lines), [mark("first"), mark("second"), end]);
}

#[test]
fn a_slow_client_loses_events_and_learns_how_many() {
    let mut server = Loop::new();
    let slow = server.listen();
    let quick = server.listen();
    let text = "x".repeat(1000);
    let mut quick = BufReader::new(quick).lines();
    quick.next().unwrap().unwrap();
    let count = 2000;
    for _ in 0..count {
        server.tell(mark(&text));
        assert!(quick.next().unwrap().unwrap().contains(&text));
    }
    assert!(server.server.lock().unwrap().0.all()[0].output.len() <= EVENTS_MAX);
    // It reads on. When it knows of the gap, the next event comes through.
    let mut lines = BufReader::new(slow).lines();
    lines.next().unwrap().unwrap();
    let mut events: Vec<Event> = Vec::new();
    while events.last() != Some(&mark("last")) {
        server.turn();
        let line = lines.next().unwrap().unwrap();
        let Ok(Answer::Event(event)) = serde_json::from_str(&line) else { panic!("{line} is no event") };
        if matches!(event, Event::Lost { .. }) {
            server.tell(mark("last"));
        }
        events.push(event);
    }
    let lost = events.iter().find_map(|event| match event {
        Event::Lost { count, .. } => Some(*count),
        _ => None,
    });
    let lost = lost.unwrap();
    assert!(lost > 1000, "{lost}");
    assert_eq!(events.len() as u64 - 2 + lost, count);
    assert_eq!(server.clients(), 2);
}

#[test]
fn a_newcomer_takes_the_place_of_the_most_silent() {
    let mut server = Loop::new();
    let mut clients: Vec<_> = (0..CLIENTS_MAX).map(|_| server.connect()).collect();
    clients[0].write_all(STATUS).unwrap();
    server.serve();
    for _ in 0..3 {
        clients.push(server.connect());
    }
    assert_eq!(server.clients(), CLIENTS_MAX);
    assert_eq!(line(&clients[0]), STATUS_ANSWER);
    for client in &clients[1..=3] {
        assert_eq!(line(client), "");
    }
    for client in clients.iter_mut().skip(4) {
        client.write_all(STATUS).unwrap();
        assert_eq!(server.serve().len(), 1);
        assert_eq!(line(client), STATUS_ANSWER);
    }
    drop(clients);
    server.turn();
    assert_eq!(server.clients(), 0);
}

#[test]
fn the_file_is_this_users_and_goes_with_the_server() {
    let mut server = Loop::new();
    let path = server.path.clone();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = Server::bind(&path).unwrap_err().to_string();
    assert!(error.starts_with("a program already listens on the API socket "), "{error}");
    // That was a client, too.
    server.serve();
    assert_eq!(server.clients(), 0);
    let Loop { manager, server, .. } = server;
    drop((manager, server));
    assert!(!path.exists());
}

#[test]
fn what_is_there_is_replaced_only_if_it_is_a_stale_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::bind(&path).unwrap();
    // Not ours any more.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(server);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let error = Server::bind(&path).unwrap_err().to_string();
    assert!(error.contains("exists and is not a socket"), "{error}");
    for path in [folder.path().join("no/api"), folder.path().join("x".repeat(200))] {
        let error = Server::bind(&path).unwrap_err().to_string();
        assert!(error.contains("cannot be created: "), "{error}");
    }
}

/// The threads of this process that a client could have caused: tests that run at the same time have others.
fn threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = names.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| !name.contains("::")).count()
}

#[test]
fn thousands_of_clients_come_and_go_beside_slow_ones() {
    let mut server = Loop::new();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    // One sends half of a request, and one does not read its answers.
    let mut half = server.connect();
    half.write_all(&STATUS[..5]).unwrap();
    let mut deaf = server.connect();
    deaf.set_nonblocking(true).unwrap();
    while deaf.write(STATUS).is_ok_and(|count| count == STATUS.len()) {
        server.serve();
    }
    let before = (threads(), descriptors());
    for cycle in 0..7000 {
        let mut client = server.connect();
        match cycle % 1000 {
            0 => {
                client.write_all(STATUS).unwrap();
                assert_eq!(server.serve().len(), 1);
                assert_eq!(line(&client), STATUS_ANSWER);
            }
            1 => client.write_all(b"{").unwrap(),
            _ => {}
        }
        drop(client);
        server.turn();
        assert_eq!(server.clients(), 2, "cycle {cycle}");
    }
    let after = (threads(), descriptors());
    assert!(after.0 < before.0 + 50 && after.1 < before.1 + 50, "{before:?} {after:?}");
    half.write_all(&STATUS[5..]).unwrap();
    assert_eq!(server.serve().len(), 1);
    assert_eq!(line(&half), STATUS_ANSWER);
}
