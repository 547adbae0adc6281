//! The file of `--api-socket`: a listening Unix socket for this user alone, which goes when its owner goes.

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

use super::SocketError;
use crate::guest::whole_file::folder_of;

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
    /// Makes the socket, for this user alone. A socket on which nobody listens any more is replaced.
    ///
    /// # Errors
    /// If the path is taken, or the host refuses it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let host = |source| SocketError::Host { path: path.to_owned(), source };
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
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

    /// The folder of its file.
    pub fn folder(&self) -> &Path {
        folder_of(&self.path)
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
