use std::sync::Arc;

use radpool_identity::verify;

use super::rig::*;
use crate::{
    StoredKeyError,
    frost::{
        Complaint, ComplaintError, Dealing, Fault, FinishError, KeyError, KeyShare, PublicKey,
        Purpose, Round1, Round1Error, Round1Set, Round1SetError, Round2, Round2Error, Run,
        RunError, Verdict, certificate_hash, judge, round2::share_info, unsigned_by,
    },
    seal::{SEALED_LEN, seal},
    stored::seal as seal_stored,
};

#[test]
fn everybody_comes_to_the_same_key_and_so_does_an_outsider() {
    for (size, threshold) in [(2, 2), (3, 2), (4, 3), (7, 5)] {
        let run = run(size, threshold, Purpose::Treasury, 0);
        let (dealt, round1, messages) = second_round(&run, 1);
        let round2 = decode_second(&round1, &messages);
        let outside = PublicKey::from_broadcast(&round1, &round2).unwrap();
        for (index, share) in (0..).zip(finish(dealt, &round2)) {
            let share = share.unwrap();
            assert_eq!(share.index(), index);
            assert_eq!(share.public().encode(), outside.encode());
            assert_eq!(share.public().transcript(), outside.transcript());
        }
    }
}

#[test]
fn a_key_is_certified_by_all_and_by_no_fewer() {
    let shares = key(4, 3, Purpose::Checkpoint);
    let public = shares[0].public();
    let hash = certificate_hash(public.transcript());
    let members = identities(4);
    let mut signatures: Vec<_> = members.iter().map(|key| Some(key.sign(&hash))).collect();
    assert!(unsigned_by(public, &signatures).is_empty());
    signatures.swap(0, 1);
    assert_eq!(unsigned_by(public, &signatures), [0, 1]);
    signatures[2] = None;
    assert_eq!(unsigned_by(public, &signatures), [0, 1, 2]);
    assert_eq!(unsigned_by(public, &signatures[..3]), [0, 1, 2, 3]);
    verify(members[3].public(), &hash, &signatures[3].unwrap()).unwrap();
}

/// Replaces the box of `dealer` for `victim`.
fn replace_box(messages: &mut [Vec<u8>], dealer: u16, victim: u16, sealed: &[u8; SEALED_LEN]) {
    let position = usize::from(victim - u16::from(victim > dealer));
    let start = 64 + SEALED_LEN * position;
    messages[usize::from(dealer)][start..start + SEALED_LEN].copy_from_slice(sealed);
}

#[test]
fn a_wrong_share_for_one_victim_names_its_dealer() {
    for (dealer, victim) in [(0, 3), (3, 0), (2, 1)] {
        let run = run(4, 3, Purpose::Treasury, 0);
        let (dealt, round1, mut messages) = second_round(&run, 2);
        let key = round1.get(victim).unwrap().sealing_key;
        let info = share_info(&round1, dealer, victim);
        let wrong = seal(&key, &info, &[1; 32], &mut rng(3)).unwrap();
        replace_box(&mut messages, dealer, victim, &wrong);
        let round2 = decode_second(&round1, &messages);
        for (index, share) in (0..).zip(finish(dealt, &round2)) {
            if index != victim {
                share.unwrap();
                continue;
            }
            let Err(FinishError::BadShares(complaints)) = share else { panic!("{share:?}") };
            let [complaint] = complaints.as_slice() else { panic!("{complaints:?}") };
            let complaint = Complaint::decode(&run, victim, &complaint.encode()).unwrap();
            assert_eq!(complaint.dealer(), dealer);
            let accused = &round2[usize::from(dealer)];
            let verdict = judge(&round1, accused, victim, &complaint).unwrap();
            assert_eq!(verdict, Verdict { culprit: dealer, fault: Fault::WrongShare });
        }
    }
}

