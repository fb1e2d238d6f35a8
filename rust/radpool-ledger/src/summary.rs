//! What the shares of a batch earned on each template: for settlements by slices, and for voids.

use std::collections::BTreeMap;

use crate::{Batch, Earned, PricedTemplate, Sum};

/// What an owner has earned on one template of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateSum {
    pub template: PricedTemplate,
    pub commitment: [u8; 32],
    /// The epoch that the shares count in.
    pub epoch: u32,
    pub rail: u8,
    pub count: u64,
    pub earned: Earned,
}

/// Sums a batch up by template and owner, in the order of its tables; nothing is verified.
///
/// `None` when values are below the base or past 2^128 - 1: then the batch was never sealed by us.
#[must_use]
pub fn template_sums(batch: &Batch<'_>) -> Option<Vec<TemplateSum>> {
    let head = &batch.head;
    let mut sums: BTreeMap<(u16, u16), (u64, Earned)> = BTreeMap::new();
    for share in &batch.shares {
        let earned = Earned { work: share.exponent.work(), value: head.value_of(share)? };
        let (count, sum) = sums.entry((share.template, share.owner)).or_default();
        *count += 1;
        *sum = sum.checked_add(earned)?;
    }
    let row = |((template, owner), (count, earned)): (&(u16, u16), &(u64, Earned))| {
        // Decoding has checked that the indices are within the tables.
        let owner = &head.owners[usize::from(*owner)];
        TemplateSum {
            template: head.templates[usize::from(*template)],
            commitment: owner.commitment,
            epoch: owner.epoch.max(head.link.epoch_min),
            rail: owner.rail as u8,
            count: *count,
            earned: *earned,
        }
    };
    Some(sums.iter().map(row).collect())
}
