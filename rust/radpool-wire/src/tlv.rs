//! The optional fields that follow a message's last field.
//!
//! Layout of one: extension type u16, field type u8, length u16, value; all little-endian. The
//! specification prints its example big-endian, but its rule for integers and every deployed peer
//! are little-endian.
//!
//! Source: sv2-spec, section 3.4.3.

use thiserror::Error;

/// Bytes before a value.
pub const TLV_HEADER_LEN: usize = 5;

/// The extension of worker identities.
pub const WORKER_IDENTITY_EXTENSION: u16 = 0x0002;
/// The field of that extension that holds the worker's name.
pub const WORKER_IDENTITY_FIELD: u8 = 0x01;
/// The longest worker name, in bytes; a longer one makes the whole message invalid.
pub const WORKER_IDENTITY_LEN_MAX: usize = 32;

/// One field, borrowed from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'tail> {
    pub extension_type: u16,
    pub field: u8,
    pub value: &'tail [u8],
}

/// A tail that is not a sequence of fields: the peer's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TlvError {
    /// The tail ends inside a field.
    #[error("TLV tail: {needed} bytes needed at offset {offset}, {have} left")]
    Truncated { offset: usize, needed: usize, have: usize },
    /// A value is longer than its extension allows.
    #[error(
        "TLV {extension_type:#06x}/{field:#04x}: {length} bytes, the extension allows {length_max}"
    )]
    TooLong { extension_type: u16, field: u8, length: usize, length_max: usize },
}

impl Tlv<'_> {
    /// Whether this is the name of a worker (extension 0x0002).
    #[must_use]
    pub const fn is_worker_identity(&self) -> bool {
        self.extension_type == WORKER_IDENTITY_EXTENSION && self.field == WORKER_IDENTITY_FIELD
    }

    /// Appends the field to a frame's payload; the caller corrects the frame's length.
    ///
    /// # Errors
    /// `TlvError::TooLong` when the value is longer than its length field can say.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TlvError> {
        let length = u16::try_from(self.value.len()).map_err(|_| TlvError::TooLong {
            extension_type: self.extension_type,
            field: self.field,
            length: self.value.len(),
            length_max: usize::from(u16::MAX),
        })?;
        out.extend_from_slice(&self.extension_type.to_le_bytes());
        out.push(self.field);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(self.value);
        Ok(())
    }
}

/// Walks through a tail; after an error it ends.
#[derive(Clone, Debug)]
pub struct Tlvs<'tail> {
    tail: &'tail [u8],
    offset: usize,
}

impl<'tail> Tlvs<'tail> {
    /// Starts at the first byte after the message's last field.
    #[must_use]
    pub const fn new(tail: &'tail [u8]) -> Self {
        Self { tail, offset: 0 }
    }

    fn cut(&mut self) -> Result<Tlv<'tail>, TlvError> {
        let rest = &self.tail[self.offset..];
        let truncated =
            |needed| TlvError::Truncated { offset: self.offset, needed, have: rest.len() };
        let head: &[u8; TLV_HEADER_LEN] = rest.first_chunk().ok_or(truncated(TLV_HEADER_LEN))?;
        let end = TLV_HEADER_LEN + usize::from(u16::from_le_bytes([head[3], head[4]]));
        let value = rest.get(TLV_HEADER_LEN..end).ok_or(truncated(end))?;
        let tlv =
            Tlv { extension_type: u16::from_le_bytes([head[0], head[1]]), field: head[2], value };
        if tlv.is_worker_identity() && value.len() > WORKER_IDENTITY_LEN_MAX {
            return Err(TlvError::TooLong {
                extension_type: tlv.extension_type,
                field: tlv.field,
                length: value.len(),
                length_max: WORKER_IDENTITY_LEN_MAX,
            });
        }
        self.offset += end;
        Ok(tlv)
    }
}

impl<'tail> Iterator for Tlvs<'tail> {
    type Item = Result<Tlv<'tail>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.tail.len() {
            return None;
        }
        let cut = self.cut();
        if cut.is_err() {
            self.offset = self.tail.len();
        }
        Some(cut)
    }
}
