//! One mining channel: its place on the ladder, its extranonce prefix, what it has delivered.

use radpool_units::{Exponent, Target, Work};

use crate::{
    ChannelKind, ChannelOwner, ChannelReport, Reject, Settings, reject::REJECT_CODES,
    settings::PREFIX_LEN, vardiff::Vardiff,
};

/// Earlier prefixes of a channel that shares on earlier jobs are still mined with. A share behind
/// more changes of prefix than these gets a wrong hash, hence nothing.
const OLDER_PREFIXES_MAX: usize = 8;

/// The part of the ladder that a channel may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) easiest: Exponent,
    pub(crate) hardest: Exponent,
    /// The easiest step that client and settings allow, whatever the floor is.
    allowed: Exponent,
}

impl Bounds {
    /// Bounds of a channel whose client accepts no larger target; `None` when the pool gives no
    /// target as small as that.
    pub(crate) fn new(settings: &Settings, max_target: [u8; 32]) -> Option<Self> {
        let asked = Target::from_le_bytes(max_target).exponent_at_most()?;
        let easiest = asked.max(settings.exponent_min);
        let hardest = settings.exponent_max;
        (easiest <= hardest).then_some(Self { easiest, hardest, allowed: easiest })
    }

    /// The same bounds above a floor; a floor above all of them leaves the hardest step.
    pub(crate) fn above(self, floor: Exponent) -> Self {
        Self { easiest: self.allowed.max(floor).min(self.hardest), ..self }
    }

    pub(crate) fn clamp(self, exponent: Exponent) -> Exponent {
        exponent.clamp(self.easiest, self.hardest)
    }

    /// The step so many steps harder, or easier if negative.
    pub(crate) fn step(self, from: Exponent, steps: i32) -> Exponent {
        let zeros = i32::from(from.get()).saturating_add(steps).max(0);
        let step = Exponent::new(zeros.unsigned_abs()).unwrap_or(Exponent::MAX);
        self.clamp(step)
    }

    /// The step at which a declared hash rate gives the wanted rate of shares.
    ///
    /// The declaration is a float on the wire, and only a first guess: vardiff corrects it.
    pub(crate) fn for_hash_rate(self, hashes_per_second: f32, per_minute: u32) -> Exponent {
        let hashes_per_share = f64::from(hashes_per_second) * 60.0 / f64::from(per_minute);
        // Saturates: below one hash a share it is the easiest step, and no rate reaches 2^31.
        let zeros = hashes_per_share.log2().round() as i32;
        self.step(Exponent::MIN, zeros)
    }
}

/// Whether a declared hash rate is a number that a device can have.
pub(crate) fn is_hash_rate(hashes_per_second: f32) -> bool {
    hashes_per_second.is_finite() && hashes_per_second >= 0.0
}

/// What a channel has delivered; made at its first share.
#[derive(Debug)]
pub(crate) struct Deliveries {
    accepted: u64,
    work: u128,
    rejected: [u64; REJECT_CODES],
    changed: bool,
    /// When the next report may leave.
    report_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: u32,
    pub(crate) group: u32,
    pub(crate) kind: ChannelKind,
    pub(crate) rollable: u8,
    pub(crate) exponent: Exponent,
    /// Where vardiff wants a channel that selects its work; of others, where it is.
    pub(crate) wanted: Exponent,
    /// Whether a channel that selects its work has had any.
    pub(crate) has_mined: bool,
    pub(crate) bounds: Bounds,
    /// The declared hash rate that was last followed.
    pub(crate) hash_rate: f32,
    pub(crate) owner: ChannelOwner,
    pub(crate) vardiff: Vardiff,
    /// Group jobs with smaller ids were sent before the channel was there.
    pub(crate) first_job: u32,
    /// When it last changed its group: jobs of others then count for a while only.
    pub(crate) moved_ms: u64,
    prefix: u32,
    /// Earlier prefixes, each with the first job that it did not hold for any more.
    older_prefixes: Vec<(u32, u32)>,
    deliveries: Option<Box<Deliveries>>,
}

/// What a channel starts with.
#[derive(Debug)]
pub(crate) struct NewChannel {
    pub(crate) id: u32,
    pub(crate) kind: ChannelKind,
    pub(crate) rollable: u8,
    pub(crate) exponent: Exponent,
    pub(crate) bounds: Bounds,
    pub(crate) hash_rate: f32,
    pub(crate) owner: ChannelOwner,
    pub(crate) prefix: u32,
    pub(crate) first_job: u32,
}

