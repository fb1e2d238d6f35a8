//! A Stratum V1 client, without IO: lines and time in, lines and events out.
//!
//! Theory of operation. Subscribing and authorizing go out at once, as cheap firmware does it. The
//! connection counts as open when both were granted and there is a job:
//!
//! ```text
//! Joining ── both granted, a difficulty and a job ──> Mining ── end of anything ──> Over
//! ```
//!
//! A difficulty and an extranonce hold for jobs that come after them. Version bits are not rolled: a
//! processor never uses up the extranonce. Each share is answered by itself, in any order.
//!
//! Bounds: lines of [`LINE_LEN_MAX`] bytes, [`JOBS_MAX`] jobs, a coinbase and a path as long as a
//! line. Times are microseconds of a clock that never goes back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use radpool_units::{Exponent, Target};
use serde_json::{Value, json};

use crate::{
    assignment::{Assignment, Coinbase, EXTRANONCE_LEN_MAX, JobSource, Share},
    client::{Event, Outbox, printable},
    ended::Ended,
};

/// The longest line that a pool has to say: a coinbase of hundreds of outputs.
pub const LINE_LEN_MAX: usize = 256 << 10;
/// Jobs whose shares may still be on their way from the threads.
const JOBS_MAX: usize = 16;
/// How long the pool may take for each answer.
const ANSWER_US_MAX: u64 = 30_000_000;
/// Numbers of the first two requests; shares follow.
const SUBSCRIBE: u64 = 1;
const AUTHORIZE: u64 = 2;
/// 0xffff * 2^208 is the target of difficulty 1.
const DIFFICULTY_1_DIGITS: u64 = 0xffff;
const DIFFICULTY_1_SHIFT: i32 = 208;
const HASHES_OF_DIFFICULTY_1: f64 = 4_294_967_296.0;
/// The number that stands for a channel, of which there are none.
const CHANNEL: u32 = 0;

/// A share under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    sent_us: u64,
    hashes: u64,
}

/// What the pool calls a job, and what its shares are worth.
#[derive(Clone, Debug)]
struct Known {
    number: u32,
    name: String,
    hashes: u64,
}

/// One connection to a pool.
#[derive(Debug)]
pub struct Sv1Client {
    user: String,
    started_us: u64,
    is_subscribed: bool,
    is_authorized: bool,
    is_open: bool,
    is_over: bool,
    extranonce1: Vec<u8>,
    extranonce2_len: usize,
    difficulty: Option<f64>,
    jobs: VecDeque<Known>,
    /// The newest job, until the connection is open.
    waiting: Option<(Assignment, bool)>,
    prev_hash: Option<[u8; 32]>,
    next_job: u32,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
}

impl Sv1Client {
    /// Starts to join.
    pub fn new(user: String, agent: &str, now_us: u64, out: &mut Outbox) -> Self {
        let client = Self {
            user,
            started_us: now_us,
            is_subscribed: false,
            is_authorized: false,
            is_open: false,
            is_over: false,
            extranonce1: Vec::new(),
            extranonce2_len: 0,
            difficulty: None,
            jobs: VecDeque::new(),
            waiting: None,
            prev_hash: None,
            next_job: 1,
            next_id: AUTHORIZE + 1,
            pending: BTreeMap::new(),
        };
        say(out, &json!({"id": SUBSCRIBE, "method": "mining.subscribe", "params": [agent]}));
        let params = json!([client.user, "x"]);
        say(out, &json!({"id": AUTHORIZE, "method": "mining.authorize", "params": params}));
        client
    }

