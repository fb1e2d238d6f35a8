//! Key generation and signing with members that deal badly, lie, repeat or are silent.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod generation;
mod hostile;
mod invariant;
mod rig;
mod signing;
