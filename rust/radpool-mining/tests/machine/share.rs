//! Shares: accepted, refused by code, acknowledged, solving a block.

use radpool_mining::{Command, Event, Reject, Seen, SeenLimits, SeenShares};
use radpool_units::{Hash256, Work, sha256d};
use radpool_wire::message::*;

use crate::harness::*;

fn open_one(pool: &mut Pool) -> (Client, u32) {
    let mut client = pool.set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    (client, id)
}

#[test]
fn a_record_proves_its_share() {
    for standard in [false, true] {
        let mut pool = Pool::new(settings());
        let mut client = pool.set_up(0);
        let open = if standard {
            open_standard(RATE_Z8, [0xff; 32])
        } else {
            open_extended(RATE_Z8, [0xff; 32], 10)
        };
        let (id, _) = client.open(&open, owner(1));
        let mut share = client.draft(id);
        share.version ^= 0x1fff_ffe0;
        share.ntime += 60;
        client.grind(&mut share, 8, 257);
        assert_eq!(client.submit(&share), []);
        let record = &client.shares[0];
        assert_eq!(record.hash, client.hash(&share));
        assert_eq!(
            (record.connection, record.channel_id, record.sequence),
            (1, id, share.sequence)
        );
        assert_eq!(
            (record.version, record.ntime, record.nonce),
            (share.version, share.ntime, share.nonce)
        );
        assert_eq!(
            (record.extranonce_len, record.unix_ms, record.worker),
            (if standard { 12 } else { 14 }, client.now.unix_ms, 0)
        );
        // From the record alone, as a verifier does it.
        let extranonce = &record.extranonce[..record.extranonce_len.into()];
        let body = &record.body;
        let coinbase = [
            &body.coinbase_prefix[..],
            extranonce,
            &body.coinbase_before_tag,
            &record.owner.tag(record.exponent).to_output(),
            &body.coinbase_after_tag,
        ]
        .concat();
        let root = radpool_units::merkle_root_from_path(sha256d(&coinbase), &body.merkle_path);
        let header = [
            &record.version.to_le_bytes()[..],
            &body.prev_hash,
            &root.0,
            &record.ntime.to_le_bytes(),
            &body.nbits.to_le_bytes(),
            &record.nonce.to_le_bytes(),
        ]
        .concat();
        assert_eq!(sha256d(&header), record.hash);
        assert!(record.exponent.is_met_by(&record.hash));
    }
}

#[test]
fn each_defect_has_its_code_and_costs_nothing_else() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let good = client.mine(id);
    let group = client.channels[&id].group;
    let clock = client.now.unix_seconds();
    type Spoil = Box<dyn Fn(&mut MinedShare)>;
    let cases: Vec<(&str, Spoil)> = vec![
        ("invalid-channel-id", Box::new(|share| share.channel = 99)),
        ("invalid-channel-id", Box::new(move |share| share.channel = group)),
        ("invalid-channel-id", Box::new(|share| share.standard = true)),
        ("invalid-job-id", Box::new(|share| share.job += 1)),
        ("invalid-job-id", Box::new(|share| share.job = 0)),
        ("bad-extranonce-size", Box::new(|share| share.extranonce.truncate(7))),
        ("bad-extranonce-size", Box::new(|share| share.extranonce.push(0))),
        ("bad-extranonce-size", Box::new(|share| share.extranonce.clear())),
        ("bad-extranonce-size", Box::new(|share| share.extranonce.resize(32, 0))),
        ("invalid-share", Box::new(|share| share.ntime -= 1)),
        ("invalid-share", Box::new(move |share| share.ntime = clock + 121)),
        ("invalid-share", Box::new(move |share| share.ntime = clock + 3 * 3600)),
        ("invalid-non-rollable-version-bit", Box::new(|share| share.version ^= 1 << 4)),
        ("invalid-non-rollable-version-bit", Box::new(|share| share.version ^= 1 << 29)),
    ];
    for (code, spoil) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        let before = client.shares.len();
        let replies = client.submit(&bad);
        let [Message::SubmitSharesError(error)] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!((error.channel_id, error.sequence_number), (bad.channel, bad.sequence));
        assert_eq!(
            (error.error_code.clone(), client.shares.len()),
            (code.as_bytes().to_vec(), before)
        );
    }
    assert_eq!(client.verdict(&good), None);
    assert_eq!(client.verdict(&good).as_deref(), Some("duplicate-share"));
    assert_eq!(pool.shared.counters.rejected(Reject::BadExtranonceSize), 4);
    // The latest ntime that is still good.
    let mut late = client.draft(id);
    late.ntime = clock + 120;
    client.grind(&mut late, 8, 257);
    assert_eq!(client.verdict(&late), None);
}

