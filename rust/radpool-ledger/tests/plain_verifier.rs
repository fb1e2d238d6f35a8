//! The verifier beside one that hashes one thing after another, on random batches and random faults.

#![allow(clippy::unwrap_used, reason = "a test may panic outside of its test functions too")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proptest::prelude::*;
use radpool_identity::IdentityKey;
use radpool_ledger::{
    Batch, BatchError, CoinbaseFault, Link, Owner, OwnerTag, Rail, ShareView, TemplateBody,
    VERSION_MASK, Weight, check_coinbase, seal, verify_batch,
};
use radpool_units::{Exponent, Hash256, Value, Work};
use sha2::{Digest, Sha256};

type Bodies = HashMap<[u8; 32], Vec<u8>>;

// The plain verifier.

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn tagged(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let tag = sha256(&[tag.as_bytes()]);
    sha256(&[&[&tag[..], &tag], parts].concat())
}

fn verify_plainly(blob: &[u8], bodies: &Bodies) -> Result<Vec<Hash256>, BatchError> {
    let batch = Batch::decode(blob)?;
    radpool_identity::verify(&batch.head.msp_key, &batch.hash, &batch.signature)
        .map_err(|_| BatchError::Signature)?;
    check_sums_plainly(&batch)?;
    let mut templates = Vec::new();
    for (index, template) in batch.head.templates.iter().enumerate() {
        let encoded = bodies.get(&template.digest).ok_or(BatchError::TemplateMissing(index))?;
        if tagged("radpool/template", &[encoded]) != template.digest {
            return Err(BatchError::TemplateDigest(index));
        }
        let body = TemplateBody::decode(encoded);
        templates.push(body.map_err(|_| BatchError::TemplateShape(index))?);
    }
    let mut seen = HashSet::new();
    let mut hashes = Vec::new();
    for index in 0..batch.shares.len() {
        let hash = hash_plainly(&batch, index, &templates)?;
        if !seen.insert(hash) {
            return Err(BatchError::DuplicateShare(index));
        }
        hashes.push(hash);
    }
    Ok(hashes)
}

fn check_sums_plainly(batch: &Batch<'_>) -> Result<(), BatchError> {
    let (mut work, mut value) = (0_u128, 0_u128);
    let mut level = Vec::new();
    let works: Option<u128> =
        batch.shares.iter().try_fold(0_u128, |sum, share| sum.checked_add(share.exponent.work().0));
    if works.map(Work) != Some(batch.head.work) {
        return Err(BatchError::WorkSum);
    }
    for (share, record) in batch.shares.iter().zip(&batch.records) {
        let own =
            (share.exponent.work().0, batch.head.value_of(share).ok_or(BatchError::ValueSum)?.0);
        work += own.0;
        value = value.checked_add(own.1).ok_or(BatchError::ValueSum)?;
        let sums = [own.0.to_le_bytes(), own.1.to_le_bytes()].concat();
        level.push((tagged("radpool/leaf/2", &[record, &sums]), own));
    }
    if (Work(work), Value(value)) != (batch.head.work, batch.head.value) {
        return Err(BatchError::ValueSum);
    }
    while level.len() > 1 {
        let above = level.chunks(2).map(|pair| match pair {
            [(left, (a, b)), (right, (c, d))] => {
                let sums = [a, b, c, d].map(|sum| sum.to_le_bytes()).concat();
                (tagged("radpool/node/2", &[left, right, &sums]), (a + c, b + d))
            }
            alone => alone[0],
        });
        level = above.collect();
    }
    if level[0].0 == batch.head.root { Ok(()) } else { Err(BatchError::Root) }
}

fn hash_plainly(
    batch: &Batch<'_>,
    index: usize,
    templates: &[TemplateBody],
) -> Result<Hash256, BatchError> {
    let share = &batch.shares[index];
    let owner = &batch.head.owners[usize::from(share.owner)];
    let body = &templates[usize::from(share.template)];
    if (share.version ^ body.version) & !VERSION_MASK != 0 {
        return Err(BatchError::VersionBits(index));
    }
    let of = [owner.rail as u8, share.exponent.get()];
    let parts: [&[u8]; 4] = [&owner.msp_key, &owner.commitment, &owner.epoch.to_le_bytes(), &of];
    let binding = tagged("radpool/owner", &parts);
    let tag = OwnerTag { rail: owner.rail, exponent: share.exponent, binding };
    let mut coinbase = Vec::new();
    body.write_coinbase(share.extranonce, &tag.to_output(), &mut coinbase);
    let place = (body.coinbase_prefix.len(), share.extranonce.len());
    check_coinbase(&coinbase, place, body.height, &tag.to_script()).map_err(
        |fault| match fault {
            CoinbaseFault::Shape => BatchError::Coinbase(index),
            CoinbaseFault::Height => BatchError::Height(index),
            CoinbaseFault::OwnerTag => BatchError::OwnerTag(index),
        },
    )?;
    let mut node = sha256(&[&sha256(&[&coinbase])]);
    for sibling in &body.merkle_path {
        node = sha256(&[&sha256(&[&node, sibling])]);
    }
    let (ntime, nbits) = (share.ntime.to_le_bytes(), body.nbits.to_le_bytes());
    let (version, nonce) = (share.version.to_le_bytes(), share.nonce.to_le_bytes());
    let header: [&[u8]; 6] = [&version, &body.prev_hash, &node, &ntime, &nbits, &nonce];
    let hash = Hash256(sha256(&[&sha256(&header)]));
    let zeros = u32::from(share.exponent.get());
    if hash.leading_zero_bits() < zeros {
        return Err(BatchError::InsufficientWork(index));
    }
    Ok(hash)
}

