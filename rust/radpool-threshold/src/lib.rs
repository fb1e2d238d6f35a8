//! Keys that no member holds alone, and the links that members speak over.
//!
//! - [`frost`]: key generation in three rounds over a broadcast, with blame that anyone can check;
//!   signing with single-use nonces and all cheaters named.
//! - [`link`]: a Noise XK link between two members as a machine without IO.
//!
//! Nothing here reads a clock, a socket or a disk; randomness is an argument. Whatever bytes a peer
//! sends, the answer is a value or a typed error, never a panic. Secrets are wiped when they are
//! dropped and are never shown by `Debug`.

pub mod frost;
pub mod link;
mod read;
mod seal;
mod stored;
mod transport_key;

pub use stored::StoredKeyError;
pub use transport_key::TransportKey;
