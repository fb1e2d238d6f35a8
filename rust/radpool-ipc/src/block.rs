//! Takes a block apart into its transactions, strictly: only the one canonical form is read.

use thiserror::Error;

const HEADER_LEN: usize = 80;
/// No block that consensus allows has more bytes (BIP 141: 4,000,000 weight units).
pub const BLOCK_LEN_MAX: usize = 4_000_000;

/// Where the bytes stop being a block.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BlockFormatError {
    /// It ends inside a field.
    #[error("it ends too early, at byte {0}")]
    Short(usize),
    /// A length that has a shorter form.
    #[error("the length before byte {0} is not in its shortest form")]
    Length(usize),
    /// A marker that is not BIP 144's, or witnesses that are all empty.
    #[error("the transaction before byte {0} has a wrong marker or no witness")]
    Witness(usize),
    /// Something follows the last transaction.
    #[error("{0} bytes follow the last transaction")]
    Trailing(usize),
    /// More bytes than any block has.
    #[error("it has {0} bytes, more than any block")]
    Long(usize),
}

/// One transaction of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// The bytes, with witnesses.
    pub raw: &'a [u8],
    /// Three times the bytes without witnesses plus all bytes (BIP 141).
    pub weight: usize,
}

/// A block's parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The header.
    pub header: &'a [u8; HEADER_LEN],
    /// The transactions, coinbase first.
    pub transactions: Vec<Transaction<'a>>,
}

