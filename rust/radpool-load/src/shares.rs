//! Shares as fast as the pool acknowledges them, or at a fixed rate.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use radpool_miner::{
    Assignment, Share, assignment::Roll, client::Event, header::HeaderHasher, submission::Mismatch,
};
use serde_json::json;
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use crate::{
    acknowledged::{Acknowledged, Journal},
    arguments::Arguments,
    claims::{self, Claims, Signing},
    machine::cpu_ns,
    peer::{Peer, Pool, block_on},
    report,
};

/// How long the last answers may take once everything is sent.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
struct Plan {
    pool: Pool,
    /// How shares claim tokens; `None` when they do not.
    signing: Option<Signing>,
    connections: u64,
    window: u64,
    shares: u64,
    /// Shares per second in all; `None` for as fast as they are acknowledged.
    rate: Option<u64>,
    /// Where the hashes of acknowledged shares go.
    journal: Option<Journal>,
    /// Whether the acknowledged work must be that of the shares.
    sums_checked: bool,
}

/// What one connection has seen.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    accepted: u64,
    tokens: u64,
    hashes: u128,
    expected_hashes: u128,
    mismatches: u64,
    sum_mismatches: u64,
    rejected: BTreeMap<String, u64>,
    waits_us: Vec<u64>,
    /// How much later than planned each share of an open loop left.
    late_us: Vec<u64>,
    acknowledged: Option<Acknowledged>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let mut pool = arguments.take_pool()?;
    let signing = match arguments.take("claims", "none".to_string())?.as_str() {
        "none" => None,
        "eager" => Some(Signing::Eager),
        "lazy" => Some(Signing::Lazy),
        other => return Err(format!("--claims {other}: they are eager or lazy, or none")),
    };
    pool.carrier = signing.map(claims::carrier);
    let plan = Plan {
        pool,
        signing,
        connections: arguments.take("connections", 1)?,
        window: arguments.take("window", 64)?,
        shares: arguments.take("shares", 100_000)?,
        rate: arguments.take_optional("rate")?,
        journal: match arguments.take_optional::<String>("acknowledged")? {
            Some(path) => Some(Journal::open(&path)?),
            None => None,
        },
        sums_checked: match arguments.take("sums", "checked".to_string())?.as_str() {
            "checked" => true,
            "ignored" => false,
            other => return Err(format!("--sums {other}: they are checked or ignored")),
        },
    };
    arguments.end()?;
    if plan.connections == 0 || plan.window == 0 || plan.rate == Some(0) {
        return Err("--connections, --window and --rate begin at 1".into());
    }
    block_on(drive(plan))
}

async fn drive(plan: Plan) -> Result<(), String> {
    let connections = plan.connections;
    let together = Arc::new(Barrier::new(usize::try_from(connections + 1).unwrap_or(usize::MAX)));
    let mut tasks = JoinSet::new();
    for index in 0..connections {
        let (peer, assignment) = Peer::join(&plan.pool).await.map_err(|ended| ended.to_string())?;
        let (plan, together) = (plan.clone(), Arc::clone(&together));
        tasks.spawn(async move { submit(peer, assignment, &plan, index, &together).await });
    }
    report::line(&json!({"event": "ready", "connections": connections}));
    together.wait().await;
    let (started, cpu_before) = (Instant::now(), cpu_ns());
    let (mut total, mut failure) = (Tally::default(), None);
    while let Some(result) = tasks.join_next().await {
        let (tally, result) =
            result.map_err(|error| format!("a connection's task died: {error}"))?;
        total.add(tally);
        failure = failure.or(result.err());
    }
    let elapsed = started.elapsed();
    let cpu = cpu_ns() - cpu_before;
    total.report(&plan, elapsed, cpu);
    // A connection that ended leaves shares unanswered: why it ended says more than the totals.
    failure.map_or_else(|| total.check(&plan), Err)
}

/// Submits the share of the run that falls to one connection; what it saw counts even if it fails.
async fn submit(
    mut peer: Peer,
    assignment: Arc<Assignment>,
    plan: &Plan,
    index: u64,
    together: &Barrier,
) -> (Tally, Result<(), String>) {
    let acknowledged = plan.journal.clone().map(Acknowledged::new);
    let mut tally = Tally { acknowledged, ..Tally::default() };
    let quota =
        plan.shares * (index + 1) / plan.connections - plan.shares * index / plan.connections;
    let claims = match plan.signing {
        None => Ok(Claims::default()),
        Some(_) => Claims::new(&peer.granted, quota),
    };
    together.wait().await;
    let result = match claims.and_then(|claims| Grinder::new(assignment, 0, plan.signing, claims)) {
        Ok(grinder) => submit_all(&mut peer, grinder, plan, index, quota, &mut tally).await,
        Err(error) => Err(error),
    };
    (tally, result)
}

