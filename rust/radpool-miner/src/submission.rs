//! Which shares have been sent and not yet been answered, and what the answers add up to.
//!
//! The pool answers a bad share with its sequence number, and good ones with a count and the
//! number of the last of them. The two kinds of answer may overtake each other: a count may pass
//! the number of a share whose rejection is still under way. So the count decides how many are
//! good, and when a rejection names a share that a count has already taken, the next one that the
//! count covered takes its place.
//!
//! A share that is sent again has an answer of its own, by its number: the pool counted it when it
//! came first, so no count takes it.

use std::collections::VecDeque;

use radpool_units::Exponent;
use thiserror::Error;

/// A share that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    sequence: u32,
    sent_us: u64,
    /// What the share is worth; `None` when the target is no step of the ladder.
    exponent: Option<Exponent>,
    /// Whether it was sent before, under another number.
    again: bool,
}

/// An answer that does not fit what was sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    /// More shares were acknowledged than were waiting.
    #[error("it acknowledged {count} shares where {waiting} waited")]
    TooMany { count: u32, waiting: u32 },
    /// A rejection named a share that was never sent or has been answered.
    #[error("it rejected share {0}, which does not wait for an answer")]
    UnknownSequence(u32),
    /// The sum of the acknowledged work is not that of the shares it counts.
    #[error("it acknowledged {said} hashes where the shares stand for {expected}")]
    Sum { said: u64, expected: u64 },
}

/// The shares of one channel that wait for an answer, in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct Submissions {
    pending: VecDeque<Pending>,
    next_sequence: u32,
    /// The highest number that a count has covered, when one has.
    covered: Option<u32>,
}

impl Submissions {
    /// How many shares wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every share has been answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// When the share was sent that has waited longest.
    #[must_use]
    pub fn oldest_us(&self) -> Option<u64> {
        self.pending.front().map(|share| share.sent_us)
    }

    /// Notes a share that is sent now, or sent `again`, and gives it its number.
    pub fn send(&mut self, now_us: u64, exponent: Option<Exponent>, again: bool) -> u32 {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.pending.push_back(Pending { sequence, sent_us: now_us, exponent, again });
        sequence
    }

    /// Takes in `count` accepted shares, the last of which has number `last`; `answered` gets the
    /// number of each and the time it waited, in microseconds.
    ///
    /// # Errors
    /// [`Mismatch`] when the answer doesn't fit; the shares that it covers are taken off all the same.
    pub fn accept(
        &mut self,
        last: u32,
        count: u32,
        sum: u64,
        now_us: u64,
        mut answered: impl FnMut(u32, u64),
    ) -> Result<(), Mismatch> {
        self.covered = Some(last);
        let mut expected = Some(0_u64);
        for taken in 0..count {
            let Some(share) = self.next_up_to(last).and_then(|at| self.pending.remove(at)) else {
                return Err(Mismatch::TooMany { count, waiting: taken });
            };
            answered(share.sequence, now_us.saturating_sub(share.sent_us));
            expected = match (expected, share.exponent) {
                (Some(sum), Some(exponent)) => {
                    let work = u64::try_from(exponent.work().0).unwrap_or(u64::MAX);
                    Some(sum.saturating_add(work))
                }
                _ => None,
            };
        }
        match expected {
            // A target off the ladder comes from a pool that weighs shares in its own way.
            Some(expected) if expected != sum => Err(Mismatch::Sum { said: sum, expected }),
            _ => Ok(()),
        }
    }

    /// Takes off the one share with number `sequence`, which the pool answers by itself because it
    /// came before; says how long it waited, in microseconds, and its work where that is known.
    pub fn settle(&mut self, sequence: u32, now_us: u64) -> Option<(u64, u64)> {
        let index = self.pending.iter().position(|share| share.sequence == sequence)?;
        let share = self.pending.remove(index)?;
        let work = share.exponent.map_or(0, |exponent| exponent.work().0);
        Some((now_us.saturating_sub(share.sent_us), u64::try_from(work).unwrap_or(u64::MAX)))
    }

    /// Takes in the rejection of the share with number `sequence`; returns the number of the share
    /// that waits no longer, which is another one when a count has taken this one before.
    ///
    /// # Errors
    /// [`Mismatch::UnknownSequence`] when no share can have been meant.
    pub fn reject(&mut self, sequence: u32) -> Result<u32, Mismatch> {
        let named = self.pending.iter().position(|share| share.sequence == sequence);
        let covered = self.covered.filter(|covered| !is_after(sequence, *covered));
        let index = named.or_else(|| self.next_up_to(covered?));
        let share = index.and_then(|index| self.pending.remove(index));
        share.map(|share| share.sequence).ok_or(Mismatch::UnknownSequence(sequence))
    }

