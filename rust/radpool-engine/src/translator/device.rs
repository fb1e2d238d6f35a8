//! The task of one device: its socket, its machine, and the pools that it has a channel with.
//!
//! Each turn takes in what waits, hands shares to their pool, writes what there is to say, and then
//! waits for bytes, feeds or a deadline. While a device does not take what it is sent, or a pool's
//! queue is full, the device is not read: that bounds everything that it can cause.
//!
//! A device keeps its channel with the old pool until there is work of the new one, so that a return
//! to a better pool costs no hash.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use radpool_sv1::{Device, DeviceClose, DeviceEvent, DeviceOutbox, Feed, LineReader, PoolShare};
use radpool_units::{Exponent, Now};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc::error::TrySendError,
    time::{sleep_until, timeout},
};

use super::{
    TranslatorEvent,
    core::{Core, Entry, Line, Order},
};
use crate::{limit::Admission, listener::prepare};

const SCRATCH_LEN: usize = 16 * 1024;

/// After a pool closed a channel or refused one, before another is asked for.
const REOPEN_MS: u64 = 5_000;

/// How long a device may take to read its last lines.
const GOODBYE: Duration = Duration::from_secs(1);

/// The longest identity that SV2 carries.
const IDENTITY_LEN_MAX: usize = 255;

/// More memory than this is given back when it has been used.
const SPARE_LEN_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into());
    /// An empty outbox with room: a device has one only while it is served.
    static SPARE: RefCell<DeviceOutbox> = RefCell::default();
}

/// Serves one connection from its acceptance to its end.
pub(super) async fn serve(
    core: Arc<Core>,
    socket: TcpStream,
    address: SocketAddr,
    admission: Admission,
) {
    if !is_let_in(&core, &socket, &admission) {
        return;
    }
    converse(core, socket, address).await;
    drop(admission);
}

/// Whether its address does not connect too often, and the socket can be used.
pub(super) fn is_let_in(core: &Core, socket: &TcpStream, admission: &Admission) -> bool {
    let is_refused = admission.book_handshake(core.clock.mono_ns()).is_err();
    let is_let_in = !is_refused && prepare(socket).is_ok();
    if !is_let_in {
        core.counters.refused_connections.fetch_add(1, Ordering::Relaxed);
    }
    is_let_in
}

/// Serves a device over a stream that is ready for its first line.
pub(super) async fn converse<S>(core: Arc<Core>, socket: S, address: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut task = Task::new(core, socket, address);
    let reason = task.run().await;
    Box::pin(task.leave(reason)).await;
}

struct Task<S> {
    core: Arc<Core>,
    id: u64,
    entry: Arc<Entry>,
    socket: S,
    machine: Device,
    reader: LineReader,
    out: DeviceOutbox,
    line_since_ms: Option<u64>,
    /// The first name that it has given, once it is ready.
    user: Option<String>,
    rate: f32,
    /// The pools that it has a channel with, or has asked for one.
    lines: Vec<Arc<Line>>,
    reopen_ms: u64,
    reason: DeviceClose,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    fn new(core: Arc<Core>, socket: S, address: SocketAddr) -> Self {
        let now = core.clock.now();
        let (id, extranonce1) = core.next_device();
        let settings = Arc::clone(&core.device_settings);
        let machine =
            Device::new(settings, Arc::clone(&core.seen), extranonce1, core.extranonce2_len(), now);
        let entry = Arc::new(Entry {
            address,
            since_unix_ms: now.unix_ms,
            mailbox: super::core::Mailbox::default(),
            assigned: 0.into(),
            figures: machine.figures(),
        });
        core.devices.write().insert(id, Arc::clone(&entry));
        Self {
            rate: core.settings.nominal_hash_rate,
            core,
            id,
            entry,
            socket,
            machine,
            reader: LineReader::default(),
            out: DeviceOutbox::default(),
            line_since_ms: None,
            user: None,
            lines: Vec::new(),
            reopen_ms: 0,
            reason: DeviceClose::Internal,
        }
    }

