//! Vardiff as clients see it: what is sent, what is paid, what a client can declare.

use radpool_mining::Event;
use radpool_wire::message::*;

use crate::harness::*;

/// Mines for some time of the clock at a hash rate of `2^ideal` per wanted share, in even steps.
fn mine_evenly(client: &mut Client, channel: u32, shares_max: usize, ideal: u32) {
    for _ in 0..shares_max {
        let exponent = client.channels[&channel].exponent();
        let wait_ms = (10_000u64 << exponent) >> ideal;
        let deadline = client.connection.next_deadline();
        client.pass(wait_ms);
        if deadline.is_some_and(|deadline| deadline <= client.now.mono_ms) {
            client.deadline();
        }
        let share = client.mine(channel);
        assert_eq!(client.verdict(&share), None);
        assert_eq!(client.closed, None);
    }
}

#[test]
fn declared_lies_are_corrected_from_both_sides() {
    for (declared, ideal) in [(4, 14), (14, 5)] {
        let mut client = Pool::new(settings()).set_up(0);
        let rate = RATE_Z8 * 2f32.powi(declared - 8);
        let (id, _) = client.open(&open_extended(rate, [0xff; 32], 0), owner(1));
        assert_eq!(client.channels[&id].exponent(), declared as u32);
        mine_evenly(&mut client, id, 40, ideal);
        assert!(client.channels[&id].exponent().abs_diff(ideal) <= 1);
        let moves =
            client.events.iter().filter(|event| matches!(event, Event::ExponentChanged { .. }));
        let moves = moves.count();
        assert!((1..=5).contains(&moves), "{moves}");
    }
}

#[test]
fn vardiff_never_asks_for_less_than_the_client_accepts() {
    let mut client = Pool::new(settings()).set_up(0);
    let max_target = z(9).target().to_le_bytes();
    let (id, _) = client.open(&open_extended(RATE_Z8 * 4.0, max_target, 0), owner(1));
    for _ in 0..10 {
        client.pass(100_000);
        let replies = client.deadline();
        for reply in &replies {
            if let Message::SetTarget(set) = reply {
                let zeros = radpool_units::Hash256(set.maximum_target).leading_zero_bits();
                assert!(zeros >= 9);
            }
        }
    }
    assert_eq!(client.channels[&id].exponent(), 9);
    // At the end of the ladder there is nothing to wake up for.
    assert_eq!(client.connection.next_deadline(), None);
}

/// spec: OT-9, OT-10
#[test]
fn a_move_is_target_first_then_jobs_and_never_retroactive() {
    let mut client = Pool::new(settings()).set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let in_flight = [client.mine(id), client.mine(id)];
    client.pass(97_691);
    assert_eq!(names(&client.deadline()), ["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(client.channels[&id].exponent(), 4);
    let easy = client.mine(id);
    for share in in_flight.iter().chain([&easy]) {
        assert_eq!(client.verdict(share), None);
    }
    let exponents: Vec<_> = client.shares.iter().map(|share| share.exponent).collect();
    assert_eq!(exponents, [z(8), z(8), z(4)]);
}

#[test]
fn refused_shares_and_those_of_other_steps_move_nothing() {
    let mut client = Pool::new(settings()).set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let old: Vec<MinedShare> = (0..20).map(|_| client.mine(id)).collect();
    client.command(radpool_mining::Command::SetExponent { channel: id, exponent: z(10) });
    for share in &old {
        assert_eq!(client.verdict(share), None);
        assert_eq!(client.verdict(share).as_deref(), Some("duplicate-share"));
    }
    assert_eq!(client.channels[&id].exponent(), 10);
}

#[test]
fn a_floor_moves_channels_and_holds_for_new_ones() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    let easy = open_extended(RATE_Z8, [0xff; 32], 0);
    let hard = open_extended(RATE_Z8 * 16.0, [0xff; 32], 0);
    let (first, _) = client.open(&easy, owner(1));
    let (second, _) = client.open(&hard, owner(2));
    let old = client.mine(first);
    pool.shared.set_floor(z(10));
    assert_eq!(names(&client.work()), ["SetTarget", "NewExtendedMiningJob"]);
    let exponents = [first, second].map(|id| client.channels[&id].exponent());
    assert_eq!(exponents, [10, 12]);
    // Shares in flight keep the weight of their job.
    assert_eq!(client.verdict(&old), None);
    let new = client.mine(first);
    assert_eq!(client.verdict(&new), None);
    assert_eq!([client.shares[0].exponent, client.shares[1].exponent], [z(8), z(10)]);
    // Neither vardiff nor the client leads below it.
    client.pass(100_000);
    client.deadline();
    assert_eq!(client.channels[&first].exponent(), 10);
    let update = UpdateChannel {
        channel_id: first,
        nominal_hash_rate: RATE_Z8 / 4.0,
        maximum_target: [0xff; 32],
    };
    client.send(&Message::UpdateChannel(update));
    assert_eq!(client.channels[&first].exponent(), 10);
    let (third, _) = client.open(&easy, owner(3));
    assert_eq!(client.channels[&third].exponent(), 10);
    // What is above it stays, and a lower one leads nobody anywhere at once.
    pool.shared.set_floor(z(0));
    assert_eq!(client.work(), []);
    client.pass(1_000_000);
    client.deadline();
    assert!(client.channels[&first].exponent() < 10);
}

#[test]
fn a_floor_above_the_ladder_leaves_its_hardest_step() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    pool.shared.set_floor(z(120));
    client.work();
    let hardest = u32::from(pool.shared.settings.exponent_max.get());
    assert_eq!(client.channels[&id].exponent(), hardest);
}
