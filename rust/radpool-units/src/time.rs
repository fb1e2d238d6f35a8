//! Time as machines are given it.

/// The moment at which a machine is asked to act: machines read no clock themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; only differences mean anything.
    pub mono_ms: u64,
    /// Milliseconds since 1970 of the wall clock, which may jump.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since 1970, as block headers count them; saturates in 2106.
    #[must_use]
    pub fn unix_seconds(&self) -> u32 {
        u32::try_from(self.unix_ms / 1000).unwrap_or(u32::MAX)
    }
}
