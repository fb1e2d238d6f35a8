//! Running receipts: one root over all shares that were accepted on a channel.
//!
//! Source: `spec/11-owner-registration.md`, "Receipts".

use radpool_units::{Exponent, Hash256, tagged_hash};

/// What a receipt says of a channel's shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningReceipt {
    /// How many they are.
    pub count: u64,
    /// The sum of their work, in hashes.
    pub work: u128,
    /// What commits to each of them and to their order; zeros before the first.
    pub root: [u8; 32],
}

impl RunningReceipt {
    /// Adds the next accepted share.
    pub fn add(&mut self, hash: &Hash256, exponent: Exponent) {
        let z = [exponent.get()];
        self.root = tagged_hash("radpool/owner-share", &[&self.root, &hash.0, &z]);
        self.count += 1;
        // 2^120 at most for each: this takes more shares than fit a ledger.
        self.work = self.work.saturating_add(1 << exponent.get());
    }

    /// The hash that the MSP signs for a registration.
    #[must_use]
    pub fn signed_hash(&self, number: u64) -> [u8; 32] {
        let (number, count) = (number.to_le_bytes(), self.count.to_le_bytes());
        tagged_hash(
            "radpool/owner-receipt",
            &[&number, &count, &self.work.to_le_bytes(), &self.root],
        )
    }
}
