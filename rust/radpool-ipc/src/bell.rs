//! Wakes the one consumer through a file descriptor, once per visit.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
};

/// A pair of sockets: one end is written to, the other becomes readable.
#[derive(Debug)]
pub(crate) struct Bell {
    button: UnixStream,
    clapper: UnixStream,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (button, clapper) = UnixStream::pair()?;
        button.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        Ok(Self { button, clapper })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.clapper.as_raw_fd()
    }

    /// Makes the descriptor readable.
    pub(crate) fn ring(&self) {
        // A full socket is readable already.
        let _ = (&self.button).write(&[1]);
    }

    /// Makes the descriptor unreadable; to be called before the consumer looks.
    pub(crate) fn hush(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.clapper).read(&mut bytes), Ok(len) if len == bytes.len()) {}
    }
}
