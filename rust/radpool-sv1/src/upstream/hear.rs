//! What the pool says, frame by frame.

use std::{collections::HashMap, sync::Arc};

use radpool_miner::{
    Ended, Said,
    assignment::{Coinbase, EXTRANONCE_LEN_MAX},
    channel::Channel,
};
use radpool_units::Target;
use radpool_wire::{
    DecodeError,
    frame::FrameHeader,
    message::{Message, NewExtendedMiningJob, RequestExtensions},
    tlv::WORKER_IDENTITY_EXTENSION,
};

use super::{Phase, Told, Upstream, UpstreamOutbox};

/// A pool that does not know the negotiation of extensions ignores it: then it goes on without.
const EXTENSIONS_MS_MAX: u64 = 5_000;
/// SetupConnection.Success flag: the version field must not be rolled. Source: SV2, 5.3.1.
const REQUIRES_FIXED_VERSION: u32 = 1;

impl Upstream {
    /// Takes in one frame.
    pub fn handle_frame(
        &mut self,
        header: FrameHeader,
        payload: &mut [u8],
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        if self.phase == Phase::Over {
            return;
        }
        self.heard_ms = now_ms;
        if let Some(carrier) = &self.settings.carrier
            && header.extension_type == carrier.extension_type
        {
            let said = carrier.read(header.msg_type, payload);
            return self.handle_carrier(header, said, payload, now_ms, out);
        }
        // What is not understood and not core is somebody's extension: ignored, as SV2 3.2 wants.
        let message = match Message::decode(header, payload) {
            Ok(message) => message,
            Err(DecodeError::UnknownMessage { .. }) => return,
            Err(error) => return self.end(Ended::Malformed(error.to_string()), out),
        };
        match (self.phase, message) {
            (Phase::SetUp, Message::SetupConnectionSuccess(success)) => {
                self.fixed_version = success.flags & REQUIRES_FIXED_VERSION != 0;
                let requested_extensions = self.settings.wanted();
                if requested_extensions.is_empty() {
                    self.probe(now_ms, out);
                } else {
                    let request = RequestExtensions { request_id: 1, requested_extensions };
                    out.send(&Message::RequestExtensions(request));
                    self.phase = Phase::Extending;
                    self.phase_due_ms = now_ms + EXTENSIONS_MS_MAX;
                }
            }
            (Phase::SetUp, Message::SetupConnectionError(error)) => {
                self.end(Ended::refused("the connection", &error.error_code), out);
            }
            (Phase::Extending, Message::RequestExtensionsSuccess(success)) => {
                self.handle_agreement(&success.supported_extensions, now_ms, out);
            }
            (Phase::Extending, Message::RequestExtensionsError(error)) => {
                match error.required_extensions.is_empty() {
                    true => self.handle_agreement(&[], now_ms, out),
                    false => self.end(Ended::ExtensionsRequired(error.required_extensions), out),
                }
            }
            (_, Message::Reconnect(message)) => {
                self.end(Ended::sent_elsewhere(&message.new_host, message.new_port), out);
            }
            (Phase::Probing | Phase::Ready, message) => self.handle_mining(message, now_ms, out),
            // Before there are channels nothing else means anything.
            _ => {}
        }
    }

    /// Goes on when the pool speaks what cannot be done without.
    pub(super) fn handle_agreement(
        &mut self,
        agreed: &[u16],
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let names = self.settings.aggregated && self.settings.carrier.is_none();
        if names && agreed.contains(&WORKER_IDENTITY_EXTENSION) {
            self.names = Some(HashMap::new());
        }
        match &self.settings.carrier {
            Some(carrier) if !agreed.contains(&carrier.extension_type) => {
                self.end(Ended::ExtensionMissing(carrier.extension_type), out);
            }
            _ => self.probe(now_ms, out),
        }
    }

