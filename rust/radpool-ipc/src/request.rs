//! What the node can be asked, and what it answers.

use crate::template::CoreTemplate;

/// What a new template is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateOptions {
    /// Whether it has transactions.
    pub use_mempool: bool,
    /// Weight kept free for header, count and coinbase.
    pub reserved_weight: u64,
    /// Signature operations kept free for the coinbase's outputs.
    pub coinbase_sigops: u64,
    /// Whether the node may wait until it has caught up with the network.
    pub cooldown: bool,
}

/// A question to the node. Hashes are in internal byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Makes a template.
    CreateTemplate(TemplateOptions),
    /// Waits for another tip, or for fees that have risen; `NoTemplate` when the time is up.
    NextTemplate { template: u64, timeout_ms: u32, fee_rise_sats: Option<u64> },
    /// Gives in a header and a coinbase that solve a template.
    SubmitSolution { template: u64, version: u32, time: u32, nonce: u32, coinbase: Vec<u8> },
    /// Asks for a verdict on a whole block that need not have proof of work.
    CheckBlock(Vec<u8>),
    /// Gives in a whole block.
    SubmitBlock(Vec<u8>),
    /// Asks for transactions of the mempool.
    Transactions(Vec<[u8; 32]>),
    /// Asks by JSON-RPC.
    Rpc(String),
    /// Asks for the tip.
    Tip,
    /// Asks whether the node still downloads old blocks.
    IsSyncing,
}

/// What the node can do; that depends on its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether its chain is one for tests.
    pub is_test_chain: bool,
    /// Whether it finds transactions by their wtxid and takes whole blocks.
    pub finds_transactions: bool,
    /// Whether it answers JSON-RPC on the same socket.
    pub answers_rpc: bool,
}

/// An answer of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The connection is set up.
    Connected(Capabilities),
    /// A template.
    Template(Box<CoreTemplate>),
    /// The time was up, or the wait was interrupted.
    NoTemplate,
    /// What the node says of a solution or a block.
    Verdict { good: bool, reason: String, detail: String },
    /// One entry for each that was asked for; empty when the mempool has it not.
    Transactions(Vec<Vec<u8>>),
    /// The JSON text of the answer.
    Rpc(String),
    /// The tip's height and hash, when the node has one yet.
    Tip(Option<(u32, [u8; 32])>),
    /// Whether the node still downloads old blocks.
    Syncing(bool),
}
