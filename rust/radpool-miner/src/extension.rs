//! An extension that carries the shares of a channel: what the client has to know of it.
//!
//! Such an extension has messages of its own for opening a channel and for submitting shares. Their
//! first fields are those of the core messages; what follows, the tail, means something to the
//! extension alone. So the client speaks any of them: it puts the core message's fields in front of
//! a tail that it was given, reads the core fields of an answer and hands the rest up untouched.
//!
//! | message of the extension | first fields are those of |
//! |---|---|
//! | `open.request` | OpenExtendedMiningChannel |
//! | `open.success` | OpenExtendedMiningChannel.Success |
//! | `open.error` | OpenMiningChannel.Error |
//! | `share.request` | SubmitSharesExtended; the tail is the share's attachment |
//! | `share.success` | SubmitShares.Success |
//! | `share.error` | SubmitShares.Error |
//! | any other | handed up whole |

use radpool_wire::{
    DecodeError,
    frame::{FrameHeader, HEADER_LEN},
    message::{
        Message, OpenExtendedMiningChannelSuccess, OpenMiningChannelError, SubmitSharesError,
        SubmitSharesSuccess,
    },
};

/// Core message types whose fields the extension's messages start with. Source: SV2, 5.3.
const OPEN_SUCCESS: u8 = 0x14;
const OPEN_ERROR: u8 = 0x12;
const SHARES_SUCCESS: u8 = 0x1c;
const SHARES_ERROR: u8 = 0x1d;

/// A request's message type and those of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub request: u8,
    pub success: u8,
    pub error: u8,
}

/// How to speak an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientExtension {
    /// Its number, without the channel bit. The pool must agree to it.
    pub extension_type: u16,
    pub open: Exchange,
    /// What follows the core fields of the opening message.
    pub open_tail: Vec<u8>,
    pub share: Exchange,
    /// Error codes after which the share stands and is sent again with the next attachment.
    pub renewing_codes: Vec<String>,
    /// The same, where all attachments of the refused one's lot are of no use any more.
    pub lapsing_codes: Vec<String>,
}

/// What a frame of the extension says to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The channel is open.
    Opened { success: OpenExtendedMiningChannelSuccess, tail: Vec<u8> },
    /// There will be none.
    OpenRefused(OpenMiningChannelError),
    /// Shares are good.
    Accepted(SubmitSharesSuccess),
    /// A share is not.
    Refused(SubmitSharesError),
    /// Something for the extension alone.
    Other,
}

impl ClientExtension {
    /// Turns the core message that starts at `start` in `frames` into one of this extension: `tail`
    /// follows its fields.
    pub fn rename(
        &self,
        frames: &mut Vec<u8>,
        start: usize,
        msg_type: u8,
        channel_msg: bool,
        tail: &[u8],
    ) {
        if frames.len() < start + HEADER_LEN {
            return; // the message could not be written, and whoever wrote it has said so
        }
        frames.extend_from_slice(tail);
        let payload_len = u32::try_from(frames.len() - start - HEADER_LEN).unwrap_or(u32::MAX);
        let extension_type = self.extension_type;
        let header = FrameHeader { extension_type, channel_msg, msg_type, payload_len };
        frames[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
    }

    /// Reads the core fields of a frame of this extension.
    ///
    /// # Errors
    /// `DecodeError` when they are not whole.
    pub fn read(&self, msg_type: u8, payload: &[u8]) -> Result<Said, DecodeError> {
        let core = match msg_type {
            kind if kind == self.open.success => OPEN_SUCCESS,
            kind if kind == self.open.error => OPEN_ERROR,
            kind if kind == self.share.success => SHARES_SUCCESS,
            kind if kind == self.share.error => SHARES_ERROR,
            _ => return Ok(Said::Other),
        };
        // Decoding may spoil the bytes, and they are handed up whole.
        let mut fields = payload.to_vec();
        let header = FrameHeader {
            extension_type: 0,
            channel_msg: false,
            msg_type: core,
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        Ok(match Message::decode(header, &mut fields)? {
            Message::OpenExtendedMiningChannelSuccess(success) => {
                let length = open_success_len(&success);
                Said::Opened { success, tail: payload.get(length..).unwrap_or_default().to_vec() }
            }
            Message::OpenMiningChannelError(error) => Said::OpenRefused(error),
            Message::SubmitSharesSuccess(success) => Said::Accepted(success),
            Message::SubmitSharesError(error) => Said::Refused(error),
            _ => Said::Other,
        })
    }

    /// What becomes of a share that was refused with `code`.
    #[must_use]
    pub fn verdict(&self, code: &str) -> Verdict {
        let listed = |codes: &[String]| codes.iter().any(|known| known == code);
        match (listed(&self.lapsing_codes), listed(&self.renewing_codes)) {
            (true, _) => Verdict::Lapse,
            (false, true) => Verdict::Renew,
            (false, false) => Verdict::Final,
        }
    }
}

/// What a refusal means for the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not sent again.
    Final,
    /// It is sent again with another attachment.
    Renew,
    /// It is sent again with an attachment of another lot.
    Lapse,
}

/// request_id, channel_id, target, extranonce_size, extranonce_prefix with its length,
/// group_channel_id.
fn open_success_len(success: &OpenExtendedMiningChannelSuccess) -> usize {
    4 + 4 + 32 + 2 + 1 + success.extranonce_prefix.len() + 4
}

#[cfg(test)]
mod tests {
    use radpool_wire::message::SubmitSharesExtended;