impl Channel {
    pub(crate) fn new(new: NewChannel, group: u32, now_ms: u64) -> Self {
        Self {
            id: new.id,
            group,
            kind: new.kind,
            rollable: new.rollable,
            exponent: new.exponent,
            wanted: new.exponent,
            has_mined: false,
            bounds: new.bounds,
            hash_rate: new.hash_rate,
            owner: new.owner,
            vardiff: Vardiff::new(now_ms),
            first_job: new.first_job,
            moved_ms: now_ms,
            prefix: new.prefix,
            older_prefixes: Vec::new(),
            deliveries: None,
        }
    }

    /// Length of the whole extranonce.
    pub(crate) fn extranonce_len(&self) -> u8 {
        PREFIX_LEN as u8 + self.rollable
    }

    /// Length of what the client puts behind the prefix it was given.
    pub(crate) fn rolled_len(&self) -> usize {
        match self.kind {
            ChannelKind::Standard => 0,
            ChannelKind::Extended => self.rollable.into(),
        }
    }

    /// The prefix as the client is given it: a standard channel's is the whole extranonce.
    pub(crate) fn wire_prefix(&self) -> Vec<u8> {
        let mut bytes = self.prefix.to_be_bytes().to_vec();
        if self.kind == ChannelKind::Standard {
            bytes.resize(PREFIX_LEN + usize::from(self.rollable), 0);
        }
        bytes
    }

    /// Writes the full extranonce of a share on a job, for which the client rolled `rolled`.
    pub(crate) fn extranonce(&self, job: u32, rolled: &[u8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..PREFIX_LEN].copy_from_slice(&self.prefix_of(job).to_be_bytes());
        bytes[PREFIX_LEN..PREFIX_LEN + rolled.len()].copy_from_slice(rolled);
        bytes
    }

    fn prefix_of(&self, job: u32) -> u32 {
        let older = self.older_prefixes.iter().find(|(first_without, _)| job < *first_without);
        older.map_or(self.prefix, |(_, prefix)| *prefix)
    }

    /// Replaces the prefix, for jobs from `first_job` on.
    pub(crate) fn replace_prefix(&mut self, prefix: u32, first_job: u32) {
        if self.older_prefixes.len() == OLDER_PREFIXES_MAX {
            self.older_prefixes.remove(0);
        }
        self.older_prefixes.push((first_job, self.prefix));
        self.prefix = prefix;
    }

    /// Counts an accepted share; returns when the next report is due.
    pub(crate) fn count_accepted(&mut self, work: Work, now_ms: u64, interval_ms: u64) -> u64 {
        let deliveries = self.deliveries(now_ms, interval_ms);
        deliveries.accepted += 1;
        deliveries.work = deliveries.work.saturating_add(work.0);
        deliveries.changed = true;
        deliveries.report_ms
    }

    /// Counts a refused share; returns when the next report is due.
    pub(crate) fn count_rejected(&mut self, reject: Reject, now_ms: u64, interval_ms: u64) -> u64 {
        let deliveries = self.deliveries(now_ms, interval_ms);
        deliveries.rejected[reject.index()] += 1;
        deliveries.changed = true;
        deliveries.report_ms
    }

    fn deliveries(&mut self, now_ms: u64, interval_ms: u64) -> &mut Deliveries {
        self.deliveries.get_or_insert_with(|| {
            Box::new(Deliveries {
                accepted: 0,
                work: 0,
                rejected: [0; REJECT_CODES],
                changed: false,
                report_ms: now_ms + interval_ms,
            })
        })
    }

    /// When the next report is due; `None` while there is nothing new.
    pub(crate) fn report_deadline(&self) -> Option<u64> {
        self.deliveries.as_ref().filter(|deliveries| deliveries.changed).map(|new| new.report_ms)
    }

    /// Makes a report if there is anything new.
    pub(crate) fn report(&mut self, now_ms: u64, interval_ms: u64) -> Option<ChannelReport> {
        let deliveries = self.deliveries.as_mut().filter(|deliveries| deliveries.changed)?;
        deliveries.changed = false;
        deliveries.report_ms = now_ms + interval_ms;
        Some(ChannelReport {
            channel: self.id,
            accepted: deliveries.accepted,
            work: Work(deliveries.work),
            rejected: deliveries.rejected,
            exponent: self.exponent,
        })
    }
}
