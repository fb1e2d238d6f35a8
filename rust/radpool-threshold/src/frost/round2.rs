//! The second message of key generation: a share for every other member, sealed.

use frost_secp256k1_tr::keys::SigningShare;
use radpool_units::TaggedHasher;
use thiserror::Error;
use zeroize::Zeroizing;

use super::Round1Set;
use crate::{
    read::Reader,
    seal::{self, SEALED_LEN},
};

const ROUND2_TAG: &str = "radpool/dkg-shares";
const SHARE_INFO: &[u8] = b"radpool-sv2/dkg-share/1";

/// A second message that its author must not have sent. Every error is the author's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Round2Error {
    /// The author takes no part in the run.
    #[error("member {0} takes no part in the run")]
    Author(u16),
    /// Another length than the members ask for.
    #[error("a second message of {found} bytes: {wanted} with these members")]
    Length { found: usize, wanted: usize },
    /// It was made for another run.
    #[error("a second message of another run: replayed?")]
    Run,
    /// It builds on other first messages than the broadcast delivered.
    #[error("a second message on other first messages than those that were delivered")]
    Round1,
}

/// A second message of the right form: run id (32), digest of the first messages (32), one box (80)
/// for each other member, ascending. What is in the boxes only their recipients know.
#[derive(Clone, Debug)]
pub struct Round2 {
    author: u16,
    boxes: Vec<[u8; SEALED_LEN]>,
    digest: [u8; 32],
}

impl Round2 {
    /// Reads the message of the member at position `author`.
    ///
    /// # Errors
    /// [`Round2Error`]: the author is at fault.
    pub fn decode(round1: &Round1Set, author: u16, bytes: &[u8]) -> Result<Self, Round2Error> {
        let size = round1.run().size();
        if author >= size {
            return Err(Round2Error::Author(author));
        }
        let wanted = 64 + SEALED_LEN * usize::from(size - 1);
        let wrong_length = Round2Error::Length { found: bytes.len(), wanted };
        if bytes.len() != wanted {
            return Err(wrong_length);
        }
        let mut reader = Reader::new(bytes);
        if reader.array().ok_or(wrong_length)? != *round1.run().id() {
            return Err(Round2Error::Run);
        }
        if reader.array().ok_or(wrong_length)? != *round1.digest() {
            return Err(Round2Error::Round1);
        }
        let boxes = (1..size).map(|_| reader.array()).collect::<Option<_>>();
        let digest = TaggedHasher::new(ROUND2_TAG).hash(&[&author.to_le_bytes(), bytes]);
        Ok(Self { author, boxes: boxes.ok_or(wrong_length)?, digest })
    }

    /// Writes a message of one's own from its boxes.
    pub(super) fn encode(round1: &Round1Set, boxes: &[[u8; SEALED_LEN]]) -> Vec<u8> {
        [round1.run().id().as_slice(), round1.digest(), boxes.as_flattened()].concat()
    }

    /// The position of who sent it.
    #[must_use]
    pub const fn author(&self) -> u16 {
        self.author
    }

    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn sealed_for(&self, recipient: u16) -> Option<&[u8; SEALED_LEN]> {
        let skipped = u16::from(recipient > self.author);
        if recipient == self.author {
            None
        } else {
            self.boxes.get(usize::from(recipient - skipped))
        }
    }

    /// Opens the recipient's box; `None` when it does not open or holds no scalar.
    pub(super) fn share_for(
        &self,
        round1: &Round1Set,
        recipient: u16,
        sealing_secret: &[u8; 32],
    ) -> Option<SigningShare> {
        let info = share_info(round1, self.author, recipient);
        let share = seal::open(sealing_secret, &info, self.sealed_for(recipient)?)?;
        SigningShare::deserialize(&*share).ok()
    }
}

/// What a box is for: it opens as nothing else.
pub(super) fn share_info(round1: &Round1Set, dealer: u16, recipient: u16) -> Vec<u8> {
    let (dealer, recipient) = (dealer.to_le_bytes(), recipient.to_le_bytes());
    [SHARE_INFO, round1.run().id(), round1.digest(), &dealer, &recipient].concat()
}

/// A share as it is sealed.
pub(super) fn share_bytes(share: &SigningShare) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(share.serialize());
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}
