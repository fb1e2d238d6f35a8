//! The translator over real sockets: SV1 devices on one side, engines on the other.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use radpool_engine::{EngineEvent, Translator, TranslatorEvent, TranslatorSettings, UpstreamPlace};
use radpool_miner::Ended;
use radpool_mining::Event;
use radpool_sv1::{DeviceClose, DeviceSettings, UpstreamSettings};
use radpool_units::Exponent;

use crate::harness::{PATIENCE, Pool, settings, template, tip};

pub(crate) fn translating() -> TranslatorSettings {
    TranslatorSettings {
        device: DeviceSettings {
            shares_per_minute: 6,
            exponent_start: Exponent::MAX,
            exponent_min: Exponent::MIN,
            handshake_deadline_ms: 10_000,
            silence_ms: 10_000,
            keepalive_ms: 10_000,
            ntime_ahead_s: 7_200,
            submits_per_second: 10_000,
            submits_burst: 10_000,
            requests_per_second: 100,
            requests_burst: 100,
            malformed_max: 8,
            names_max: 8,
            jobs_max: 16,
        },
        user: None,
        nominal_hash_rate: 1e12,
        linger_ms: 60_000,
        io_threads: 2,
        connections_max: 100,
        connections_per_address_max: 100,
        connects_per_second_per_address_max: 1_000,
        connects_burst_per_address_max: 1_000,
        tls_handshakes_max: 16,
        tls_handshakes_per_address_max: 8,
        tls_handshake_deadline_ms: 10_000,
        line_deadline_ms: 10_000,
        write_deadline_ms: 10_000,
        seen_shares_max: 100_000,
    }
}

/// A translator on loopback and what it said.
pub(crate) struct Rig {
    pub(crate) translator: Translator,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<TranslatorEvent>,
    /// On each connection to a pool.
    channels_max: usize,
}

impl Rig {
    pub(crate) fn start(settings: TranslatorSettings) -> Self {
        let translator = Translator::start(settings).unwrap();
        let address = translator.listen("127.0.0.1", 0).unwrap();
        Self { translator, address, events: vec![], channels_max: 100 }
    }

    /// One to which devices come by another port.
    pub(crate) fn without_port(settings: TranslatorSettings) -> Self {
        let translator = Translator::start(settings).unwrap();
        Self {
            translator,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            events: vec![],
            channels_max: 100,
        }
    }

    /// Connects to a pool and mines for it.
    pub(crate) fn mine_for(&mut self, pool: &mut Pool, aggregated: bool) -> u64 {
        let upstream = self.connect(pool, aggregated, None);
        self.translator.use_upstream(upstream, Some(12)).unwrap();
        upstream
    }

    /// Connects to a pool and waits until it works.
    fn connect(&mut self, pool: &mut Pool, aggregated: bool, user: Option<&str>) -> u64 {
        let settings = UpstreamSettings {
            host: "127.0.0.1".into(),
            port: pool.address.port(),
            vendor: "test".into(),
            version: "0".into(),
            extensions: vec![],
            user: "us".into(),
            probe_required: true,
            nominal_hash_rate: 1e12,
            linger_ms: 60_000,
            channels_max: self.channels_max,
            aggregated,
            carrier: None,
        };
        let place = UpstreamPlace {
            authority: Some(pool.authority),
            settings,
            user: user.map(str::to_owned),
            desk: None,
        };
        let upstream = self.translator.connect(place).unwrap();
        let translator = &self.translator;
        let mut events = vec![];
        pool.until(|_| {
            events.extend(translator.drain().0);
            events.iter().any(|event| {
                matches!(event, TranslatorEvent::UpstreamReady { upstream: ready, .. } if *ready == upstream)
            })
        });
        self.events.extend(events);
        upstream
    }

