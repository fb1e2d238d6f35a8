//! Clients of Stratum V1, for pools and translators: shares, new tips, idle connections.

pub(crate) mod fanout;
pub(crate) mod idle;
mod line;
mod miner;
pub(crate) mod shares;

pub(crate) use miner::{Miner, Place, join_all};
