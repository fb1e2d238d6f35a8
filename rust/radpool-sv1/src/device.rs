//! One SV1 connection: what a device may say, what it is answered, and which jobs it has.
//!
//! Theory of operation. Everything is answered at once and in order; nothing waits for the pool,
//! because the extranonce that a device is given is the translator's own: whatever the pool's prefix
//! is, it becomes part of the coinbase's first half. Work comes when it comes, and is held back until
//! the device is subscribed and authorized:
//!
//! ```text
//! connected ── subscribe and authorize, in any order ──> ready (Ready is told) ── work ──> mining
//!                                                          ^───────── pool lost ────────────┘
//! ```
//!
//! A new difficulty is told with the next job, never makes a job clean, and each job keeps the one
//! that it went out with. The difficulty follows the pool's, rounded to the easier power of two; while
//! a device is slower than that, it gets an easier one (vardiff) and the pool is told its pace.
//!
//! Invariants: numbers of jobs never return; no job is sent twice with the same header space, because
//! its time moves on. Bounds: `DeviceSettings`; each line, each name (255 bytes) and each id.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use radpool_miner::assignment::Assignment;
use radpool_mining::{
    SeenShares,
    bucket::{Bucket, Grant},
    vardiff::Vardiff,
};
use radpool_units::{Exponent, Now};

use crate::{
    DeviceClose, DeviceEvent, DeviceOutbox, DeviceSettings,
    difficulty::exponent_of,
    figures::{DeviceFigures, WorkerFigures},
    job::{DeviceJob, EXTRANONCE1_LEN, VERSION_MASK, padding, write_notify},
    reply::{
        Refusal, shows_messages, write_reconnect, write_refusal, write_set_difficulty,
        write_set_extranonce, write_set_version_mask, write_show_message,
    },
    request::Request,
};

/// The shortest second extranonce that gives a device room.
const EXTRANONCE2_LEN_MIN: usize = 2;

/// At most so often a device is moved for want of shares: where many more are wanted than any device
/// brings, it would be looked at each millisecond.
const PACE_PAUSE_MS: u64 = 1_000;

/// The second extranonce of every device: the most that all firmwares take.
pub const EXTRANONCE2_LEN: usize = 8;

/// What a channel has for a device.
#[derive(Clone, Debug)]
pub enum Feed {
    /// This is to be mined from now on.
    Work {
        /// Which upstream it is of.
        source: u64,
        assignment: Arc<Assignment>,
        /// Whether it builds on another block than what came before.
        new_tip: bool,
        /// When the pool sent it.
        since_ms: u64,
    },
    /// The channel is gone, and all its jobs with it.
    Lost { source: u64 },
    /// Its owner should read this.
    Message(String),
}

/// What is to be mined.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) source: u64,
    pub(crate) assignment: Arc<Assignment>,
    since_ms: u64,
}

/// The machine; see the module's head.
#[derive(Debug)]
pub struct Device {
    pub(crate) settings: Arc<DeviceSettings>,
    pub(crate) seen: Arc<SeenShares>,
    pub(crate) figures: Arc<Mutex<DeviceFigures>>,
    pub(crate) extranonce1: [u8; EXTRANONCE1_LEN],
    pub(crate) extranonce2_len: usize,
    pub(crate) subscribed: bool,
    pub(crate) names: Vec<Box<str>>,
    /// The version bits that it has asked for; `None` before it has.
    pub(crate) mask: Option<u32>,
    /// The version bits that it was told last.
    pub(crate) mask_told: u32,
    pub(crate) takes_extranonce: bool,
    /// What it or its owner wants to be asked for.
    pub(crate) asked: Option<Exponent>,
    /// What it is asked for while that is easier than what the pool asks for.
    easier: Option<Exponent>,
    pub(crate) told: Option<Exponent>,
    pub(crate) vardiff: Vardiff,
    pub(crate) jobs: VecDeque<DeviceJob>,
    next_job: u32,
    pub(crate) work: Option<Work>,
    last_notify_ms: u64,
    /// Before this it is not moved for want of shares.
    paced_until_ms: u64,
    idle_since_ms: u64,
    pub(crate) submits: Bucket,
    requests: Bucket,
    malformed: u32,
    pub(crate) closed: bool,
}