    async fn run(&mut self) -> DeviceClose {
        let entry = Arc::clone(&self.entry);
        let mut timer = pin!(sleep_until(tokio::time::Instant::now()));
        let mut timer_ms = u64::MAX;
        let mut now = self.core.clock.now();
        loop {
            self.take_room();
            self.take_feeds(now);
            self.keep_deadlines(now);
            if let Err(reason) = self.act(now).await {
                return reason;
            }
            self.give_room_back();
            let due_ms = self.next_deadline();
            // Deadlines move on with every share; a timer that goes off too soon is set anew then.
            if due_ms < timer_ms {
                timer_ms = due_ms;
                timer.as_mut().reset(self.core.clock.instant(due_ms));
            }
            // Whatever ends the wait, each turn looks at everything: the order starves nobody.
            tokio::select! {
                biased;
                read = poll_fn(|context| self.poll_read(context)) => {
                    now = read.0;
                    if let Err(reason) = read.1 {
                        self.machine.handle_disconnect(reason, &mut self.out);
                    }
                }
                () = poll_fn(|context| entry.mailbox.poll_stirred(context)) => {
                    now = self.core.clock.now();
                }
                () = timer.as_mut() => {
                    timer_ms = u64::MAX;
                    now = self.core.clock.now();
                }
            }
        }
    }

    /// Takes memory for lines and shares, where it has none.
    fn take_room(&mut self) {
        if self.out.lines.capacity() == 0 && self.out.shares.is_empty() {
            SPARE.with_borrow_mut(|spare| {
                core::mem::swap(&mut self.out.lines, &mut spare.lines);
                core::mem::swap(&mut self.out.shares, &mut spare.shares);
            });
        }
    }

    /// Leaves that memory to the next device, once everything in it is on its way.
    fn give_room_back(&mut self) {
        let out = core::mem::take(&mut self.out);
        if out.lines.capacity() <= SPARE_LEN_MAX {
            SPARE.set(out);
        }
    }

    fn take_feeds(&mut self, now: Now) {
        for feed in self.entry.mailbox.take() {
            match &feed {
                Feed::Lost { source } => {
                    self.lines.retain(|line| line.id != *source);
                    // The pool stands, and has refused or closed this one channel.
                    if self.current().is_some_and(|current| current.id == *source) {
                        self.reopen_ms = now.mono_ms + REOPEN_MS;
                    }
                }
                Feed::Work { source, .. } => {
                    // Work of a pool that was left meanwhile is of no use.
                    if !self.lines.iter().any(|line| line.id == *source) {
                        continue;
                    }
                    let current = self.current();
                    if current.is_some_and(|current| current.id == *source) {
                        self.release_all_but(*source);
                    }
                }
                Feed::Message(_) => {}
            }
            self.machine.handle_feed(feed, now, &mut self.out);
        }
        if self.core.stopping.load(Ordering::Acquire) {
            self.machine.handle_disconnect(DeviceClose::Stopped, &mut self.out);
        }
    }

    fn keep_deadlines(&mut self, now: Now) {
        let late = self
            .line_since_ms
            .is_some_and(|since| now.mono_ms >= since + self.core.settings.line_deadline_ms);
        if late {
            self.machine.handle_disconnect(DeviceClose::LineTimeout, &mut self.out);
        }
        self.machine.handle_deadline(now, &mut self.out);
    }

    fn next_deadline(&self) -> u64 {
        let line = self.line_since_ms.map(|since| since + self.core.settings.line_deadline_ms);
        let waits = self.user.is_some() && self.lines.is_empty();
        let reopen = waits.then_some(self.reopen_ms).filter(|_| self.current().is_some());
        [line, reopen].into_iter().flatten().fold(self.machine.next_deadline(), u64::min)
    }

    /// Does what the machine wants done.
    async fn act(&mut self, now: Now) -> Result<(), DeviceClose> {
        for event in core::mem::take(&mut self.out.events) {
            self.handle_event(event).await;
        }
        self.attach(now).await;
        let mut shares = core::mem::take(&mut self.out.shares);
        for share in shares.drain(..) {
            self.forward(share).await;
        }
        self.out.shares = shares;
        let written = self.write().await;
        match self.out.close.take() {
            Some(reason) => Err(reason),
            None => written,
        }
    }

