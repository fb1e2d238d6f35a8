//! Which jobs arrive when: templates, tips, future jobs, groups.

use radpool_mining::{Command, WorkError};
use radpool_units::Target;
use radpool_wire::message::*;

use crate::harness::*;

fn open_one(pool: &mut Pool) -> (Client, u32) {
    let mut client = pool.set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    (client, id)
}

#[test]
fn a_new_template_on_the_same_tip_is_an_active_job() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let old = client.mine(id);
    pool.shared.publish_template(template(2), Some(tip(2, 1))).unwrap();
    let replies = client.work();
    let [Message::NewExtendedMiningJob(job)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((job.channel_id, job.min_ntime), (id, Some(tip(2, 1).min_ntime)));
    assert_eq!(client.work(), []);
    let new = client.mine(id);
    assert_eq!((client.verdict(&old), client.verdict(&new)), (None, None));
    assert_eq!([client.shares[0].template_id, client.shares[1].template_id], [1, 2]);
}

#[test]
fn a_new_tip_is_a_future_job_and_its_activation() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let old = client.mine(id);
    pool.shared.publish_template(template(2), Some(tip(2, 2))).unwrap();
    assert_eq!(names(&client.work()), ["NewExtendedMiningJob", "SetNewPrevHash"]);
    assert_eq!(client.verdict(&old).as_deref(), Some("stale-share"));
    let new = client.mine(id);
    assert_eq!(client.verdict(&new), None);
    assert_eq!(client.shares[0].body.prev_hash, [2; 32]);
}

#[test]
fn a_future_template_waits_and_is_activated_alone() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    pool.shared.publish_template(template(2), None).unwrap();
    let replies = client.work();
    let [Message::NewExtendedMiningJob(job)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(job.min_ntime, None);
    let future = job.job_id;
    // A job that waits may not be mined.
    let mut early = client.mine(id);
    early.job = future;
    assert_eq!(client.verdict(&early).as_deref(), Some("invalid-job-id"));
    pool.shared.activate_template(tip(2, 2)).unwrap();
    let replies = client.work();
    let [Message::SetNewPrevHash(new)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((new.channel_id, new.job_id, new.prev_hash), (id, future, [2; 32]));
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
}

#[test]
fn late_joiners_get_the_current_job_and_the_queued_one() {
    let mut pool = Pool::new(settings());
    pool.shared.publish_template(template(2), None).unwrap();
    let mut client = pool.set_up(0);
    let open = open_extended(RATE_Z8, [0xff; 32], 0);
    let (first, replies) = client.open(&open, owner(1));
    let job_and_tip = ["NewExtendedMiningJob", "SetNewPrevHash", "NewExtendedMiningJob"];
    assert_eq!(names(&replies)[1..], job_and_tip);
    // Whoever joins makes the whole group get the future job anew.
    let (second, replies) = client.open(&open, owner(1));
    let group = client.channels[&first].group;
    let [
        _,
        Message::NewExtendedMiningJob(own),
        Message::SetNewPrevHash(tip_message),
        Message::NewExtendedMiningJob(future),
    ] = &replies[..]
    else {
        panic!("{replies:?}")
    };
    assert_eq!(
        (own.channel_id, tip_message.channel_id, future.channel_id),
        (second, second, group)
    );
    let future = future.job_id;
    pool.shared.activate_template(tip(2, 2)).unwrap();
    let replies = client.work();
    let [Message::SetNewPrevHash(new)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((new.channel_id, new.job_id), (group, future));
    for id in [first, second] {
        let share = client.mine(id);
        assert_eq!(client.verdict(&share), None);
    }
}

#[test]
fn changes_that_pile_up_are_followed_in_one_step() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let old = client.mine(id);
    pool.shared.publish_template(template(2), None).unwrap();
    client.work();
    pool.shared.activate_template(tip(2, 2)).unwrap();
    pool.shared.publish_template(template(3), None).unwrap();
    pool.shared.activate_template(tip(3, 3)).unwrap();
    pool.shared.publish_template(template(4), None).unwrap();
    let replies = client.work();
    assert_eq!(names(&replies), ["NewExtendedMiningJob", "SetNewPrevHash", "NewExtendedMiningJob"]);
    assert_eq!(client.verdict(&old).as_deref(), Some("stale-share"));
    let share = client.mine(id);
    assert_eq!((client.verdict(&share), client.shares[0].template_id), (None, 3));
}

#[test]
fn a_tip_that_comes_back_is_no_second_chance() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    // Same template and tip again, in the same or another connection, gives the same headers.
    for (template_id, block) in [(2, 2), (1, 1)] {
        pool.shared.publish_template(template(template_id), Some(tip(template_id, block))).unwrap();
        client.work();
    }
    let mut again = share.clone();
    again.job = client.channels[&id].job.unwrap();
    assert_eq!(client.hash(&again), client.shares[0].hash);
    assert_eq!(client.verdict(&again).as_deref(), Some("duplicate-share"));
}