#[test]
fn a_box_that_does_not_open_names_its_dealer() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealt, round1, mut messages) = second_round(&run, 2);
    // One that is sealed to somebody else, and one whose scalar is too large.
    let foreign = seal(&round1.get(0).unwrap().sealing_key, b"", &[1; 32], &mut rng(3)).unwrap();
    replace_box(&mut messages, 1, 3, &foreign);
    let info = share_info(&round1, 2, 3);
    let large = seal(&round1.get(3).unwrap().sealing_key, &info, &[255; 32], &mut rng(3)).unwrap();
    replace_box(&mut messages, 2, 3, &large);
    let round2 = decode_second(&round1, &messages);
    let Some(Err(FinishError::BadShares(complaints))) = finish(dealt, &round2).pop() else {
        panic!("the victim finished")
    };
    assert_eq!(complaints.iter().map(Complaint::dealer).collect::<Vec<_>>(), [1, 2]);
    for complaint in complaints {
        let dealer = complaint.dealer();
        let verdict = judge(&round1, &round2[usize::from(dealer)], 3, &complaint).unwrap();
        assert_eq!(verdict, Verdict { culprit: dealer, fault: Fault::UnreadableShare });
    }
}

#[test]
fn all_who_deal_badly_to_one_are_named() {
    let run = run(7, 5, Purpose::Treasury, 0);
    let (dealt, round1, mut messages) = second_round(&run, 2);
    let victim = 6;
    for dealer in [0, 2, 5] {
        let info = share_info(&round1, dealer, victim);
        let key = round1.get(victim).unwrap().sealing_key;
        replace_box(
            &mut messages,
            dealer,
            victim,
            &seal(&key, &info, &[9; 32], &mut rng(4)).unwrap(),
        );
    }
    replace_box(&mut messages, 1, victim, &[0; SEALED_LEN]);
    let round2 = decode_second(&round1, &messages);
    let Some(Err(FinishError::BadShares(complaints))) = finish(dealt, &round2).pop() else {
        panic!("the victim finished")
    };
    let mut accused: Vec<_> = complaints.iter().map(Complaint::dealer).collect();
    accused.sort_unstable();
    assert_eq!(accused, [0, 1, 2, 5]);
}

#[test]
fn a_false_complaint_names_its_author() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealt, round1, messages) = second_round(&run, 2);
    let round2 = decode_second(&round1, &messages);
    let honest = &dealt[2];
    let complaint = Complaint::new(&run, 0, *honest.sealing_secret());
    assert_eq!(
        judge(&round1, &round2[0], 2, &complaint).unwrap(),
        Verdict { culprit: 2, fault: Fault::FalseComplaint }
    );
    let complaint = Complaint::new(&run, 0, [5; 32]);
    assert_eq!(
        judge(&round1, &round2[0], 2, &complaint).unwrap(),
        Verdict { culprit: 2, fault: Fault::ForeignSecret }
    );
    let nobody = ComplaintError::Dealer { accuser: 2, dealer: 0 };
    assert_eq!(judge(&round1, &round2[1], 2, &complaint), Err(nobody));
}

#[test]
fn complaints_are_read_strictly() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let other = super::rig::run(4, 3, Purpose::Treasury, 1);
    let bytes = Complaint::new(&run, 1, [5; 32]).encode();
    assert!(Complaint::decode(&run, 0, &bytes).is_ok());
    assert_eq!(Complaint::decode(&other, 0, &bytes), Err(ComplaintError::Run));
    for length in 0..bytes.len() {
        let error = Complaint::decode(&run, 0, &bytes[..length]).unwrap_err();
        assert_eq!(error, ComplaintError::Length(length));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Complaint::decode(&run, 0, &longer), Err(ComplaintError::Length(longer.len())));
    let own = ComplaintError::Dealer { accuser: 1, dealer: 1 };
    assert_eq!(Complaint::decode(&run, 1, &bytes), Err(own));
    let stranger = Complaint::new(&run, 4, [5; 32]).encode();
    let nobody = ComplaintError::Dealer { accuser: 0, dealer: 4 };
    assert_eq!(Complaint::decode(&run, 0, &stranger), Err(nobody));
}

#[test]
fn first_messages_are_worth_nothing_in_another_run_or_of_another_member() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealings, _) = first_round(&run, 1);
    let bytes = dealings[1].message().to_vec();
    assert!(Round1::decode(&run, 1, &bytes).is_ok());
    // The proof of possession is bound to the member and to the run, not only the id before it.
    assert_eq!(Round1::decode(&run, 2, &bytes).unwrap_err(), Round1Error::Proof);
    for (purpose, attempt) in [(Purpose::Treasury, 1), (Purpose::Oracle, 0)] {
        let other = super::rig::run(4, 3, purpose, attempt);
        assert_eq!(Round1::decode(&other, 1, &bytes).unwrap_err(), Round1Error::Run);
        let renamed = [other.id().as_slice(), &bytes[32..]].concat();
        assert_eq!(Round1::decode(&other, 1, &renamed).unwrap_err(), Round1Error::Proof);
    }
}

