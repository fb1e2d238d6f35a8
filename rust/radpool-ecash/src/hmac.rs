//! HMAC (RFC 2104) over SHA-256 and SHA-512, with the padded key wiped.

use sha2::{Digest, Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

const BLOCK_LEN_256: usize = 64;
const BLOCK_LEN_512: usize = 128;

/// Pads a key to a block: a longer one is hashed first.
fn padded<D: Digest, const BLOCK: usize>(key: &[u8]) -> Zeroizing<[u8; BLOCK]> {
    let mut block = Zeroizing::new([0; BLOCK]);
    if key.len() > BLOCK {
        let digest = D::digest(key);
        block[..digest.len()].copy_from_slice(&digest);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block
}

fn mac<D: Digest, const BLOCK: usize>(key: &[u8], parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut block = padded::<D, BLOCK>(key);
    block.iter_mut().for_each(|byte| *byte ^= 0x36);
    let mut inner = D::new_with_prefix(block.as_slice());
    for part in parts {
        inner.update(part);
    }
    block.iter_mut().for_each(|byte| *byte ^= 0x36 ^ 0x5c);
    D::new_with_prefix(block.as_slice()).chain_update(inner.finalize()).finalize()
}

/// HMAC-SHA256 of the concatenation of `parts`.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut output = mac::<Sha256, BLOCK_LEN_256>(key, parts);
    let digest = Zeroizing::new(output.into());
    output.as_mut_slice().zeroize();
    digest
}

/// HMAC-SHA512 of the concatenation of `parts`.
pub(crate) fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut output = mac::<Sha512, BLOCK_LEN_512>(key, parts);
    let digest = Zeroizing::new(output.into());
    output.as_mut_slice().zeroize();
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: RFC 4231, test cases 2 and 6.
    #[test]
    fn the_digests_are_those_of_rfc_4231() {
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(
            hex::encode(hmac_sha256(b"Jefe", &parts)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex::encode(hmac_sha512(b"Jefe", &parts)),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
        let long_key = [0xaa; 131];
        let parts: [&[u8]; 1] = [b"Test Using Larger Than Block-Size Key - Hash Key First"];
        assert_eq!(
            hex::encode(hmac_sha256(&long_key, &parts)),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
