//! Work as it comes and goes: jobs, difficulties, tips, pools and silence.

use std::sync::Arc;

use radpool_sv1::{DeviceClose, DeviceEvent, DeviceSettings, Feed};

use crate::harness::{Notified, Rig, START_MS, job, meets, pool_hash, seen, settings, zeros};

#[test]
fn shares_go_up_with_the_bytes_that_the_pool_wants() {
    let mut rig = Rig::new();
    rig.greet();
    rig.work(job(7, 8, 0), true);
    let notify = rig.lines().pop().unwrap();
    let notified = Notified::read(&notify);
    let extranonce2 = [1, 2, 3, 4, 5, 6, 7, 8];
    let nonce = notified.search(rig.extranonce1, extranonce2, 8, 0);
    let fields = format!(r#""0102030405060708","{}","{nonce:08x}""#, notified.ntime);
    assert!(rig.submit("\"1\"", &fields).contains("\"result\":true"));
    let share = rig.shares().pop().unwrap();
    assert_eq!((share.source, share.share.assignment.job_id, share.share.nonce), (1, 7, nonce));
    assert_eq!(share.share.extranonce[..12], [0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(pool_hash(&share), notified.hash(rig.extranonce1, &extranonce2, nonce));
    assert!(meets(&share));
}

#[test]
fn longer_extranonces_are_folded_into_the_coinbase() {
    let mut rig = Rig::new();
    rig.greet();
    let mut long = job(1, 0, 0);
    (long.extranonce_prefix, long.rollable) = (vec![0xee; 16], 16);
    rig.work(long, true);
    let notify = rig.lines().pop().unwrap();
    assert!(notify.contains(&format!("010201{}00000000", "ee".repeat(16))), "{notify}");
    let notified = Notified::read(&notify);
    assert!(rig.submit("\"1\"", r#""0102030405060708","6553f100",5"#).contains("true"));
    let share = rig.shares().pop().unwrap();
    assert_eq!(share.share.extranonce[..16], [0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(pool_hash(&share), notified.hash([0, 0, 0, 1], &[1, 2, 3, 4, 5, 6, 7, 8], 5));
}

#[test]
fn shares_between_the_two_difficulties_stay_here() {
    let mut rig = Rig::new();
    rig.greet();
    rig.say(r#"{"id":1,"method":"mining.suggest_difficulty","params":[0.000000015]}"#);
    rig.work(job(1, 12, 0), true);
    let lines = rig.lines();
    // 2^-26, that is step 6, while the pool wants step 12.
    assert!(lines.iter().any(|line| line.contains("0.00000001490116119384765625")), "{lines:?}");
    let notify = lines.last().unwrap();
    for (z, accepted, forwarded) in
        [(4, false, 0), (5, false, 0), (6, true, 0), (11, true, 0), (12, true, 1), (13, true, 1)]
    {
        let answer = rig.mine(notify, z, 0);
        assert_eq!(answer.contains("\"result\":true"), accepted, "{z}: {answer}");
        assert_eq!(answer.contains("[23,"), !accepted, "{z}: {answer}");
        let shares = rig.shares();
        assert_eq!(shares.len(), forwarded, "{z}");
        assert!(shares.iter().all(meets));
    }
    let figures = rig.device.figures();
    let worker = figures.lock().workers[0].clone();
    assert_eq!((worker.accepted, worker.forwarded, worker.work), (4, 2, 4 << 6));
}

#[test]
fn each_job_keeps_the_difficulty_that_it_came_with() {
    let mut rig = Rig::new();
    rig.greet();
    rig.work(job(1, 4, 0), true);
    let first = rig.lines().pop().unwrap();
    rig.work(job(2, 8, 0), false);
    let lines = rig.lines();
    assert!(lines[0].contains("set_difficulty") && !Notified::read(&lines[1]).clean);
    assert!(rig.mine(&first, 4, 0).contains("\"result\":true"));
    assert!(rig.mine(&lines[1], 4, 0).contains("[23,"));
    assert!(rig.mine(&lines[1], 8, 0).contains("\"result\":true"));
    assert_eq!(rig.shares().len(), 2);
}

#[test]
fn a_new_tip_makes_everything_before_it_stale() {
    let mut rig = Rig::new();
    rig.greet();
    rig.work(job(1, 0, 0), true);
    let first = rig.lines().pop().unwrap();
    rig.work(job(2, 0, 50), true);
    let second = rig.lines().pop().unwrap();
    assert!(Notified::read(&second).clean);
    assert!(rig.mine(&first, 0, 0).contains("[21,\"Stale share\""));
    assert!(rig.mine(&second, 0, 0).contains("\"result\":true"));
}

#[test]
fn quiet_pools_have_their_job_sent_again_with_later_time() {
    let mut rig = Rig::new();
    rig.greet();
    rig.work(job(1, 0, 0), true);
    let first = Notified::read(&rig.lines().pop().unwrap());
    rig.pass(44_999);
    assert_eq!(rig.lines(), [""; 0]);
    rig.pass(1);
    let again = Notified::read(&rig.lines().pop().unwrap());
    assert_eq!((first.job.as_str(), again.job.as_str(), again.clean), ("1", "2", false));
    let time = |job: &Notified| u32::from_str_radix(&job.ntime, 16).unwrap();
    assert_eq!(time(&again), time(&first) + 45);
    // Both are of the same job of the pool.
    for job in ["\"1\"", "\"2\""] {
        let ntime = time(&again);
        let fields = format!(r#""0000000000000000","{ntime:08x}","0000000{}""#, &job[1..2]);
        assert!(rig.submit(job, &fields).contains("\"result\":true"));
    }
    assert!(rig.shares().iter().all(|share| share.share.assignment.job_id == 1));
}

#[test]
fn a_job_that_comes_twice_at_once_gets_another_time() {
    let mut rig = Rig::new();
    rig.greet();
    let same = std::sync::Arc::new(job(1, 0, 0));
    for _ in 0..3 {
        let feed = radpool_sv1::Feed::Work {
            source: 1,
            assignment: std::sync::Arc::clone(&same),
            new_tip: false,
            since_ms: rig.now.mono_ms,
        };
        rig.device.handle_feed(feed, rig.now, &mut rig.out);
    }
    let times: Vec<_> = rig
        .lines()
        .iter()
        .filter(|line| line.contains("\"method\":\"mining.notify\""))
        .map(|line| Notified::read(line).ntime)
        .collect();
    assert_eq!(times, ["6553f100", "6553f101", "6553f102"]);
}

#[test]
fn a_device_without_work_is_closed_in_thirty_seconds() {
    let mut rig = Rig::mining(0);
    rig.lose(2);
    assert!(rig.mine_is_good());
    rig.lose(1);
    assert!(rig.submit("\"1\"", r#""00000000000000ff","6553f100","00000001""#).contains("[21,"));
    rig.pass(29_999);
    assert_eq!(rig.closed(), None);
    rig.pass(1);
    assert_eq!(rig.closed(), Some(DeviceClose::NoWork));
    let mut never = Rig::new();
    never.greet();
    never.pass(30_000);
    assert_eq!(never.closed(), Some(DeviceClose::NoWork));
}

#[test]
fn whoever_says_nothing_is_closed_in_thirty_seconds() {
    let mut rig = Rig::new();
    rig.say(r#"{"id":1,"method":"mining.subscribe"}"#);
    rig.pass(29_999);
    assert_eq!(rig.closed(), None);
    rig.pass(1);
    assert_eq!(rig.closed(), Some(DeviceClose::HandshakeTimeout));
}

#[test]
fn another_pool_is_a_clean_job_and_what_the_old_one_had_is_stale() {
    let mut rig = Rig::new();
    rig.greet();
    rig.work(job(1, 0, 0), true);
    let old = rig.lines().pop().unwrap();
    let mut other = job(1, 0, 0);
    (other.channel_id, other.extranonce_prefix) = (9, vec![1; 8]);
    rig.work_of(2, other, false);
    let lines = rig.lines();
    assert_eq!(lines.len(), 1, "nothing but a job: {lines:?}");
    let new = Notified::read(&lines[0]);
    assert!(new.clean);
    assert!(rig.mine(&old, 0, 0).contains("[21,"));
    assert!(rig.mine(&lines[0], 0, 0).contains("\"result\":true"));
    assert_eq!(rig.shares()[0].source, 2);
}

#[test]
fn shorter_extranonces_are_told_or_end_the_connection() {
    let mut short = job(2, 0, 0);
    short.rollable = 8;
    let mut rig = Rig::mining(0);
    rig.work_of(2, short.clone(), true);
    assert_eq!(rig.closed(), Some(DeviceClose::ExtranonceChanged));
    assert_eq!(rig.lines(), [r#"{"id":null,"method":"client.reconnect","params":[]}"#]);

    let mut rig = Rig::mining(0);
    rig.say(r#"{"id":1,"method":"mining.extranonce.subscribe"}"#);
    rig.lines();
    rig.work_of(2, short, true);
    let lines = rig.lines();
    assert_eq!(lines[0], r#"{"id":null,"method":"mining.set_extranonce","params":["00000001",4]}"#);
    let notified = Notified::read(&lines[1]);
    assert!(rig.submit("\"2\"", r#""01020304","6553f100",5"#).contains("true"));
    let share = rig.shares().pop().unwrap();
    assert_eq!(share.share.extranonce[..8], [0, 0, 0, 1, 1, 2, 3, 4]);
    assert_eq!(pool_hash(&share), notified.hash([0, 0, 0, 1], &[1, 2, 3, 4], 5));
}

#[test]
fn slow_devices_get_easier_jobs_and_the_pool_hears_of_it() {
    let mut rig = Rig::mining(60);
    rig.events();
    rig.pass(150_000);
    let paced: Vec<_> = rig.events();
    let Some(DeviceEvent::Paced { exponent }) = paced.first() else { panic!("{paced:?}") };
    assert_eq!(*exponent, zeros(55));
    let lines = rig.lines();
    let told = lines.iter().find(|line| line.contains("set_difficulty")).unwrap();
    assert!(told.contains("[8388608]"), "2^23 with the next job: {told}");
    assert!(lines.iter().all(|line| !line.contains(",true]}")), "nothing is clean for it");
}

#[test]
fn devices_that_cannot_bring_what_is_wanted_are_looked_at_once_a_second() {
    let wanted = DeviceSettings { shares_per_minute: 1_000_000, ..settings() };
    let mut rig = Rig::with(wanted, &seen(), 1);
    rig.greet();
    rig.work(job(1, 60, 0), true);
    rig.events();
    let calls = rig.pass(40_000);
    assert!((30..=41).contains(&calls), "{calls}");
    let mut paced: Vec<_> = rig.events();
    let count = paced.len();
    paced.dedup();
    assert_eq!(paced.len(), count, "what was said is not said again");
    rig.work(job(2, 0, 0), false);
    assert_eq!(rig.pass(40_000), 0, "there is nothing easier");
}

#[test]
fn fast_devices_are_left_to_the_pool() {
    let mut rig = Rig::mining(0);
    for nonce in 0..40 {
        assert!(
            rig.submit("\"1\"", &format!(r#""0000000000000000","6553f100",{nonce}"#))
                .contains("true")
        );
    }
    rig.events();
    rig.work(job(2, 3, 0), false);
    assert!(rig.lines()[0].contains("set_difficulty"));
    assert_eq!(rig.events(), []);
}

impl Rig {
    fn mine_is_good(&mut self) -> bool {
        self.submit("\"1\"", r#""0000000000000000","6553f100","00000001""#).contains("true")
    }
}

#[test]
fn jobs_of_an_earlier_tip_hold_nothing_but_their_numbers() {
    let mut rig = Rig::mining(0);
    let assignment = Arc::new(job(2, 0, 1));
    let feed = |assignment| Feed::Work { source: 1, assignment, new_tip: true, since_ms: START_MS };
    rig.device.handle_feed(feed(Arc::clone(&assignment)), rig.now, &mut rig.out);
    let line = rig.lines().pop().unwrap();
    assert_eq!(Arc::strong_count(&assignment), 3, "the device's work and its job");
    rig.device.handle_feed(feed(Arc::new(job(3, 0, 2))), rig.now, &mut rig.out);
    assert_eq!(Arc::strong_count(&assignment), 1);
    assert!(rig.mine(&line, 0, 0).contains("[21,\"Stale share\""));
}
