//! Clients on one side, a server on the other, and a pair of sockets as the stream between.

use std::{
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
};

use super::*;

/// A host's and a lab's relay.
struct Both {
    folder: tempfile::TempDir,
    end: Option<UnixStream>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Both {
    fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let port = |stream: UnixStream| {
            stream.set_nonblocking(true).unwrap();
            File::from(OwnedFd::from(stream))
        };
        let listener = UnixListener::bind(folder.path().join("host")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (end, far) = UnixStream::pair().unwrap();
        let lab = Side::Lab { socket: folder.path().join("lab"), end: far };
        let (ours, theirs) = (port(ours), port(theirs));
        let threads = vec![
            thread::spawn(move || run(Side::Host(listener), ours)),
            thread::spawn(move || run(lab, theirs)),
        ];
        Self { folder, end: Some(end), threads }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.folder.path().join("host")).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.folder.path().join("lab")).unwrap()
    }

    fn end(mut self) {
        self.end = None;
        for thread in self.threads.drain(..) {
            thread.join().unwrap().unwrap();
        }
    }
}

fn line(stream: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn clients_talk_to_the_server_side_by_side() {
    let both = Both::begin();
    let server = both.listen();
    let clients: Vec<UnixStream> = (0..3).map(|_| both.connect()).collect();
    for (mut client, name) in clients.iter().zip(["a", "b", "c"]) {
        writeln!(client, "{name}").unwrap();
    }
    // Each connection has its own client's line; they are answered in another order.
    let mut accepted: Vec<(String, UnixStream)> = (0..3)
        .map(|_| {
            let (stream, _) = server.accept().unwrap();
            (line(&stream), stream)
        })
        .collect();
    accepted.sort_by(|(one, _), (two, _)| two.cmp(one));
    for (said, stream) in &mut accepted {
        writeln!(stream, "for {}", said.trim()).unwrap();
    }
    for (client, name) in clients.iter().zip(["a", "b", "c"]) {
        assert_eq!(line(client), format!("for {name}\n"));
    }
    drop((server, accepted));
    both.end();
}

#[test]
fn a_client_that_came_first_may_speak_last() {
    let both = Both::begin();
    let server = both.listen();
    let (mut first, mut second) = (both.connect(), both.connect());
    for (client, name) in [(&mut second, "second"), (&mut first, "first")] {
        writeln!(client, "{name}").unwrap();
    }
    // Were a connection lost, only this thread would wait for it.
    thread::spawn(move || {
        for stream in server.incoming().take(2) {
            let mut stream = stream.unwrap();
            thread::spawn(move || stream.write_all(line(&stream).as_bytes()).unwrap());
        }
    });
    assert_eq!((line(&first), line(&second)), ("first\n".to_owned(), "second\n".to_owned()));
    both.end();
}

#[test]
fn an_answer_that_is_on_its_way_at_the_end_arrives_whole() {
    let both = Both::begin();
    let server = both.listen();
    let mut client = both.connect();
    client.write_all(b"stop\n").unwrap();
    // The client sends no more, and still gets its answer.
    client.shutdown(Shutdown::Write).unwrap();
    let (mut stream, _) = server.accept().unwrap();
    assert_eq!(line(&stream), "stop\n");
    let long = vec![b'x'; 40 << 20];
    let answer = long.clone();
    let sender = thread::spawn(move || stream.write_all(&answer).unwrap());
    let reader = thread::spawn(move || {
        let mut read = Vec::new();
        client.read_to_end(&mut read).unwrap();
        read
    });
    sender.join().unwrap();
    drop(server);
    both.end();
    assert!(reader.join().unwrap() == long);
}

#[test]
fn without_a_machine_a_client_is_let_go() {
    let both = Both::begin();
    let mut client = both.connect();
    client.write_all(b"status\n").unwrap();
    assert_eq!(line(&client), "");
    both.end();
}

#[test]
fn a_client_that_left_is_gone_for_the_machine_too() {
    let both = Both::begin();
    let server = both.listen();
    let mut client = both.connect();
    client.write_all(b"events\n").unwrap();
    let (mut stream, _) = server.accept().unwrap();
    assert_eq!(line(&stream), "events\n");
    drop(client);
    let begun = Instant::now();
    while stream.write_all(b"event\n").is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the machine still has a client");
        thread::sleep(Duration::from_millis(1));
    }
    drop((server, stream));
    both.end();
}

#[test]
fn a_message_is_taken_when_it_is_whole() {
    let mut received = Vec::new();
    let message = [7u32.to_le_bytes(), 3u32.to_le_bytes()].concat();
    for byte in message.iter().chain(b"ab") {
        received.push(*byte);
        assert_eq!(take_message(&mut received), None);
    }
    received.extend(b"cd");
    assert_eq!(take_message(&mut received), Some((7, b"abc".to_vec())));
    assert_eq!(received, b"d");
}
