//! One port for both Stratum versions.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use radpool_engine::{EngineEvent, EngineSettings, Translator};
use radpool_wire::{
    message::Message,
    noise::{ACT2_LEN, Initiator},
};

use crate::{
    harness::{Client, PATIENCE, Pool, open, settings, unix_s},
    translate::{Device, Rig, translating},
};

/// A pool and a translator that serves the SV1 devices at the pool's port by an account there.
fn house(settings: EngineSettings) -> (Pool, Rig) {
    let mut pool = Pool::start(settings);
    let mut rig = Rig::without_port(translating());
    pool.engine.set_sv1(Some(rig.translator.door().unwrap()));
    rig.mine_for(&mut pool, false);
    rig.address = pool.address;
    (pool, rig)
}

fn connect(pool: &Pool) -> TcpStream {
    let socket = TcpStream::connect(pool.address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// All that comes until the end of the connection.
fn last_words(socket: &mut TcpStream) -> String {
    let mut words = Vec::new();
    let _ = socket.read_to_end(&mut words);
    String::from_utf8(words).unwrap()
}

fn turned_away(pool: &Pool) -> Vec<u64> {
    let told = pool.events.iter().filter_map(|event| match event {
        EngineEvent::Sv1TurnedAway { total, .. } => Some(*total),
        _ => None,
    });
    told.collect()
}

#[test]
fn both_versions_have_shares_at_one_port() {
    let (mut pool, rig) = house(settings());
    let mut device = Device::connect(pool.address);
    device.greet("old");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until("\"method\":\"mining.notify\"");
    device.submit("old", 9);
    assert!(device.hear_until("\"id\":9,").contains("true"));
    pool.until(|pool| pool.shares.len() == 1);
    let (mut client, channel) = pool.miner();
    client.submit(channel, 3);
    pool.until(|pool| pool.shares.len() == 4);
    pool.acknowledge();
    client.acknowledged(3);
    pool.until(|_| rig.metric("pool_shares_accepted_total") == 1);
    assert_eq!(pool.metric("sv1_taken_in_total"), 1);
    // The miner, the device, and the translator itself.
    assert_eq!((pool.metric("sockets"), pool.metric("connections")), (3, 2));
    drop(device);
    pool.until(|pool| pool.metric("sockets") == 2);
    assert_eq!(pool.metric("sv1_turned_away_total"), 0);
}

#[test]
fn a_line_in_pieces_loses_none_of_them() {
    let (pool, _rig) = house(settings());
    let lines = "\r\n {\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"x\"]}\n\
                 {\"id\":2,\"method\":\"mining.ping\"}\n";
    for size in [1, 7, 64, lines.len()] {
        let mut device = Device::connect(pool.address);
        for piece in lines.as_bytes().chunks(size) {
            device.send(piece);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(device.hear().contains("\"id\":1,"), "in pieces of {size}");
        assert!(device.hear().contains("pong"), "in pieces of {size}");
    }
}

#[test]
fn a_handshake_that_begins_like_a_line_is_one() {
    let (pool, _rig) = house(settings());
    let (initiator, act1) = (0_u64..)
        .find_map(|number| {
            let mut secret = [1; 32];
            secret[..8].copy_from_slice(&number.to_be_bytes());
            let (initiator, act1) = Initiator::new(secret, [2; 32]).ok()?;
            (act1[0] == b'{').then_some((initiator, act1))
        })
        .unwrap();
    let mut socket = connect(&pool);
    for piece in act1.chunks(1) {
        socket.write_all(piece).unwrap();
    }
    let mut act2 = [0; ACT2_LEN];
    socket.read_exact(&mut act2).unwrap();
    initiator.finish(&act2, Some(&pool.authority), unix_s()).unwrap();
    assert_eq!(pool.metric("sv1_taken_in_total"), 0);
}

#[test]
fn who_does_not_say_who_calls_is_closed_in_time() {
    let (mut pool, rig) = house(EngineSettings { handshake_deadline_ms: 200, ..settings() });
    let mut waiting: Vec<TcpStream> = [&b""[..], b"{", b" \n", b"{\"id\":1}\n", &[b'x'; 63]]
        .into_iter()
        .map(|bytes| {
            let mut socket = connect(&pool);
            socket.write_all(bytes).unwrap();
            socket
        })
        .collect();
    for socket in &mut waiting {
        assert_eq!(last_words(socket), "");
    }
    pool.until(|pool| pool.metric("sockets") == 1);
    assert_eq!(pool.metric("handshakes_failed_total"), 5);
    assert_eq!(rig.metric("connections_accepted_total"), 0);
}

#[test]
fn devices_are_turned_away_in_words_where_nobody_serves_them() {
    let mut pool = Pool::start(settings());
    for _ in 0..3 {
        let mut socket = connect(&pool);
        // The second line lies unread when the connection ends.
        let subscribe = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
        socket.write_all(subscribe.repeat(2).as_bytes()).unwrap();
        let words = last_words(&mut socket);
        assert!(words.contains("client.show_message") && words.contains("Stratum V2"), "{words}");
    }
    pool.until(|pool| pool.metric("sockets") == 0);
    pool.until(|pool| !turned_away(pool).is_empty());
    assert_eq!(turned_away(&pool), [1], "one event a minute tells of all");
    assert_eq!(pool.metric("sv1_turned_away_total"), 3);
    assert_eq!(pool.metric("handshakes_failed_total"), 0);
}

#[test]
fn a_translator_that_has_gone_takes_nobody_in() {
    let (mut pool, rig) = house(settings());
    rig.translator.stop(PATIENCE);
    let mut socket = connect(&pool);
    socket.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").unwrap();
    assert!(last_words(&mut socket).contains("client.show_message"));
    drop(rig);
    let mut socket = connect(&pool);
    socket.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").unwrap();
    assert!(last_words(&mut socket).contains("client.show_message"));
    pool.until(|pool| pool.metric("sv1_turned_away_total") == 2);
    assert!(Translator::start(translating()).unwrap().door().is_ok());
}

#[test]
fn devices_meet_the_limits_of_the_port() {
    let (mut pool, rig) = house(EngineSettings {
        connections_max: 3,
        handshakes_per_second_per_address_max: 1,
        // The translator's own, two devices, and one whose place is gone.
        handshakes_burst_per_address_max: 4,
        ..settings()
    });
    let mut devices: Vec<Device> = (0..2).map(|_| Device::connect(pool.address)).collect();
    for device in &mut devices {
        device.say(r#"{"id":1,"method":"mining.ping"}"#);
        assert!(device.hear().contains("pong"));
    }
    assert_eq!(last_words(&mut connect(&pool)), "");
    assert_eq!(pool.metric("refused_connections_total"), 1);
    devices.clear();
    pool.until(|pool| pool.metric("sockets") == 1);
    let begun = Instant::now();
    while pool.metric("refused_handshakes_of_address_total") == 0 {
        let mut socket = connect(&pool);
        socket.write_all(b"{\"id\":1,\"method\":\"mining.ping\"}\n").unwrap();
        let _ = socket.read(&mut [0; 1]);
        assert!(begun.elapsed() < PATIENCE, "{:?}", pool.metrics());
    }
    assert!(rig.metric("connections_accepted_total") >= 3);
}

#[test]
fn the_translator_itself_is_bounded_by_its_devices_alone() {
    let mut strict = settings();
    let limits = &mut strict.mining.limits;
    (limits.channels, limits.requests_per_second, limits.requests_burst) = (2, 1, 2);
    (limits.submits_per_second, limits.submits_burst) = (1, 2);
    let (mut pool, rig) = house(strict);
    let mut devices: Vec<Device> = (0..8).map(|_| Device::connect(pool.address)).collect();
    for (index, device) in devices.iter_mut().enumerate() {
        device.greet(&format!("w{index}"));
    }
    pool.until(|_| rig.metric("upstream_channels") == 9);
    for (index, device) in devices.iter_mut().enumerate() {
        device.hear_until("\"method\":\"mining.notify\"");
        device.submit(&format!("w{index}"), 9);
        assert!(device.hear_until("\"id\":9,").contains("true"));
    }
    pool.until(|pool| pool.shares.len() == 8);
    // Everybody else keeps to them.
    let mut client = Client::connect(&pool);
    client.set_up();
    (1..=3).for_each(|request| client.send(&open(request)));
    client.closed();
    pool.until(|pool| pool.metric("closed_request_rate_exceeded_total") == 1);
}

#[test]
fn devices_outlive_the_pool_that_took_them_in() {
    let (mut pool, mut rig) = house(settings());
    let mut device = Device::connect(pool.address);
    device.greet("old");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until(",true]}");
    pool.engine.stop(PATIENCE);
    let mut next = Pool::start(settings());
    next.engine.set_sv1(Some(rig.translator.door().unwrap()));
    rig.mine_for(&mut next, false);
    next.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until(",true]}");
    device.submit("old", 9);
    assert!(device.hear_until("\"id\":9,").contains("true"));
    next.until(|pool| pool.shares.len() == 1);
}

#[test]
fn a_client_of_the_newer_version_is_not_disturbed_by_crowds_of_the_older_one() {
    let (mut pool, _rig) = house(settings());
    let (mut client, channel) = pool.miner();
    let address = pool.address;
    for _ in 0..100 {
        let mut device = TcpStream::connect(address).unwrap();
        device.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\"}\n{\"id\":").unwrap();
    }
    client.submit(channel, 1);
    pool.until(|pool| pool.shares.len() == 1);
    pool.until(|pool| pool.metric("sockets") == 2);
    let mut second = Client::connect(&pool);
    second.set_up();
    second.send(&open(1));
    let opened = pool.opened(&mut second);
    second.submit(opened, 1);
    pool.until(|pool| pool.shares.len() == 2);
    pool.acknowledge();
    second.expect(|message| matches!(message, Message::SubmitSharesSuccess(_)).then_some(()));
}
