//! Shares as fast as they are answered, or each device at its own pace. They are found beforehand,
//! so that a run costs the generator two system calls and little more for each.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use radpool_miner::{
    Share, assignment::EXTRANONCE_LEN_MAX, assignment::Roll, client::Outbox, header::HeaderHasher,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    sync::Barrier,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use super::{
    Miner, Place, join_all,
    line::{Said, read},
    miner::Joined,
};
use crate::{arguments::Arguments, machine::cpu_ns, peer::block_on, peer::now_us, report};

/// How long the last answers may take once everything is sent.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(30);
/// Jobs and difficulties that follow upon the first job have come by then.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Plan {
    connections: usize,
    window: u64,
    shares: u64,
    /// From a device's share to its next; `None` for as soon as there is room in its window.
    period: Option<Duration>,
}

/// Lines with shares, ready to be sent; the first has the number `first`, the next one more.
#[derive(Debug, Default)]
struct Quiver {
    lines: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
    first: u64,
}

/// A line with a number.
#[derive(Debug, Deserialize)]
struct Numbered {
    id: u64,
}

/// What devices have seen.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    accepted: u64,
    rejected: BTreeMap<String, u64>,
    /// When each share was sent; 0 once it is answered.
    sent_us: Vec<u64>,
    waits_us: Vec<u64>,
    /// How much later than planned each share left.
    late_us: Vec<u64>,
    /// Answers to nothing, or to what has been answered.
    strays: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let place = Place::take(arguments)?;
    let plan = Plan {
        connections: arguments.take("connections", 1)?,
        window: arguments.take("window", 16)?,
        shares: arguments.take("shares", 100_000)?,
        period: arguments.take_optional("period-ms")?.map(Duration::from_millis),
    };
    arguments.end()?;
    if plan.connections == 0 || plan.window == 0 || plan.period.is_some_and(|it| it.is_zero()) {
        return Err("--connections, --window and --period-ms begin at 1".into());
    }
    block_on(drive(place, plan))
}

async fn drive(place: Place, plan: Plan) -> Result<(), String> {
    let all = join_all(&place, plan.connections).await?;
    sleep(SETTLE).await;
    let together = Arc::new(Barrier::new(plan.connections + 1));
    let mut tasks = JoinSet::new();
    for (index, joined) in all.into_iter().enumerate() {
        let (miner, quiver) = prepare(joined, quota(&plan, index))?;
        let together = Arc::clone(&together);
        tasks.spawn(async move { submit(miner, quiver, plan, index, &together).await });
    }
    report::line(&json!({"event": "ready", "connections": plan.connections}));
    // Whoever has started this reads what the pool has used so far, and then says so.
    let _ = BufReader::new(stdin()).lines().next_line().await;
    together.wait().await;
    let (started, cpu_before) = (Instant::now(), cpu_ns());
    let (mut total, mut failures) = (Tally::default(), Vec::new());
    while let Some(result) = tasks.join_next().await {
        let (tally, result) = result.map_err(|error| format!("a device's task died: {error}"))?;
        total.add(tally);
        failures.extend(result.err());
    }
    let cpu = cpu_ns() - cpu_before;
    total.report(started.elapsed(), cpu, failures.len());
    match failures.first() {
        Some(reason) => {
            Err(format!("{} of {} devices failed: {reason}", failures.len(), plan.connections))
        }
        None => total.check(),
    }
}

fn quota(plan: &Plan, index: usize) -> u64 {
    let (connections, index) = (plan.connections as u64, index as u64);
    plan.shares * (index + 1) / connections - plan.shares * index / connections
}

/// Finds shares of the newest job, each with another extranonce: that is how fast devices go on, and
/// no server can save itself the coinbase's hash.
fn prepare(mut joined: Joined, quota: u64) -> Result<(Miner, Quiver), String> {
    joined.catch_up()?;
    let Joined { miner, mut client, assignment } = joined;
    let mut roll = Roll::new(assignment);
    let (mut out, mut quiver) = (Outbox::default(), Quiver::default());
    for _ in 0..quota {
        if !roll.advance() {
            return Err("all extranonces of the job are used up".into());
        }
        let assignment = Arc::clone(roll.assignment());
        let ntime = assignment.min_ntime;
        let mut hasher = HeaderHasher::new(&roll.header(ntime));
        let nonce = (0..u32::MAX)
            .find(|nonce| assignment.target.is_met_by(&hasher.hash(*nonce)))
            .ok_or("no nonce meets the target")?;
        let mut extranonce = [0; EXTRANONCE_LEN_MAX];
        extranonce[..roll.extranonce().len()].copy_from_slice(roll.extranonce());
        let version = roll.version();
        let share = Share { assignment, version, ntime, nonce, extranonce };
        if !client.submit(&share, 0, &mut out) {
            return Err("the newest job is forgotten".into());
        }
        quiver.ends.push(out.frames.len());
    }
    if let Some(end) = quiver.ends.first() {
        let first: Numbered = serde_json::from_slice(&out.frames[..*end])
            .map_err(|error| format!("an own share cannot be read: {error}"))?;
        quiver.first = first.id;
    }
    quiver.lines = out.frames;
    Ok((miner, quiver))
}

async fn submit(
    mut miner: Miner,
    quiver: Quiver,
    plan: Plan,
    index: usize,
    together: &Barrier,
) -> (Tally, Result<(), String>) {
    let mut tally = Tally::default();
    together.wait().await;
    let result = match plan.period {
        None => closed_loop(&mut miner, &quiver, plan.window, &mut tally).await,
        Some(period) => {
            let share_of_all = index as f64 / plan.connections as f64;
            let first = tokio::time::Instant::now() + period.mul_f64(share_of_all);
            open_loop(&mut miner, &quiver, first, period, &mut tally).await
        }
    };
    let result = match result {
        Ok(()) => {
            let rest = take_all_answers(&mut miner, &quiver, &mut tally);
            // Shares without an answer fail the check of the totals, which names their number.
            timeout(LAST_ANSWERS_MAX, rest).await.unwrap_or(Ok(()))
        }
        failed => failed,
    };
    (tally, result)
}

