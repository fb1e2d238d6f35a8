//! Extensions: their negotiation, their frames, and what they attach to shares.

use std::sync::Arc;

use radpool_units::Now;
use radpool_wire::{
    frame::FrameHeader,
    message::{
        Message, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
        SubmitSharesExtended,
    },
    tlv::{TLV_HEADER_LEN, Tlv, Tlvs, WORKER_IDENTITY_EXTENSION},
};

use crate::{
    Attachment, CloseReason, Connection, Event, HeldBytes, OpenMessage, Outbox, Reject,
    ShareMessage,
    connection::{Phase, send},
    counters::count,
    open::MSG_OPEN_EXTENDED,
};

/// Message type of SubmitSharesExtended, which TLVs follow.
pub(crate) const MSG_SUBMIT_SHARES_EXTENDED: u8 = 0x1b;

/// What stands behind a share's own fields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tail<'frame> {
    /// TLVs of any extension.
    Tlvs(&'frame [u8]),
    /// The rest of an extension's own share message.
    Message { source: ShareMessage, rest: &'frame [u8] },
}

/// What a tail says, still borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attached<'frame> {
    pub(crate) worker: Option<&'frame [u8]>,
    source: Option<Source>,
    tail: &'frame [u8],
}

/// For whom something is attached, and how it came.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// By TLVs, of which the first is of this extension; others may be nobody's.
    Tlvs(u16),
    /// By a message of an extension.
    Message(ShareMessage),
}

impl Attached<'_> {
    /// Whether there is anything for an extension.
    pub(crate) fn is_some(&self) -> bool {
        self.source.is_some()
    }
}

impl Connection {
    /// Answers RequestExtensions.
    ///
    /// Source: sv2-spec, extension 0x0001, section 4.
    pub(crate) fn on_request_extensions(
        &mut self,
        request: &RequestExtensions,
        now: Now,
        out: &mut Outbox,
    ) {
        if !self.request_is_granted(now, out) {
            return;
        }
        let settings = &self.shared.settings;
        let supported = |extension: &u16| settings.supported_extensions.contains(extension);
        let requested = &request.requested_extensions;
        let mut agreed: Vec<u16> = requested.iter().copied().filter(supported).collect();
        agreed.sort_unstable();
        agreed.dedup();
        let missing: Vec<u16> = settings
            .required_extensions
            .iter()
            .copied()
            .filter(|extension| !requested.contains(extension))
            .collect();
        if !missing.is_empty() || agreed.is_empty() {
            let must_retry = !missing.is_empty();
            let error = RequestExtensionsError {
                request_id: request.request_id,
                unsupported_extensions: requested
                    .iter()
                    .copied()
                    .filter(|extension| !supported(extension))
                    .collect(),
                required_extensions: missing,
            };
            send(&Message::RequestExtensionsError(error), out);
            if must_retry && self.phase != Phase::ExtensionsRefused {
                self.phase = Phase::ExtensionsRefused;
                let retry_ms = now.mono_ms + self.shared.settings.limits.extension_retry_ms;
                self.phase_deadline_ms = self.phase_deadline_ms.min(retry_ms);
            }
            return;
        }
        let success = RequestExtensionsSuccess {
            request_id: request.request_id,
            supported_extensions: agreed.clone(),
        };
        send(&Message::RequestExtensionsSuccess(success), out);
        self.extensions = agreed.clone().into();
        self.phase = Phase::Running;
        self.expect_channel(now);
        out.events.push(Event::ExtensionsNegotiated { extensions: agreed });
    }

    /// Takes a frame of an extension: a share, something to hand up, or nothing to us.
    pub(crate) fn on_extension_frame(
        &mut self,
        header: FrameHeader,
        payload: &mut [u8],
        now: Now,
        out: &mut Outbox,
    ) {
        let FrameHeader { extension_type, msg_type, channel_msg, .. } = header;
        if !self.extensions.contains(&extension_type) {
            return self.ignore();
        }
        if let Some(source) = self.shared.settings.share_message(extension_type, msg_type) {
            return self.on_share_message(source, header, payload, now, out);
        }
        if let Some(by) = self.shared.settings.open_message(extension_type, msg_type) {
            return self.on_open_message(by, payload, now, out);
        }
        match self.hold(payload) {
            Some(payload) => {
                count(&self.shared.counters.extension_frames, 1);
                out.events.push(Event::ExtensionFrame {
                    extension_type,
                    msg_type,
                    channel_msg,
                    payload,
                });
            }
            None => self.close(CloseReason::ExtensionBytes, now, out),
        }
    }

    /// Reads a message whose first fields are those of SubmitSharesExtended as that.
    fn on_share_message(
        &mut self,
        source: ShareMessage,
        header: FrameHeader,
        payload: &mut [u8],
        now: Now,
        out: &mut Outbox,
    ) {
        let core = FrameHeader {
            extension_type: 0,
            msg_type: MSG_SUBMIT_SHARES_EXTENDED,
            channel_msg: true,
            ..header
        };
        match Message::decode(core, payload) {
            Ok(Message::SubmitSharesExtended(share)) => {
                let tail = Tail::Message { source, rest: share.tail };
                let share = SubmitSharesExtended { tail: &[], ..share };
                self.on_share_with_tail(&share, tail, now, out);
            }
            _ => self.close(CloseReason::MalformedMessage, now, out),
        }
    }

