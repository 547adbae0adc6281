//! Streams of the host that devices write to: standard output, standard error, the console log. A thread writes to them, so that
//! neither a device nor the event loop waits for a stream's reader.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use devices::virtio::console::Sink;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::sandbox::{self, Kind};

/// The output that waits for the readers before a device is to hold back, in bytes.
const ROOM: usize = 256 << 10;

/// A stream of the host. Clones write to the same stream. After the first error of a stream its output is dropped; the error is
/// kept for the event loop, as a device cannot handle it.
#[derive(Debug, Clone)]
pub struct Output {
    /// The index of its stream.
    index: usize,
    streams: Arc<Streams>,
}

/// The streams of one thread, which writes to them in the order of the output. Dropping them ends it.
#[derive(Debug)]
struct Streams {
    shared: Arc<Shared>,
    /// None if a [`Reader`] takes the output.
    thread: Option<JoinHandle<()>>,
}

/// The other end of an output that goes to a thread of this process. It reads to the end when the output's last clone is dropped.
/// When the reader is dropped, further output is lost.
#[derive(Debug)]
pub struct Reader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is output for the thread, or it has written some.
    changed: Condvar,
    /// There is room again for a device that held back.
    room: EventFd,
}

#[derive(Debug, Default)]
struct State {
    /// Pieces of output, each with the index of its stream.
    waiting: VecDeque<(usize, Vec<u8>)>,
    /// The bytes that wait, and those that the thread writes now.
    bytes: usize,
    errors: Vec<Option<io::Error>>,
    /// A device holds back.
    is_wanted: bool,
    /// No device can hold back any more: it waits for room.
    is_patient: bool,
    has_ended: bool,
}

