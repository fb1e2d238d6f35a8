//! Sends shares with attachments: pairs what the threads find with what the desk has.
//!
//! A share waits until there is an attachment. [`WAITING_MAX`] wait at most, and the newest are
//! kept; one whose block is history by then is given up. A share that was refused for its
//! attachment alone goes out again with another one, at most [`RESENDS_MAX`] times, on the same
//! connection: elsewhere its job means nothing.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    assignment::Share,
    client::{Client, Outbox},
    desk::{Attachment, Desk, Refused, Submitted},
    extension::{ClientExtension, Verdict},
};

/// Shares that wait for an attachment.
const WAITING_MAX: usize = 256;
/// Shares that can be sent again if they are refused; the oldest is forgotten first.
const SENT_MAX: usize = 1_024;
/// Times that a share is sent again: a pool that refuses each attachment gets no more of them.
const RESENDS_MAX: u8 = 7;

#[derive(Debug)]
struct Waiting {
    share: Share,
    /// How often it was sent before.
    sent: u8,
}

#[derive(Debug)]
struct Sent {
    sequence: u32,
    lot: u64,
    waiting: Waiting,
}

/// The shares of one session.
#[derive(Debug)]
pub(crate) struct Courier {
    desk: Arc<Desk>,
    carrier: ClientExtension,
    waiting: VecDeque<Waiting>,
    sent: VecDeque<Sent>,
}

impl Courier {
    pub(crate) fn new(desk: Arc<Desk>, carrier: ClientExtension) -> Self {
        Self { desk, carrier, waiting: VecDeque::new(), sent: VecDeque::new() }
    }

    /// How many shares wait that the pool has and whose attachment it refused.
    pub(crate) fn owed(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.sent > 0).count()
    }

    /// Gives up what the pool does not have, and takes in no more of it.
    pub(crate) fn leave(&mut self) {
        let owed = self.owed();
        self.desk.tell_dropped((self.waiting.len() - owed) as u64);
        self.waiting.retain(|waiting| waiting.sent > 0);
    }

    /// How many shares wait for an attachment.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a share that was found.
    pub(crate) fn take_in(&mut self, share: Share) {
        if self.waiting.len() == WAITING_MAX {
            // One that the pool has already is worth more than one that it has not.
            let oldest_new = self.waiting.iter().position(|waiting| waiting.sent == 0);
            self.waiting.remove(oldest_new.unwrap_or(0));
            self.desk.tell_dropped(1);
        }
        self.waiting.push_back(Waiting { share, sent: 0 });
    }

    /// Sends what can be sent, until `unanswered_max` shares are under way; returns how many.
    pub(crate) fn send(
        &mut self,
        client: &mut Client,
        unanswered_max: usize,
        now_us: u64,
        out: &mut Outbox,
    ) -> u64 {
        let mut count = 0;
        while client.unanswered() < unanswered_max && self.desk.has_attachment() {
            let Some(waiting) = self.next_current(client) else { break };
            let Some((lot, attachment)) = self.desk.next_attachment() else {
                self.waiting.push_front(waiting);
                break;
            };
            count += u64::from(self.submit(client, waiting, lot, &attachment, now_us, out));
        }
        count
    }

    /// Takes in a refusal; says whether the share goes out again.
    pub(crate) fn handle_refusal(&mut self, sequence: u32, code: &str) -> bool {
        let verdict = self.carrier.verdict(code);
        let sent = self.sent.iter().rposition(|sent| sent.sequence == sequence);
        let sent = sent.and_then(|index| self.sent.remove(index));
        if let (Verdict::Lapse, Some(sent)) = (verdict, &sent) {
            self.desk.lapse(sent.lot);
        }
        let again = sent.filter(|sent| {
            verdict != Verdict::Final
                && sent.waiting.sent <= RESENDS_MAX
                && self.waiting.len() < WAITING_MAX
        });
        let refused = Refused { sequence, code: code.to_owned(), again: again.is_some() };
        self.desk.tell_refused(refused);
        let Some(sent) = again else { return false };
        // Before the new ones: the pool keeps its share for a while only.
        self.waiting.push_front(sent.waiting);
        true
    }

    /// Puts the extension's own frames into `out`.
    pub(crate) fn send_commands(&self, out: &mut Outbox) {
        while let Some(frame) = self.desk.next_command() {
            out.send_carrier(&self.carrier, &frame);
        }
    }

    /// The next share that is still of use.
    fn next_current(&mut self, client: &Client) -> Option<Waiting> {
        let tip = client.channel()?.active()?.prev_hash;
        while let Some(waiting) = self.waiting.pop_front() {
            // The pool has the other kind already and waits for nothing but its attachment.
            if waiting.sent > 0 || waiting.share.assignment.prev_hash == tip {
                return Some(waiting);
            }
            self.desk.tell_dropped(1);
        }
        None
    }

    fn submit(
        &mut self,
        client: &mut Client,
        mut waiting: Waiting,
        lot: u64,
        attachment: &Attachment,
        now_us: u64,
        out: &mut Outbox,
    ) -> bool {
        let share = &waiting.share;
        let sequence = client.submit_attached(share, &attachment.data, now_us, out);
        let Some(sequence) = sequence else { return false };
        let exponent = share.assignment.target.exponent_at_most();
        let exponent = exponent.filter(|z| z.target() == share.assignment.target);
        self.desk.tell_submitted(Submitted {
            sequence,
            exponent: exponent.map(|z| z.get()),
            attachment: attachment.id,
            hash: share.hash().0,
        });
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        waiting.sent += 1;
        self.sent.push_back(Sent { sequence, lot, waiting });
        true
    }
}

impl Drop for Courier {
    /// Tells what is given up with the session.
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            self.desk.tell_dropped(self.waiting.len() as u64);
        }
    }
}
