//! The machine as its clients see it: every message, every code, both sides of every bound.

#![allow(clippy::unwrap_used)]

mod harness;

mod channel;
mod custom;
mod declarator;
mod extension;
mod job;
mod limit;
mod open;
mod oracle;
mod oracle_custom;
mod property;
mod property_custom;
mod repeat;
mod setup;
mod share;
mod vardiff;
