//! Why a share is refused.

use radpool_wire::error_code;

/// How many reasons there are.
pub const REJECT_CODES: usize = 10;

/// Why a share is refused: each reason is one error code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// No such channel of that kind.
    InvalidChannelId,
    /// No such job on the channel, or not any more.
    InvalidJobId,
    /// The job builds on an earlier tip.
    StaleShare,
    /// The extranonce has another length than was agreed.
    BadExtranonceSize,
    /// ntime is out of its bounds, or a TLV behind the share is cut off or longer than its extension
    /// allows.
    InvalidShare,
    /// The version differs from the job's outside of the rollable bits.
    InvalidVersionBit,
    /// The version differs from the job's although the pool lets nothing roll.
    VersionRollingNotAllowed,
    /// The hash is above the target of the job's tag.
    DifficultyTooLow,
    /// The header was submitted before.
    DuplicateShare,
    /// The client submits faster than it may.
    SubmitRate,
}

impl Reject {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; REJECT_CODES] = [
        Self::InvalidChannelId,
        Self::InvalidJobId,
        Self::StaleShare,
        Self::BadExtranonceSize,
        Self::InvalidShare,
        Self::InvalidVersionBit,
        Self::VersionRollingNotAllowed,
        Self::DifficultyTooLow,
        Self::DuplicateShare,
        Self::SubmitRate,
    ];

    /// The reason's place in reports and counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The error code that the client is told.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidChannelId => error_code::INVALID_CHANNEL_ID,
            Self::InvalidJobId => error_code::INVALID_JOB_ID,
            Self::StaleShare => error_code::STALE_SHARE,
            Self::BadExtranonceSize => error_code::BAD_EXTRANONCE_SIZE,
            Self::InvalidShare => error_code::INVALID_SHARE,
            Self::InvalidVersionBit => error_code::INVALID_NON_ROLLABLE_VERSION_BIT,
            Self::VersionRollingNotAllowed => error_code::VERSION_ROLLING_NOT_ALLOWED,
            Self::DifficultyTooLow => error_code::DIFFICULTY_TOO_LOW,
            Self::DuplicateShare => error_code::DUPLICATE_SHARE,
            Self::SubmitRate => "submit-rate-exceeded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_at_its_number_and_has_a_code_of_its_own() {
        for (index, reject) in Reject::ALL.into_iter().enumerate() {
            assert_eq!(reject.index(), index);
            assert!(reject.code().bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(Reject::ALL[..index].iter().all(|other| other.code() != reject.code()));
        }
    }
}
