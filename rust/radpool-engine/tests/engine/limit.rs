//! Bounds on connections, handshakes and frames, and clients that vanish.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use radpool_engine::{EngineEvent, EngineSettings};
use radpool_mining::{CloseReason, Event};
use radpool_wire::message::Message;

use crate::harness::{Client, PATIENCE, Pool, open, settings};

/// Whether the pool closes the socket without a word.
fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_))
}

#[test]
fn connections_beyond_the_limit_are_closed_and_places_come_back() {
    let mut pool = Pool::start(EngineSettings { connections_max: 2, ..settings() });
    let first = Client::connect(&pool);
    let _second = Client::connect(&pool);
    assert!(is_closed(&mut TcpStream::connect(pool.address).unwrap()));
    assert_eq!(pool.metric("refused_connections_total"), 1);
    drop(first);
    pool.until(|pool| pool.metric("sockets") == 1);
    Client::connect(&pool).set_up();
}

#[test]
fn connections_of_one_address_are_limited() {
    let pool = Pool::start(EngineSettings { connections_per_address_max: 1, ..settings() });
    let _first = Client::connect(&pool);
    assert!(is_closed(&mut TcpStream::connect(pool.address).unwrap()));
    assert_eq!(pool.metric("refused_connections_of_address_total"), 1);
}

#[test]
fn handshakes_of_one_address_are_refused_before_they_cost() {
    let limits = EngineSettings {
        handshakes_per_second_per_address_max: 1,
        handshakes_burst_per_address_max: 2,
        ..settings()
    };
    let pool = Pool::start(limits);
    let _clients = [Client::connect(&pool), Client::connect(&pool)];
    let mut third = TcpStream::connect(pool.address).unwrap();
    third.write_all(&[1; 64]).unwrap();
    assert!(is_closed(&mut third));
    assert_eq!(pool.metric("handshakes_total"), 2);
    assert_eq!(pool.metric("refused_handshakes_of_address_total"), 1);
}

#[test]
fn handshakes_in_all_wait_their_turn() {
    let limits =
        EngineSettings { handshakes_per_second_max: 20, handshakes_burst_max: 1, ..settings() };
    let pool = Pool::start(limits);
    let begun = Instant::now();
    (0..5).for_each(|_| drop(Client::connect(&pool)));
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    assert!(pool.metric("handshakes_delayed_total") >= 3);
}

#[test]
fn a_handshake_that_is_not_finished_in_time_ends() {
    let mut pool = Pool::start(EngineSettings { handshake_deadline_ms: 100, ..settings() });
    let mut silent = TcpStream::connect(pool.address).unwrap();
    let mut slow = TcpStream::connect(pool.address).unwrap();
    slow.write_all(&[1; 63]).unwrap();
    assert!(is_closed(&mut silent) && is_closed(&mut slow));
    pool.until(|pool| pool.metric("sockets") == 0);
    assert_eq!(pool.metric("handshakes_failed_total"), 2);
}

#[test]
fn an_announced_frame_that_never_comes_ends_the_connection() {
    let mut pool = Pool::start(EngineSettings { frame_deadline_ms: 200, ..settings() });
    let (mut client, channel) = pool.miner();
    let share = client.share(channel);
    // The header of 22 bytes and a little of what it announces, drop by drop.
    client.socket.write_all(&share[..22]).unwrap();
    for byte in &share[22..26] {
        std::thread::sleep(Duration::from_millis(40));
        client.socket.write_all(&[*byte]).unwrap();
    }
    client.closed();
    pool.until(|pool| pool.metric("closed_frame_timeout_total") == 1);
    assert!(pool.shares.is_empty());
}

#[test]
fn a_frame_above_its_bound_is_refused_by_its_header() {
    let mut pool = Pool::start(settings());
    let mut client = Client::connect(&pool);
    client.set_up();
    let mut plain = vec![0, 0, 0x10, 0xff, 0xff, 0xff];
    plain.resize(6 + 0x00ff_ffff, 0);
    let mut sealed = Vec::new();
    client.sealer.seal_frame(&plain, &mut sealed).unwrap();
    client.socket.write_all(&sealed[..22]).unwrap();
    client.closed();
    pool.until(|pool| pool.metric("closed_frame_too_large_total") == 1);
}

#[test]
fn altered_bytes_end_the_connection() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    let mut share = client.share(channel);
    share[30] ^= 1;
    client.socket.write_all(&share).unwrap();
    client.closed();
    pool.until(|pool| pool.metric("closed_decrypt_failed_total") == 1);
}

#[test]
fn a_last_error_reaches_a_client_that_still_sends() {
    let mut pool = Pool::start(settings());
    let mut client = Client::connect(&pool);
    let setup = Message::SetupConnection(radpool_wire::message::SetupConnection {
        protocol: radpool_wire::message::Protocol::JobDeclaration,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: vec![],
        endpoint_port: 1,
        vendor: vec![],
        hardware_version: vec![],
        firmware: vec![],
        device_id: vec![],
    });
    // What follows the refused message lies unread in the pool's socket when it closes.
    let bytes: Vec<u8> = (0..2000).flat_map(|_| client.sealed(&setup)).collect();
    let _ = client.socket.write_all(&bytes);
    client.expect(|message| matches!(message, Message::SetupConnectionError(_)).then_some(()));
    client.closed();
    pool.until(|pool| pool.metric("connections") == 0);
    assert_eq!(pool.metric("closed_setup_refused_total"), 1);
}

#[test]
fn hundreds_of_clients_that_vanish_leave_no_trace() {
    let mut pool = Pool::start(settings());
    let address = pool.address;
    for round in 0..4 {
        let silent: Vec<_> = (0..75)
            .map(|number| {
                let mut socket = TcpStream::connect(address).unwrap();
                socket.write_all(&[5; 64][..number % 65]).unwrap();
                socket
            })
            .collect();
        drop(silent);
        for number in 0..75 {
            let mut client = Client::connect(&pool);
            if (number + round) % 3 > 0 {
                client.set_up();
            }
            if (number + round) % 3 > 1 {
                client.send(&open(1));
            }
        }
    }
    pool.until(|pool| pool.metric("sockets") == 0 && pool.metric("connections") == 0);
    pool.until(|pool| pool.metric("events_waiting") == 0);
    let metrics = pool.metrics();
    assert_eq!(metrics["channels"], 0, "{metrics:?}");
    assert_eq!(metrics["tasks_panicked_total"], 0);
    let set_up = |event: &&EngineEvent| {
        matches!(event, EngineEvent::Mining { event: Event::SetUp { .. }, .. })
    };
    let gone = |event: &&EngineEvent| matches!(event, EngineEvent::Disconnected { .. });
    let count = |fits: &dyn Fn(&&EngineEvent) -> bool| pool.events.iter().filter(fits).count();
    assert_eq!(count(&set_up), count(&gone), "every end is told of what was told to begin");
    let (mut client, channel) = pool.miner();
    client.submit(channel, 1);
    pool.until(|pool| pool.shares.len() == 1);
}

#[test]
fn a_client_without_set_up_is_closed_in_time() {
    let mut limits = settings();
    limits.mining.limits.setup_deadline_ms = 100;
    let mut pool = Pool::start(limits);
    let mut client = Client::connect(&pool);
    client.closed();
    pool.until(|pool| pool.metric("closed_setup_timeout_total") == 1);
    assert!(pool.events.is_empty(), "nobody hears of a client that never was set up");
    assert_eq!(CloseReason::SetupTimeout.as_str(), "setup-timeout");
}
