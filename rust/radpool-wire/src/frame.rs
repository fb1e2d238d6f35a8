//! The six bytes before every message.
//!
//! Source: sv2-spec, section 3.2.

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 6;

/// The bit of the extension type that marks a message of one channel.
pub const CHANNEL_BIT: u16 = 0x8000;

/// The largest payload that a header can announce: lengths have 24 bits.
pub const PAYLOAD_LEN_MAX: usize = 0x00ff_ffff;

/// What a frame header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The extension that defines the message, without the channel bit; 0 is SV2 core.
    pub extension_type: u16,
    /// Whether the message belongs to one channel, whose id then opens the payload.
    pub channel_msg: bool,
    /// The message within its extension.
    pub msg_type: u8,
    /// Length of the payload in bytes, at most [`PAYLOAD_LEN_MAX`].
    pub payload_len: u32,
}

impl FrameHeader {
    /// Reads a header; every six bytes are one.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        let extension = u16::from_le_bytes([bytes[0], bytes[1]]);
        Self {
            extension_type: extension & !CHANNEL_BIT,
            channel_msg: extension & CHANNEL_BIT != 0,
            msg_type: bytes[2],
            payload_len: u32::from_le_bytes([bytes[3], bytes[4], bytes[5], 0]),
        }
    }

    /// Writes the header; of the payload length the lowest 24 bits count.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        let channel_bit = if self.channel_msg { CHANNEL_BIT } else { 0 };
        let [ext_low, ext_high] = (self.extension_type | channel_bit).to_le_bytes();
        let [len_low, len_mid, len_high, _] = self.payload_len.to_le_bytes();
        [ext_low, ext_high, self.msg_type, len_low, len_mid, len_high]
    }

    /// Reads the header at the start of a plain frame; `None` when the bytes are not one whole
    /// frame, header and payload, and nothing else.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        let header = Self::from_bytes(frame.first_chunk()?);
        (frame.len() == HEADER_LEN + header.payload_len as usize).then_some(header)
    }
}

/// Cuts plain frames that stand back to back; ends at the first that is cut short.
#[derive(Clone, Debug)]
pub struct Frames<'bytes>(&'bytes [u8]);

impl<'bytes> Frames<'bytes> {
    /// Starts at the first of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'bytes [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been cut yet: empty at the end, unless the last frame is cut short.
    #[must_use]
    pub const fn rest(&self) -> &'bytes [u8] {
        self.0
    }
}

impl<'bytes> Iterator for Frames<'bytes> {
    type Item = (FrameHeader, &'bytes [u8]);

    /// Cuts the next frame: its header, and the payload.
    fn next(&mut self) -> Option<Self::Item> {
        let header = FrameHeader::from_bytes(self.0.first_chunk()?);
        let (frame, rest) = self.0.split_at_checked(HEADER_LEN + header.payload_len as usize)?;
        self.0 = rest;
        Some((header, &frame[HEADER_LEN..]))
    }
}