#[test]
fn a_group_gets_one_job_for_all_members() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    let open = open_extended(RATE_Z8, [0xff; 32], 0);
    let (first, _) = client.open(&open, owner(1));
    let (second, _) = client.open(&open, owner(1));
    let (standard, _) = client.open(&open_standard(RATE_Z8, [0xff; 32]), owner(1));
    let (stranger, _) = client.open(&open, owner(2));
    let (wide, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 9), owner(1));
    let (hard, _) = client.open(&open_extended(RATE_Z8 * 2.0, [0xff; 32], 0), owner(1));
    let group = client.channels[&first].group;
    assert!([second, standard].iter().all(|id| client.channels[id].group == group));
    assert!([stranger, wide, hard].iter().all(|id| client.channels[id].group != group));
    assert!(!client.channels.contains_key(&group));
    pool.shared.publish_template(template(2), Some(tip(2, 1))).unwrap();
    let replies = client.work();
    let mut addressees: Vec<u32> = replies
        .iter()
        .map(|reply| match reply {
            Message::NewExtendedMiningJob(job) => job.channel_id,
            other => panic!("{other:?}"),
        })
        .collect();
    addressees.sort_unstable();
    let mut expected = vec![group, stranger, wide, hard];
    expected.sort_unstable();
    assert_eq!(addressees, expected);
    for id in [first, second, standard, stranger, wide, hard] {
        let share = client.mine(id);
        assert_eq!(client.verdict(&share), None);
    }
    // A channel cannot use a job that was addressed to another one.
    let mut stolen = client.mine(first);
    stolen.job = client.channels[&stranger].job.unwrap();
    assert_eq!(client.verdict(&stolen).as_deref(), Some("invalid-job-id"));
    // What is left of a group of two is addressed by its own id again.
    for id in [second, standard] {
        client.command(Command::CloseChannel { channel: id, reason: String::new() });
    }
    pool.shared.publish_template(template(3), Some(tip(3, 1))).unwrap();
    let addressed = |reply: &Message<'_>| matches!(reply, Message::NewExtendedMiningJob(job) if job.channel_id == first);
    assert!(client.work().iter().any(addressed));
}

#[test]
fn a_member_that_moves_leaves_its_group() {
    let mut pool = Pool::new(settings());
    pool.shared.publish_template(template(2), None).unwrap();
    let mut client = pool.set_up(0);
    let open = open_extended(RATE_Z8, [0xff; 32], 0);
    let (first, _) = client.open(&open, owner(1));
    let (second, _) = client.open(&open, owner(1));
    let group = client.channels[&first].group;
    let old = client.mine(second);
    let replies = client.command(Command::SetExponent { channel: second, exponent: z(9) });
    assert_eq!(
        names(&replies),
        ["SetGroupChannel", "SetTarget", "NewExtendedMiningJob", "NewExtendedMiningJob"]
    );
    assert_ne!(client.channels[&second].group, group);
    // Shares in flight keep the weight of their job.
    let new = client.mine(second);
    assert_eq!((client.verdict(&old), client.verdict(&new)), (None, None));
    assert_eq!([client.shares[0].exponent, client.shares[1].exponent], [z(8), z(9)]);
    // The group's job counts for it like a past one: for 30 s.
    let mut last = old.clone();
    last.nonce += 1;
    client.grind(&mut last, 8, 257);
    client.pass(29_999);
    assert_eq!(client.verdict(&last), None);
    last.nonce += 1;
    client.grind(&mut last, 8, 257);
    client.pass(1);
    assert_eq!(client.verdict(&last).as_deref(), Some("invalid-job-id"));
    // Moving back joins the group again; the queued future job is known to both.
    client.command(Command::SetExponent { channel: second, exponent: z(8) });
    assert_eq!(client.channels[&second].group, group);
    pool.shared.activate_template(tip(2, 2)).unwrap();
    assert_eq!(names(&client.work()), ["SetNewPrevHash"]);
}

#[test]
fn connections_of_standard_jobs_never_see_groups() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(1);
    let open = open_standard(RATE_Z8, [0xff; 32]);
    let (first, _) = client.open(&open, owner(1));
    let (second, _) = client.open(&open, owner(1));
    pool.shared.publish_template(template(2), Some(tip(2, 1))).unwrap();
    assert_eq!(names(&client.work()), ["NewMiningJob"; 2]);
    let replies = client.command(Command::SetExponent { channel: second, exponent: z(9) });
    assert_eq!(names(&replies), ["SetTarget", "NewMiningJob"]);
    pool.shared.publish_template(template(3), Some(tip(3, 2))).unwrap();
    let pair = ["NewMiningJob", "SetNewPrevHash"];
    assert_eq!(names(&client.work()), [pair, pair].concat());
    for id in [first, second] {
        let share = client.mine(id);
        assert_eq!(client.verdict(&share), None);
    }
}

