//! Whatever bytes come, the answer is a value or an error.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use radpool_identity::IdentityKey;

use super::rig::*;
use crate::frost::{
    Commitment, CommitmentError, Complaint, KeyShare, PublicKey, Purpose, Round1, Round1Set,
    Round2, Run, SHARE_LEN, Session, judge,
};

struct Messages {
    run: Arc<Run>,
    first: Vec<u8>,
    round1: Arc<Round1Set>,
    second: Vec<u8>,
    complaint: Vec<u8>,
    key: Vec<u8>,
    owner: IdentityKey,
    stored: Vec<u8>,
    commitment: Vec<u8>,
    session: Session,
    share: Vec<u8>,
}

static MESSAGES: LazyLock<Messages> = LazyLock::new(|| {
    let run = run(4, 3, Purpose::Treasury, 0);
    let first = first_round(&run, 1).0[0].message().to_vec();
    let (dealt, round1, mut second) = second_round(&run, 1);
    let complaint = Complaint::new(&run, 0, *dealt[1].sealing_secret()).encode();
    let shares = key(4, 3, Purpose::Treasury);
    let (mut pools, commitments) = pools(&shares, 1);
    let session = session(&shares, &commitments, &[0, 1, 2], 0, 0);
    let owner = identities(4).remove(0);
    Messages {
        first,
        round1,
        second: second.remove(0),
        complaint,
        key: shares[0].public().encode(),
        stored: shares[0].seal(&owner, &mut rng(1)).unwrap(),
        owner,
        commitment: commitments[0][0].encode().to_vec(),
        share: pools[0].sign(&session).unwrap().to_vec(),
        session,
        run,
    }
});

fn read_all(bytes: &[u8]) {
    let messages = &*MESSAGES;
    let _ = Round1::decode(&messages.run, 0, bytes);
    let _ = PublicKey::decode(bytes);
    let _ = KeyShare::open(&messages.owner, bytes);
    let _ = Commitment::decode(bytes);
    let _ = messages.session.verify_share(0, bytes);
    let _ = messages.session.aggregate(&[(0, bytes.to_vec())]);
    let _ = Round2::decode(&messages.round1, 0, bytes);
    let second = Round2::decode(&messages.round1, 0, &messages.second).unwrap();
    if let Ok(complaint) = Complaint::decode(&messages.run, 1, bytes) {
        let _ = judge(&messages.round1, &second, 1, &complaint);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }

    #[test]
    fn changed_messages_are_answered(
        which in 0_usize..7,
        at in any::<proptest::sample::Index>(),
        with in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let messages = &*MESSAGES;
        let kinds = [
            &messages.first, &messages.second, &messages.complaint, &messages.key,
            &messages.stored, &messages.commitment, &messages.share,
        ];
        let mut bytes = kinds[which].clone();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if cut {
            bytes.truncate(at);
        }
        read_all(&bytes);
    }
}

#[test]
fn commitments_are_read_strictly() {
    let bytes = &MESSAGES.commitment;
    assert_eq!(Commitment::decode(bytes).unwrap().encode().as_slice(), bytes);
    for length in 0..bytes.len() {
        let error = Commitment::decode(&bytes[..length]).unwrap_err();
        assert_eq!(error, CommitmentError::Length(length));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Commitment::decode(&longer), Err(CommitmentError::Length(longer.len())));
    for point in [16, 16 + 33] {
        let mut changed = bytes.clone();
        changed[point..point + 33].fill(0);
        assert_eq!(Commitment::decode(&changed), Err(CommitmentError::Point));
    }
    assert_eq!(MESSAGES.share.len(), SHARE_LEN);
}