#[test]
fn the_target_is_kept_on_both_sides() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let mut share = client.draft(id);
    client.grind(&mut share, 7, 8);
    assert_eq!(client.verdict(&share).as_deref(), Some("difficulty-too-low"));
    // A miss is no sighting: the answer stays the same.
    assert_eq!(client.verdict(&share).as_deref(), Some("difficulty-too-low"));
    client.grind(&mut share, 8, 9);
    assert_eq!(client.verdict(&share), None);
    // Luck is not paid: the weight is the job's.
    share.nonce += 1;
    client.grind(&mut share, 12, 257);
    assert_eq!((client.verdict(&share), client.shares[1].exponent), (None, z(8)));
}

#[test]
fn standard_channels_take_standard_shares_alone() {
    let mut client = Pool::new(settings()).set_up(0);
    let (id, _) = client.open(&open_standard(RATE_Z8, [0xff; 32]), owner(1));
    let mut share = client.mine(id);
    share.standard = false;
    assert_eq!(client.verdict(&share).as_deref(), Some("invalid-channel-id"));
    share.standard = true;
    assert_eq!(client.verdict(&share), None);
}

#[test]
fn rolled_versions_are_refused_where_nothing_rolls() {
    let mut pool = Pool::new(radpool_mining::Settings { version_rolling: false, ..settings() });
    let (mut client, id) = open_one(&mut pool);
    let mut share = client.mine(id);
    share.version ^= 1 << 5;
    assert_eq!(client.verdict(&share).as_deref(), Some("version-rolling-not-allowed"));
    share.version ^= 1 << 5 | 1 << 30;
    assert_eq!(client.verdict(&share).as_deref(), Some("invalid-non-rollable-version-bit"));
    share.version ^= 1 << 30;
    assert_eq!(client.verdict(&share), None);
}

#[test]
fn replaced_jobs_count_for_a_time_and_stale_ones_are_named() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let share = |client: &mut Client| client.mine(id);
    let (in_time, too_late) = (share(&mut client), share(&mut client));
    pool.shared.publish_template(template(2), Some(tip(2, 1))).unwrap();
    client.work();
    client.pass(29_999);
    assert_eq!(client.verdict(&in_time), None);
    client.pass(1);
    assert_eq!(client.verdict(&too_late).as_deref(), Some("invalid-job-id"));
    // A past job outlives any number of templates.
    let old = share(&mut client);
    for id in 3..40 {
        pool.shared.publish_template(template(id), Some(tip(id, 1))).unwrap();
        client.work();
    }
    assert_eq!(client.verdict(&old), None);
    let stale = share(&mut client);
    pool.shared.publish_template(template(50), Some(tip(50, 2))).unwrap();
    client.work();
    client.pass(59_999);
    assert_eq!(client.verdict(&stale).as_deref(), Some("stale-share"));
    client.pass(1);
    assert_eq!(client.verdict(&stale).as_deref(), Some("invalid-job-id"));
}

#[test]
fn duplicates_are_found_across_connections_and_restarts() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    let hash = client.shares[0].hash;

    // Another pool on the same tip that leases the same prefixes, as after a lost lease.
    for preloaded in [true, false] {
        let mut restarted = Pool::new(settings());
        if preloaded {
            restarted.shared.seen.preload([&hash.0]);
        }
        let (mut client, id) = open_one(&mut restarted);
        let mut again = share.clone();
        (again.channel, again.job) = (id, client.channels[&id].job.unwrap());
        assert_eq!(client.hash(&again), hash);
        assert_eq!(client.verdict(&again).is_some(), preloaded);
    }
}

