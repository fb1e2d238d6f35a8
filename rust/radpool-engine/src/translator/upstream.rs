//! The task of one pool: its encrypted connection and its machine.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use radpool_miner::{
    Courier, Ended,
    desk::{CarrierFrame, Desk},
    link::Link,
};
use radpool_sv1::{Feed, Told, Upstream, UpstreamOutbox, UpstreamSettings};
use radpool_wire::keys::AuthorityPublicKey;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    TranslatorEvent,
    core::{Core, Line, Order},
};

/// Different codes that are counted apart; a pool that invents more has them counted as one.
const CODES_MAX: usize = 32;
/// Orders that are carried out before the frames go out in one write.
const BURST_MAX: usize = 1_024;
/// Orders that come so soon after the last ones wait for each other, unless one is a block: shares of
/// thousands of devices come one by one, and a message of its own would cost more than all the rest.
const BURST_PAUSE: Duration = Duration::from_millis(4);
const SCRATCH_LEN: usize = 64 << 10;
/// Shares with an attachment that may wait for an answer.
const UNANSWERED_MAX: usize = 4_096;

/// Where a pool is and how to speak to it.
#[derive(Clone, Debug)]
pub struct UpstreamPlace {
    /// Who must have certified the pool; `None` trusts whoever answers.
    pub authority: Option<AuthorityPublicKey>,
    pub settings: UpstreamSettings,
    /// Whom the pool is to pay, with each device's worker behind it, where it is not whom the
    /// translator's settings name.
    pub user: Option<String>,
    /// Over which the extension that carries the shares is served, if one does.
    pub desk: Option<Arc<Desk>>,
}

/// Runs one connection to its end, and tells of it.
pub(super) async fn run(
    core: Arc<Core>,
    line: Arc<Line>,
    orders: mpsc::Receiver<Order>,
    place: UpstreamPlace,
) {
    let desk = place.desk.clone();
    let mut task = Task { core, line, orders, desk };
    let ended = match task.wait_until_cleared().await {
        true => task.converse(place).await,
        false => Ended::Stopped,
    };
    if let Some(desk) = &task.desk {
        desk.close(ended.to_string());
    }
    task.core.forget_line(&task.line);
    let upstream = task.line.id;
    task.core.events.push(TranslatorEvent::UpstreamEnded { upstream, ended });
}

struct Task {
    core: Arc<Core>,
    line: Arc<Line>,
    orders: mpsc::Receiver<Order>,
    desk: Option<Arc<Desk>>,
}

impl Task {
    /// Waits until the end of the last session over the desk was taken note of, and starts another;
    /// false when the pool is to be left before.
    async fn wait_until_cleared(&mut self) -> bool {
        let Some(desk) = self.desk.clone() else { return true };
        while !desk.is_free() {
            tokio::select! {
                () = desk.stirred.notified() => {}
                () = wait_to_leave(&mut self.orders) => return false,
            }
        }
        desk.open(self.line.id);
        true
    }

    async fn converse(&mut self, place: UpstreamPlace) -> Ended {
        let UpstreamPlace { authority, settings, desk, user: _ } = place;
        let mut courier = desk
            .clone()
            .zip(settings.carrier.clone())
            .map(|(desk, carrier)| Courier::new(desk, carrier));
        let connecting = Link::connect(&settings.host, settings.port, authority.as_ref());
        let connected = tokio::select! {
            connected = connecting => connected,
            () = wait_to_leave(&mut self.orders) => Err(Ended::Stopped),
        };
        let mut link = match connected {
            Ok(link) => link,
            Err(ended) => return ended,
        };
        if let Some(address) = link.local_address() {
            let _ = self.line.called_from.set(address);
        }
        let mut out = UpstreamOutbox::default();
        let mut machine = Upstream::new(settings, self.core.clock.now().mono_ms, &mut out);
        let mut scratch = vec![0; SCRATCH_LEN];
        let mut burst = Vec::new();
        let mut pause_until: Option<Instant> = None;
        let ended = loop {
            let ended = self.tell(&mut out, courier.as_mut());
            self.serve(courier.as_mut(), &mut machine, &mut out);
            self.line.channels.store(machine.channels(), Ordering::Relaxed);
            let waiting = courier.as_ref().map_or(0, Courier::waiting);
            self.line.unanswered.store(machine.unanswered() + waiting, Ordering::Relaxed);
            let sent = link.send(&mut out.frames).await.err();
            if let Some(ended) = ended.or(sent) {
                break ended;
            }
            let deadline = self.core.clock.instant(machine.next_deadline());
            tokio::select! {
                readable = link.readable(), if desk.as_ref().is_none_or(|desk| desk.has_room()) => {
                    let now_ms = self.core.clock.now().mono_ms;
                    let read = readable.and_then(|()| link.read(&mut scratch, |header, payload| {
                        machine.handle_frame(header, payload, now_ms, &mut out);
                    }));
                    if let Err(ended) = read {
                        // What came before the end still counts.
                        break self.tell(&mut out, courier.as_mut()).unwrap_or(ended);
                    }
                }
                _ = self.orders.recv_many(&mut burst, BURST_MAX), if pause_until.is_none() => {
                    // Devices that are ready too come first: their shares go out in the same write.
                    tokio::task::yield_now().await;
                    while burst.len() < BURST_MAX && let Ok(order) = self.orders.try_recv() {
                        burst.push(order);
                    }
                    let now_ms = self.core.clock.now().mono_ms;
                    for order in burst.drain(..) {
                        self.carry_out(order, courier.as_mut(), &mut machine, now_ms, &mut out);
                    }
                    pause_until = Some(Instant::now() + BURST_PAUSE);
                }
                () = self.line.hurry.notified(), if pause_until.is_some() => pause_until = None,
                () = stirred(desk.as_deref()) => {}
                () = sleep_until(pause_until.map_or(deadline, |until| until.min(deadline))) => {
                    let now = Instant::now();
                    pause_until = pause_until.filter(|until| now < *until);
                    if now >= deadline {
                        machine.handle_deadline(self.core.clock.now().mono_ms, &mut out);
                    }
                }
            }
        };
        link.shut_down().await;
        ended
    }

