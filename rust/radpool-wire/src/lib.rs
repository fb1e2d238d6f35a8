//! Stratum V2 on the wire: frames, Noise, keys and messages. The only crate that names SRI crates.

pub mod message;
