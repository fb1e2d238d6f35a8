//! Whether a share proves its work: from the coinbase to the header's hash, in integers.
//!
//! The exact order of all checks and their bounds: `docs/reference/share-validation.md`.

use radpool_ledger::TemplateBody;
use radpool_units::{Hash256, Now, merkle_root_from_path, sha256d};
use sha2::{Digest, Sha256};

use crate::{
    Reject, Settings,
    job::{Job, JobState},
    output::{Outputs, read_compact_size},
    settings::VERSION_ROLLING_MASK,
};

/// Seconds by which consensus lets a block's time run ahead of the clock.
///
/// Source: Bitcoin Core, `MAX_FUTURE_BLOCK_TIME`.
const FUTURE_BLOCK_S: u32 = 7200;

/// A share's header fields and full extranonce.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'share> {
    pub(crate) extranonce: &'share [u8],
    pub(crate) version: u32,
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
}

/// A header that was put together and hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    pub(crate) header: [u8; 80],
    pub(crate) hash: Hash256,
    /// Whether the hash meets the network's target.
    pub(crate) solves_block: bool,
    /// Whether it meets the target of the job's tag.
    pub(crate) is_share: bool,
}

/// Says whether the job may be mined on at this moment.
pub(crate) fn check_state(job: &Job, now: Now) -> Result<(), Reject> {
    match job.state {
        JobState::Active => Ok(()),
        JobState::Past { until_ms } if now.mono_ms < until_ms => Ok(()),
        JobState::Stale { until_ms } if now.mono_ms < until_ms => Err(Reject::StaleShare),
        JobState::Future | JobState::Past { .. } | JobState::Stale { .. } => {
            Err(Reject::InvalidJobId)
        }
    }
}

/// Checks the fields of an attempt on `job` and hashes its header.
pub(crate) fn prove(
    job: &Job,
    attempt: &Attempt<'_>,
    settings: &Settings,
    now: Now,
) -> Result<Proof, Reject> {
    let Some(tip) = job.source.tip else { return Err(Reject::InvalidJobId) };
    if attempt.extranonce.len() != usize::from(job.source.extranonce_len) {
        return Err(Reject::BadExtranonceSize);
    }
    check_ntime(attempt.ntime, tip.min_ntime, job.since_ms, settings.ntime_slack_s, now)?;
    check_version(attempt.version, job.source.body.version, settings.version_rolling)?;
    let body = &job.source.body;
    let header = header(body, attempt, &job.tag.output);
    let hash = sha256d(&header);
    Ok(Proof {
        header,
        hash,
        solves_block: tip.target.is_met_by(&hash),
        is_share: job.tag.exponent.is_met_by(&hash),
    })
}

/// Checks `min_ntime <= ntime <= min(max(min_ntime + elapsed, clock) + slack, clock + 7200)`.
///
/// A client may count up from min_ntime or follow its own clock. Beyond the clock's next two hours
/// no node would take the block, whatever the job says.
fn check_ntime(
    ntime: u32,
    min_ntime: u32,
    job_since_ms: u64,
    slack_s: u32,
    now: Now,
) -> Result<(), Reject> {
    let clock = now.unix_seconds();
    let elapsed = now.mono_ms.saturating_sub(job_since_ms) / 1000;
    let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
    let latest = min_ntime.saturating_add(elapsed).max(clock).saturating_add(slack_s);
    let latest = latest.min(clock.saturating_add(FUTURE_BLOCK_S));
    if (min_ntime..=latest).contains(&ntime) { Ok(()) } else { Err(Reject::InvalidShare) }
}

fn check_version(version: u32, job_version: u32, rolling: bool) -> Result<(), Reject> {
    let changed = version ^ job_version;
    if changed & !VERSION_ROLLING_MASK != 0 {
        Err(Reject::InvalidVersionBit)
    } else if changed != 0 && !rolling {
        Err(Reject::VersionRollingNotAllowed)
    } else {
        Ok(())
    }
}

fn header(body: &TemplateBody, attempt: &Attempt<'_>, owner_output: &[u8]) -> [u8; 80] {
    let txid = coinbase_txid(body, attempt.extranonce, owner_output);
    let root = merkle_root_from_path(txid, &body.merkle_path);
    let mut header = [0; 80];
    header[..4].copy_from_slice(&attempt.version.to_le_bytes());
    header[4..36].copy_from_slice(&body.prev_hash);
    header[36..68].copy_from_slice(&root.0);
    header[68..72].copy_from_slice(&attempt.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&body.nbits.to_le_bytes());
    header[76..].copy_from_slice(&attempt.nonce.to_le_bytes());
    header
}

