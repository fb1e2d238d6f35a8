//! Sends shares with attachments: pairs what the threads find with what the desk has.
//!
//! A share waits until there is an attachment. [`WAITING_MAX`] wait at most, and the newest are
//! kept; one whose block is history by then is given up. A share that was refused for its
//! attachment alone goes out again with another one, at most [`RESENDS_MAX`] times, on the same
//! connection: elsewhere its job means nothing.

use std::{collections::VecDeque, sync::Arc};

use radpool_wire::frame::HEADER_LEN;

use crate::{
    assignment::Share,
    desk::{Attachment, Desk, Refused, Submitted},
    extension::{ClientExtension, Verdict},
};

/// A connection that a courier sends shares on; `Tag` says whose a share is.
pub trait Carries<Tag> {
    /// Where it leaves what is to be sent.
    type Outbox;

    /// How many shares wait for their answer.
    fn unanswered(&self) -> usize;

    /// The block that is built on now.
    fn tip(&self) -> Option<[u8; 32]>;

    /// Sends a share, or sends it `again`, with its attachment and returns its number; `None` when its
    /// channel is gone.
    fn submit_attached(
        &mut self,
        share: &Share,
        tag: &Tag,
        attachment: &[u8],
        again: bool,
        now_us: u64,
        out: &mut Self::Outbox,
    ) -> Option<u32>;
}

/// Shares that wait for an attachment.
const WAITING_MAX: usize = 256;
/// Shares that can be sent again if they are refused; the oldest is forgotten first.
const SENT_MAX: usize = 1_024;
/// Times that a share is sent again: a pool that refuses each attachment gets no more of them.
const RESENDS_MAX: u8 = 7;

#[derive(Debug)]
struct Waiting<Tag> {
    share: Share,
    tag: Tag,
    /// How often it was sent before.
    sent: u8,
}

#[derive(Debug)]
struct Sent<Tag> {
    sequence: u32,
    lot: u64,
    waiting: Waiting<Tag>,
}

/// The shares of one session.
#[derive(Debug)]
pub struct Courier<Tag> {
    desk: Arc<Desk>,
    carrier: ClientExtension,
    waiting: VecDeque<Waiting<Tag>>,
    sent: VecDeque<Sent<Tag>>,
}

impl<Tag> Courier<Tag> {
    /// Starts a session over the counter.
    #[must_use]
    pub fn new(desk: Arc<Desk>, carrier: ClientExtension) -> Self {
        Self { desk, carrier, waiting: VecDeque::new(), sent: VecDeque::new() }
    }

    /// How many shares wait that the pool has and whose attachment it refused.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.sent > 0).count()
    }

    /// Gives up what the pool does not have, and takes in no more of it.
    pub fn leave(&mut self) {
        let owed = self.owed();
        self.desk.tell_dropped((self.waiting.len() - owed) as u64);
        self.waiting.retain(|waiting| waiting.sent > 0);
    }

    /// How many shares wait for an attachment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a share that was found.
    pub fn take_in(&mut self, share: Share, tag: Tag) {
        if self.waiting.len() == WAITING_MAX {
            // One that the pool has already is worth more than one that it has not.
            let oldest_new = self.waiting.iter().position(|waiting| waiting.sent == 0);
            self.waiting.remove(oldest_new.unwrap_or(0));
            self.desk.tell_dropped(1);
        }
        self.waiting.push_back(Waiting { share, tag, sent: 0 });
    }

    /// Sends what can be sent, until `unanswered_max` shares are under way; returns how many.
    pub fn send<Client: Carries<Tag>>(
        &mut self,
        client: &mut Client,
        unanswered_max: usize,
        now_us: u64,
        out: &mut Client::Outbox,
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
    #[must_use]
    pub fn handle_refusal(&mut self, sequence: u32, code: &str) -> bool {
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

    /// Puts the extension's own frames behind `frames`.
    pub fn send_commands(&self, frames: &mut Vec<u8>) {
        while let Some(frame) = self.desk.next_command() {
            let start = frames.len();
            frames.extend_from_slice(&[0; HEADER_LEN]);
            let (carrier, payload) = (&self.carrier, &frame.payload);
            carrier.rename(frames, start, frame.msg_type, frame.channel_msg, payload);
        }
    }

    /// The next share that is still of use.
    fn next_current(&mut self, client: &impl Carries<Tag>) -> Option<Waiting<Tag>> {
        let tip = client.tip()?;
        while let Some(waiting) = self.waiting.pop_front() {
            // The pool has the other kind already and waits for nothing but its attachment.
            if waiting.sent > 0 || waiting.share.assignment.prev_hash == tip {
                return Some(waiting);
            }
            self.desk.tell_dropped(1);
        }
        None
    }

    fn submit<Client: Carries<Tag>>(
        &mut self,
        client: &mut Client,
        mut waiting: Waiting<Tag>,
        lot: u64,
        attachment: &Attachment,
        now_us: u64,
        out: &mut Client::Outbox,
    ) -> bool {
        let (share, again) = (&waiting.share, waiting.sent > 0);
        let data = &attachment.data;
        let sequence = client.submit_attached(share, &waiting.tag, data, again, now_us, out);
        let Some(sequence) = sequence else {
            self.desk.tell_withdrawn(attachment.id);
            return false;
        };
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

impl<Tag> Drop for Courier<Tag> {
    /// Tells what is given up with the session.
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            self.desk.tell_dropped(self.waiting.len() as u64);
        }
    }
}
