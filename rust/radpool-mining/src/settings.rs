//! What a pool decides once for all its connections, and the bounds that each connection keeps.

use radpool_units::Exponent;
use thiserror::Error;

use crate::{extension::MSG_SUBMIT_SHARES_EXTENDED, seen::SeenLimits};

/// The rollable bits of the header's version: 5 to 28.
///
/// Source: BIP323.
pub(crate) const VERSION_ROLLING_MASK: u32 = 0x1fff_ffe0;

/// Length of the part of an extranonce that the pool chooses.
pub(crate) const PREFIX_LEN: usize = 4;

/// Rollable bytes of an extended channel that asks for fewer, and of every standard channel: with
/// the prefix 12 bytes, so that both kinds can share a group.
pub(crate) const ROLLABLE_DEFAULT: u16 = 8;

/// Most rollable bytes that a client can ask for: prefix and these stay within 20 bytes.
pub(crate) const ROLLABLE_MAX: u16 = 16;

/// Most rollable bytes that a pool can fix: prefix and these are an extranonce of 32 bytes, which is
/// the longest that messages carry.
pub(crate) const ROLLABLE_FIXED_MAX: u8 = 28;

/// Longest scriptSig of a coinbase. Source: Bitcoin Core, `CheckTransaction`.
pub(crate) const SCRIPT_SIG_MAX: usize = 100;

/// Longest pool text: room for a push of the height (6 bytes at most), two push opcodes and
/// 20 bytes of extranonce in [`SCRIPT_SIG_MAX`].
pub(crate) const POOL_TEXT_MAX: usize = 70;

/// The least time for which a replaced job stays valid: what real miners need to deliver shares.
pub(crate) const JOB_PAST_MS_MIN: u64 = 30_000;

/// A message of an extension whose first fields are those of SubmitSharesExtended: it is validated as
/// a share, and what follows is the share's attachment. The extension answers accepted shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareMessage {
    pub extension_type: u16,
    /// Its number; not that of SubmitSharesExtended, which marks attachments by TLV.
    pub msg_type: u8,
    /// The message that refuses one of its shares, with the fields of SubmitShares.Error.
    pub error_type: u8,
}

/// A message of an extension whose first fields are those of OpenExtendedMiningChannel, and its
/// answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenMessage {
    pub extension_type: u16,
    pub msg_type: u8,
    /// Begins with the fields of OpenExtendedMiningChannel.Success.
    pub success_type: u8,
    /// Has the fields of OpenMiningChannel.Error.
    pub error_type: u8,
}

/// What holds for all connections of a pool.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The MSP's BIP340 public key, x only: part of every owner tag.
    pub msp_key: [u8; 32],
    /// Text in every coinbase's scriptSig, 0 to 70 bytes.
    pub pool_text: Vec<u8>,
    /// Rate that vardiff steers each channel to; 1 to 1,000,000.
    pub shares_per_minute: u32,
    /// The easiest step of the ladder that a channel is given.
    pub exponent_min: Exponent,
    /// The hardest step of the ladder that a channel is given.
    pub exponent_max: Exponent,
    /// Whether miners may roll the version bits of BIP323.
    pub version_rolling: bool,
    /// Whether channels of one owner, exponent and extranonce size on a connection share a group and
    /// its jobs. Several published clients panic on SetGroupChannel or ignore it, so turning this on
    /// saves bandwidth towards proxies at the price of those clients.
    pub group_jobs: bool,
    /// Whether clients may select their work themselves, by custom jobs.
    pub work_selection: bool,
    /// Rollable bytes of every channel, 1 to 28, where something else depends on the length of the
    /// extranonce; `None` grants 8 to 16 as the client asks.
    pub rollable_fixed: Option<u8>,
    /// How long a job that another one replaced on the same tip stays valid; at least 30 s.
    pub job_past_ms: u64,
    /// How long a job of an earlier tip is remembered, so that its shares are told to be stale.
    pub job_stale_ms: u64,
    /// Seconds by which a share's ntime may run ahead of the time that the job allows.
    pub ntime_slack_s: u32,
    /// The least time between two reports on one channel.
    pub report_interval_ms: u64,
    /// Extensions that a client may negotiate, by type.
    pub supported_extensions: Vec<u16>,
    /// Extensions that a client must negotiate; all of them are supported ones.
    pub required_extensions: Vec<u16>,
    /// Messages of extensions that carry a share.
    pub share_messages: Vec<ShareMessage>,
    /// Messages of extensions that open a channel.
    pub open_messages: Vec<OpenMessage>,
    /// Bounds that each connection keeps.
    pub limits: Limits,
}

