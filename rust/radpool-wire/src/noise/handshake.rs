//! The two acts, from both sides.

use core::fmt;

use secp256k1::{
    PublicKey, SECP256K1,
    ellswift::{ElligatorSwift, ElligatorSwiftParty},
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    CERTIFICATE_LEN, Certificate, Opener, Sealer, ServerIdentity,
    symmetric::{NotAuthentic, SymmetricState},
    transport::MAC_LEN,
};
use crate::keys::{AuthorityPublicKey, with_secret_key};

/// Length of act 1 in bytes: an ElligatorSwift encoding.
pub const ACT1_LEN: usize = 64;
/// Length of act 2 in bytes.
pub const ACT2_LEN: usize = 64 + STATIC_FIELD_LEN + CERTIFICATE_FIELD_LEN;

const STATIC_FIELD_LEN: usize = 64 + MAC_LEN;
const CERTIFICATE_FIELD_LEN: usize = CERTIFICATE_LEN + MAC_LEN;

/// A handshake that did not lead to a connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// The caller's random number is zero or not below the curve's order: its source is broken.
    #[error("the ephemeral secret is not a secp256k1 key: the source of randomness is broken")]
    EphemeralSecret,
    /// A field of act 2 does not open: the peer speaks another protocol, or somebody in between
    /// altered the handshake.
    #[error(
        "act 2: the server's {field} does not open: it is no SV2 server, or the line was altered"
    )]
    NotAuthentic { field: &'static str },
    /// The certificate has a layout that this software does not know.
    #[error("the server's certificate has version {found}, only {expected} is known")]
    Version { found: u16, expected: u16 },
    /// Another authority signed the server's certificate, or nobody did.
    #[error(
        "the server's certificate is not signed by the authority {expected}, which this client \
         was told to trust; the server showed the static key {}: compare the key with the pool's",
        Hex(server_static_key)
    )]
    WrongAuthority { expected: AuthorityPublicKey, server_static_key: [u8; 32] },
    /// The certificate becomes valid in the future: as a rule this machine's clock is behind.
    #[error(
        "the server's certificate is valid from Unix second {valid_from}, this machine's clock \
         says {unix_s}, {behind_s} s earlier: set the clock (timedatectl set-ntp true) or, if it \
         is right, tell the pool's operator"
    )]
    ClockSkew { valid_from: u32, unix_s: u32, behind_s: u32 },
    /// The certificate's validity is over, or this machine's clock is ahead.
    #[error(
        "the server's certificate expired at Unix second {not_valid_after}, this machine's clock \
         says {unix_s}, {since_s} s later: if the clock is right, the pool's operator must renew \
         the certificate (radpool certify)"
    )]
    Expired { not_valid_after: u32, unix_s: u32, since_s: u32 },
}

/// Bytes shown as lower-case hex.
struct Hex<'bytes>(&'bytes [u8; 32]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The server's side.
#[derive(Debug)]
pub struct Responder;

impl Responder {
    /// Answers act 1 and ends the handshake.
    ///
    /// Args:
    /// - `act1`: what the client sent; every 64 bytes are valid.
    /// - `ephemeral_secret`, `aux`: fresh randomness, never used twice; `aux` hides in the encoding.
    ///
    /// Returns act 2, and the server's two halves of the connection.
    ///
    /// # Errors
    /// `EphemeralSecret` only: nothing a client sends makes this fail.
    pub fn respond(
        server: &ServerIdentity,
        act1: &[u8; ACT1_LEN],
        ephemeral_secret: [u8; 32],
        aux: [u8; 32],
    ) -> Result<([u8; ACT2_LEN], Sealer, Opener), HandshakeError> {
        let ephemeral_secret = Zeroizing::new(ephemeral_secret);
        let mut state = SymmetricState::new();
        state.mix_hash(act1);
        // Act 1 carries an empty payload, which is hashed all the same.
        state.mix_hash(&[]);

        let theirs = ElligatorSwift::from_array(*act1);
        let ephemeral = encode_public_key(&ephemeral_secret, aux)?;
        let mut act2 = [0; ACT2_LEN];
        let (ephemeral_field, sealed) = act2.split_at_mut(64);
        let (static_field, certificate_field) = sealed.split_at_mut(STATIC_FIELD_LEN);

        ephemeral_field.copy_from_slice(&ephemeral.to_array());
        state.mix_hash(ephemeral_field);
        let party = ElligatorSwiftParty::B;
        state.mix_key(&exchange(theirs, ephemeral, &ephemeral_secret, party)?);

        let static_key = server.static_key();
        static_field[..64].copy_from_slice(static_key.elligator_swift());
        state.seal_and_mix(static_field);
        let ours = ElligatorSwift::from_array(*static_key.elligator_swift());
        state.mix_key(&exchange(theirs, ours, static_key.secret(), party)?);

        certificate_field[..CERTIFICATE_LEN].copy_from_slice(&server.certificate().to_bytes());
        state.seal_and_mix(certificate_field);

        let (client_to_server, server_to_client) = state.split();
        Ok((act2, Sealer::new(server_to_client), Opener::new(client_to_server)))
    }
}

