//! Devices that come over TLS: from the first byte to a stream that is served like any other.
//!
//! Somebody who connects and says nothing costs what a plain connection costs. With the first byte
//! of a handshake it waits for its turn: of one address so many handshakes are under way at once, and
//! of all addresses so many, so that no address can take every turn. A turn is bounded in time, and so
//! is the wait for it. Signatures, which cost most, are made by a few threads at once, and those who
//! mine come between any two of them.
//!
//! The certificate may be replaced at any time: handshakes that begin later show the new one.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{self, ServerConfig, server::Acceptor},
    server::TlsStream,
};

use super::{
    Translator, TranslatorError, TranslatorEvent, TranslatorSettings, core::Core, device,
    identity::TlsIdentity,
};
use crate::{
    limit::{Admission, prefix},
    settings::threads,
};

/// With which byte a handshake begins: the content type of its first record (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// People are told of one failed handshake in this time; the figures count each.
const TOLD_EVERY_MS: u64 = 1_000;

/// Why there is no encrypted connection with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It speaks Stratum, or anything else that is not TLS.
    Plain,
    /// It did not do its part in time.
    Timeout,
    /// Too many others were before it.
    Crowd,
    /// It is gone.
    Closed,
    /// It does not take our certificate, or has nothing in common with us.
    Refused,
    /// It does not keep to the protocol.
    Protocol,
}

impl Fault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Timeout => "timeout",
            Self::Crowd => "crowd",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

/// A fault, and what people are told of it.
struct Failure {
    fault: Fault,
    text: String,
}

impl Failure {
    fn new(fault: Fault, text: &str) -> Self {
        Self { fault, text: text.to_owned() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => Self {
                fault: Fault::Refused,
                text: format!("the device refuses the certificate, or this TLS: {alert:?}"),
            },
            Some(error) => Self { fault: Fault::Protocol, text: error.to_string() },
            None => Self::new(Fault::Closed, "the device closed within the handshake"),
        }
    }
}

/// All there is to devices that come over TLS.
pub(super) struct Tls {
    config: RwLock<Option<Arc<ServerConfig>>>,
    deadline: Duration,
    turns_of_address: usize,
    turns: Semaphore,
    addresses: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    signers: Semaphore,
    told_ms: AtomicU64,
    handshaking: AtomicUsize,
    handshakes: AtomicU64,
    failures: Mutex<BTreeMap<Fault, u64>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("handshakes", &self.handshakes).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(settings: &TranslatorSettings) -> Self {
        Self {
            config: RwLock::default(),
            deadline: Duration::from_millis(settings.tls_handshake_deadline_ms),
            turns_of_address: settings.tls_handshakes_per_address_max,
            turns: Semaphore::new(settings.tls_handshakes_max),
            addresses: Mutex::default(),
            signers: Semaphore::new((threads(settings.io_threads) / 2).max(1)),
            told_ms: AtomicU64::new(0),
            handshaking: AtomicUsize::new(0),
            handshakes: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    /// Counters and gauges by name.
    pub(super) fn metrics(&self) -> Vec<(String, u128)> {
        let mut all = vec![
            ("tls_handshaking".to_owned(), self.handshaking.load(Ordering::Relaxed) as u128),
            ("tls_handshakes_total".to_owned(), self.handshakes.load(Ordering::Relaxed).into()),
        ];
        for (fault, count) in &*self.failures.lock() {
            all.push((format!("tls_failed_{}_total", fault.as_str()), u128::from(*count)));
        }
        all
    }

    async fn shake_hands(
        &self,
        socket: TcpStream,
        address: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let silent = |_| Failure::new(Fault::Timeout, "the device said nothing");
        match timeout(self.deadline, first_byte(&socket)).await.map_err(silent)?? {
            None => return Err(Failure::new(Fault::Closed, "the device said nothing and closed")),
            Some(HANDSHAKE_RECORD) => {}
            Some(_) => {
                let text = "the device does not speak TLS here: have it call stratum+ssl://, or \
                            the other port";
                return Err(Failure::new(Fault::Plain, text));
            }
        }
        let queue = self.queue(address.ip());
        let crowded = |_| Failure::new(Fault::Crowd, "too many handshakes were before it");
        let _turn = timeout(self.deadline, queue.turn()).await.map_err(crowded)?;
        let late = |_| Failure::new(Fault::Timeout, "the device did not finish the handshake");
        timeout(self.deadline, self.accept(socket)).await.map_err(late)?
    }

    async fn accept(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let config = self.config.read().clone().expect("whoever listens has given a certificate");
        let rest = {
            let _signer = self.signers.acquire().await.expect("it is never closed");
            let rest = hello.into_stream(config);
            // Others have their turn before the next signature is made.
            tokio::task::yield_now().await;
            rest
        };
        Ok(rest.await?)
    }

    fn queue(&self, address: IpAddr) -> Queue<'_> {
        let key = prefix(address);
        let mut addresses = self.addresses.lock();
        let of_address =
            addresses.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.turns_of_address)));
        Queue { tls: self, key, of_address: Some(Arc::clone(of_address)) }
    }

    fn count(&self, core: &Core, address: SocketAddr, failure: Failure) {
        *self.failures.lock().entry(failure.fault).or_default() += 1;
        let now_ms = core.clock.now().mono_ms;
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        let is_due = told_ms == 0 || now_ms >= told_ms + TOLD_EVERY_MS;
        let next = now_ms.max(1);
        let order = Ordering::Relaxed;
        if is_due && self.told_ms.compare_exchange(told_ms, next, order, order).is_ok() {
            let reason = failure.text;
            core.events.push_device(TranslatorEvent::TlsFailed { address, reason });
        }
    }
}

