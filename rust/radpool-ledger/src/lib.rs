//! Owner tags, share records, signed batches and Merkle-sum trees.

mod body;
mod tag;

pub use body::{CoinbaseLengthError, TemplateBody};
pub use tag::{OWNER_OUTPUT_LEN, OWNER_SCRIPT_LEN, Owner, OwnerTag, OwnerTagError, Rail};
