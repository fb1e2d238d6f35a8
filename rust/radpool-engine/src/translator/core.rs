//! What all tasks of a translator have in common.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::{Mutex, RwLock};
use radpool_miner::assignment::Share;
use radpool_mining::SeenShares;
use radpool_sv1::{
    DeviceClose, DeviceFigures, DeviceSettings, EXTRANONCE1_LEN, EXTRANONCE2_LEN, Feed, Refusal,
};
use tokio::sync::{Notify, mpsc};

use super::{TranslatorSettings, event::Events};
use crate::{clock::Clock, limit::Gate};

/// Feeds that wait for a device. Work replaces work, so more come only of many pools' ends.
const FEEDS_MAX: usize = 64;

/// What a device wants of a pool.
#[derive(Debug)]
pub(super) enum Order {
    Open { device: u64, user: String, rate: f32 },
    Release { device: u64 },
    Update { device: u64, rate: f32 },
    Submit { device: u64, share: Share },
    Leave,
}

/// The way to one pool's task.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: u64,
    /// Whom this pool is to pay, where it is not whom the settings name.
    pub(super) user: Option<String>,
    pub(super) orders: mpsc::Sender<Order>,
    /// Is told when there is an order that is not to wait for others.
    pub(super) hurry: Notify,
    /// This end of the connection, once there is one.
    pub(super) called_from: OnceLock<SocketAddr>,
    pub(super) channels: AtomicUsize,
    pub(super) unanswered: AtomicUsize,
}

/// What waits for a device's task, and the way to wake it.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Nearly always it is all there is: then it needs no memory of its own.
    first: Option<Feed>,
    rest: VecDeque<Feed>,
    is_stirred: bool,
    task: Option<Waker>,
}

impl Mailbox {
    pub(super) fn push(&self, feed: Feed) {
        self.0.lock().push(feed);
        self.stir();
    }

    /// Has the task look at everything once more.
    pub(super) fn stir(&self) {
        let mut waiting = self.0.lock();
        waiting.is_stirred = true;
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Waits until it was stirred since it was waited for last. There is one task that waits.
    pub(super) fn poll_stirred(&self, context: &Context<'_>) -> Poll<()> {
        let mut waiting = self.0.lock();
        if core::mem::take(&mut waiting.is_stirred) {
            return Poll::Ready(());
        }
        if !waiting.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            waiting.task = Some(context.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn take(&self) -> impl Iterator<Item = Feed> + use<> {
        let mut waiting = self.0.lock();
        let (first, rest) = (waiting.first.take(), core::mem::take(&mut waiting.rest));
        first.into_iter().chain(rest)
    }
}

impl Waiting {
    fn push(&mut self, feed: Feed) {
        let last = self.rest.back_mut().or(self.first.as_mut());
        match (last, feed) {
            // What a device has not seen yet it need not see: only the newest job counts.
            (
                Some(Feed::Work {
                    source: last,
                    assignment: unseen,
                    new_tip: before,
                    since_ms: at,
                }),
                Feed::Work { source, assignment, new_tip, since_ms },
            ) if *last == source => {
                (*unseen, *at) = (assignment, since_ms);
                *before |= new_tip;
            }
            (None, feed) => self.first = Some(feed),
            (Some(_), feed) => {
                if self.rest.len() + 1 >= FEEDS_MAX {
                    self.first = self.rest.pop_front();
                }
                self.rest.push_back(feed);
            }
        }
    }
}

/// A device as everybody else sees it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) address: SocketAddr,
    pub(super) since_unix_ms: u64,
    pub(super) mailbox: Mailbox,
    /// The pool that it is to mine for where each device has one of its own; 0 before it has.
    pub(super) assigned: AtomicU64,
    pub(super) figures: Arc<Mutex<DeviceFigures>>,
}

/// Counters of a translator.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) refused_connections: AtomicU64,
    pub(super) accept_failures: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) lines_read: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) undeliverable: AtomicU64,
    pub(super) pool_accepted: AtomicU64,
    pub(super) pool_rejected: AtomicU64,
    /// What the pools say that the accepted shares are worth, in expected hashes: a farm passes 64 bits
    /// within a day.
    pub(super) pool_work: Mutex<u128>,
    /// Shares that pools have refused, by their code.
    pub(super) refusals: Mutex<BTreeMap<String, u64>>,
    pub(super) closed: Mutex<BTreeMap<DeviceClose, u64>>,
    /// What devices that are gone have brought.
    pub(super) gone_accepted: AtomicU64,
    pub(super) gone_rejected: AtomicU64,
    /// The latter by the place of their reason in [`Refusal::ALL`].
    pub(super) gone_reasons: [AtomicU64; Refusal::ALL.len()],
}

/// One per translator, behind an `Arc`.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: TranslatorSettings,
    pub(super) device_settings: Arc<DeviceSettings>,
    pub(super) seen: Arc<SeenShares>,
    pub(super) clock: Clock,
    pub(super) gate: Arc<Gate>,
    pub(super) events: Events,
    pub(super) counters: Counters,
    pub(super) devices: RwLock<HashMap<u64, Arc<Entry>>>,
    pub(super) lines: RwLock<HashMap<u64, Arc<Line>>>,
    current: RwLock<Option<Arc<Line>>>,
    /// Whether each device mines only for the pool that it is assigned to.
    pub(super) assigns: AtomicBool,
    extranonce2_len: AtomicUsize,
    next_device: AtomicU64,
    /// Where extranonces start: another run of the translator most likely starts elsewhere.
    extranonce1_start: u32,
    pub(super) stopping: AtomicBool,
}

