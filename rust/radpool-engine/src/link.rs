//! One connection behind its handshake: socket, cipher and machine as one hand-written future.
//!
//! Each poll does, until nothing is left to do: take mail (acknowledgements, commands, new work),
//! keep deadlines, read once into the thread's scratch, hand over what the machine produced, write
//! what it has to say. A link holds no buffer of its own between polls but the part of a frame
//! whose rest is on its way, and what the socket did not take.
//!
//! | phase | reads | writes | left when |
//! |---|---|---|---|
//! | open | to the machine, while the ring has room | yes | the machine or a bound ends it |
//! | flushing | no | what is queued | all is written, or its deadline |
//! | lingering | and throws away | no | the client has closed, or the deadline |
//!
//! Lingering lets the client read a last error message: closing a socket with unread input would
//! reset the connection and take the message with it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use radpool_mining::{CloseReason, Command, Connection, Event};
use radpool_units::Now;
use radpool_wire::{
    noise::{Opener, Sealer},
    reader::{FrameReader, Input, ReadError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use crate::{
    Completion, EngineEvent,
    core::Core,
    event::NO_SUCH_CONNECTION,
    mailbox::{Mail, Order, Rejection},
    outbound::Outbound,
    registry::Seat,
    scratch::{Scratch, with_scratch},
};

/// How long a client may take to read the last message and to close.
const GOODBYE_MS: u64 = 1_000;

/// Reads after which other connections have their turn: 64 KiB of shares take some 2 ms.
const READS_MAX: u32 = 2;

/// What a link is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Flushing(CloseReason),
    Lingering(CloseReason),
    Gone(CloseReason),
}

/// A connection behind its handshake; see the module's head.
pub(crate) struct Link {
    core: Arc<Core>,
    seat: Seat,
    address: std::net::SocketAddr,
    socket: TcpStream,
    sealer: Sealer,
    opener: Opener,
    reader: FrameReader,
    machine: Connection,
    phase: Phase,
    outbound: Outbound,
    /// Since when a frame is incomplete.
    frame_since_ms: Option<u64>,
    goodbye_ms: u64,
    /// Whether the consumer has heard of this connection, and not of its end.
    announced: bool,
    registered: Option<Waker>,
    timer: Pin<Box<Sleep>>,
    /// The deadline that the timer is set to; `u64::MAX` when it is not to be asked.
    timer_ms: u64,
}

impl Link {
    pub(crate) fn new(
        core: Arc<Core>,
        seat: Seat,
        socket: TcpStream,
        address: std::net::SocketAddr,
        (sealer, opener): (Sealer, Opener),
    ) -> Self {
        let now = core.clock.now();
        let machine = Connection::new(seat.mailbox.connection, Arc::clone(&core.shared), now);
        Self {
            seat,
            address,
            socket,
            sealer,
            opener,
            reader: FrameReader::new(),
            machine,
            phase: Phase::Open,
            outbound: Outbound::default(),
            frame_since_ms: None,
            goodbye_ms: u64::MAX,
            announced: false,
            registered: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_ms: u64::MAX,
            core,
        }
    }

    fn step(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Poll<()> {
        let mut reads = 0;
        loop {
            let now = self.core.clock.now();
            self.look_around(now, scratch);
            self.keep_deadlines(now, scratch);
            let read = self.poll_read(context, now, scratch);
            self.hand_over(now, scratch);
            self.poll_write(context, now, scratch);
            if matches!(self.phase, Phase::Gone(_)) {
                return Poll::Ready(());
            }
            if read.is_pending() {
                ready!(self.poll_timer(context));
            } else if reads == READS_MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
        }
    }

    /// Takes mail and new work.
    fn look_around(&mut self, now: Now, scratch: &mut Scratch) {
        if !self.seat.mailbox.take_pending() {
            return;
        }
        #[cfg(test)]
        assert_ne!(
            self.core.panicking.load(Ordering::Relaxed),
            self.seat.mailbox.connection,
            "a test wants this task gone"
        );
        let Mail { rejections, acknowledgements, orders } = self.seat.mailbox.take();
        let out = &mut scratch.outbox;
        self.machine.handle_work(now, out);
        for Rejection { channel, sequence, code, by } in rejections {
            let command = Command::RejectShare { channel, sequence, code, by };
            self.machine.handle_command(command, now, out);
        }
        for ack in acknowledgements {
            let command = Command::Acknowledge {
                channel: ack.channel,
                last_sequence: ack.last_sequence,
                count: ack.count,
                sum: ack.sum,
            };
            self.machine.handle_command(command, now, out);
        }
        for Order { command, token } in orders {
            self.machine.handle_command(command, now, out);
            self.core.handover.complete(Completion { token, failure: None });
        }
        if let Some(deadline_ms) = self.core.stop_deadline_ms()
            && self.phase == Phase::Open
        {
            self.machine.handle_disconnect(CloseReason::Stopped, now, out);
            self.goodbye_ms = deadline_ms;
            self.flush(CloseReason::Stopped, now);
        }
    }

    fn keep_deadlines(&mut self, now: Now, scratch: &mut Scratch) {
        let settings = &self.core.settings;
        let due = |since: Option<u64>, limit_ms: u64| {
            since.is_some_and(|since| now.mono_ms.saturating_sub(since) >= limit_ms)
        };
        let stalled = due(self.outbound.stalled_since_ms(), settings.write_deadline_ms);
        let unfinished = due(self.frame_since_ms, settings.frame_deadline_ms);
        match self.phase {
            Phase::Open if stalled => self.cut(CloseReason::SlowReader, now, scratch),
            Phase::Open if unfinished => self.end(CloseReason::FrameTimeout, now, scratch),
            Phase::Open => {
                if self.machine.next_deadline().is_some_and(|due_ms| now.mono_ms >= due_ms) {
                    self.machine.handle_deadline(now, &mut scratch.outbox);
                }
            }
            Phase::Flushing(reason) | Phase::Lingering(reason) => {
                if now.mono_ms >= self.goodbye_ms {
                    self.phase = Phase::Gone(reason);
                }
            }
            Phase::Gone(_) => {}
        }
    }

    /// Reads once. Ready means that there may be more to do.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        now: Now,
        scratch: &mut Scratch,
    ) -> Poll<()> {
        match self.phase {
            Phase::Open if !self.core.handover.may_read(&self.seat.mailbox) => {
                // Not reading is our doing: the client's frame gets its whole time afterwards.
                self.frame_since_ms = None;
                return Poll::Pending;
            }
            Phase::Open | Phase::Lingering(_) => {}
            Phase::Flushing(_) | Phase::Gone(_) => return Poll::Pending,
        }
        let Scratch { read, outbox, .. } = scratch;
        let mut buffer = ReadBuf::new(read);
        let result = ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer));
        let length = buffer.filled().len();
        match (self.phase, result) {
            (Phase::Lingering(_), Ok(())) if length > 0 => {}
            (Phase::Lingering(reason), _) => self.phase = Phase::Gone(reason),
            (_, Err(_)) => self.cut(CloseReason::SocketFailed, now, scratch),
            (_, Ok(())) if length == 0 => self.cut(CloseReason::PeerClosed, now, scratch),
            (_, Ok(())) => {
                self.core.counters.bytes_read.fetch_add(length as u64, Ordering::Relaxed);
                match self.feed(&mut read[..length], now, outbox) {
                    Ok(()) => {}
                    Err(reason) => self.end(reason, now, scratch),
                }
            }
        }
        Poll::Ready(())
    }

    /// Hands all frames in `bytes` to the machine.
    fn feed(
        &mut self,
        bytes: &mut [u8],
        now: Now,
        out: &mut radpool_mining::Outbox,
    ) -> Result<(), CloseReason> {
        let mut input = Input::new(bytes);
        let mut frames = 0;
        loop {
            let machine = &self.machine;
            let check = |header: &_| machine.check_frame(header);
            let frame = self.reader.next_frame(&mut input, &mut self.opener, check);
            let Some((header, payload)) = frame.map_err(|error| match error {
                ReadError::Refused(reason) => reason,
                ReadError::Open(_) => CloseReason::DecryptFailed,
            })?
            else {
                break;
            };
            self.machine.handle_frame(header, payload, now, out);
            frames += 1;
            if out.close.is_some() {
                break;
            }
        }
        self.core.counters.frames_read.fetch_add(frames, Ordering::Relaxed);
        if !self.reader.is_inside_frame() {
            self.frame_since_ms = None;
        } else if frames > 0 || self.frame_since_ms.is_none() {
            self.frame_since_ms = Some(now.mono_ms);
        }
        Ok(())
    }

    /// Moves everything but frames out of the outbox, and seals those.
    fn hand_over(&mut self, now: Now, scratch: &mut Scratch) {
        let Scratch { outbox, events, sealed, .. } = scratch;
        if outbox.is_empty() {
            return;
        }
        if !outbox.solutions.is_empty()
            && let Some(path) = &*self.core.solutions.read()
        {
            outbox.solutions.drain(..).for_each(|solution| path.submit(solution));
        }
        for event in outbox.events.drain(..) {
            events.extend(self.tell(event));
        }
        self.core.handover.push(&mut outbox.shares, events);
        if !outbox.frames.is_empty() && !matches!(self.phase, Phase::Gone(_)) {
            if self.sealer.seal_frames(&outbox.frames, sealed).is_err() {
                // Only a connection of 2^64 messages, or a bug in the machine, gets here.
                self.phase = Phase::Gone(CloseReason::Internal);
            }
            outbox.frames.clear();
        }
        if let Some(reason) = outbox.close.take()
            && self.phase == Phase::Open
        {
            self.flush(reason, now);
        }
    }

    /// Makes the engine's event of a machine's. A client that left before it was set up is not worth
    /// a word, so that a flood of such clients costs Python nothing.
    fn tell(&mut self, event: Event) -> Option<EngineEvent> {
        let connection = self.seat.mailbox.connection;
        if let Event::Disconnected { reason } = event {
            let announced = core::mem::take(&mut self.announced);
            return announced.then_some(EngineEvent::Disconnected { connection, reason });
        }
        self.announced = true;
        if matches!(event, Event::SetUp { .. }) && self.core.is_own_translator(self.address) {
            self.machine.trust();
        }
        self.core.watch_prefixes(&event);
        Some(EngineEvent::Mining { connection, address: self.address, event })
    }

    /// Writes what the socket takes and keeps the rest, within bounds.
    fn poll_write(&mut self, context: &mut Context<'_>, now: Now, scratch: &mut Scratch) {
        let sealed = &mut scratch.sealed;
        if !matches!(self.phase, Phase::Gone(_)) {
            match self.outbound.poll_send(&mut self.socket, context, sealed, now) {
                Ok(written) => {
                    self.core.counters.bytes_written.fetch_add(written, Ordering::Relaxed);
                }
                Err(_) => self.break_off(CloseReason::SocketFailed),
            }
            // A trusted client may have any number of channels; its write deadline still holds.
            let most = self.core.settings.outbound_bytes_max;
            if self.outbound.waiting() > most && !self.machine.is_trusted() {
                self.break_off(CloseReason::SlowReader);
            }
        }
        sealed.clear();
        if let Phase::Flushing(reason) = self.phase
            && self.outbound.waiting() == 0
        {
            self.linger(context, reason);
        }
    }

    /// Ends in good order: the machine says its last words, which are flushed.
    fn end(&mut self, reason: CloseReason, now: Now, scratch: &mut Scratch) {
        self.machine.handle_disconnect(reason, now, &mut scratch.outbox);
        self.flush(reason, now);
    }

    /// Ends at once: nobody is there to read on.
    fn cut(&mut self, reason: CloseReason, now: Now, scratch: &mut Scratch) {
        self.machine.handle_disconnect(reason, now, &mut scratch.outbox);
        self.phase = Phase::Gone(reason);
    }

    /// Ends at once from where the machine's outbox is not at hand; [`Link::finish`] lets it speak.
    fn break_off(&mut self, reason: CloseReason) {
        self.phase = match self.phase {
            Phase::Open => Phase::Gone(reason),
            Phase::Flushing(reason) | Phase::Lingering(reason) | Phase::Gone(reason) => {
                Phase::Gone(reason)
            }
        };
    }

    fn flush(&mut self, reason: CloseReason, now: Now) {
        self.goodbye_ms = self.goodbye_ms.min(now.mono_ms + GOODBYE_MS);
        self.phase = Phase::Flushing(reason);
    }

    fn linger(&mut self, context: &mut Context<'_>, reason: CloseReason) {
        // Of a socket that is broken already nothing more is expected.
        let shut = Pin::new(&mut self.socket).poll_shutdown(context);
        self.phase = match shut {
            Poll::Ready(Err(_)) => Phase::Gone(reason),
            _ => Phase::Lingering(reason),
        };
        context.waker().wake_by_ref();
    }

    /// Sets the timer to the next deadline. Ready means that one is due.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let next_ms = self.next_deadline_ms();
        if next_ms == u64::MAX {
            self.timer_ms = u64::MAX;
            return Poll::Pending;
        }
        // A timer that is set too early costs one look around; moving it costs a lock each time.
        if next_ms < self.timer_ms {
            self.timer_ms = next_ms;
            self.timer.as_mut().reset(self.core.clock.instant(next_ms));
        }
        ready!(self.timer.as_mut().poll(context));
        self.timer_ms = u64::MAX;
        Poll::Ready(())
    }

    fn next_deadline_ms(&self) -> u64 {
        let settings = &self.core.settings;
        match self.phase {
            Phase::Open => {
                let after = |since: Option<u64>, limit_ms: u64| {
                    since.map_or(u64::MAX, |since| since.saturating_add(limit_ms))
                };
                let machine = self.machine.next_deadline().unwrap_or(u64::MAX);
                machine
                    .min(after(self.outbound.stalled_since_ms(), settings.write_deadline_ms))
                    .min(after(self.frame_since_ms, settings.frame_deadline_ms))
            }
            Phase::Flushing(_) | Phase::Lingering(_) => self.goodbye_ms,
            Phase::Gone(_) => u64::MAX,
        }
    }

    /// Lets the machine report its channels' ends, whatever the link ended for.
    fn finish(&mut self, reason: CloseReason) {
        with_scratch(|scratch| {
            let now = self.core.clock.now();
            self.machine.handle_disconnect(reason, now, &mut scratch.outbox);
            self.phase = Phase::Gone(reason);
            self.hand_over(now, scratch);
        });
    }
}

impl Future for Link {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let link = &mut *self;
        if !link.registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            link.seat.mailbox.register(context.waker());
            link.registered = Some(context.waker().clone());
        }
        with_scratch(|scratch| link.step(context, scratch))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        let reason = match self.phase {
            _ if panicked => CloseReason::Internal,
            Phase::Flushing(reason) | Phase::Lingering(reason) | Phase::Gone(reason) => reason,
            Phase::Open => CloseReason::Stopped,
        };
        let orders = self.seat.mailbox.close().orders;
        for Order { token, .. } in orders {
            let failure = Some(NO_SUCH_CONNECTION);
            self.core.handover.complete(Completion { token, failure });
        }
        if panicked {
            self.core.counters.tasks_panicked.fetch_add(1, Ordering::Relaxed);
        } else {
            self.finish(reason);
        }
        self.core.counters.count_close(reason);
        // Only a machine that panicked has not told it itself.
        if self.announced {
            let connection = self.seat.mailbox.connection;
            self.core.handover.push_event(EngineEvent::Disconnected { connection, reason });
        }
    }
}
