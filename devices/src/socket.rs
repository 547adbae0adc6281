//! A listening Unix socket for this user alone, whose file goes when its owner goes.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};

/// Why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A program listens on it.
    #[error("a program already listens on the {what} {}; stop that machine, or choose another path", path.display())]
    InUse {
        /// What the socket is for.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The path is a file or a folder.
    #[error("the {what} {} exists and is not a socket; choose another path", path.display())]
    NotASocket {
        /// What the socket is for.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// The host refused it.
    #[error("the {what} {} cannot be created: {source}; choose a path of at most 107 bytes in a writable folder", path.display())]
    Host {
        /// What the socket is for.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket, which never waits. Dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    /// The socket.
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: another program may replace the file.
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket `path`, for this user alone; messages name it by `what`, as in `API socket`. A socket on which nobody listens any more is replaced.
    ///
    /// # Errors
    /// If the path is taken, or the host refuses it.
    pub fn bind(what: &'static str, path: &Path) -> Result<Self, SocketError> {
        let host = |source| SocketError::Host { what, path: path.to_owned(), source };
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(SocketError::NotASocket { what, path: path.to_owned() });
            }
            match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(_) => return Err(SocketError::InUse { what, path: path.to_owned() }),
                Err(source) => return Err(host(source)),
            }
            fs::remove_file(path).map_err(host)?;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // The file gets the socket's mode when it is made (net/unix/af_unix.c, unix_bind_bsd).
            fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
            bind(&socket, &SocketAddrUnix::new(path)?)?;
            listen(&socket, 16)?;
            Ok(UnixListener::from(socket))
        };
        let listener = make().map_err(|errno: rustix::io::Errno| host(errno.into()))?;
        let made = fs::symlink_metadata(path).map_err(host)?;
        Ok(Self { listener, path: path.to_owned(), file: (made.dev(), made.ino()) })
    }

    /// The next client, whose stream never waits; none if there is no client, or if it has gone already.
    ///
    /// # Errors
    /// The host can take no more clients.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            // A stream that cannot be set so has broken.
            Ok((stream, _)) => Ok(stream.set_nonblocking(true).is_ok().then_some(stream)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
