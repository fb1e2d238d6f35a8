//! Accepts connections and takes them through the handshake.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use radpool_wire::noise::{ACT1_LEN, Opener, Responder, Sealer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};

use crate::{core::Core, limit::Admission, link::Link};

/// Connections that the system completes ahead of us: a reconnecting crowd comes within a second.
const BACKLOG: u32 = 4096;

/// How long to leave new connections to the backlog when the system has no descriptor or memory.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may be silent on the network before the system asks whether it still exists.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long sent bytes may stay without the network's receipt: a peer that lost power is gone then.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(120);

/// Binds the first address that `host` stands for.
pub(crate) fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let address = (host, port).to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("the name stands for no address"))?;
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the task is cancelled.
pub(crate) async fn accept(core: Arc<Core>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                core.counters.connections_accepted.fetch_add(1, Ordering::Relaxed);
                match core.gate.admit(peer, core.clock.mono_ns()) {
                    Ok(admission) => {
                        tokio::spawn(serve(Arc::clone(&core), socket, peer, admission));
                    }
                    Err(refusal) => core.counters.count_refusal(refusal),
                }
            }
            Err(error) if is_exhausted(&error) => {
                core.counters.accept_pauses.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            // The connection was gone before it was accepted.
            Err(_) => {
                core.counters.accept_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Whether the system is short of what a connection needs.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| short.contains(&code))
}

/// Serves one connection from its acceptance to its end. Until the handshake is done it has no slot
/// and no machine, and Python never hears of it.
async fn serve(core: Arc<Core>, socket: TcpStream, peer: SocketAddr, admission: Admission) {
    // The handshake's own future is in a box, so that its memory goes with it.
    let handshake = Box::pin(shake_hands(&core, socket, &admission));
    let Some((socket, halves)) = handshake.await else {
        return;
    };
    let seat = core.registry.seat();
    Link::new(core, seat, socket, peer, halves).await;
    drop(admission);
}

async fn shake_hands(
    core: &Core,
    mut socket: TcpStream,
    admission: &Admission,
) -> Option<(TcpStream, (Sealer, Opener))> {
    let limit = Duration::from_millis(core.settings.handshake_deadline_ms);
    let deadline = Instant::now() + limit;
    let result = tokio::time::timeout_at(deadline, respond(core, &mut socket, admission)).await;
    match result {
        Ok(Ok(Some(halves))) => {
            core.counters.handshakes.fetch_add(1, Ordering::Relaxed);
            Some((socket, halves))
        }
        Ok(Ok(None)) => None,
        Ok(Err(_)) | Err(_) => {
            core.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// Answers the handshake, or returns `None` when its address asks for too many.
async fn respond(
    core: &Core,
    socket: &mut TcpStream,
    admission: &Admission,
) -> io::Result<Option<(Sealer, Opener)>> {
    prepare(socket)?;
    let mut act1 = [0; ACT1_LEN];
    socket.read_exact(&mut act1).await?;
    match admission.book_handshake(core.clock.mono_ns()) {
        Ok(Duration::ZERO) => {}
        Ok(delay) => {
            core.counters.handshakes_delayed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
        }
        Err(refusal) => {
            core.counters.count_refusal(refusal);
            return Ok(None);
        }
    }
    let identity = Arc::clone(&core.identity.read());
    let mut random = [[0; 32]; 2];
    for bytes in &mut random {
        getrandom::fill(bytes)?;
    }
    let [ephemeral_secret, aux] = random;
    let (act2, sealer, opener) =
        Responder::respond(&identity, &act1, ephemeral_secret, aux).map_err(io::Error::other)?;
    socket.write_all(&act2).await?;
    Ok(Some((sealer, opener)))
}

pub(crate) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(RECEIPT_TIMEOUT))
}