async fn submit_all(
    peer: &mut Peer,
    mut grinder: Grinder,
    plan: &Plan,
    index: u64,
    quota: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    match plan.rate {
        None => closed_loop(peer, &mut grinder, tally, plan.window, quota).await?,
        Some(rate) => {
            let period = |number: u64| {
                let place = number * plan.connections + index;
                Duration::from_nanos(place.saturating_mul(1_000_000_000) / rate)
            };
            open_loop(peer, &mut grinder, tally, quota, period).await?;
        }
    }
    let rest = async {
        while peer.client.unanswered() > 0 {
            take_answers(peer, &mut grinder, tally).await?;
        }
        Ok::<(), String>(())
    };
    // Shares without an answer fail the check of the totals, which names their number.
    timeout(LAST_ANSWERS_MAX, rest).await.unwrap_or(Ok(()))
}

async fn closed_loop(
    peer: &mut Peer,
    grinder: &mut Grinder,
    tally: &mut Tally,
    window: u64,
    quota: u64,
) -> Result<(), String> {
    while tally.sent < quota {
        let room = window.saturating_sub(peer.client.unanswered() as u64).min(quota - tally.sent);
        for _ in 0..room {
            grinder.submit(peer, tally)?;
        }
        peer.flush().await.map_err(|ended| ended.to_string())?;
        take_answers(peer, grinder, tally).await?;
    }
    Ok(())
}

async fn open_loop(
    peer: &mut Peer,
    grinder: &mut Grinder,
    tally: &mut Tally,
    quota: u64,
    due: impl Fn(u64) -> Duration,
) -> Result<(), String> {
    let started = tokio::time::Instant::now();
    while tally.sent < quota {
        let planned = started + due(tally.sent);
        tokio::select! {
            () = sleep_until(planned) => {
                let late = planned.elapsed().as_micros();
                tally.late_us.push(u64::try_from(late).unwrap_or(u64::MAX));
                grinder.submit(peer, tally)?;
                peer.flush().await.map_err(|ended| ended.to_string())?;
            }
            answers = take_answers(peer, grinder, tally) => answers?,
        }
    }
    Ok(())
}

async fn take_answers(
    peer: &mut Peer,
    grinder: &mut Grinder,
    tally: &mut Tally,
) -> Result<(), String> {
    peer.receive().await.map_err(|ended| ended.to_string())?;
    for event in peer.events() {
        match event {
            Event::Accepted { count, hashes, waited_us } => {
                if let Some(acknowledged) = &mut tally.acknowledged {
                    acknowledged.accept(count)?;
                }
                tally.accepted += u64::from(count);
                tally.hashes += u128::from(hashes);
                tally.waits_us.extend(waited_us);
            }
            Event::Rejected { sequence, code } => {
                if let Some(acknowledged) = &mut tally.acknowledged {
                    acknowledged.reject(sequence)?;
                }
                *tally.rejected.entry(code).or_default() += 1;
            }
            Event::Mismatched(Mismatch::Sum { .. }) => tally.sum_mismatches += 1,
            Event::Mismatched(_) => tally.mismatches += 1,
            // An earlier job may come again, as when the target goes up and down: no nonce twice.
            Event::Assigned { assignment, .. } => {
                let claims = std::mem::take(&mut grinder.claims);
                *grinder = Grinder::new(assignment, grinder.nonce, grinder.signing, claims)?;
            }
            Event::Ended(ended) => return Err(ended.to_string()),
            Event::Frame { msg_type, payload, .. } => {
                if let Some(signing) = grinder.signing {
                    let tokens = claims::tokens(msg_type, &payload, signing);
                    tally.tokens += tokens.unwrap_or_default();
                }
            }
            Event::Extensions(_) | Event::Opened { .. } | Event::TargetChanged(_) => {}
        }
    }
    Ok(())
}

/// Finds shares of one job, each another one. Their ntime counts the seconds since the job came, as
/// devices count it.
struct Grinder {
    roll: Roll,
    since: Instant,
    ntime: u32,
    hasher: HeaderHasher,
    nonce: u32,
    /// What each share is worth.
    work: u128,
    signing: Option<Signing>,
    claims: Claims,
}

