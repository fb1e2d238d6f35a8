//! From one connection to the next: connects, mines, waits, connects again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use radpool_units::Target;
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

use crate::{
    client::{Client, ClientSettings, Event, Outbox},
    courier::Courier,
    desk::{CarrierFrame, Desk},
    ended::Ended,
    lines::Lines,
    link::Link,
    miner::MinerSettings,
    stats::{Book, State},
    sv1::Sv1Client,
    worker::{Board, Found},
};

/// Shares that may wait for an answer: then the threads wait too.
const UNANSWERED_MAX: usize = 4_096;
/// Shares that are sent in one write when there are many.
const BURST_MAX: usize = 64;
const SCRATCH_LEN: usize = 64 << 10;
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Redirections in a row that are followed without an open channel in between.
const REDIRECTIONS_MAX: u32 = 5;
/// A pool that takes or answers nothing any more does not keep the miner from stopping.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// What the miner says it is, to a pool that speaks Stratum V1.
const AGENT: &str = concat!("radpool-miner/", env!("CARGO_PKG_VERSION"));
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Runs a miner's sessions. Lives in the miner's own thread.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) settings: MinerSettings,
    pub(crate) client: ClientSettings,
    pub(crate) board: Arc<Board>,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) hashes: Arc<AtomicU64>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) found: mpsc::Receiver<Found>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Counts connections, so that a share of an old one is recognised.
    pub(crate) session: u64,
}

