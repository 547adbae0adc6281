//! Clients of the API's socket that send lines in any pieces, do not read, or leave: each line gets one answer, and the server
//! neither waits, spins nor keeps a client that left.

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
use vmm::api::{Answer, server::Server};

/// A server, and an event loop that runs step by step.
struct Loop {
    manager: EventManager<Arc<Mutex<Server>>>,
    server: Arc<Mutex<Server>>,
    id: SubscriberId,
    path: PathBuf,
}

impl Loop {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("minivmm-fuzz-{}", process::id()));
        let _ = fs::remove_file(&path);
        let server = Arc::new(Mutex::new(Server::bind(&path).expect("the socket can be made")));
        let mut manager = EventManager::new().expect("the host has epoll");
        let id = manager.add_subscriber(server.clone());
        Self { manager, server, id, path }
    }

    /// Handles all events, and answers all requests.
    fn serve(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "the loop spins");
            let events = self.manager.run_with_timeout(0).expect("the loop runs");
            let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ops = self.manager.event_ops(self.id).expect("the server is there");
            let mut requests = 0;
            while let Some((client, _)) = server.next_request(&mut ops) {
                server.answer(client, &Answer::Done {}, &mut ops);
                requests += 1;
            }
            if events + requests == 0 {
                return;
            }
        }
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
        for turn in 0.. {
            assert!(turn < 10_000, "the server does not end the stream");
            server.serve();
            if self.read() {
                break;
            }
        }
        let answers = self.answers.split_inclusive(|&byte| byte == b'\n');
        let count =
            answers.map(|line| serde_json::from_slice::<Answer>(line).expect("an answer is JSON")).count();
        assert_eq!(count, self.lines, "each line has one answer");
    }
}

fuzz::target!(
    Start {
        seeds: [
            "\x00\x11{\"verb\":\"status\"}\n\x01\x05{\"ver\x01\x0cb\":\"status\"}\n\x02\x00\x08",
            "\x00\x22{\"verb\":\"stop\"}\n{\"verb\":\"pause\"}\n\n\x0c\x01\x02{}\x0d\x00\x01\n",
            "\x03\x03abc\x02\x01\n\x0e\x0f",
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
            if step & 0x10 == 0 {
                server.serve();
            }
        }
        clients.into_iter().flatten().for_each(|client| client.finish(&mut server));
    }
);