/// The client's side, between act 1 and act 2. For one handshake only.
pub struct Initiator {
    state: SymmetricState,
    ephemeral_secret: Zeroizing<[u8; 32]>,
    ephemeral: [u8; ACT1_LEN],
}

impl Initiator {
    /// Starts a handshake.
    ///
    /// `secret` and `aux` are fresh randomness, never used twice; `aux` hides in the encoding.
    /// Returns the handshake and act 1, to be sent.
    ///
    /// # Errors
    /// `EphemeralSecret` when `secret` is zero or not below the curve's order, which random bytes
    /// never are.
    pub fn new(secret: [u8; 32], aux: [u8; 32]) -> Result<(Self, [u8; ACT1_LEN]), HandshakeError> {
        let ephemeral_secret = Zeroizing::new(secret);
        let ephemeral = encode_public_key(&ephemeral_secret, aux)?.to_array();
        let mut state = SymmetricState::new();
        state.mix_hash(&ephemeral);
        state.mix_hash(&[]);
        Ok((Self { state, ephemeral_secret, ephemeral }, ephemeral))
    }

    /// Reads act 2 and ends the handshake.
    ///
    /// `authority` is the key that must have signed the server's certificate, valid at the Unix
    /// second `unix_s`. Without it the server is anybody: the connection is encrypted, but whoever
    /// sits in between reads and alters everything.
    ///
    /// # Errors
    /// Everything but `EphemeralSecret`; the connection is then to be closed.
    pub fn finish(
        self,
        act2: &[u8; ACT2_LEN],
        authority: Option<&AuthorityPublicKey>,
        unix_s: u32,
    ) -> Result<(Sealer, Opener), HandshakeError> {
        let Self { mut state, ephemeral_secret, ephemeral } = self;
        let mut act2 = *act2;
        let (ephemeral_field, sealed) = act2.split_at_mut(64);
        let (static_field, certificate_field) = sealed.split_at_mut(STATIC_FIELD_LEN);
        let ours = ElligatorSwift::from_array(ephemeral);
        let party = ElligatorSwiftParty::A;

        state.mix_hash(ephemeral_field);
        let theirs = ElligatorSwift::from_array(first_chunk(ephemeral_field));
        state.mix_key(&exchange(ours, theirs, &ephemeral_secret, party)?);

        let not_authentic = |field| move |_: NotAuthentic| HandshakeError::NotAuthentic { field };
        state.open_and_mix(static_field).map_err(not_authentic("static key"))?;
        let server_static = ElligatorSwift::from_array(first_chunk(static_field));
        state.mix_key(&exchange(ours, server_static, &ephemeral_secret, party)?);

        state.open_and_mix(certificate_field).map_err(not_authentic("certificate"))?;
        let certificate = Certificate::from_bytes(&first_chunk(certificate_field));
        match authority {
            Some(authority) => {
                let server_key = PublicKey::from_ellswift(server_static).x_only_public_key().0;
                certificate.verify(authority, &server_key.serialize(), unix_s)?;
            }
            None => certificate.check_version()?,
        }
        let (client_to_server, server_to_client) = state.split();
        Ok((Sealer::new(client_to_server), Opener::new(server_to_client)))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Initiator(redacted)")
    }
}

fn encode_public_key(secret: &[u8; 32], aux: [u8; 32]) -> Result<ElligatorSwift, HandshakeError> {
    with_secret_key(secret, |key| ElligatorSwift::from_seckey(SECP256K1, *key, Some(aux)))
        .ok_or(HandshakeError::EphemeralSecret)
}

/// Computes the shared secret of BIP324: client's encoding first, server's second.
fn exchange(
    client: ElligatorSwift,
    server: ElligatorSwift,
    secret: &[u8; 32],
    party: ElligatorSwiftParty,
) -> Result<Zeroizing<[u8; 32]>, HandshakeError> {
    with_secret_key(secret, |key| {
        let shared = ElligatorSwift::shared_secret(client, server, *key, party, None);
        Zeroizing::new(shared.to_secret_bytes())
    })
    .ok_or(HandshakeError::EphemeralSecret)
}

fn first_chunk<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("fields of act 2 are cut to their lengths")
}
