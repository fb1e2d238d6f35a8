//! The engine over real sockets on loopback, with clients that speak through `radpool-wire`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

mod block;
mod encrypted;
mod extension;
mod limit;
mod port;
mod pressure;
mod share;
mod stop;
mod translate;