    async fn handle_event(&mut self, event: DeviceEvent) {
        match event {
            DeviceEvent::Ready { user, asked } => {
                if let Some(exponent) = asked {
                    self.rate = self.rate_at(exponent);
                }
                self.user = Some(user.clone());
                let (device, address) = (self.id, self.entry.address);
                let joined = TranslatorEvent::DeviceJoined { device, address, user };
                self.core.events.push_device(joined);
            }
            DeviceEvent::Paced { exponent } => {
                self.rate = self.rate_at(exponent);
                if let Some(line) = self.lines.last().cloned() {
                    let order = Order::Update { device: self.id, rate: self.rate };
                    // A pool that is gone has told so already, or is about to.
                    let _ = send(&line, order).await;
                }
            }
        }
    }

    /// Asks the pool in use for a channel, unless that was done.
    async fn attach(&mut self, now: Now) {
        let Some(name) = &self.user else { return };
        let Some(current) = self.current() else { return };
        if now.mono_ms < self.reopen_ms || self.lines.iter().any(|line| line.id == current.id) {
            return;
        }
        let user = current.user.as_deref().or(self.core.settings.user.as_deref());
        let user = identity(user, name);
        let order = Order::Open { device: self.id, user, rate: self.rate };
        if send(&current, order).await {
            self.lines.push(current);
        }
    }

    /// The pool that it is to mine for.
    fn current(&self) -> Option<Arc<Line>> {
        self.core.current(&self.entry)
    }

    fn release_all_but(&mut self, source: u64) {
        let device = self.id;
        self.lines.retain(|line| {
            if line.id != source {
                release(line, device);
            }
            line.id == source
        });
    }

    async fn forward(&mut self, PoolShare { source, share, is_block }: PoolShare) {
        let device = self.id;
        let sent = match self.lines.iter().find(|line| line.id == source) {
            Some(line) => {
                if is_block {
                    line.hurry.notify_one();
                }
                send(line, Order::Submit { device, share }).await
            }
            None => false,
        };
        if sent {
            self.core.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        } else {
            self.core.counters.undeliverable.fetch_add(1, Ordering::Relaxed);
            self.entry.figures.lock().count_rejected("pool-lost");
        }
    }

    /// Reads once, into memory that is a thread's and not a device's.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<(Now, Result<(), DeviceClose>)> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut bytes = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.socket).poll_read(context, &mut bytes));
            let now = self.core.clock.now();
            let taken = match (read, bytes.filled()) {
                (Ok(()), []) => Err(DeviceClose::PeerClosed),
                (Ok(()), bytes) => self.feed(bytes, now),
                (Err(_), _) => Err(DeviceClose::SocketFailed),
            };
            Poll::Ready((now, taken))
        })
    }

    fn feed(&mut self, bytes: &[u8], now: Now) -> Result<(), DeviceClose> {
        self.take_room();
        let (machine, out) = (&mut self.machine, &mut self.out);
        let mut lines = 0;
        let fed = self.reader.feed(bytes, |line| {
            lines += 1;
            machine.handle_line(line, now, out);
            out.close.is_none()
        });
        let counters = &self.core.counters;
        counters.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        counters.lines_read.fetch_add(lines, Ordering::Relaxed);
        if !self.reader.is_inside_line() {
            self.line_since_ms = None;
        } else if lines > 0 || self.line_since_ms.is_none() {
            self.line_since_ms = Some(now.mono_ms);
        }
        fed.map_err(|_| DeviceClose::LineTooLong)
    }

    async fn write(&mut self) -> Result<(), DeviceClose> {
        if self.out.lines.is_empty() {
            return Ok(());
        }
        let limit = match self.out.close {
            Some(_) => GOODBYE,
            None => Duration::from_millis(self.core.settings.write_deadline_ms),
        };
        let length = self.out.lines.len() as u64;
        self.core.counters.bytes_written.fetch_add(length, Ordering::Relaxed);
        let mut sent = 0;
        // Nearly always the system takes all of it at once: then no time has to be kept.
        let at_once = poll_fn(|context| Poll::Ready(self.poll_write(&mut sent, context))).await;
        let written = match at_once {
            Poll::Ready(written) => Ok(written),
            Poll::Pending => {
                let rest = poll_fn(|context| self.poll_write(&mut sent, context));
                Box::pin(timeout(limit, rest)).await
            }
        };
        self.out.lines.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(DeviceClose::SocketFailed),
            Err(_) => Err(DeviceClose::SlowReader),
        }
    }

    /// Writes what is not sent yet, and has the stream pass it on.
    fn poll_write(&mut self, sent: &mut usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Pin::new(&mut self.socket);
        while *sent < self.out.lines.len() {
            match ready!(socket.as_mut().poll_write(context, &self.out.lines[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => *sent += length,
            }
        }
        socket.poll_flush(context)
    }

    /// Ends in good order: the last lines are on their way, and are not to be lost by a reset.
    async fn leave(&mut self, reason: DeviceClose) {
        self.reason = reason;
        if matches!(reason, DeviceClose::PeerClosed | DeviceClose::SocketFailed) {
            return;
        }
        let _ = timeout(GOODBYE, async {
            self.socket.shutdown().await?;
            // What comes now is thrown away until the device has closed.
            poll_fn(|context| self.poll_end(context)).await;
            io::Result::Ok(())
        })
        .await;
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut rest = ReadBuf::new(scratch);
                let read = ready!(Pin::new(&mut self.socket).poll_read(context, &mut rest));
                if read.is_err() || rest.filled().is_empty() {
                    return Poll::Ready(());
                }
            }
        })
    }

    /// The hash rate at which shares of this step come as often as is wanted.
    fn rate_at(&self, exponent: Exponent) -> f32 {
        let per_minute = f64::from(self.core.settings.device.shares_per_minute);
        (2f64.powi(exponent.get().into()) * per_minute / 60.0) as f32
    }
}

