//! Accepts connections and takes them through the handshake.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use radpool_sv1::{Caller, OPENING_LEN};
use radpool_wire::noise::{Opener, Responder, Sealer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};

use crate::{Sv1Door, core::Core, limit::Admission, link::Link};

/// Connections that the system completes ahead of us: a reconnecting crowd comes within a second.
const BACKLOG: u32 = 4096;

/// How long to leave new connections to the backlog when the system has no descriptor or memory.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// How long a peer may be silent on the network before the system asks whether it still exists.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long sent bytes may stay without the network's receipt: a peer that lost power is gone then.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(120);

/// What a device hears that speaks Stratum V1 where nobody does; firmware shows it in its log.
const SV1_GOODBYE: &[u8] = b"{\"id\":null,\"method\":\"client.show_message\",\
\"params\":[\"This port takes Stratum V2 only.\"]}\n";

/// How long it may take to hear that.
const SV1_GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Who has called, once that is known.
enum Visitor {
    /// An SV2 client behind its handshake.
    Sv2((Sealer, Opener)),
    /// An SV1 device, and what it has said.
    Sv1(Box<[u8]>),
}

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
async fn serve(core: Arc<Core>, mut socket: TcpStream, peer: SocketAddr, admission: Admission) {
    // What is over before the link begins has a future in a box, so that its memory goes with it.
    match Box::pin(welcome(&core, &mut socket, &admission)).await {
        Some(Visitor::Sv2(halves)) => {
            let seat = core.registry.seat();
            Link::new(core, seat, socket, peer, halves).await;
            drop(admission);
        }
        Some(Visitor::Sv1(opening)) => {
            Box::pin(take_in(core, socket, opening, peer, admission)).await;
        }
        None => {}
    }
}

async fn welcome(core: &Core, socket: &mut TcpStream, admission: &Admission) -> Option<Visitor> {
    let limit = Duration::from_millis(core.settings.handshake_deadline_ms);
    let deadline = Instant::now() + limit;
    let visitor = tokio::time::timeout_at(deadline, greet(core, socket, admission)).await;
    let Ok(Ok(visitor)) = visitor else {
        core.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    if matches!(visitor, Some(Visitor::Sv2(_))) {
        core.counters.handshakes.fetch_add(1, Ordering::Relaxed);
    }
    visitor
}

/// Hears who calls and answers a handshake; `None` for whose address asks for too much.
async fn greet(
    core: &Core,
    socket: &mut TcpStream,
    admission: &Admission,
) -> io::Result<Option<Visitor>> {
    prepare(socket)?;
    let mut opening = [0; OPENING_LEN];
    let (caller, length) = hear(socket, &mut opening).await?;
    if !wait_for_turn(core, admission).await {
        return Ok(None);
    }
    Ok(Some(match caller {
        Caller::Sv1 => Visitor::Sv1(opening[..length].into()),
        Caller::Sv2 => Visitor::Sv2(respond(core, socket, &opening).await?),
    }))
}

/// Reads until it is known who calls: all of a handshake's first message, or as much of a line as
/// that takes.
async fn hear(
    socket: &mut TcpStream,
    opening: &mut [u8; OPENING_LEN],
) -> io::Result<(Caller, usize)> {
    let mut length = 0;
    loop {
        match socket.read(&mut opening[length..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
        match Caller::recognise(&opening[..length]) {
            Some(Caller::Sv2) if length < OPENING_LEN => {
                socket.read_exact(&mut opening[length..]).await?;
                return Ok((Caller::Sv2, OPENING_LEN));
            }
            Some(caller) => return Ok((caller, length)),
            None => {}
        }
    }
}

/// Waits until it may be answered; false when its address asks for too much.
async fn wait_for_turn(core: &Core, admission: &Admission) -> bool {
    match admission.book_handshake(core.clock.mono_ns()) {
        Ok(Duration::ZERO) => true,
        Ok(delay) => {
            core.counters.handshakes_delayed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
            true
        }
        Err(refusal) => {
            core.counters.count_refusal(refusal);
            false
        }
    }
}

/// Answers the handshake.
async fn respond(
    core: &Core,
    socket: &mut TcpStream,
    act1: &[u8; OPENING_LEN],
) -> io::Result<(Sealer, Opener)> {
    let identity = Arc::clone(&core.identity.read());
    let mut random = [[0; 32]; 2];
    for bytes in &mut random {
        getrandom::fill(bytes)?;
    }
    let [ephemeral_secret, aux] = random;
    let (act2, sealer, opener) =
        Responder::respond(&identity, act1, ephemeral_secret, aux).map_err(io::Error::other)?;
    socket.write_all(&act2).await?;
    Ok((sealer, opener))
}

/// Leads an SV1 device to the translator, or says goodbye to it where there is none.
async fn take_in(
    core: Arc<Core>,
    mut socket: TcpStream,
    opening: Box<[u8]>,
    peer: SocketAddr,
    admission: Admission,
) {
    let door = core.sv1.read().clone();
    if let Some(door) = door.filter(Sv1Door::is_open) {
        core.counters.sv1_taken_in.fetch_add(1, Ordering::Relaxed);
        // A socket that the system does not want to move is closed.
        let _ = door.enter(socket, opening, peer, admission);
        return;
    }
    core.count_sv1_turned_away(peer);
    let _ = tokio::time::timeout(SV1_GOODBYE_TIMEOUT, async {
        socket.write_all(SV1_GOODBYE).await?;
        socket.shutdown().await?;
        // Closing a socket with unread input would reset it, and take the goodbye with it.
        while socket.read(&mut [0; 512]).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

pub(crate) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(RECEIPT_TIMEOUT))
}
