//! Blind signatures over work: points, DLEQ proofs, keysets, wallets' secrets and claims, in
//! batches.
//!
//! The scheme is Cashu's blind Diffie-Hellmann exchange over secp256k1 (NUT-00) with proofs of
//! equal logarithms (NUT-12), keyset ids of version 2 (NUT-02) and deterministic secrets (NUT-13).
//! Points are read strictly, multiplications by secrets take the same time whatever the secret is,
//! and secrets are wiped when they are dropped. Nothing here draws randomness: the same input has
//! the same output, byte by byte, on every machine and after every crash.
//!
//! libsecp256k1 blinds its own tables with randomness once, when it is loaded; that hides the
//! multiplications from who measures them and changes no result.

mod batch;
mod claim;
mod claim_batch;
mod dleq;
mod hmac;
mod key;
mod keyset;
mod point;
mod receipt;
mod residue;
mod scalar;
mod tree;
mod wallet;

pub use batch::in_parallel;
pub use claim::{
    Claim, ClaimError, ClaimSlot, Claimant, ClaimedShare, SlotState, channel_claimant,
};
pub use claim_batch::{AdmittedClaim, ClaimBatch, ClaimBatchError, ClaimRow, ResidueKey};
pub use dleq::{Dleq, dleq_challenge};
pub use key::{AmountKey, BlindSignature, blind, unblind, verify_proof_dleq};
pub use keyset::{
    KEYSET_ID_LEN, KEYSET_SHORT_LEN, KeysetError, KeysetId, KeysetIdError, KeysetKeys, MintSeed,
    SEED_LEN,
};
pub use point::{POINT_LEN, Point, PointError, hash_to_curve};
pub use receipt::{NO_TOKEN, RECEIPTS_MAX, ReceiptRoot, Reply, extend_root, sign_root};
pub use residue::{ResidueError, Token, denominate, largest_exponent};
pub use scalar::{Scalar, ScalarError};
pub use tree::{CLAIM_LEAF_LEN, claim_leaf, claims_path, claims_root};
pub use wallet::{DerivedOutput, SignedOutput, WALLET_SEED_LEN, WalletSeed};