    /// Reads a message whose first fields are those of OpenExtendedMiningChannel as that.
    fn on_open_message(&mut self, by: OpenMessage, payload: &mut [u8], now: Now, out: &mut Outbox) {
        if !self.request_is_granted(now, out) {
            return;
        }
        let Some((core, tail)) = split_open(payload) else {
            return self.close(CloseReason::MalformedMessage, now, out);
        };
        let header = FrameHeader {
            extension_type: 0,
            msg_type: MSG_OPEN_EXTENDED,
            channel_msg: false,
            payload_len: core.len() as u32,
        };
        let Ok(Message::OpenExtendedMiningChannel(open)) = Message::decode(header, core) else {
            return self.close(CloseReason::MalformedMessage, now, out);
        };
        match self.hold(tail) {
            Some(tail) => self.on_open_extended(open, Some((by, tail)), out),
            None => self.close(CloseReason::ExtensionBytes, now, out),
        }
    }

    /// Reads what is attached to a share.
    pub(crate) fn read_tail<'frame>(&self, tail: Tail<'frame>) -> Result<Attached<'frame>, Reject> {
        let bytes = match tail {
            Tail::Message { source, rest } => {
                let source = Some(Source::Message(source));
                return Ok(Attached { worker: None, source, tail: rest });
            }
            // Without extensions whatever follows the last field means nothing.
            Tail::Tlvs(_) if self.extensions.is_empty() => &[],
            Tail::Tlvs(bytes) => bytes,
        };
        let mut attached = Attached { tail: bytes, ..Attached::default() };
        for tlv in Tlvs::new(bytes) {
            let tlv = tlv.map_err(|_| Reject::InvalidShare)?;
            if !self.extensions.contains(&tlv.extension_type) {
                continue;
            }
            if tlv.is_worker_identity() {
                attached.worker = Some(tlv.value);
            } else if attached.source.is_none() {
                attached.source = Some(Source::Tlvs(tlv.extension_type));
            }
        }
        Ok(attached)
    }

    /// Copies what is attached for the pool to take; `Err` when too much waits already.
    pub(crate) fn attachment(
        &mut self,
        attached: &Attached<'_>,
    ) -> Result<Option<Box<Attachment>>, CloseReason> {
        let Some(source) = attached.source else { return Ok(None) };
        let bytes = match source {
            Source::Tlvs(_) => {
                let negotiated = |tlv: &Tlv<'_>| {
                    self.extensions.contains(&tlv.extension_type) && !tlv.is_worker_identity()
                };
                let tlvs = tlvs_where(attached.tail, negotiated);
                self.hold(&tlvs)
            }
            Source::Message(_) => self.hold(attached.tail),
        };
        let bytes = bytes.ok_or(CloseReason::ExtensionBytes)?;
        let (extension_type, msg_type, error_type) = match source {
            Source::Tlvs(extension_type) => (extension_type, MSG_SUBMIT_SHARES_EXTENDED, None),
            Source::Message(by) => (by.extension_type, by.msg_type, Some(by.error_type)),
        };
        Ok(Some(Box::new(Attachment { extension_type, msg_type, error_type, bytes })))
    }

    pub(crate) fn hold(&mut self, bytes: &[u8]) -> Option<HeldBytes> {
        let held = self.held.get_or_insert_with(Arc::default);
        HeldBytes::hold(bytes, held, self.shared.settings.limits.extension_bytes_pending)
    }

    /// The number of a worker's name, introduced to the pool at first sight; 0 without a name, or
    /// when the connection has named as many as it may.
    pub(crate) fn worker(&mut self, channel: u32, name: Option<&[u8]>, out: &mut Outbox) -> u32 {
        let Some(name) = name else { return 0 };
        debug_assert!(self.extensions.contains(&WORKER_IDENTITY_EXTENSION));
        if let Some(worker) = self.workers.get(name) {
            return *worker;
        }
        if self.workers.len() >= self.shared.settings.limits.workers as usize {
            return 0;
        }
        let worker = self.workers.len() as u32 + 1;
        self.workers.insert(name.into(), worker);
        out.events.push(Event::WorkerNamed { channel, worker, name: name.to_vec() });
        worker
    }
}

/// The TLVs that `keep` picks out of a tail that was read, whole and in order.
pub(crate) fn tlvs_where(tail: &[u8], keep: impl Fn(&Tlv<'_>) -> bool) -> Vec<u8> {
    let mut offset = 0;
    let mut kept = Vec::with_capacity(tail.len());
    for tlv in Tlvs::new(tail).flatten() {
        let end = offset + TLV_HEADER_LEN + tlv.value.len();
        if keep(&tlv) {
            kept.extend_from_slice(&tail[offset..end]);
        }
        offset = end;
    }
    kept
}

/// Cuts a payload behind the fields of OpenExtendedMiningChannel; `None` when it ends before.
fn split_open(payload: &mut [u8]) -> Option<(&mut [u8], &[u8])> {
    /// request_id, the length of user_identity, nominal_hash_rate, max_target, min_extranonce_size.
    const FIXED_LEN: usize = 4 + 1 + 4 + 32 + 2;
    let identity_len = usize::from(*payload.get(4)?);
    let (core, tail) = payload.split_at_mut_checked(FIXED_LEN + identity_len)?;
    Some((core, tail))
}
