//! Threshold keys beside the plain library: one member's work in key generation, one signature
//! share, and the joining of shares, at committees of several sizes.
//!
//! What is above the library are sealed boxes, hashes of transcripts and sessions, the keeping of
//! nonces, and a last verification by another library. Both have their turns in the same rounds.

use std::{collections::BTreeMap, hint::black_box, sync::Arc, time::Instant};

use frost_secp256k1_tr::{self as plain, Identifier, keys::dkg};
use radpool_identity::IdentityKey;
use radpool_threshold::frost::{
    Dealing, KeyShare, NoncePool, Purpose, Round1, Round1Set, Round2, Run, Session,
};
use rand_core::OsRng;
use serde_json::json;

use crate::{arguments::Arguments, report};

/// Members and threshold: the quorums of committees.
const SIZES: [(u16, u16); 3] = [(4, 3), (16, 11), (50, 34)];
const LARGE: u16 = 16;
const GENERATIONS_MAX: u64 = 5;
const MESSAGE: [u8; 32] = [0x5e; 32];

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let rounds: u64 = arguments.take("rounds", 5)?;
    let members: u16 = arguments.take("members", 50)?;
    arguments.end()?;
    for (size, threshold) in SIZES.into_iter().filter(|(size, _)| *size <= members) {
        let mut best: BTreeMap<&str, u128> = BTreeMap::new();
        let mut note = |what: &'static str, nanoseconds: u128| {
            best.entry(what)
                .and_modify(|least| *least = nanoseconds.min(*least))
                .or_insert(nanoseconds);
        };
        let mut ours = Ours::generate(size, threshold, &mut note)?;
        let mut bare = Plain::generate(size, threshold, &mut note).map_err(text)?;
        // All members generate here; of many, once is long enough to be no accident.
        for _ in 1..if size > LARGE { 1 } else { rounds.min(GENERATIONS_MAX) } {
            ours = Ours::generate(size, threshold, &mut note)?;
            bare = Plain::generate(size, threshold, &mut note).map_err(text)?;
        }
        for round in 0..rounds {
            ours.sign(round, &mut note)?;
            bare.sign(&mut note).map_err(text)?;
        }
        for (what, nanoseconds) in best {
            report::line(&json!({
                "event": "threshold", "what": what, "members": size, "threshold": threshold,
                "microseconds": nanoseconds / 1_000,
            }));
        }
    }
    Ok(())
}

