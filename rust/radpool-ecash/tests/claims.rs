//! Claims on their way from the wire to their receipts.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use radpool_ecash::{
    Claim, ClaimBatch, ClaimBatchError, ClaimError, ClaimRow, ClaimSlot, ClaimedShare, Dleq,
    KeysetKeys, MintSeed, NO_TOKEN, Point, RECEIPTS_MAX, SlotState, channel_claimant, extend_root,
    hash_to_curve, sign_root,
};
use radpool_identity::IdentityKey;
use radpool_units::{Exponent, Hash256};
use zeroize::Zeroizing;

const SHORT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const UNIT: u8 = 8;
const NUMBER: u64 = 5;

fn keys() -> KeysetKeys {
    let seed = MintSeed::new(Zeroizing::new([7; 32]));
    KeysetKeys::derive(&seed, "work", NUMBER, 0, 64).unwrap()
}

fn msp() -> IdentityKey {
    IdentityKey::from_secret(&[9; 32]).unwrap()
}

fn slot() -> ClaimSlot {
    ClaimSlot {
        keyset_short: SHORT,
        number: NUMBER,
        account: 3,
        epoch: 10,
        height: None,
        unit_exponent: Exponent::new(UNIT.into()).unwrap(),
        unit_value: 0,
        state: SlotState::Open,
    }
}

fn blinded(message: usize) -> Point {
    hash_to_curve(&message.to_be_bytes())
}

/// A good share with a good claim; its sequence number is 100 above its index.
fn share(index: usize) -> ClaimedShare {
    ClaimedShare {
        index,
        connection: 1,
        channel: 2,
        sequence: 100 + index as u32,
        account: 3,
        epoch: 10,
        height: 900,
        exponent: Exponent::new(u32::from(UNIT) + 2).unwrap(),
        value: Some(1000),
        claimant: [2; 33],
        hash: Hash256([index as u8; 32]),
        by_message: true,
        claim: Ok(Claim { keyset_short: SHORT, blinded: blinded(index) }),
    }
}

fn signed(batch: &mut ClaimBatch) -> Result<(), ClaimBatchError> {
    let keys = keys();
    batch.sign(|number| (number == NUMBER).then_some(&keys), |_, _| false)
}

/// A receipt as it is read back.
#[derive(Debug, PartialEq, Eq)]
struct Receipt {
    sequence: u32,
    exponent: u8,
    signature: Option<(Point, Dleq)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    channel: u32,
    last_sequence: u32,
    count: u32,
    sum: u64,
    receipts: Vec<Receipt>,
    root: Vec<u8>,
    signature: Vec<u8>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn string(&mut self) -> &'a [u8] {
        let len = self.take(1)[0];
        self.take(len.into())
    }
}

fn decode(payload: &[u8]) -> Accepted {
    assert!(payload.len() < 1 << 16);
    let mut reader = Reader(payload);
    let (channel, last_sequence, count) = (reader.u32(), reader.u32(), reader.u32());
    let sum = u64::from_le_bytes(reader.take(8).try_into().unwrap());
    let length = u16::from_le_bytes(reader.take(2).try_into().unwrap());
    let receipts = (0..length)
        .map(|_| {
            let (sequence, exponent) = (reader.u32(), reader.take(1)[0]);
            let (point, e, s) = (reader.string(), reader.string(), reader.string());
            let signature = (!point.is_empty()).then(|| {
                let dleq = Dleq { e: e.try_into().unwrap(), s: s.try_into().unwrap() };
                (Point::from_bytes(point).unwrap(), dleq)
            });
            assert_eq!((e.is_empty(), s.is_empty()), (point.is_empty(), point.is_empty()));
            Receipt { sequence, exponent, signature }
        })
        .collect();
    let (root, signature) = (reader.string().to_vec(), reader.string().to_vec());
    assert!(reader.0.is_empty());
    Accepted { channel, last_sequence, count, sum, receipts, root, signature }
}

