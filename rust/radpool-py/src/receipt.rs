//! Running receipts over the shares of a batch, and what these shares carry.

use std::collections::HashMap;

use pyo3::{prelude::*, types::PyBytes};
use radpool_ledger::RunningReceipt;
use radpool_mining::ShareRecord;

use crate::{argument::hash, batch::ShareBatch};

/// Count, work and root of a channel's receipt.
type State = (u64, u128, Vec<u8>);

/// Connection, channel, last sequence number, shares of this batch, the sum of their work in hashes,
/// then count, work and root of the receipt.
type Told<'py> = (u64, u32, u32, u32, u64, u64, u128, Bound<'py, PyBytes>);

/// Connection, channel, account, attachment, indices of the shares that carry it.
type Group<'py> = (u64, u32, u64, Bound<'py, PyBytes>, Vec<usize>);

/// Whether a share came by a message of an extension.
fn came_by(share: &ShareRecord, message: (u16, u8)) -> bool {
    let carried = share.attachment.as_ref();
    carried.is_some_and(|carried| (carried.extension_type, carried.msg_type) == message)
}

#[pyfunction]
pub(crate) fn group_attachments<'py>(
    py: Python<'py>,
    batch: &ShareBatch,
    extension_type: u16,
    msg_type: u8,
) -> Vec<Group<'py>> {
    let groups = py.detach(|| {
        let mut groups: Vec<(&ShareRecord, Vec<usize>)> = Vec::new();
        let mut places = HashMap::new();
        for (index, share) in batch.shares.iter().enumerate() {
            if !came_by(share, (extension_type, msg_type)) {
                continue;
            }
            let key = (share.connection, share.channel_id, share.account, data(share));
            let place = *places.entry(key).or_insert_with(|| {
                groups.push((share, Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(index);
        }
        groups
    });
    groups
        .into_iter()
        .map(|(share, indices)| {
            let bytes = PyBytes::new(py, data(share));
            (share.connection, share.channel_id, share.account, bytes, indices)
        })
        .collect()
}

fn data(share: &ShareRecord) -> &[u8] {
    share.attachment.as_ref().map_or(&[], |carried| &carried.bytes)
}

struct Channel {
    last_sequence: u32,
    accepted: u32,
    hashes: u128,
    receipt: RunningReceipt,
}

#[pyfunction]
pub(crate) fn run_receipts<'py>(
    py: Python<'py>,
    batch: &ShareBatch,
    extension_type: u16,
    msg_type: u8,
    excluded: Vec<usize>,
    before: HashMap<(u64, u32), State>,
) -> PyResult<Vec<Told<'py>>> {
    let mut receipts = HashMap::with_capacity(before.len());
    for (channel, (count, work, root)) in before {
        receipts.insert(channel, RunningReceipt { count, work, root: hash("root", &root)? });
    }
    let mut excluded = excluded;
    excluded.sort_unstable();
    let found = py.detach(|| run(batch, (extension_type, msg_type), &excluded, &receipts));
    let told = found.into_iter().map(|((connection, channel), found)| {
        let hashes = u64::try_from(found.hashes).unwrap_or(u64::MAX);
        let RunningReceipt { count, work, root } = found.receipt;
        let root = PyBytes::new(py, &root);
        (connection, channel, found.last_sequence, found.accepted, hashes, count, work, root)
    });
    Ok(told.collect())
}

/// Extends the receipts of the channels that `receipts` has, in the order in which they come up.
fn run(
    batch: &ShareBatch,
    message: (u16, u8),
    excluded: &[usize],
    receipts: &HashMap<(u64, u32), RunningReceipt>,
) -> Vec<((u64, u32), Channel)> {
    let mut found: Vec<((u64, u32), Channel)> = Vec::new();
    let mut places = HashMap::new();
    for (index, share) in batch.shares.iter().enumerate() {
        let key = (share.connection, share.channel_id);
        let Some(receipt) = receipts.get(&key) else { continue };
        if !came_by(share, message) || excluded.binary_search(&index).is_ok() {
            continue;
        }
        let place = *places.entry(key).or_insert_with(|| {
            let receipt = *receipt;
            found.push((key, Channel { last_sequence: 0, accepted: 0, hashes: 0, receipt }));
            found.len() - 1
        });
        let channel = &mut found[place].1;
        channel.last_sequence = share.sequence;
        channel.accepted += 1;
        channel.hashes = channel.hashes.saturating_add(share.exponent.work().0);
        channel.receipt.add(&share.hash, share.exponent);
    }
    found
}
