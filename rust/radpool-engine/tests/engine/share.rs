//! From the handshake to the durable acknowledgement.

use radpool_engine::EngineEvent;
use radpool_mining::{Command, Event};
use radpool_wire::message::Message;

use crate::harness::{Client, Pool, open, settings, template, tip};

#[test]
fn shares_are_acknowledged_after_and_only_after_they_are_durable() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    client.submit(channel, 50);
    pool.until(|pool| pool.shares.len() == 50);
    client.socket.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let mut byte = [0];
    assert!(client.socket.peek(&mut byte).is_err(), "nothing is acknowledged that is not durable");
    client.socket.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let shares = pool.acknowledge();
    assert_eq!(client.acknowledged(50), 50);
    assert!(shares.iter().all(|share| share.owner.epoch == 3 && share.channel_id == channel));
}

#[test]
fn one_success_covers_a_batch_and_rejected_shares_get_errors() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    client.submit(channel, 10);
    pool.until(|pool| pool.shares.len() == 10);
    let shares = core::mem::take(&mut pool.shares);
    let rejected = [(3, "duplicate-share".to_owned()), (7, "duplicate-share".to_owned())];
    pool.engine.acknowledge(&shares, &rejected).unwrap();
    let (mut accepted, mut refused) = (0, Vec::new());
    while accepted + refused.len() as u32 != 10 {
        client.expect(|message| match message {
            Message::SubmitSharesSuccess(success) => {
                assert_eq!(success.last_sequence_number, 10);
                assert_eq!(success.new_shares_sum, 8);
                accepted += success.new_submits_accepted_count;
                Some(())
            }
            Message::SubmitSharesError(error) => {
                assert_eq!(error.error_code, b"duplicate-share");
                refused.push(error.sequence_number);
                Some(())
            }
            _ => None,
        });
    }
    refused.sort_unstable();
    assert_eq!(refused, [4, 8]);
    let beyond = pool.engine.acknowledge(&shares, &[(10, "x".to_owned())]).unwrap_err();
    assert!(beyond.to_string().contains("batch of 10"), "{beyond}");
}

#[test]
fn acknowledging_survives_a_client_that_left() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    client.submit(channel, 5);
    pool.until(|pool| pool.shares.len() == 5);
    drop(client);
    pool.until(|pool| pool.metric("connections") == 0);
    assert_eq!(pool.acknowledge().len(), 5);
    let told = |event: &EngineEvent| matches!(event, EngineEvent::Disconnected { .. });
    pool.until(|pool| pool.events.iter().any(told));
}

#[test]
fn new_work_reaches_everybody_and_late_joiners() {
    let mut pool = Pool::start(settings());
    let mut miners: Vec<_> = (0..20).map(|_| pool.miner()).collect();
    pool.engine.publish_template(template(2), None).unwrap();
    pool.engine.activate_template(tip(2, 2)).unwrap();
    let (late, _) = pool.miner();
    for (client, _) in &mut miners {
        client.expect(|message| match message {
            Message::SetNewPrevHash(prev) => (prev.prev_hash == [2; 32]).then_some(()),
            _ => None,
        });
    }
    assert!(late.job > 0);
}

#[test]
fn commands_complete_and_those_to_nobody_say_so() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    let opened = |pool: &Pool| {
        pool.events.iter().find_map(|event| match event {
            EngineEvent::Mining { connection, event: Event::ChannelOpened { .. }, .. } => {
                Some(*connection)
            }
            _ => None,
        })
    };
    pool.until(|pool| opened(pool).is_some());
    let connection = opened(&pool).unwrap();
    let close = || Command::CloseChannel { channel, reason: "enough".into() };
    let token = pool.engine.command(connection, close()).unwrap();
    client.expect(|message| matches!(message, Message::CloseChannel(_)).then_some(()));
    pool.until(|pool| {
        pool.completions.iter().any(|done| done.token == token && done.failure.is_none())
    });
    let lost = pool.engine.command(connection + (1 << 32), close()).unwrap();
    pool.until(|pool| {
        let mut done = pool.completions.iter();
        done.any(|done| done.token == lost && done.failure == Some("no-such-connection"))
    });
}

#[test]
fn prefixes_are_asked_for_once_until_they_come() {
    let mut limits = settings();
    limits.prefixes_low = 1 << 20;
    let mut pool = Pool::start(limits);
    let _miners = [pool.miner(), pool.miner()];
    let asked = |pool: &Pool| {
        let events = pool.events.iter();
        events.filter(|event| matches!(event, EngineEvent::PrefixesLow { .. })).count()
    };
    pool.until(|pool| asked(pool) == 1);
    pool.engine.add_prefixes(1 << 20, (1 << 20) + 1).unwrap();
    let _third = pool.miner();
    pool.until(|pool| asked(pool) == 2);
}

#[test]
fn frames_may_come_a_byte_at_a_time() {
    let mut pool = Pool::start(settings());
    let mut client = Client::connect(&pool);
    client.set_up();
    let bytes = client.sealed(&open(1));
    for byte in bytes {
        std::io::Write::write_all(&mut client.socket, &[byte]).unwrap();
    }
    let channel = pool.opened(&mut client);
    for byte in client.share(channel) {
        std::io::Write::write_all(&mut client.socket, &[byte]).unwrap();
    }
    pool.until(|pool| pool.shares.len() == 1);
}
