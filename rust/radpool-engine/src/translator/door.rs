//! The way in for devices that were accepted at somebody else's port.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime,
};

use super::{core::Core, device};
use crate::limit::Admission;

/// Takes devices in for a translator as long as that exists. They are served on its threads, and
/// count at the gate that admitted them until they leave.
#[derive(Clone, Debug)]
pub struct Sv1Door {
    core: Weak<Core>,
    runtime: runtime::Handle,
}

impl Sv1Door {
    pub(super) fn new(core: &Arc<Core>, runtime: runtime::Handle) -> Self {
        Self { core: Arc::downgrade(core), runtime }
    }

    /// Whether the translator still takes devices in.
    pub(crate) fn is_open(&self) -> bool {
        self.core.upgrade().is_some_and(|core| !core.stopping.load(Ordering::Acquire))
    }

    /// Whether a connection to a pool was made from this address, and stands.
    pub(crate) fn has_called_from(&self, address: SocketAddr) -> bool {
        self.core.upgrade().is_some_and(|core| {
            core.lines.read().values().any(|line| line.called_from.get() == Some(&address))
        })
    }

    /// Takes in a device that has said `opening` so far.
    pub(crate) fn enter(
        &self,
        socket: TcpStream,
        opening: Box<[u8]>,
        address: SocketAddr,
        admission: Admission,
    ) -> io::Result<()> {
        let Some(core) = self.core.upgrade() else { return Ok(()) };
        core.counters.accepted.fetch_add(1, Ordering::Relaxed);
        // Whoever accepted it may stop its threads before the translator does.
        let socket = {
            let socket = socket.into_std()?;
            let _context = self.runtime.enter();
            TcpStream::from_std(socket)?
        };
        let stream = Opened { opening, socket };
        self.runtime.spawn(async move {
            device::converse(core, stream, address).await;
            drop(admission);
        });
        Ok(())
    }
}

/// A socket of which the first bytes were read before.
struct Opened {
    opening: Box<[u8]>,
    socket: TcpStream,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.opening.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, bytes);
        }
        let (now, later) = self.opening.split_at(self.opening.len().min(bytes.remaining()));
        bytes.put_slice(now);
        self.opening = later.into();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