impl<S> Drop for Task<S> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let reason = if panicked { DeviceClose::Internal } else { self.reason };
        for line in &self.lines {
            release(line, self.id);
        }
        self.core.devices.write().remove(&self.id);
        self.core.count_close(reason);
        let figures = self.entry.figures.lock();
        let accepted: u64 = figures.workers.iter().map(|worker| worker.accepted).sum();
        let rejected: u64 =
            figures.workers.iter().map(|worker| worker.rejected.iter().sum::<u64>()).sum();
        self.core.counters.gone_accepted.fetch_add(accepted, Ordering::Relaxed);
        self.core.counters.gone_rejected.fetch_add(rejected, Ordering::Relaxed);
        for worker in &figures.workers {
            let totals = self.core.counters.gone_reasons.iter();
            totals.zip(worker.rejected).for_each(|(total, count)| {
                total.fetch_add(count, Ordering::Relaxed);
            });
        }
        if self.user.is_some() {
            let device = self.id;
            self.core.events.push_device(TranslatorEvent::DeviceLeft { device, reason });
        }
    }
}

/// Puts an order into a pool's queue; false when the pool is gone. What is needed to wait for room is
/// in a box, for it would be a part of each device's memory.
async fn send(line: &Line, order: Order) -> bool {
    match line.orders.try_send(order) {
        Err(TrySendError::Full(order)) => Box::pin(line.orders.send(order)).await.is_ok(),
        sent => sent.is_ok(),
    }
}

/// Gives a channel back without waiting; where the pool's queue is full, in a task of its own.
fn release(line: &Arc<Line>, device: u64) {
    let order = Order::Release { device };
    if let Err(TrySendError::Full(order)) = line.orders.try_send(order) {
        let line = Arc::clone(line);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { line.orders.send(order).await });
        }
    }
}

/// As whom a device of this user name mines.
fn identity(user: Option<&str>, name: &str) -> String {
    let Some(user) = user else { return name.to_owned() };
    let worker = name.split_once('.').map_or(name, |(_, worker)| worker);
    let mut identity = format!("{user}.{worker}");
    let mut end = identity.len().min(IDENTITY_LEN_MAX);
    while !identity.is_char_boundary(end) {
        end -= 1;
    }
    identity.truncate(end);
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_the_devices_own_or_ours_with_its_worker() {
        assert_eq!(identity(None, "bc1q.rig"), "bc1q.rig");
        assert_eq!(identity(Some("us"), "bc1q.rig.2"), "us.rig.2");
        assert_eq!(identity(Some("us"), "rig"), "us.rig");
        let long = identity(Some("us"), &"\u{e9}".repeat(200));
        assert_eq!(long.len(), 255);
    }
}
