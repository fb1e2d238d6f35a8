//! What waits for a socket that takes no more.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use radpool_units::Now;
use tokio::{io::AsyncWrite, net::TcpStream};

/// Sealed bytes that the socket did not take. It holds memory only while there are any.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// What is waiting, from `written` on.
    bytes: Vec<u8>,
    written: usize,
    stalled_since_ms: Option<u64>,
}

impl Outbound {
    /// How many bytes are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Since when the socket takes nothing of what is waiting.
    pub(crate) fn stalled_since_ms(&self) -> Option<u64> {
        self.stalled_since_ms
    }

    /// Sends what is waiting, then `fresh`, and keeps what the socket does not take. The task is
    /// woken when it takes more. Returns how many bytes went out.
    pub(crate) fn poll_send(
        &mut self,
        socket: &mut TcpStream,
        context: &mut Context<'_>,
        fresh: &mut Vec<u8>,
        now: Now,
    ) -> io::Result<u64> {
        let mut sent = 0;
        if self.bytes.is_empty() {
            // The usual way: straight from the thread's scratch to the socket.
            sent = send(socket, context, fresh)?;
            self.bytes.extend_from_slice(&fresh[sent..]);
        } else {
            self.bytes.append(fresh);
            let more = send(socket, context, &self.bytes[self.written..])?;
            self.written += more;
            sent += more;
        }
        self.tidy_up();
        match self.waiting() {
            0 => self.stalled_since_ms = None,
            _ if sent > 0 => self.stalled_since_ms = Some(now.mono_ms),
            _ => {
                self.stalled_since_ms.get_or_insert(now.mono_ms);
            }
        }
        Ok(sent as u64)
    }

    fn tidy_up(&mut self) {
        if self.waiting() == 0 {
            (self.bytes, self.written) = (Vec::new(), 0);
        } else if self.written > self.waiting() {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

/// Writes until the socket takes no more; returns how many bytes it took.
fn send(socket: &mut TcpStream, context: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match Pin::new(&mut *socket).poll_write(context, &bytes[sent..]) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(length)) => sent += length,
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
    Ok(sent)
}