#[test]
fn first_messages_are_read_strictly() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealings, _) = first_round(&run, 1);
    let bytes = dealings[1].message().to_vec();
    let wanted = bytes.len();
    for length in (0..wanted).chain([wanted + 1]) {
        let mut cut = bytes.clone();
        cut.resize(length, 0);
        let error = Round1::decode(&run, 1, &cut).unwrap_err();
        assert_eq!(error, Round1Error::Length { found: length, wanted });
    }
    let changed = |at: usize, with: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + with.len()].copy_from_slice(with);
        Round1::decode(&run, 1, &changed).unwrap_err()
    };
    assert_eq!(changed(32, &[0; 32]), Round1Error::SealingKey);
    assert_eq!(changed(64, &[0; 33]), Round1Error::Commitment(0));
    assert_eq!(changed(64 + 66, &[4]), Round1Error::Commitment(2));
    assert_eq!(changed(64 + 99, &[0xff; 32]), Round1Error::Proof);
    assert_eq!(changed(64 + 99 + 32, &[0; 32]), Round1Error::Proof);
    assert_eq!(Round1::decode(&run, 4, &bytes).unwrap_err(), Round1Error::Author(4));
}

#[test]
fn a_set_of_first_messages_is_whole() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealings, whole) = first_round(&run, 1);
    let message =
        |index: u16| Round1::decode(&run, index, dealings[usize::from(index)].message()).unwrap();
    let set = |indices: &[u16]| {
        let messages = indices.iter().map(|index| message(*index)).collect();
        Round1Set::new(Arc::clone(&run), messages)
    };
    assert_eq!(set(&[3, 1, 0, 2]).unwrap().digest(), whole.digest());
    assert_eq!(set(&[0, 1, 3]).unwrap_err(), Round1SetError::Missing(2));
    assert_eq!(set(&[]).unwrap_err(), Round1SetError::Missing(0));
    assert_eq!(set(&[0, 1, 1, 3]).unwrap_err(), Round1SetError::Repeated(1));
}

#[test]
fn second_messages_are_read_strictly() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealt, round1, messages) = second_round(&run, 1);
    let (_, other) = first_round(&run, 9);
    let bytes = &messages[1];
    assert_eq!(Round2::decode(&other, 1, bytes).unwrap_err(), Round2Error::Round1);
    let (_, foreign) = first_round(&super::rig::run(4, 3, Purpose::Treasury, 1), 1);
    assert_eq!(Round2::decode(&foreign, 1, bytes).unwrap_err(), Round2Error::Run);
    assert_eq!(Round2::decode(&round1, 4, bytes).unwrap_err(), Round2Error::Author(4));
    let wanted = bytes.len();
    for length in (0..wanted).chain([wanted + 1]) {
        let mut cut = bytes.clone();
        cut.resize(length, 0);
        let error = Round2::decode(&round1, 1, &cut).unwrap_err();
        assert_eq!(error, Round2Error::Length { found: length, wanted });
    }
    // A silent member is no culprit: nobody complains, the run is without its message.
    let mut round2 = decode_second(&round1, &messages);
    round2.remove(2);
    for result in finish(dealt, &round2) {
        assert!(matches!(result, Err(FinishError::Missing(2))), "{result:?}");
    }
}

#[test]
fn dealing_wants_the_messages_that_were_delivered() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (mut dealings, _) = first_round(&run, 1);
    let (_, others) = first_round(&run, 2);
    let dealing = dealings.remove(0);
    assert!(matches!(dealing.deal(others, &mut rng(1)), Err(FinishError::Round1)));
    let none = Dealing::new(run, 4, &mut rng(1));
    assert!(matches!(none, Err(FinishError::NotAMember(4))));
}

