//! A block template as the node hands it out, checked once and complete.

use radpool_units::Target;

use crate::{block, error::IpcError};

/// All that a template consists of. The node keeps its own copy under `handle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreTemplate {
    /// The number by which this connection knows it.
    pub handle: u64,
    /// The header's version.
    pub version: u32,
    /// The block it builds on, internal byte order.
    pub prev_hash: [u8; 32],
    /// The header's time.
    pub time: u32,
    /// The header's compact target.
    pub nbits: u32,
    /// What `nbits` means, little-endian.
    pub target: [u8; 32],
    /// The height of the block.
    pub height: u32,
    /// How the coinbase is to begin and end, and what it may pay.
    pub coinbase: CoinbaseParts,
    /// The siblings of the coinbase, from the leaves up.
    pub merkle_path: Vec<[u8; 32]>,
    /// The fee of each transaction, sats.
    pub fees_sats: Vec<u64>,
    /// The transactions without the coinbase, with witnesses.
    pub transactions: Vec<Vec<u8>>,
    /// What these weigh together.
    pub transactions_weight: u64,
}

/// What the node says of the coinbase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoinbaseParts {
    /// The transaction's version.
    pub version: u32,
    /// The input's sequence.
    pub sequence: u32,
    /// How its script begins: the push of the height (BIP 34).
    pub script_prefix: Vec<u8>,
    /// The input's witness, if it is to have one: the reserved value of BIP 141.
    pub witness: Vec<u8>,
    /// What outputs may pay in all: subsidy and fees.
    pub value_sats: u64,
    /// Serialised outputs that must be there: the witness commitment.
    pub outputs: Vec<Vec<u8>>,
    /// The transaction's locktime.
    pub lock_time: u32,
}

/// The node's answers to the questions about one template.
#[derive(Debug)]
pub(crate) struct RawTemplate {
    pub(crate) header: Vec<u8>,
    pub(crate) coinbase: CoinbaseParts,
    pub(crate) merkle_path: Vec<Vec<u8>>,
    pub(crate) fees: Vec<i64>,
    pub(crate) block: Vec<u8>,
}

fn nonsense(what: impl Into<String>) -> IpcError {
    IpcError::Nonsense(what.into())
}

impl RawTemplate {
    /// Checks that the answers belong together and mean what they should.
    pub(crate) fn check(self, handle: u64) -> Result<CoreTemplate, IpcError> {
        let header: [u8; 80] = self.header.as_slice().try_into().map_err(|_| {
            nonsense(format!("a header of {} bytes instead of 80", self.header.len()))
        })?;
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let parts = block::split(&self.block)
            .map_err(|error| nonsense(format!("a template's block: {error}")))?;
        if parts.header[..36] != header[..36] || parts.header[72..76] != header[72..76] {
            return Err(nonsense("a template's block has another header than the template"));
        }
        let transactions = parts.transactions.get(1..).unwrap_or_default();
        if transactions.len() != self.fees.len() {
            return Err(nonsense(format!(
                "{} transactions with {} fees",
                transactions.len(),
                self.fees.len()
            )));
        }
        let nbits = word(72);
        let target = Target::from_compact(nbits).map_err(|error| nonsense(error.to_string()))?;
        let fees = self.fees.iter().map(|fee| u64::try_from(*fee));
        let siblings = self.merkle_path.into_iter().map(<[u8; 32]>::try_from);
        check_coinbase(&self.coinbase)?;
        Ok(CoreTemplate {
            handle,
            version: word(0),
            prev_hash: std::array::from_fn(|index| header[4 + index]),
            time: word(68),
            nbits,
            target: target.to_le_bytes(),
            height: height(&self.coinbase.script_prefix)?,
            coinbase: self.coinbase,
            merkle_path: siblings
                .collect::<Result<_, _>>()
                .map_err(|node| nonsense(format!("a hash of {} bytes", node.len())))?,
            fees_sats: fees.collect::<Result<_, _>>().map_err(|_| nonsense("a negative fee"))?,
            transactions: transactions.iter().map(|each| each.raw.to_vec()).collect(),
            transactions_weight: transactions.iter().map(|each| each.weight as u64).sum(),
        })
    }
}

