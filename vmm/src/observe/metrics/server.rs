//! The socket of `--metrics unix:FILE`, which the event loop serves: one request and its answer on each connection. No client can make
//! it wait or grow.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use devices::socket::SocketError;
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::http::{self, REQUEST_MAX, Verdict};
use crate::clients::{Client, Clients, may_go_on};

/// The most bytes that are read from a client that has its answer, until it closes the connection. If they stayed unread, the close would
/// break the connection before the client has read the answer.
const REST_MAX: usize = 64 << 10;

/// What a client is at.
#[derive(Debug)]
enum Phase {
    /// It sends its request, of which these bytes have come.
    Asks(Vec<u8>),
    /// The request is whole, and waits for its answer.
    Waits(Verdict),
    /// It has not taken these bytes of the answer.
    Takes(Vec<u8>),
    /// It has the answer, and may send this number of bytes more.
    Leaves(usize),
}

#[derive(Debug)]
struct Scraper {
    stream: UnixStream,
    phase: Phase,
    /// When it last sent something.
    heard: Instant,
}

impl Client for Scraper {
    fn new(stream: UnixStream) -> Self {
        let request = Vec::with_capacity(REQUEST_MAX / 16);
        Self { stream, phase: Phase::Asks(request), heard: Instant::now() }
    }

    fn stream(&self) -> &UnixStream {
        &self.stream
    }

    fn interest(&self) -> EventSet {
        match self.phase {
            Phase::Asks(_) | Phase::Leaves(_) => EventSet::IN,
            Phase::Waits(_) => EventSet::empty(),
            Phase::Takes(_) => EventSet::OUT,
        }
    }

    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        let count = match self.stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return may_go_on(&error),
        };
        self.heard = Instant::now();
        match &mut self.phase {
            Phase::Asks(request) => {
                request.extend_from_slice(&piece[..count]);
                if let Some(verdict) = http::judge(request) {
                    self.phase = Phase::Waits(verdict);
                }
                true
            }
            Phase::Leaves(left) => {
                *left = left.saturating_sub(count);
                *left > 0
            }
            Phase::Waits(_) | Phase::Takes(_) => true,
        }
    }

    fn write(&mut self) -> bool {
        let Phase::Takes(answer) = &mut self.phase else { return true };
        while !answer.is_empty() {
            match self.stream.write(answer) {
                Ok(count) => drop(answer.drain(..count)),
                Err(error) => return may_go_on(&error),
            }
        }
        self.phase = Phase::Leaves(REST_MAX);
        self.stream.shutdown(Shutdown::Write).is_ok()
    }

    /// All are alike: the one that was silent for the longest time gives way.
    fn claim(&self) -> (bool, Instant) {
        (false, self.heard)
    }
}

/// The socket and its clients. Dropping it removes the file.
#[derive(Debug)]
pub struct MetricsServer(Clients<Scraper>);

impl MetricsServer {
    /// Creates the socket, for this user alone. It replaces a socket that has no listener.
    ///
    /// # Errors
    /// If the path is taken, or the host refuses it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        Ok(Self(Clients::bind("metrics socket", path)?))
    }

    /// The folder of the socket, from which it is removed at the end.
    pub fn folder(&self) -> &Path {
        self.0.folder()
    }

    /// Whether a client waits for the metrics.
    pub fn is_asked(&self) -> bool {
        self.0.all().iter().any(|client| matches!(client.phase, Phase::Waits(Verdict::Metrics)))
    }

    /// Answers all requests that have come; those for the metrics by `text`.
    pub fn answer(&mut self, text: &str, ops: &mut EventOps<'_>) {
        for index in (0..self.0.all().len()).rev() {
            let client = &mut self.0.all_mut()[index];
            if let Phase::Waits(verdict) = client.phase {
                client.phase = Phase::Takes(http::answer(verdict, text));
                self.0.settle(index, ops);
            }
        }
    }
}

impl MutEventSubscriber for MetricsServer {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        self.0.process(events, ops);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        self.0.listen(ops);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use event_manager::{EventManager, SubscriberId, SubscriberOps};

    use super::*;
    use crate::clients::CLIENTS_MAX;

    /// A server in an event loop that a test turns by hand.
    struct Loop {
        manager: EventManager<Arc<Mutex<MetricsServer>>>,
        server: Arc<Mutex<MetricsServer>>,
        id: SubscriberId,
        path: PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Loop {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("metrics");
            let server = Arc::new(Mutex::new(MetricsServer::bind(&path).unwrap()));
            let mut manager = EventManager::new().unwrap();
            let id = manager.add_subscriber(server.clone());
            Self { manager, server, id, path, _folder: folder }
        }

        fn connect(&mut self) -> UnixStream {
            let stream = UnixStream::connect(&self.path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            self.serve("");
            stream
        }

        /// Handles all events and requests.
        fn serve(&mut self, text: &str) {
            for turn in 0.. {
                assert!(turn < 100_000, "the loop spins");
                let events = self.manager.run_with_timeout(0).unwrap();
                let mut ops = self.manager.event_ops(self.id).unwrap();
                self.server.lock().unwrap().answer(text, &mut ops);
                if events == 0 {
                    return;
                }
            }
        }

        fn clients(&self) -> usize {
            self.server.lock().unwrap().0.all().len()
        }
    }

    fn read(mut stream: &UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[test]
    fn a_request_in_pieces_is_answered_and_the_connection_closed() {
        let mut server = Loop::new();
        let mut client = server.connect();
        for byte in REQUEST {
            client.write_all(&[*byte]).unwrap();
            server.serve("a 1\n");
        }
        let answer = read(&client);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\na 1\n"), "{answer}");
        assert_eq!(server.clients(), 1);
        drop(client);
        server.serve("");
        assert_eq!(server.clients(), 0);
    }

    #[test]
    fn what_follows_a_request_does_not_break_its_answer() {
        let mut server = Loop::new();
        let mut client = server.connect();
        let body = [b'x'; 5000];
        let head = format!("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(&[head.as_bytes(), &body, REQUEST].concat()).unwrap();
        server.serve("");
        let answer = read(&client);
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
        // Without end it is let go.
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = client.write(&body) {
            sent += count;
            assert!(sent < 1 << 20, "there is no end to what is taken");
            server.serve("");
        }
        assert_eq!(server.clients(), 0);
    }

    #[test]
    fn who_says_too_much_or_nothing_harms_nobody() {
        let mut server = Loop::new();
        let mut endless = server.connect();
        endless.write_all(&[b'x'; 2 * REQUEST_MAX]).unwrap();
        let silent: Vec<_> = (0..CLIENTS_MAX + 3).map(|_| server.connect()).collect();
        assert_eq!(server.clients(), CLIENTS_MAX);
        assert!(read(&endless).starts_with("HTTP/1.1 400 "));
        // One that does not take its answer.
        let mut deaf = server.connect();
        deaf.write_all(REQUEST).unwrap();
        server.serve(&"a 1\n".repeat(1 << 16));
        let mut client = server.connect();
        client.write_all(REQUEST).unwrap();
        server.serve("b 1\n");
        assert!(read(&client).ends_with("\r\n\r\nb 1\n"));
        drop((silent, deaf, client));
        server.serve("");
        assert_eq!(server.clients(), 0);
    }
}
