//! The word of every member that it holds its share of one and the same key.
//!
//! Key generation alone does not tell a member that the others came to the same end: one whose
//! share was spoiled would only find out when it is to sign. So a key counts when all members have
//! signed its transcript, and not before; each signs after its share is stored.

use radpool_identity::{SIGNATURE_LEN, Signed, invalid_signatures};
use radpool_units::TaggedHasher;

use super::PublicKey;

const CERTIFICATE_TAG: &str = "radpool/dkg-certificate";

/// The hash that each member of the run signs with its identity key (BIP340).
#[must_use]
pub fn certificate_hash(transcript: &[u8; 32]) -> [u8; 32] {
    TaggedHasher::new(CERTIFICATE_TAG).hash(&[transcript])
}

/// The members that have not signed the key's transcript: with all of them signed, which is an
/// empty list, the key is certified.
///
/// `signatures` are by position; a member that has not signed has none.
#[must_use]
pub fn unsigned_by(key: &PublicKey, signatures: &[Option<[u8; SIGNATURE_LEN]>]) -> Vec<u16> {
    let hash = certificate_hash(key.transcript());
    let signed = |index: usize| signatures.get(index).copied().flatten();
    let members = key.run().members().iter().enumerate();
    let given: Vec<_> = members
        .clone()
        .filter_map(|(index, public)| Some((index, *public, signed(index)?)))
        .collect();
    let items: Vec<_> = given
        .iter()
        .map(|(_, public, signature)| Signed { public: *public, hash, signature: *signature })
        .collect();
    let invalid: Vec<usize> = invalid_signatures(&items).iter().map(|at| given[*at].0).collect();
    members
        .map(|(index, _)| index)
        .filter(|index| signed(*index).is_none() || invalid.contains(index))
        .filter_map(|index| u16::try_from(index).ok())
        .collect()
}
