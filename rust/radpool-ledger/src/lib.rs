//! Owner tags, share records, signed batches and Merkle-sum trees.

mod batch;
mod body;
mod coinbase;
mod merkle;
mod payout;
mod reader;
mod receipt;
mod seal;
mod summary;
mod tag;
mod verify;
mod weight;

pub use batch::{Batch, EXTRANONCE_MAX, Head, Link, PricedTemplate, SHARES_MAX, Share};
pub use body::{BodyError, CoinbaseLengthError, MERKLE_PATH_MAX, TemplateBody};
pub use coinbase::{CoinbaseFault, check_coinbase};
pub use merkle::{Earned, Node, Sum, SumTree};
pub use payout::{Claim, WorkOverflowError, split_reward};
pub use receipt::RunningReceipt;
pub use seal::{
    AccountSum, ChannelSum, SHARE_KEY_LEN, SealError, SealedBatch, SealedBody, ShareView, seal,
};
pub use summary::{TemplateSum, template_sums};
pub use tag::{OWNER_OUTPUT_LEN, OWNER_SCRIPT_LEN, Owner, OwnerTag, OwnerTagError, Rail};
pub use verify::{
    BatchError, FINGERPRINT_LEN, TemplateShares, VERSION_MASK, VerifiedBatch, coinbase_of,
    verify_batch, verify_decoded,
};
pub use weight::{Weight, WeightError, WeightMode};
