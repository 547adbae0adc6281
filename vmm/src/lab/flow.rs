//! Bytes on their way from one descriptor to another, a step at a time.

use std::{
    io,
    io::Write as _,
    net::Shutdown,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
};

use rustix::event::PollFlags;

/// What a pipe takes at once without waiting, when poll says that it takes something (PIPE_BUF).
const STEP: usize = 4096;

/// Where bytes go.
pub(super) enum Sink<'a> {
    /// A descriptor of ours.
    Descriptor(BorrowedFd<'a>),
    /// A port of the lab's; it is closed after the last byte.
    Port(&'a UnixStream),
    /// Memory: all is kept.
    Memory(Vec<u8>),
}

/// Bytes from one place to another, until the source ends or the mark comes.
pub(super) struct Flow<'a> {
    /// None after the end.
    source: Option<BorrowedFd<'a>>,
    sink: Sink<'a>,
    /// Read, and not yet written.
    pending: Vec<u8>,
    mark: Option<Mark>,
}

impl<'a> Flow<'a> {
    /// `input`, and then all of `source`, into `port`.
    pub(super) fn to_port(input: &[u8], source: Option<BorrowedFd<'a>>, port: &'a UnixStream) -> Self {
        Self { source, sink: Sink::Port(port), pending: input.to_vec(), mark: None }
    }

    /// All of `port` up to `mark` into `sink`.
    pub(super) fn from_port(port: &'a UnixStream, mark: &str, sink: Sink<'a>) -> Self {
        let mark = Some(Mark { mark: mark.into(), held: Vec::new() });
        Self { source: Some(port.as_fd()), sink, pending: Vec::new(), mark }
    }

    /// Whether all bytes are where they belong.
    pub(super) fn is_done(&self) -> bool {
        self.source.is_none() && self.pending.is_empty()
    }

    /// What was kept in memory.
    pub(super) fn into_memory(self) -> Vec<u8> {
        if let Sink::Memory(data) = self.sink { data } else { Vec::new() }
    }

    /// What to wait for before the next [`step`](Self::step), if there is one.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.pending.is_empty() {
            return self.source.map(|source| (source, PollFlags::IN));
        }
        match &self.sink {
            Sink::Descriptor(fd) => Some((*fd, PollFlags::OUT)),
            Sink::Port(port) => Some((port.as_fd(), PollFlags::OUT)),
            Sink::Memory(_) => None,
        }
    }

    /// Reads or writes once; returns what was read.
    pub(super) fn step(&mut self) -> io::Result<Vec<u8>> {
        match self.try_step() {
            // Poll said otherwise, but descriptors that we inherited have other users, too.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Vec::new())
            }
            done => done,
        }
    }

    fn try_step(&mut self) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        if !self.pending.is_empty() {
            let chunk = &self.pending[..self.pending.len().min(STEP)];
            let written = match &mut self.sink {
                Sink::Descriptor(fd) => rustix::io::write(*fd, chunk)?,
                Sink::Port(port) => port.write(chunk)?,
                Sink::Memory(_) => 0,
            };
            self.pending.drain(..written);
        } else if let Some(source) = self.source {
            let mut buffer = vec![0; 1 << 16];
            let count = rustix::io::read(source, &mut buffer)?;
            buffer.truncate(count);
            let ended = match &mut self.mark {
                _ if count == 0 => true,
                None => {
                    self.pending.extend(&buffer);
                    false
                }
                Some(mark) => mark.pass(&buffer, &mut self.pending),
            };
            if ended {
                self.source = None;
            }
            if let Sink::Memory(data) = &mut self.sink {
                data.append(&mut self.pending);
            }
            read = buffer;
        }
        if self.is_done() {
            self.close();
        }
        Ok(read)
    }

    /// Tells a port that nothing more comes.
    pub(super) fn close(&mut self) {
        self.source = None;
        self.pending.clear();
        if let Sink::Port(port) = &self.sink {
            // It fails only if the emulator is gone, which is noticed elsewhere. Our end stays open for reading:
            // closing it whole could overtake what was written.
            let _ = port.shutdown(Shutdown::Write);
        }
    }
}

/// Finds the mark that ends a stream.
struct Mark {
    mark: Vec<u8>,
    /// The end of the data so far, if it may begin the mark.
    held: Vec<u8>,
}

impl Mark {
    /// Appends to `out` what of `bytes` comes before the mark for sure; true if the mark has come.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        self.held.extend(bytes);
        let found = self.held.windows(self.mark.len()).position(|window| window == self.mark);
        let sure = found.unwrap_or_else(|| {
            let longest = self.held.len().min(self.mark.len() - 1);
            let kept = (0..=longest).rev().find(|&kept| self.held.ends_with(&self.mark[..kept]));
            self.held.len() - kept.unwrap_or(0)
        });
        out.extend(self.held.drain(..sure));
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(flow: &mut Flow) {
        while !flow.is_done() {
            flow.step().unwrap();
        }
    }

    #[test]
    fn the_mark_is_found_wherever_reads_cut_it() {
        let stream = b"aab abab abc abcd\0\xffabcdE rest";
        for cut in 1..stream.len() {
            let mut mark = Mark { mark: b"abcdE".to_vec(), held: Vec::new() };
            let mut out = Vec::new();
            let ended: Vec<bool> = stream.chunks(cut).map(|chunk| mark.pass(chunk, &mut out)).collect();
            assert!(ended.contains(&true), "{cut}");
            assert!(out.starts_with(b"aab abab abc abcd\0\xff"), "{cut}");
        }
    }

    #[test]
    fn what_cannot_be_the_mark_passes_at_once() {
        let mut mark = Mark { mark: b"abcdE".to_vec(), held: Vec::new() };
        let mut out = Vec::new();
        assert!(!mark.pass(b"prompt> ", &mut out));
        assert_eq!(out, b"prompt> ");
    }

    #[test]
    fn input_comes_before_the_source_and_then_the_port_ends() {
        let (source, writer) = io::pipe().unwrap();
        (&writer).write_all(b"source").unwrap();
        drop(writer);
        let (port, far) = UnixStream::pair().unwrap();
        let input = vec![b'x'; 3 * STEP + 1];
        let mut flow = Flow::to_port(&input, Some(source.as_fd()), &port);
        assert_eq!(flow.interest().unwrap().1, PollFlags::OUT);
        run(&mut flow);
        let mut received = Vec::new();
        io::Read::read_to_end(&mut &far, &mut received).unwrap();
        assert_eq!(received, [&input[..], b"source"].concat());
    }

    #[test]
    fn output_ends_with_the_mark_and_not_with_what_follows() {
        let (port, far) = UnixStream::pair().unwrap();
        (&far).write_all(b"one\xfftwoMARKthree").unwrap();
        let mut flow = Flow::from_port(&port, "MARK", Sink::Memory(Vec::new()));
        run(&mut flow);
        assert_eq!(flow.into_memory(), b"one\xfftwo");
    }
}