fn replies(batch: &ClaimBatch) -> Vec<Accepted> {
    let replies = batch.replies(&msp(), &mut HashMap::new()).unwrap();
    replies.iter().map(|reply| decode(&reply.payload)).collect()
}

/// spec: EW-14, EW-15
#[test]
fn a_claim_goes_from_the_wire_to_its_receipt() {
    let mut batch = ClaimBatch::read([share(0), share(1)], &[slot()]).unwrap();
    let rows = batch.rows(&[], HashMap::new());
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[1].place, rows[1].index, rows[1].number), (1, 1, NUMBER));
    assert_eq!((rows[1].exponent, rows[1].blinded), (UNIT + 2, blinded(1).to_bytes()));
    signed(&mut batch).unwrap();
    let [accepted] = &replies(&batch)[..] else { panic!("one message") };
    assert_eq!((accepted.channel, accepted.last_sequence), (2, 101));
    assert_eq!((accepted.count, accepted.sum), (2, 2 << (UNIT + 2)));
    assert!(accepted.root.is_empty() && accepted.signature.is_empty());
    let keys = keys();
    let public = keys.key(4).unwrap().public();
    for (index, receipt) in accepted.receipts.iter().enumerate() {
        assert_eq!((receipt.sequence, receipt.exponent), (100 + index as u32, UNIT + 2));
        let (signature, dleq) = receipt.signature.as_ref().unwrap();
        assert!(dleq.proves(public, &blinded(index), signature));
    }
}

/// attack: A3. Of two shares with one blinded message, one gets a signature.
/// spec: WT-17
#[test]
fn a_blinded_message_is_signed_once_in_a_batch() {
    let mut second = share(1);
    second.claim = share(0).claim;
    let mut batch = ClaimBatch::read([share(0), second], &[slot()]).unwrap();
    assert_eq!(batch.statuses(), [(1, ClaimError::BlindedMessageReused)]);
    assert_eq!(batch.rows(&[], HashMap::new()).len(), 1);
    signed(&mut batch).unwrap();
    let [accepted] = &replies(&batch)[..] else { panic!("one message") };
    assert_eq!(accepted.receipts.len(), 1);
    assert_eq!((accepted.count, accepted.last_sequence), (1, 100));
}