// Random batches.

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll(256) as u8).collect()
    }

    fn hash(&mut self) -> [u8; 32] {
        self.bytes(32).try_into().unwrap()
    }
}

/// What is wrong with a batch, at places that the dice choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    Nothing,
    Bits,
    Work,
    Repeat,
    Height,
    Outputs,
    SecondTag,
    Extranonce,
    Missing,
    OtherBody,
    NoBody,
    Record,
    Head,
    Byte,
    Cut,
    Several,
}

const MISTAKES: [Mistake; 16] = [
    Mistake::Nothing,
    Mistake::Bits,
    Mistake::Work,
    Mistake::Repeat,
    Mistake::Height,
    Mistake::Outputs,
    Mistake::SecondTag,
    Mistake::Extranonce,
    Mistake::Missing,
    Mistake::OtherBody,
    Mistake::NoBody,
    Mistake::Record,
    Mistake::Head,
    Mistake::Byte,
    Mistake::Cut,
    Mistake::Several,
];

const EXTRANONCE_LEN: usize = 12;

fn template(dice: &mut Dice, number: u32, mistake: Mistake) -> TemplateBody {
    let height = 1_000 + number;
    let mut script = vec![2];
    script.extend_from_slice(&height.to_le_bytes()[..2]);
    let told = dice.roll(84);
    script.extend(dice.bytes(told));
    let mut coinbase_prefix = [&b"\x02\0\0\0\x01"[..], &[0; 32], &[0xff; 4]].concat();
    coinbase_prefix.push((script.len() + EXTRANONCE_LEN) as u8);
    coinbase_prefix.extend(script);
    let is_wrong = mistake == Mistake::Several && dice.one_in(4);
    let outputs = if mistake == Mistake::Outputs || is_wrong { 3 } else { 2 };
    let mut coinbase_before_tag = [&[0xff; 4][..], &[outputs]].concat();
    let scripts = dice.roll(70);
    coinbase_before_tag.extend(dice.bytes(8));
    coinbase_before_tag.push(scripts as u8);
    coinbase_before_tag.extend(dice.bytes(scripts));
    let mut coinbase_after_tag = Vec::new();
    if mistake == Mistake::SecondTag {
        coinbase_before_tag[4] = 3;
        coinbase_after_tag.extend([0; 8]);
        coinbase_after_tag.extend(b"\x06\x6a\x26RADP");
    }
    coinbase_after_tag.extend(dice.bytes(4));
    let levels = dice.roll(14);
    TemplateBody {
        version: 0x2000_0000,
        prev_hash: dice.hash(),
        nbits: 0x207f_ffff,
        height: if mistake == Mistake::Height { height + 1 } else { height },
        coinbase_prefix,
        coinbase_before_tag,
        coinbase_after_tag,
        merkle_path: (0..levels).map(|_| dice.hash()).collect(),
    }
}

/// Makes a batch with its template bodies; the mistake need not show.
fn make(seed: u64, mistake: Mistake) -> (Vec<u8>, Bodies) {
    let dice = &mut Dice(seed);
    dice.roll(2);
    let key = IdentityKey::from_secret(&[7; 32]).unwrap();
    let wrong_from = dice.roll(3);
    let bodies: Vec<_> = (0..1 + dice.roll(3))
        .map(|at| {
            template(dice, at as u32, if at == wrong_from { mistake } else { Mistake::Nothing })
        })
        .collect();
    let owners: Vec<_> = (0..1 + dice.roll(4))
        .map(|_| Owner {
            msp_key: *key.public(),
            commitment: dice.hash(),
            epoch: dice.roll(9) as u32,
            rail: [Rail::Account, Rail::Ecash, Rail::Contract][dice.roll(3)],
        })
        .collect();
    let count = 1 + dice.roll(30);
    let mut drafts: Vec<(usize, usize, u8, u32, u32, Vec<u8>)> = Vec::new();
    let has = |own| mistake == own || mistake == Mistake::Several;
    for nonce in 0..count {
        if has(Mistake::Repeat) && nonce > 0 && dice.one_in(count) {
            drafts.push(drafts[dice.roll(nonce)].clone());
            continue;
        }
        let exponent = if has(Mistake::Work) && dice.one_in(count) { 1 + dice.roll(9) } else { 0 };
        let wrong = has(Mistake::Bits) && dice.one_in(count);
        let rolled = (dice.roll(1 << 24) as u32) << 5 & VERSION_MASK;
        let version = 0x2000_0000 ^ rolled ^ if wrong { 1 << dice.roll(5) } else { 0 };
        let longer = usize::from(has(Mistake::Extranonce) && dice.one_in(count));
        let extranonce = dice.bytes(EXTRANONCE_LEN + longer);
        let (body, owner) = (dice.roll(bodies.len()), dice.roll(owners.len()));
        drafts.push((body, owner, exponent as u8, version, nonce as u32, extranonce));
    }
    // Sealing believes the hashes that it is told.
    let hash = Hash256::default();
    let views =
        drafts.iter().map(|(body, owner, exponent, version, nonce, extranonce)| ShareView {
            connection: 0,
            channel: 0,
            account: 0,
            owner: &owners[*owner],
            body: &bodies[*body],
            price: 1_000 + *body as u128,
            exponent: Exponent::new((*exponent).into()).unwrap(),
            version: *version,
            ntime: 5,
            nonce: *nonce,
            extranonce,
            hash: &hash,
        });
    let weight = Weight::new(1, 32, 0).unwrap();
    let sealed = seal(&key, Link::default(), weight, views, &[]).unwrap();
    let mut blob = sealed.blob;
    let mut told: Bodies = sealed.bodies.into_iter().map(|each| (each.digest, each.body)).collect();
    spoil(dice, mistake, &key, &mut blob, &mut told);
    (blob, told)
}

