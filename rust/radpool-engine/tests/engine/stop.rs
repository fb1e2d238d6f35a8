//! The end.

use std::{
    thread,
    time::{Duration, Instant},
};

use radpool_engine::{EngineError, EngineEvent};
use radpool_mining::CloseReason;

use crate::harness::{Pool, settings};

#[test]
fn stopping_in_order_loses_no_durable_share() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    client.submit(channel, 100);
    pool.until(|pool| pool.shares.len() == 100);
    pool.engine.stop_accepting();
    pool.engine.pause_reads();
    pool.turn();
    pool.acknowledge();
    let reader = thread::spawn(move || {
        let last = client.acknowledged(100);
        client.closed();
        last
    });
    let begun = Instant::now();
    pool.engine.stop(Duration::from_secs(5));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(reader.join().unwrap(), 100);
    pool.until(|pool| pool.stopped);
    let told = |event: &EngineEvent| {
        matches!(event, EngineEvent::Disconnected { reason: CloseReason::Stopped, .. })
    };
    assert!(pool.events.iter().any(told));
    assert_eq!(pool.metric("connections"), 0);
    assert!(matches!(pool.engine.listen("127.0.0.1", 0), Err(EngineError::Stopped)));
    pool.engine.stop(Duration::from_secs(5));
}

#[test]
fn a_client_that_does_not_read_cannot_hold_the_stop_up() {
    let mut pool = Pool::start(settings());
    let _clients = [pool.miner(), pool.miner()];
    let begun = Instant::now();
    pool.engine.stop(Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(pool.engine.drain(1).unwrap().stopped);
}

#[test]
fn no_connection_is_accepted_after_stop_accepting() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    pool.engine.stop_accepting();
    let begun = Instant::now();
    while std::net::TcpStream::connect(pool.address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(5));
    }
    client.submit(channel, 1);
    pool.until(|pool| pool.shares.len() == 1);
}
