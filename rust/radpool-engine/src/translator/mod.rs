//! The translator's sockets: SV1 devices on one side, pools on the other, on threads of their own.
//!
//! Each device is one task and each pool is one; they exchange work and shares through bounded
//! queues, and nobody else is on a share's way. Which pool is mined for is decided by the owner.

mod core;
mod device;
mod door;
mod event;
mod identity;
mod settings;
mod tls;
mod upstream;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::RawFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use radpool_mining::{SeenLimits, SeenShares};
use radpool_sv1::{DeviceFigures, Feed, Refusal};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Notify, mpsc},
    task::AbortHandle,
};

use self::{
    core::{Core, Line, Order},
    tls::Tls,
};
use crate::{limit::Admission, listener, settings::threads};

pub use door::Sv1Door;
pub use event::TranslatorEvent;
pub use identity::{TlsCertificate, TlsIdentity, TlsIdentityError};
pub use settings::{TranslatorSettings, TranslatorSettingsError};
pub use upstream::UpstreamPlace;

/// Orders that wait for a pool's task; then devices are not read.
const ORDERS_MAX: usize = 8_192;
/// Connections to pools at once: one in use, one tried and those that are being left, for each of a
/// thousand workers and a wallet of its own.
const LINES_MAX: usize = 4_096;
/// Tips whose shares are remembered.
const SEEN_TIPS: u32 = 3;
const SEEN_EXPECTED: usize = 1_024;
const STOP_LOOK: Duration = Duration::from_millis(2);
const THREADS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a translator cannot do.
#[derive(Debug, Error)]
pub enum TranslatorError {
    #[error(transparent)]
    Settings(#[from] TranslatorSettingsError),
    #[error("the system gives no {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error("cannot listen on {host}:{port}: {source}")]
    Listen { host: String, port: u16, source: std::io::Error },
    #[error("the translator has stopped")]
    Stopped,
    #[error("{LINES_MAX} connections to pools are open already: disconnect one first")]
    TooManyUpstreams,
    #[error("there is no upstream {0}: it has ended, or never was")]
    NoUpstream(u64),
}

/// A device at one moment.
#[derive(Clone, Debug)]
pub struct Client {
    pub device: u64,
    pub address: SocketAddr,
    pub since_unix_ms: u64,
    pub figures: DeviceFigures,
}

/// SV1 devices on one side, pools on the other.
#[derive(Debug)]
pub struct Translator {
    core: Arc<Core>,
    tls: Arc<Tls>,
    runtime: Mutex<Option<runtime::Runtime>>,
    listeners: Mutex<Vec<AbortHandle>>,
    next_line: AtomicU64,
}

impl Translator {
    /// Starts the threads. Nothing listens yet.
    ///
    /// # Errors
    /// `Settings` or `System`.
    pub fn start(settings: TranslatorSettings) -> Result<Self, TranslatorError> {
        settings.check()?;
        let system = |what| move |source| TranslatorError::System { what, source };
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|error| system("randomness")(error.into()))?;
        let (seen_key, start) = random.split_at(16);
        let seen_key: [u8; 16] = seen_key.try_into().expect("it was cut at 16");
        let start: [u8; 4] = start.try_into().expect("four of twenty are left");
        let limits = SeenLimits {
            tips: SEEN_TIPS,
            shares_expected: SEEN_EXPECTED.min(settings.seen_shares_max),
            shares_max: settings.seen_shares_max,
        };
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads(settings.io_threads))
            .thread_name("radpool-sv1")
            .enable_io()
            .enable_time()
            .build()
            .map_err(system("thread"))?;
        let events = event::Events::new().map_err(system("file descriptor"))?;
        let seen = SeenShares::new(seen_key, limits);
        let tls = Arc::new(Tls::new(&settings));
        let core = Core::new(settings, seen, events, u32::from_be_bytes(start));
        Ok(Self {
            core: Arc::new(core),
            tls,
            runtime: Mutex::new(Some(runtime)),
            listeners: Mutex::default(),
            next_line: AtomicU64::new(1),
        })
    }

    /// Starts to accept devices and returns the address; port 0 takes any free one.
    ///
    /// # Errors
    /// `Listen` or `Stopped`.
    pub fn listen(&self, host: &str, port: u16) -> Result<SocketAddr, TranslatorError> {
        self.listen_with(host, port, device::serve)
    }

    fn listen_with<F, T>(
        &self,
        host: &str,
        port: u16,
        serve: F,
    ) -> Result<SocketAddr, TranslatorError>
    where
        F: Fn(Arc<Core>, TcpStream, SocketAddr, Admission) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.runtime.lock();
        let runtime = runtime.as_ref().ok_or(TranslatorError::Stopped)?;
        let _context = runtime.enter();
        let failed = |source| TranslatorError::Listen { host: host.to_owned(), port, source };
        let listener = listener::bind(host, port).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = runtime.spawn(accept(Arc::clone(&self.core), listener, serve));
        self.listeners.lock().push(task.abort_handle());
        Ok(address)
    }

    /// Returns the way in for devices that are accepted at another port.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn door(&self) -> Result<Sv1Door, TranslatorError> {
        let runtime = self.runtime.lock();
        let runtime = runtime.as_ref().ok_or(TranslatorError::Stopped)?;
        Ok(Sv1Door::new(&self.core, runtime.handle().clone()))
    }

    /// Starts to connect to a pool and returns its number; `UpstreamReady` or `UpstreamEnded` follow.
    ///
    /// # Errors
    /// `Stopped` or `TooManyUpstreams`.
    pub fn connect(&self, place: UpstreamPlace) -> Result<u64, TranslatorError> {
        let runtime = self.runtime.lock();
        let runtime = runtime.as_ref().ok_or(TranslatorError::Stopped)?;
        let id = self.next_line.fetch_add(1, Ordering::Relaxed);
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let line = Arc::new(Line {
            id,
            user: place.user.clone(),
            orders,
            hurry: Notify::new(),
            called_from: OnceLock::new(),
            channels: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
        });
        let mut lines = self.core.lines.write();
        if lines.len() >= LINES_MAX {
            return Err(TranslatorError::TooManyUpstreams);
        }
        lines.insert(id, Arc::clone(&line));
        drop(lines);
        runtime.spawn(upstream::run(Arc::clone(&self.core), line, waiting, place));
        Ok(id)
    }

    /// Has devices mine for a pool that is ready; each changes over when it has work of it.
    ///
    /// # Errors
    /// `NoUpstream`.
    pub fn use_upstream(
        &self,
        upstream: u64,
        extranonce_size: Option<u16>,
    ) -> Result<(), TranslatorError> {
        let line = self.find(upstream)?;
        self.core.set_current(Some(line), extranonce_size);
        Ok(())
    }

    /// From now on each device mines only for the pool that it is assigned to.
    pub fn assign_each(&self) {
        self.core.assigns.store(true, Ordering::Relaxed);
    }

    /// Assigns devices to a pool that is ready; those that are gone are passed over.
    ///
    /// # Errors
    /// `NoUpstream`.
    pub fn assign(&self, devices: &[u64], upstream: u64) -> Result<(), TranslatorError> {
        let line = self.find(upstream)?;
        self.core.assign(devices, &line);
        Ok(())
    }

    /// Shows a text to those of the devices that can show one.
    pub fn show(&self, devices: &[u64], text: &str) {
        for device in devices {
            self.core.feed(*device, Feed::Message(text.to_owned()));
        }
    }

    /// Leaves a pool in order; `UpstreamEnded` follows.
    ///
    /// # Errors
    /// `NoUpstream`.
    pub fn disconnect(&self, upstream: u64) -> Result<(), TranslatorError> {
        let line = self.find(upstream)?;
        self.leave(line);
        Ok(())
    }

    fn find(&self, upstream: u64) -> Result<Arc<Line>, TranslatorError> {
        let lines = self.core.lines.read();
        lines.get(&upstream).cloned().ok_or(TranslatorError::NoUpstream(upstream))
    }

    fn leave(&self, line: Arc<Line>) {
        if let Some(runtime) = &*self.runtime.lock() {
            // Its queue may be full; whoever waits before it has to go first.
            runtime.spawn(async move { line.orders.send(Order::Leave).await });
        }
    }

    /// The descriptor that is readable when there is something to drain.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.core.events.descriptor()
    }

    /// Takes what has happened, and says whether nothing will ever follow.
    #[must_use]
    pub fn drain(&self) -> (Vec<TranslatorEvent>, bool) {
        self.core.events.drain()
    }

    /// The numbers of all devices, in the order in which they came.
    #[must_use]
    pub fn devices(&self) -> Vec<u64> {
        let mut devices: Vec<u64> = self.core.devices.read().keys().copied().collect();
        devices.sort_unstable();
        devices
    }

    /// Those of the devices that are still there.
    #[must_use]
    pub fn clients(&self, devices: &[u64]) -> Vec<Client> {
        let entries = self.core.devices.read();
        let found = devices.iter().filter_map(|device| Some((*device, entries.get(device)?)));
        found
            .map(|(device, entry)| Client {
                device,
                address: entry.address,
                since_unix_ms: entry.since_unix_ms,
                figures: entry.figures.lock().clone(),
            })
            .collect()
    }

    /// Counters and gauges by name.
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, u128)> {
        let core = &self.core;
        let counters = &core.counters;
        let read = |counter: &AtomicU64| u128::from(counter.load(Ordering::Relaxed));
        let mut all = vec![
            ("sockets".to_owned(), core.gate.connections() as u128),
            ("devices".to_owned(), core.devices.read().len() as u128),
            ("seen_shares".to_owned(), core.seen.len() as u128),
        ];
        let totals = [
            ("connections_accepted", &counters.accepted),
            ("connections_refused", &counters.refused_connections),
            ("accept_failures", &counters.accept_failures),
            ("bytes_read", &counters.bytes_read),
            ("bytes_written", &counters.bytes_written),
            ("lines_read", &counters.lines_read),
            ("shares_forwarded", &counters.forwarded),
            ("shares_undeliverable", &counters.undeliverable),
            ("pool_shares_accepted", &counters.pool_accepted),
            ("pool_shares_rejected", &counters.pool_rejected),
            ("gone_shares_accepted", &counters.gone_accepted),
            ("gone_shares_rejected", &counters.gone_rejected),
        ];
        all.extend(totals.map(|(name, counter)| (format!("{name}_total"), read(counter))));
        all.extend(self.tls.metrics());
        for (refusal, total) in Refusal::ALL.iter().zip(&counters.gone_reasons) {
            let reason = refusal.code().replace('-', "_");
            all.push((format!("gone_shares_rejected_as_{reason}_total"), read(total)));
        }
        all.push(("pool_work_total".to_owned(), *counters.pool_work.lock()));
        let lines = core.lines.read();
        let sum = |of: fn(&Line) -> &AtomicUsize| {
            lines.values().map(|line| of(line).load(Ordering::Relaxed) as u128).sum()
        };
        all.push(("upstreams".to_owned(), lines.len() as u128));
        all.push(("upstream_channels".to_owned(), sum(|line| &line.channels)));
        all.push(("shares_unanswered".to_owned(), sum(|line| &line.unanswered)));
        for (reason, count) in &*counters.closed.lock() {
            all.push((
                format!("closed_{}_total", reason.as_str().replace('-', "_")),
                u128::from(*count),
            ));
        }
        all
    }

    /// Shares that pools have refused, by their code, devices that are gone included.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        self.core.counters.refusals.lock().clone()
    }

    /// Says goodbye to devices and pools and ends the threads. Blocks for at most about `timeout`.
    pub fn stop(&self, timeout: Duration) {
        self.listeners.lock().drain(..).for_each(|task| task.abort());
        self.core.stopping.store(true, Ordering::Release);
        self.core.stir_all();
        let (start, deadline) = (Instant::now(), Instant::now() + timeout);
        let wait = |until: Instant, is_done: &dyn Fn() -> bool| {
            while !is_done() && Instant::now() < until {
                std::thread::sleep(STOP_LOOK);
            }
        };
        wait(deadline, &|| self.core.devices.read().is_empty());
        // The last answers are worth waiting for: they are under way.
        let waiting = |line: &Arc<Line>| line.unanswered.load(Ordering::Relaxed);
        let is_answered = || self.core.lines.read().values().map(waiting).sum::<usize>() == 0;
        wait(deadline.min(start + timeout / 2), &is_answered);
        let lines: Vec<Arc<Line>> = self.core.lines.read().values().cloned().collect();
        lines.into_iter().for_each(|line| self.leave(line));
        wait(deadline, &|| self.core.lines.read().is_empty());
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(THREADS_TIMEOUT);
        }
        self.core.events.stop();
    }
}

impl Drop for Translator {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// Accepts until the task is cancelled.
async fn accept<F, T>(core: Arc<Core>, listener: TcpListener, serve: F)
where
    F: Fn(Arc<Core>, TcpStream, SocketAddr, Admission) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                core.counters.accepted.fetch_add(1, Ordering::Relaxed);
                match core.gate.admit(peer, core.clock.mono_ns()) {
                    Ok(admission) => {
                        tokio::spawn(serve(Arc::clone(&core), socket, peer, admission));
                    }
                    Err(_) => {
                        core.counters.refused_connections.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Err(error) if listener::is_exhausted(&error) => {
                tokio::time::sleep(listener::PAUSE).await;
            }
            // The connection was gone before it was accepted.
            Err(_) => {
                core.counters.accept_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