fn spoil(
    dice: &mut Dice,
    mistake: Mistake,
    key: &IdentityKey,
    blob: &mut Vec<u8>,
    told: &mut Bodies,
) {
    let records = Batch::decode(blob).unwrap().records.concat().len();
    let len = blob.len();
    match mistake {
        Mistake::Missing => told.clear(),
        Mistake::OtherBody => told.values_mut().for_each(|body| body[0] ^= 1),
        Mistake::NoBody => {
            // A body that is none under the digest that the signed head names.
            let cut: Vec<_> = told.values().map(|body| body[..body.len() - 1].to_vec()).collect();
            let digests: Vec<_> = Batch::decode(blob).unwrap().head.templates;
            let at = blob.windows(32).position(|bytes| bytes == digests[0].digest).unwrap();
            let digest = tagged("radpool/template", &[&cut[0]]);
            blob[at..at + 32].copy_from_slice(&digest);
            told.insert(digest, cut[0].clone());
            sign(key, blob);
        }
        Mistake::Record => {
            let at = len - 64 - records + dice.roll(records);
            blob[at] ^= 1 << dice.roll(8);
            sign(key, blob);
        }
        Mistake::Head => {
            // Value, work or root, which stand before the records.
            let at = len - 64 - records - 64 + dice.roll(64);
            blob[at] ^= 1 << dice.roll(8);
            sign(key, blob);
        }
        Mistake::Byte => {
            let at = dice.roll(len);
            blob[at] ^= 1 << dice.roll(8);
        }
        Mistake::Cut => blob.truncate(dice.roll(len)),
        _ => {}
    }
}

/// Signs what a batch has become, if it is one still.
fn sign(key: &IdentityKey, blob: &mut [u8]) {
    let Ok(batch) = Batch::decode(blob) else { return };
    let signature = key.sign(&batch.hash);
    let at = blob.len() - signature.len();
    blob[at..].copy_from_slice(&signature);
}

fn compare(seed: u64, mistake: Mistake) -> Result<(), BatchError> {
    let (blob, bodies) = make(seed, mistake);
    let plain = verify_plainly(&blob, &bodies);
    let found = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice));
    assert_eq!(found.map(|batch| batch.header_hashes), plain, "seed {seed}, {mistake:?}");
    plain.map(|_| ())
}

#[test]
fn each_refusal_is_that_of_the_plain_verifier() {
    let mut found = BTreeMap::<&str, BTreeSet<usize>>::new();
    for seed in 0..60 {
        for mistake in MISTAKES {
            let error = compare(seed, mistake).err();
            let place = match error {
                Some(
                    BatchError::VersionBits(at)
                    | BatchError::InsufficientWork(at)
                    | BatchError::DuplicateShare(at),
                ) => at,
                _ => 0,
            };
            found.entry(error.map_or("", |error| error.code())).or_default().insert(place);
        }
    }
    let wanted = [
        "",
        "coinbase",
        "duplicate-share",
        "height",
        "insufficient-work",
        "owner-tag",
        "root",
        "signature",
        "template-digest",
        "template-missing",
        "template-shape",
        "truncated",
        "value-sum",
        "version-bits",
        "work-sum",
    ];
    for code in wanted {
        assert!(found.contains_key(code), "{code} did not come up: {found:?}");
    }
    for code in ["duplicate-share", "insufficient-work", "version-bits"] {
        assert!(found[code].iter().any(|at| *at > 8), "{code} came up behind no eight shares");
    }
}

proptest! {
    #[test]
    fn random_batches_are_judged_alike(seed in any::<u64>(), mistake in prop::sample::select(&MISTAKES[..])) {
        let _ = compare(seed, mistake);
    }
}
