//! The miner as a whole: starts the threads, stops them in order.

use std::{
    io,
    os::fd::RawFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Instant,
};

use parking_lot::Mutex;
use radpool_units::Target;
use radpool_wire::keys::AuthorityPublicKey;
use tokio::sync::{mpsc, watch};

use crate::{
    assignment::ChannelKind,
    client::ClientSettings,
    desk::{Attachment, CarrierFrame, Desk, News},
    extension::ClientExtension,
    session::Sessions,
    stats::{Book, Note, State, Stats},
    worker::{Board, Worker, measure_hash_rate},
};

/// Shares between the threads and the connection; then the threads wait.
const FOUND_MAX: usize = 256;
/// SetupConnection flag: the version field will be rolled. Source: SV2, 5.3.1.
const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;

/// What a miner needs to know.
#[derive(Clone, Debug)]
pub struct MinerSettings {
    pub host: String,
    pub port: u16,
    /// Who must have certified the pool; `None` trusts whoever answers.
    pub authority: Option<AuthorityPublicKey>,
    /// Who is to be paid.
    pub user: String,
    pub kind: ChannelKind,
    /// Threads that hash, 1 at least.
    pub threads: u32,
    /// Hashes per second of all threads together.
    pub hash_rate_limit: Option<u64>,
    /// The extension that is to carry the shares; the channel is an extended one then.
    pub carrier: Option<ClientExtension>,
    /// Whether to speak Stratum V1: then nobody certifies the pool, and `kind` means nothing.
    pub sv1: bool,
}

/// A running miner. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Miner {
    board: Arc<Board>,
    book: Arc<Mutex<Book>>,
    hashes: Arc<AtomicU64>,
    desk: Arc<Desk>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Miner {
    /// Starts the threads and the first attempt to connect.
    ///
    /// # Errors
    /// When the system gives no thread or no socket.
    pub fn start(settings: MinerSettings) -> io::Result<Self> {
        let limit = settings.hash_rate_limit;
        // A thread without a single hash per second would only wait.
        let threads = u64::from(settings.threads.max(1)).min(limit.unwrap_or(u64::MAX)).max(1);
        let board = Arc::new(Board::default());
        let book = Arc::new(Mutex::new(Book::default()));
        let hashes = Arc::new(AtomicU64::new(0));
        let desk = Arc::new(Desk::new()?);
        let (found_send, found) = mpsc::channel(FOUND_MAX);
        let (stop, stop_receive) = watch::channel(false);
        let expected = measure_hash_rate().saturating_mul(threads).min(limit.unwrap_or(u64::MAX));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut miner = Self {
            board: Arc::clone(&board),
            book: Arc::clone(&book),
            hashes: Arc::clone(&hashes),
            desk: Arc::clone(&desk),
            stop,
            threads: Vec::new(),
        };
        for index in 0..threads {
            let worker = Worker {
                board: Arc::clone(&board),
                index,
                threads,
                rate: limit.map(|limit| (limit * (index + 1) / threads) - limit * index / threads),
                hashes: Arc::clone(&hashes),
                found: found_send.clone(),
            };
            let name = format!("miner-{index}");
            miner.threads.push(Builder::new().name(name).spawn(move || worker.run())?);
        }
        let client = client_settings(&settings, expected);
        let sessions = Sessions {
            settings,
            client,
            board,
            book,
            hashes,
            desk,
            found,
            stop: stop_receive,
            session: 0,
        };
        let run = move || {
            runtime.block_on(sessions.run());
            // A name that is still being looked up must not keep the miner from stopping.
            runtime.shutdown_background();
        };
        miner.threads.push(Builder::new().name("miner-net".into()).spawn(run)?);
        Ok(miner)
    }

    /// The figures as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.book.lock().read(Instant::now(), self.hashes.load(Ordering::Relaxed))
    }

    /// What has happened since the last call, oldest first; at most the last 256 notes.
    #[must_use]
    pub fn events(&self) -> Vec<Note> {
        self.book.lock().take_notes()
    }

    /// Whether the miner has ended, by itself or because it was told to.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.book.lock().stats.state == State::Stopped
    }

    /// A descriptor that is readable while [`Miner::take`] has something to give.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.desk.descriptor()
    }

    /// Takes what has happened to the shares that an extension carries. A new connection waits
    /// until the end of the last one was taken.
    #[must_use]
    pub fn take(&self) -> News {
        self.desk.take()
    }

    /// Gives attachments for shares of `session`: see [`crate::desk`]. False when they were not
    /// taken.
    #[must_use]
    pub fn give(&self, session: u64, lot: u64, attachments: Vec<Attachment>) -> bool {
        self.desk.give(session, lot, attachments)
    }

    /// Sends a frame of the extension in `session`; false when that is over or too many wait.
    #[must_use]
    pub fn send(&self, session: u64, frame: CarrierFrame) -> bool {
        self.desk.command(session, frame)
    }

    /// Tells the miner to leave in order, which takes it about a second at most; the extension's side
    /// may serve it meanwhile. [`State::Stopped`] follows.
    pub fn leave(&self) {
        self.signal();
    }

    /// Closes the channel and the connection in order and waits for the threads: about a second at
    /// most, when the pool takes nothing any more.
    pub fn stop(&mut self) {
        self.signal();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to give back.
            let _ = thread.join();
        }
        self.book.lock().stats.state = State::Stopped;
    }

    fn signal(&self) {
        self.stop.send_replace(true);
        self.board.stop();
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.signal();
    }
}

#[expect(clippy::cast_precision_loss, reason = "SV2 wants the expected hash rate as f32")]
fn client_settings(settings: &MinerSettings, expected_hash_rate: u64) -> ClientSettings {
    ClientSettings {
        kind: settings.kind,
        user_identity: settings.user.clone(),
        nominal_hash_rate: expected_hash_rate as f32,
        max_target: Target::MAX,
        min_extranonce_size: 8,
        flags: REQUIRES_VERSION_ROLLING,
        host: settings.host.clone(),
        port: settings.port,
        vendor: "radpool".into(),
        hardware: "cpu".into(),
        firmware: concat!("radpool-miner/", env!("CARGO_PKG_VERSION")).into(),
        device_id: String::new(),
        extensions: Vec::new(),
        carrier: settings.carrier.clone(),
    }
}
