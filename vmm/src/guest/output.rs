//! A stream of the host that several devices write to: standard output, standard error, or a test's buffer.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Clones write to the same stream. After the first error the output is dropped; the error is kept for the event loop, as a
/// device cannot handle it.
#[derive(Clone)]
pub struct Output(Arc<Mutex<Inner>>);

struct Inner {
    writer: Box<dyn Write + Send>,
    error: Option<io::Error>,
}

impl Output {
    /// An output that writes to `writer` and flushes after each piece.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Inner { writer: Box::new(writer), error: None })))
    }

    /// An output that fills a buffer, and that buffer.
    pub fn buffer() -> (Arc<Mutex<Vec<u8>>>, Self) {
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
        (buffer.clone(), Self::new(Buffer(buffer)))
    }

    /// The kind and text of the first error, if there was one.
    pub fn error(&self) -> Option<io::Error> {
        self.inner().error.as_ref().map(|error| io::Error::new(error.kind(), error.to_string()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner();
        if inner.error.is_none()
            && let Err(error) = inner.writer.write_all(data).and_then(|()| inner.writer.flush())
        {
            inner.error = Some(error);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
