//! Extranonce prefixes: each is given to one channel and never again.

use std::{collections::VecDeque, ops::Range};

use parking_lot::Mutex;

/// Ranges of extranonce prefixes that the pool has reserved durably and channels draw from.
///
/// A prefix that left the pool never comes back, whatever becomes of its channel: a job that refers
/// to it could still earn, and its search space would be given out twice.
#[derive(Debug, Default)]
pub struct PrefixPool {
    leases: Mutex<VecDeque<Range<u32>>>,
}

impl PrefixPool {
    /// Adds the prefixes `start <= prefix < end`, which must never have been added before.
    pub fn add(&self, start: u32, end: u32) {
        if start < end {
            self.leases.lock().push_back(start..end);
        }
    }

    /// Takes the next prefix, or `None` until more are added.
    pub fn take(&self) -> Option<u32> {
        let mut leases = self.leases.lock();
        loop {
            match leases.front_mut()?.next() {
                Some(prefix) => return Some(prefix),
                None => leases.pop_front(),
            };
        }
    }

    /// How many prefixes are left.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.leases.lock().iter().map(|lease| lease.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_leave_in_order_and_once() {
        let pool = PrefixPool::default();
        assert_eq!(pool.take(), None);
        pool.add(3, 5);
        pool.add(9, 9);
        pool.add(u32::MAX - 1, u32::MAX);
        assert_eq!(pool.remaining(), 3);
        assert_eq!(std::iter::from_fn(|| pool.take()).collect::<Vec<_>>(), [3, 4, u32::MAX - 1]);
        assert_eq!(pool.remaining(), 0);
    }
}