/// spec: OT-8, OT-10
#[test]
fn a_target_is_followed_by_current_and_queued_jobs_with_its_tag() {
    let mut pool = Pool::new(settings());
    pool.shared.publish_template(template(2), None).unwrap();
    let (mut client, id) = open_one(&mut pool);
    let replies = client.command(Command::SetExponent { channel: id, exponent: z(10) });
    assert_eq!(names(&replies), ["SetTarget", "NewExtendedMiningJob", "NewExtendedMiningJob"]);
    let tags: Vec<_> = client.jobs.values().rev().take(2).map(|job| job.tag().exponent).collect();
    assert_eq!(tags, [z(10), z(10)]);
    pool.shared.activate_template(tip(2, 2)).unwrap();
    client.work();
    let share = client.mine(id);
    assert_eq!((client.verdict(&share), client.shares[0].exponent), (None, z(10)));
    // Nothing moves, nothing is sent.
    assert_eq!(client.command(Command::SetExponent { channel: id, exponent: z(10) }), []);
}

/// spec: OT-8
#[test]
fn the_tag_binds_key_owner_epoch_rail_and_exponent() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let share = client.mine(id);
    client.verdict(&share);
    let record = &client.shares[0];
    assert_eq!((record.owner.msp_key, record.owner.epoch, record.account), ([7; 32], 3, 1));
    assert_eq!(client.jobs[&share.job].tag(), record.owner.tag(record.exponent));
    // The next template may belong to the next epoch.
    let next = radpool_mining::Template { epoch: 4, ..template(2) };
    pool.shared.publish_template(next, Some(tip(2, 1))).unwrap();
    client.work();
    let share = client.mine(id);
    client.verdict(&share);
    assert_eq!(client.shares[1].owner.epoch, 4);
}

#[test]
fn work_that_no_job_can_be_made_of_is_refused() {
    let pool = Pool::new(settings());
    let generation = pool.shared.current_work().generation;
    let publish = |change: &dyn Fn(&mut radpool_mining::Template)| {
        let mut changed = template(2);
        change(&mut changed);
        pool.shared.publish_template(changed, Some(tip(2, 1)))
    };
    // scriptSig: 70 bytes of height and push, text and its push, push and 20 bytes of extranonce.
    assert_eq!(publish(&|t| t.coinbase_prefix = vec![0; 71]), Ok(()));
    let len = 101;
    assert_eq!(
        publish(&|t| t.coinbase_prefix = vec![0; 72]),
        Err(WorkError::ScriptSig { template: 2, len })
    );
    assert_eq!(publish(&|t| t.merkle_path = vec![[0; 32]; 32]), Ok(()));
    assert_eq!(
        publish(&|t| t.merkle_path = vec![[0; 32]; 33]),
        Err(WorkError::MerklePath { template: 2, len: 33 })
    );
    for cut in 1..43 {
        let outputs = publish(&|t| t.pool_outputs.truncate(43 - cut));
        assert_eq!(outputs, Err(WorkError::Outputs { template: 2, which: "pool", count: 1 }));
    }
    assert!(publish(&|t| t.template_output_count = 2).is_err());
    assert!(publish(&|t| t.template_output_count = 0).is_err());
    let big = |script_len: u16| {
        let mut output = vec![0; 8];
        output.push(0xfd);
        output.extend(script_len.to_le_bytes());
        output.extend(vec![0; script_len.into()]);
        output
    };
    // 4 + 3 + 49 + 4 bytes and the pool's 43 are always there.
    let room = 65_535 - 60 - 43 - 11;
    assert_eq!(publish(&|t| t.template_outputs = big(room)), Ok(()));
    let len = 65_536;
    assert_eq!(
        publish(&|t| t.template_outputs = big(room + 1)),
        Err(WorkError::CoinbaseSuffix { template: 2, len })
    );
    let too_easy = radpool_mining::Tip { target: Target::MAX, ..tip(2, 1) };
    assert!(matches!(
        pool.shared.publish_template(template(2), Some(too_easy)),
        Err(WorkError::TargetTooEasy { .. })
    ));
    let not_a_target = radpool_mining::Tip { nbits: 0, ..tip(2, 1) };
    assert!(matches!(
        pool.shared.publish_template(template(2), Some(not_a_target)),
        Err(WorkError::Compact(_))
    ));
    assert!(matches!(
        pool.shared.publish_template(template(2), Some(tip(3, 1))),
        Err(WorkError::OtherTemplate { tip: 3, template: 2 })
    ));
    assert!(matches!(pool.shared.activate_template(tip(2, 1)), Err(WorkError::NoTemplate(2))));
    pool.shared.publish_template(template(5), None).unwrap();
    assert!(matches!(
        pool.shared.activate_template(tip(2, 1)),
        Err(WorkError::OtherTemplate { tip: 2, template: 5 })
    ));
    // Three templates were taken, and the future one; what failed left no trace.
    assert_eq!(pool.shared.current_work().generation, generation + 4);
}