    /// Sends what the desk has something for.
    fn serve(
        &self,
        courier: Option<&mut Courier<u64>>,
        machine: &mut Upstream,
        out: &mut UpstreamOutbox,
    ) {
        if let Some(courier) = courier {
            courier.send_commands(&mut out.frames);
            let now_us = self.core.clock.now().mono_ms * 1000;
            courier.send(machine, UNANSWERED_MAX, now_us, out);
        }
    }

    fn carry_out(
        &self,
        order: Order,
        courier: Option<&mut Courier<u64>>,
        machine: &mut Upstream,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        match order {
            Order::Open { device, user, rate } => machine.open(device, &user, rate, now_ms, out),
            Order::Release { device } => machine.release(device, now_ms),
            Order::Update { device, rate } => machine.update(device, rate, now_ms, out),
            Order::Submit { device, share } => match courier {
                Some(courier) => courier.take_in(share, device),
                None if machine.submit(&share, device, now_ms, out) => {}
                None => self.count_rejected(device, "channel-closed"),
            },
            Order::Leave => machine.leave(out),
        }
    }

    /// Passes on what there is to tell; returns why the connection is over, when it is.
    fn tell(
        &self,
        out: &mut UpstreamOutbox,
        mut courier: Option<&mut Courier<u64>>,
    ) -> Option<Ended> {
        let mut ended = None;
        let upstream = self.line.id;
        for told in out.told.drain(..) {
            match told {
                Told::Ready { size } => {
                    let ready = TranslatorEvent::UpstreamReady { upstream, extranonce_size: size };
                    self.core.events.push(ready);
                }
                Told::Work { member, assignment, new_tip, since_ms } => {
                    let feed = Feed::Work { source: upstream, assignment, new_tip, since_ms };
                    self.core.feed(member, feed);
                }
                Told::Refused { member, code } | Told::Closed { member, reason: code } => {
                    self.core.feed(member, Feed::Message(format!("The pool refuses: {code}")));
                    self.core.feed(member, Feed::Lost { source: upstream });
                    let device = member;
                    let refused = TranslatorEvent::ChannelRefused { device, upstream, code };
                    self.core.events.push_device(refused);
                }
                Told::Accepted { member, count, hashes } => {
                    self.core.counters.pool_accepted.fetch_add(count.into(), Ordering::Relaxed);
                    *self.core.counters.pool_work.lock() += u128::from(hashes);
                    if let Some(entry) = self.core.devices.read().get(&member) {
                        entry.figures.lock().count_accepted(count, hashes);
                    }
                }
                Told::Rejected { member, sequence, code } => {
                    let courier = courier.as_deref_mut();
                    if !courier.is_some_and(|courier| courier.handle_refusal(sequence, &code)) {
                        self.count_rejected(member, &code);
                    }
                }
                Told::Carried { channel, tail } => {
                    if let Some(desk) = &self.desk {
                        desk.tell_opened(channel, tail);
                    }
                }
                Told::Frame { msg_type, channel_msg, payload } => {
                    if let Some(desk) = &self.desk {
                        desk.tell_frame(CarrierFrame { msg_type, channel_msg, payload });
                    }
                }
                Told::Ended(end) => ended = ended.or(Some(end)),
            }
        }
        ended
    }

    fn count_rejected(&self, device: u64, code: &str) {
        self.core.counters.pool_rejected.fetch_add(1, Ordering::Relaxed);
        {
            let mut refusals = self.core.counters.refusals.lock();
            let known = refusals.len() < CODES_MAX || refusals.contains_key(code);
            *refusals.entry(if known { code } else { "other" }.to_owned()).or_default() += 1;
        }
        if let Some(entry) = self.core.devices.read().get(&device) {
            entry.figures.lock().count_rejected(code);
        }
    }
}

/// Resolves when the connection is to be left before it is made; nobody has a channel yet.
async fn wait_to_leave(orders: &mut mpsc::Receiver<Order>) {
    while !matches!(orders.recv().await, Some(Order::Leave) | None) {}
}

/// Resolves when the desk has something new; never without one.
async fn stirred(desk: Option<&Desk>) {
    match desk {
        Some(desk) => desk.stirred.notified().await,
        None => std::future::pending().await,
    }
}
