//! Stratum V2 on the wire: frames, Noise, keys and messages. The only crate that names SRI crates.
//!
//! Everything is sans-IO: bytes in, bytes or values out, time and randomness are arguments.
//!
//! A connection is read in three layers, each bounded before it allocates:
//!
//! 1. [`noise`] turns 64 and 234 handshake bytes into a [`noise::Sealer`] and a [`noise::Opener`];
//! 2. [`reader::FrameReader`] cuts the incoming stream into frames, asking the caller about each
//!    header before it keeps a byte of the payload;
//! 3. [`message::Message::decode`] turns a frame into a value. What follows the last field is a
//!    tail of [`tlv`] fields.
//!
//! No byte of a peer makes this crate panic, loop or allocate more than the caller's cap.

mod codec;
pub mod error_code;
pub mod frame;
pub mod keys;
pub mod message;
pub mod noise;
pub mod reader;
pub mod tlv;

pub use codec::{DecodeError, EncodeError};
