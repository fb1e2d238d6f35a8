//! Integers with names (targets, work, value, sats, heights), hashes and time as machines see it.
//!
//! Nothing here is a float and nothing converts silently: a constructor validates, a division
//! names its rounding, and byte order stands in the method's name.

mod amount;
mod hash;
mod sha256;
mod target;
mod time;

pub use amount::{Height, Sats, Value, Work};
pub use hash::{
    Hash256, MerkleRoot, TaggedHasher, merkle_root_from_path, merkle_roots_abreast, sha256d,
    sha256d_abreast, tagged_hash,
};
pub use sha256::{ABREAST, INITIAL_STATE, Midstate};
pub use target::{CompactTargetError, Exponent, ExponentError, Target};
pub use time::Now;