/// attack: A25. What no transaction took is neither signed nor answered, and a signature that is
/// made again is the same.
/// spec: WT-18, WT-9
#[test]
fn only_what_was_handed_out_is_signed() {
    let mut batch = ClaimBatch::read([share(0), share(1), share(2)], &[slot()]).unwrap();
    signed(&mut batch).unwrap();
    assert!(replies(&batch).is_empty());
    assert_eq!(
        batch.refuse(&[0], ClaimError::BlindedMessageReused),
        Err(ClaimBatchError::NoClaim(0))
    );
    assert_eq!(
        batch.rows(&[1, 1], HashMap::new()).iter().map(|row| row.place).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(batch.replies(&msp(), &mut HashMap::new()), Err(ClaimBatchError::Unsigned(0)));
    signed(&mut batch).unwrap();
    let before = replies(&batch);
    assert_eq!(before[0].receipts.iter().map(|item| item.sequence).collect::<Vec<_>>(), [100, 102]);
    signed(&mut batch).unwrap();
    assert_eq!(replies(&batch), before);
    // The transaction starts anew: what was left out comes back, and signatures are made again.
    assert_eq!(batch.rows(&[], HashMap::new()).len(), 3);
    assert_eq!(batch.replies(&msp(), &mut HashMap::new()), Err(ClaimBatchError::Unsigned(0)));
    signed(&mut batch).unwrap();
    assert_eq!(replies(&batch)[0].receipts.len(), 3);
    assert_eq!(replies(&batch)[0].receipts[0], before[0].receipts[0]);
}

#[test]
fn refusals_hold_until_the_transaction_starts_anew() {
    let mut bad = share(1);
    bad.claim = Err(ClaimError::InvalidBlindedMessage);
    let mut batch = ClaimBatch::read([share(0), bad, share(2)], &[slot()]).unwrap();
    assert_eq!((batch.len(), batch.indices()), (3, vec![0, 1, 2]));
    batch.rows(&[], HashMap::new());
    assert_eq!(batch.refuse(&[0, 1], ClaimError::EpochClosed), Err(ClaimBatchError::NoClaim(1)));
    batch.refuse(&[2], ClaimError::BlindedMessageReused).unwrap();
    let (invalid, reused) = (ClaimError::InvalidBlindedMessage, ClaimError::BlindedMessageReused);
    assert_eq!(batch.statuses(), [(1, invalid), (2, reused)]);
    signed(&mut batch).unwrap();
    assert_eq!(replies(&batch)[0].receipts.len(), 1);
    // A share that the ledger leaves out is the ledger's to refuse.
    batch.rows(&[1], HashMap::new());
    assert_eq!(batch.statuses(), []);
    assert_eq!(batch.refuse(&[1], ClaimError::EpochClosed), Err(ClaimBatchError::NoClaim(1)));
    signed(&mut batch).unwrap();
    assert_eq!(replies(&batch)[0].receipts.len(), 2);
}

/// attack: A23. A claim goes to the keyset that it names, or to none.
#[test]
fn late_and_foreign_claims_are_refused_by_name() {
    let mut foreign = share(0);
    foreign.account = 4;
    let mut unknown = share(1);
    unknown.claim = Ok(Claim { keyset_short: [9; 8], blinded: blinded(1) });
    let mut later = share(2);
    later.epoch = 11;
    let batch = ClaimBatch::read([foreign, unknown, later, share(3)], &[slot()]).unwrap();
    let (unknown, stale) = (ClaimError::UnknownKeyset, ClaimError::StaleKeyset);
    assert_eq!(batch.statuses(), [(0, unknown), (1, unknown), (2, stale)]);
    let closed = ClaimSlot { state: SlotState::Closed, epoch: 11, ..slot() };
    assert_eq!(ClaimBatch::read([later, share(3)], &[closed]).unwrap().statuses(), [(3, stale)]);
    let by_height = ClaimSlot { height: Some(899), ..slot() };
    assert_eq!(ClaimBatch::read([share(0)], &[by_height]).unwrap().statuses(), [(0, stale)]);
    let by_height = ClaimSlot { height: Some(900), epoch: 0, ..slot() };
    assert_eq!(ClaimBatch::read([share(0)], &[by_height]).unwrap().statuses(), []);
    assert_eq!(
        ClaimBatch::read([share(0)], &[slot(), closed]).unwrap_err(),
        ClaimBatchError::DuplicateSlot(NUMBER)
    );
}

#[test]
fn keys_that_are_missing_sign_nothing() {
    let mut batch = ClaimBatch::read([share(0), share(1)], &[slot()]).unwrap();
    batch.rows(&[], HashMap::new());
    assert_eq!(batch.sign(|_| None, |_, _| false), Err(ClaimBatchError::NoKeys(NUMBER)));
    let seed = MintSeed::new(Zeroizing::new([7; 32]));
    let short = KeysetKeys::derive(&seed, "work", NUMBER, 0, 2).unwrap();
    let error = batch.sign(|_| Some(&short), |_, _| false).unwrap_err();
    assert_eq!(error.to_string(), "keyset 5: the keyset has no key for the amount 4");
    assert_eq!(batch.replies(&msp(), &mut HashMap::new()), Err(ClaimBatchError::Unsigned(0)));
}

/// spec: EW-16
#[test]
fn shares_beside_the_ladder_of_the_keyset_have_no_row() {
    let at =
        |index, zeros| ClaimedShare { exponent: Exponent::new(zeros).unwrap(), ..share(index) };
    let shares = [at(0, 7), at(1, 8), at(2, 71), at(3, 72)];
    let mut batch = ClaimBatch::read(shares, &[slot()]).unwrap();
    let rows: Vec<_> =
        batch.rows(&[], HashMap::new()).iter().map(|row| (row.index, row.exponent)).collect();
    assert_eq!(rows, [(1, 8), (2, 71), (3, 71)]);
    assert!(batch.residues().is_empty() && batch.values().is_empty());
    signed(&mut batch).unwrap();
    let [accepted] = &replies(&batch)[..] else { panic!("one message") };
    // The sum of an answer has 64 bits, as the core message's.
    assert_eq!((accepted.count, accepted.sum), (4, u64::MAX));
    let none = Receipt { sequence: 100, exponent: NO_TOKEN, signature: None };
    assert_eq!(accepted.receipts[0], none);
    assert!(accepted.receipts[1..].iter().all(|receipt| receipt.signature.is_some()));
}

/// A keyset whose unit costs 400.
fn by_value() -> ClaimSlot {
    ClaimSlot { unit_value: 400, ..slot() }
}

/// spec: WT-13, EW-16
#[test]
fn shares_earn_by_value_and_the_rest_is_their_claimants() {
    let of = |index, value, owner| ClaimedShare {
        value: Some(value),
        claimant: [owner; 33],
        ..share(index)
    };
    let shares = [of(0, 399, 2), of(1, 1000, 2), of(2, 1000, 3), of(3, 801, 2)];
    let mut batch = ClaimBatch::read(shares, &[by_value()]).unwrap();
    let keys: Vec<_> = batch.residue_keys().into_iter().collect();
    assert_eq!(keys, [(3, [2; 33]), (3, [3; 33])]);
    let before = HashMap::from([((3, [3; 33]), 600)]);
    let rows = batch.rows(&[], before.clone());
    let told =
        |rows: &[ClaimRow]| rows.iter().map(|row| (row.index, row.exponent)).collect::<Vec<_>>();
    // 399; 1399 = 2 units and 599; 600 + 1000 = 4 units; 599 + 801 = 2 units and 600.
    assert_eq!(told(&rows), [(0, NO_TOKEN), (1, 9), (2, 10), (3, 9)]);
    let after = |batch: &ClaimBatch| batch.residues().clone().into_iter().collect::<Vec<_>>();
    assert_eq!(after(&batch), [((3, [2; 33]), 600), ((3, [3; 33]), 0)]);
    assert_eq!(batch.values().into_iter().collect::<Vec<_>>(), [(NUMBER, 3200)]);
    // Whoever is refused leaves no value; those behind are dealt anew.
    batch.refuse(&[1], ClaimError::BlindedMessageReused).unwrap();
    assert_eq!(told(&batch.standing()), [(0, NO_TOKEN), (2, 10), (3, 9)]);
    assert_eq!(after(&batch), [((3, [2; 33]), 400), ((3, [3; 33]), 0)]);
    assert_eq!(batch.values()[&NUMBER], 2200);
    // A transaction that starts anew begins with the same residues.
    assert_eq!(told(&batch.rows(&[0], before)), [(1, 9), (2, 10), (3, 9)]);
    assert_eq!(batch.standing().iter().map(|row| row.place).collect::<Vec<_>>(), [0, 1, 2]);
    signed(&mut batch).unwrap();
    assert_eq!(replies(&batch)[0].receipts.len(), 3);
}

/// spec: WT-13
#[test]
fn what_cannot_be_valued_is_refused() {
    let unpriced = ClaimedShare { value: None, ..share(0) };
    let boundless = ClaimedShare { value: Some(u128::MAX), ..share(1) };
    let mut batch = ClaimBatch::read([unpriced, boundless], &[by_value()]).unwrap();
    assert_eq!(batch.statuses(), [(0, ClaimError::StaleKeyset)]);
    assert_eq!(batch.rows(&[], HashMap::from([((3, [2; 33]), 1)])), []);
    assert_eq!(batch.statuses(), [(0, ClaimError::StaleKeyset), (1, ClaimError::MintUnavailable)]);
    assert_eq!(batch.residues()[&(3, [2; 33])], 1);
    // Where shares are worth their work, prices mean nothing.
    assert_eq!(ClaimBatch::read([unpriced], &[slot()]).unwrap().statuses(), []);
}

#[test]
fn channels_without_a_claim_key_have_names_of_their_own() {
    let name = channel_claimant(1, 2);
    assert_eq!(name[..2], [0, 1]);
    assert!(name != channel_claimant(2, 1) && Point::from_bytes(&name).is_err());
}

proptest! {
    /// spec: WT-13, WT-14. Whatever is refused, tokens and residues are what shares were worth.
    #[test]
    fn tokens_and_residues_are_what_claimed_shares_are_worth(
        shares in prop::collection::vec((0u128..1 << 60, 2u8..5), 1..40),
        refused in prop::collection::btree_set(0usize..40, 0..8),
        unit_value in 1u128..1 << 50,
        before in 0u128..1 << 60,
    ) {
        let slot = ClaimSlot { unit_value, ..slot() };
        let all = shares.iter().enumerate().map(|(index, (value, owner))| ClaimedShare {
            value: Some(*value),
            claimant: [*owner; 33],
            ..share(index)
        });
        let mut batch = ClaimBatch::read(all, &[slot]).unwrap();
        let start: HashMap<_, _> =
            batch.residue_keys().into_iter().map(|key| (key, before)).collect();
        let inherited: u128 = start.values().sum();
        batch.rows(&[], start);
        let refused: Vec<_> = refused.into_iter().filter(|index| *index < shares.len()).collect();
        batch.refuse(&refused, ClaimError::EpochClosed).unwrap();
        let tokens: u128 = batch
            .standing()
            .iter()
            .filter(|row| row.exponent != NO_TOKEN)
            .map(|row| unit_value << (row.exponent - UNIT))
            .sum();
        let worth: u128 = shares
            .iter()
            .enumerate()
            .filter(|(index, _)| !refused.contains(index))
            .map(|(_, (value, _))| value)
            .sum();
        // A claimant all of whose claims were refused is not touched.
        let touched = batch.residues().len() as u128 * before;
        prop_assert!(touched <= inherited);
        let left: u128 = batch.residues().values().sum();
        prop_assert_eq!(worth + touched, tokens + left);
        prop_assert_eq!(batch.values().values().sum::<u128>(), worth);
    }
}

/// spec: EW-17
#[test]
fn each_channel_and_message_is_answered_apart() {
    let shares = (0..6).map(|index| ClaimedShare {
        connection: 1 + (index as u64 % 3) / 2,
        channel: index as u32 % 3,
        by_message: index != 3,
        ..share(index)
    });
    let mut batch = ClaimBatch::read(shares, &[slot()]).unwrap();
    batch.rows(&[], HashMap::new());
    signed(&mut batch).unwrap();
    let told = batch.replies(&msp(), &mut HashMap::new()).unwrap();
    let found: Vec<_> = told
        .iter()
        .map(|reply| {
            let accepted = decode(&reply.payload);
            let sequences: Vec<_> = accepted.receipts.iter().map(|item| item.sequence).collect();
            (reply.connection, reply.channel, accepted.count, accepted.sum, sequences)
        })
        .collect();
    let work = 1 << (UNIT + 2);
    assert_eq!(
        found,
        [
            (1, 0, 1, work, vec![100]),
            (1, 1, 2, 2 * work, vec![101, 104]),
            (2, 2, 2, 2 * work, vec![102, 105]),
            // By TLVs: the core message counts it.
            (1, 0, 0, 0, vec![103]),
        ]
    );
}

#[test]
fn a_message_has_at_most_600_receipts() {
    let count = RECEIPTS_MAX + 1;
    let mut batch = ClaimBatch::read((0..count).map(share), &[slot()]).unwrap();
    batch.rows(&[], HashMap::new());
    signed(&mut batch).unwrap();
    let told = replies(&batch);
    let counts: Vec<_> = told.iter().map(|item| (item.count, item.receipts.len())).collect();
    assert_eq!(counts, [(600, 600), (1, 1)]);
    assert_eq!((told[0].last_sequence, told[1].last_sequence), (699, 700));
}

/// attack: A8. A lazy channel's receipts are a signed chain, which is carried on.
/// spec: EW-18
#[test]
fn lazy_channels_get_a_signed_chain_and_no_signatures() {
    let other = |index| ClaimedShare { channel: 3, ..share(index) };
    let mut batch = ClaimBatch::read([share(0), other(1), share(2)], &[slot()]).unwrap();
    batch.rows(&[], HashMap::new());
    let keys = keys();
    batch.sign(|_| Some(&keys), |connection, channel| (connection, channel) == (1, 2)).unwrap();
    let start = [5; 32];
    let mut roots = HashMap::from([((1, 2), start), ((8, 8), start)]);
    let told = batch.replies(&msp(), &mut roots).unwrap();
    let [lazy, eager] = [0, 1].map(|index| decode(&told[index].payload));
    assert!(eager.root.is_empty() && eager.receipts[0].signature.is_some());
    let root = [0, 2].iter().fold(start, |root, index| {
        extend_root(&root, &blinded(*index).to_bytes(), UNIT + 2, &[*index as u8; 32])
    });
    assert_eq!((lazy.root, &roots[&(1, 2)]), (root.to_vec(), &root));
    assert_eq!(lazy.signature, sign_root(&msp(), 2, 102, &root));
    assert!(lazy.receipts.iter().all(|receipt| receipt.signature.is_none()));
    assert_eq!(roots[&(8, 8)], start);
}

/// Shares whose claims are of a kind each: malformed, of a message that others have too, or sound.
fn shares(kinds: &[u8]) -> Vec<ClaimedShare> {
    let of_kind = |(index, kind): (usize, &u8)| {
        let claim = match kind {
            0 => Err(ClaimError::InvalidBlindedMessage),
            1 => Ok(Claim { keyset_short: SHORT, blinded: blinded(index / 3) }),
            _ => share(index).claim,
        };
        let (channel, by_message) = (u32::from(*kind), kind % 2 == 0);
        ClaimedShare { claim, channel, by_message, ..share(index) }
    };
    kinds.iter().enumerate().map(of_kind).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Every claim is either refused, left out, or answered with a signature; never two of these.
    #[test]
    fn each_claim_has_one_outcome(
        kinds in prop::collection::vec(0u8..5, 1..60),
        excluded in prop::collection::btree_set(0usize..60, 0..20),
        refused in prop::collection::btree_set(0usize..60, 0..20),
    ) {
        let count = kinds.len();
        let mut batch = ClaimBatch::read(shares(&kinds), &[slot()]).unwrap();
        let left_out: Vec<_> = excluded.into_iter().filter(|index| *index < count).collect();
        let rows = batch.rows(&left_out, HashMap::new());
        let kept: Vec<_> = (0..count).filter(|index| !left_out.contains(index)).collect();
        prop_assert!(rows.iter().all(|row| kept[row.place] == row.index));
        prop_assert!(rows.is_sorted_by_key(|row| row.place));
        let distinct: BTreeSet<_> = rows.iter().map(|row| row.blinded).collect();
        prop_assert_eq!(distinct.len(), rows.len());
        let taken = rows.iter().map(|row| row.index).filter(|index| refused.contains(index));
        batch.refuse(&taken.collect::<Vec<_>>(), ClaimError::BlindedMessageReused).unwrap();
        signed(&mut batch).unwrap();
        let receipts = replies(&batch).into_iter().flat_map(|accepted| accepted.receipts);
        let answered: BTreeSet<_> = receipts.map(|item| item.sequence as usize - 100).collect();
        let told: BTreeSet<_> = batch.statuses().iter().map(|(index, _)| *index).collect();
        for index in 0..count {
            let is_left_out = left_out.contains(&index);
            let outcomes = [is_left_out, told.contains(&index), answered.contains(&index)];
            let found = outcomes.iter().filter(|outcome| **outcome).count();
            prop_assert_eq!(found, 1, "share {}", index);
        }
    }
}