impl Sessions {
    /// Runs until it is stopped, or until nothing can come of trying on.
    pub(crate) async fn run(mut self) {
        let home = (self.settings.host.clone(), self.settings.port);
        let mut address = home.clone();
        let mut wait = WAIT_MIN;
        let mut redirections = 0;
        let mut has_mined = false;
        loop {
            if !self.wait_until_cleared().await {
                self.book.lock().stats.state = State::Stopped;
                return;
            }
            self.session += 1;
            self.desk.open(self.session);
            let (opened, ended) = self.run_session(&address.0, address.1).await;
            self.board.post(None);
            self.close_book(&ended);
            if self.client.carrier.is_some() {
                self.desk.close(ended.to_string());
            }
            if opened {
                (has_mined, wait, redirections) = (true, WAIT_MIN, 0);
            }
            if ended == Ended::Stopped || (!has_mined && ended.is_lasting()) {
                self.book.lock().stats.state = State::Stopped;
                return;
            }
            if let Ended::SentElsewhere { host, port } = &ended
                && redirections < REDIRECTIONS_MAX
            {
                redirections += 1;
                if !host.is_empty() {
                    address.0.clone_from(host);
                }
                if *port != 0 {
                    address.1 = *port;
                }
                continue;
            }
            if !opened {
                // The place that the pool has named may be wrong: the one from the user counts.
                address.clone_from(&home);
            }
            self.book.lock().stats.state = State::Waiting;
            if !self.wait(jittered(wait)).await {
                self.book.lock().stats.state = State::Stopped;
                return;
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Runs one connection; says whether the channel was opened, and why it ended.
    async fn run_session(&mut self, host: &str, port: u16) -> (bool, Ended) {
        self.book.lock().stats.state = State::Connecting;
        if self.settings.sv1 {
            return self.run_sv1(host, port).await;
        }
        let authority = self.settings.authority.as_ref();
        let connected = tokio::select! {
            connected = Link::connect(host, port, authority) => connected,
            () = stopped(&mut self.stop) => Err(Ended::Stopped),
        };
        let mut link = match connected {
            Ok(link) => link,
            Err(ended) => return (false, ended),
        };
        let settings = ClientSettings { host: host.into(), port, ..self.client.clone() };
        let result = self.converse(&mut link, settings).await;
        link.shut_down().await;
        result
    }

    /// Speaks until the machine or the connection ends.
    async fn converse(&mut self, link: &mut Link, settings: ClientSettings) -> (bool, Ended) {
        let epoch = Instant::now();
        let now_us = || u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut out = Outbox::default();
        let mut scratch = vec![0; SCRATCH_LEN];
        let mut courier =
            settings.carrier.clone().map(|carrier| Courier::new(Arc::clone(&self.desk), carrier));
        let mut client = Client::new(settings, now_us(), &mut out);
        let mut opened = false;
        let mut sample_at = tokio::time::Instant::now();
        let mut leave_at: Option<tokio::time::Instant> = None;
        loop {
            let is_over = leave_at.map(|at| tokio::time::Instant::now() >= at);
            let served = courier.as_mut();
            let ended = self.act(served, &mut client, is_over, now_us(), &mut out, &mut opened);
            let sent = tokio::select! {
                sent = link.send(&mut out.frames) => sent,
                () = stopped_and_waited(&mut self.stop) => Err(Ended::Stopped),
            };
            if let Some(ended) = sent.err().or(ended) {
                return (opened, ended);
            }
            let mut deadline = leave_at.map_or(sample_at, |at| at.min(sample_at));
            if let Some(deadline_us) = client.next_deadline() {
                deadline = deadline.min((epoch + Duration::from_micros(deadline_us)).into());
            }
            tokio::select! {
                readable = link.readable(), if courier.is_none() || self.desk.has_room() => {
                    let read = readable.and_then(|()| link.read(&mut scratch, |header, payload| {
                        client.handle_frame(header, payload, now_us(), &mut out);
                    }));
                    if let Err(ended) = read {
                        // What came before the end still counts.
                        let said = self.handle_events(&mut out, courier.as_mut(), &mut opened);
                        return (opened, said.unwrap_or(ended));
                    }
                }
                Some(found) = self.found.recv(),
                    if leave_at.is_none()
                        && (courier.is_some() || client.unanswered() < UNANSWERED_MAX) =>
                {
                    self.handle_found(found, courier.as_mut(), &mut client, now_us(), &mut out);
                    for _ in 1..BURST_MAX {
                        let Ok(found) = self.found.try_recv() else { break };
                        self.handle_found(found, courier.as_mut(), &mut client, now_us(), &mut out);
                    }
                }
                () = self.desk.stirred.notified() => {}
                () = stopped(&mut self.stop), if leave_at.is_none() => {
                    // The last shares are worth waiting for: their answers are under way.
                    leave_at = Some(tokio::time::Instant::now() + GOODBYE_MAX);
                    courier.iter_mut().for_each(Courier::leave);
                }
                () = sleep_until(deadline) => {
                    client.handle_deadline(now_us(), &mut out);
                    if tokio::time::Instant::now() >= sample_at {
                        sample_at += SAMPLE_EVERY;
                        self.sample();
                    }
                }
            }
        }
    }

    /// Runs one connection of Stratum V1.
    async fn run_sv1(&mut self, host: &str, port: u16) -> (bool, Ended) {
        let connected = tokio::select! {
            connected = Lines::connect(host, port) => connected,
            () = stopped(&mut self.stop) => Err(Ended::Stopped),
        };
        match connected {
            Ok(mut lines) => self.converse_sv1(&mut lines).await,
            Err(ended) => (false, ended),
        }
    }

    async fn converse_sv1(&mut self, lines: &mut Lines) -> (bool, Ended) {
        let epoch = Instant::now();
        let now_us = || u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut out = Outbox::default();
        let mut scratch = vec![0; SCRATCH_LEN];
        let mut client = Sv1Client::new(self.settings.user.clone(), AGENT, now_us(), &mut out);
        let mut opened = false;
        let mut sample_at = tokio::time::Instant::now();
        let mut leave_at: Option<tokio::time::Instant> = None;
        loop {
            let is_over = leave_at.is_some_and(|at| tokio::time::Instant::now() >= at);
            if is_over || (leave_at.is_some() && client.unanswered() == 0) {
                client.close(&mut out);
            }
            let ended = self.handle_events(&mut out, None, &mut opened);
            self.book.lock().stats.unanswered = client.unanswered() as u64;
            let sent = tokio::select! {
                sent = lines.send(&mut out.frames) => sent,
                () = stopped_and_waited(&mut self.stop) => Err(Ended::Stopped),
            };
            if let Some(ended) = sent.err().or(ended) {
                return (opened, ended);
            }
            let mut deadline = leave_at.map_or(sample_at, |at| at.min(sample_at));
            if let Some(deadline_us) = client.next_deadline() {
                deadline = deadline.min((epoch + Duration::from_micros(deadline_us)).into());
            }
            tokio::select! {
                readable = lines.readable() => {
                    let read = readable.and_then(|()| lines.read(&mut scratch, |line| {
                        client.handle_line(line, now_us(), &mut out);
                    }));
                    if let Err(ended) = read {
                        // What came before the end still counts.
                        let said = self.handle_events(&mut out, None, &mut opened);
                        return (opened, said.unwrap_or(ended));
                    }
                }
                Some(found) = self.found.recv(),
                    if leave_at.is_none() && client.unanswered() < UNANSWERED_MAX =>
                {
                    if found.session == self.session
                        && client.submit(&found.share, now_us(), &mut out)
                    {
                        self.book.lock().stats.submitted += 1;
                    }
                }
                () = stopped(&mut self.stop), if leave_at.is_none() => {
                    leave_at = Some(tokio::time::Instant::now() + GOODBYE_MAX);
                }
                () = sleep_until(deadline) => {
                    client.handle_deadline(now_us(), &mut out);
                    if tokio::time::Instant::now() >= sample_at {
                        sample_at += SAMPLE_EVERY;
                        self.sample();
                    }
                }
            }
        }
    }

    /// Does what is to be done now; returns why the session is over, when it is.
    ///
    /// `is_over` says, of a miner that is leaving, whether its time is up.
    fn act(
        &self,
        mut courier: Option<&mut Courier<()>>,
        client: &mut Client,
        is_over: Option<bool>,
        now_us: u64,
        out: &mut Outbox,
        opened: &mut bool,
    ) -> Option<Ended> {
        let mut ended = self.handle_events(out, courier.as_deref_mut(), opened);
        if let Some(courier) = courier.as_deref_mut().filter(|_| ended.is_none()) {
            self.serve(courier, client, now_us, out);
        }
        let owed = courier.as_deref().map_or(0, Courier::owed);
        let is_done = client.unanswered() == 0 && owed == 0;
        if ended.is_none() && is_over.is_some_and(|is_over| is_over || is_done) {
            client.close(out);
            ended = self.handle_events(out, courier, opened);
        }
        self.book.lock().stats.unanswered = client.unanswered() as u64;
        ended
    }

    fn sample(&self) {
        let hashes = self.hashes.load(Ordering::Relaxed);
        self.book.lock().sample(Instant::now(), hashes);
    }

    /// Sends a share, or leaves it to the courier where an extension carries the shares.
    fn handle_found(
        &self,
        found: Found,
        courier: Option<&mut Courier<()>>,
        client: &mut Client,
        now_us: u64,
        out: &mut Outbox,
    ) {
        if found.session != self.session {
            return;
        }
        if let Some(courier) = courier {
            courier.take_in(found.share, ());
        } else if client.submit(&found.share, now_us, out).is_some() {
            self.book.lock().stats.submitted += 1;
        }
    }

    /// Sends what the courier can send.
    fn serve(&self, courier: &mut Courier<()>, client: &mut Client, now_us: u64, out: &mut Outbox) {
        courier.send_commands(&mut out.frames);
        let sent = courier.send(client, UNANSWERED_MAX, now_us, out);
        let mut book = self.book.lock();
        book.stats.submitted += sent;
        book.stats.waiting = courier.waiting() as u64;
    }

    /// Does what the machine wants done; returns why the session is over, when it is.
    fn handle_events(
        &self,
        out: &mut Outbox,
        mut courier: Option<&mut Courier<()>>,
        opened: &mut bool,
    ) -> Option<Ended> {
        let mut ended = None;
        let mut book = self.book.lock();
        for event in out.events.drain(..) {
            match event {
                Event::Extensions(_) => {}
                Event::Opened { channel_id, tail, .. } => {
                    if courier.is_some() {
                        self.desk.tell_opened(channel_id, tail);
                    }
                    *opened = true;
                    book.stats.state = State::Mining;
                    book.stats.channel_id = Some(channel_id);
                    book.stats.sessions += 1;
                    let what = if self.settings.sv1 {
                        "the pool has a job for us".into()
                    } else {
                        format!("the pool opened channel {channel_id}")
                    };
                    book.note(unix_ms(), what);
                }
                Event::TargetChanged(target) => {
                    if book.stats.target != Some(target) {
                        book.note(unix_ms(), describe_target(target));
                    }
                    book.stats.target = Some(target);
                }
                Event::Assigned { assignment, new_tip } => {
                    book.stats.job_id = Some(assignment.job_id);
                    if new_tip {
                        book.stats.tips += 1;
                        let hash = radpool_units::Hash256(assignment.prev_hash);
                        book.note(unix_ms(), format!("mining on top of block {hash}"));
                    }
                    book.stats.prev_hash = Some(assignment.prev_hash);
                    self.board.post(Some((self.session, assignment)));
                }
                Event::Accepted { count, hashes, waited_us } => {
                    book.accept(count, hashes, &waited_us);
                }
                Event::Frame { msg_type, channel_msg, payload } => {
                    self.desk.tell_frame(CarrierFrame { msg_type, channel_msg, payload });
                }
                Event::Rejected { sequence, code } => {
                    let courier = courier.as_deref_mut();
                    if courier.is_some_and(|courier| courier.handle_refusal(sequence, &code)) {
                        book.stats.resent += 1;
                        continue;
                    }
                    book.note(unix_ms(), format!("the pool rejected a share: {code}"));
                    book.reject(code);
                }
                Event::Mismatched(mismatch) => {
                    book.stats.mismatches += 1;
                    book.note(unix_ms(), format!("the pool's count of shares is off: {mismatch}"));
                }
                Event::Ended(end) => ended = ended.or(Some(end)),
            }
        }
        ended
    }

    fn close_book(&self, ended: &Ended) {
        let mut book = self.book.lock();
        book.note(unix_ms(), ended.to_string());
        let stats = &mut book.stats;
        stats.lost += stats.unanswered;
        stats.unanswered = 0;
        stats.waiting = 0;
        stats.channel_id = None;
        stats.job_id = None;
        stats.last_end = Some(ended.to_string());
    }

    /// Waits until nothing of the last session is left to be told; false when the miner is stopped
    /// first.
    async fn wait_until_cleared(&mut self) -> bool {
        while !self.desk.is_cleared() {
            tokio::select! {
                () = self.desk.stirred.notified() => {}
                () = stopped(&mut self.stop) => return false,
                Some(_) = self.found.recv() => {}
            }
        }
        true
    }

    /// Waits for `pause`; false when the miner is stopped first.
    async fn wait(&mut self, pause: Duration) -> bool {
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                () = stopped(&mut self.stop) => return false,
                // Shares of the lost connection: its jobs mean nothing in the next one.
                Some(_) = self.found.recv() => {}
            }
        }
    }
}

/// Resolves when the miner is to stop; at once when it was told so before.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the miner was dropped without being stopped: that stops it too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Resolves when the miner was told to stop and has had a second for its last words.
async fn stopped_and_waited(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(GOODBYE_MAX).await;
}

fn describe_target(target: Target) -> String {
    match target.exponent_at_most() {
        Some(z) => format!("the pool asks for shares of {} zero bits", z.get()),
        None => format!("the pool asks for shares under {target:?}"),
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Half to all of `wait`: miners that lost the same pool do not come back all at once.
fn jittered(wait: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or(u32::MAX);
    let half = wait / 2;
    half + Duration::from_millis(
        u64::try_from(half.as_millis() * u128::from(part) / u128::from(u32::MAX))
            .unwrap_or(u64::MAX),
    )
}