type Note<'a> = &'a mut dyn FnMut(&'static str, u128);

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A key of ours with all its shares.
struct Ours {
    shares: Vec<Arc<KeyShare>>,
    threshold: u16,
}

impl Ours {
    fn generate(size: u16, threshold: u16, note: Note<'_>) -> Result<Self, String> {
        let mut keys: Vec<_> = (1..=size)
            .map(|number| {
                let mut secret = [1; 32];
                secret[..2].copy_from_slice(&number.to_be_bytes());
                IdentityKey::from_secret(&secret).map(|key| *key.public()).map_err(text)
            })
            .collect::<Result<_, _>>()?;
        keys.sort_unstable();
        let run = Run::new([7; 32], Purpose::Treasury, 0, threshold, keys).map_err(text)?;
        let run = Arc::new(run);
        let mut spent = 0;
        // All is measured that member 0 does; the others do as much.
        let mut dealings = Vec::new();
        for index in 0..size {
            let started = Instant::now();
            dealings.push(Dealing::new(Arc::clone(&run), index, &mut OsRng).map_err(text)?);
            spent += if index == 0 { started.elapsed().as_nanos() } else { 0 };
        }
        let started = Instant::now();
        let messages = (0..)
            .zip(&dealings)
            .map(|(author, dealing)| Round1::decode(&run, author, dealing.message()))
            .collect::<Result<_, _>>()
            .map_err(text)?;
        let round1 = Arc::new(Round1Set::new(run, messages).map_err(text)?);
        spent += started.elapsed().as_nanos();
        let (mut dealt, mut second) = (Vec::new(), Vec::new());
        for (index, dealing) in dealings.into_iter().enumerate() {
            let started = Instant::now();
            let (next, message) = dealing.deal(Arc::clone(&round1), &mut OsRng).map_err(text)?;
            spent += if index == 0 { started.elapsed().as_nanos() } else { 0 };
            dealt.push(next);
            second.push(message);
        }
        let started = Instant::now();
        let second: Vec<_> = (0..)
            .zip(&second)
            .map(|(author, message)| Round2::decode(&round1, author, message))
            .collect::<Result<_, _>>()
            .map_err(text)?;
        spent += started.elapsed().as_nanos();
        let mut shares = Vec::new();
        for (index, dealt) in dealt.into_iter().enumerate().take(threshold.into()) {
            let started = Instant::now();
            shares.push(Arc::new(dealt.finish(&second).map_err(text)?));
            spent += if index == 0 { started.elapsed().as_nanos() } else { 0 };
        }
        note("key generation", spent);
        Ok(Self { shares, threshold })
    }

    fn sign(&self, round: u64, note: Note<'_>) -> Result<(), String> {
        let mut pools: Vec<_> =
            self.shares.iter().map(|share| NoncePool::new(Arc::clone(share), round)).collect();
        let signers = (0..self.threshold)
            .zip(&mut pools)
            .map(|(index, pool)| Ok((index, pool.commit(1, &mut OsRng).map_err(text)?.remove(0))))
            .collect::<Result<Vec<_>, String>>()?;
        let key = self.shares.first().ok_or("no shares")?.public();
        let mut shares = Vec::new();
        for (index, pool) in (0..).zip(&mut pools) {
            let started = Instant::now();
            let session = Session::new(Arc::clone(key), MESSAGE, None, round, &signers);
            let session = session.map_err(text)?;
            shares.push((index, pool.sign(&session).map_err(text)?.to_vec()));
            note("share", started.elapsed().as_nanos());
        }
        let session =
            Session::new(Arc::clone(key), MESSAGE, None, round, &signers).map_err(text)?;
        let started = Instant::now();
        black_box(session.aggregate(&shares).map_err(text)?);
        note("joining", started.elapsed().as_nanos());
        Ok(())
    }
}

/// The library alone, with a key of its own.
struct Plain {
    packages: Vec<plain::keys::KeyPackage>,
    public: plain::keys::PublicKeyPackage,
}

impl Plain {
    fn generate(size: u16, threshold: u16, note: Note<'_>) -> Result<Self, plain::Error> {
        let identifiers: Vec<_> = (1..=size).map(Identifier::try_from).collect::<Result<_, _>>()?;
        let mut spent = 0;
        let (mut secrets, mut first) = (Vec::new(), BTreeMap::new());
        for (index, identifier) in identifiers.iter().enumerate() {
            let started = Instant::now();
            let (secret, package) = dkg::part1(*identifier, size, threshold, OsRng)?;
            spent += if index == 0 { started.elapsed().as_nanos() } else { 0 };
            secrets.push(secret);
            first.insert(*identifier, package);
        }
        let others = |own: &Identifier| {
            let mut others = first.clone();
            others.remove(own);
            others
        };
        let (mut dealt, mut boxes) = (Vec::new(), BTreeMap::new());
        for (index, (identifier, secret)) in identifiers.iter().zip(secrets).enumerate() {
            let others = others(identifier);
            let started = Instant::now();
            let (next, shares) = dkg::part2(secret, &others)?;
            spent += if index == 0 { started.elapsed().as_nanos() } else { 0 };
            dealt.push(next);
            for (recipient, share) in shares {
                boxes.entry(recipient).or_insert_with(BTreeMap::new).insert(*identifier, share);
            }
        }
        let mut packages = Vec::new();
        let mut public = None;
        for (index, (identifier, dealt)) in
            identifiers.iter().zip(&dealt).enumerate().take(threshold.into())
        {
            let others = others(identifier);
            let started = Instant::now();
            let (package, key) = dkg::part3(dealt, &others, &boxes[identifier])?;
            spent += if index == 0 { started.elapsed().as_nanos() } else { 0 };
            packages.push(package);
            public = Some(key);
        }
        note("key generation, library", spent);
        public.map(|public| Self { packages, public }).ok_or(plain::Error::InvalidMinSigners)
    }

    fn sign(&self, note: Note<'_>) -> Result<(), plain::Error> {
        let (mut nonces, mut commitments) = (Vec::new(), BTreeMap::new());
        for package in &self.packages {
            let (nonce, commitment) = plain::round1::commit(package.signing_share(), &mut OsRng);
            nonces.push(nonce);
            commitments.insert(*package.identifier(), commitment);
        }
        let mut shares = BTreeMap::new();
        for (package, nonce) in self.packages.iter().zip(&nonces) {
            let started = Instant::now();
            let signing = plain::SigningPackage::new(commitments.clone(), &MESSAGE);
            let share = plain::round2::sign(&signing, nonce, package)?;
            note("share, library", started.elapsed().as_nanos());
            shares.insert(*package.identifier(), share);
        }
        let signing = plain::SigningPackage::new(commitments, &MESSAGE);
        let started = Instant::now();
        black_box(plain::aggregate(&signing, &shares, &self.public)?);
        note("joining, library", started.elapsed().as_nanos());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generate_and_sign() {
        let mut noted = BTreeMap::new();
        let mut note = |what, nanoseconds| {
            noted.insert(what, nanoseconds);
        };
        let ours = Ours::generate(4, 3, &mut note).unwrap();
        ours.sign(0, &mut note).unwrap();
        Plain::generate(4, 3, &mut note).unwrap().sign(&mut note).unwrap();
        assert_eq!(noted.len(), 6);
        assert!(noted.values().all(|nanoseconds| *nanoseconds > 0));
    }
}