impl Core {
    pub(super) fn new(
        settings: TranslatorSettings,
        seen: SeenShares,
        events: Events,
        extranonce1_start: u32,
    ) -> Self {
        Self {
            device_settings: Arc::new(settings.device.clone()),
            gate: Arc::new(Gate::new(&settings.gate())),
            settings,
            seen: Arc::new(seen),
            clock: Clock::start(),
            events,
            counters: Counters::default(),
            devices: RwLock::default(),
            lines: RwLock::default(),
            current: RwLock::default(),
            assigns: AtomicBool::new(false),
            extranonce2_len: AtomicUsize::new(EXTRANONCE2_LEN),
            next_device: AtomicU64::new(1),
            extranonce1_start,
            stopping: AtomicBool::new(false),
        }
    }

    /// The number of a new device and its part of every extranonce, which no other device has.
    pub(super) fn next_device(&self) -> (u64, [u8; EXTRANONCE1_LEN]) {
        let device = self.next_device.fetch_add(1, Ordering::Relaxed);
        // Of 2^32 devices the first is gone long before its number comes again.
        (device, self.extranonce1_start.wrapping_add(device as u32).to_be_bytes())
    }

    pub(super) fn extranonce2_len(&self) -> usize {
        self.extranonce2_len.load(Ordering::Relaxed)
    }

    /// The pool that a device is to mine for.
    pub(super) fn current(&self, device: &Entry) -> Option<Arc<Line>> {
        if !self.assigns.load(Ordering::Relaxed) {
            return self.current.read().clone();
        }
        let assigned = device.assigned.load(Ordering::Relaxed);
        self.lines.read().get(&assigned).cloned()
    }

    /// Has devices mine for a pool of their own.
    pub(super) fn assign(&self, devices: &[u64], line: &Line) {
        let entries = self.devices.read();
        for entry in devices.iter().filter_map(|device| entries.get(device)) {
            entry.assigned.store(line.id, Ordering::Relaxed);
            entry.mailbox.stir();
        }
    }

    /// Lets devices mine for a pool that has said how many bytes of extranonce it leaves them.
    pub(super) fn set_current(&self, line: Option<Arc<Line>>, size: Option<u16>) {
        if let Some(size) = size {
            let room = usize::from(size).saturating_sub(EXTRANONCE1_LEN);
            self.extranonce2_len.store(room.clamp(1, EXTRANONCE2_LEN), Ordering::Relaxed);
        }
        *self.current.write() = line;
        self.stir_all();
    }

    /// Takes a pool that has ended away.
    pub(super) fn forget_line(&self, line: &Line) {
        self.lines.write().remove(&line.id);
        let mut current = self.current.write();
        if current.as_ref().is_some_and(|current| current.id == line.id) {
            *current = None;
        }
        drop(current);
        for entry in self.devices.read().values() {
            entry.mailbox.push(Feed::Lost { source: line.id });
        }
    }

    pub(super) fn feed(&self, device: u64, feed: Feed) {
        if let Some(entry) = self.devices.read().get(&device) {
            entry.mailbox.push(feed);
        }
    }

    pub(super) fn stir_all(&self) {
        self.devices.read().values().for_each(|entry| entry.mailbox.stir());
    }

    pub(super) fn count_close(&self, reason: DeviceClose) {
        *self.counters.closed.lock().entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use radpool_miner::assignment::{Assignment, JobSource};
    use radpool_units::Target;

    use super::*;

    fn work(source: u64, job_id: u32, new_tip: bool) -> Feed {
        let assignment = Arc::new(Assignment {
            channel_id: 1,
            job_id,
            version: 0,
            version_rolling: true,
            prev_hash: [0; 32],
            nbits: 0,
            min_ntime: 0,
            target: Target::MAX,
            extranonce_prefix: vec![],
            rollable: 12,
            source: JobSource::Root([0; 32]),
        });
        Feed::Work { source, assignment, new_tip, since_ms: 0 }
    }

    #[test]
    fn the_newest_job_of_a_pool_replaces_those_not_seen_and_keeps_their_news() {
        let mailbox = Mailbox::default();
        mailbox.push(work(1, 1, false));
        mailbox.push(work(1, 2, true));
        mailbox.push(work(1, 3, false));
        mailbox.push(Feed::Lost { source: 1 });
        mailbox.push(Feed::Message("a text".into()));
        mailbox.push(work(2, 4, false));
        let told: Vec<_> = mailbox
            .take()
            .map(|feed| match feed {
                Feed::Work { source, assignment, new_tip, .. } => {
                    (source, assignment.job_id, new_tip)
                }
                Feed::Lost { source } => (source, 0, false),
                Feed::Message(text) => (0, text.len() as u32, false),
            })
            .collect();
        assert_eq!(told, [(1, 3, true), (1, 0, false), (0, 6, false), (2, 4, false)]);
        (0..1000).for_each(|source| mailbox.push(Feed::Lost { source }));
        assert_eq!(mailbox.take().count(), FEEDS_MAX);
    }
}
