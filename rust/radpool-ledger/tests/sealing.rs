//! What sealing leaves out and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test may panic outside of its test functions too")]

use radpool_ledger::{
    Batch, Link, MspKey, Owner, Rail, SHARES_MAX, SealError, ShareView, TemplateBody, coinbase_of,
    seal, verify_batch,
};
use radpool_units::{Exponent, Hash256};

fn key() -> MspKey {
    MspKey::from_secret(&[1; 32]).unwrap()
}

fn owner(msp_key: [u8; 32]) -> Owner {
    Owner { msp_key, commitment: [7; 32], epoch: 3, rail: Rail::Account }
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
    let some = seal(&key, link, shares(&[0, 1, 2, 3]), &[0, 2]).unwrap();
    assert_eq!(some, seal(&key, link, shares(&[1, 3]), &[]).unwrap());
    assert_eq!((some.count, some.work.0), (2, 512));
    assert_eq!(some.channel_sums.len(), 1);
    assert_eq!(seal(&key, link, shares(&[0]), &[0]), Err(SealError::Empty));
    assert_eq!(seal(&key, link, shares(&[]), &[]), Err(SealError::Empty));
}

#[test]
fn shares_that_do_not_belong_are_refused() {
    let (key, body) = (key(), body());
    let (mine, foreign) = (owner(*key.public()), owner([9; 32]));
    let (good, weak) = (Hash256([0; 32]), Hash256([0xff; 32]));
    let link = Link::default();
    let shares = [view(&mine, &body, &good, 0), view(&mine, &body, &weak, 1)];
    assert_eq!(seal(&key, link, shares, &[]), Err(SealError::InsufficientWork(1)));
    let shares = [view(&foreign, &body, &good, 0)];
    assert_eq!(seal(&key, link, shares, &[]), Err(SealError::ForeignOwner(0)));
    let long = ShareView { extranonce: &[0; 33], ..view(&mine, &body, &good, 0) };
    assert_eq!(seal(&key, link, [long], &[]), Err(SealError::ExtranonceLength(0, 33)));
}

#[test]
fn both_sides_of_the_largest_batch() {
    let (key, body, hash) = (key(), body(), Hash256([0; 32]));
    let owner = owner(*key.public());
    let shares = |count: usize| (0..count as u32).map(|nonce| view(&owner, &body, &hash, nonce));
    let full = seal(&key, Link::default(), shares(SHARES_MAX), &[]).unwrap();
    assert_eq!(full.count as usize, SHARES_MAX);
    let over = seal(&key, Link::default(), shares(SHARES_MAX + 1), &[]);
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
                bytes[..5].copy_from_slice(b"RPSB\x01");
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
    let sealed = seal(&key, Link::default(), [view(&owner, &body, &hash, 0)], &[]).unwrap();
    let batch = Batch::decode(&sealed.blob).unwrap();
    let encoded = body.encode().unwrap();
    let find = |_: &[u8; 32]| Some(encoded.as_slice());
    let tag = owner.tag(Exponent::new(8).unwrap()).to_output();
    let coinbase = [&[0; 60][..], &[0; 12], &[1; 40], &tag, &[2; 50]].concat();
    assert_eq!(coinbase_of(&batch, 0, find), Some(coinbase));
    assert_eq!(coinbase_of(&batch, 1, find), None);
    assert_eq!(coinbase_of(&batch, 0, |_| None), None);
}
