//! The messages of SV2 core and of the extensions 0x0001 and 0x0002, as plain owned structs.
//!
//! Integers are little-endian on the wire. Source: sv2-spec, sections 3 and 5.

/// Which protocol a connection speaks, as SetupConnection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 0: mining.
    Mining,
    /// 1: job declaration.
    JobDeclaration,
    /// 2: template distribution.
    TemplateDistribution,
    /// Any other number.
    Unknown(u8),
}

/// Opens every connection.
#[derive(Clone, Debug, PartialEq)]
pub struct SetupConnection {
    pub protocol: Protocol,
    pub min_version: u16,
    pub max_version: u16,
    pub flags: u32,
    pub endpoint_host: Vec<u8>,
    pub endpoint_port: u16,
    pub vendor: Vec<u8>,
    pub hardware_version: Vec<u8>,
    pub firmware: Vec<u8>,
    pub device_id: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupConnectionSuccess {
    pub used_version: u16,
    pub flags: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupConnectionError {
    pub flags: u32,
    pub error_code: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconnect {
    pub new_host: Vec<u8>,
    pub new_port: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenStandardMiningChannel {
    pub request_id: u32,
    pub user_identity: Vec<u8>,
    pub nominal_hash_rate: f32,
    pub max_target: [u8; 32],
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpenExtendedMiningChannel {
    pub request_id: u32,
    pub user_identity: Vec<u8>,
    pub nominal_hash_rate: f32,
    pub max_target: [u8; 32],
    pub min_extranonce_size: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStandardMiningChannelSuccess {
    pub request_id: u32,
    pub channel_id: u32,
    pub target: [u8; 32],
    pub extranonce_prefix: Vec<u8>,
    pub group_channel_id: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenExtendedMiningChannelSuccess {
    pub request_id: u32,
    pub channel_id: u32,
    pub target: [u8; 32],
    pub extranonce_size: u16,
    pub extranonce_prefix: Vec<u8>,
    pub group_channel_id: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenMiningChannelError {
    pub request_id: u32,
    pub error_code: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMiningJob {
    pub channel_id: u32,
    pub job_id: u32,
    /// `None` for a future job.
    pub min_ntime: Option<u32>,
    pub version: u32,
    pub merkle_root: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewExtendedMiningJob {
    pub channel_id: u32,
    pub job_id: u32,
    /// `None` for a future job.
    pub min_ntime: Option<u32>,
    pub version: u32,
    pub version_rolling_allowed: bool,
    pub merkle_path: Vec<[u8; 32]>,
    pub coinbase_tx_prefix: Vec<u8>,
    pub coinbase_tx_suffix: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpdateChannel {
    pub channel_id: u32,
    pub nominal_hash_rate: f32,
    pub maximum_target: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateChannelError {
    pub channel_id: u32,
    pub error_code: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseChannel {
    pub channel_id: u32,
    pub reason_code: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetExtranoncePrefix {
    pub channel_id: u32,
    pub extranonce_prefix: Vec<u8>,
}

/// A share of a standard channel. Hot: parsed by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitSharesStandard {
    pub channel_id: u32,
    pub sequence_number: u32,
    pub job_id: u32,
    pub nonce: u32,
    pub ntime: u32,
    pub version: u32,
}

/// A share of an extended channel, borrowed from the frame. Hot: parsed by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitSharesExtended<'frame> {
    pub channel_id: u32,
    pub sequence_number: u32,
    pub job_id: u32,
    pub nonce: u32,
    pub ntime: u32,
    pub version: u32,
    /// What the miner rolled, at most 32 bytes.
    pub extranonce: &'frame [u8],
    /// Whatever follows the last field: TLVs.
    pub tail: &'frame [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitSharesSuccess {
    pub channel_id: u32,
    pub last_sequence_number: u32,
    pub new_submits_accepted_count: u32,
    pub new_shares_sum: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitSharesError {
    pub channel_id: u32,
    pub sequence_number: u32,
    pub error_code: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetNewPrevHash {
    pub channel_id: u32,
    pub job_id: u32,
    pub prev_hash: [u8; 32],
    pub min_ntime: u32,
    pub nbits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetTarget {
    pub channel_id: u32,
    pub maximum_target: [u8; 32],
}

/// Asks to mine a job of the miner's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCustomMiningJob {
    pub channel_id: u32,
    pub request_id: u32,
    /// From the job declarator, at most 255 bytes.
    pub token: Vec<u8>,
    pub version: u32,
    pub prev_hash: [u8; 32],
    pub min_ntime: u32,
    pub nbits: u32,
    pub coinbase_tx_version: u32,
    /// The coinbase input's script in front of the extranonce, at most 255 bytes.
    pub coinbase_prefix: Vec<u8>,
    pub coinbase_tx_input_n_sequence: u32,
    /// All outputs, with their count as a CompactSize in front; at most 65,535 bytes.
    pub coinbase_tx_outputs: Vec<u8>,
    pub coinbase_tx_locktime: u32,
    /// Siblings of the coinbase from the leaves up, at most 255.
    pub merkle_path: Vec<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetCustomMiningJobSuccess {
    pub channel_id: u32,
    pub request_id: u32,
    pub job_id: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCustomMiningJobError {
    pub channel_id: u32,
    pub request_id: u32,
    pub error_code: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetGroupChannel {
    pub group_channel_id: u32,
    pub channel_ids: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestExtensions {
    pub request_id: u16,
    pub requested_extensions: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestExtensionsSuccess {
    pub request_id: u16,
    pub supported_extensions: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestExtensionsError {
    pub request_id: u16,
    pub unsupported_extensions: Vec<u16>,
    pub required_extensions: Vec<u16>,
}

/// Every message that this project speaks, named as in the specification.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'frame> {
    SetupConnection(SetupConnection),
    SetupConnectionSuccess(SetupConnectionSuccess),
    SetupConnectionError(SetupConnectionError),
    Reconnect(Reconnect),
    OpenStandardMiningChannel(OpenStandardMiningChannel),
    OpenStandardMiningChannelSuccess(OpenStandardMiningChannelSuccess),
    OpenExtendedMiningChannel(OpenExtendedMiningChannel),
    OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess),
    OpenMiningChannelError(OpenMiningChannelError),
    NewMiningJob(NewMiningJob),
    NewExtendedMiningJob(NewExtendedMiningJob),
    UpdateChannel(UpdateChannel),
    UpdateChannelError(UpdateChannelError),
    CloseChannel(CloseChannel),
    SetExtranoncePrefix(SetExtranoncePrefix),
    SubmitSharesStandard(SubmitSharesStandard),
    SubmitSharesExtended(SubmitSharesExtended<'frame>),
    SubmitSharesSuccess(SubmitSharesSuccess),
    SubmitSharesError(SubmitSharesError),
    SetNewPrevHash(SetNewPrevHash),
    SetTarget(SetTarget),
    SetCustomMiningJob(SetCustomMiningJob),
    SetCustomMiningJobSuccess(SetCustomMiningJobSuccess),
    SetCustomMiningJobError(SetCustomMiningJobError),
    SetGroupChannel(SetGroupChannel),
    RequestExtensions(RequestExtensions),
    RequestExtensionsSuccess(RequestExtensionsSuccess),
    RequestExtensionsError(RequestExtensionsError),
}