#[test]
fn acknowledgements_carry_their_counters() {
    let mut client = Pool::new(settings()).set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let command = Command::Acknowledge { channel: id, last_sequence: 9, count: 3, sum: 768 };
    let success = SubmitSharesSuccess {
        channel_id: id,
        last_sequence_number: 9,
        new_submits_accepted_count: 3,
        new_shares_sum: 768,
    };
    assert_eq!(client.command(command), [Message::SubmitSharesSuccess(success)]);
    let command = Command::RejectShare {
        channel: id,
        sequence: 10,
        code: "duplicate-share".into(),
        by: None,
    };
    assert_eq!(error_code(&client.command(command)).as_deref(), Some("duplicate-share"));
}

#[test]
fn a_solution_leaves_with_its_block() {
    let mut pool = Pool::idle(settings());
    let network = radpool_mining::Tip { target: z(10).target(), ..tip(1, 1) };
    pool.shared.publish_template(template(1), Some(network)).unwrap();
    let (mut client, id) = open_one(&mut pool);
    let mut share = client.draft(id);
    client.grind(&mut share, 10, 257);
    assert_eq!(client.verdict(&share), None);
    let solution = client.out.solutions.pop().unwrap();
    assert_eq!((solution.template_id, solution.channel, solution.account), (1, id, 1));
    assert_eq!(
        (sha256d(&solution.header), solution.hash),
        (client.hash(&share), client.hash(&share))
    );
    // Without marker, flag and witness it is the coinbase that was mined.
    let tx = &solution.coinbase_tx;
    assert_eq!(tx[4..6], [0, 1]);
    let witness = tx.len() - 4 - 34;
    assert_eq!(tx[witness..witness + 34], [&[1, 32][..], &[0; 32]].concat());
    let stripped = [&tx[..4], &tx[6..witness], &tx[tx.len() - 4..]].concat();
    let JobKind::Coinbase { prefix, suffix, .. } = &client.jobs[&share.job].kind else { panic!() };
    let mined = [prefix, &client.channels[&id].prefix[..], &share.extranonce, suffix].concat();
    assert_eq!(stripped, mined);
    // A replay solves nothing.
    assert_eq!(client.verdict(&share).as_deref(), Some("duplicate-share"));
    assert!(client.out.solutions.is_empty());
    share.nonce += 1;
    client.grind(&mut share, 8, 10);
    assert_eq!((client.verdict(&share), client.out.solutions.len()), (None, 0));
}

#[test]
fn a_block_below_the_share_target_is_submitted_but_not_paid() {
    let mut pool = Pool::idle(settings());
    let network = radpool_mining::Tip { target: z(6).target(), ..tip(1, 1) };
    pool.shared.publish_template(template(1), Some(network)).unwrap();
    let (mut client, id) = open_one(&mut pool);
    let mut share = client.draft(id);
    client.grind(&mut share, 6, 8);
    assert_eq!(client.verdict(&share).as_deref(), Some("difficulty-too-low"));
    assert_eq!(client.out.solutions.len(), 1);
    assert_eq!(client.verdict(&share).as_deref(), Some("duplicate-share"));
    assert_eq!(client.out.solutions.len(), 1);
}

