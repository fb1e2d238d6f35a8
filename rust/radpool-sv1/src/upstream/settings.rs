//! What a connection is told once.

use radpool_miner::ClientExtension;

/// What a connection says about itself and asks for.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub host: String,
    pub port: u16,
    pub vendor: String,
    pub version: String,
    /// Extensions to ask for; with none the negotiation is left out.
    pub extensions: Vec<u16>,
    /// The name of the probe channel.
    pub user: String,
    /// Whether a pool that refuses the probe channel is of no use.
    pub probe_required: bool,
    /// Hashes a second to declare for the probe channel.
    pub nominal_hash_rate: f32,
    /// How long a channel without a device stays open.
    pub linger_ms: u64,
    pub channels_max: usize,
    /// Whether all devices share one channel.
    pub aggregated: bool,
    /// The extension that opens channels and carries their shares.
    pub carrier: Option<ClientExtension>,
}

impl UpstreamSettings {
    /// All extensions to ask for.
    pub(super) fn wanted(&self) -> Vec<u16> {
        let mut wanted = self.extensions.clone();
        let carrier = self.carrier.as_ref().map(|carrier| carrier.extension_type);
        wanted.extend(carrier.filter(|carrier| !self.extensions.contains(carrier)));
        wanted
    }
}
