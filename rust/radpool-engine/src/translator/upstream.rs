//! The task of one pool: its encrypted connection and its machine.

use std::sync::{Arc, atomic::Ordering};

use radpool_miner::{Ended, link::Link};
use radpool_sv1::{Feed, Told, Upstream, UpstreamOutbox, UpstreamSettings};
use radpool_wire::keys::AuthorityPublicKey;
use tokio::{sync::mpsc, time::sleep_until};

use super::{
    TranslatorEvent,
    core::{Core, Line, Order},
};

/// Orders that are carried out before the frames go out in one write.
const BURST_MAX: usize = 256;
const SCRATCH_LEN: usize = 64 << 10;

/// Where a pool is and how to speak to it.
#[derive(Clone, Debug)]
pub struct UpstreamPlace {
    /// Who must have certified the pool; `None` trusts whoever answers.
    pub authority: Option<AuthorityPublicKey>,
    pub settings: UpstreamSettings,
}

/// Runs one connection to its end, and tells of it.
pub(super) async fn run(
    core: Arc<Core>,
    line: Arc<Line>,
    orders: mpsc::Receiver<Order>,
    place: UpstreamPlace,
) {
    let mut task = Task { core, line, orders };
    let ended = task.converse(place).await;
    task.core.forget_line(&task.line);
    let upstream = task.line.id;
    task.core.events.push(TranslatorEvent::UpstreamEnded { upstream, ended });
}

struct Task {
    core: Arc<Core>,
    line: Arc<Line>,
    orders: mpsc::Receiver<Order>,
}

impl Task {
    async fn converse(&mut self, place: UpstreamPlace) -> Ended {
        let UpstreamPlace { authority, settings } = place;
        let connecting = Link::connect(&settings.host, settings.port, authority.as_ref());
        let connected = tokio::select! {
            connected = connecting => connected,
            () = wait_to_leave(&mut self.orders) => Err(Ended::Stopped),
        };
        let mut link = match connected {
            Ok(link) => link,
            Err(ended) => return ended,
        };
        let mut out = UpstreamOutbox::default();
        let mut machine = Upstream::new(settings, self.core.clock.now().mono_ms, &mut out);
        let mut scratch = vec![0; SCRATCH_LEN];
        let ended = loop {
            let ended = self.tell(&mut out);
            self.line.channels.store(machine.channels(), Ordering::Relaxed);
            self.line.unanswered.store(machine.unanswered(), Ordering::Relaxed);
            let sent = link.send(&mut out.frames).await.err();
            if let Some(ended) = ended.or(sent) {
                break ended;
            }
            let deadline = self.core.clock.instant(machine.next_deadline());
            tokio::select! {
                readable = link.readable() => {
                    let clock = self.core.clock;
                    let read = readable.and_then(|()| link.read(&mut scratch, |header, payload| {
                        machine.handle_frame(header, payload, clock.now().mono_ms, &mut out);
                    }));
                    if let Err(ended) = read {
                        // What came before the end still counts.
                        break self.tell(&mut out).unwrap_or(ended);
                    }
                }
                order = self.orders.recv() => {
                    let mut next = order;
                    for _ in 0..BURST_MAX {
                        let Some(order) = next else { break };
                        self.carry_out(order, &mut machine, &mut out);
                        next = self.orders.try_recv().ok();
                    }
                    if let Some(order) = next {
                        self.carry_out(order, &mut machine, &mut out);
                    }
                }
                () = sleep_until(deadline) => {
                    machine.handle_deadline(self.core.clock.now().mono_ms, &mut out);
                }
            }
        };
        link.shut_down().await;
        ended
    }

    fn carry_out(&self, order: Order, machine: &mut Upstream, out: &mut UpstreamOutbox) {
        let now_ms = self.core.clock.now().mono_ms;
        match order {
            Order::Open { device, user, rate } => machine.open(device, &user, rate, now_ms, out),
            Order::Release { device } => machine.release(device, now_ms),
            Order::Update { device, rate } => machine.update(device, rate, out),
            Order::Submit { device, share } => {
                if !machine.submit(&share, now_ms, out) {
                    self.count_rejected(device, "channel-closed");
                }
            }
            Order::Leave => machine.leave(out),
        }
    }

    /// Passes on what there is to tell; returns why the connection is over, when it is.
    fn tell(&self, out: &mut UpstreamOutbox) -> Option<Ended> {
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
                    self.core.feed(member, Feed::Lost { source: upstream });
                    let device = member;
                    let refused = TranslatorEvent::ChannelRefused { device, upstream, code };
                    self.core.events.push_device(refused);
                }
                Told::Accepted { member, count, hashes } => {
                    self.core.counters.pool_accepted.fetch_add(count.into(), Ordering::Relaxed);
                    if let Some(entry) = self.core.devices.read().get(&member) {
                        entry.figures.lock().count_accepted(count, hashes);
                    }
                }
                Told::Rejected { member, code } => self.count_rejected(member, &code),
                Told::Ended(end) => ended = ended.or(Some(end)),
            }
        }
        ended
    }

    fn count_rejected(&self, device: u64, code: &str) {
        self.core.counters.pool_rejected.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.core.devices.read().get(&device) {
            entry.figures.lock().count_rejected(code);
        }
    }
}

/// Resolves when the connection is to be left before it is made; nobody has a channel yet.
async fn wait_to_leave(orders: &mut mpsc::Receiver<Order>) {
    while !matches!(orders.recv().await, Some(Order::Leave) | None) {}
}
