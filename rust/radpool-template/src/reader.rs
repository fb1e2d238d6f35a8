//! Reading bitcoin's serialisation with the limits that Bitcoin Core puts on it.

use crate::transaction::TransactionError;

/// The largest length that a serialised object may announce.
///
/// Source: Bitcoin Core, `serialize.h`, `MAX_SIZE`.
const LENGTH_MAX: u64 = 0x0200_0000;

/// Takes fields off a slice and knows how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], TransactionError> {
        let end = self.at.checked_add(len).ok_or(TransactionError::Truncated)?;
        let field = self.bytes.get(self.at..end).ok_or(TransactionError::Truncated)?;
        self.at = end;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], TransactionError> {
        let field = self.take(N)?;
        Ok(field.try_into().expect("take returns as many bytes as asked for"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TransactionError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A length in its shortest form.
    pub(crate) fn length(&mut self) -> Result<usize, TransactionError> {
        let [first] = self.array()?;
        let (value, least) = match first {
            0xfd => (u64::from(u16::from_le_bytes(self.array()?)), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (u64::from_le_bytes(self.array()?), 0x1_0000_0000),
            short => (u64::from(short), 0),
        };
        if value < least {
            return Err(TransactionError::LongForm);
        }
        if value > LENGTH_MAX {
            return Err(TransactionError::Excessive);
        }
        // 32 MiB at most: it fits every usize this is built for.
        Ok(value as usize)
    }

    /// A byte string behind its length.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], TransactionError> {
        let len = self.length()?;
        self.take(len)
    }
}

/// Appends a length in its shortest form.
pub(crate) fn put_length(out: &mut Vec<u8>, len: usize) {
    match len {
        0..=0xfc => out.push(len as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(len as u16).to_le_bytes());
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
}

/// How many bytes a length has in its shortest form.
pub(crate) const fn length_len(len: usize) -> usize {
    match len {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        _ => 5,
    }
}
