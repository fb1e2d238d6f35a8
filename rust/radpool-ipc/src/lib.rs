//! A client of Bitcoin Core's mining interface over its unix socket (Cap'n Proto).
//!
//! Works with Bitcoin Core 31 (`bitcoin-node -ipcbind=unix`) and later, and finds out what the node
//! can do beyond that. The schemas come from `bitcoin-capnp-types`, which generates them from
//! Bitcoin Core's own files.
//!
//! Source: Bitcoin Core, `src/ipc/capnp/{init,mining,rpc}.capnp`, `src/interfaces/mining.h`.

mod bell;
pub mod block;
mod error;
mod node;
mod request;
mod session;
mod template;

pub use error::{IpcError, RequestError};
pub use node::{CONNECTED, Node, NodeSettings, Outcome, REQUESTS_MAX};
pub use request::{Answer, Capabilities, Request, TemplateOptions};
pub use session::TEMPLATES_MAX;
pub use template::{CoinbaseParts, CoreTemplate};