    /// Where the oldest share waits that a count up to number `last` can have taken.
    fn next_up_to(&self, last: u32) -> Option<usize> {
        let index = self.pending.iter().position(|share| !share.again)?;
        (!is_after(self.pending[index].sequence, last)).then_some(index)
    }
}

/// Whether `sequence` was given out after `other`, over the wrap-around of the counter.
fn is_after(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: u32) -> Submissions {
        let mut submissions = Submissions::default();
        for index in 0..count {
            let exponent = Exponent::new(4).unwrap();
            assert_eq!(submissions.send(u64::from(index), Some(exponent), false), index);
        }
        submissions
    }

    #[test]
    fn counts_take_the_oldest_shares_and_give_their_waits() {
        let mut submissions = sent(5);
        let mut waits = Vec::new();
        assert_eq!(submissions.accept(2, 3, 48, 10, |_, wait| waits.push(wait)), Ok(()));
        assert_eq!((waits, submissions.len()), (vec![10, 9, 8], 2));
        assert_eq!(submissions.accept(4, 2, 32, 10, |_, _| ()), Ok(()));
        assert!(submissions.is_empty());
    }

    #[test]
    fn rejection_before_or_after_the_count_that_passes_it_ends_alike() {
        let mut early = sent(3);
        assert_eq!(early.reject(1), Ok(1));
        assert_eq!(early.accept(2, 2, 32, 10, |_, _| ()), Ok(()));
        let mut late = sent(3);
        assert_eq!(late.accept(2, 2, 32, 10, |_, _| ()), Ok(()));
        assert_eq!(late.len(), 1);
        assert_eq!(late.reject(1), Ok(2), "the count took another one in its place");
        assert!(early.is_empty() && late.is_empty());
    }

    #[test]
    fn doubled_answers_are_seen() {
        let mut submissions = sent(2);
        assert_eq!(submissions.accept(1, 2, 32, 10, |_, _| ()), Ok(()));
        assert_eq!(
            submissions.accept(1, 1, 16, 10, |_, _| ()),
            Err(Mismatch::TooMany { count: 1, waiting: 0 })
        );
        assert_eq!(submissions.reject(0), Err(Mismatch::UnknownSequence(0)));
        assert_eq!(sent(2).reject(7), Err(Mismatch::UnknownSequence(7)));
    }

    #[test]
    fn share_that_was_counted_before_is_settled_alone() {
        let mut submissions = sent(3);
        assert_eq!(submissions.settle(1, 10), Some((9, 16)));
        assert_eq!(submissions.settle(1, 10), None);
        assert_eq!(submissions.accept(2, 2, 32, 10, |_, _| ()), Ok(()));
        assert!(submissions.is_empty());
    }

    #[test]
    fn share_that_is_sent_again_is_in_no_count() {
        let exponent = |z| Some(Exponent::new(z).unwrap());
        let mut submissions = Submissions::default();
        submissions.send(0, exponent(9), false);
        assert_eq!(submissions.reject(0), Ok(0));
        let again = submissions.send(1, exponent(9), true);
        let fresh = submissions.send(2, exponent(4), false);
        let mut answered = Vec::new();
        let counted = submissions.accept(fresh, 1, 16, 10, |number, _| answered.push(number));
        assert_eq!((counted, answered), (Ok(()), vec![fresh]));
        assert_eq!(
            submissions.accept(fresh, 1, 16, 10, |_, _| ()),
            Err(Mismatch::TooMany { count: 1, waiting: 0 })
        );
        assert_eq!(submissions.reject(fresh), Err(Mismatch::UnknownSequence(fresh)));
        assert_eq!(submissions.settle(again, 11), Some((10, 512)));
        assert!(submissions.is_empty());
    }

    #[test]
    fn count_cannot_reach_past_its_last_number() {
        assert_eq!(
            sent(5).accept(1, 3, 48, 10, |_, _| ()),
            Err(Mismatch::TooMany { count: 3, waiting: 2 })
        );
    }

    #[test]
    fn sum_must_be_that_of_the_shares() {
        assert_eq!(
            sent(2).accept(1, 2, 31, 10, |_, _| ()),
            Err(Mismatch::Sum { said: 31, expected: 32 })
        );
        let mut off_ladder = Submissions::default();
        off_ladder.send(0, None, false);
        assert_eq!(off_ladder.accept(0, 1, 12345, 1, |_, _| ()), Ok(()));
    }

    #[test]
    fn numbers_may_wrap_around() {
        let mut submissions = Submissions { next_sequence: u32::MAX, ..Submissions::default() };
        assert_eq!(submissions.send(0, None, false), u32::MAX);
        assert_eq!(submissions.send(0, None, false), 0);
        assert_eq!(submissions.accept(0, 2, 0, 1, |_, _| ()), Ok(()));
        assert!(submissions.is_empty());
    }
}