    use super::*;

    fn extension() -> ClientExtension {
        ClientExtension {
            extension_type: 0x4777,
            open: Exchange { request: 1, success: 2, error: 3 },
            open_tail: Vec::new(),
            share: Exchange { request: 4, success: 5, error: 6 },
            renewing_codes: vec!["torn".into()],
            lapsing_codes: vec!["outdated".into()],
        }
    }

    #[test]
    fn core_message_becomes_one_of_the_extension_with_its_tail() {
        let mut frames = vec![0xee; 3];
        let share = SubmitSharesExtended {
            channel_id: 1,
            sequence_number: 2,
            job_id: 3,
            nonce: 4,
            ntime: 5,
            version: 6,
            extranonce: &[7; 8],
            tail: &[],
        };
        Message::SubmitSharesExtended(share).encode(&mut frames).unwrap();
        extension().rename(&mut frames, 3, 4, true, b"tail");
        let header = FrameHeader::of_frame(&frames[3..]).unwrap();
        assert_eq!((header.extension_type, header.msg_type), (0x4777, 4));
        assert!(header.channel_msg);
        let core = FrameHeader { extension_type: 0, msg_type: 0x1b, ..header };
        let decoded = Message::decode(core, &mut frames[9..]).unwrap();
        assert_eq!(
            decoded,
            Message::SubmitSharesExtended(SubmitSharesExtended { tail: b"tail", ..share })
        );
    }

    #[test]
    fn answers_are_read_up_to_their_tail() {
        let success = OpenExtendedMiningChannelSuccess {
            request_id: 1,
            channel_id: 2,
            target: [3; 32],
            extranonce_size: 8,
            extranonce_prefix: vec![9; 5],
            group_channel_id: 4,
        };
        let mut frame = Vec::new();
        Message::OpenExtendedMiningChannelSuccess(success.clone()).encode(&mut frame).unwrap();
        frame.extend_from_slice(b"more");
        let said = extension().read(2, &frame[HEADER_LEN..]).unwrap();
        assert_eq!(said, Said::Opened { success, tail: b"more".to_vec() });
        for cut in 0..frame.len() - HEADER_LEN - 4 {
            assert!(extension().read(2, &frame[HEADER_LEN..HEADER_LEN + cut]).is_err(), "{cut}");
        }
        assert_eq!(extension().read(200, b"anything"), Ok(Said::Other));
    }

    #[test]
    fn code_decides_what_becomes_of_a_share() {
        assert_eq!(extension().verdict("torn"), Verdict::Renew);
        assert_eq!(extension().verdict("outdated"), Verdict::Lapse);
        assert_eq!(extension().verdict("stale-share"), Verdict::Final);
    }
}
