//! Declarations from cache to block, as a declarator drives them.

use std::sync::Arc;

use proptest::prelude::*;
use radpool_template::{
    BlockError, BuildError, CoinbaseError, Declaration, Ground, Selection, SelectionError,
    TRANSACTIONS_MAX, Transaction, TransactionCache, TransactionError,
};
use radpool_units::{Hash256, sha256d};
use stratum_core::bitcoin::{Block, consensus, hashes::Hash};

const HEIGHT: u32 = 700;
const EXTRANONCE_LEN: usize = 16;

/// A transaction that spends an output of its own; the witness makes its wtxid another.
fn payment(number: u32) -> Vec<u8> {
    let mut raw = hex::decode("020000000001").expect("it is well formed");
    raw.push(1);
    raw.extend_from_slice(&sha256d(&number.to_le_bytes()).0);
    raw.extend_from_slice(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend_from_slice(&u64::from(number).to_le_bytes());
    raw.extend_from_slice(&[1, 0x51, 1, 1, 0x51, 0, 0, 0, 0]);
    raw
}

fn payments(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(payment).collect()
}

fn wtxids(raws: &[Vec<u8>]) -> Vec<Hash256> {
    raws.iter().map(|raw| sha256d(raw)).collect()
}

fn commitment(raws: &[Vec<u8>]) -> Vec<u8> {
    let mut level: Vec<_> = [Hash256::default()].into_iter().chain(wtxids(raws)).collect();
    while level.len() > 1 {
        let pair = |pair: &[Hash256]| sha256d(&[pair[0].0, pair[pair.len() - 1].0].concat());
        level = level.chunks(2).map(pair).collect();
    }
    let mut script = hex::decode("6a24aa21a9ed").expect("it is well formed");
    script.extend_from_slice(&sha256d(&[level[0].0, [0; 32]].concat()).0);
    script
}

/// The coinbase around its extranonce: one output to anyone, and the commitment.
fn coinbase(raws: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let mut prefix = hex::decode("0200000000010100").expect("it is well formed");
    prefix.extend_from_slice(&[0; 31]);
    prefix.extend_from_slice(&[0xff; 4]);
    let script = [&[2, 0xbc, 0x02, 16][..]].concat();
    prefix.push((script.len() + EXTRANONCE_LEN) as u8);
    prefix.extend_from_slice(&script);
    let mut suffix = vec![0xfe, 0xff, 0xff, 0xff, 2];
    suffix.extend_from_slice(&5_000_000_000u64.to_le_bytes());
    suffix.extend_from_slice(&[1, 0x51]);
    suffix.extend_from_slice(&0u64.to_le_bytes());
    let commitment = commitment(raws);
    suffix.push(commitment.len() as u8);
    suffix.extend_from_slice(&commitment);
    suffix.extend_from_slice(&[1, 32]);
    suffix.extend_from_slice(&[0; 32]);
    suffix.extend_from_slice(&[0; 4]);
    (prefix, suffix)
}

fn ground() -> Ground {
    let prev_hash = sha256d(b"tip");
    Ground {
        version: 0x2000_0000,
        prev_hash,
        nbits: 0x207f_ffff,
        height: HEIGHT,
        median_time: None,
    }
}

fn cache() -> Arc<TransactionCache> {
    Arc::new(TransactionCache::new(100_000_000))
}

fn declare(raws: &[Vec<u8>]) -> Declaration {
    let mut selection = Selection::new(cache(), wtxids(raws)).expect("it is well formed");
    selection.supply(raws).expect("it is well formed");
    let (prefix, suffix) = coinbase(raws);
    Declaration::build(&selection, ground(), &prefix, &suffix, None).expect("it is well formed")
}

#[test]
fn a_block_is_what_rust_bitcoin_reads() {
    for count in [0, 1, 2, 3, 7, 8, 252, 253] {
        let raws = payments(count);
        let declaration = declare(&raws);
        assert_eq!(declaration.fault(), None, "{count}");
        let raw = declaration.block(&[7; EXTRANONCE_LEN], 0x2fff_0000, 1_000, 9).unwrap();
        let block: Block = consensus::deserialize(&raw).unwrap();
        assert!(block.check_merkle_root(), "{count}");
        assert!(block.check_witness_commitment(), "{count}");
        assert!(matches!(block.bip34_block_height(), Ok(height) if height == u64::from(HEIGHT)));
        assert_eq!(block.weight().to_wu(), declaration.weight() as u64, "{count}");
        assert_eq!(block.total_size(), declaration.size(), "{count}");
        assert_eq!(block.header.prev_blockhash.to_byte_array(), ground().prev_hash.0);
        let root = declaration.merkle_root(&[7; EXTRANONCE_LEN]).unwrap();
        assert_eq!(block.header.merkle_root.to_byte_array(), root.0);
    }
}

#[test]
fn a_found_block_is_recognised_with_and_without_its_witness() {
    let declaration = declare(&payments(5));
    let extranonce = [3; EXTRANONCE_LEN];
    let block = declaration.block(&extranonce, 1, 2, 3).unwrap();
    let header: [u8; 80] = block[..80].try_into().unwrap();
    for coinbase in [
        declaration.coinbase_with(&extranonce).unwrap(),
        declaration.stripped_coinbase_with(&extranonce).unwrap(),
    ] {
        assert_eq!(declaration.block_of(&header, &coinbase).unwrap(), block);
        let mut other = coinbase.clone();
        let at = other.len() - 5;
        other[20] ^= 1;
        assert_eq!(declaration.block_of(&header, &other), Err(BlockError::Coinbase));
        assert_eq!(declaration.block_of(&header, &coinbase[..at]), Err(BlockError::Coinbase));
    }
    let coinbase = declaration.coinbase_with(&[4; EXTRANONCE_LEN]).unwrap();
    assert_eq!(declaration.block_of(&header, &coinbase), Err(BlockError::Header));
    let mut elsewhere = header;
    elsewhere[4] ^= 1;
    let coinbase = declaration.coinbase_with(&extranonce).unwrap();
    assert_eq!(declaration.block_of(&elsewhere, &coinbase), Err(BlockError::Header));
}

#[test]
fn the_extranonce_has_one_length() {
    let declaration = declare(&payments(1));
    for len in [0, EXTRANONCE_LEN - 1, EXTRANONCE_LEN + 1] {
        let wanted = EXTRANONCE_LEN;
        let error = Err(BlockError::Extranonce { given: len, wanted });
        assert_eq!(declaration.block(&vec![0; len], 1, 2, 3), error);
    }
}

#[test]
fn the_digest_names_every_part() {
    let raws = payments(4);
    let first = *declare(&raws).digest();
    assert_eq!(first, *declare(&raws).digest());
    assert_ne!(first, *declare(&raws[..3]).digest());
    let mut selection = Selection::new(cache(), wtxids(&raws)).unwrap();
    selection.supply(&raws).unwrap();
    let (prefix, suffix) = coinbase(&raws);
    let build = |ground, prefix: &[u8], suffix: &[u8], len| {
        *Declaration::build(&selection, ground, prefix, suffix, len).unwrap().digest()
    };
    let mut other = suffix.clone();
    other[5] ^= 1;
    let shorter = [&prefix[..], &[0]].concat();
    for digest in [
        build(Ground { version: 1, ..ground() }, &prefix, &suffix, None),
        build(Ground { nbits: 1, ..ground() }, &prefix, &suffix, None),
        build(Ground { height: 1, ..ground() }, &prefix, &suffix, None),
        build(Ground { prev_hash: sha256d(b"x"), ..ground() }, &prefix, &suffix, None),
        build(ground(), &prefix, &other, None),
        build(ground(), &shorter, &suffix, None),
    ] {
        assert_ne!(digest, first);
    }
}

#[test]
fn a_coinbase_has_to_be_one() {
    let raws = payments(2);
    let mut selection = Selection::new(cache(), wtxids(&raws)).unwrap();
    selection.supply(&raws).unwrap();
    let (prefix, suffix) = coinbase(&raws);
    let error = |prefix: &[u8], suffix: &[u8], len| match Declaration::build(
        &selection,
        ground(),
        prefix,
        suffix,
        len,
    )
    .unwrap_err()
    {
        BuildError::Coinbase(error) => error,
        missing @ BuildError::Missing(_) => panic!("{missing}"),
    };
    for len in 0..prefix.len() - 4 {
        assert_eq!(error(&prefix[..len], &suffix, None), CoinbaseError::Prefix, "{len}");
    }
    let beyond = [&prefix[..], &[0; EXTRANONCE_LEN + 1]].concat();
    assert_eq!(error(&beyond, &suffix, None), CoinbaseError::Prefix);
    assert_eq!(error(&prefix, &suffix, Some(17)), CoinbaseError::Extranonce(17));
    for len in 0..suffix.len() {
        assert!(matches!(error(&prefix, &suffix[..len], None), CoinbaseError::Transaction(_)));
    }
    let more = [&suffix[..], &[0]].concat();
    let trailing = CoinbaseError::Transaction(TransactionError::Trailing(1));
    assert_eq!(error(&prefix, &more, None), trailing);
}

#[test]
fn a_script_that_is_only_announced_takes_no_memory() {
    let raws = payments(1);
    let mut selection = Selection::new(cache(), wtxids(&raws)).unwrap();
    selection.supply(&raws).unwrap();
    let (prefix, suffix) = coinbase(&raws);
    let head = &prefix[..prefix.len() - 5];
    for (announced, len) in [([0xfe, 0, 0, 0, 2], 0x0200_0000), ([0xfe, 0, 0, 1, 0], 0x1_0000)] {
        let prefix = [head, &announced].concat();
        let error = Declaration::build(&selection, ground(), &prefix, &suffix, None).unwrap_err();
        assert_eq!(error, BuildError::Coinbase(CoinbaseError::Extranonce(len)));
    }
}

proptest! {
    #[test]
    fn whatever_is_declared_harms_nobody(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        len in prop::option::of(0..40usize),
        mined in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let raws = payments(3);
        let mut selection = Selection::new(cache(), wtxids(&raws)).unwrap();
        selection.supply(&raws).unwrap();
        let (prefix, suffix) = coinbase(&raws);
        let split = prefix.len();
        let mut whole = [prefix, suffix].concat();
        for (at, value) in &changes {
            let at = at.index(whole.len());
            whole[at] = *value;
        }
        if is_cut {
            whole.truncate(cut.index(whole.len()));
        }
        let (prefix, suffix) = whole.split_at(split.min(whole.len()));
        if let Ok(built) = Declaration::build(&selection, ground(), prefix, suffix, len) {
            let (first, second) = (built.coinbase(), built.coinbase().outputs().count());
            prop_assert!(first.outputs_raw().len() >= 9 * second);
            let extranonce = vec![7; first.extranonce_len()];
            let (tx, header) = (built.coinbase_with(&extranonce).unwrap(), [0; 80]);
            prop_assert!(built.block(&extranonce, 1, 2, 3).is_ok());
            prop_assert_eq!(built.block_of(&header, &tx), Err(BlockError::Header));
            prop_assert!(built.block_of(&header, &mined).is_err());
        }
    }
}

#[test]
fn a_shorter_extranonce_leaves_script_behind_it() {
    let raws = payments(2);
    let mut selection = Selection::new(cache(), wtxids(&raws)).unwrap();
    selection.supply(&raws).unwrap();
    let (prefix, suffix) = coinbase(&raws);
    let suffix = [&[9, 9, 9, 9], &suffix[..]].concat();
    let built = Declaration::build(&selection, ground(), &prefix, &suffix, Some(12)).unwrap();
    assert_eq!(built.fault(), None);
    assert_eq!(built.coinbase().script_suffix(), [9; 4]);
    assert_eq!(built.coinbase().script_prefix(), [2, 0xbc, 0x02, 16]);
    assert_eq!(built.coinbase().extranonce_len(), 12);
}

#[test]
fn what_is_missing_is_asked_for_and_nothing_else_is_taken() {
    let raws = payments(6);
    let cache = cache();
    let known: Vec<_> =
        [1, 3].map(|n: usize| Arc::new(Transaction::parse(&raws[n]).unwrap())).into();
    cache.add(&known);
    let mut selection = Selection::new(Arc::clone(&cache), wtxids(&raws)).unwrap();
    assert_eq!(selection.missing(), [0, 2, 4, 5]);
    let (prefix, suffix) = coinbase(&raws);
    let early = Declaration::build(&selection, ground(), &prefix, &suffix, None);
    assert_eq!(early.unwrap_err(), BuildError::Missing(4));

    let asked = |which: &[usize]| which.iter().map(|n| raws[*n].clone()).collect::<Vec<_>>();
    let count = SelectionError::Count { given: 3, asked: 4 };
    assert_eq!(selection.supply(&asked(&[0, 2, 4])), Err(count));
    let swapped = selection.supply(&asked(&[0, 4, 2, 5])).unwrap_err();
    assert!(matches!(swapped, SelectionError::Other { index: 1, .. }), "{swapped}");
    let mut cut = asked(&[0, 2, 4, 5]);
    cut[3].pop();
    assert!(
        matches!(selection.supply(&cut), Err(SelectionError::Parse(error)) if error.index == 3)
    );
    assert_eq!((selection.missing(), cache.count()), (vec![0, 2, 4, 5], 2));

    selection.offer(&asked(&[5, 1, 0])).unwrap();
    assert_eq!(selection.missing(), [2, 4]);
    selection.supply(&asked(&[2, 4])).unwrap();
    assert_eq!((selection.missing(), cache.count()), (vec![], 6));
    assert_eq!(
        Declaration::build(&selection, ground(), &prefix, &suffix, None).unwrap().fault(),
        None
    );
}

#[test]
fn a_repeated_transaction_is_asked_for_once() {
    let raws = payments(3);
    let list: Vec<_> = [0, 1, 0, 2, 1].map(|n: usize| raws[n].clone()).into();
    let mut selection = Selection::new(cache(), wtxids(&list)).unwrap();
    assert_eq!(selection.missing(), [0, 1, 3]);
    selection.supply(&raws).unwrap();
    assert!(selection.missing().is_empty());
}

#[test]
fn a_list_longer_than_any_block_is_refused() {
    let list = |len| Selection::new(cache(), vec![Hash256::default(); len]).map(|_| ());
    assert_eq!(list(TRANSACTIONS_MAX), Ok(()));
    let error = SelectionError::TooMany(TRANSACTIONS_MAX + 1);
    assert_eq!(list(TRANSACTIONS_MAX + 1), Err(error));
}

#[test]
fn a_list_that_repeats_a_large_one_fills_no_memory() {
    let mut large = payment(1);
    let witness_at = large.len() - 7;
    large.truncate(witness_at);
    large.extend_from_slice(&[1, 0xfe]);
    large.extend_from_slice(&3_000_000u32.to_le_bytes());
    large.resize(large.len() + 3_000_000 + 4, 0);
    let raws = [large];
    let list = vec![wtxids(&raws)[0]; TRANSACTIONS_MAX];
    let mut selection = Selection::new(cache(), list).unwrap();
    selection.supply(&raws).unwrap();
    let (prefix, suffix) = coinbase(&[]);
    let built = Declaration::build(&selection, ground(), &prefix, &suffix, None).unwrap();
    assert_eq!(built.fault().map(|fault| fault.reason), Some("bad-txns-duplicate"));
    let refused = built.block(&[0; EXTRANONCE_LEN], 1, 2, 3).unwrap_err();
    assert!(matches!(refused, BlockError::TooLarge(size) if size > 40_000_000_000));
}

#[test]
fn what_a_declaration_holds_stays_in_the_cache() {
    let raws = payments(50);
    let cache = Arc::new(TransactionCache::new(0));
    let mut selection = Selection::new(Arc::clone(&cache), wtxids(&raws)).unwrap();
    selection.supply(&raws).unwrap();
    let (prefix, suffix) = coinbase(&raws);
    let built = Declaration::build(&selection, ground(), &prefix, &suffix, None).unwrap();
    drop(selection);
    cache.add(&[]);
    assert_eq!(cache.missing(&wtxids(&raws)), Vec::<usize>::new());
    drop(built);
    cache.add(&[]);
    assert_eq!(cache.count(), 0);
}
