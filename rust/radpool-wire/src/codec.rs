//! Messages to and from bytes.
//!
//! What is exchanged per share or per job is coded by hand in [`hot`]; the rest goes through
//! SRI's message crates in [`sri`]. Tests compare both with SRI's crates, both ways.

mod fields;
mod hot;
mod sri;

use thiserror::Error;

use crate::{
    frame::{FrameHeader, HEADER_LEN, PAYLOAD_LEN_MAX},
    message::Message,
};

/// The extension of SV2 core.
const CORE: u16 = 0;
/// The extension that negotiates extensions.
const NEGOTIATION: u16 = 1;

/// A frame that is not one of our messages: the peer's fault, or its newer vocabulary.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// No message that this software speaks. What follows depends on the caller: unknown
    /// extensions are ignored or forwarded, never a reason to close.
    #[error("unknown message {msg_type:#04x} of extension {extension_type:#06x}")]
    UnknownMessage { extension_type: u16, msg_type: u8 },
    /// The payload ends before the last field does.
    #[error("{message}: the payload of {length} bytes ends before the last field")]
    Truncated { message: &'static str, length: usize },
    /// A field holds what its type does not allow.
    #[error("{message}: {reason}")]
    Invalid { message: &'static str, reason: &'static str },
}

/// A message that cannot be written: our own mistake.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    /// A field has more bytes or items than its length field can say.
    #[error("{message}.{field} is longer than its type allows")]
    TooLong { message: &'static str, field: &'static str },
}

impl<'frame> Message<'frame> {
    /// Reads the message of a frame.
    ///
    /// The header says which message it is; its channel bit is not looked at, as deployed peers
    /// set it differently. Bytes after the last field are TLVs: SubmitSharesExtended returns them,
    /// other messages ignore them. Strings are returned as bytes, whatever they hold. The payload
    /// is mutable for SRI's decoders, and its content is unspecified afterwards except for what
    /// the message borrows.
    ///
    /// # Errors
    /// `UnknownMessage`, `Truncated`, `Invalid`.
    pub fn decode(header: FrameHeader, payload: &'frame mut [u8]) -> Result<Self, DecodeError> {
        let FrameHeader { extension_type, msg_type, .. } = header;
        let name = name_of(extension_type, msg_type)
            .ok_or(DecodeError::UnknownMessage { extension_type, msg_type })?;
        if hot::is_hot(extension_type, msg_type) {
            hot::decode(name, msg_type, payload)
        } else {
            sri::decode(name, extension_type, msg_type, payload)
        }
    }

    /// Appends the whole plain frame, header and payload, to `out`.
    ///
    /// # Errors
    /// `TooLong` when a field does not fit its type; `out` is then as before. The messages of
    /// fixed length (SubmitSharesStandard, SubmitSharesSuccess, SetNewPrevHash, SetTarget,
    /// NewMiningJob, SetCustomMiningJobSuccess) never fail.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        let encoded = hot::encode(self, out).unwrap_or_else(|| sri::encode(self, out));
        if let Err(error) = encoded {
            out.truncate(start);
            return Err(error);
        }
        let payload_len = out.len() - start - HEADER_LEN;
        debug_assert!(payload_len <= PAYLOAD_LEN_MAX, "the longest message has 140 KiB");
        let header = FrameHeader {
            extension_type: self.extension_type(),
            channel_msg: self.channel_msg(),
            msg_type: self.msg_type(),
            payload_len: payload_len as u32,
        };
        out[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
        Ok(())
    }

    /// The extension that defines the message: 0 for SV2 core.
    #[must_use]
    pub const fn extension_type(&self) -> u16 {
        match self {
            Self::RequestExtensions(_)
            | Self::RequestExtensionsSuccess(_)
            | Self::RequestExtensionsError(_) => NEGOTIATION,
            _ => CORE,
        }
    }