/// Hashes a coinbase without its witness. The hash's state lives on the stack; caching it behind the
/// prefix would save one of some 44 blocks of a share.
pub(crate) fn coinbase_txid(
    body: &TemplateBody,
    extranonce: &[u8],
    owner_output: &[u8],
) -> Hash256 {
    let inner = Sha256::new()
        .chain_update(&body.coinbase_prefix)
        .chain_update(extranonce)
        .chain_update(&body.coinbase_before_tag)
        .chain_update(owner_output)
        .chain_update(&body.coinbase_after_tag)
        .finalize();
    Hash256(Sha256::digest(inner).into())
}

/// Writes a coinbase as it stands in a block: with the one witness item of 32 zero bytes that the
/// witness commitment was made with. Without a commitment consensus wants no witness.
pub(crate) fn coinbase_in_block(
    body: &TemplateBody,
    extranonce: &[u8],
    owner_output: &[u8],
) -> Vec<u8> {
    if !commits_to_witness(body, owner_output) {
        let mut plain = Vec::new();
        body.write_coinbase(extranonce, owner_output, &mut plain);
        return plain;
    }
    let (version, prefix) = body.coinbase_prefix.split_at(4);
    let locktime_at = body.coinbase_after_tag.len() - 4;
    let (outputs, locktime) = body.coinbase_after_tag.split_at(locktime_at);
    [
        version,
        &[0, 1],
        prefix,
        extranonce,
        &body.coinbase_before_tag,
        owner_output,
        outputs,
        &[1, 32],
        &[0; 32],
        locktime,
    ]
    .concat()
}

/// Whether an output of the coinbase is a witness commitment.
///
/// Source: BIP141, "Commitment structure".
fn commits_to_witness(body: &TemplateBody, owner_output: &[u8]) -> bool {
    const COMMITMENT_START: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    const COMMITMENT_LEN_MIN: usize = 38;
    // Behind the sequence stands the count of outputs, in front of the lock time the last of them.
    let before = body.coinbase_before_tag.get(4..).and_then(read_compact_size);
    let after_len = body.coinbase_after_tag.len().saturating_sub(4);
    [
        before.map_or(&[][..], |(_, outputs)| outputs),
        owner_output,
        &body.coinbase_after_tag[..after_len],
    ]
    .into_iter()
    .flat_map(Outputs::new)
    .flatten()
    .filter_map(|output| read_compact_size(output.get(8..)?))
    .any(|(len, script)| len >= COMMITMENT_LEN_MIN as u64 && script.starts_with(&COMMITMENT_START))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: u64, mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: unix_s * 1000 }
    }

    #[test]
    fn ntime_keeps_to_both_sides_of_each_bound() {
        let check = |ntime, min_ntime, now| check_ntime(ntime, min_ntime, 10_000, 120, now).is_ok();
        // The clock leads: 1000 + 120.
        let now = at(1_000, 10_000);
        assert_eq!(
            [899, 900, 1_120, 1_121].map(|t| check(t, 900, now)),
            [false, true, true, false]
        );
        // The job leads by its age: 2000 + 7 + 120.
        let now = at(1_000, 17_999);
        assert_eq!(
            [1_999, 2_000, 2_127, 2_128].map(|t| check(t, 2_000, now)),
            [false, true, true, false]
        );
        // Consensus leads: 1000 + 7200, although the job would allow more.
        let now = at(1_000, 10_000);
        assert_eq!([8_150, 8_200, 8_201].map(|t| check(t, 8_150, now)), [true, true, false]);
        assert!(!check(8_201, 8_201, now));
        // Nothing wraps at the end of the era.
        assert!(check(u32::MAX, u32::MAX - 5, at(u64::from(u32::MAX) + 9, u64::MAX)));
        // A job from the future of a clock that went back has no age.
        assert!(check(1_100, 1_000, at(0, 0)));
    }

    #[test]
    fn only_rollable_version_bits_may_differ() {
        for bit in 0..32 {
            let version = 0x2000_0000 ^ (1 << bit);
            let rollable = (5..=28).contains(&bit);
            let rolling = check_version(version, 0x2000_0000, true);
            let fixed = check_version(version, 0x2000_0000, false);
            if rollable {
                assert_eq!((rolling, fixed), (Ok(()), Err(Reject::VersionRollingNotAllowed)));
            } else {
                assert_eq!(
                    (rolling, fixed),
                    (Err(Reject::InvalidVersionBit), Err(Reject::InvalidVersionBit))
                );
            }
        }
        assert_eq!(check_version(7, 7, false), Ok(()));
    }
}
