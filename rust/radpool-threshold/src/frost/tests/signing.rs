use std::sync::Arc;

use radpool_identity::verify;

use super::rig::*;
use crate::frost::{
    AggregateError, Commitment, KeyError, NONCES_MAX, NonceError, NoncePool, Purpose, SHARE_LEN,
    Session, SessionError, ShareError,
};

const MESSAGE: [u8; 32] = [0x5e; 32];

/// The shares of all signers of a session.
fn sign_all(session: &Session, pools: &mut [NoncePool]) -> Vec<(u16, Vec<u8>)> {
    let signers = session.signers();
    signers
        .map(|index| (index, pools[usize::from(index)].sign(session).unwrap().to_vec()))
        .collect()
}

#[test]
fn any_threshold_of_members_signs() {
    for (size, threshold, sets) in [
        (2, 2, vec![vec![0, 1]]),
        (4, 3, vec![vec![0, 1, 2], vec![0, 2, 3], vec![1, 2, 3]]),
        (16, 11, vec![(0..11).collect(), (5..16).collect()]),
    ] {
        let shares = key(size, threshold, Purpose::Checkpoint);
        let (mut pools, commitments) = pools(&shares, sets.len());
        for (slot, signers) in sets.iter().enumerate() {
            let session = session(&shares, &commitments, signers, slot, slot as u64);
            let given = sign_all(&session, &mut pools);
            for (author, bytes) in &given {
                session.verify_share(*author, bytes).unwrap();
            }
            let signature = session.aggregate(&given).unwrap();
            verify(&shares[0].public().internal_key(), &MESSAGE, &signature).unwrap();
            shares[0].public().verify(&MESSAGE, None, &signature).unwrap();
            assert!(shares[0].public().verify(&[0; 32], None, &signature).is_err());
        }
    }
}

#[test]
fn a_treasury_signs_under_a_tweak_and_no_other_key_does() {
    let shares = key(4, 3, Purpose::Treasury);
    let public = shares[0].public();
    let (mut pools, commitments) = pools(&shares, 1);
    let root = [0x77; 32];
    let signers: Vec<_> =
        [0, 1, 3].map(|index: u16| (index, commitments[usize::from(index)][0])).into();
    let session = Session::new(Arc::clone(public), MESSAGE, Some(root), 0, &signers).unwrap();
    let signature = session.aggregate(&sign_all(&session, &mut pools)).unwrap();
    let output = public.output_key(Some(&root)).unwrap();
    verify(&output, &MESSAGE, &signature).unwrap();
    public.verify(&MESSAGE, Some(&root), &signature).unwrap();
    assert!(public.verify(&MESSAGE, None, &signature).is_err());
    assert_eq!(output, tweaked(&public.internal_key(), &root));

    let checkpoint = key(4, 3, Purpose::Checkpoint);
    let public = checkpoint[0].public();
    let refused = KeyError::Tweak(Purpose::Checkpoint);
    assert_eq!(public.output_key(Some(&root)), Err(refused));
    let session = Session::new(Arc::clone(public), MESSAGE, Some(root), 0, &signers);
    assert_eq!(session.unwrap_err(), SessionError::Tweak(refused));
}

/// BIP341's output key, computed by another library.
fn tweaked(internal: &[u8; 32], root: &[u8; 32]) -> [u8; 32] {
    let tweak = radpool_units::TaggedHasher::new("TapTweak").hash(&[internal, root]);
    let tweak = secp256k1::Scalar::from_be_bytes(tweak).unwrap();
    let key = secp256k1::XOnlyPublicKey::from_slice(internal).unwrap();
    key.add_tweak(secp256k1::SECP256K1, &tweak).unwrap().0.serialize()
}

#[test]
fn an_oracle_key_never_signs_by_frost() {
    let shares = key(4, 3, Purpose::Oracle);
    let (_, commitments) = pools(&shares, 1);
    let signers: Vec<_> =
        (0..3).map(|index: u16| (index, commitments[usize::from(index)][0])).collect();
    let session = Session::new(Arc::clone(shares[0].public()), MESSAGE, None, 0, &signers);
    assert_eq!(session.unwrap_err(), SessionError::Purpose(Purpose::Oracle));
}

