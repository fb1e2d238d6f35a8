//! Cuts a stream of sealed bytes into frames.
//!
//! Bytes come in as the socket gives them. A frame that lies whole in the input is opened in
//! place; only the part of a frame whose rest is still on its way is copied and kept. Between
//! frames a reader holds no memory but its own few words.
//!
//! The caller judges each header before a byte of the payload is kept. What is kept grows with
//! what has arrived, never with what was announced: a peer that announces a megabyte and sends
//! nothing costs nothing.

use core::fmt;

use thiserror::Error;

use crate::{
    frame::FrameHeader,
    noise::{OpenError, Opener, SEALED_HEADER_LEN, sealed_payload_len},
};

/// A stream that cannot be read on. The reader is to be dropped with its connection.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReadError<Refusal> {
    /// A piece was not sealed by the peer.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The caller refused a header.
    #[error("frame refused by its header: {0}")]
    Refused(Refusal),
}

/// Bytes from the socket, read from front to back. What is taken is overwritten.
#[derive(Debug)]
pub struct Input<'bytes> {
    bytes: &'bytes mut [u8],
    taken: usize,
}

impl<'bytes> Input<'bytes> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'bytes mut [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether all bytes are taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&mut self, length: usize) -> &mut [u8] {
        let start = self.taken;
        self.taken += length;
        &mut self.bytes[start..self.taken]
    }
}

/// The state between two reads of one connection.
#[derive(Default)]
pub struct FrameReader {
    /// The frame that has begun: its header, when that is open already.
    header: Option<FrameHeader>,
    /// Sealed bytes of the piece (header or payload) that is not complete. After a frame was
    /// handed out of here: that frame's, until the next call.
    partial: Vec<u8>,
    /// Whether `partial` was handed out.
    lent: bool,
}

impl FrameReader {
    /// Starts before the first frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { header: None, partial: Vec::new(), lent: false }
    }

    /// Whether a frame has begun whose rest is still to come.
    #[must_use]
    pub const fn is_inside_frame(&self) -> bool {
        self.header.is_some() || (!self.partial.is_empty() && !self.lent)
    }

    /// Memory that is held beyond the struct, in bytes.
    #[must_use]
    pub const fn allocated(&self) -> usize {
        self.partial.capacity()
    }

    /// Returns the next whole frame, or `None` when `input` is used up.
    ///
    /// `cap` judges each header before its payload is kept; it is asked once per frame. Call until
    /// `None`: only then is the memory of a frame that came in pieces given back.
    ///
    /// # Errors
    /// `Open` when the peer did not seal the bytes, `Refused` with what `cap` said. No call may
    /// follow an error.
    pub fn next_frame<'frame, Refusal>(
        &'frame mut self,
        input: &'frame mut Input<'_>,
        opener: &mut Opener,
        cap: impl FnOnce(&FrameHeader) -> Result<(), Refusal>,
    ) -> Result<Option<(FrameHeader, &'frame mut [u8])>, ReadError<Refusal>> {
        if core::mem::take(&mut self.lent) {
            self.partial = Vec::new();
        }
        // The rest of a frame that has begun is never empty, so nothing can be complete now.
        if input.is_empty() {
            return Ok(None);
        }
        let cipher = opener.cipher();
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(piece) = self.take_piece(input, SEALED_HEADER_LEN) else {
                    return Ok(None);
                };
                let mut sealed = [0; SEALED_HEADER_LEN];
                sealed.copy_from_slice(piece.bytes(&mut self.partial, input));
                self.partial.clear();
                let header = opener.open_header_by(&cipher, &mut sealed)?;
                cap(&header).map_err(ReadError::Refused)?;
                self.header = Some(header);
                header
            }
        };
        let length = sealed_payload_len(header.payload_len as usize);
        let Some(piece) = self.take_piece(input, length) else {
            return Ok(None);
        };
        self.header = None;
        self.lent = true;
        let payload = opener.open_payload_by(&cipher, piece.bytes(&mut self.partial, input))?;
        Ok(Some((header, payload)))
    }

    /// Reads all of `input` and hands each whole frame to `on_frame`.
    ///
    /// # Errors
    /// As [`FrameReader::next_frame`]; frames before the error were handed over.
    pub fn feed<Refusal>(
        &mut self,
        input: &mut [u8],
        opener: &mut Opener,
        mut cap: impl FnMut(&FrameHeader) -> Result<(), Refusal>,
        mut on_frame: impl FnMut(FrameHeader, &mut [u8]),
    ) -> Result<(), ReadError<Refusal>> {
        let mut input = Input::new(input);
        while let Some((header, payload)) = self.next_frame(&mut input, opener, &mut cap)? {
            on_frame(header, payload);
        }
        Ok(())
    }

    /// Finds the next `length` sealed bytes, or keeps what there is of them and returns `None`.
    fn take_piece(&mut self, input: &mut Input<'_>, length: usize) -> Option<Piece> {
        if self.partial.is_empty() && input.len() >= length {
            return Some(Piece::InInput(length));
        }
        let missing = length - self.partial.len();
        let arrived = missing.min(input.len());
        if arrived == missing {
            // Doubling would leave up to as much unused as is used.
            self.partial.reserve_exact(arrived);
        }
        self.partial.extend_from_slice(input.take(arrived));
        (arrived == missing).then_some(Piece::InPartial)
    }
}

/// Where a whole piece stands.
enum Piece {
    InInput(usize),
    InPartial,
}

impl Piece {
    fn bytes<'frame>(
        self,
        partial: &'frame mut Vec<u8>,
        input: &'frame mut Input<'_>,
    ) -> &'frame mut [u8] {
        match self {
            Self::InInput(length) => input.take(length),
            Self::InPartial => partial.as_mut_slice(),
        }
    }
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (header, kept) = (&self.header, self.partial.len());
        write!(formatter, "FrameReader(header {header:?}, {kept} bytes kept)")
    }
}
