//! Owner tags, share records, signed batches and Merkle-sum trees.

mod batch;
mod body;
mod coinbase;
mod key;
mod merkle;
mod payout;
mod reader;
mod seal;
mod tag;
mod verify;

pub use batch::{Batch, EXTRANONCE_MAX, Head, Link, SHARES_MAX, Share};
pub use body::{BodyError, CoinbaseLengthError, MERKLE_PATH_MAX, TemplateBody};
pub use key::{MspKey, MspKeyError, is_signed_by};
pub use merkle::{Node, SumTree};
pub use payout::{Claim, WorkOverflowError, split_reward};
pub use seal::{
    AccountSum, ChannelSum, SHARE_KEY_LEN, SealError, SealedBatch, SealedBody, ShareView, seal,
};
pub use tag::{OWNER_OUTPUT_LEN, OWNER_SCRIPT_LEN, Owner, OwnerTag, OwnerTagError, Rail};
pub use verify::{BatchError, VERSION_MASK, VerifiedBatch, coinbase_of, verify_batch};