impl Device {
    /// Starts a connection. `extranonce1` is no other device's.
    #[must_use]
    pub fn new(
        settings: Arc<DeviceSettings>,
        seen: Arc<SeenShares>,
        extranonce1: [u8; EXTRANONCE1_LEN],
        extranonce2_len: usize,
        now: Now,
    ) -> Self {
        Self {
            submits: Bucket::full(settings.submits_burst, now.mono_ms),
            requests: Bucket::full(settings.requests_burst, now.mono_ms),
            settings,
            seen,
            figures: Arc::default(),
            extranonce1,
            extranonce2_len,
            subscribed: false,
            names: Vec::new(),
            mask: None,
            mask_told: 0,
            takes_extranonce: false,
            asked: None,
            easier: None,
            told: None,
            vardiff: Vardiff::new(now.mono_ms),
            jobs: VecDeque::new(),
            next_job: 1,
            work: None,
            last_notify_ms: now.mono_ms,
            paced_until_ms: 0,
            idle_since_ms: now.mono_ms,
            malformed: 0,
            closed: false,
        }
    }

    /// What is counted of it; shared with whoever shows it.
    #[must_use]
    pub fn figures(&self) -> Arc<Mutex<DeviceFigures>> {
        Arc::clone(&self.figures)
    }

    /// Whether it is subscribed and authorized.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.subscribed && !self.names.is_empty()
    }

    /// Takes in a line, without its end.
    pub fn handle_line(&mut self, line: &[u8], now: Now, out: &mut DeviceOutbox) {
        if self.closed {
            return;
        }
        match Request::parse(line) {
            Ok(Some(request)) if request.method == "mining.submit" => {
                self.on_submit(&request, now, out);
            }
            Ok(Some(request)) => {
                let (per_second, burst) =
                    (self.settings.requests_per_second, self.settings.requests_burst);
                if self.requests.take(per_second, burst, now.mono_ms) != Grant::Yes {
                    return self.close(DeviceClose::RequestRate, out);
                }
                self.on_request(&request, now, out);
            }
            Ok(None) => {} // an answer to a notification
            Err(_) => {
                self.malformed += 1;
                if self.malformed > self.settings.malformed_max {
                    return self.close(DeviceClose::Malformed, out);
                }
                self.refuse("null", Refusal::BadParameters, out);
            }
        }
    }

    /// Takes in what the channel has.
    pub fn handle_feed(&mut self, feed: Feed, now: Now, out: &mut DeviceOutbox) {
        if self.closed {
            return;
        }
        match feed {
            Feed::Work { source, assignment, new_tip, since_ms } => {
                let pool = exponent_of(assignment.target);
                let before = self.work.replace(Work { source, assignment, since_ms });
                let (moved, first) = match &before {
                    Some(before) => (before.source != source, false),
                    None => (true, true),
                };
                if first {
                    let first = self.asked.unwrap_or(self.settings.exponent_start);
                    self.easier = Some(first).filter(|first| *first < pool);
                    self.vardiff = Vardiff::new(now.mono_ms);
                }
                if self.is_ready() {
                    self.notify(new_tip || moved, now, out);
                }
            }
            Feed::Lost { source } => {
                let lost = self.jobs.iter_mut().filter(|job| job.source == source);
                lost.for_each(|job| job.end(source));
                if self.work.as_ref().is_some_and(|work| work.source == source) {
                    self.work = None;
                    self.idle_since_ms = now.mono_ms;
                }
            }
            Feed::Message(text) => {
                if shows_messages(&self.figures.lock().agent) {
                    write_show_message(&text, &mut out.lines);
                }
            }
        }
    }

    /// When [`Device::handle_deadline`] is to be called next; `u64::MAX` for never.
    #[must_use]
    pub fn next_deadline(&self) -> u64 {
        if self.closed {
            return u64::MAX;
        }
        if !self.is_ready() {
            return self.idle_since_ms + self.settings.handshake_deadline_ms;
        }
        match &self.work {
            None => self.idle_since_ms + self.settings.silence_ms,
            Some(_) => {
                let keepalive = self.last_notify_ms + self.settings.keepalive_ms;
                keepalive.min(self.pace_due_ms())
            }
        }
    }

    /// Acts when time is up.
    pub fn handle_deadline(&mut self, now: Now, out: &mut DeviceOutbox) {
        if now.mono_ms < self.next_deadline() {
            return;
        }
        if !self.is_ready() {
            return self.close(DeviceClose::HandshakeTimeout, out);
        }
        if self.work.is_none() {
            return self.close(DeviceClose::NoWork, out);
        }
        if now.mono_ms >= self.pace_due_ms()
            && let Some(step) = self.vardiff.on_time(now.mono_ms, self.settings.shares_per_minute)
        {
            self.pace(step, now, out);
        }
        if now.mono_ms >= self.last_notify_ms + self.settings.keepalive_ms {
            self.notify(false, now, out);
        }
    }

    /// Ends the connection for a reason outside of the machine, unless it has ended already.
    pub fn handle_disconnect(&mut self, reason: DeviceClose, out: &mut DeviceOutbox) {
        if !self.closed {
            self.close(reason, out);
        }
    }

    pub(crate) fn close(&mut self, reason: DeviceClose, out: &mut DeviceOutbox) {
        if matches!(reason, DeviceClose::Stopped | DeviceClose::ExtranonceChanged) {
            write_reconnect(&mut out.lines);
        }
        self.closed = true;
        out.close = Some(reason);
    }

    pub(crate) fn refuse(&mut self, id: &str, refusal: Refusal, out: &mut DeviceOutbox) {
        self.figures.lock().refused += 1;
        write_refusal(id, refusal, &mut out.lines);
    }

    /// Notes that it may be ready now, and gives it the work that waits.
    pub(crate) fn become_ready(&mut self, now: Now, out: &mut DeviceOutbox) {
        if !self.is_ready() {
            return;
        }
        self.idle_since_ms = now.mono_ms;
        let user = self.names[0].to_string();
        out.events.push(DeviceEvent::Ready { user, asked: self.asked });
        if self.work.is_some() {
            self.notify(true, now, out);
        }
    }

    pub(crate) fn add_name(&mut self, name: &str) {
        self.names.reserve_exact(1);
        self.names.push(name.into());
        let worker = WorkerFigures { name: name.to_owned(), ..WorkerFigures::default() };
        let mut figures = self.figures.lock();
        // Nearly all devices have one worker: room for more would be most of what is kept of them.
        figures.workers.reserve_exact(1);
        figures.workers.push(worker);
    }

    /// Takes in what it, or its owner, wants to be asked for.
    pub(crate) fn ask_for(&mut self, exponent: Exponent, now: Now, out: &mut DeviceOutbox) {
        let exponent = exponent.max(self.settings.exponent_min);
        self.asked = Some(exponent);
        if let Some(work) = &self.work {
            let pool = exponent_of(work.assignment.target);
            self.easier = (exponent < pool).then_some(exponent);
            self.vardiff = Vardiff::new(now.mono_ms);
            out.events.push(DeviceEvent::Paced { exponent });
        }
    }

    /// What the next job asks for: no more than the pool does.
    fn wanted(&self, pool: Exponent) -> Exponent {
        self.easier.map_or(pool, |easier| easier.min(pool))
    }

    /// When it is moved for want of shares; never where there is nothing easier.
    fn pace_due_ms(&self) -> u64 {
        if self.told.is_some_and(|told| told <= self.settings.exponent_min) {
            return u64::MAX;
        }
        self.vardiff.deadline(self.settings.shares_per_minute).max(self.paced_until_ms)
    }

    /// Moves on the ladder by `step`, as vardiff says; the pool is told of what it has not been yet.
    pub(crate) fn pace(&mut self, step: i32, now: Now, out: &mut DeviceOutbox) {
        let Some(work) = &self.work else { return };
        let pool = exponent_of(work.assignment.target);
        let present = i32::from(self.told.unwrap_or(pool).get());
        let easiest = i32::from(self.settings.exponent_min.get());
        let wanted = (present + step).clamp(easiest.min(present), i32::from(Exponent::MAX.get()));
        let wanted = Exponent::new(wanted as u32).expect("it was clamped to the ladder");
        self.vardiff = Vardiff::new(now.mono_ms);
        self.paced_until_ms = now.mono_ms + PACE_PAUSE_MS;
        let easier = Some(wanted).filter(|wanted| *wanted < pool);
        if easier.is_some() && easier != self.easier {
            out.events.push(DeviceEvent::Paced { exponent: wanted });
        }
        self.easier = easier;
    }

    /// Sends the present work as a job of its own, with whatever has to be told before it.
    pub(crate) fn notify(&mut self, clean: bool, now: Now, out: &mut DeviceOutbox) {
        let Some(work) = self.work.clone() else { return };
        let assignment = &work.assignment;
        let Some(padding) = self.make_room(assignment, out) else { return };
        let allowed = self.mask.filter(|_| assignment.version_rolling).unwrap_or(0);
        if self.mask.is_some() && allowed != self.mask_told {
            self.mask_told = allowed;
            write_set_version_mask(allowed, &mut out.lines);
        }
        let pool = exponent_of(assignment.target);
        let exponent = self.wanted(pool);
        if self.told != Some(exponent) {
            self.told = Some(exponent);
            self.vardiff = Vardiff::new(now.mono_ms);
            write_set_difficulty(exponent, &mut out.lines);
        }
        let ntime = self.next_ntime(&work, now);
        if clean {
            self.jobs.iter_mut().for_each(|job| job.end(work.source));
        }
        while self.jobs.len() >= self.settings.jobs_max {
            self.jobs.pop_front();
        }
        let job = DeviceJob {
            number: self.next_job,
            source: work.source,
            assignment: Some(Arc::clone(assignment)),
            exponent,
            stale: false,
            sent_ms: now.mono_ms,
            ntime,
        };
        // A pool that sends a job each millisecond would need 49 days; then ids are used again.
        self.next_job = self.next_job.checked_add(1).unwrap_or(1);
        write_notify(&job, padding, clean, &mut out.lines);
        self.jobs.push_back(job);
        self.last_notify_ms = now.mono_ms;
        let mut figures = self.figures.lock();
        figures.jobs += 1;
        figures.exponent = Some(exponent);
        figures.pool_exponent = Some(pool);
        figures.version_mask = allowed;
    }

    /// Says how many bytes of extranonce are nobody's, after telling the device of another length
    /// if it has to be. `None` when it cannot be told, and is closed.
    fn make_room(&mut self, assignment: &Assignment, out: &mut DeviceOutbox) -> Option<usize> {
        if let Some(padding) = padding(assignment, self.extranonce2_len) {
            return Some(padding);
        }
        let room = assignment.rollable.saturating_sub(EXTRANONCE1_LEN);
        if !self.takes_extranonce || room < EXTRANONCE2_LEN_MIN {
            self.close(DeviceClose::ExtranonceChanged, out);
            return None;
        }
        self.extranonce2_len = room;
        self.jobs.iter_mut().for_each(|job| job.stale = true);
        write_set_extranonce(self.extranonce1, room, &mut out.lines);
        Some(0)
    }

    /// The job's time moves on with the clock, and a job that comes again gets a later one: firmware
    /// that starts its second extranonce anew with each job then hashes other headers all the same.
    fn next_ntime(&self, work: &Work, now: Now) -> u32 {
        let elapsed_s = now.mono_ms.saturating_sub(work.since_ms) / 1000;
        let elapsed_s = u32::try_from(elapsed_s).unwrap_or(u32::MAX);
        let ntime = work.assignment.min_ntime.saturating_add(elapsed_s);
        let is_of = |job: &&DeviceJob| {
            job.assignment.as_ref().is_some_and(|sent| Arc::ptr_eq(sent, &work.assignment))
        };
        let again = self.jobs.iter().rev().find(is_of);
        again.map_or(ntime, |job| ntime.max(job.ntime.saturating_add(1)))
    }

    /// What of the bits a device asks for it may roll.
    pub(crate) const fn grant_mask(asked: u32) -> u32 {
        asked & VERSION_MASK
    }
}
