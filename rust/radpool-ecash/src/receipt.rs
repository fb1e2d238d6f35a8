//! Receipts: what the mint answers for the shares of a channel.
//!
//! Source: `spec/05-ecash-messages.md`.

use std::collections::HashMap;

use radpool_identity::IdentityKey;
use radpool_units::tagged_hash;

use crate::{AdmittedClaim, BlindSignature, ClaimBatch, ClaimBatchError, POINT_LEN};

/// Most receipts in one message: 600 of 105 bytes are below 64 KiB.
pub const RECEIPTS_MAX: usize = 600;
/// What a receipt says of a share that earned no token.
pub const NO_TOKEN: u8 = 255;

/// Length of a receipt with a signature: sequence number, step, three strings with their lengths.
const EAGER_LEN: usize = 4 + 1 + (1 + POINT_LEN) + (1 + 32) + (1 + 32);
/// Length of the fields around the receipts at most.
const FRAME_LEN: usize = 4 + 4 + 4 + 8 + 2 + (1 + 32) + (1 + 64);

/// Where a channel's running hash over its receipts stands; zeros before the first.
pub type ReceiptRoot = [u8; 32];

/// A `SubmitSharesEcashExtended.Success` for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub connection: u64,
    pub channel: u32,
    pub payload: Vec<u8>,
}

/// Takes one more receipt into a channel's running hash.
#[must_use]
pub fn extend_root(
    root: &ReceiptRoot,
    blinded: &[u8; POINT_LEN],
    exponent: u8,
    share_hash: &[u8; 32],
) -> ReceiptRoot {
    tagged_hash("radpool/receipt", &[root, blinded, &[exponent], share_hash])
}

/// Signs a channel's running hash.
#[must_use]
pub fn sign_root(
    key: &IdentityKey,
    channel: u32,
    last_sequence: u32,
    root: &ReceiptRoot,
) -> [u8; 64] {
    let (channel, last_sequence) = (channel.to_le_bytes(), last_sequence.to_le_bytes());
    key.sign(&tagged_hash("radpool/receipts", &[&channel, &last_sequence, root]))
}

/// Writes a B0_255 or B0_32.
fn push_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn push_receipt(
    sequence: u32,
    exponent: u8,
    signature: Option<&BlindSignature>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&sequence.to_le_bytes());
    out.push(exponent);
    match signature {
        Some(BlindSignature { point, dleq }) => {
            push_string(point, out);
            push_string(&dleq.e, out);
            push_string(&dleq.s, out);
        }
        None => out.extend_from_slice(&[0, 0, 0]),
    }
}

impl ClaimBatch {
    /// Writes the receipts of all claims that are durable: of each channel in the order of its
    /// shares, at most 600 in a message.
    ///
    /// Shares of the extension's own message are counted, and summed up in hashes; those of the
    /// core message are counted by its answer, and have messages of their own here. `roots` has the
    /// running hashes of lazy channels, which are carried on; their receipts bear no signatures.
    ///
    /// # Errors
    /// [`ClaimBatchError::Unsigned`] when a claim of an eager channel is not signed yet.
    pub fn replies(
        &self,
        key: &IdentityKey,
        roots: &mut HashMap<(u64, u32), ReceiptRoot>,
    ) -> Result<Vec<Reply>, ClaimBatchError> {
        let mut groups: Vec<Vec<&AdmittedClaim>> = Vec::new();
        let mut places = HashMap::new();
        for claim in self.durable() {
            let share = &claim.share;
            let is_eager = !roots.contains_key(&(share.connection, share.channel));
            if is_eager && claim.token.is_some() && claim.signature().is_none() {
                return Err(ClaimBatchError::Unsigned(share.index));
            }
            let group = (share.connection, share.channel, share.by_message);
            let place = *places.entry(group).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Vec::new());
            }
            groups[place].push(claim);
        }
        let chunks = groups.iter().flat_map(|group| group.chunks(RECEIPTS_MAX));
        Ok(chunks.filter_map(|claims| reply(claims, key, roots)).collect())
    }
}

/// Answers claims of one channel that came by the same message; `None` for none.
fn reply(
    claims: &[&AdmittedClaim],
    key: &IdentityKey,
    roots: &mut HashMap<(u64, u32), ReceiptRoot>,
) -> Option<Reply> {
    let last = claims.last()?.share;
    let (connection, channel) = (last.connection, last.channel);
    let mut root = roots.get_mut(&(connection, channel));
    let (count, sum) = match last.by_message {
        true => (
            claims.len() as u32,
            claims.iter().fold(0, |sum: u64, claim| {
                let work = u64::try_from(claim.share.exponent.work().0).unwrap_or(u64::MAX);
                sum.saturating_add(work)
            }),
        ),
        false => (0, 0),
    };
    let mut payload = Vec::with_capacity(FRAME_LEN + EAGER_LEN * claims.len());
    for number in [channel, last.sequence, count] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(&sum.to_le_bytes());
    payload.extend_from_slice(&(claims.len() as u16).to_le_bytes());
    for claim in claims {
        let exponent = claim.token.unwrap_or(NO_TOKEN);
        if let Some(root) = &mut root {
            let (blinded, hash) = (claim.blinded.to_bytes(), &claim.share.hash.0);
            **root = extend_root(root, &blinded, exponent, hash);
        }
        let signature = claim.signature().filter(|_| root.is_none());
        push_receipt(claim.share.sequence, exponent, signature, &mut payload);
    }
    match root {
        Some(root) => {
            push_string(root, &mut payload);
            push_string(&sign_root(key, channel, last.sequence, root), &mut payload);
        }
        None => payload.extend_from_slice(&[0, 0]),
    }
    Some(Reply { connection, channel, payload })
}
