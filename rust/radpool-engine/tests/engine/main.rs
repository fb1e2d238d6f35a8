//! The engine over real sockets on loopback, with clients that speak through `radpool-wire`.

mod harness;

mod block;
mod limit;
mod pressure;
mod share;
mod stop;
