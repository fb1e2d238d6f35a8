//! Members in one process, whose messages a test can change on the way.

use std::sync::Arc;

use radpool_identity::IdentityKey;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use crate::frost::{
    Commitment, Dealing, Dealt, FinishError, KeyShare, NoncePool, Purpose, Round1, Round1Set,
    Round2, Run, Session,
};

pub(super) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Identity keys in the order of a committee.
pub(super) fn identities(size: u16) -> Vec<IdentityKey> {
    let mut random = rng(0x1d);
    let mut keys: Vec<_> = (0..size)
        .map(|_| {
            let mut secret = [0; 32];
            random.fill_bytes(&mut secret);
            IdentityKey::from_secret(&secret).unwrap()
        })
        .collect();
    keys.sort_by_key(|key| *key.public());
    keys
}

pub(super) fn run(size: u16, threshold: u16, purpose: Purpose, attempt: u32) -> Arc<Run> {
    let members = identities(size).iter().map(|key| *key.public()).collect();
    Arc::new(Run::new([0xc0; 32], purpose, attempt, threshold, members).unwrap())
}

/// Everybody after the first round.
pub(super) fn first_round(run: &Arc<Run>, seed: u64) -> (Vec<Dealing>, Arc<Round1Set>) {
    let mut random = rng(seed);
    let dealings: Vec<_> = (0..run.size())
        .map(|index| Dealing::new(Arc::clone(run), index, &mut random).unwrap())
        .collect();
    let messages = (0..)
        .zip(&dealings)
        .map(|(index, dealing)| Round1::decode(run, index, dealing.message()).unwrap());
    let set = Round1Set::new(Arc::clone(run), messages.collect()).unwrap();
    (dealings, Arc::new(set))
}

/// Everybody after the second round, with their messages.
pub(super) fn second_round(
    run: &Arc<Run>,
    seed: u64,
) -> (Vec<Dealt>, Arc<Round1Set>, Vec<Vec<u8>>) {
    let (dealings, round1) = first_round(run, seed);
    let mut random = rng(seed + 1);
    let (dealt, messages) = dealings
        .into_iter()
        .map(|dealing| dealing.deal(Arc::clone(&round1), &mut random).unwrap())
        .unzip();
    (dealt, round1, messages)
}

pub(super) fn decode_second(round1: &Round1Set, messages: &[Vec<u8>]) -> Vec<Round2> {
    let messages = (0..).zip(messages);
    messages.map(|(author, bytes)| Round2::decode(round1, author, bytes).unwrap()).collect()
}

pub(super) fn finish(dealt: Vec<Dealt>, round2: &[Round2]) -> Vec<Result<KeyShare, FinishError>> {
    dealt.into_iter().map(|dealt| dealt.finish(round2)).collect()
}

/// A key that everybody has a share of.
pub(super) fn key(size: u16, threshold: u16, purpose: Purpose) -> Vec<Arc<KeyShare>> {
    let run = run(size, threshold, purpose, 0);
    let (dealt, round1, messages) = second_round(&run, 7);
    let shares = finish(dealt, &decode_second(&round1, &messages));
    shares.into_iter().map(|share| Arc::new(share.unwrap())).collect()
}

/// Pools of all members, each with `count` nonces, and the commitments by member.
pub(super) fn pools(
    shares: &[Arc<KeyShare>],
    count: usize,
) -> (Vec<NoncePool>, Vec<Vec<Commitment>>) {
    let mut random = rng(11);
    shares
        .iter()
        .map(|share| {
            let mut pool = NoncePool::new(Arc::clone(share), 1);
            let commitments = pool.commit(count, &mut random).unwrap();
            (pool, commitments)
        })
        .unzip()
}

/// A session of these members, all of which use the same slot.
pub(super) fn session(
    shares: &[Arc<KeyShare>],
    commitments: &[Vec<Commitment>],
    signers: &[u16],
    slot: usize,
    number: u64,
) -> Session {
    let signers: Vec<_> =
        signers.iter().map(|index| (*index, commitments[usize::from(*index)][slot])).collect();
    Session::new(Arc::clone(shares[0].public()), [0x5e; 32], None, number, &signers).unwrap()
}
