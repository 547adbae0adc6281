//! Frames on a stream socket, each behind its length in four bytes, as passt and QEMU's `-netdev stream` have them.

use std::{
    io::{self, Read as _, Write as _},
    mem,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
};

use super::link::{FRAME_MAX, HEADER, Link, Sent};

/// The length before each frame, big-endian.
const LENGTH: usize = 4;

/// The room for frames in each direction, in bytes. Many frames take one system call.
const ROOM: usize = 256 << 10;

/// The limit in bytes for several frames in one system call. Linux passes up to 32 KiB to the reader as one piece, and the rest of a
/// longer frame as the next piece (net/unix/af_unix.c, unix_stream_sendmsg). Debian 12's passt loses its place in the stream if the
/// rest of a frame comes in two pieces (its tap.c, tap_handler_passt). Frames share a piece only if all of them fit.
const PIECE: usize = 32 << 10;

/// The largest packet, as passt has it: the guest's own segments are then as long as those that offloads would join.
const MTU: u16 = 65520;

/// The socket, and what is on its way.
pub(super) struct Stream {
    socket: UnixStream,
    input: Box<[u8]>,
    /// The place of what came, in `input`.
    begin: usize,
    end: usize,
    /// The socket had less than there was room for, so it is empty.
    is_drained: bool,
    output: Vec<u8>,
    /// How much of the output is written.
    written: usize,
    /// How much of a frame that is written in part is not.
    rest: usize,
}

impl Stream {
    /// The frames of a connected `socket`.
    ///
    /// # Errors
    /// If the socket cannot be used without waiting.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            input: vec![0; ROOM].into(),
            begin: 0,
            end: 0,
            is_drained: false,
            output: Vec::with_capacity(ROOM),
            written: 0,
            rest: 0,
        })
    }

    /// The next whole frame of the input, without its length.
    fn take(&mut self) -> io::Result<Option<&[u8]>> {
        let Some((length, rest)) = self.input[self.begin..self.end].split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > FRAME_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes came, which is too long")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let at = self.begin + LENGTH;
        self.begin = at + length;
        Ok(Some(&self.input[at..at + length]))
    }

    /// The end of the frame that begins at `begin` of the output.
    fn end_of_frame(&self, begin: usize) -> usize {
        let length =
            self.output[begin..].first_chunk::<LENGTH>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        begin + LENGTH + usize::try_from(length).unwrap_or(0)
    }

    /// The end of what the next system call writes: the rest of a frame, or whole frames.
    fn end_of_piece(&self) -> usize {
        if self.rest > 0 {
            return self.written + self.rest;
        }
        let mut end = self.end_of_frame(self.written);
        while end < self.output.len() && self.end_of_frame(end) - self.written <= PIECE {
            end = self.end_of_frame(end);
        }
        end
    }

    /// Notes that the next `count` bytes are written, at most those of a piece.
    fn advance(&mut self, count: usize) {
        let mut end = self.written + self.rest;
        self.written += count;
        while end < self.written {
            end = self.end_of_frame(end);
        }
        self.rest = end - self.written;
    }

    fn read_more(&mut self) -> io::Result<bool> {
        if mem::take(&mut self.is_drained) {
            return Ok(false);
        }
        self.input.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let room = self.input.len() - self.end;
        match self.socket.read(&mut self.input[self.end..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.end += count;
                self.is_drained = count < room;
                Ok(true)
            }
            Err(error) if is_for_later(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Link for Stream {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn features(&self) -> u64 {
        0
    }

    fn mtu(&self) -> u16 {
        MTU
    }

    fn receive(&mut self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            if let Some(data) = self.take()? {
                frame[..HEADER].fill(0);
                frame[HEADER..HEADER + data.len()].copy_from_slice(data);
                return Ok(Some(HEADER + data.len()));
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<Sent> {
        let data = &frame[HEADER..];
        if self.output.len() + LENGTH + data.len() > ROOM {
            self.flush()?;
            if self.output.len() + LENGTH + data.len() > ROOM {
                return Ok(Sent::Later);
            }
        }
        // A frame is shorter than 4 GiB.
        self.output.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
        self.output.extend(data);
        Ok(Sent::Yes)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..self.end_of_piece()]) {
                Ok(count) => self.advance(count),
                Err(error) if is_for_later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.output.drain(..mem::take(&mut self.written));
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        !self.output.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(ours).unwrap(), theirs)
    }

    fn framed(data: &[u8]) -> Vec<u8> {
        [&u32::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let (mut stream, mut peer) = pair();
        let frames: Vec<Vec<u8>> =
            (0..40_u8).map(|number| vec![number; 20 + usize::from(number) * 1600]).collect();
        let bytes = frames.iter().flat_map(|frame| framed(frame)).collect::<Vec<_>>();
        let (mut came, mut frame) = (Vec::new(), vec![0xff; HEADER + FRAME_MAX]);
        for piece in bytes.chunks(70_001) {
            peer.write_all(piece).unwrap();
            for _ in 0..2 {
                while let Some(length) = stream.receive(&mut frame).unwrap() {
                    assert_eq!(frame[..HEADER], [0; HEADER]);
                    came.push(frame[HEADER..length].to_vec());
                }
            }
        }
        assert!(came == frames, "{} frames came", came.len());
        drop(peer);
        let error = (0..2).find_map(|_| stream.receive(&mut frame).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_that_no_frame_has_breaks_the_link() {
        let (mut stream, mut peer) = pair();
        peer.write_all(&u32::MAX.to_be_bytes()).unwrap();
        let error = stream.receive(&mut vec![0; HEADER + FRAME_MAX]).unwrap_err().to_string();
        assert_eq!(error, "a frame of 4294967295 bytes came, which is too long");
    }

    #[test]
    fn a_system_call_writes_whole_frames_or_the_rest_of_one() {
        let (mut stream, _peer) = pair();
        for length in [100, 20_000, 12_000, 800, 60_000, 1500, 1500] {
            assert_eq!(stream.send(&vec![0; HEADER + length]).unwrap(), Sent::Yes);
        }
        let mut pieces = Vec::new();
        // Now and then the socket takes a part only.
        for taken in [usize::MAX, 150, usize::MAX, 36_000, 10_000, usize::MAX, 5, 2000, usize::MAX] {
            let piece = stream.end_of_piece() - stream.written;
            pieces.push(piece);
            stream.advance(piece.min(taken));
        }
        assert_eq!(pieces, [32_112, 804, 654, 60_004, 24_004, 14_004, 3008, 1499, 1504]);
        assert_eq!((stream.written, stream.rest), (stream.output.len(), 0));
    }

    #[test]
    fn a_slow_peer_gets_whole_frames() {
        let (mut stream, mut peer) = pair();
        let frame = [&[9; HEADER][..], &[7; 60_000]].concat();
        let mut sent = 0;
        while stream.send(&frame).unwrap() == Sent::Yes {
            stream.flush().unwrap();
            sent += 1;
        }
        assert!(sent > 3 && stream.is_waiting(), "{sent}");
        let expected = framed(&frame[HEADER..]).repeat(sent);
        let mut came = vec![0; expected.len()];
        let mut at = 0;
        while at < came.len() {
            at += peer.read(&mut came[at..]).unwrap();
            stream.flush().unwrap();
        }
        assert!(came == expected && !stream.is_waiting());
        drop(peer);
        assert_eq!(stream.send(&frame).unwrap(), Sent::Yes);
        assert_eq!(stream.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