impl Grinder {
    /// Begins behind `nonce`.
    fn new(
        assignment: Arc<Assignment>,
        nonce: u32,
        signing: Option<Signing>,
        claims: Claims,
    ) -> Result<Self, String> {
        let exponent = assignment.target.exponent_at_most().ok_or("the target is out of reach")?;
        let ntime = assignment.min_ntime;
        let roll = Roll::new(assignment);
        let hasher = HeaderHasher::new(&roll.header(ntime));
        let since = Instant::now();
        let work = exponent.work().0;
        Ok(Self { roll, since, ntime, hasher, nonce, work, signing, claims })
    }

    fn follow_clock(&mut self) {
        let elapsed = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        let ntime = self.roll.assignment().min_ntime.saturating_add(elapsed);
        if ntime != self.ntime {
            self.ntime = ntime;
            self.hasher = HeaderHasher::new(&self.roll.header(ntime));
        }
    }

    fn submit(&mut self, peer: &mut Peer, tally: &mut Tally) -> Result<(), String> {
        self.follow_clock();
        let ntime = self.ntime;
        loop {
            self.nonce = match self.nonce.checked_add(1) {
                Some(nonce) => nonce,
                None => {
                    if !self.roll.advance() {
                        return Err("all headers of the job are used up".into());
                    }
                    self.hasher = HeaderHasher::new(&self.roll.header(ntime));
                    0
                }
            };
            let assignment = self.roll.assignment();
            if self.work == 1 || assignment.target.is_met_by(&self.hasher.hash(self.nonce)) {
                let mut extranonce = [0; 32];
                let rolled = self.roll.extranonce();
                extranonce[..rolled.len()].copy_from_slice(rolled);
                let (assignment, version) = (Arc::clone(assignment), self.roll.version());
                let nonce = self.nonce;
                let claim = self.claims.next();
                let attached = claim.as_ref().map_or(&[][..], |claim| claim);
                let share = Share { assignment, version, ntime, nonce, extranonce };
                let sequence = peer.submit(&share, attached);
                if let (Some(acknowledged), Some(sequence)) = (&mut tally.acknowledged, sequence) {
                    acknowledged.send(sequence, self.hasher.hash(nonce));
                }
                tally.sent += 1;
                tally.expected_hashes += self.work;
                return Ok(());
            }
        }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.tokens += other.tokens;
        self.hashes += other.hashes;
        self.expected_hashes += other.expected_hashes;
        self.mismatches += other.mismatches;
        self.sum_mismatches += other.sum_mismatches;
        for (code, count) in other.rejected {
            *self.rejected.entry(code).or_default() += count;
        }
        self.waits_us.extend(other.waits_us);
        self.late_us.extend(other.late_us);
    }

    fn report(&mut self, plan: &Plan, elapsed: Duration, cpu_ns: u64) {
        report::line(&json!({
            "event": "shares",
            "connections": plan.connections,
            "window": plan.window,
            "rate": plan.rate,
            "sent": self.sent,
            "accepted": self.accepted,
            "tokens": self.tokens,
            "rejected": self.rejected,
            "mismatches": self.mismatches,
            "elapsed_us": u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "generator_cpu_us": cpu_ns / 1_000,
            "ack_us": report::distribution(&mut self.waits_us),
            "late_us": report::distribution(&mut self.late_us),
        }));
    }

    /// Fails unless every share was acknowledged exactly once, with a token if it claimed one.
    fn check(&self, plan: &Plan) -> Result<(), String> {
        let claimed = if plan.signing.is_some() { self.sent } else { 0 };
        if self.tokens != claimed {
            return Err(format!("{claimed} tokens claimed, {} acknowledged", self.tokens));
        }
        let rejected: u64 = self.rejected.values().sum();
        if self.accepted == self.sent && rejected == 0 && self.mismatches == 0 {
            let sums_fit = self.hashes == self.expected_hashes && self.sum_mismatches == 0;
            if sums_fit || !plan.sums_checked {
                return Ok(());
            }
            return Err(format!(
                "the shares are worth {} hashes, the pool acknowledged {}",
                self.expected_hashes, self.hashes
            ));
        }
        Err(format!(
            "{} shares sent, {} acknowledged, {rejected} rejected, {} answers that do not fit",
            self.sent, self.accepted, self.mismatches
        ))
    }
}