#[test]
fn reports_come_when_something_changed_and_not_more_often_than_set() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = open_one(&mut pool);
    let reports = |client: &Client| {
        let events = client.events.iter();
        let reports = events.filter_map(|event| match event {
            Event::ChannelReport(report) => Some(*report),
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    client.pass(9_000);
    let good = client.mine(id);
    assert_eq!((client.verdict(&good), client.verdict(&good).is_some()), (None, true));
    let due = client.now.mono_ms + 10_000;
    assert_eq!(client.connection.next_deadline(), Some(due));
    client.pass(9_999);
    client.deadline();
    assert_eq!(reports(&client).len(), 0);
    client.pass(1);
    client.deadline();
    let [report] = reports(&client)[..] else { panic!() };
    assert_eq!((report.channel, report.accepted, report.work), (id, 1, Work(256)));
    assert_eq!(report.rejected.iter().sum::<u64>(), 1);
    assert_eq!(report.rejected[Reject::DuplicateShare.index()], 1);
    client.pass(20_000);
    client.deadline();
    assert_eq!(reports(&client).len(), 1);
    let more = client.mine(id);
    assert_eq!(client.verdict(&more), None);
    client.command(Command::CloseChannel { channel: id, reason: String::new() });
    assert_eq!(reports(&client).last().unwrap().accepted, 2);
}

fn limits(tips: u32, shares_max: usize) -> SeenLimits {
    SeenLimits { tips, shares_expected: 0, shares_max }
}

fn hash(number: u64) -> Hash256 {
    sha256d(&number.to_le_bytes())
}

#[test]
fn the_set_remembers_tips_up_to_its_bound() {
    let seen = SeenShares::new([1; 16], limits(3, 100_000));
    for block in 0..3u8 {
        for number in 0..100 {
            assert_eq!(
                seen.insert(&[block; 32], &hash(u64::from(block) * 1_000 + number)),
                Seen::New
            );
        }
    }
    for number in 0..100 {
        assert_eq!(seen.insert(&[0; 32], &hash(number)), Seen::Before);
    }
    assert_eq!((seen.len(), seen.forgotten(), seen.is_empty()), (300, 0, false));
    // Tip 0 was used last, so it is tip 1 that goes; in each shard for itself.
    for number in 0..100 {
        seen.insert(&[9; 32], &hash(90_000 + number));
    }
    assert_eq!(seen.insert(&[0; 32], &hash(5)), Seen::Before);
    assert_eq!(seen.len(), 300);
}

#[test]
fn the_set_forgets_the_oldest_when_memory_is_full() {
    let bound = 64_000;
    let seen = SeenShares::new([1; 16], limits(4, bound));
    for number in 0..1_000 {
        seen.insert(&[1; 32], &hash(number));
    }
    for number in 1_000..400_000 {
        assert_eq!(seen.insert(&[2; 32], &hash(number)), Seen::New);
        if number % 50_000 == 0 {
            assert_eq!(seen.insert(&[2; 32], &hash(number)), Seen::Before);
        }
    }
    assert!(seen.len() <= bound, "{}", seen.len());
    assert!(seen.len() >= bound / 4, "{}", seen.len());
    assert_eq!(seen.len() as u64 + seen.forgotten(), 400_000);
    // The latest are still there.
    for number in 390_000..400_000 {
        assert_eq!(seen.insert(&[2; 32], &hash(number)), Seen::Before);
    }
}

#[test]
fn hashes_of_an_earlier_run_stay_for_as_many_tips() {
    let seen = SeenShares::new([1; 16], limits(2, 100_000));
    let hashes: Vec<[u8; 32]> = (0..500).map(|number| hash(number).0).collect();
    seen.preload(&hashes);
    for number in 0..500 {
        assert_eq!(seen.insert(&[1; 32], &hash(number)), Seen::Before);
    }
    for block in 1..4 {
        for number in 0..500 {
            seen.insert(&[block; 32], &hash(u64::from(block) * 10_000 + number));
        }
    }
    assert_eq!(seen.insert(&[3; 32], &hash(7)), Seen::New);
}

#[test]
fn other_keys_spread_hashes_otherwise_and_find_the_same() {
    for key in 0..20 {
        let seen = SeenShares::new([key; 16], limits(2, 100_000));
        for number in 0..2_000 {
            assert_eq!(seen.insert(&[1; 32], &hash(number)), Seen::New);
            assert_eq!(seen.insert(&[1; 32], &hash(number)), Seen::Before);
        }
    }
}