    #[track_caller]
    pub(crate) fn until(&mut self, mut holds: impl FnMut(&[TranslatorEvent]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.events.extend(self.translator.drain().0);
            if holds(&self.events) {
                return;
            }
            assert!(Instant::now() < deadline, "{:?}", self.events);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn until_left(&mut self, wanted: DeviceClose) {
        self.until(|events| {
            events.iter().any(|event| matches!(event, TranslatorEvent::DeviceLeft { reason, .. } if *reason == wanted))
        });
    }

    pub(crate) fn metric(&self, name: &str) -> u128 {
        let metrics = self.translator.metrics();
        metrics.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }
}

/// A device with a socket of its own.
pub(crate) struct Device<S: Read + Write = TcpStream> {
    pub(crate) reader: BufReader<S>,
    job: String,
    ntime: String,
}

impl Device {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(socket)
    }
}

impl<S: Read + Write> Device<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { reader: BufReader::new(stream), job: String::new(), ntime: String::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line; empty at the end of the connection.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        if line.contains("\"method\":\"mining.notify\"") {
            let parts: Vec<&str> = line.split('"').collect();
            self.job = parts[9].into();
            self.ntime = parts[parts.len() - 2].into();
        }
        line
    }

    #[track_caller]
    pub(crate) fn hear_until(&mut self, part: &str) -> String {
        loop {
            let line = self.hear();
            assert!(!line.is_empty(), "it ended before {part}");
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn greet(&mut self, user: &str) {
        self.say(r#"{"id":1,"method":"mining.subscribe","params":["test"]}"#);
        self.say(&format!(r#"{{"id":2,"method":"mining.authorize","params":["{user}","x"]}}"#));
    }

    pub(crate) fn submit(&mut self, user: &str, id: u32) {
        let (job, ntime) = (&self.job, &self.ntime);
        let line = format!(
            r#"{{"id":{id},"method":"mining.submit","params":["{user}","{job}","{id:016x}","{ntime}","00000001"]}}"#
        );
        self.say(&line);
    }
}

#[test]
fn shares_of_devices_are_the_pools_byte_for_byte() {
    for aggregated in [false, true] {
        let mut pool = Pool::start(settings());
        let mut rig = Rig::start(translating());
        rig.mine_for(&mut pool, aggregated);
        let mut devices: Vec<Device> = (0..3).map(|_| Device::connect(rig.address)).collect();
        for (index, device) in devices.iter_mut().enumerate() {
            device.greet(&format!("w{index}"));
        }
        pool.until(|_| rig.metric("upstream_channels") == if aggregated { 1 } else { 4 });
        for (index, device) in devices.iter_mut().enumerate() {
            device.hear_until("\"method\":\"mining.notify\"");
            for id in 10..15 {
                device.submit(&format!("w{index}"), id);
                assert!(device.hear_until(&format!("\"id\":{id},")).contains("true"));
            }
        }
        // The engine has computed each hash anew: what it takes is what was hashed.
        pool.until(|pool| pool.shares.len() == 15);
        pool.engine.acknowledge(&pool.shares, &[(0, "stale-share".into())]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while rig.metric("pool_shares_accepted_total") < 14 || rig.metric("shares_unanswered") > 0 {
            assert!(Instant::now() < deadline, "{:?}", rig.translator.metrics());
            std::thread::sleep(Duration::from_millis(1));
        }
        let clients = rig.translator.clients(&rig.translator.devices());
        let accepted: u64 = clients.iter().map(|client| client.figures.pool_accepted).sum();
        let rejected = clients.iter().filter(|client| !client.figures.pool_rejected.is_empty());
        assert_eq!((clients.len(), accepted, rejected.count()), (3, 14, 1));
        rig.translator.stop(PATIENCE);
    }
}

#[test]
fn new_tips_reach_every_device_and_another_pool_is_a_job_like_any_other() {
    let (mut first, mut second) = (Pool::start(settings()), Pool::start(settings()));
    let mut rig = Rig::start(translating());
    rig.mine_for(&mut first, false);
    let mut device = Device::connect(rig.address);
    device.greet("a");
    first.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until(",true]}");
    first.engine.publish_template(template(2), Some(tip(2, 2))).unwrap();
    device.hear_until(",true]}");
    rig.mine_for(&mut second, false);
    second.until(|pool| pool.events.len() >= 4);
    device.hear_until(",true]}");
    device.submit("a", 20);
    assert!(device.hear_until("\"id\":20,").contains("true"));
    second.until(|pool| pool.shares.len() == 1);
    assert!(first.shares.is_empty());
}

#[test]
fn a_lost_pool_is_told_and_its_devices_go_when_nothing_follows() {
    let mut pool = Pool::start(settings());
    let mut slow = translating();
    slow.device.silence_ms = 200;
    let mut rig = Rig::start(slow);
    let upstream = rig.mine_for(&mut pool, false);
    let mut device = Device::connect(rig.address);
    device.greet("a");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until(",true]}");
    pool.engine.stop(PATIENCE);
    rig.until(|events| {
        events.iter().any(|event| matches!(event, TranslatorEvent::UpstreamEnded { upstream: ended, .. } if *ended == upstream))
    });
    assert_eq!(device.hear(), "");
    rig.until_left(DeviceClose::NoWork);
    assert!(rig.translator.use_upstream(upstream, None).is_err());
}

#[test]
fn whoever_drips_floods_or_does_not_read_is_closed_and_nobody_else() {
    let mut pool = Pool::start(settings());
    let mut strict = translating();
    (strict.line_deadline_ms, strict.device.handshake_deadline_ms) = (100, 100);
    let mut rig = Rig::start(strict);
    rig.mine_for(&mut pool, false);
    let mut honest = Device::connect(rig.address);
    honest.greet("a");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    honest.hear_until(",true]}");
    for bytes in [&b""[..], b"{\"id\":", &[b'x'; 100_000]] {
        let mut stranger = Device::connect(rig.address);
        // It may have been closed before all of it was taken.
        let _ = stranger.reader.get_mut().write_all(bytes);
        let mut rest = Vec::new();
        let _ = stranger.reader.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    let deadline = Instant::now() + PATIENCE;
    while rig.metric("devices") > 1 {
        assert!(Instant::now() < deadline, "{:?}", rig.translator.metrics());
        std::thread::sleep(Duration::from_millis(1));
    }
    honest.submit("a", 30);
    assert!(honest.hear_until("\"id\":30,").contains("true"));
    let closed = ["handshake_timeout", "line_timeout", "line_too_long"];
    let total: u128 =
        closed.iter().map(|reason| rig.metric(&format!("closed_{reason}_total"))).sum();
    assert_eq!(total, 3);
}

#[test]
fn connections_are_bounded() {
    let mut few = translating();
    few.connections_max = 2;
    let rig = Rig::start(few);
    let mut kept: Vec<Device> = (0..2).map(|_| Device::connect(rig.address)).collect();
    for device in &mut kept {
        device.say(r#"{"id":1,"method":"mining.ping"}"#);
        assert!(device.hear().contains("pong"));
    }
    assert_eq!(Device::connect(rig.address).hear(), "");
    assert_eq!(rig.metric("connections_refused_total"), 1);
}

#[test]
fn stopping_says_goodbye_to_devices_and_pools() {
    let mut pool = Pool::start(settings());
    let mut rig = Rig::start(translating());
    let upstream = rig.mine_for(&mut pool, false);
    let mut device = Device::connect(rig.address);
    device.greet("a");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until(",true]}");
    rig.translator.stop(PATIENCE);
    device.hear_until("client.reconnect");
    assert_eq!(device.hear(), "");
    let (events, stopped) = rig.translator.drain();
    assert!(stopped);
    assert!(events.iter().any(|event| matches!(
        event,
        TranslatorEvent::UpstreamEnded { upstream: ended, ended: Ended::Stopped } if *ended == upstream
    )));
    assert!(rig.translator.listen("127.0.0.1", 0).is_err());
}

#[test]
fn devices_that_are_assigned_mine_for_their_own_pool_only() {
    let (mut first, mut second) = (Pool::start(settings()), Pool::start(settings()));
    let mut rig = Rig::start(translating());
    rig.translator.assign_each();
    rig.mine_for(&mut first, false);
    let other = rig.connect(&mut second, true, None);
    let mut device = Device::connect(rig.address);
    device.greet("a");
    rig.until(|events| {
        events.iter().any(|event| matches!(event, TranslatorEvent::DeviceJoined { .. }))
    });
    let [client] = &rig.translator.clients(&rig.translator.devices())[..] else {
        panic!("one device")
    };
    let number = client.device;
    assert_eq!((client.figures.jobs, rig.metric("upstream_channels")), (0, 2));
    rig.translator.assign(&[number, 99], other).unwrap();
    device.hear_until(",true]}");
    device.submit("a", 20);
    assert!(device.hear_until("\"id\":20,").contains("true"));
    second.until(|pool| pool.shares.len() == 1);
    assert!(first.shares.is_empty() && rig.metric("upstream_channels") == 2);
    assert!(rig.translator.assign(&[number], 99).is_err());
}

/// As whom a channel was asked for.
fn asked_for(event: &EngineEvent) -> Option<String> {
    match event {
        EngineEvent::Mining { event: Event::ChannelRequested { user_identity, .. }, .. } => {
            Some(String::from_utf8_lossy(user_identity).into_owned())
        }
        _ => None,
    }
}

#[test]
fn each_pool_may_know_its_miners_by_another_name_and_refusals_are_shown() {
    let mut pool = Pool::start(settings());
    let mut rig = Rig::start(TranslatorSettings { user: Some("us".into()), ..translating() });
    let upstream = rig.connect(&mut pool, false, Some("them"));
    rig.translator.use_upstream(upstream, None).unwrap();
    let (mut plain, mut knows) = (Device::connect(rig.address), Device::connect(rig.address));
    plain.greet("a.rig");
    knows.say(r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.12"]}"#);
    knows.say(r#"{"id":2,"method":"mining.authorize","params":["b","x"]}"#);
    pool.until(|_| rig.metric("upstream_channels") == 3);
    plain.hear_until(",true]}");
    knows.hear_until(",true]}");
    let asked: Vec<String> = pool.events.iter().filter_map(asked_for).collect();
    assert!(asked.contains(&"them.rig".into()) && asked.contains(&"them.b".into()), "{asked:?}");
    let devices: Vec<u64> = rig
        .translator
        .clients(&rig.translator.devices())
        .iter()
        .map(|client| client.device)
        .collect();
    rig.translator.show(&devices, "the wallet is full");
    assert!(knows.hear_until("client.show_message").contains("the wallet is full"));
    plain.say(r#"{"id":9,"method":"mining.ping"}"#);
    assert!(plain.hear().contains("pong"), "nothing came before");
}

#[test]
fn a_refused_device_is_shown_why_and_nobody_else_is() {
    let mut pool = Pool::start(settings());
    let mut rig = Rig::start(translating());
    rig.channels_max = 2;
    rig.mine_for(&mut pool, false);
    let mut first = Device::connect(rig.address);
    first.greet("first");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    first.hear_until(",true]}");
    let mut refused = Device::connect(rig.address);
    refused.say(r#"{"id":1,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.14.0"]}"#);
    refused.say(r#"{"id":2,"method":"mining.authorize","params":["second","x"]}"#);
    let shown = refused.hear_until("client.show_message");
    assert!(shown.contains("The pool refuses: channel-capacity-exhausted"), "{shown}");
    rig.until(|events| {
        events.iter().any(|event| matches!(event, TranslatorEvent::ChannelRefused { .. }))
    });
    first.submit("first", 20);
    assert!(first.hear().contains("\"id\":20,\"result\":true"));
}