async fn closed_loop(
    miner: &mut Miner,
    quiver: &Quiver,
    window: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let quota = quiver.ends.len() as u64;
    while tally.sent < quota {
        let room = window.saturating_sub(tally.unanswered()).min(quota - tally.sent);
        let lines = quiver.take(room, tally);
        miner.write(lines).await?;
        take_answers(miner, quiver, tally).await?;
    }
    Ok(())
}

async fn open_loop(
    miner: &mut Miner,
    quiver: &Quiver,
    first: tokio::time::Instant,
    period: Duration,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut planned = first;
    while tally.sent < quiver.ends.len() as u64 {
        tokio::select! {
            () = sleep_until(planned) => {
                let late = planned.elapsed().as_micros();
                tally.late_us.push(u64::try_from(late).unwrap_or(u64::MAX));
                let lines = quiver.take(1, tally);
                miner.write(lines).await?;
                planned += period;
            }
            answers = take_answers(miner, quiver, tally) => answers?,
        }
    }
    Ok(())
}

async fn take_all_answers(
    miner: &mut Miner,
    quiver: &Quiver,
    tally: &mut Tally,
) -> Result<(), String> {
    while tally.unanswered() > 0 {
        take_answers(miner, quiver, tally).await?;
    }
    Ok(())
}

async fn take_answers(miner: &mut Miner, quiver: &Quiver, tally: &mut Tally) -> Result<(), String> {
    miner
        .read(|line| {
            if let Said::Answer { id, refusal } = read(line)? {
                tally.answer(id.checked_sub(quiver.first), refusal);
            }
            Ok(())
        })
        .await
}

impl Quiver {
    /// Gives the next lines to be sent, and notes that they are.
    fn take(&self, count: u64, tally: &mut Tally) -> &[u8] {
        let end_of = |sent: u64| {
            let last = usize::try_from(sent).ok().and_then(|sent| sent.checked_sub(1));
            last.map_or(0, |last| self.ends[last])
        };
        let start = end_of(tally.sent);
        tally.sent += count;
        tally.sent_us.resize(usize::try_from(tally.sent).expect("they fit in memory"), now_us());
        &self.lines[start..end_of(tally.sent)]
    }
}

impl Tally {
    fn unanswered(&self) -> u64 {
        self.sent - self.accepted - self.rejected.values().sum::<u64>()
    }

    fn answer(&mut self, place: Option<u64>, refusal: Option<&str>) {
        let sent_us = place
            .and_then(|place| self.sent_us.get_mut(usize::try_from(place).ok()?))
            .map(core::mem::take);
        let Some(sent_us) = sent_us.filter(|sent_us| *sent_us > 0) else {
            self.strays += 1;
            return;
        };
        match refusal {
            None => {
                self.accepted += 1;
                self.waits_us.push(now_us() - sent_us);
            }
            Some(reason) => *self.rejected.entry(reason.to_string()).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.strays += other.strays;
        for (reason, count) in other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
        self.waits_us.extend(other.waits_us);
        self.late_us.extend(other.late_us);
    }

    fn report(&mut self, elapsed: Duration, cpu_ns: u64, failed: usize) {
        report::line(&json!({
            "event": "shares",
            "sent": self.sent,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "failed": failed,
            "elapsed_us": u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            "generator_cpu_us": cpu_ns / 1_000,
            "ack_us": report::distribution(&mut self.waits_us),
            "late_us": report::distribution(&mut self.late_us),
        }));
    }

    /// Every share is answered exactly once, with true.
    fn check(&self) -> Result<(), String> {
        if self.accepted == self.sent && self.strays == 0 {
            return Ok(());
        }
        Err(format!(
            "{} shares sent, {} accepted, rejected {:?}, {} answers to nothing",
            self.sent, self.accepted, self.rejected, self.strays
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_sent() -> Tally {
        let quiver = Quiver { lines: b"a\nbb\nc\n".to_vec(), ends: vec![2, 5, 7], first: 3 };
        let mut tally = Tally::default();
        assert_eq!(quiver.take(0, &mut tally), b"");
        assert_eq!(quiver.take(1, &mut tally), b"a\n");
        assert_eq!(quiver.take(1, &mut tally), b"bb\n");
        tally
    }

    #[test]
    fn each_share_counts_once() {
        let mut tally = two_sent();
        assert_eq!(tally.unanswered(), 2);
        tally.answer(Some(1), None);
        tally.answer(Some(0), None);
        assert_eq!((tally.unanswered(), tally.check()), (0, Ok(())));
        for stray in [Some(1), Some(2), None] {
            tally.answer(stray, None);
        }
        assert!(tally.check().unwrap_err().contains("3 answers to nothing"));
    }

    #[test]
    fn a_refused_share_fails_the_run() {
        let mut tally = two_sent();
        tally.answer(Some(0), None);
        tally.answer(Some(1), Some("[23]"));
        assert_eq!(tally.unanswered(), 0);
        assert!(tally.check().unwrap_err().contains("[23]"));
    }

    #[test]
    fn quotas_add_up() {
        let plan = Plan { connections: 7, window: 1, shares: 100, period: None };
        assert_eq!((0..7).map(|index| quota(&plan, index)).sum::<u64>(), 100);
    }
}
