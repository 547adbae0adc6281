//! Clients of the metrics' socket that send requests in any pieces, do not read, or leave: a verdict stays what it is when more comes, each
//! connection has at most one answer, and that is whole. The server neither waits, spins nor keeps a client that left.

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
use vmm::observe::metrics::{
    http::{self, Verdict},
    server::MetricsServer,
};

/// The metrics that are served.
const TEXT: &str = "# HELP a A.\n# TYPE a gauge\na 1\n";

/// A server, and an event loop that runs step by step.
struct Loop {
    manager: EventManager<Arc<Mutex<MetricsServer>>>,
    server: Arc<Mutex<MetricsServer>>,
    id: SubscriberId,
    path: PathBuf,
}

impl Loop {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("minivmm-fuzz-metrics-{}", process::id()));
        let _ = fs::remove_file(&path);
        let server = Arc::new(Mutex::new(MetricsServer::bind(&path).expect("the socket can be made")));
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
            server.answer(TEXT, &mut ops);
            if events == 0 {
                return;
            }
        }
    }
}

/// A client that does not wait.
struct Client {
    stream: UnixStream,
    /// What the server took.
    sent: Vec<u8>,
    /// What the server answered.
    answer: Vec<u8>,
}

impl Client {
    fn new(server: &mut Loop) -> Self {
        let stream = UnixStream::connect(&server.path).expect("the server listens");
        stream.set_nonblocking(true).expect("a socket can be set so");
        server.serve();
        Self { stream, sent: Vec::new(), answer: Vec::new() }
    }

    fn send(&mut self, piece: &[u8]) {
        if let Ok(count) = self.stream.write(piece) {
            self.sent.extend_from_slice(&piece[..count]);
        }
    }

    /// Reads what is there. Returns true at the end of the stream.
    fn read(&mut self) -> bool {
        match self.stream.read_to_end(&mut self.answer) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            // The server has closed the connection to a client that sends on and on.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && self.sent.len() > 64 << 10 => true,
            Err(error) => panic!("the connection broke: {error}"),
        }
    }

    /// Sends no more, and reads to the end.
    fn finish(mut self, server: &mut Loop) {
        let _ = self.stream.shutdown(Shutdown::Write);
        for turn in 0.. {
            assert!(turn < 10_000, "the server does not end the stream");
            server.serve();
            if self.read() {
                break;
            }
        }
        let expected = http::judge(&self.sent).map(|verdict| http::answer(verdict, TEXT));
        let is_right = match http::judge(&self.sent) {
            // The server judges a malformed request when it sees the mistake, which can be another one in the whole.
            Some(Verdict::Bad(_)) => self.answer.starts_with(b"HTTP/1.1 400 "),
            _ => self.answer == expected.unwrap_or_default(),
        };
        assert!(is_right, "{:?} for {:?}", self.answer.escape_ascii(), self.sent.escape_ascii());
    }
}

fuzz::target!(
    Start {
        seeds: [
            "\x00\x1bGET /metrics HTTP/1.1\r\nHost\x01\x17GET /metrics HTTP/1.0\r\n\r\x00\x08: a\r\n\r\n\x01\x01\n\x08\x09",
            "\x02\x2bPOST /metrics HTTP/1.1\r\nHost: a\r\n\r\nand more\x0a\x0c\x03\x05GET /\x0f",
            "\x00\x16GET / HTTP/1.1\nHost: a\x03\x01\x16",
        ]
        .map(|script| script.as_bytes().to_vec())
        .into(),
        words: ["GET ", "/metrics", " HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "http://a", "?"].map(str::to_owned).into(),
        ..Start::default()
    },
    |bytes| {
        // A verdict is final.
        if let Some(verdict) = http::judge(bytes) {
            let more = http::judge(&[bytes, b"\r\n\r\nmore"].concat());
            match verdict {
                Verdict::Bad(_) => assert!(matches!(more, Some(Verdict::Bad(_)))),
                _ => assert_eq!(more, Some(verdict)),
            }
        }
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