/// Bounds of one connection; reaching one has the reaction that each names.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the start of the connection to SetupConnection; then it is closed.
    pub setup_deadline_ms: u64,
    /// From set-up, or from the close of the last channel, to an open channel; then it is closed.
    pub channel_deadline_ms: u64,
    /// From RequestExtensions.Error about a required extension to a better request; then it is closed.
    pub extension_retry_ms: u64,
    /// Channels open or asked for at once; more are refused with
    /// `channel-capacity-exhausted`.
    pub channels: u32,
    /// Names that the worker-identity TLV can introduce; later names count as worker 0.
    pub workers: u32,
    /// Share submissions a second in the long run; what exceeds rate and burst is refused with
    /// `submit-rate-exceeded`, and the connection closed after another burst of excess.
    pub submits_per_second: u32,
    /// Share submissions at once.
    pub submits_burst: u32,
    /// Other messages that make the pool work (open, update, close) a second in the long run; the
    /// connection is closed above rate and burst.
    pub requests_per_second: u32,
    /// Such messages at once. Rate and burst also bound repeated shares, apart from the others: what
    /// exceeds them is refused with `submit-rate-exceeded`.
    pub requests_burst: u32,
    /// Bytes of extension frames, attachments and tails of open messages handed up and not yet
    /// taken; above it the connection is closed.
    pub extension_bytes_pending: usize,
    /// Custom jobs that wait for a decision; more are refused with `custom-job-capacity-exhausted`.
    pub custom_jobs_pending: u32,
    /// Custom jobs that are remembered for shares in flight; the oldest of more are forgotten.
    pub custom_jobs_kept: u32,
    /// Payload of SetupConnection; a longer frame closes the connection.
    pub setup_frame_bytes: u32,
    /// Payload of any other core message.
    pub mining_frame_bytes: u32,
    /// Payload of SetCustomMiningJob, from a client that selects its work.
    pub custom_job_frame_bytes: u32,
    /// Payload of a message of a negotiated extension.
    pub extension_frame_bytes: u32,
    /// Payload of a frame that is going to be ignored.
    pub ignored_frame_bytes: u32,
    /// Bounds of the pool-wide set of header hashes.
    pub seen: SeenLimits,
}

/// Settings that no pool can run with.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// The pool text does not fit into a scriptSig.
    #[error("pool_text has {0} bytes: give at most {POOL_TEXT_MAX}, a scriptSig holds no more")]
    PoolText(usize),
    /// A rate that vardiff cannot steer to.
    #[error("shares_per_minute = {0} is out of range: give 1 to 1000000")]
    SharesPerMinute(u32),
    /// An empty part of the ladder.
    #[error("exponent_min = {min} is above exponent_max = {max}: no target is left")]
    Exponents { min: u8, max: u8 },
    /// A length of the extranonce that no message can carry.
    #[error("rollable_fixed = {0} is out of range: give 1 to {ROLLABLE_FIXED_MAX}, or none")]
    RollableFixed(u8),
    /// Replaced jobs would be forgotten before real miners have delivered.
    #[error("job_past_ms = {0} is too short: give at least {JOB_PAST_MS_MIN}")]
    JobPast(u64),
    /// A required extension that is not a supported one.
    #[error("extension {0:#06x} is required but not in supported_extensions: add it there")]
    RequiredExtension(u16),
    /// A share message of an extension that cannot be negotiated.
    #[error("share message {0:#06x}/{1:#04x} belongs to no extension in supported_extensions")]
    ShareMessage(u16, u8),
    /// An open message of an extension that cannot be negotiated.
    #[error("open message {0:#06x}/{1:#04x} belongs to no extension in supported_extensions")]
    OpenMessage(u16, u8),
    /// A share message whose number means something else.
    #[error("share message {0:#06x}/0x1b: that number marks TLVs, take another")]
    ShareMessageNumber(u16),
    /// Two meanings of one message.
    #[error("message {0:#06x}/{1:#04x} stands twice in share_messages and open_messages")]
    MessageTwice(u16, u8),
    /// Too few tips for a share to be remembered across a switch.
    #[error("seen.tips = {0} is too few: give at least 2, or a switch forgets the last tip")]
    SeenTips(u32),
    /// A bound of zero, which would let nobody in.
    #[error("limit {0} = 0 lets nobody in: give at least 1")]
    ZeroLimit(&'static str),
}