/// The place of one connection among those of its address.
struct Queue<'a> {
    tls: &'a Tls,
    key: IpAddr,
    of_address: Option<Arc<Semaphore>>,
}

/// The right to shake hands; others have it when it is dropped.
struct Turn<'a> {
    tls: &'a Tls,
    _of_address: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Queue<'_> {
    /// Waits until few enough of its own address, and then few enough of all, are before it.
    async fn turn(&self) -> Turn<'_> {
        let of_address = self.of_address.clone().expect("it is kept until the end");
        let of_address = of_address.acquire_owned().await.expect("it is never closed");
        let of_all = self.tls.turns.acquire().await.expect("it is never closed");
        self.tls.handshaking.fetch_add(1, Ordering::Relaxed);
        Turn { tls: self.tls, _of_address: of_address, _of_all: of_all }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.tls.handshaking.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        let mut addresses = self.tls.addresses.lock();
        self.of_address = None;
        // The table's own is the last one.
        if addresses.get(&self.key).is_some_and(|left| Arc::strong_count(left) == 1) {
            addresses.remove(&self.key);
        }
    }
}

/// Waits for the first byte and leaves it where it is; none at the end of the connection.
async fn first_byte(socket: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let length = socket.peek(&mut byte).await?;
    Ok((length > 0).then_some(byte[0]))
}

/// Serves one connection from its acceptance to its end.
async fn serve(
    tls: Arc<Tls>,
    core: Arc<Core>,
    socket: TcpStream,
    address: SocketAddr,
    admission: Admission,
) {
    if !device::is_let_in(&core, &socket, &admission) {
        return;
    }
    // The handshake's own future is in a box, so that its memory goes with it.
    let handshake = Box::pin(tls.shake_hands(socket, address));
    match handshake.await {
        Ok(stream) => {
            tls.handshakes.fetch_add(1, Ordering::Relaxed);
            device::converse(core, stream, address).await;
        }
        Err(failure) => tls.count(&core, address, failure),
    }
    drop(admission);
}

impl Translator {
    /// Starts to accept devices that speak TLS and returns the address; port 0 takes any free one.
    ///
    /// # Errors
    /// `Listen` or `Stopped`.
    pub fn listen_tls(
        &self,
        host: &str,
        port: u16,
        identity: &TlsIdentity,
    ) -> Result<SocketAddr, TranslatorError> {
        self.set_tls_identity(identity);
        let tls = Arc::clone(&self.tls);
        self.listen_with(host, port, move |core, socket, address, admission| {
            serve(Arc::clone(&tls), core, socket, address, admission)
        })
    }

    /// Has handshakes that begin from now on show another certificate.
    pub fn set_tls_identity(&self, identity: &TlsIdentity) {
        *self.tls.config.write() = Some(Arc::clone(&identity.config));
    }
}
