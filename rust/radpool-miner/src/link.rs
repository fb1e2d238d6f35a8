//! One encrypted connection: a TCP socket, the Noise handshake and whole frames over it.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use radpool_wire::{
    frame::FrameHeader,
    keys::AuthorityPublicKey,
    noise::{ACT2_LEN, HandshakeError, Initiator, Opener, Sealer},
    reader::{FrameReader, ReadError},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{client::Client, ended::Ended};

/// Connecting and the handshake together may take this long.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a pool may be silent on the network before the system asks whether it still exists.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long sent bytes may stay without the network's receipt: a pool that lost power is gone then.
const RECEIPT_MAX: Duration = Duration::from_secs(20);
/// A peer that takes nothing for this long is gone.
pub(crate) const WRITE_MAX: Duration = Duration::from_secs(30);

/// An open connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    reader: FrameReader,
    sealed: Vec<u8>,
}

impl Link {
    /// Connects, without Nagle's delay, and shakes hands.
    ///
    /// # Errors
    /// `Disconnected` when the address cannot be reached in 10 s, `Untrusted` when whoever answers
    /// is not certified by `authority`. Without an authority anybody is accepted.
    pub async fn connect(
        host: &str,
        port: u16,
        authority: Option<&AuthorityPublicKey>,
    ) -> Result<Self, Ended> {
        match timeout(CONNECT_MAX, Self::connect_unbounded(host, port, authority)).await {
            Ok(result) => result,
            Err(_) => Err(Ended::Disconnected(format!(
                "{host}:{port} did not answer the handshake within 10 s: is it a Stratum V2 port?"
            ))),
        }
    }

    /// This end's address; `None` when the connection is gone already.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    async fn connect_unbounded(
        host: &str,
        port: u16,
        authority: Option<&AuthorityPublicKey>,
    ) -> Result<Self, Ended> {
        let unreachable =
            |error: io::Error| Ended::Disconnected(format!("cannot reach {host}:{port}: {error}"));
        let mut stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        prepare(&stream).map_err(unreachable)?;
        let (initiator, act1) = Initiator::new(random()?, random()?).map_err(untrusted)?;
        let lost = |error: io::Error| {
            Ended::Disconnected(format!(
                "{host}:{port} closed the connection during the handshake: {error}"
            ))
        };
        stream.write_all(&act1).await.map_err(lost)?;
        let mut act2 = [0; ACT2_LEN];
        stream.read_exact(&mut act2).await.map_err(lost)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_s = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let (sealer, opener) = initiator.finish(&act2, authority, unix_s).map_err(untrusted)?;
        Ok(Self { stream, sealer, opener, reader: FrameReader::new(), sealed: Vec::new() })
    }

    /// Waits until bytes have arrived. Nothing is lost when the wait is dropped.
    ///
    /// # Errors
    /// `Disconnected`.
    pub async fn readable(&self) -> Result<(), Ended> {
        self.stream.readable().await.map_err(disconnected)
    }

    /// Hands every frame that has arrived in full to `handle`; reads as long as `scratch` is filled.
    ///
    /// # Errors
    /// `Disconnected` at the end of the stream, `Oversized`, `Untrusted` when bytes were altered.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        mut handle: impl FnMut(FrameHeader, &mut [u8]),
    ) -> Result<(), Ended> {
        loop {
            let length = match self.stream.try_read(scratch) {
                Ok(0) => {
                    return Err(Ended::Disconnected("the pool closed the connection".into()));
                }
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(disconnected(error)),
            };
            self.reader
                .feed(&mut scratch[..length], &mut self.opener, Client::check_frame, &mut handle)
                .map_err(|error| match error {
                    ReadError::Refused(ended) => ended,
                    ReadError::Open(error) => Ended::Disconnected(error.to_string()),
                })?;
            if length < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Sends plain frames and empties `frames`.
    ///
    /// # Errors
    /// `Disconnected`, also when the peer takes nothing for 30 s.
    pub async fn send(&mut self, frames: &mut Vec<u8>) -> Result<(), Ended> {
        if frames.is_empty() {
            return Ok(());
        }
        self.sealed.clear();
        let sealed = self.sealer.seal_frames(frames, &mut self.sealed);
        frames.clear();
        sealed.map_err(|error| Ended::Disconnected(error.to_string()))?;
        match timeout(WRITE_MAX, self.stream.write_all(&self.sealed)).await {
            Ok(written) => written.map_err(disconnected),
            Err(_) => Err(Ended::Disconnected("the pool took no bytes for 30 s".into())),
        }
    }

    /// Says that nothing more comes from this side.
    pub async fn shut_down(&mut self) {
        // The peer may have gone first: then there is nobody to tell.
        let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }
}

pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(RECEIPT_MAX))
}

fn random() -> Result<[u8; 32], Ended> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Ended::Disconnected(format!("no randomness from the system: {error}")))?;
    Ok(bytes)
}

pub(crate) fn disconnected(error: io::Error) -> Ended {
    Ended::Disconnected(format!("the connection broke: {error}"))
}

fn untrusted(error: HandshakeError) -> Ended {
    Ended::Untrusted(error.to_string())
}
