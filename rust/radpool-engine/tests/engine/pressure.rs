//! Slow readers, and a consumer that does not drain.

use std::{io::Write, thread, time::Duration};

use radpool_engine::EngineSettings;
use radpool_wire::message::Message;

use crate::harness::{Pool, settings, template, tip};

#[test]
fn a_slow_reader_is_dropped_and_others_are_unaffected() {
    let limits = EngineSettings { outbound_bytes_max: 64 * 1024, ..settings() };
    let mut pool = Pool::start(limits);
    let (mut slow, channel) = pool.miner();
    let (mut other, other_channel) = pool.miner();
    slow.job += 1_000_000;
    slow.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Each share of an unknown job is answered with an error that the client never reads.
    let mut bytes = Vec::new();
    (0..1000).for_each(|_| bytes.extend(slow.share(channel)));
    while pool.metric("closed_slow_reader_total") == 0 && slow.socket.write_all(&bytes).is_ok() {
        bytes.clear();
        (0..1000).for_each(|_| bytes.extend(slow.share(channel)));
    }
    pool.until(|pool| pool.metric("closed_slow_reader_total") == 1);
    other.submit(other_channel, 3);
    pool.until(|pool| pool.shares.len() == 3);
    pool.acknowledge();
    other.acknowledged(3);
}

#[test]
fn a_reader_that_takes_nothing_for_too_long_is_dropped() {
    let limits =
        EngineSettings { outbound_bytes_max: 1 << 30, write_deadline_ms: 300, ..settings() };
    let mut pool = Pool::start(limits);
    let (mut slow, channel) = pool.miner();
    slow.job += 1_000_000;
    slow.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..1000).flat_map(|_| slow.share(channel)).collect();
        if slow.socket.write_all(&bytes).is_err() {
            break;
        }
    }
    pool.until(|pool| pool.metric("closed_slow_reader_total") == 1);
}

#[test]
fn a_full_ring_pauses_reads_and_resumes_losing_nothing() {
    const SHARES: u32 = 5_000;
    let limits = EngineSettings { ring_records_max: 100, ..settings() };
    let mut pool = Pool::start(limits);
    let (mut idle, _) = pool.miner();
    let mut miners: Vec<_> = (0..4).map(|_| pool.miner()).collect();
    let writers: Vec<_> = miners
        .iter_mut()
        .map(|(client, channel)| {
            let bytes: Vec<u8> = (0..SHARES).flat_map(|_| client.share(*channel)).collect();
            let mut socket = client.socket.try_clone().unwrap();
            thread::spawn(move || socket.write_all(&bytes).unwrap())
        })
        .collect();
    while pool.metric("connections_paused") < 4 {
        thread::sleep(Duration::from_millis(5));
    }
    // Bounded by the limit and what each of two threads had read at that moment.
    let waiting = pool.metric("ring_records");
    assert!((100..100 + 2 * 1000).contains(&waiting), "{waiting}");
    // Work goes out all the while.
    pool.engine.publish_template(template(2), Some(tip(2, 2))).unwrap();
    idle.expect(|message| match message {
        Message::SetNewPrevHash(prev) => (prev.prev_hash == [2; 32]).then_some(()),
        _ => None,
    });
    thread::sleep(Duration::from_millis(100));
    assert_eq!(pool.metric("ring_records"), waiting, "nothing is read while the ring is full");
    let (mut accepted, mut rejected) = (0, 0);
    while accepted + rejected < u64::from(SHARES) * 4 {
        pool.turn();
        accepted += pool.acknowledge().len() as u64;
        rejected = pool.metric("shares_rejected_stale_share_total");
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(pool.metric("shares_accepted_total"), accepted);
    assert!(pool.metric("read_pauses_total") >= 4);
    let mut told = 0;
    for (client, _) in &mut miners {
        let mut mine = 0;
        while mine < SHARES {
            client.expect(|message| match message {
                Message::SubmitSharesSuccess(success) => {
                    mine += success.new_submits_accepted_count;
                    told += u64::from(success.new_submits_accepted_count);
                    Some(())
                }
                Message::SubmitSharesError(_) => {
                    mine += 1;
                    Some(())
                }
                _ => None,
            });
        }
    }
    assert_eq!(told, accepted);
    assert_eq!(pool.metric("connections_paused"), 0);
}

#[test]
fn a_pause_takes_no_time_from_a_frame() {
    let limits = EngineSettings { ring_records_max: 10, frame_deadline_ms: 300, ..settings() };
    let mut pool = Pool::start(limits);
    let (mut client, channel) = pool.miner();
    let last = {
        client.submit(channel, 10);
        client.share(channel)
    };
    client.socket.write_all(&last[..30]).unwrap();
    thread::sleep(Duration::from_millis(600));
    pool.until(|pool| pool.shares.len() == 10);
    thread::sleep(Duration::from_millis(100));
    client.socket.write_all(&last[30..]).unwrap();
    pool.until(|pool| pool.shares.len() == 11);
}
