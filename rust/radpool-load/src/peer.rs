//! One client of the pool under load.

use std::{cell::RefCell, sync::Arc};

use radpool_miner::{
    Assignment, ChannelKind, Client, ClientExtension, ClientSettings, Ended,
    client::{Event, Outbox},
    link::Link,
};
use radpool_units::Target;
use radpool_wire::keys::AuthorityPublicKey;
use tokio::time::{Duration, timeout};

use crate::machine::monotonic_ns;

/// A pool under load may be slow, but a client that has no job after this long was forgotten.
const JOIN_MAX: Duration = Duration::from_secs(120);

thread_local! {
    /// What all connections of a thread read into: it is empty again before anyone waits.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
}

/// Where the pool is and what to ask of it.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) authority: Option<AuthorityPublicKey>,
    pub(crate) kind: ChannelKind,
    pub(crate) user: String,
    /// The extension that carries the shares, if one does.
    pub(crate) carrier: Option<ClientExtension>,
}

/// One connection with one channel.
#[derive(Debug)]
pub(crate) struct Peer {
    link: Link,
    pub(crate) client: Client,
    /// What the extension that opened the channel said more.
    pub(crate) granted: Vec<u8>,
    out: Outbox,
}

/// Microseconds of the monotonic clock.
pub(crate) fn now_us() -> u64 {
    monotonic_ns() / 1_000
}

impl Peer {
    /// Connects and waits for the first job.
    pub(crate) async fn join(pool: &Pool) -> Result<(Self, Arc<Assignment>), Ended> {
        let joined = timeout(JOIN_MAX, Self::join_unbounded(pool)).await;
        joined.unwrap_or(Err(Ended::Silent { awaited: "the first job" }))
    }

    async fn join_unbounded(pool: &Pool) -> Result<(Self, Arc<Assignment>), Ended> {
        let link = Link::connect(&pool.host, pool.port, pool.authority.as_ref()).await?;
        let mut out = Outbox::default();
        let client = Client::new(settings(pool), now_us(), &mut out);
        let mut peer = Self { link, client, granted: Vec::new(), out };
        loop {
            peer.flush().await?;
            peer.receive().await?;
            // The job of a tip that has come meanwhile may be in the same bytes: the last counts.
            let mut assigned = None;
            for event in peer.events() {
                match event {
                    Event::Opened { tail, .. } => peer.granted = tail,
                    Event::Assigned { assignment, .. } => assigned = Some(assignment),
                    Event::Ended(ended) => return Err(ended),
                    _ => {}
                }
            }
            if let Some(assignment) = assigned {
                return Ok((peer, assignment));
            }
        }
    }

    /// Waits for bytes and takes in what they say; the events are then in [`Peer::events`].
    pub(crate) async fn receive(&mut self) -> Result<(), Ended> {
        self.link.readable().await?;
        let Self { link, client, out, .. } = self;
        SCRATCH.with_borrow_mut(|scratch| {
            link.read(scratch, |header, payload| {
                client.handle_frame(header, payload, now_us(), out);
            })
        })
    }

    /// Gives away what happened.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out.events)
    }

    /// Queues a share with its attachment and gives its number; [`Peer::flush`] sends it.
    pub(crate) fn submit(&mut self, share: &radpool_miner::Share, attached: &[u8]) -> Option<u32> {
        self.client.submit_attached(share, attached, false, now_us(), &mut self.out)
    }

    /// Sends what is queued, in one write.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        self.link.send(&mut self.out.frames).await
    }

    /// Reads until the connection ends, and says why.
    pub(crate) async fn idle(&mut self, mut on_event: impl FnMut(Event)) -> Ended {
        loop {
            if let Err(ended) = self.receive().await {
                return ended;
            }
            for event in self.out.events.drain(..) {
                match event {
                    Event::Ended(ended) => return ended,
                    event => on_event(event),
                }
            }
        }
    }
}

fn settings(pool: &Pool) -> ClientSettings {
    ClientSettings {
        kind: pool.kind,
        user_identity: pool.user.clone(),
        nominal_hash_rate: 1e3,
        max_target: Target::MAX,
        min_extranonce_size: 8,
        flags: 0,
        host: pool.host.clone(),
        port: pool.port,
        vendor: "radpool".into(),
        hardware: "load".into(),
        firmware: env!("CARGO_PKG_VERSION").into(),
        device_id: String::new(),
        extensions: Vec::new(),
        carrier: pool.carrier.clone(),
    }
}

/// Runs `body` on one thread: what a run costs the generator is then one core at most.
pub(crate) fn block_on<T>(body: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?
        .block_on(body)
}
