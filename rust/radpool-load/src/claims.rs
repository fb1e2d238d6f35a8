//! Lets each share claim a token: the ecash extension, as far as a load generator has to speak it.
//!
//! Blinded messages are points of one sequence, each the generator further than the one before. The
//! pool cannot tell them from others, and they cost the generator nothing while it is timed. Nobody
//! will unblind the tokens; that signatures are true is for tests to show, here they are counted.
//!
//! Source: `spec/05-ecash-messages.md`.

use radpool_miner::{ClientExtension, Exchange};
use secp256k1::{PublicKey, SECP256K1, SecretKey, constants::ONE};

const EXTENSION_TYPE: u16 = 0x4e45;
/// OpenExtendedEcashMiningChannel and its answers.
const OPEN: Exchange = Exchange { request: 0x00, success: 0x01, error: 0x02 };
/// SubmitSharesEcashExtended and its answers.
const SHARE: Exchange = Exchange { request: 0x03, success: 0x04, error: 0x05 };
/// Any of the four policies, a way to sign, version 1, no key for what is left behind.
const fn terms(sign_modes: u8) -> [u8; 7] {
    [0x0f, 0, 0, 0, sign_modes, 1, 0]
}

const POINT_LEN: usize = 33;
const KEYSET_LEN: usize = 33;
const SHORT_LEN: usize = 8;
/// Where the terms that were granted name the keyset: behind policy, sign mode, z0 and z step.
const KEYSET_AT: usize = 4;
/// What stands before the receipts: channel, last share, count and sum.
const RECEIPTS_AT: usize = 4 + 4 + 4 + 8;

/// The exponent in the receipt of a share that brought no token.
const NO_TOKEN: u8 = 255;

/// Keyset and blinded message, each with its length.
pub(crate) type Attachment = [u8; 1 + SHORT_LEN + 1 + POINT_LEN];

/// When claims are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// At once: the receipt holds the signature and its proof.
    Eager,
    /// When they are asked for: the receipts are bare.
    Lazy,
}

/// How a client has to speak the extension.
pub(crate) fn carrier(signing: Signing) -> ClientExtension {
    let sign_modes = match signing {
        Signing::Eager => 1,
        Signing::Lazy => 2,
    };
    ClientExtension {
        extension_type: EXTENSION_TYPE,
        open: OPEN,
        open_tail: terms(sign_modes).to_vec(),
        share: SHARE,
        renewing_codes: Vec::new(),
        lapsing_codes: Vec::new(),
    }
}

/// What one connection attaches to its shares, made ahead.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    attachments: Vec<Attachment>,
}

impl Claims {
    /// Makes the claims of `count` shares on the keyset that `granted` names.
    pub(crate) fn new(granted: &[u8], count: u64) -> Result<Self, String> {
        let short = match granted.get(KEYSET_AT..) {
            Some([length, id @ ..]) if usize::from(*length) == KEYSET_LEN => id.get(..SHORT_LEN),
            _ => None,
        };
        let short = short.ok_or("the pool granted a channel without a keyset")?;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| text(&error))?;
        let secret = SecretKey::from_slice(&secret).map_err(|error| text(&error))?;
        let one = SecretKey::from_slice(&ONE).map_err(|error| text(&error))?;
        let step = PublicKey::from_secret_key(SECP256K1, &one);
        let mut point = PublicKey::from_secret_key(SECP256K1, &secret);
        let mut attachments = Vec::new();
        for _ in 0..count {
            let mut attachment = [0; 1 + SHORT_LEN + 1 + POINT_LEN];
            attachment[0] = SHORT_LEN as u8;
            attachment[1..=SHORT_LEN].copy_from_slice(short);
            attachment[1 + SHORT_LEN] = POINT_LEN as u8;
            attachment[2 + SHORT_LEN..].copy_from_slice(&point.serialize());
            attachments.push(attachment);
            point = point.combine(&step).map_err(|error| text(&error))?;
        }
        Ok(Self { attachments })
    }

    /// Takes the attachment of the next share; nothing when shares claim nothing.
    pub(crate) fn next(&mut self) -> Option<Attachment> {
        self.attachments.pop()
    }
}

/// Counts the claims that an answer to shares acknowledges, with their signatures if they are due;
/// `None` when it is no such answer.
pub(crate) fn tokens(msg_type: u8, payload: &[u8], signing: Signing) -> Option<u64> {
    if msg_type != SHARE.success {
        return None;
    }
    let due = match signing {
        Signing::Eager => [POINT_LEN, 32, 32],
        Signing::Lazy => [0; 3],
    };
    let (count, mut rest) = payload.get(RECEIPTS_AT..)?.split_first_chunk::<2>()?;
    let mut tokens = 0;
    for _ in 0..u16::from_le_bytes(*count) {
        let ([_, _, _, _, z], behind) = rest.split_first_chunk::<5>()?;
        rest = behind;
        let mut lengths = [0; 3];
        for length in &mut lengths {
            let (first, behind) = rest.split_first()?;
            *length = usize::from(*first);
            rest = behind.get(*length..)?;
        }
        tokens += u64::from(lengths == due && *z != NO_TOKEN);
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attachment_names_the_keyset_and_another_point() {
        let granted = [&[2, 1, 0, 1, 33][..], &[7; 33], &[2; 20]].concat();
        let mut claims = Claims::new(&granted, 3).unwrap();
        let made: Vec<_> = std::iter::from_fn(|| claims.next()).collect();
        assert_eq!(made.len(), 3);
        for attachment in &made {
            assert_eq!(attachment[..10], [&[8][..], &[7; 8], &[33]].concat());
            PublicKey::from_slice(&attachment[10..]).unwrap();
        }
        assert!(made[0] != made[1] && made[1] != made[2]);
        assert!(Claims::new(&[2, 1, 0, 1, 0], 1).is_err());
        assert!(Claims::new(&[], 1).is_err());
    }

    #[test]
    fn tokens_are_counted_and_what_is_cut_off_is_no_answer() {
        let signed = [&[1, 0, 0, 0, 5, 33][..], &[2; 33], &[32], &[3; 32], &[32], &[4; 32]];
        let bare = [2, 0, 0, 0, 5, 0, 0, 0];
        let none = [3, 0, 0, 0, 255, 0, 0, 0];
        let receipts = [&signed.concat()[..], &bare, &none, &signed.concat()].concat();
        let payload = [&[0; RECEIPTS_AT][..], &[4, 0], &receipts].concat();
        let count = |payload| tokens(SHARE.success, payload, Signing::Eager);
        assert_eq!(count(&payload), Some(2));
        assert_eq!(tokens(SHARE.success, &payload, Signing::Lazy), Some(1));
        assert_eq!(count(&payload[..payload.len() - 1]), None);
        assert_eq!(tokens(SHARE.error, &payload, Signing::Eager), None);
    }
}
