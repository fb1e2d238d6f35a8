//! The vectors of page 16, which Python reads too: `16-threshold-keys.json`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::PathBuf, sync::Arc};

use radpool_identity::IdentityKey;
use radpool_threshold::frost::{
    Commitment, Complaint, Fault, KeyShare, PublicKey, Purpose, Round1, Round1Error, Round1Set,
    Round2, Run, Session, certificate_hash, judge,
};
use serde_json::Value;

fn cases(group: &str) -> Vec<Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors")
        .join("16-threshold-keys.json");
    let mut vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("no {group}") };
    assert!(!cases.is_empty());
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn many(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(bytes).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number<N: TryFrom<u64, Error: core::fmt::Debug>>(value: &Value) -> N {
    N::try_from(value.as_u64().unwrap()).unwrap()
}

fn run_of(inputs: &Value) -> Arc<Run> {
    let members = many(&inputs["members"]).into_iter().map(|key| key.try_into().unwrap()).collect();
    let run = Run::new(
        array(&inputs["committee"]),
        Purpose::from_u8(number(&inputs["purpose"])).unwrap(),
        number(&inputs["attempt"]),
        number(&inputs["threshold"]),
        members,
    );
    Arc::new(run.unwrap())
}

fn broadcast(inputs: &Value) -> (Round1Set, Vec<Round2>) {
    let run = run_of(&inputs["run"]);
    let first = (0..).zip(many(&inputs["first_messages"]));
    let first = first.map(|(author, data)| Round1::decode(&run, author, &data).unwrap()).collect();
    let round1 = Round1Set::new(run, first).unwrap();
    let second = (0..).zip(many(&inputs["second_messages"]));
    let second = second.map(|(author, data)| Round2::decode(&round1, author, &data).unwrap());
    let second = second.collect();
    (round1, second)
}

/// spec: TK-1, TK-2
#[test]
fn runs_are_named() {
    for case in cases("runs") {
        let run = run_of(&case["inputs"]);
        assert_eq!(run.encode(), bytes(&case["expected"]["encoded"]), "{}", case["id"]);
        assert_eq!(*run.id(), array::<32>(&case["expected"]["id"]), "{}", case["id"]);
    }
}

/// spec: TK-4, TK-5, TK-7, TK-8, TK-9, TK-12, TK-13, TK-14, TK-18
#[test]
fn keys_follow_from_what_was_broadcast() {
    for case in cases("generations") {
        let expected = &case["expected"];
        let (round1, round2) = broadcast(&case["inputs"]);
        let key = PublicKey::from_broadcast(&round1, &round2).unwrap();
        assert_eq!(*round1.digest(), array::<32>(&expected["digest"]));
        assert_eq!(*key.transcript(), array::<32>(&expected["transcript"]));
        let certified = array::<32>(&expected["certificate_hash"]);
        assert_eq!(certificate_hash(key.transcript()), certified);
        assert_eq!(key.encode(), bytes(&expected["key"]));
        assert_eq!(key.internal_key(), array::<32>(&expected["internal_key"]));
        if !expected["merkle_root"].is_null() {
            let output = key.output_key(Some(&array(&expected["merkle_root"]))).unwrap();
            assert_eq!(output, array::<32>(&expected["output_key"]));
        }
    }
}

/// spec: TK-6
#[test]
fn first_messages_are_refused() {
    for case in cases("refused_first_messages") {
        let inputs = &case["inputs"];
        let (run, author) = (run_of(&inputs["run"]), number(&inputs["author"]));
        let error = Round1::decode(&run, author, &bytes(&inputs["message"])).unwrap_err();
        let name = match error {
            Round1Error::Author(_) => "author",
            Round1Error::Length { .. } => "length",
            Round1Error::Run => "run",
            Round1Error::SealingKey => "sealing-key",
            Round1Error::Commitment(_) => "commitment",
            Round1Error::Proof => "proof",
        };
        assert_eq!(name, case["expected_error"], "{}", case["id"]);
    }
}

/// spec: TK-9, TK-15, TK-16
#[test]
fn complaints_are_judged() {
    for case in cases("complaints") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let (round1, round2) = broadcast(inputs);
        let accuser = number(&inputs["accuser"]);
        let data = bytes(&inputs["complaint"]);
        let complaint = Complaint::decode(round1.run(), accuser, &data).unwrap();
        assert_eq!(complaint.encode(), data);
        let accused = &round2[usize::from(complaint.dealer())];
        let verdict = judge(&round1, accused, accuser, &complaint).unwrap();
        let fault = match verdict.fault {
            Fault::UnreadableShare => "unreadable-share",
            Fault::WrongShare => "wrong-share",
            Fault::ForeignSecret => "foreign-secret",
            Fault::FalseComplaint => "false-complaint",
        };
        assert_eq!(verdict.culprit, number::<u16>(&expected["culprit"]), "{}", case["id"]);
        assert_eq!(fault, expected["fault"], "{}", case["id"]);
    }
}

/// spec: TK-11, TK-19
#[test]
fn stored_shares_are_opened() {
    for case in cases("stored") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let owner = IdentityKey::from_secret(&array(&inputs["owner_secret"])).unwrap();
        let share = KeyShare::open(&owner, &bytes(&inputs["data"])).unwrap();
        assert_eq!(share.index(), number::<u16>(&expected["index"]));
        assert_eq!(share.public().encode(), bytes(&expected["key"]));
    }
}

/// spec: TK-20, TK-21, TK-22, TK-23
#[test]
fn sessions_sign() {
    for case in cases("sessions") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let key = Arc::new(PublicKey::decode(&bytes(&inputs["key"])).unwrap());
        let members: Vec<u16> = inputs["signers"].as_array().unwrap().iter().map(number).collect();
        let commitments = many(&inputs["commitments"]).into_iter().map(|data| {
            let commitment = Commitment::decode(&data).unwrap();
            assert_eq!(commitment.encode().as_slice(), data);
            commitment
        });
        let signers: Vec<_> = members.iter().copied().zip(commitments).collect();
        let root = (!inputs["merkle_root"].is_null()).then(|| array(&inputs["merkle_root"]));
        let (message, session_number) = (array(&inputs["message"]), number(&inputs["number"]));
        let session =
            Session::new(Arc::clone(&key), message, root, session_number, &signers).unwrap();
        assert_eq!(*session.signing_id(), array::<32>(&expected["signing_id"]), "{}", case["id"]);
        assert_eq!(*session.id(), array::<32>(&expected["session"]), "{}", case["id"]);
        let shares: Vec<_> = members.into_iter().zip(many(&expected["shares"])).collect();
        for (author, share) in &shares {
            session.verify_share(*author, share).unwrap();
        }
        let signature = session.aggregate(&shares).unwrap();
        assert_eq!(signature, array::<64>(&expected["signature"]), "{}", case["id"]);
        let output = key.output_key(root.as_ref()).unwrap();
        assert_eq!(output, array::<32>(&expected["output_key"]));
        key.verify(&message, root.as_ref(), &signature).unwrap();
    }
}
