//! Hashes against Bitcoin's own blocks and against values computed by another implementation.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use radpool_units::{
    ABREAST, Hash256, Height, Midstate, Now, Sats, TaggedHasher, Target, Work,
    merkle_root_from_path, merkle_roots_abreast, sha256d, sha256d_abreast, tagged_hash,
};
use sha2::{Digest, Sha256};

/// Reads the reversed hex of block explorers.
fn hash(reversed_hex: &str) -> Hash256 {
    let mut bytes: [u8; 32] = hex::decode(reversed_hex).unwrap().try_into().unwrap();
    bytes.reverse();
    Hash256(bytes)
}

#[test]
fn the_genesis_block_hashes_to_its_known_hash_and_meets_its_target() {
    let header = hex::decode(concat!(
        "01000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a",
        "29ab5f49ffff001d1dac2b7c"
    ));
    let found = sha256d(&header.unwrap());
    let text = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
    assert_eq!(found, hash(text));
    assert_eq!(found.to_string(), text);
    assert_eq!(format!("{found:?}"), format!("Hash256({text})"));
    assert_eq!(found.leading_zero_bits(), 43);
    assert!(Target::from_compact(0x1d00_ffff).unwrap().is_met_by(&found));
    assert!(!Target::from_compact(0x1a00_ffff).unwrap().is_met_by(&found));
}

#[test]
fn a_merkle_path_leads_to_the_root_of_block_100000() {
    let transactions = [
        "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
        "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
        "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
        "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
    ]
    .map(hash);
    let right = sha256d(&[transactions[2].0, transactions[3].0].concat());
    let root = merkle_root_from_path(transactions[0], &[transactions[1].0, right.0]);
    assert_eq!(root, hash("f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766"));
    assert_eq!(merkle_root_from_path(root, &[]), root);
}

#[test]
fn tagged_hashes_are_those_of_bip340() {
    let empty = "c216d352f5818b7b4beacd4ae0a26fe888080823d2a598856661bcd54f1b3713";
    assert_eq!(hex::encode(tagged_hash("BIP0340/challenge", &[])), empty);
    let abc = "aeccf29ed81de1c557f78fe945fae01b5b9555b5510767604ef54613f9d70865";
    assert_eq!(hex::encode(tagged_hash("radpool/batch", &[b"abc"])), abc);
    let hasher = TaggedHasher::new("radpool/batch");
    for parts in [&[&b"a"[..], b"bc"][..], &[b"", b"ab", b"c", b""]] {
        assert_eq!(hex::encode(hasher.hash(parts)), abc);
    }
}

#[test]
fn leading_zeros_are_counted_from_the_most_significant_byte() {
    let mut bytes = [0; 32];
    assert_eq!(Hash256(bytes).leading_zero_bits(), 256);
    bytes[0] = 1;
    assert_eq!(Hash256(bytes).leading_zero_bits(), 255);
    bytes[31] = 0x10;
    assert_eq!(Hash256(bytes).leading_zero_bits(), 3);
}

#[test]
fn sums_are_checked() {
    assert_eq!(Sats(1).checked_add(Sats(2)), Some(Sats(3)));
    assert_eq!(Sats(u64::MAX).checked_add(Sats(1)), None);
    assert_eq!(Work(1).checked_add(Work(2)), Some(Work(3)));
    assert_eq!(Work(u128::MAX).checked_add(Work(1)), None);
    assert_eq!(Work(0x0102).to_le_bytes()[..3], [2, 1, 0]);
    assert_eq!(Work(1 << 70).to_string(), "1180591620717411303424");
    assert!(Height(9) < Height(10));
}

#[test]
fn seconds_are_whole_and_saturate() {
    let at = |unix_ms| Now { mono_ms: 0, unix_ms }.unix_seconds();
    assert_eq!((at(999), at(1000), at(1999)), (0, 1, 1));
    let last = u64::from(u32::MAX) * 1000;
    assert_eq!((at(last), at(last + 1000), at(u64::MAX)), (u32::MAX, u32::MAX, u32::MAX));
}

fn plain(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 131 + seed * 17 + len) as u8).collect()
}

#[test]
fn messages_of_any_length_hash_as_with_the_library() {
    for len in 0..=260 {
        let message = bytes(len, 0);
        assert_eq!(sha256d(&message).0, plain(&[&plain(&[&message])]), "{len} bytes");
        let tag = plain(&[b"a tag"]);
        let expected = plain(&[&tag, &tag, &message]);
        let hasher = TaggedHasher::new("a tag");
        for cut in [0, len / 3, len / 2, len.saturating_sub(64), len] {
            let (left, right) = message.split_at(cut);
            assert_eq!(hasher.hash(&[left, right]), expected, "{cut} of {len} bytes");
            assert_eq!(hasher.hash(&[left, &[], right, &[]]), expected, "{cut} of {len} bytes");
        }
    }
}

#[test]
fn messages_abreast_hash_as_each_by_itself() {
    let hasher = TaggedHasher::new("a tag");
    for seed in 0..200 {
        let count = seed % (ABREAST + 1);
        let messages: Vec<_> = (0..count).map(|at| bytes(seed * (at + 7) % 270, at)).collect();
        let mut states = [Midstate::START; ABREAST];
        let mut rests: [&[u8]; ABREAST] = [&[]; ABREAST];
        for (at, message) in messages.iter().enumerate() {
            let taken = if at % 2 == 0 { message.len() / 2 } else { 0 };
            states[at].take_blocks(&message[..taken]);
            rests[at] = &message[states[at].len()..];
        }
        let mut hashes = [Hash256::default(); ABREAST];
        sha256d_abreast(&states[..count], &rests[..count], &mut hashes[..count]);
        let expected: Vec<_> = messages.iter().map(|message| sha256d(message)).collect();
        assert_eq!(hashes[..count], expected);

        let paths: Vec<Vec<[u8; 32]>> = (0..count)
            .map(|at| (0..(seed + at * 5) % 14).map(|level| plain(&[&[level as u8]])).collect())
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .zip(&paths)
            .map(|(id, path)| merkle_root_from_path(*id, path))
            .collect();
        let paths: Vec<_> = paths.iter().map(Vec::as_slice).collect();
        merkle_roots_abreast(&mut hashes[..count], &paths);
        assert_eq!(hashes[..count], expected);

        let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
        let mut tagged = [[0; 32]; ABREAST];
        hasher.hash_abreast(&messages, &mut tagged[..count]);
        let expected: Vec<_> = messages.iter().map(|message| hasher.hash(&[message])).collect();
        assert_eq!(tagged[..count], expected);
    }
}

#[test]
#[should_panic(expected = "one of each for each message")]
fn as_many_hashes_as_messages_are_asked_for() {
    sha256d_abreast(&[Midstate::START; 2], &[&[], &[]], &mut [Hash256::default()]);
}
