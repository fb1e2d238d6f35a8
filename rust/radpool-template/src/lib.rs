//! Declared templates: a cache of transactions, merkle paths, and the verdict on a template's structure.
//!
//! A declarer names its transactions by wtxid. `TransactionCache` knows those of earlier declarations
//! by that name, a `Selection` gathers and holds those of one, and a `Declaration` puts them together
//! with the coinbase around its extranonce. `Declaration::fault` is all that can be said without a
//! look at the chain's coins, in Bitcoin Core's order and words.
//!
//! Nothing here does IO. Bounds: the cache has a budget of bytes, a list at most
//! [`TRANSACTIONS_MAX`] entries, and memory grows with the bytes that have come.

mod cache;
mod coinbase;
mod declaration;
mod merkle;
mod parallel;
mod reader;
mod script;
mod selection;
mod structure;
mod transaction;

pub use cache::TransactionCache;
pub use coinbase::{Coinbase, CoinbaseError};
pub use declaration::{BlockError, BuildError, Declaration, Ground};
pub use parallel::{BatchError, parse_all};
pub use selection::{Selection, SelectionError, TRANSACTIONS_MAX};
pub use structure::Fault;
pub use transaction::{Transaction, TransactionError};
