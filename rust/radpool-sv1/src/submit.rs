//! Shares of a device: parsed to bytes first, then judged by their header alone.
//!
//! | in this order | refused as |
//! |---|---|
//! | subscribed, name authorized on this connection | 25, 24 |
//! | 5 or 6 parameters, each of its kind | 20 |
//! | job known, and not stale | 21 |
//! | extranonce2 of exactly the told length | 20 |
//! | time from the job's to the clock's and some | 20 |
//! | version bits inside of the mask | 20 |
//! | hash at most what the job asked for | 23 |
//! | header never submitted before, by any device | 22 |
//!
//! Two spellings of one share have one header, so that at most one of them counts.

use radpool_miner::assignment::Assignment;
use radpool_mining::{Seen, bucket::Grant};
use radpool_units::{Exponent, Now};

use crate::{
    Device, DeviceClose, DeviceOutbox,
    job::{DeviceJob, EXTRANONCE1_LEN, Rolled, header_hash, padding},
    outbox::PoolShare,
    reply::{Refusal, write_refusal, write_result},
    request::{Parameters, Request, read_hex},
};

/// Where a share's parameters stand.
const NAME: usize = 0;
const JOB: usize = 1;
const EXTRANONCE2: usize = 2;
const NTIME: usize = 3;
const NONCE: usize = 4;
const VERSION_BITS: usize = 5;

/// A share that counts.
struct Good {
    worker: usize,
    /// What its job asked for.
    exponent: Exponent,
    /// For the pool, if it meets its target.
    share: Option<PoolShare>,
}

impl Device {
    pub(crate) fn on_submit(&mut self, request: &Request<'_>, now: Now, out: &mut DeviceOutbox) {
        let (per_second, burst) = (self.settings.submits_per_second, self.settings.submits_burst);
        match self.submits.take(per_second, burst, now.mono_ms) {
            Grant::Yes => {}
            Grant::No => return self.reject(request, Refusal::TooMany, out),
            Grant::Exhausted => return self.close(DeviceClose::SubmitRate, out),
        }
        match self.judge(request, now) {
            Ok(good) => self.accept(request, good, now, out),
            Err(refusal) => self.reject(request, refusal, out),
        }
    }

    fn judge(&self, request: &Request<'_>, now: Now) -> Result<Good, Refusal> {
        if !self.subscribed {
            return Err(Refusal::NotSubscribed);
        }
        let parameters = request.parameters();
        let worker = self.worker_of(&parameters).ok_or(Refusal::Unauthorized)?;
        if !(5..=6).contains(&parameters.len()) {
            return Err(Refusal::BadParameters);
        }
        let job = parameters.word(JOB).ok_or(Refusal::BadParameters)?;
        let job = self.find_job(&job).ok_or(Refusal::JobNotFound)?;
        let assignment = job.assignment.as_ref().filter(|_| !job.stale).ok_or(Refusal::Stale)?;
        let rolled = self.read_rolled(&parameters, job, assignment, now)?;
        let hash = header_hash(assignment, &rolled);
        let forward = assignment.target.is_met_by(&hash);
        if !forward && !job.exponent.is_met_by(&hash) {
            return Err(Refusal::LowDifficulty);
        }
        if self.seen.insert(&assignment.prev_hash, &hash) == Seen::Before {
            return Err(Refusal::Duplicate);
        }
        let share = forward.then(|| PoolShare::new(job.source, assignment, &rolled, &hash));
        Ok(Good { worker, exponent: job.exponent, share })
    }

    fn read_rolled(
        &self,
        parameters: &Parameters<'_>,
        job: &DeviceJob,
        assignment: &Assignment,
        now: Now,
    ) -> Result<Rolled, Refusal> {
        let digits = parameters.text(EXTRANONCE2).ok_or(Refusal::BadParameters)?;
        let ntime = parameters.bits(NTIME).ok_or(Refusal::BadParameters)?;
        let nonce = parameters.bits(NONCE).ok_or(Refusal::BadParameters)?;
        let bits = match parameters.raw(VERSION_BITS) {
            "null" => None,
            _ => Some(parameters.bits(VERSION_BITS).ok_or(Refusal::BadParameters)?),
        };
        // A job sent before the length changed is stale, so that this holds for every other.
        let padding = padding(assignment, self.extranonce2_len).ok_or(Refusal::BadExtranonce)?;
        let mut extranonce = [0; 32];
        let (head, tail) = extranonce[padding..assignment.rollable].split_at_mut(EXTRANONCE1_LEN);
        head.copy_from_slice(&self.extranonce1);
        read_hex(&digits, tail).ok_or(Refusal::BadExtranonce)?;
        self.check_ntime(ntime, job, now)?;
        let version = self.roll_version(bits, assignment)?;
        Ok(Rolled { version, ntime, nonce, extranonce })
    }

    fn check_ntime(&self, ntime: u32, job: &DeviceJob, now: Now) -> Result<(), Refusal> {
        let elapsed_s = u32::try_from(now.mono_ms.saturating_sub(job.sent_ms) / 1000);
        let clock = job.ntime.saturating_add(elapsed_s.unwrap_or(u32::MAX));
        let latest = now.unix_seconds().max(clock).saturating_add(self.settings.ntime_ahead_s);
        if (job.ntime..=latest).contains(&ntime) { Ok(()) } else { Err(Refusal::BadTime) }
    }

    fn roll_version(&self, bits: Option<u32>, assignment: &Assignment) -> Result<u32, Refusal> {
        let version = assignment.version;
        let Some(bits) = bits else { return Ok(version) };
        let mask = self.mask.filter(|_| assignment.version_rolling).unwrap_or(0);
        // Some firmware repeats the job's own bits when it has rolled none.
        if bits & !mask != 0 && bits != version {
            return Err(Refusal::BadVersion);
        }
        Ok(version & !mask | bits & mask)
    }

    fn accept(&mut self, request: &Request<'_>, good: Good, now: Now, out: &mut DeviceOutbox) {
        let Good { worker, exponent, share } = good;
        write_result(request.id, "true", &mut out.lines);
        let mut figures = self.figures.lock();
        let counted = &mut figures.workers[worker];
        counted.accepted += 1;
        counted.forwarded += u64::from(share.is_some());
        counted.work += exponent.work().0;
        counted.last_share_unix_ms = now.unix_ms;
        drop(figures);
        out.shares.extend(share);
        if self.told == Some(exponent)
            && let Some(step) = self.vardiff.on_share(now.mono_ms, self.settings.shares_per_minute)
        {
            self.pace(step, now, out);
        }
    }

    fn reject(&mut self, request: &Request<'_>, refusal: Refusal, out: &mut DeviceOutbox) {
        let worker = self.worker_of(&request.parameters());
        let mut figures = self.figures.lock();
        match worker {
            Some(worker) => figures.workers[worker].rejected[refusal as usize] += 1,
            None => figures.refused += 1,
        }
        drop(figures);
        write_refusal(request.id, refusal, &mut out.lines);
    }

    fn worker_of(&self, parameters: &Parameters<'_>) -> Option<usize> {
        let name = parameters.text(NAME)?;
        self.names.iter().position(|known| **known == *name)
    }

    /// The job of an id. Ids are hexadecimal without leading zeros; case is no matter.
    fn find_job(&self, id: &str) -> Option<&DeviceJob> {
        if id.is_empty() || id.len() > 8 || id.starts_with('0') || id.starts_with('+') {
            return None;
        }
        let number = u32::from_str_radix(id, 16).ok()?;
        self.jobs.iter().rev().find(|job| job.number == number)
    }
}
