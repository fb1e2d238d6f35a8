//! Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256: the server proves itself by a certificate, the
//! client stays anonymous.
//!
//! | act | from | bytes | content |
//! |-----|------|-------|---------|
//! | 1 | client | 64 | ephemeral key, ElligatorSwift |
//! | 2 | server | 234 | ephemeral key (64), sealed static key (64 + 16), sealed certificate (74 + 16) |
//!
//! After act 2 both sides have a [`Sealer`] and an [`Opener`]. The certificate is signed ahead of
//! time, so the authority's secret key need not be on the server.
//!
//! Every 64 bytes are a valid act 1: a client that costs the server a handshake needs no
//! computation of its own, so whoever accepts connections limits their number first.
//!
//! Source: sv2-spec, section 4; Noise Protocol Framework, revision 34; BIP324 (ElligatorSwift
//! exchange); BIP340.

mod certificate;
mod handshake;
mod identity;
mod symmetric;
mod transport;

pub use certificate::{CERTIFICATE_LEN, CLOCK_TOLERANCE_S, Certificate};
pub use handshake::{ACT1_LEN, ACT2_LEN, HandshakeError, Initiator, Responder};
pub use identity::{ServerIdentity, StaticKey};
pub use transport::{
    MAC_LEN, OpenError, Opener, PLAIN_CHUNK_LEN_MAX, SEALED_HEADER_LEN, SealError, Sealer,
    sealed_payload_len,
};

#[cfg(test)]
mod vectors;