    /// How many shares wait for their answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// When [`Self::handle_deadline`] is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let since_us =
            if self.is_open { self.pending.values().next()?.sent_us } else { self.started_us };
        (!self.is_over).then_some(since_us + ANSWER_US_MAX)
    }

    /// Ends a connection to a pool that does not answer.
    pub fn handle_deadline(&mut self, now_us: u64, out: &mut Outbox) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now_us) {
            let awaited = if self.is_open { "a share's answer" } else { "a job" };
            self.end(Ended::Silent { awaited }, out);
        }
    }

    /// Ends the connection from this side.
    pub fn close(&mut self, out: &mut Outbox) {
        self.end(Ended::Stopped, out);
    }

    /// Submits a share; false when its job is forgotten.
    pub fn submit(&mut self, share: &Share, now_us: u64, out: &mut Outbox) -> bool {
        let number = share.assignment.job_id;
        let Some(job) = self.jobs.iter().find(|job| job.number == number) else { return false };
        if self.is_over {
            return false;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, Pending { sent_us: now_us, hashes: job.hashes });
        let extranonce2 = hex::encode(&share.extranonce[..share.assignment.rollable]);
        let (ntime, nonce) = (format!("{:08x}", share.ntime), format!("{:08x}", share.nonce));
        let params = json!([self.user, job.name, extranonce2, ntime, nonce]);
        say(out, &json!({"id": id, "method": "mining.submit", "params": params}));
        true
    }

    /// Takes in a line of the pool, without its end.
    pub fn handle_line(&mut self, line: &[u8], now_us: u64, out: &mut Outbox) {
        if self.is_over || line.is_empty() {
            return;
        }
        let heard = match serde_json::from_slice::<Value>(line) {
            Ok(message) => self.hear(&message, now_us, out),
            Err(error) => Err(Ended::Malformed(error.to_string())),
        };
        if let Err(ended) = heard {
            self.end(ended, out);
        }
    }

    fn hear(&mut self, message: &Value, now_us: u64, out: &mut Outbox) -> Result<(), Ended> {
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            return self.hear_answer(message, now_us, out);
        };
        let params = message.get("params").unwrap_or(&Value::Null);
        match method {
            "mining.set_difficulty" => {
                let difficulty = params.get(0).and_then(Value::as_f64);
                let difficulty = difficulty.filter(|difficulty| target_of(*difficulty).is_some());
                self.difficulty =
                    Some(difficulty.ok_or(Ended::Broken("no difficulty that can be"))?);
            }
            "mining.set_extranonce" => self.set_extranonce(params.get(0), params.get(1))?,
            "mining.notify" => self.hear_job(params, out)?,
            "client.reconnect" => {
                let host = params.get(0).and_then(Value::as_str).unwrap_or_default();
                let port = params.get(1).and_then(number).and_then(|port| u16::try_from(port).ok());
                return Err(Ended::sent_elsewhere(host.as_bytes(), port.unwrap_or_default()));
            }
            _ => refuse(message, out),
        }
        Ok(())
    }

    fn hear_answer(&mut self, message: &Value, now_us: u64, out: &mut Outbox) -> Result<(), Ended> {
        let id = message.get("id").and_then(Value::as_u64);
        let error = message.get("error").filter(|error| !error.is_null());
        let result = message.get("result").unwrap_or(&Value::Null);
        match id {
            Some(SUBSCRIBE) if !self.is_subscribed => {
                if let Some(error) = error {
                    return Err(Ended::refused("the subscription", reason(error).as_bytes()));
                }
                self.set_extranonce(result.get(1), result.get(2))?;
                self.is_subscribed = true;
            }
            Some(AUTHORIZE) if !self.is_authorized => {
                if error.is_some() || *result != Value::Bool(true) {
                    let code = error.map_or_else(|| "it says no".into(), reason);
                    return Err(Ended::refused("the user name", code.as_bytes()));
                }
                self.is_authorized = true;
            }
            _ => {
                // A pool may answer what nobody asked: firmware passes it over as well.
                let Some((id, share)) = id.and_then(|id| self.pending.remove_entry(&id)) else {
                    return Ok(());
                };
                let event = if error.is_none() && *result == Value::Bool(true) {
                    let waited_us = vec![now_us.saturating_sub(share.sent_us)];
                    Event::Accepted { count: 1, hashes: share.hashes, waited_us }
                } else {
                    let code = error.map_or_else(|| "refused".into(), reason);
                    Event::Rejected { sequence: id as u32, code }
                };
                out.events.push(event);
                return Ok(());
            }
        }
        self.open(out);
        Ok(())
    }

    fn set_extranonce(&mut self, part: Option<&Value>, len: Option<&Value>) -> Result<(), Ended> {
        let wrong = || Ended::Broken("no extranonce that can be");
        let part = part.and_then(Value::as_str).and_then(|text| hex::decode(text).ok());
        let len = len.and_then(number).and_then(|len| usize::try_from(len).ok());
        let part = part.filter(|part| part.len() <= EXTRANONCE_LEN_MAX).ok_or_else(wrong)?;
        let len = len.filter(|len| (1..=EXTRANONCE_LEN_MAX).contains(len)).ok_or_else(wrong)?;
        (self.extranonce1, self.extranonce2_len) = (part, len);
        Ok(())
    }

    fn hear_job(&mut self, params: &Value, out: &mut Outbox) -> Result<(), Ended> {
        if !self.is_subscribed {
            return Err(Ended::Broken("a job before the extranonce"));
        }
        // Whoever is told no difficulty has 1.
        let difficulty = self.difficulty.unwrap_or(1.0);
        let number = self.next_job;
        self.next_job = number.wrapping_add(1);
        let read = read_job(params, number, self);
        let (name, assignment) = read.ok_or(Ended::Broken("a job that cannot be read"))?;
        let hashes = (difficulty * HASHES_OF_DIFFICULTY_1) as u64;
        if params.get(8) == Some(&Value::Bool(true)) {
            self.jobs.clear();
        }
        if self.jobs.len() == JOBS_MAX {
            self.jobs.pop_front();
        }
        self.jobs.push_back(Known { number, name, hashes });
        let new_tip = self.prev_hash.replace(assignment.prev_hash) != Some(assignment.prev_hash);
        self.waiting = Some((assignment, new_tip));
        self.open(out);
        Ok(())
    }

    /// Mines the newest job, once everything is granted.
    fn open(&mut self, out: &mut Outbox) {
        if !(self.is_subscribed && self.is_authorized) {
            return;
        }
        let Some((assignment, new_tip)) = self.waiting.take() else { return };
        if !self.is_open {
            self.is_open = true;
            let rollable = assignment.rollable;
            let event =
                Event::Opened { channel_id: CHANNEL, group_id: CHANNEL, rollable, tail: vec![] };
            out.events.push(event);
        }
        out.events.push(Event::TargetChanged(self.told(assignment.target)));
        out.events.push(Event::Assigned { assignment: Arc::new(assignment), new_tip });
    }

    /// What a difficulty is called: that of a power of two is a hair stricter than the step's target.
    fn told(&self, target: Target) -> Target {
        let hashes = self.difficulty.unwrap_or(1.0) * HASHES_OF_DIFFICULTY_1;
        let step = hashes.log2();
        let exponent = (step == step.trunc()).then(|| Exponent::new(step as u32).ok()).flatten();
        exponent.map_or(target, Exponent::target)
    }

    fn end(&mut self, ended: Ended, out: &mut Outbox) {
        if !self.is_over {
            self.is_over = true;
            out.events.push(Event::Ended(ended));
        }
    }
}

