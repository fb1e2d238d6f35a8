//! What sealing leaves out and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test may panic outside of its test functions too")]

use radpool_identity::IdentityKey;
use radpool_ledger::{
    Batch, Link, Owner, Rail, SHARES_MAX, SealError, ShareView, TemplateBody, Weight, coinbase_of,
    seal, template_sums, verify_batch,
};
use radpool_units::{Exponent, Hash256};

fn key() -> IdentityKey {
    IdentityKey::from_secret(&[1; 32]).unwrap()
}

fn owner(msp_key: [u8; 32]) -> Owner {
    Owner { msp_key, commitment: [7; 32], epoch: 3, rail: Rail::Account }
}

fn weight() -> Weight {
    Weight::new(1, 32, 0).unwrap()
}

fn body() -> TemplateBody {
    TemplateBody {
        version: 0x2000_0000,
        prev_hash: [2; 32],
        nbits: 0x207f_ffff,
        height: 1,
        coinbase_prefix: vec![0; 60],
        coinbase_before_tag: vec![1; 40],
        coinbase_after_tag: vec![2; 50],
        merkle_path: Vec::new(),
    }
}

fn view<'a>(
    owner: &'a Owner,
    body: &'a TemplateBody,
    hash: &'a Hash256,
    nonce: u32,
) -> ShareView<'a> {
    ShareView {
        connection: u64::from(nonce % 2),
        channel: 1,
        account: 5,
        owner,
        body,
        price: 1_000,
        exponent: Exponent::new(8).unwrap(),
        version: 0x2000_0000,
        ntime: 1,
        nonce,
        extranonce: &[0; 12],
        hash,
    }
}

#[test]
fn excluded_shares_leave_no_trace() {
    let (key, body, hash) = (key(), body(), Hash256([0; 32]));
    let owner = owner(*key.public());
    let link = Link::default();
    let shares = |nonces: &[u32]| -> Vec<_> {
        nonces.iter().map(|nonce| view(&owner, &body, &hash, *nonce)).collect()
    };
    let some = seal(&key, link, weight(), shares(&[0, 1, 2, 3]), &[0, 2]).unwrap();
    assert_eq!(some, seal(&key, link, weight(), shares(&[1, 3]), &[]).unwrap());
    assert_eq!((some.count, some.work.0, some.value.0), (2, 512, 512_000));
    assert_eq!(some.channel_sums.len(), 1);
    assert_eq!(seal(&key, link, weight(), shares(&[0]), &[0]), Err(SealError::Empty));
    assert_eq!(seal(&key, link, weight(), shares(&[]), &[]), Err(SealError::Empty));
}

#[test]
fn shares_that_do_not_belong_are_refused() {
    let (key, body) = (key(), body());
    let (mine, foreign) = (owner(*key.public()), owner([9; 32]));
    let (good, weak) = (Hash256([0; 32]), Hash256([0xff; 32]));
    let link = Link::default();
    let shares = [view(&mine, &body, &good, 0), view(&mine, &body, &weak, 1)];
    assert_eq!(seal(&key, link, weight(), shares, &[]), Err(SealError::InsufficientWork(1)));
    let shares = [view(&foreign, &body, &good, 0)];
    assert_eq!(seal(&key, link, weight(), shares, &[]), Err(SealError::ForeignOwner(0)));
    let long = ShareView { extranonce: &[0; 33], ..view(&mine, &body, &good, 0) };
    assert_eq!(seal(&key, link, weight(), [long], &[]), Err(SealError::ExtranonceLength(0, 33)));
}

/// The base of the weight and 128 bits of value are both bounds that sealing keeps.
#[test]
fn shares_that_cannot_be_weighed_are_refused() {
    let (key, body, hash) = (key(), body(), Hash256([0; 32]));
    let owner = owner(*key.public());
    let share = view(&owner, &body, &hash, 0);
    let based = |base| Weight::new(1, 112, base).unwrap();
    let seal = |base, shares: &[_]| {
        seal(&key, Link::default(), based(base), shares.iter().copied(), &[]).map(|_| ())
    };
    assert_eq!(seal(8, &[share]), Ok(()));
    assert_eq!(seal(9, &[share]), Err(SealError::ExponentBase(0)));
    let dear = ShareView { price: u128::MAX >> 8, ..share };
    assert_eq!(seal(0, &[dear]), Ok(()));
    assert_eq!(seal(0, &[ShareView { price: 1 << 120, ..share }]), Err(SealError::ValueOverflow));
    assert_eq!(seal(0, &[dear, dear]), Err(SealError::ValueOverflow));
}

/// A template that has two prices has two entries, and sums are kept apart by them.
#[test]
fn a_batch_is_summed_up_by_template_and_owner() {
    let (key, body, hash) = (key(), body(), Hash256([0; 32]));
    let owner = owner(*key.public());
    let cheap = view(&owner, &body, &hash, 0);
    let dear = ShareView { price: 1_001, ..cheap };
    let link = Link { epoch_min: 5, ..Link::default() };
    let sealed = seal(&key, link, weight(), [cheap, dear, cheap], &[]).unwrap();
    assert_eq!(sealed.bodies.iter().map(|body| body.price).collect::<Vec<_>>(), [1_000, 1_001]);
    assert_eq!(sealed.bodies[0].digest, sealed.bodies[1].digest);
    let sums = template_sums(&Batch::decode(&sealed.blob).unwrap()).unwrap();
    let found: Vec<_> = sums
        .iter()
        .map(|sum| (sum.template.price, sum.epoch, sum.count, sum.earned.value.0))
        .collect();
    assert_eq!(found, [(1_000, 5, 2, 512_000), (1_001, 5, 1, 256_256)]);
}

#[test]
fn both_sides_of_the_largest_batch() {
    let (key, body, hash) = (key(), body(), Hash256([0; 32]));
    let owner = owner(*key.public());
    let shares = |count: usize| (0..count as u32).map(|nonce| view(&owner, &body, &hash, nonce));
    let full = seal(&key, Link::default(), weight(), shares(SHARES_MAX), &[]).unwrap();
    assert_eq!(full.count as usize, SHARES_MAX);
    let over = seal(&key, Link::default(), weight(), shares(SHARES_MAX + 1), &[]);
    assert_eq!(over, Err(SealError::TooMany));
}

#[test]
fn random_bytes_are_refused_without_panic() {
    use proptest::prelude::*;
    let mut runner = proptest::test_runner::TestRunner::default();
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    runner
        .run(&(bytes, any::<bool>()), |(mut bytes, with_magic)| {
            if with_magic && bytes.len() > 5 {
                bytes[..5].copy_from_slice(b"RPSB\x02");
            }
            prop_assert!(verify_batch(&bytes, |_| None).is_err());
            let _ = TemplateBody::decode(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_shares_coinbase_is_written_again() {
    let (key, body, hash) = (key(), body(), Hash256([0; 32]));
    let owner = owner(*key.public());
    let sealed =
        seal(&key, Link::default(), weight(), [view(&owner, &body, &hash, 0)], &[]).unwrap();
    let batch = Batch::decode(&sealed.blob).unwrap();
    let encoded = body.encode().unwrap();
    let find = |_: &[u8; 32]| Some(encoded.as_slice());
    let tag = owner.tag(Exponent::new(8).unwrap()).to_output();
    let coinbase = [&[0; 60][..], &[0; 12], &[1; 40], &tag, &[2; 50]].concat();
    assert_eq!(coinbase_of(&batch, 0, find), Some(coinbase));
    assert_eq!(coinbase_of(&batch, 1, find), None);
    assert_eq!(coinbase_of(&batch, 0, |_| None), None);
}
