//! What a verifier checks of a share's coinbase.
//!
//! The parts of a template body could be cut anywhere: only a whole parse shows that the extranonce
//! is the end of the input's script, that the owner output is an output of its own, and that there is no
//! second one.
//!
//! Source: `spec/02-owner-tag.md`, "Opening".

use crate::{OWNER_SCRIPT_LEN, reader::Reader};

/// Consensus bounds the script of a coinbase input to 2 to 100 bytes.
const SCRIPT_SIG_MAX: usize = 100;
/// `OP_RETURN`, push of 38 bytes, the magic: what makes an output an owner output of any version.
const OWNER_SCRIPT_START: [u8; 6] = *b"\x6a\x26RADP";

/// What is wrong with a coinbase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoinbaseFault {
    /// The bytes are no coinbase without witness, or the extranonce is not the end of the input's
    /// script.
    Shape,
    /// The input's script does not begin with the push of the height.
    Height,
    /// There is not exactly one owner output, or it is not the expected one.
    OwnerTag,
}

/// Checks a coinbase without witness that should carry the given height and owner output.
///
/// `extranonce_at` is where the extranonce stands in `coinbase`, as start and length.
///
/// # Errors
/// [`CoinbaseFault`] says which part of it is not as it should be.
pub fn check_coinbase(
    coinbase: &[u8],
    extranonce_at: (usize, usize),
    height: u32,
    owner_script: &[u8; OWNER_SCRIPT_LEN],
) -> Result<(), CoinbaseFault> {
    let mut reader = Reader::new(coinbase);
    let script = read_input(&mut reader).ok_or(CoinbaseFault::Shape)?;
    let script_at = 42;
    let (start, len) = extranonce_at;
    // Who reads a template body by itself takes the extranonce for the end of the script: what comes
    // behind it must be what it says.
    if start < script_at || start + len != script_at + script.len() {
        return Err(CoinbaseFault::Shape);
    }
    let tags = read_outputs(&mut reader).ok_or(CoinbaseFault::Shape)?;
    let (push, push_len) = height_push(height);
    if !script.starts_with(&push[..push_len]) {
        return Err(CoinbaseFault::Height);
    }
    match tags {
        (1, Some((0, script))) if script == owner_script => Ok(()),
        _ => Err(CoinbaseFault::OwnerTag),
    }
}

/// Reads version, the count of inputs and the only input; returns its script.
fn read_input<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    reader.u32()?;
    let inputs = reader.u8()?;
    let outpoint: [u8; 36] = reader.array()?;
    let script_len = usize::from(reader.u8()?);
    let is_coinbase = outpoint[..32] == [0; 32] && outpoint[32..] == [0xff; 4];
    if inputs != 1 || !is_coinbase || !(2..=SCRIPT_SIG_MAX).contains(&script_len) {
        return None;
    }
    let script = reader.take(script_len)?;
    reader.u32()?;
    Some(script)
}

/// How many owner outputs there are, and value and script of the first.
type OwnerOutputs<'a> = (usize, Option<(u64, &'a [u8])>);

/// Reads the outputs and the lock time, and expects the end.
fn read_outputs<'a>(reader: &mut Reader<'a>) -> Option<OwnerOutputs<'a>> {
    let mut tags: OwnerOutputs<'a> = (0, None);
    for _ in 0..reader.compact_size()? {
        let value = reader.u64()?;
        let script_len = reader.compact_size()?;
        let script = reader.take(script_len)?;
        if script.starts_with(&OWNER_SCRIPT_START) {
            tags = (tags.0 + 1, tags.1.or(Some((value, script))));
        }
    }
    reader.u32()?;
    reader.rest().is_empty().then_some(tags)
}

/// The push of a height that BIP34 asks for, as Bitcoin Core writes it: the bytes and their number.
fn height_push(height: u32) -> ([u8; 6], usize) {
    let mut push = [0; 6];
    match height {
        0 => (push, 1),
        1..=16 => {
            push[0] = 0x50 + height as u8;
            (push, 1)
        }
        _ => {
            // A script number needs a spare bit for its sign.
            let len = (33 - height.leading_zeros()).div_ceil(8) as usize;
            push[0] = len as u8;
            push[1..5].copy_from_slice(&height.to_le_bytes());
            (push, 1 + len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_pushed_as_bitcoin_core_pushes_them() {
        let cases: [(u32, &[u8]); 8] = [
            (1, &[0x51]),
            (16, &[0x60]),
            (17, &[1, 17]),
            (127, &[1, 127]),
            (128, &[2, 128, 0]),
            (32768, &[3, 0, 128, 0]),
            (900_000, &[3, 0xa0, 0xbb, 0x0d]),
            (u32::MAX, &[5, 0xff, 0xff, 0xff, 0xff, 0]),
        ];
        for (height, expected) in cases {
            let (push, len) = height_push(height);
            assert_eq!(&push[..len], expected, "height {height}");
        }
    }
}
