//! The machine as its clients see it: every message, every code, both sides of every bound.

#![allow(clippy::unwrap_used)]

mod harness;

mod channel;
mod extension;
mod job;
mod limit;
mod open;
mod oracle;
mod property;
mod repeat;
mod setup;
mod share;
mod vardiff;
