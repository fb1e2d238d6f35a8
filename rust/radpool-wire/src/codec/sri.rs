//! The messages of setting up, through SRI's crates.

mod decode;
mod encode;

pub(super) use decode::decode;
pub(super) use encode::encode;
