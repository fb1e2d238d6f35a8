//! The engine as its owner sees it: start, commands, drain, stop.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    os::fd::RawFd,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use radpool_mining::{Command, ConnectionId, Settings, ShareRecord, Shared, Template, Tip};
use radpool_units::Exponent;
use radpool_wire::noise::ServerIdentity;
use tokio::{runtime, task::AbortHandle};

use crate::{
    Completion, Drained, EngineError, EngineSettings, EngineSettingsError, Sv1Door,
    clock::Clock,
    core::Core,
    event::{NO_SUCH_CONNECTION, TOO_MANY_COMMANDS},
    handover::Handover,
    limit::Gate,
    listener,
    mailbox::{Acknowledgement, Mailbox, Order, Rejection, Undeliverable},
    metric::{self, EngineCounters},
    solution::{SolutionCounters, SolutionPath},
};

/// How long the threads may take to end once no connection is left.
const THREADS_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool's listeners, connections, jobs and validation, on threads of their own.
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    runtime: Mutex<Option<runtime::Runtime>>,
    solutions_thread: Mutex<Option<JoinHandle<()>>>,
    listeners: Mutex<Vec<AbortHandle>>,
    tokens: AtomicU64,
    stopped: AtomicBool,
    process: u32,
}

impl Engine {
    /// Starts the threads. Nothing listens yet.
    ///
    /// # Errors
    /// `Settings`, `SolutionLog` or `System`.
    pub fn start(settings: EngineSettings, identity: ServerIdentity) -> Result<Self, EngineError> {
        settings.check()?;
        let system = |what| move |source| EngineError::System { what, source };
        let mut seen_key = [0; 16];
        getrandom::fill(&mut seen_key).map_err(|error| system("randomness")(error.into()))?;
        let shared = share(settings.mining.clone(), seen_key)?;
        let handover = Handover::new(&settings).map_err(system("file descriptor"))?;
        let handover = Arc::new(handover);
        let clock = Clock::start();
        let solution_counters = Arc::<SolutionCounters>::default();
        let (path, solutions_thread) = SolutionPath::start(
            &settings.solution_log,
            settings.solution_socket.as_deref(),
            clock,
            Arc::clone(&handover),
            Arc::clone(&solution_counters),
        )
        .map_err(|source| {
            let path = settings.solution_log.display().to_string();
            EngineError::SolutionLog { path, source }
        })?;
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads())
            .thread_name("radpool-io")
            .enable_io()
            .enable_time()
            .build()
            .map_err(system("thread"))?;
        let core = Arc::new(Core {
            gate: Arc::new(Gate::new(&settings.gate())),
            settings,
            shared,
            clock,
            registry: Arc::default(),
            handover,
            identity: RwLock::new(Arc::new(identity)),
            solutions: RwLock::new(Some(path)),
            counters: EngineCounters::default(),
            solution_counters,
            stopping: AtomicBool::new(false),
            stop_deadline_ms: AtomicU64::new(0),
            prefixes_asked: AtomicBool::new(false),
            sv1: RwLock::default(),
            sv1_tell_ms: AtomicU64::new(0),
            #[cfg(test)]
            panicking: AtomicU64::new(u64::MAX),
        });
        Ok(Self {
            core,
            runtime: Mutex::new(Some(runtime)),
            solutions_thread: Mutex::new(Some(solutions_thread)),
            listeners: Mutex::default(),
            tokens: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
            process: process::id(),
        })
    }

    /// Starts to accept connections and returns the address; port 0 takes any free one.
    ///
    /// # Errors
    /// `Listen` when the address cannot be bound, `Stopped`, `Forked`.
    pub fn listen(&self, host: &str, port: u16) -> Result<SocketAddr, EngineError> {
        self.check_process()?;
        let runtime = self.runtime.lock();
        let runtime = runtime.as_ref().ok_or(EngineError::Stopped)?;
        let _context = runtime.enter();
        let failed = |source| EngineError::Listen { host: host.to_owned(), port, source };
        let listener = listener::bind(host, port).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = runtime.spawn(listener::accept(Arc::clone(&self.core), listener));
        self.listeners.lock().push(task.abort_handle());
        Ok(address)
    }

    /// Has a translator serve devices that speak Stratum V1 and call at the engine's port, or
    /// nobody. Those that were taken in stay where they are.
    pub fn set_sv1(&self, door: Option<Sv1Door>) {
        *self.core.sv1.write() = door;
    }

    /// The descriptor that is readable when there is something to drain.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.core.handover.descriptor()
    }

    /// Takes out all events and completions, and up to `records_max` shares.
    ///
    /// # Errors
    /// `Forked`.
    pub fn drain(&self, records_max: usize) -> Result<Drained, EngineError> {
        self.check_process()?;
        Ok(self.core.handover.drain(records_max.max(1)))
    }

    /// Tells clients that the shares are durable, except those at `rejected` indexes, which are
    /// answered with the error code beside them. Accepted shares that came by a message of an
    /// extension are for the extension to answer. Clients that have left are skipped.
    ///
    /// # Errors
    /// `Index` when a rejected share is none of these; nothing was sent then. `Forked`.
    pub fn acknowledge(
        &self,
        shares: &[ShareRecord],
        rejected: &[(usize, String)],
    ) -> Result<(), EngineError> {
        self.check_process()?;
        let count = shares.len();
        if let Some((index, _)) = rejected.iter().find(|(index, _)| *index >= count) {
            return Err(EngineError::Index { index: *index, count });
        }
        // In the order of the shares, which is the order in which clients expect their answers.
        let rejected: BTreeMap<usize, &String> =
            rejected.iter().map(|(index, code)| (*index, code)).collect();
        let refused = rejected.iter().map(|(index, code)| {
            let share = &shares[*index];
            let (channel, sequence, code) = (share.channel_id, share.sequence, (*code).clone());
            (share.connection, Rejection { channel, sequence, code, by: answers_by(share) })
        });
        self.core.registry.for_each_found(refused, Mailbox::reject);
        let sums = sum_up(shares, |index| rejected.contains_key(&index));
        let accepted = sums.into_iter().map(|((connection, _), sum)| (connection, sum));
        self.core.registry.for_each_found(accepted, Mailbox::acknowledge);
        let concerned: HashSet<ConnectionId> =
            shares.iter().map(|share| share.connection).collect();
        let concerned = concerned.into_iter().map(|connection| (connection, ()));
        self.core.registry.for_each_found(concerned, |mailbox, ()| mailbox.wake());
        Ok(())
    }

    /// Makes a template the current one together with its tip, or the future one without.
    ///
    /// # Errors
    /// `Work` when no job can be made of it, `Forked`.
    pub fn publish_template(
        &self,
        template: Template,
        tip: Option<Tip>,
    ) -> Result<(), EngineError> {
        self.check_process()?;
        self.core.shared.publish_template(template, tip)?;
        self.core.registry.wake_all();
        Ok(())
    }

    /// Makes the future template the current one.
    ///
    /// # Errors
    /// `Work` when the tip does not fit it, `Forked`.
    pub fn activate_template(&self, tip: Tip) -> Result<(), EngineError> {
        self.check_process()?;
        self.core.shared.activate_template(tip)?;
        self.core.registry.wake_all();
        Ok(())
    }

    /// Gives no channel an easier step than this one from now on, whatever the settings say.
    ///
    /// # Errors
    /// `Forked`.
    pub fn set_floor(&self, floor: Exponent) -> Result<(), EngineError> {
        self.check_process()?;
        self.core.shared.set_floor(floor);
        self.core.registry.wake_all();
        Ok(())
    }

    /// Adds extranonce prefixes that were reserved durably and never added before.
    ///
    /// # Errors
    /// `Forked`.
    pub fn add_prefixes(&self, start: u32, end: u32) -> Result<(), EngineError> {
        self.check_process()?;
        self.core.shared.prefixes.add(start, end);
        self.core.prefixes_asked.store(false, Ordering::Release);
        Ok(())
    }

    /// Refuses the shares with these header hashes from now on.
    ///
    /// # Errors
    /// `Forked`.
    pub fn preload_seen<'hash>(
        &self,
        hashes: impl IntoIterator<Item = &'hash [u8; 32]>,
    ) -> Result<(), EngineError> {
        self.check_process()?;
        self.core.shared.seen.preload(hashes);
        Ok(())
    }

    /// Sends a command to a connection and returns the token of its completion.
    ///
    /// # Errors
    /// `Forked`.
    pub fn command(&self, connection: ConnectionId, command: Command) -> Result<u64, EngineError> {
        self.check_process()?;
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let order = Order { command, token };
        let result = match self.core.registry.find(connection) {
            Some(mailbox) => mailbox.order(order),
            None => Err(Undeliverable::Gone),
        };
        let failure = match result {
            Ok(()) => return Ok(token),
            Err(Undeliverable::Gone) => NO_SUCH_CONNECTION,
            Err(Undeliverable::Full) => TOO_MANY_COMMANDS,
        };
        self.core.handover.complete(Completion { token, failure: Some(failure) });
        Ok(token)
    }

    /// Shows another certificate to clients that connect from now on.
    pub fn set_identity(&self, identity: ServerIdentity) {
        *self.core.identity.write() = Arc::new(identity);
    }

    /// All counters and gauges by name.
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, u64)> {
        metric::metrics(&self.core)
    }

    /// Closes the listeners; connections stay.
    pub fn stop_accepting(&self) {
        self.listeners.lock().drain(..).for_each(|task| task.abort());
    }

    /// Ends reading for good, so that the ring gets no more shares.
    pub fn pause_reads(&self) {
        self.core.handover.end_reads();
    }

    /// Lets connections send what waits for them, closes them and ends the threads. Blocks for at
    /// most about `timeout`; in a forked process it does nothing.
    pub fn stop(&self, timeout: Duration) {
        if self.check_process().is_err() || self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.stop_accepting();
        self.pause_reads();
        let core = &self.core;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = core.clock.now().mono_ms.saturating_add(timeout_ms);
        core.stop_deadline_ms.store(deadline_ms, Ordering::Relaxed);
        core.stopping.store(true, Ordering::Release);
        core.registry.wake_all();
        core.registry.wait_empty(Instant::now() + timeout);
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(THREADS_TIMEOUT);
        }
        // Without senders the thread ends once the last block is on disk. A disk that hangs must not
        // hang the stop: the thread then goes on without us.
        core.solutions.write().take();
        if let Some(thread) = self.solutions_thread.lock().take() {
            join_within(thread, THREADS_TIMEOUT);
        }
        core.handover.stop();
    }

    fn check_process(&self) -> Result<(), EngineError> {
        let here = process::id();
        match self.process == here {
            true => Ok(()),
            false => Err(EngineError::Forked { owner: self.process, here }),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.check_process().is_ok() {
            self.stop(Duration::ZERO);
        } else {
            // The runtime's threads are not in this process: joining them would wait for ever.
            core::mem::forget(self.runtime.lock().take());
            core::mem::forget(self.solutions_thread.lock().take());
        }
    }
}

