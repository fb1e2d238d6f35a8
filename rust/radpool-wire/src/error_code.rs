//! The error and reason codes that SV2 peers know.
//!
//! The specification lists none; these are the strings that deployed software sends and matches.
//! A code is for logs: what a peer does next follows from the message, not from the code.

// SetupConnection.Error
pub const UNSUPPORTED_FEATURE_FLAGS: &str = "unsupported-feature-flags";
pub const UNSUPPORTED_PROTOCOL: &str = "unsupported-protocol";
pub const PROTOCOL_VERSION_MISMATCH: &str = "protocol-version-mismatch";
pub const MISSING_DECLARE_TX_DATA_FLAG: &str = "missing-declare-tx-data-flag";

// OpenMiningChannel.Error
pub const STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK: &str =
    "standard-channels-not-supported-for-custom-work";
pub const EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS: &str =
    "extended-channels-not-supported-for-standard-jobs";
pub const INVALID_USER_IDENTITY: &str = "invalid-user-identity";
pub const UNKNOWN_USER: &str = "unknown-user";
pub const MIN_EXTRANONCE_SIZE_TOO_LARGE: &str = "min-extranonce-size-too-large";
pub const UNSUPPORTED_MIN_EXTRANONCE_SIZE: &str = "unsupported-min-extranonce-size";
pub const CHANNEL_CAPACITY_EXHAUSTED: &str = "channel-capacity-exhausted";

// OpenMiningChannel.Error and UpdateChannel.Error
pub const INVALID_NOMINAL_HASHRATE: &str = "invalid-nominal-hashrate";
pub const MAX_TARGET_OUT_OF_RANGE: &str = "max-target-out-of-range";

// UpdateChannel.Error, SubmitShares.Error and SetCustomMiningJob.Error
pub const INVALID_CHANNEL_ID: &str = "invalid-channel-id";

// SubmitShares.Error
pub const INVALID_SHARE: &str = "invalid-share";
pub const STALE_SHARE: &str = "stale-share";
pub const INVALID_JOB_ID: &str = "invalid-job-id";
pub const DIFFICULTY_TOO_LOW: &str = "difficulty-too-low";
pub const DUPLICATE_SHARE: &str = "duplicate-share";
pub const BAD_EXTRANONCE_SIZE: &str = "bad-extranonce-size";
pub const VERSION_ROLLING_NOT_ALLOWED: &str = "version-rolling-not-allowed";
pub const INVALID_NON_ROLLABLE_VERSION_BIT: &str = "invalid-non-rollable-version-bit";

// SetCustomMiningJob.Error
pub const JD_NOT_SUPPORTED: &str = "jd-not-supported";
pub const INVALID_MINING_JOB_TOKEN: &str = "invalid-mining-job-token";
pub const JOB_NOT_YET_VALIDATED: &str = "job-not-yet-validated";
pub const STALE_CHAIN_TIP: &str = "stale-chain-tip";
pub const INVALID_MIN_NTIME: &str = "invalid-min-ntime";
pub const INVALID_NBITS: &str = "invalid-nbits";
pub const INVALID_VERSION: &str = "invalid-version";
pub const INVALID_COINBASE_TX: &str = "invalid-coinbase-tx";
pub const INVALID_COINBASE_TX_VERSION: &str = "invalid-coinbase-tx-version";
pub const INVALID_COINBASE_PREFIX: &str = "invalid-coinbase-prefix";
pub const INVALID_COINBASE_TX_INPUT_N_SEQUENCE: &str = "invalid-coinbase-tx-input-n-sequence";
pub const INVALID_COINBASE_TX_OUTPUTS: &str = "invalid-coinbase-tx-outputs";
pub const INVALID_COINBASE_TX_LOCKTIME: &str = "invalid-coinbase-tx-locktime";
pub const INVALID_MERKLE_PATH: &str = "invalid-merkle-path";
pub const CUSTOM_JOB_CAPACITY_EXHAUSTED: &str = "custom-job-capacity-exhausted";
