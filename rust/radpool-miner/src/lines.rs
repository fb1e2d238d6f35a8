//! One connection of Stratum V1: a TCP socket that carries lines.

use std::{io, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::{
    ended::Ended,
    link::{WRITE_MAX, disconnected, prepare},
    sv1::LINE_LEN_MAX,
};

const CONNECT_MAX: Duration = Duration::from_secs(10);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: TcpStream,
    begun: Vec<u8>,
}

impl Lines {
    /// Connects, without Nagle's delay.
    ///
    /// # Errors
    /// `Disconnected` when the address cannot be reached in 10 s.
    pub(crate) async fn connect(host: &str, port: u16) -> Result<Self, Ended> {
        let unreachable =
            |error: io::Error| Ended::Disconnected(format!("cannot reach {host}:{port}: {error}"));
        let connected = timeout(CONNECT_MAX, TcpStream::connect((host, port))).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(unreachable)?;
        prepare(&stream).map_err(unreachable)?;
        Ok(Self { stream, begun: Vec::new() })
    }

    /// Waits until bytes have arrived. Nothing is lost when the wait is dropped.
    pub(crate) async fn readable(&self) -> Result<(), Ended> {
        self.stream.readable().await.map_err(disconnected)
    }

    /// Hands every whole line that has arrived to `handle`, without its end.
    ///
    /// # Errors
    /// `Disconnected` at the end of the stream, `Malformed` for a line without end.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), Ended> {
        let length = match self.stream.try_read(scratch) {
            Ok(0) => return Err(Ended::Disconnected("the pool closed the connection".into())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(disconnected(error)),
        };
        let fresh = self.begun.len();
        self.begun.extend_from_slice(&scratch[..length]);
        let Some(end) = self.begun[fresh..].iter().rposition(|byte| *byte == b'\n') else {
            return if self.begun.len() > LINE_LEN_MAX {
                Err(Ended::Malformed(format!("a line of more than {LINE_LEN_MAX} bytes")))
            } else {
                Ok(())
            };
        };
        let end = fresh + end;
        self.begun[..end].split(|byte| *byte == b'\n').for_each(|line| handle(line.trim_ascii()));
        self.begun.drain(..=end);
        Ok(())
    }

    /// Sends lines and empties `lines`.
    ///
    /// # Errors
    /// `Disconnected`, also when the peer takes nothing for 30 s.
    pub(crate) async fn send(&mut self, lines: &mut Vec<u8>) -> Result<(), Ended> {
        if lines.is_empty() {
            return Ok(());
        }
        let sent = timeout(WRITE_MAX, self.stream.write_all(lines)).await;
        lines.clear();
        match sent {
            Ok(written) => written.map_err(disconnected),
            Err(_) => Err(Ended::Disconnected("the pool took no bytes for 30 s".into())),
        }
    }
}
