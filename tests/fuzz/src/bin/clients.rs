//! Clients of the API's socket that send lines in any pieces, listen to events, do not read, or leave: each line gets one answer, and no
//! event is missing without notice. The server neither waits, spins nor keeps a client that left.

#![no_main]

use std::{
    env, fs,
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    process,
    sync::{Arc, Mutex, PoisonError},
};

use event_manager::{EventManager, SubscriberId, SubscriberOps as _};
use fuzz::{Input, Start};
use vmm::api::{Answer, Event, Verb, server::Server};

/// A server, and an event loop that runs step by step.
struct Loop {
    manager: EventManager<Arc<Mutex<Server>>>,
    server: Arc<Mutex<Server>>,
    id: SubscriberId,
    path: PathBuf,
    /// The number of events so far.
    events: u64,
}

impl Loop {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("minivmm-fuzz-{}", process::id()));
        let _ = fs::remove_file(&path);
        let server = Arc::new(Mutex::new(Server::bind(&path).expect("the socket can be made")));
        let mut manager = EventManager::new().expect("the host has epoll");
        let id = manager.add_subscriber(server.clone());
        Self { manager, server, id, path, events: 0 }
    }

    /// Handles all events, and answers all requests.
    fn serve(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "the loop spins");
            let events = self.manager.run_with_timeout(0).expect("the loop runs");
            let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ops = self.manager.event_ops(self.id).expect("the server is there");
            let mut requests = 0;
            while let Some((client, request)) = server.next_request(&mut ops) {
                match request.verb {
                    // Each event has its number as time.
                    Verb::Events => {
                        let begun = Event::Paused { seconds: self.events as f64 };
                        server.begin_events(client, &Answer::Event(begun), &mut ops);
                    }
                    _ => server.answer(client, &Answer::Done {}, &mut ops),
                }
                requests += 1;
            }
            if events + requests == 0 {
                return;
            }
        }
    }
}

impl Loop {
    /// Tells events of about this number of bytes.
    fn tell(&mut self, size: usize) {
        self.events += 1;
        let event = Event::Mark { seconds: self.events as f64, text: "x".repeat(size) };
        let mut ops = self.manager.event_ops(self.id).expect("the server is there");
        self.server.lock().unwrap_or_else(PoisonError::into_inner).tell(vec![event], &mut ops);
    }
}

/// A client that does not wait.
struct Client {
    stream: UnixStream,
    /// The lines that the server took.
    lines: usize,
    /// What the server answered.
    answers: Vec<u8>,
}

impl Client {
    fn new(server: &mut Loop) -> Self {
        let stream = UnixStream::connect(&server.path).expect("the server listens");
        stream.set_nonblocking(true).expect("a socket can be set so");
        server.serve();
        Self { stream, lines: 0, answers: Vec::new() }
    }

    fn send(&mut self, piece: &[u8]) {
        if let Ok(count) = self.stream.write(piece) {
            self.lines += piece[..count].iter().filter(|&&byte| byte == b'\n').count();
        }
    }

    /// Reads what is there. Returns true at the end of the stream.
    fn read(&mut self) -> bool {
        match self.stream.read_to_end(&mut self.answers) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("the connection broke: {error}"),
        }
    }

    /// Sends no more, and reads to the end.
    fn finish(mut self, server: &mut Loop) {
        self.stream.shutdown(Shutdown::Write).expect("the server has not left");
        let mut quiet = 0;
        for turn in 0.. {
            assert!(turn < 10_000, "the server does not end the stream");
            server.serve();
            let before = self.answers.len();
            if self.read() {
                break;
            }
            // The stream of events has no end.
            quiet = if self.answers.len() == before { quiet + 1 } else { 0 };
            if quiet > 2 && self.answers.windows(9).any(|part| part == b"{\"event\":") {
                break;
            }
        }
        let (mut count, mut next) = (0, None);
        for line in self.answers.split_inclusive(|&byte| byte == b'\n') {
            match (serde_json::from_slice(line).expect("an answer is JSON"), next) {
                (Answer::Event(Event::Paused { seconds }), None) => {
                    count += 1;
                    next = Some(seconds as u64 + 1);
                }
                (Answer::Event(Event::Mark { seconds, .. }), Some(number)) => {
                    assert_eq!(seconds as u64, number, "an event is missing without notice");
                    next = Some(number + 1);
                }
                (Answer::Event(Event::Lost { count, .. }), Some(number)) => next = Some(number + count),
                (_, None) => count += 1,
                (answer, Some(_)) => panic!("{answer:?} in a stream of events"),
            }
        }
        match next {
            None => assert_eq!(count, self.lines, "each line has one answer"),
            Some(next) => assert_eq!(next, server.events + 1, "an event is missing without notice"),
        }
    }
}

fuzz::target!(
    Start {
        seeds: [
            "\x00\x11{\"verb\":\"status\"}\n\x01\x05{\"ver\x01\x0cb\":\"status\"}\n\x02\x00\x08",
            "\x00\x22{\"verb\":\"stop\"}\n{\"verb\":\"pause\"}\n\n\x0c\x01\x02{}\x0d\x00\x01\n",
            "\x03\x03abc\x02\x01\n\x0e\x0f",
            "\x00\x12{\"verb\":\"events\"}\n\x20\x01\x20\x20\x20\x08\x20\x20\x20\x20\x20\x20\x08\x20\x01\x11{\"verb\":\"status\"}\n",
        ]
        .map(|script| script.as_bytes().to_vec())
        .into(),
        ..Start::default()
    },
    |bytes| {
        let mut server = Loop::new();
        let mut clients = [(); 4].map(|()| Some(Client::new(&mut server)));
        let mut input = Input(bytes);
        while !input.has_ended() {
            let step = input.byte();
            let client = &mut clients[usize::from(step & 3)];
            match step >> 2 & 3 {
                0 | 1 => {
                    let count = input.byte().into();
                    let piece = input.bytes(count);
                    client.get_or_insert_with(|| Client::new(&mut server)).send(piece);
                }
                2 => drop(client.as_mut().map(Client::read)),
                // It leaves.
                _ => *client = None,
            }
            if step & 0x20 != 0 {
                // Two of the longest do not fit.
                server.tell(usize::from(input.byte()) << 10);
            }
            if step & 0x10 == 0 {
                server.serve();
            }
        }
        clients.into_iter().flatten().for_each(|client| client.finish(&mut server));
    }
);
