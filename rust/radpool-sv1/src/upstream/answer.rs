//! What becomes of shares.

use std::collections::VecDeque;

use radpool_miner::client::printable;
use radpool_wire::message::{SubmitSharesError, SubmitSharesSuccess};

use super::{Told, Upstream, UpstreamOutbox, channel::Open};

impl Upstream {
    pub(super) fn handle_accepted(
        &mut self,
        success: &SubmitSharesSuccess,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let Some(open) = self.channels.get_mut(&success.channel_id) else { return };
        let (count, hashes) = (success.new_submits_accepted_count, success.new_shares_sum);
        let mut longest_us = 0;
        let mut counts: Vec<(u64, u32)> = Vec::with_capacity(1);
        let Open { channel, senders, .. } = &mut **open;
        let before = channel.submissions.len();
        // A sum of the pool's own is shown as it is: it is the pool's word on what it owes.
        let _ = channel.submissions.accept(
            success.last_sequence_number,
            count,
            hashes,
            now_ms * 1000,
            |sequence, wait_us| {
                longest_us = longest_us.max(wait_us);
                let Some(member) = take_sender(senders, sequence) else { return };
                match counts.last_mut() {
                    Some((known, part)) if *known == member => *part += 1,
                    _ => counts.push((member, 1)),
                }
            },
        );
        self.unanswered -= before - channel.submissions.len();
        self.longest_wait_ms = self.longest_wait_ms.max(Some(longest_us / 1000));
        counts.sort_unstable();
        counts.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            kept.1 += if same { later.1 } else { 0 };
            same
        });
        for (member, part) in counts {
            // Shares that are answered together were nearly always asked for at one target.
            let hashes = u128::from(hashes) * u128::from(part) / u128::from(count);
            let hashes = u64::try_from(hashes).unwrap_or(u64::MAX);
            out.told.push(Told::Accepted { member, count: part, hashes });
        }
    }

    /// Takes in the answer to one share that the pool had before.
    pub(super) fn handle_settled(
        &mut self,
        success: &SubmitSharesSuccess,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let Some(open) = self.channels.get_mut(&success.channel_id) else { return };
        let sequence = success.last_sequence_number;
        let settled = open.channel.submissions.settle(sequence, now_ms * 1000);
        self.unanswered -= usize::from(settled.is_some());
        if let (Some((_, hashes)), Some(member)) =
            (settled, take_sender(&mut open.senders, sequence))
        {
            out.told.push(Told::Accepted { member, count: 1, hashes });
        }
    }

    pub(super) fn handle_rejected(&mut self, error: &SubmitSharesError, out: &mut UpstreamOutbox) {
        let Some(open) = self.channels.get_mut(&error.channel_id) else { return };
        let sequence = error.sequence_number;
        // A refusal of what does not wait is the pool's confusion.
        let Ok(answered) = open.channel.submissions.reject(sequence) else { return };
        self.unanswered -= 1;
        if let Some(member) = take_sender(&mut open.senders, answered) {
            let code = printable(&error.error_code);
            out.told.push(Told::Rejected { member, sequence, code });
        }
    }
}

/// Takes the device whose share has a number off those that wait.
fn take_sender(senders: &mut VecDeque<(u32, u64)>, sequence: u32) -> Option<u64> {
    let index = senders.iter().position(|(number, _)| *number == sequence)?;
    senders.remove(index).map(|(_, member)| member)
}