#[test]
fn all_cheaters_are_named() {
    let shares = key(16, 11, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 1);
    let signers: Vec<u16> = (3..14).collect();
    let session = session(&shares, &commitments, &signers, 0, 0);
    let mut given = sign_all(&session, &mut pools);
    for cheater in [4, 9, 13] {
        let position = usize::from(cheater - 3_u16);
        given[position].1[63] ^= 1;
        let error = session.verify_share(cheater, &given[position].1).unwrap_err();
        assert_eq!(error, ShareError::Invalid(cheater));
    }
    assert_eq!(session.aggregate(&given), Err(AggregateError::Cheaters(vec![4, 9, 13])));
    given[0].1[32..].fill(0xff);
    assert_eq!(session.aggregate(&given), Err(AggregateError::Cheaters(vec![3])));
    given[0].1.truncate(63);
    assert_eq!(session.aggregate(&given), Err(AggregateError::Cheaters(vec![3])));
}

#[test]
fn silent_members_are_told_and_others_sign_instead() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 2);
    let first = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    let mut given = sign_all(&first, &mut pools);
    given.remove(1);
    assert_eq!(first.aggregate(&given), Err(AggregateError::Missing(vec![1])));
    let second = session(&shares, &commitments, &[0, 2, 3], 1, 1);
    assert_eq!(first.signing_id(), second.signing_id());
    let given = sign_all(&second, &mut pools);
    second.aggregate(&given).unwrap();
}

#[test]
fn shares_count_in_their_own_session_only() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 2);
    let first = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    let second = session(&shares, &commitments, &[0, 1, 2], 1, 1);
    let given = sign_all(&first, &mut pools);
    let (author, bytes) = &given[0];
    assert_eq!(second.verify_share(*author, bytes), Err(ShareError::Session));
    assert_eq!(second.aggregate(&given), Err(AggregateError::Share(ShareError::Session)));
    // With the other session's id before it, it is a wrong share of that session.
    let renamed = [second.id().as_slice(), &bytes[32..]].concat();
    assert_eq!(second.verify_share(*author, &renamed), Err(ShareError::Invalid(0)));
    assert_eq!(first.verify_share(3, bytes), Err(ShareError::Signer(3)));
    assert_eq!(first.verify_share(1, bytes), Err(ShareError::Invalid(1)));
    for length in (0..SHARE_LEN).chain([SHARE_LEN + 1]) {
        let mut cut = bytes.clone();
        cut.resize(length, 0);
        assert_eq!(first.verify_share(0, &cut), Err(ShareError::Encoding));
    }
}

#[test]
fn a_session_is_fixed_by_everything_in_it() {
    let shares = key(4, 3, Purpose::Treasury);
    let (_, commitments) = pools(&shares, 2);
    let public = shares[0].public();
    let signers = |slot: usize, members: [u16; 3]| -> Vec<(u16, Commitment)> {
        members.map(|index| (index, commitments[usize::from(index)][slot])).into()
    };
    let id = |message, root, number, signers: &[_]| {
        *Session::new(Arc::clone(public), message, root, number, signers).unwrap().id()
    };
    let base = signers(0, [0, 1, 2]);
    let mut ids = vec![
        id(MESSAGE, None, 0, &base),
        id([0; 32], None, 0, &base),
        id(MESSAGE, Some([0; 32]), 0, &base),
        id(MESSAGE, None, 1, &base),
        id(MESSAGE, None, 0, &signers(0, [0, 1, 3])),
        id(MESSAGE, None, 0, &signers(1, [0, 1, 2])),
    ];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    let error =
        |signers: &[_]| Session::new(Arc::clone(public), MESSAGE, None, 0, signers).unwrap_err();
    assert_eq!(error(&base[..2]), SessionError::Signers { found: 2, wanted: 3 });
    let four = [base.clone(), vec![(3, commitments[3][0])]].concat();
    assert_eq!(error(&four), SessionError::Signers { found: 4, wanted: 3 });
    assert_eq!(error(&signers(0, [0, 2, 1])), SessionError::Signer(1));
    assert_eq!(error(&signers(0, [0, 1, 1])), SessionError::Signer(1));
    let stranger = [base[0], base[1], (4, base[2].1)];
    assert_eq!(error(&stranger), SessionError::Signer(4));
}

#[test]
fn n1_nonces_of_another_boot_are_void() {
    let shares = key(4, 3, Purpose::Treasury);
    let (_, commitments) = pools(&shares, 1);
    let session = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    let mut restarted = NoncePool::new(Arc::clone(&shares[0]), 2);
    restarted.commit(1, &mut rng(3)).unwrap();
    assert_eq!(restarted.sign(&session), Err(NonceError::Boot { found: 1, own: 2 }));
    assert_eq!(restarted.unspent(), 1);
    // A pool that was opened twice with one boot counter has other nonces.
    let mut twin = NoncePool::new(Arc::clone(&shares[0]), 1);
    twin.commit(1, &mut rng(3)).unwrap();
    assert_eq!(twin.sign(&session), Err(NonceError::Commitment(0)));
    assert_eq!(twin.unspent(), 1);
}