#[test]
fn runs_have_bounds() {
    let members = |count: u16| -> Vec<[u8; 32]> {
        (0..count)
            .map(|index| {
                let mut key = [0; 32];
                key[..2].copy_from_slice(&index.to_be_bytes());
                key
            })
            .collect()
    };
    let run = |count, threshold| Run::new([0; 32], Purpose::Oracle, 0, threshold, members(count));
    assert!(run(2, 2).is_ok());
    assert!(run(256, 256).is_ok());
    assert_eq!(run(1, 1), Err(RunError::Members(1)));
    assert_eq!(run(257, 2), Err(RunError::Members(257)));
    assert_eq!(run(4, 1), Err(RunError::Threshold { threshold: 1, members: 4 }));
    assert_eq!(run(4, 5), Err(RunError::Threshold { threshold: 5, members: 4 }));
    let mut twice = members(4);
    twice[2] = twice[1];
    assert_eq!(Run::new([0; 32], Purpose::Oracle, 0, 3, twice), Err(RunError::Order(2)));
}

#[test]
fn keys_are_read_as_they_were_written() {
    let shares = key(4, 3, Purpose::Treasury);
    let public = shares[1].public();
    let bytes = public.encode();
    let read = PublicKey::decode(&bytes).unwrap();
    assert_eq!(read.encode(), bytes);
    assert_eq!(read.internal_key(), public.internal_key());
    for length in 0..bytes.len() {
        assert!(PublicKey::decode(&bytes[..length]).is_err(), "{length}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(PublicKey::decode(&longer).unwrap_err(), KeyError::Encoding);
}

#[test]
fn shares_are_stored_for_their_owner_alone() {
    let shares = key(4, 3, Purpose::Treasury);
    let owners = identities(4);
    let bytes = shares[1].seal(&owners[1], &mut rng(1)).unwrap();
    assert_ne!(bytes, shares[1].seal(&owners[1], &mut rng(2)).unwrap());
    let secret = shares[1].package().signing_share().serialize();
    assert!(!bytes.windows(32).any(|window| window == secret));
    let read = KeyShare::open(&owners[1], &bytes).unwrap();
    assert_eq!(read.package(), shares[1].package());
    assert_eq!(read.public().encode(), shares[1].public().encode());
    assert_eq!(read.index(), 1);
    assert_eq!(KeyShare::open(&owners[0], &bytes).unwrap_err(), StoredKeyError::Decrypt);
    assert_eq!(shares[1].seal(&owners[0], &mut rng(1)).unwrap_err(), StoredKeyError::Owner);
    for length in 0..bytes.len() {
        assert!(KeyShare::open(&owners[1], &bytes[..length]).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let error = KeyShare::open(&owners[1], &changed).unwrap_err();
        let wanted = match at {
            0..4 => StoredKeyError::Magic,
            4 => StoredKeyError::Version(0),
            _ => StoredKeyError::Decrypt,
        };
        assert_eq!(error, wanted, "{at}");
    }
}

#[test]
fn a_stored_share_belongs_to_its_key() {
    let shares = key(4, 3, Purpose::Treasury);
    let owners = identities(4);
    let stored = |index: u16, secret: &[u8], public: &[u8]| {
        let plain = [index.to_le_bytes().as_slice(), secret, public].concat();
        KeyShare::open(&owners[1], &seal_stored(&owners[1], &plain, &mut rng(1)))
    };
    let secret = shares[1].package().signing_share().serialize();
    let public = shares[1].public().encode();
    assert!(stored(1, &secret, &public).is_ok());
    for (index, secret, public) in [
        (1, [1; 32].as_slice(), public.as_slice()),
        (1, &[0xff; 32], &public),
        (1, &secret, &public[..public.len() - 1]),
        (1, &secret, &[public.as_slice(), &[0]].concat()),
        (2, &secret, &public),
        (4, &secret, &public),
    ] {
        assert_eq!(stored(index, secret, public).unwrap_err(), StoredKeyError::Content, "{index}");
    }
    // Another member's share is whole, but not this owner's.
    let others = shares[2].package().signing_share().serialize();
    assert_eq!(stored(2, &others, &public).unwrap_err(), StoredKeyError::Owner);
}

#[test]
fn secrets_are_not_shown() {
    let run = run(4, 3, Purpose::Treasury, 0);
    let (dealings, _) = first_round(&run, 1);
    assert_eq!(format!("{:?}", dealings[0]), "Dealing(secret, member 0)");
    let shares = key(4, 3, Purpose::Treasury);
    let secret = hex::encode(shares[0].package().signing_share().serialize());
    assert!(!format!("{:?}", shares[0]).contains(&secret));
    assert!(format!("{:?}", identities(1)).contains("IdentityKey(secret"));
}
