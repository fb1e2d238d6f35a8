//! A Stratum V2 mining client and CPU miner.
//!
//! | layer | module | IO |
//! |---|---|---|
//! | hashing | [`header`], [`assignment`] | none |
//! | protocol | [`client`] with [`channel`] and [`submission`] | none: frames and time are arguments |
//! | an extension that carries the shares | [`ClientExtension`], [`desk`] | none but a bell |
//! | the older protocol | [`sv1`] | none: lines and time are arguments |
//! | one encrypted connection | [`link`] | a tokio socket |
//! | the miner: sessions, threads, figures | [`Miner`] | its own threads |

pub mod assignment;
pub mod channel;
pub mod client;
mod courier;
pub mod desk;
mod ended;
mod extension;
pub mod header;
mod lines;
pub mod link;
mod miner;
mod session;
mod stats;
pub mod submission;
pub mod sv1;
mod worker;

pub use assignment::{Assignment, ChannelKind, Share};
pub use client::{Client, ClientSettings};
pub use courier::{Carries, Courier};
pub use ended::Ended;
pub use extension::{ClientExtension, Exchange, Said, Verdict};
pub use miner::{Miner, MinerSettings};
pub use stats::{Note, State, Stats};