    /// The number of the message within its extension.
    #[must_use]
    pub const fn msg_type(&self) -> u8 {
        match self {
            Self::SetupConnection(_) | Self::RequestExtensions(_) => 0x00,
            Self::SetupConnectionSuccess(_) | Self::RequestExtensionsSuccess(_) => 0x01,
            Self::SetupConnectionError(_) | Self::RequestExtensionsError(_) => 0x02,
            Self::Reconnect(_) => 0x04,
            Self::OpenStandardMiningChannel(_) => 0x10,
            Self::OpenStandardMiningChannelSuccess(_) => 0x11,
            Self::OpenMiningChannelError(_) => 0x12,
            Self::OpenExtendedMiningChannel(_) => 0x13,
            Self::OpenExtendedMiningChannelSuccess(_) => 0x14,
            Self::NewMiningJob(_) => 0x15,
            Self::UpdateChannel(_) => 0x16,
            Self::UpdateChannelError(_) => 0x17,
            Self::CloseChannel(_) => 0x18,
            Self::SetExtranoncePrefix(_) => 0x19,
            Self::SubmitSharesStandard(_) => 0x1a,
            Self::SubmitSharesExtended(_) => 0x1b,
            Self::SubmitSharesSuccess(_) => 0x1c,
            Self::SubmitSharesError(_) => 0x1d,
            Self::NewExtendedMiningJob(_) => 0x1f,
            Self::SetNewPrevHash(_) => 0x20,
            Self::SetTarget(_) => 0x21,
            Self::SetCustomMiningJob(_) => 0x22,
            Self::SetCustomMiningJobSuccess(_) => 0x23,
            Self::SetCustomMiningJobError(_) => 0x24,
            Self::SetGroupChannel(_) => 0x25,
        }
    }

    /// Whether the message belongs to one channel, so that its header carries the channel bit.
    #[must_use]
    pub const fn channel_msg(&self) -> bool {
        matches!(
            self,
            Self::NewMiningJob(_)
                | Self::NewExtendedMiningJob(_)
                | Self::UpdateChannel(_)
                | Self::UpdateChannelError(_)
                | Self::CloseChannel(_)
                | Self::SetExtranoncePrefix(_)
                | Self::SubmitSharesStandard(_)
                | Self::SubmitSharesExtended(_)
                | Self::SubmitSharesSuccess(_)
                | Self::SubmitSharesError(_)
                | Self::SetNewPrevHash(_)
                | Self::SetTarget(_)
                | Self::SetCustomMiningJob(_)
                | Self::SetCustomMiningJobSuccess(_)
                | Self::SetCustomMiningJobError(_)
        )
    }

    /// The message's name in the specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        name_of(self.extension_type(), self.msg_type()).expect("every message is in the table")
    }
}

/// The specification's name of a message that this software speaks.
#[must_use]
const fn name_of(extension_type: u16, msg_type: u8) -> Option<&'static str> {
    Some(match (extension_type, msg_type) {
        (CORE, 0x00) => "SetupConnection",
        (CORE, 0x01) => "SetupConnection.Success",
        (CORE, 0x02) => "SetupConnection.Error",
        (CORE, 0x04) => "Reconnect",
        (CORE, 0x10) => "OpenStandardMiningChannel",
        (CORE, 0x11) => "OpenStandardMiningChannel.Success",
        (CORE, 0x12) => "OpenMiningChannel.Error",
        (CORE, 0x13) => "OpenExtendedMiningChannel",
        (CORE, 0x14) => "OpenExtendedMiningChannel.Success",
        (CORE, 0x15) => "NewMiningJob",
        (CORE, 0x16) => "UpdateChannel",
        (CORE, 0x17) => "UpdateChannel.Error",
        (CORE, 0x18) => "CloseChannel",
        (CORE, 0x19) => "SetExtranoncePrefix",
        (CORE, 0x1a) => "SubmitSharesStandard",
        (CORE, 0x1b) => "SubmitSharesExtended",
        (CORE, 0x1c) => "SubmitShares.Success",
        (CORE, 0x1d) => "SubmitShares.Error",
        (CORE, 0x1f) => "NewExtendedMiningJob",
        (CORE, 0x20) => "SetNewPrevHash",
        (CORE, 0x21) => "SetTarget",
        (CORE, 0x22) => "SetCustomMiningJob",
        (CORE, 0x23) => "SetCustomMiningJob.Success",
        (CORE, 0x24) => "SetCustomMiningJob.Error",
        (CORE, 0x25) => "SetGroupChannel",
        (NEGOTIATION, 0x00) => "RequestExtensions",
        (NEGOTIATION, 0x01) => "RequestExtensions.Success",
        (NEGOTIATION, 0x02) => "RequestExtensions.Error",
        _ => return None,
    })
}