/// Reads the parameters of mining.notify.
fn read_job(params: &Value, number: u32, client: &Sv1Client) -> Option<(String, Assignment)> {
    let text = |at: usize| params.get(at)?.as_str();
    let bytes = |at| hex::decode(text(at)?).ok();
    let word = |at| u32::from_str_radix(text(at)?, 16).ok();
    let mut prev_hash: [u8; 32] = bytes(1)?.try_into().ok()?;
    // Each word of the hash comes with its bytes the other way round.
    prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    let branch = params.get(4)?.as_array()?.iter();
    let path = branch.map(|hash| hex::decode(hash.as_str()?).ok()?.try_into().ok());
    let path = path.collect::<Option<Vec<[u8; 32]>>>()?;
    let source = JobSource::Coinbase(Coinbase::new(bytes(2)?, bytes(3)?, path).into());
    let assignment = Assignment {
        channel_id: CHANNEL,
        job_id: number,
        version: word(5)?,
        version_rolling: false,
        prev_hash,
        nbits: word(6)?,
        min_ntime: word(7)?,
        target: target_of(client.difficulty.unwrap_or(1.0))?,
        extranonce_prefix: client.extranonce1.clone(),
        rollable: client.extranonce2_len,
        source,
    };
    Some((text(0)?.to_owned(), assignment))
}

/// Computes `floor(0xffff * 2^208 / difficulty)`, exactly; `None` when nothing could meet it.
fn target_of(difficulty: f64) -> Option<Target> {
    if !difficulty.is_normal() || difficulty <= 0.0 {
        return None;
    }
    // A normal number is significand * 2^exponent, with 53 bits and 1075 as the bias.
    let bits = difficulty.to_bits();
    let significand = (bits & ((1 << 52) - 1)) | 1 << 52;
    let exponent = i32::try_from(bits >> 52).ok()? - 1_075;
    let shift = u32::try_from(DIFFICULTY_1_SHIFT - exponent).ok()?;
    let mut target = [0_u8; 32];
    let mut rest = 0_u64;
    for at in (0..shift + DIFFICULTY_1_DIGITS.ilog2() + 1).rev() {
        let digit = at.checked_sub(shift).map_or(0, |at| DIFFICULTY_1_DIGITS >> at & 1);
        rest = rest << 1 | digit;
        if rest >= significand {
            rest -= significand;
            let Some(byte) = target.get_mut(at as usize / 8) else { return Some(Target::MAX) };
            *byte |= 1 << (at % 8);
        }
    }
    (target != [0; 32]).then(|| Target::from_le_bytes(target))
}

/// Numbers come as such, and as text from some.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// What the pool says of an error: its text where there is one.
fn reason(error: &Value) -> String {
    let text = error.get(1).or_else(|| error.get("message")).and_then(Value::as_str);
    let text = text.map_or_else(|| error.to_string(), str::to_owned);
    printable(text.as_bytes())
}

/// Answers a question that is none of a miner's.
fn refuse(message: &Value, out: &mut Outbox) {
    if let Some(id) = message.get("id").filter(|id| !id.is_null()) {
        say(out, &json!({"id": id, "result": null, "error": [20, "Unknown method", null]}));
    }
}

fn say(out: &mut Outbox, message: &Value) {
    out.frames.extend_from_slice(message.to_string().as_bytes());
    out.frames.push(b'\n');
}
