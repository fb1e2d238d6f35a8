//! Reads fields one after another.

use super::DecodeError;

/// Takes fields from the front of a payload.
pub(super) struct Fields<'frame> {
    message: &'static str,
    payload: &'frame [u8],
    rest: &'frame [u8],
}

impl<'frame> Fields<'frame> {
    /// Starts at the first byte of `payload`; `message` is named in errors.
    pub(super) const fn new(message: &'static str, payload: &'frame [u8]) -> Self {
        Self { message, payload, rest: payload }
    }

    /// What no field has taken.
    pub(super) const fn rest(&self) -> &'frame [u8] {
        self.rest
    }

    fn bytes(&mut self, length: usize) -> Result<&'frame [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated { message: self.message, length: self.payload.len() })?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated { message: self.message, length: self.payload.len() })?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn optional_u32(&mut self) -> Result<Option<u32>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.u32().map(Some),
            _ => Err(self.invalid("an option has more than one item")),
        }
    }

    pub(super) fn bytes_by_u8_length(&mut self) -> Result<&'frame [u8], DecodeError> {
        let length = self.u8()?;
        self.bytes(usize::from(length))
    }

    pub(super) fn bytes_by_u16_length(&mut self) -> Result<&'frame [u8], DecodeError> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    pub(super) fn hashes_by_u8_count(&mut self) -> Result<Vec<[u8; 32]>, DecodeError> {
        let count = usize::from(self.u8()?);
        let (hashes, _) = self.bytes(32 * count)?.as_chunks::<32>();
        Ok(hashes.to_vec())
    }

    pub(super) const fn invalid(&self, reason: &'static str) -> DecodeError {
        DecodeError::Invalid { message: self.message, reason }
    }
}