/// Takes a block apart.
///
/// # Errors
/// `BlockFormatError` when the bytes are not exactly one block.
pub fn split(bytes: &[u8]) -> Result<Block<'_>, BlockFormatError> {
    if bytes.len() > BLOCK_LEN_MAX {
        return Err(BlockFormatError::Long(bytes.len()));
    }
    let (header, _) = bytes.split_first_chunk().ok_or(BlockFormatError::Short(bytes.len()))?;
    let mut reader = Reader { bytes, at: HEADER_LEN };
    let count = reader.length()?;
    let mut transactions = Vec::new();
    for _ in 0..count {
        transactions.push(reader.transaction()?);
    }
    match bytes.len() - reader.at {
        0 => Ok(Block { header, transactions }),
        rest => Err(BlockFormatError::Trailing(rest)),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BlockFormatError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(BlockFormatError::Short(self.bytes.len()))?;
        let field = &self.bytes[self.at..end];
        self.at = end;
        Ok(field)
    }

    fn little_endian(&mut self, len: usize) -> Result<u64, BlockFormatError> {
        let bytes = self.take(len)?.iter().rev();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A count or length; one that the rest of the bytes cannot hold ends the reading.
    fn length(&mut self) -> Result<usize, BlockFormatError> {
        let (number, least) = match self.little_endian(1)? {
            0xfd => (self.little_endian(2)?, 0xfd),
            0xfe => (self.little_endian(4)?, 0x1_0000),
            0xff => (self.little_endian(8)?, 0x1_0000_0000),
            small => (small, 0),
        };
        if number < least {
            return Err(BlockFormatError::Length(self.at));
        }
        // Whatever is counted has at least a byte.
        let rest = self.bytes.len() - self.at;
        let length = usize::try_from(number).ok().filter(|length| *length <= rest);
        length.ok_or(BlockFormatError::Short(self.bytes.len()))
    }

    fn skip_string(&mut self) -> Result<(), BlockFormatError> {
        let len = self.length()?;
        self.take(len).map(|_| ())
    }

    fn transaction(&mut self) -> Result<Transaction<'a>, BlockFormatError> {
        let start = self.at;
        self.take(4)?;
        let mut inputs = self.length()?;
        let has_witness = inputs == 0;
        if has_witness {
            if self.take(1)? != [1] {
                return Err(BlockFormatError::Witness(self.at));
            }
            inputs = self.length()?;
        }
        for _ in 0..inputs {
            self.take(36)?;
            self.skip_string()?;
            self.take(4)?;
        }
        for _ in 0..self.length()? {
            self.take(8)?;
            self.skip_string()?;
        }
        let witness_start = self.at;
        let mut items = 0;
        for _ in 0..if has_witness { inputs } else { 0 } {
            let count = self.length()?;
            for _ in 0..count {
                self.skip_string()?;
            }
            items += count;
        }
        if has_witness && items == 0 {
            return Err(BlockFormatError::Witness(self.at));
        }
        let witness_len = self.at - witness_start + if has_witness { 2 } else { 0 };
        self.take(4)?;
        let raw = &self.bytes[start..self.at];
        Ok(Transaction { raw, weight: 4 * raw.len() - 3 * witness_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy() -> Vec<u8> {
        let mut tx = vec![2, 0, 0, 0, 1];
        tx.extend([7; 36]);
        tx.extend([1, 0x51, 0xff, 0xff, 0xff, 0xff, 1]);
        tx.extend([0; 8]);
        tx.extend([2, 0x51, 0x52, 0, 0, 0, 0]);
        tx
    }

    fn segwit() -> Vec<u8> {
        let legacy = legacy();
        let (head, tail) = legacy.split_at(legacy.len() - 4);
        let (version, rest) = head.split_at(4);
        [version, &[0, 1], rest, &[1, 3, 9, 9, 9], tail].concat()
    }

    fn block(transactions: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![5; HEADER_LEN];
        bytes.push(transactions.len() as u8);
        bytes.extend(transactions.concat());
        bytes
    }

    #[test]
    fn transactions_come_out_whole_with_their_weight() {
        let bytes = block(&[legacy(), segwit()]);
        let parts = split(&bytes).unwrap();
        assert_eq!(parts.header, &[5; 80]);
        let raws: Vec<_> = parts.transactions.iter().map(|tx| tx.raw.to_vec()).collect();
        assert_eq!(raws, [legacy(), segwit()]);
        assert_eq!(parts.transactions[0].weight, 4 * legacy().len());
        assert_eq!(parts.transactions[1].weight, 4 * legacy().len() + 2 + 5);
    }

    #[test]
    fn every_truncation_and_every_tail_is_noticed() {
        let bytes = block(&[segwit(), legacy()]);
        for len in 0..bytes.len() {
            assert_eq!(split(&bytes[..len]), Err(BlockFormatError::Short(len)), "{len} bytes");
        }
        let longer = [bytes, vec![0]].concat();
        assert_eq!(split(&longer), Err(BlockFormatError::Trailing(1)));
    }

    #[test]
    fn a_length_in_a_longer_form_is_refused() {
        let mut bytes = vec![5; HEADER_LEN];
        bytes.extend([0xfd, 1, 0]);
        bytes.extend(legacy());
        assert_eq!(split(&bytes), Err(BlockFormatError::Length(83)));
    }

    #[test]
    fn a_count_beyond_the_bytes_takes_no_memory() {
        let mut bytes = vec![5; HEADER_LEN];
        bytes.push(0xff);
        bytes.extend([0xff; 8]);
        assert_eq!(split(&bytes), Err(BlockFormatError::Short(bytes.len())));
    }

    #[test]
    fn wrong_markers_and_empty_witnesses_are_refused() {
        let mut wrong = segwit();
        wrong[5] = 2;
        assert!(matches!(split(&block(&[wrong])), Err(BlockFormatError::Witness(_))));
        let mut empty = segwit();
        let at = empty.len() - 4 - 5;
        empty.splice(at..at + 5, [0]);
        assert!(matches!(split(&block(&[empty])), Err(BlockFormatError::Witness(_))));
    }

    #[test]
    fn more_bytes_than_any_block_are_refused() {
        let bytes = vec![0; BLOCK_LEN_MAX + 1];
        assert_eq!(split(&bytes), Err(BlockFormatError::Long(BLOCK_LEN_MAX + 1)));
    }
}