    /// Takes in a message of the extension that carries the shares.
    fn handle_carrier(
        &mut self,
        header: FrameHeader,
        said: Result<Said, DecodeError>,
        payload: &[u8],
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        if !matches!(self.phase, Phase::Probing | Phase::Ready) {
            return;
        }
        match said {
            Err(error) => return self.end(Ended::Malformed(error.to_string()), out),
            Ok(Said::Opened { success, tail }) => {
                out.told.push(Told::Carried { channel: success.channel_id, tail });
                return self.handle_opened(success, now_ms, out);
            }
            Ok(Said::OpenRefused(error)) => {
                return self.handle_refused(error.request_id, &error.error_code, now_ms, out);
            }
            Ok(Said::Refused(error)) => return self.handle_rejected(&error, out),
            Ok(Said::Accepted(success)) if success.new_submits_accepted_count == 0 => {
                self.handle_settled(&success, now_ms, out);
            }
            Ok(Said::Accepted(success)) => self.handle_accepted(&success, now_ms, out),
            Ok(Said::Other) => {}
        }
        let FrameHeader { msg_type, channel_msg, .. } = header;
        out.told.push(Told::Frame { msg_type, channel_msg, payload: payload.to_vec() });
    }

    fn handle_mining(&mut self, message: Message<'_>, now_ms: u64, out: &mut UpstreamOutbox) {
        let fixed_version = self.fixed_version;
        match message {
            Message::OpenExtendedMiningChannelSuccess(success) => {
                self.handle_opened(success, now_ms, out);
            }
            Message::OpenMiningChannelError(error) => {
                self.handle_refused(error.request_id, &error.error_code, now_ms, out);
            }
            Message::NewExtendedMiningJob(mut job) => {
                let coinbase = self.share_coinbase(&mut job);
                self.each(job.channel_id, false, now_ms, out, |channel| {
                    channel.handle_extended_job(&job, Arc::clone(&coinbase), fixed_version);
                    Ok(())
                });
            }
            Message::SetNewPrevHash(tip) => {
                self.each(tip.channel_id, true, now_ms, out, |channel| {
                    channel.handle_tip(&tip).map_err(|unknown| Ended::UnknownFutureJob(unknown.0))
                });
            }
            Message::SetTarget(message) => {
                self.each(message.channel_id, false, now_ms, out, |channel| {
                    channel.target = Target::from_le_bytes(message.maximum_target);
                    Ok(())
                });
            }
            Message::SetExtranoncePrefix(message) => {
                self.each(message.channel_id, false, now_ms, out, |channel| {
                    if message.extranonce_prefix.len() + channel.rollable > EXTRANONCE_LEN_MAX {
                        return Err(Ended::broken("an extranonce of more than 32 bytes"));
                    }
                    channel.extranonce_prefix.clone_from(&message.extranonce_prefix);
                    Ok(())
                });
            }
            Message::SetGroupChannel(message) => {
                for id in &message.channel_ids {
                    if let Some(open) = self.channels.get_mut(id) {
                        open.channel.group_id = message.group_channel_id;
                    }
                }
            }
            Message::SubmitSharesSuccess(success) => self.handle_accepted(&success, now_ms, out),
            Message::SubmitSharesError(error) => self.handle_rejected(&error, out),
            Message::CloseChannel(close) => self.handle_closed(&close, out),
            _ => {}
        }
    }

    /// The coinbase of a job: that of the last one where it is the same, for a pool sends it to
    /// thousands of channels one by one.
    fn share_coinbase(&mut self, job: &mut NewExtendedMiningJob) -> Arc<Coinbase> {
        match &self.coinbase {
            Some(last) if last.is_of(job) => Arc::clone(last),
            _ => Arc::clone(self.coinbase.insert(Coinbase::take(job).into())),
        }
    }

    /// Lets each channel that a message is for take it in, and tells of the jobs that follow.
    fn each(
        &mut self,
        channel_id: u32,
        new_tip: bool,
        now_ms: u64,
        out: &mut UpstreamOutbox,
        mut take: impl FnMut(&mut Channel) -> Result<(), Ended>,
    ) {
        // Most messages are for one of thousands of channels; the number of a group is none of theirs.
        let taken = match self.channels.get_mut(&channel_id) {
            Some(open) => open.take(new_tip, now_ms, out, &mut take),
            None => {
                let channels = self.channels.values_mut();
                let mut members = channels.filter(|open| open.channel.is_addressed(channel_id));
                members.try_fold(false, |any, open| {
                    Ok(open.take(new_tip, now_ms, out, &mut take)? || any)
                })
            }
        };
        match taken {
            Err(ended) => self.end(ended, out),
            Ok(true) if self.phase == Phase::Probing => self.become_ready(out),
            Ok(_) => {}
        }
    }
}