#[test]
fn n2_a_nonce_is_spent_by_its_first_share() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 1);
    let first = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    let other_message = session(&shares, &commitments, &[0, 1, 2], 0, 1);
    pools[0].sign(&first).unwrap();
    assert_eq!(pools[0].unspent(), 0);
    assert_eq!(pools[0].sign(&other_message), Err(NonceError::Spent(0)));
}

#[test]
fn n3_a_share_is_given_out_again_and_never_computed_again() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 1);
    let session = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    let first = pools[0].sign(&session).unwrap();
    for _ in 0..3 {
        assert_eq!(pools[0].sign(&session).unwrap(), first);
    }
    // Once forgotten, it is gone.
    pools[0].wipe();
    assert_eq!(pools[0].sign(&session), Err(NonceError::Spent(0)));
}

#[test]
fn n4_a_second_session_of_one_number_is_refused() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 2);
    pools[0].sign(&session(&shares, &commitments, &[0, 1, 2], 0, 0)).unwrap();
    let conflicting = session(&shares, &commitments, &[0, 1, 3], 1, 0);
    assert_eq!(pools[0].sign(&conflicting), Err(NonceError::Conflict(0)));
    assert_eq!(pools[0].unspent(), 1);
    pools[0].sign(&session(&shares, &commitments, &[0, 1, 3], 1, 1)).unwrap();
}

#[test]
fn n4_a_forked_process_has_no_nonces() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 3);
    let session = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    pools[0].sign(&session).unwrap();
    pools[0].pretend_forked();
    assert_eq!(pools[0].sign(&session), Err(NonceError::Forked));
    assert_eq!(pools[0].unspent(), 0);
    assert_eq!(pools[0].commit(1, &mut rng(1)).unwrap_err(), NonceError::Forked);
}

#[test]
fn n5_n6_nonces_come_of_fresh_randomness_and_the_share() {
    let shares = key(4, 3, Purpose::Treasury);
    let commitment = |member: usize, seed| {
        let mut pool = NoncePool::new(Arc::clone(&shares[member]), 1);
        pool.commit(1, &mut rng(seed)).unwrap().remove(0).encode()
    };
    assert_ne!(commitment(0, 1), commitment(0, 2));
    assert_ne!(commitment(0, 1), commitment(1, 1));
}

#[test]
fn pools_refuse_what_is_not_theirs_and_keep_their_nonces() {
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 1);
    let others = key(4, 3, Purpose::Checkpoint);
    let foreign = session(&others, &commitments, &[0, 1, 2], 0, 0);
    assert_eq!(pools[0].sign(&foreign), Err(NonceError::Key));
    let without = session(&shares, &commitments, &[1, 2, 3], 0, 0);
    assert_eq!(pools[0].sign(&without), Err(NonceError::Signer(0)));
    let mut altered = commitments.clone();
    altered[0] = commitments[1].clone();
    let altered = session(&shares, &altered, &[0, 1, 2], 0, 0);
    assert_eq!(pools[0].sign(&altered), Err(NonceError::Commitment(0)));
    assert_eq!(pools[0].unspent(), 1);
    pools[0].burn(&[0, 7]);
    let session = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    assert_eq!(pools[0].sign(&session), Err(NonceError::Spent(0)));
}

#[test]
fn pools_have_a_bound() {
    let shares = key(2, 2, Purpose::Treasury);
    let mut pool = NoncePool::new(Arc::clone(&shares[0]), 1);
    pool.commit(NONCES_MAX - 1, &mut rng(1)).unwrap();
    let full = NonceError::Full { unspent: NONCES_MAX - 1, wanted: 2 };
    assert_eq!(pool.commit(2, &mut rng(1)).unwrap_err(), full);
    let last = pool.commit(1, &mut rng(1)).unwrap().remove(0);
    assert_eq!(last.slot(), NONCES_MAX as u64 - 1);
    assert!(pool.commit(1, &mut rng(1)).is_err());
    pool.burn(&[3]);
    assert_eq!(pool.commit(1, &mut rng(1)).unwrap()[0].slot(), NONCES_MAX as u64);
    assert!(format!("{pool:?}").contains("secret"));
}