fn join_within(thread: JoinHandle<()>, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    // It ended with an error only if it panicked, and is over all the same.
    let _ = thread.join();
}

fn share(settings: Settings, seen_key: [u8; 16]) -> Result<Arc<Shared>, EngineError> {
    let shared = Shared::new(settings, seen_key).map_err(EngineSettingsError::from)?;
    Ok(Arc::new(shared))
}

/// The message that refuses a share which came by a message of an extension.
fn answers_by(share: &ShareRecord) -> Option<(u16, u8)> {
    let attachment = share.attachment.as_ref()?;
    Some((attachment.extension_type, attachment.error_type?))
}

/// Sums the accepted shares that are the engine's to answer up per connection and channel, in the
/// order of their ids.
fn sum_up(
    shares: &[ShareRecord],
    is_rejected: impl Fn(usize) -> bool,
) -> Vec<((ConnectionId, u32), Acknowledgement)> {
    let mut sums: HashMap<(ConnectionId, u32), Acknowledgement> = HashMap::new();
    for (index, share) in shares.iter().enumerate() {
        if is_rejected(index) || answers_by(share).is_some() {
            continue;
        }
        let one = Acknowledgement {
            channel: share.channel_id,
            last_sequence: share.sequence,
            count: 1,
            sum: u64::try_from(share.exponent.work().0).unwrap_or(u64::MAX),
        };
        let key = (share.connection, share.channel_id);
        sums.entry(key).and_modify(|sum| sum.merge(one)).or_insert(one);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(key, _)| *key);
    sums
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read, Write},
        net::TcpStream,
    };

    use radpool_wire::{
        keys::AuthoritySecretKey,
        noise::{ACT2_LEN, Certificate, Initiator, StaticKey},
    };

    use super::*;
    use crate::settings::tests::settings;

    fn engine() -> (Engine, SocketAddr) {
        let authority = AuthoritySecretKey::from_bytes([3; 32]).unwrap();
        let static_key = StaticKey::from_bytes([4; 32]).unwrap();
        let certificate = Certificate::sign(&authority, &static_key, 0, u32::MAX, [0; 32]);
        let identity = ServerIdentity::new(static_key, certificate);
        let engine = Engine::start(settings(), identity).unwrap();
        let address = engine.listen("127.0.0.1", 0).unwrap();
        (engine, address)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (_, act1) = Initiator::new([5; 32], [6; 32]).unwrap();
        socket.write_all(&act1).unwrap();
        socket.read_exact(&mut [0; ACT2_LEN]).unwrap();
        socket
    }

    #[test]
    fn a_task_that_panics_takes_nobody_with_it_and_leaves_nothing() {
        let (engine, address) = engine();
        let mut other = connect(address);
        while engine.core.registry.find(0).is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        engine.core.panicking.store(1, Ordering::Relaxed);
        let mut socket = connect(address);
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
        while engine.core.registry.len() > 1 || engine.core.gate.connections() > 1 {
            thread::sleep(Duration::from_millis(1));
        }
        let metrics: HashMap<_, _> = engine.metrics().into_iter().collect();
        assert_eq!((metrics["tasks_panicked_total"], metrics["closed_internal_total"]), (1, 1));
        // Its thread goes on to serve: this would time out otherwise.
        let _third = connect(address);
        other.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let still = other.read(&mut [0; 1]).unwrap_err().kind();
        assert_eq!(still, io::ErrorKind::WouldBlock);
        engine.stop(Duration::from_secs(5));
    }
}
