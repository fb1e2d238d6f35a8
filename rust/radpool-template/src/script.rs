//! What of scripts the structure of a block depends on.

use crate::transaction::SCRIPT_LEN_MAX;

const OP_PUSHDATA1: u8 = 0x4c;
const OP_PUSHDATA4: u8 = 0x4e;
const OP_1: u8 = 0x51;
const OP_RETURN: u8 = 0x6a;
const OP_CHECKSIG: u8 = 0xac;
const OP_CHECKMULTISIGVERIFY: u8 = 0xaf;
/// A bare multisig counts as if it had as many keys as one can have.
const MULTISIG_KEYS_MAX: u32 = 20;

/// Counts signature operations as the rules before BIP 16 do; stops where the script breaks off.
///
/// Source: Bitcoin Core, `CScript::GetSigOpCount(false)`.
pub(crate) fn legacy_sigops(script: &[u8]) -> u32 {
    let mut count = 0;
    let mut rest = script;
    while let [opcode, after @ ..] = rest {
        let pushed = match *opcode {
            len @ 0..OP_PUSHDATA1 => Some((usize::from(len), after)),
            sized @ OP_PUSHDATA1..=OP_PUSHDATA4 => sized_push(sized, after),
            _ => Some((0, after)),
        };
        let Some((len, after)) = pushed else { return count };
        let Some(next) = after.get(len..) else { return count };
        count += match *opcode {
            OP_CHECKSIG..0xae => 1,
            0xae..=OP_CHECKMULTISIGVERIFY => MULTISIG_KEYS_MAX,
            _ => 0,
        };
        rest = next;
    }
    count
}

/// The length that stands behind an `OP_PUSHDATA`, and what follows it.
fn sized_push(opcode: u8, after: &[u8]) -> Option<(usize, &[u8])> {
    let width = 1 << (opcode - OP_PUSHDATA1);
    let (field, rest) = after.split_at_checked(width)?;
    let len = field.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
    Some((len, rest))
}

/// Whether no input can ever spend an output with this script.
pub(crate) fn is_unspendable(script: &[u8]) -> bool {
    script.first() == Some(&OP_RETURN) || script.len() > SCRIPT_LEN_MAX
}

/// The push of a height with which a coinbase's script has to begin (BIP 34).
pub(crate) fn height_push(height: u32) -> Vec<u8> {
    match height {
        0 => vec![0],
        1..=16 => vec![OP_1 + (height as u8 - 1)],
        _ => {
            let mut number = height.to_le_bytes().to_vec();
            while number.last() == Some(&0) {
                number.pop();
            }
            // The highest bit of a script's number is its sign.
            if number.last().is_some_and(|byte| byte & 0x80 != 0) {
                number.push(0);
            }
            number.insert(0, number.len() as u8);
            number
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_pushed_as_core_pushes_numbers() {
        let cases: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (1, &[0x51]),
            (16, &[0x60]),
            (17, &[1, 17]),
            (127, &[1, 127]),
            (128, &[2, 128, 0]),
            (32_768, &[3, 0, 0x80, 0]),
            (840_000, &[3, 0x40, 0xd1, 0x0c]),
        ];
        for (height, push) in cases {
            assert_eq!(height_push(height), push, "{height}");
        }
    }

    #[test]
    fn signature_operations_count_where_the_script_still_parses() {
        assert_eq!(legacy_sigops(&[0xac, 0xad, 0xae, 0xaf]), 42);
        assert_eq!(legacy_sigops(&[0x51, 0xae]), 20, "keys are not counted before BIP 16");
        assert_eq!(legacy_sigops(&[1, 0xac, 0xac]), 1, "what is pushed is no operation");
        assert_eq!(legacy_sigops(&[0xac, 0x4c]), 1);
        assert_eq!(legacy_sigops(&[0xac, 0x4d, 1, 0]), 1);
        assert_eq!(legacy_sigops(&[0x4c, 1, 0xac, 0xac]), 1);
        assert_eq!(legacy_sigops(&[0x4e, 255, 255, 255, 255, 0xac]), 0);
        assert_eq!(legacy_sigops(&[]), 0);
    }

    #[test]
    fn only_return_and_excess_make_an_output_unspendable() {
        assert!(is_unspendable(&[OP_RETURN]));
        assert!(!is_unspendable(&[]));
        assert!(!is_unspendable(&[OP_1; SCRIPT_LEN_MAX]));
        assert!(is_unspendable(&[OP_1; SCRIPT_LEN_MAX + 1]));
    }
}