impl Output {
    /// An output to `writer`.
    ///
    /// # Errors
    /// If the host refuses an eventfd or a thread.
    pub fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let [output] = Self::to([Box::new(writer)])?;
        Ok(output)
    }

    /// An output to each of `writers`. The order of writes is kept over all of them.
    ///
    /// # Errors
    /// If the host refuses an eventfd or a thread.
    pub fn to<const N: usize>(writers: [Box<dyn Write + Send>; N]) -> io::Result<[Self; N]> {
        let shared = Arc::new(Shared::new(N)?);
        let of_thread = shared.clone();
        let builder = thread::Builder::new().name("output".to_owned());
        let write = move || write(&of_thread, &mut Vec::from(writers));
        let thread = sandbox::start(Kind::Output, None, builder, write)?;
        let streams = Arc::new(Streams { shared, thread: Some(thread) });
        Ok(std::array::from_fn(|index| Self { index, streams: streams.clone() }))
    }

    /// An output that another thread reads.
    ///
    /// # Errors
    /// If the host refuses an eventfd.
    pub fn pipe() -> io::Result<(Self, Reader)> {
        let shared = Arc::new(Shared::new(1)?);
        let reader = Reader(shared.clone());
        Ok((Self { index: 0, streams: Arc::new(Streams { shared, thread: None }) }, reader))
    }

    /// An output that fills a buffer, and that buffer. It is whole after [`finish`](Self::finish).
    ///
    /// # Errors
    /// If the host refuses an eventfd or a thread.
    pub fn buffer() -> io::Result<(Arc<Mutex<Vec<u8>>>, Self)> {
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
                Ok(data.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let buffer = Arc::new(Mutex::default());
        Ok((buffer.clone(), Self::new(Buffer(buffer))?))
    }

    /// Becomes readable when there is room again for a device that was refused some.
    pub fn room_event(&self) -> &EventFd {
        &self.streams.shared.room
    }

    /// The kind and text of the stream's first error, if there was one.
    pub fn error(&self) -> Option<io::Error> {
        let state = self.streams.shared.state();
        state.errors[self.index].as_ref().map(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// From now on [`has_room`](Sink::has_room) waits for room, where the machine has stopped and nobody else waits.
    pub fn be_patient(&self) {
        self.streams.shared.state().is_patient = true;
    }

    /// Waits until all output was written, or lost to an error.
    pub fn finish(&self) {
        let shared = &self.streams.shared;
        let mut state = shared.state();
        while state.bytes > 0 {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let shared = &self.streams.shared;
        let mut state = shared.state();
        if state.errors[self.index].is_none() && !data.is_empty() {
            state.bytes += data.len();
            match state.waiting.back_mut() {
                Some((index, piece)) if *index == self.index => piece.extend_from_slice(data),
                _ => state.waiting.push_back((self.index, data.to_vec())),
            }
            shared.changed.notify_all();
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Output {
    fn has_room(&mut self) -> bool {
        let shared = &self.streams.shared;
        let mut state = shared.state();
        while state.is_patient && state.bytes >= ROOM {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let has_room = state.bytes < ROOM;
        state.is_wanted |= !has_room;
        has_room
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        loop {
            if let Some((_, piece)) = state.waiting.front_mut() {
                let count = piece.len().min(buffer.len());
                buffer[..count].copy_from_slice(&piece[..count]);
                piece.drain(..count);
                if piece.is_empty() {
                    state.waiting.pop_front();
                }
                self.0.taken(&mut state, count);
                return Ok(count);
            }
            if state.has_ended {
                return Ok(0);
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.errors[0] = Some(io::ErrorKind::BrokenPipe.into());
        state.waiting.clear();
        let bytes = state.bytes;
        self.0.taken(&mut state, bytes);
    }
}

impl Shared {
    /// What is shared by the writers of `count` streams and the thread that takes their output.
    fn new(count: usize) -> io::Result<Self> {
        let state = State { errors: (0..count).map(|_| None).collect(), ..State::default() };
        Ok(Self { state: Mutex::new(state), changed: Condvar::new(), room: EventFd::new(EFD_NONBLOCK)? })
    }

    /// Accounts for `count` bytes that wait no more.
    fn taken(&self, state: &mut State, count: usize) {
        state.bytes -= count;
        if state.is_wanted && state.bytes < ROOM {
            state.is_wanted = false;
            // The only error is EAGAIN at a full counter, and then the event is pending.
            let _ = self.room.write(1);
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.state().has_ended = true;
        self.shared.changed.notify_all();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Writes output to `writers`, each with its index, until the end.
fn write(shared: &Shared, writers: &mut [Box<dyn Write + Send>]) {
    let mut state = shared.state();
    loop {
        let Some((index, data)) = state.waiting.pop_front() else {
            if state.has_ended {
                return;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let has_failed = state.errors[index].is_some();
        drop(state);
        let written = if has_failed {
            Ok(())
        } else {
            writers[index].write_all(&data).and_then(|()| writers[index].flush())
        };
        state = shared.state();
        if let Err(error) = written {
            state.errors[index] = Some(error);
            // The event loop looks at the error.
            state.is_wanted = true;
        }
        shared.taken(&mut state, data.len());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn streams_keep_the_order_of_their_output() {
        let (mut reader, writer) = io::pipe().unwrap();
        let [mut stdout, mut stderr] =
            Output::to([Box::new(writer.try_clone().unwrap()), Box::new(writer)]).unwrap();
        for number in 0..1000 {
            write!(stdout, "o{number} ").unwrap();
            write!(stderr, "e{number} ").unwrap();
        }
        drop((stdout, stderr));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let expected: String = (0..1000).map(|number| format!("o{number} e{number} ")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_reader_that_waits_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = Output::new(writer).unwrap();
        let mut written = 0;
        while output.has_room() {
            written += output.write(&[b'x'; 4096]).unwrap();
        }
        assert!((ROOM..ROOM + (1 << 20)).contains(&written), "{written}");
        assert!(output.room_event().read().is_err());
        let mut found = vec![0; written];
        reader.read_exact(&mut found).unwrap();
        let mut tries = 0;
        while output.room_event().read().is_err() {
            tries += 1;
            assert!(tries < 10_000, "no word of room");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(output.has_room());
    }

    #[test]
    fn another_thread_reads_and_holds_nobody_up() {
        let (mut output, mut reader) = Output::pipe().unwrap();
        let mut written = 0;
        while output.has_room() {
            written += output.write(&[b'x'; 4096]).unwrap();
        }
        assert_eq!(written, ROOM);
        assert!(output.room_event().read().is_err());
        let mut found = vec![0; 5000];
        reader.read_exact(&mut found).unwrap();
        assert!(output.room_event().read().is_ok() && output.has_room());
        output.write_all(b"the end").unwrap();
        drop(output);
        found.clear();
        reader.read_to_end(&mut found).unwrap();
        assert!(found.len() == written - 5000 + 7 && found.ends_with(b"the end"));
    }

    #[test]
    fn without_a_reader_output_is_lost() {
        let (mut output, reader) = Output::pipe().unwrap();
        output.write_all(&[b'x'; 2 * ROOM]).unwrap();
        assert!(!output.has_room());
        drop(reader);
        assert!(output.room_event().read().is_ok() && output.has_room());
        output.write_all(b"x").unwrap();
        output.finish();
        assert_eq!(output.error().unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_error_is_kept_and_told() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut output = Output::new(writer).unwrap();
        output.write_all(b"x").unwrap();
        output.finish();
        assert_eq!(output.error().unwrap().kind(), io::ErrorKind::BrokenPipe);
        assert!(output.room_event().read().is_ok());
    }
}