/// A push of the height as script number: the beginning of every coinbase since BIP 34.
///
/// Source: BIP 34; Bitcoin Core, `CScript::push_int64`.
fn height(script: &[u8]) -> Result<u32, IpcError> {
    const OP_1: u8 = 0x51;
    const OP_16: u8 = 0x60;
    let height = match script {
        [small @ OP_1..=OP_16] => Some(u32::from(small - OP_1 + 1)),
        [len @ 1..=4, number @ ..] if number.len() == usize::from(*len) => {
            // The highest bit is a sign, and a number that needs it has one more byte.
            let positive = number.last().is_some_and(|last| last & 0x80 == 0);
            let value = number.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            Some(value).filter(|_| positive)
        }
        _ => None,
    };
    height.ok_or_else(|| nonsense(format!("a coinbase that begins with {script:02x?}")))
}

/// What a pool's coinbase cannot be built around is refused here, before any miner works on it.
fn check_coinbase(coinbase: &CoinbaseParts) -> Result<(), IpcError> {
    // The engine writes the reserved value that Bitcoin Core uses, 32 zero bytes (BIP 141).
    if !coinbase.witness.is_empty() && coinbase.witness != [0; 32] {
        return Err(nonsense("a coinbase witness that is not 32 zero bytes"));
    }
    for output in &coinbase.outputs {
        // A value, a script's length in one byte, and the script: commitments are that short.
        let script_len = output.get(8).copied().map(usize::from);
        if script_len.is_none_or(|len| len >= 0xfd || output.len() != 9 + len) {
            return Err(nonsense(format!("a required output of {} bytes", output.len())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawTemplate {
        let mut header = vec![0x20; 80];
        header[4..36].fill(9);
        header[72..76].copy_from_slice(&0x1d00_ffff_u32.to_le_bytes());
        let mut block = header.clone();
        let mut tx = vec![2, 0, 0, 0, 1];
        tx.extend([7; 36]);
        tx.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        block.push(2);
        block.extend([tx.clone(), tx].concat());
        // The node's block carries whatever root and nonce.
        block[36..68].fill(1);
        let coinbase = CoinbaseParts {
            script_prefix: vec![3, 0x40, 0x0d, 0x03],
            witness: vec![0; 32],
            outputs: vec![[vec![0; 8], vec![2, 0x6a, 0x24]].concat()],
            ..CoinbaseParts::default()
        };
        RawTemplate { header, coinbase, merkle_path: vec![vec![3; 32]], fees: vec![5], block }
    }

    #[test]
    fn a_whole_template_is_taken_apart() {
        let template = raw().check(4).unwrap();
        assert_eq!((template.handle, template.height, template.nbits), (4, 200_000, 0x1d00_ffff));
        assert_eq!(template.prev_hash, [9; 32]);
        assert_eq!(template.target[26..], [0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!((template.transactions.len(), template.fees_sats), (1, vec![5]));
        assert_eq!(template.transactions_weight, 4 * template.transactions[0].len() as u64);
    }

    #[test]
    fn answers_that_do_not_belong_together_are_nonsense() {
        let spoil: [fn(&mut RawTemplate); 10] = [
            |raw| raw.header.truncate(79),
            |raw| raw.header[5] ^= 1,
            |raw| raw.header[75] ^= 0xff,
            |raw| raw.fees.push(1),
            |raw| raw.fees[0] = -1,
            |raw| raw.merkle_path[0].push(0),
            |raw| raw.block.truncate(90),
            |raw| raw.coinbase.script_prefix.clear(),
            |raw| raw.coinbase.witness[3] = 1,
            |raw| raw.coinbase.outputs[0].push(1),
        ];
        for (index, change) in spoil.into_iter().enumerate() {
            let mut raw = raw();
            change(&mut raw);
            let error = raw.check(1).expect_err(&format!("change {index} goes unnoticed"));
            assert_eq!(error.kind(), "nonsense", "change {index}: {error}");
        }
    }

    #[test]
    fn heights_are_script_numbers() {
        for (script, expected) in [
            (vec![0x51], Some(1)),
            (vec![0x60], Some(16)),
            (vec![1, 17], Some(17)),
            (vec![1, 127], Some(127)),
            (vec![2, 128, 0], Some(128)),
            (vec![3, 0x40, 0x0d, 0x03], Some(200_000)),
            (vec![4, 0, 0, 0, 1], Some(1 << 24)),
            (vec![1, 128], None),
            (vec![2, 1], None),
            (vec![0x51, 0], None),
            (vec![0x61], None),
            (vec![5, 0, 0, 0, 0, 1], None),
            (vec![], None),
        ] {
            assert_eq!(height(&script).ok(), expected, "{script:02x?}");
        }
    }
}
