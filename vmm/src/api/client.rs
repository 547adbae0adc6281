//! A client of a machine's `--api-socket`: sends requests, and reads the lines of the answers.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Answer, Request};

/// Longest answer in bytes: more than any machine sends.
const ANSWER_MAX: usize = 1 << 30;
/// How long the machine has to take a request.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or no machine listens on it.
    #[error("no machine listens on {}: {source}; name the --api-socket of a running machine", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the machine at {} did not answer: {source}; it may have ended", path.display())]
    Connection {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer does not have the form of minivmm's.
    #[error("the program that listens on {} is not minivmm: {source}; name the --api-socket of a machine", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// The mistake.
        source: serde_json::Error,
    },
}

/// A connection to a machine. The machine answers the requests of a connection in their order.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    /// The begin of an answer.
    received: Vec<u8>,
}

impl Client {
    /// Connects to the machine that listens on the socket `path`.
    ///
    /// # Errors
    /// If none does.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(WRITE_LIMIT))?;
            Ok(stream)
        };
        let stream = connect().map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), stream, received: Vec::new() })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let line = serde_json::to_vec(request).map_err(io::Error::from);
        let sent = line.and_then(|mut line| {
            line.push(b'\n');
            self.stream.write_all(&line)
        });
        sent.map_err(|source| self.broken(source))
    }

    /// The line of the next answer; none if it does not come within `patience`.
    ///
    /// # Errors
    /// If the connection broke.
    pub fn line(&mut self, patience: Duration) -> Result<Option<String>, ClientError> {
        let until = Instant::now() + patience;
        let mut seen = 0;
        loop {
            if let Some(end) = self.received[seen..].iter().position(|byte| *byte == b'\n') {
                let line = self.received.drain(..=seen + end).collect();
                let line = String::from_utf8(line).map_err(io::Error::other);
                return line.map(Some).map_err(|source| self.broken(source));
            }
            seen = self.received.len();
            // A limit of zero would be none.
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let mut part = [0; 64 << 10];
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut part));
            match read {
                Ok(count) if count > 0 && seen + count <= ANSWER_MAX => {
                    self.received.extend_from_slice(&part[..count]);
                }
                Ok(_) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() >= until {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// The answer of a line.
    ///
    /// # Errors
    /// If it is not minivmm's.
    pub fn answer(&self, line: &str) -> Result<Answer, ClientError> {
        serde_json::from_str(line).map_err(|source| ClientError::NoAnswer { path: self.path.clone(), source })
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Connection { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A client, and the machine's end of its connection.
    fn connected() -> (Client, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        (Client::connect(&path).unwrap(), listener.accept().unwrap().0)
    }

    #[test]
    fn answers_come_in_parts_and_together() {
        let (mut client, mut machine) = connected();
        let soon = Duration::from_millis(20);
        machine.write_all(b"{\"done\":").unwrap();
        assert_eq!(client.line(soon).unwrap(), None);
        machine.write_all(b"{}}\n{\"error\":\"no\"}\n").unwrap();
        let line = client.line(soon).unwrap().unwrap();
        assert!(matches!(client.answer(&line), Ok(Answer::Done {})));
        let line = client.line(soon).unwrap().unwrap();
        assert!(matches!(client.answer(&line), Ok(Answer::Error(text)) if text == "no"));
        drop(machine);
        let error = client.line(soon).unwrap_err().to_string();
        assert!(error.contains("it may have ended"), "{error}");
        assert!(client.answer("HTTP/1.1 400").unwrap_err().to_string().contains("is not minivmm"));
    }

    #[test]
    fn nobody_listens() {
        let error = Client::connect(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("no machine listens on /nowhere: "), "{error}");
    }
}
