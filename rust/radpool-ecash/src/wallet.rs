//! A wallet's secrets: derived from its seed, so that the seed words restore every token.
//!
//! Source: NUT-13, version 2.

use core::fmt;

use zeroize::Zeroizing;

use crate::{Dleq, KeysetId, Point, Scalar, blind, hmac::hmac_sha256, unblind};

/// Length of the seed that BIP39 makes of the words.
pub const WALLET_SEED_LEN: usize = 64;

const KDF_TAG: &[u8] = b"Cashu_KDF_HMAC_SHA256";
const SECRET: u8 = 0;
const BLINDING_FACTOR: u8 = 1;

/// The seed that all of a wallet's secrets come of. Wiped when dropped.
pub struct WalletSeed(Zeroizing<[u8; WALLET_SEED_LEN]>);

/// What a wallet keeps and sends for one token to be.
pub struct DerivedOutput {
    /// The token's secret: 64 lower-case hexadecimal digits.
    pub secret: Zeroizing<String>,
    /// The blinded message for the mint.
    pub blinded: Point,
}

/// What the mint answered for one counter.
#[derive(Clone, Copy, Debug)]
pub struct SignedOutput {
    pub counter: u64,
    /// The blind signature `C_`.
    pub signature: Point,
    pub dleq: Dleq,
    /// The mint's announced key for the token's amount.
    pub public: Point,
}

impl WalletSeed {
    /// Takes a seed.
    #[must_use]
    pub const fn new(seed: Zeroizing<[u8; WALLET_SEED_LEN]>) -> Self {
        Self(seed)
    }

    fn derive_bytes(&self, keyset: &KeysetId, counter: u64, kind: u8) -> Zeroizing<[u8; 32]> {
        let message: [&[u8]; 4] = [KDF_TAG, keyset.as_bytes(), &counter.to_be_bytes(), &[kind]];
        hmac_sha256(self.0.as_slice(), &message)
    }

    /// The secret of a counter: 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn secret(&self, keyset: &KeysetId, counter: u64) -> Zeroizing<String> {
        let digits = |nibble: u8| char::from_digit(nibble.into(), 16).expect("a nibble is a digit");
        let bytes = self.derive_bytes(keyset, counter, SECRET);
        let mut secret = Zeroizing::new(String::with_capacity(2 * bytes.len()));
        for byte in bytes.iter() {
            secret.push(digits(byte >> 4));
            secret.push(digits(byte & 15));
        }
        secret
    }

    /// The blinding factor of a counter; `None` when it is 0, which no hash is known to be.
    #[must_use]
    pub fn blinding_factor(&self, keyset: &KeysetId, counter: u64) -> Option<Scalar> {
        Scalar::from_be_bytes_mod_order(&self.derive_bytes(keyset, counter, BLINDING_FACTOR))
    }

    /// Derives the output of a counter; `None` when its blinding factor is 0 or it blinds to the
    /// identity, which happens to no counter that can be found.
    #[must_use]
    pub fn output(&self, keyset: &KeysetId, counter: u64) -> Option<DerivedOutput> {
        let secret = self.secret(keyset, counter);
        let blinded = blind(secret.as_bytes(), &self.blinding_factor(keyset, counter)?)?;
        Some(DerivedOutput { secret, blinded })
    }

    /// Unblinds what the mint signed, if its proof shows that it signed with the announced key.
    #[must_use]
    pub fn unblind(&self, keyset: &KeysetId, signed: &SignedOutput) -> Option<Point> {
        let factor = self.blinding_factor(keyset, signed.counter)?;
        let blinded = blind(self.secret(keyset, signed.counter).as_bytes(), &factor)?;
        if !signed.dleq.proves(&signed.public, &blinded, &signed.signature) {
            return None;
        }
        unblind(&signed.signature, &factor, &signed.public)
    }
}

impl fmt::Debug for WalletSeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WalletSeed(redacted)")
    }
}

impl fmt::Debug for DerivedOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DerivedOutput(secret redacted, blinded {:?})", self.blinded)
    }
}
