//! What devices say and are told, to the byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod caller;
mod channel;
mod exploit;
mod firmware;
mod golden;
mod harness;
mod pool;