impl Settings {
    /// Checks that a pool can run with these settings.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting, its value and the allowed range.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.pool_text.len() > POOL_TEXT_MAX {
            return Err(SettingsError::PoolText(self.pool_text.len()));
        }
        if !(1..=1_000_000).contains(&self.shares_per_minute) {
            return Err(SettingsError::SharesPerMinute(self.shares_per_minute));
        }
        if self.exponent_min > self.exponent_max {
            let (min, max) = (self.exponent_min.get(), self.exponent_max.get());
            return Err(SettingsError::Exponents { min, max });
        }
        if let Some(rollable) = self.rollable_fixed
            && !(1..=ROLLABLE_FIXED_MAX).contains(&rollable)
        {
            return Err(SettingsError::RollableFixed(rollable));
        }
        if self.job_past_ms < JOB_PAST_MS_MIN {
            return Err(SettingsError::JobPast(self.job_past_ms));
        }
        for extension in &self.required_extensions {
            if !self.supported_extensions.contains(extension) {
                return Err(SettingsError::RequiredExtension(*extension));
            }
        }
        self.check_messages()?;
        self.limits.check()
    }

    fn check_messages(&self) -> Result<(), SettingsError> {
        let mut known = Vec::new();
        let mut add = |extension_type: u16, msg_type: u8, unsupported: SettingsError| {
            if !self.supported_extensions.contains(&extension_type) {
                return Err(unsupported);
            }
            if known.contains(&(extension_type, msg_type)) {
                return Err(SettingsError::MessageTwice(extension_type, msg_type));
            }
            known.push((extension_type, msg_type));
            Ok(())
        };
        for ShareMessage { extension_type, msg_type, .. } in self.share_messages.iter().copied() {
            add(extension_type, msg_type, SettingsError::ShareMessage(extension_type, msg_type))?;
            if msg_type == MSG_SUBMIT_SHARES_EXTENDED {
                return Err(SettingsError::ShareMessageNumber(extension_type));
            }
        }
        for OpenMessage { extension_type, msg_type, .. } in self.open_messages.iter().copied() {
            add(extension_type, msg_type, SettingsError::OpenMessage(extension_type, msg_type))?;
        }
        Ok(())
    }

    /// Rollable bytes of a channel whose client asks for at least so many; `None` when it asks for
    /// too many.
    pub(crate) fn rollable(&self, asked: u16) -> Option<u8> {
        let granted = match self.rollable_fixed {
            Some(rollable) => rollable,
            None => asked.clamp(ROLLABLE_DEFAULT, ROLLABLE_MAX) as u8,
        };
        (asked <= u16::from(granted)).then_some(granted)
    }

    /// Rollable bytes of the channel that has most.
    pub(crate) fn rollable_max(&self) -> u8 {
        self.rollable_fixed.unwrap_or(ROLLABLE_MAX as u8)
    }

    pub(crate) fn share_message(&self, extension_type: u16, msg_type: u8) -> Option<ShareMessage> {
        let mut messages = self.share_messages.iter().copied();
        messages.find(|known| (known.extension_type, known.msg_type) == (extension_type, msg_type))
    }

    pub(crate) fn open_message(&self, extension_type: u16, msg_type: u8) -> Option<OpenMessage> {
        let mut messages = self.open_messages.iter().copied();
        messages.find(|known| (known.extension_type, known.msg_type) == (extension_type, msg_type))
    }
}

impl Limits {
    fn check(&self) -> Result<(), SettingsError> {
        if self.seen.tips < 2 {
            return Err(SettingsError::SeenTips(self.seen.tips));
        }
        let bounds = [
            ("setup_deadline_ms", self.setup_deadline_ms),
            ("channel_deadline_ms", self.channel_deadline_ms),
            ("channels", self.channels.into()),
            ("submits_per_second", self.submits_per_second.into()),
            ("submits_burst", self.submits_burst.into()),
            ("requests_per_second", self.requests_per_second.into()),
            ("requests_burst", self.requests_burst.into()),
            ("custom_jobs_pending", self.custom_jobs_pending.into()),
            ("custom_jobs_kept", self.custom_jobs_kept.into()),
            ("custom_job_frame_bytes", self.custom_job_frame_bytes.into()),
            ("setup_frame_bytes", self.setup_frame_bytes.into()),
            ("mining_frame_bytes", self.mining_frame_bytes.into()),
            ("seen.shares_max", self.seen.shares_max as u64),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(SettingsError::ZeroLimit(name)),
            None => Ok(()),
        }
    }
}
