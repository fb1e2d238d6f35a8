//! FROST keys and signatures for taproot: RFC 9591 in the variant of `frost-secp256k1-tr`, whose
//! signatures are BIP340's.
//!
//! Key generation ([`Run`], [`Dealing`], [`Dealt`]) is Pedersen's with proofs of possession, in
//! three rounds over a broadcast that gives every member the same messages:
//!
//! 1. each member broadcasts commitments to its polynomial, a proof of possession, and a key to
//!    which its shares of this run are sealed ([`Round1`]);
//! 2. each broadcasts the shares of all others, sealed ([`Round2`]);
//! 3. each that has a sound share from everybody signs the transcript. The signatures of all
//!    members are the [`certificate`]: only then is the key used. Who was dealt a bad share shows
//!    its sealing key instead ([`Complaint`]), and anyone judges who is at fault.
//!
//! One fault ends a run; it is repeated with another attempt number and without the culprit.
//!
//! Signing ([`Session`], [`NoncePool`]) takes one message from each of exactly as many members as
//! the threshold says, whose nonce commitments are known beforehand.
//!
//! Source: `spec/16-threshold-keys.md`.

mod blame;
mod certificate;
mod dkg;
mod key;
mod nonce;
mod round1;
mod round2;
mod run;
mod session;
#[cfg(test)]
mod tests;

pub use blame::{COMPLAINT_LEN, Complaint, ComplaintError, Fault, Verdict, judge};
pub use certificate::{certificate_hash, unsigned_by};
pub use dkg::{Dealing, Dealt, FinishError};
pub use key::{KeyError, KeyShare, PublicKey};
pub use nonce::{COMMITMENT_LEN, Commitment, CommitmentError, NONCES_MAX, NonceError, NoncePool};
pub use round1::{Round1, Round1Error, Round1Set, Round1SetError};
pub use round2::{Round2, Round2Error};
pub use run::{MEMBERS_MAX, Purpose, Run, RunError};
pub use session::{AggregateError, SHARE_LEN, Session, SessionError, ShareError};

type Suite = frost_secp256k1_tr::Secp256K1Sha256TR;

/// Length of a compressed point.
const POINT_LEN: usize = 33;

/// The bytes of a point that is not the identity.
fn point_bytes(bytes: Result<Vec<u8>, frost_secp256k1_tr::Error>) -> Option<[u8; POINT_LEN]> {
    bytes.ok()?.try_into().ok()
}
