//! Who may connect, and how many handshakes there may be before they cost anything.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

/// Why someone is turned away before any cryptography.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many connections as the engine serves.
    Connections,
    /// As many connections as one address may have.
    ConnectionsOfAddress,
    /// More handshakes than one address may ask for.
    HandshakesOfAddress,
}

/// A rate with a burst, as the moment at which the bucket would be full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_ns: u64,
}

/// What a bucket allows.
#[derive(Clone, Copy, Debug)]
struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(per_second.max(1));
        Self { interval_ns, burst_ns: interval_ns * u64::from(burst.max(1)) }
    }
}

impl Bucket {
    /// How long the next one has to wait, in nanoseconds.
    fn delay_ns(self, rate: Rate, now_ns: u64) -> u64 {
        let full_ns = self.full_ns.max(now_ns) + rate.interval_ns;
        full_ns.saturating_sub(now_ns + rate.burst_ns)
    }

    fn take(&mut self, rate: Rate, now_ns: u64) {
        self.full_ns = self.full_ns.max(now_ns) + rate.interval_ns;
    }
}

/// How many connections and handshakes there may be, in all and per address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateLimits {
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    pub(crate) handshakes_per_second_max: u32,
    pub(crate) handshakes_burst_max: u32,
    pub(crate) handshakes_per_second_per_address_max: u32,
    pub(crate) handshakes_burst_per_address_max: u32,
}

/// Counts connections and handshakes, in all and per address.
#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: usize,
    connections_per_address_max: usize,
    handshakes: Rate,
    handshakes_of_address: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    handshakes: Bucket,
    addresses: HashMap<IpAddr, Address>,
    /// Size of `addresses` at which entries that say nothing are thrown out.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    handshakes: Bucket,
}

/// The addresses that always fit: sweeping smaller tables would cost more than it gives back.
const SWEEP_MIN: usize = 1024;

impl Gate {
    pub(crate) fn new(limits: &GateLimits) -> Self {
        Self {
            connections_max: limits.connections_max,
            connections_per_address_max: limits.connections_per_address_max,
            handshakes: Rate::new(limits.handshakes_per_second_max, limits.handshakes_burst_max),
            handshakes_of_address: Rate::new(
                limits.handshakes_per_second_per_address_max,
                limits.handshakes_burst_per_address_max,
            ),
            state: Mutex::new(State { sweep_at: SWEEP_MIN, ..State::default() }),
        }
    }

    /// How many connections there are, in the handshake or behind it.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Lets a connection in, or says which limit it meets. Dropping the admission lets it out.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: SocketAddr,
        now_ns: u64,
    ) -> Result<Admission, Refusal> {
        let key = prefix(peer.ip());
        let mut state = self.state.lock();
        if state.connections >= self.connections_max {
            return Err(Refusal::Connections);
        }
        if state.addresses.len() >= state.sweep_at {
            state.sweep(now_ns);
        }
        let address = state.addresses.entry(key).or_default();
        if address.connections >= self.connections_per_address_max {
            return Err(Refusal::ConnectionsOfAddress);
        }
        address.connections += 1;
        state.connections += 1;
        Ok(Admission { gate: Arc::clone(self), key })
    }
}

impl State {
    fn sweep(&mut self, now_ns: u64) {
        self.addresses
            .retain(|_, address| address.connections > 0 || address.handshakes.full_ns > now_ns);
        self.sweep_at = (self.addresses.len() * 2).max(SWEEP_MIN);
    }
}

/// The right to be connected; counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    key: IpAddr,
}

impl Admission {
    /// Books a handshake and returns how long to wait before it.
    ///
    /// The engine's rate delays, so that a crowd that reconnects is served one after another; the
    /// address's rate refuses, so that one address cannot make the crowd wait.
    pub(crate) fn book_handshake(&self, now_ns: u64) -> Result<Duration, Refusal> {
        let gate = &self.gate;
        let mut state = gate.state.lock();
        let state = &mut *state;
        let address = state.addresses.entry(self.key).or_default();
        if address.handshakes.delay_ns(gate.handshakes_of_address, now_ns) > 0 {
            return Err(Refusal::HandshakesOfAddress);
        }
        address.handshakes.take(gate.handshakes_of_address, now_ns);
        let delay_ns = state.handshakes.delay_ns(gate.handshakes, now_ns);
        state.handshakes.take(gate.handshakes, now_ns);
        Ok(Duration::from_nanos(delay_ns))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.connections -= 1;
        if let Some(address) = state.addresses.get_mut(&self.key) {
            address.connections -= 1;
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 customer gets.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineSettings, settings::tests::settings};

    const SECOND: u64 = 1_000_000_000;

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::new(&GateLimits {
            connections_max: 3,
            connections_per_address_max: 2,
            handshakes_per_second_max: 10,
            handshakes_burst_max: 3,
            handshakes_per_second_per_address_max: 1,
            handshakes_burst_per_address_max: 2,
        }))
    }

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    #[test]
    fn connections_are_bounded_and_given_back() {
        let gate = gate();
        let first = gate.admit(peer("10.0.0.1"), 0).unwrap();
        let second = gate.admit(peer("::ffff:10.0.0.1"), 0).unwrap();
        let refused = gate.admit(peer("10.0.0.1"), 0).unwrap_err();
        assert_eq!(refused, Refusal::ConnectionsOfAddress);
        let third = gate.admit(peer("10.0.0.2"), 0).unwrap();
        assert_eq!(gate.admit(peer("10.0.0.3"), 0).unwrap_err(), Refusal::Connections);
        drop(first);
        let again = gate.admit(peer("10.0.0.1"), 0).unwrap();
        drop((second, third, again));
        assert_eq!(gate.connections(), 0);
    }

    #[test]
    fn an_address_in_ipv6_is_a_64() {
        assert_eq!(
            prefix("2001:db8:1:2:3::4".parse().unwrap()),
            prefix("2001:db8:1:2::9".parse().unwrap())
        );
        assert_ne!(
            prefix("2001:db8:1:2::".parse().unwrap()),
            prefix("2001:db8:1:3::".parse().unwrap())
        );
    }

    #[test]
    fn the_address_rate_refuses_and_recovers() {
        let gate = gate();
        let admission = gate.admit(peer("10.0.0.1"), 0).unwrap();
        assert_eq!(admission.book_handshake(0), Ok(Duration::ZERO));
        assert_eq!(admission.book_handshake(0), Ok(Duration::ZERO));
        assert_eq!(admission.book_handshake(0), Err(Refusal::HandshakesOfAddress));
        assert_eq!(admission.book_handshake(SECOND - 1), Err(Refusal::HandshakesOfAddress));
        assert!(admission.book_handshake(SECOND).is_ok());
    }

    #[test]
    fn the_engine_rate_delays() {
        let settings =
            EngineSettings { handshakes_per_second_max: 10, handshakes_burst_max: 3, ..settings() };
        let gate = Arc::new(Gate::new(&settings.gate()));
        let admission = gate.admit(peer("10.0.0.1"), 0).unwrap();
        let delays: Vec<u64> =
            (0..6).map(|_| admission.book_handshake(0).unwrap().as_millis() as u64).collect();
        assert_eq!(delays, [0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn addresses_that_say_nothing_are_forgotten() {
        let gate = gate();
        for number in 0..2 * SWEEP_MIN as u32 {
            let ip = IpAddr::V4((0x0a00_0000 + number).into());
            gate.admit(SocketAddr::new(ip, 1), SECOND).unwrap();
        }
        assert!(gate.state.lock().addresses.len() <= SWEEP_MIN);
    }
}
