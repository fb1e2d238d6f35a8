//! The Stratum V1 client against a pool that is a script.

use std::sync::Arc;

use proptest::prelude::*;
use radpool_miner::{
    Assignment, Ended, Share,
    client::{Event, Outbox},
    sv1::Sv1Client,
};
use radpool_units::{Exponent, Target};
use serde_json::{Value, json};

const START_US: u64 = 1_000_000;
const ANSWER_US_MAX: u64 = 30_000_000;

struct Rig {
    client: Sv1Client,
    out: Outbox,
}

impl Rig {
    fn new() -> Self {
        let mut out = Outbox::default();
        let client = Sv1Client::new("alice.rig".into(), "tests/1", START_US, &mut out);
        Self { client, out }
    }

    /// A client that has a job of difficulty 2^-12.
    fn mining() -> Self {
        let mut rig = Self::new();
        rig.sent();
        rig.say(&json!({"id": 1, "result": [[], "a1a2a3a4", 8], "error": null}));
        rig.say(&json!({"id": 2, "result": true, "error": null}));
        rig.say(
            &json!({"id": null, "method": "mining.set_difficulty", "params": [2_f64.powi(-12)]}),
        );
        rig.say(&notify("j1", true));
        rig
    }

    fn say(&mut self, message: &Value) {
        self.line(message.to_string().as_bytes(), START_US);
    }

    fn line(&mut self, line: &[u8], now_us: u64) {
        self.client.handle_line(line, now_us, &mut self.out);
    }

    fn sent(&mut self) -> Vec<Value> {
        let lines = std::mem::take(&mut self.out.frames);
        let text = String::from_utf8(lines).expect("JSON is text");
        text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
    }

    fn assigned(&mut self) -> Vec<(Arc<Assignment>, bool)> {
        let events = self.out.events.drain(..);
        let assigned = events.filter_map(|event| match event {
            Event::Assigned { assignment, new_tip } => Some((assignment, new_tip)),
            _ => None,
        });
        assigned.collect()
    }

    #[track_caller]
    fn ended(&mut self) -> Ended {
        match self.out.events.pop() {
            Some(Event::Ended(ended)) => ended,
            other => panic!("it goes on: {other:?}"),
        }
    }
}

fn notify(name: &str, clean: bool) -> Value {
    let prev_hash = "03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c";
    let branch = vec!["aa".repeat(32)];
    let parts =
        json!([name, prev_hash, "0102", "0304", branch, "20000000", "207fffff", "66000001", clean]);
    json!({"id": null, "method": "mining.notify", "params": parts})
}

fn share(assignment: &Arc<Assignment>) -> Share {
    let assignment = Arc::clone(assignment);
    let mut extranonce = [0; 32];
    extranonce[7] = 0x2a;
    Share {
        version: assignment.version,
        ntime: 0x6600_0002,
        nonce: 0xdead_beef,
        extranonce,
        assignment,
    }
}

#[test]
fn joins_with_what_all_devices_say() {
    let mut rig = Rig::new();
    let lines = rig.sent();
    assert_eq!(
        lines,
        [
            json!({"id": 1, "method": "mining.subscribe", "params": ["tests/1"]}),
            json!({"id": 2, "method": "mining.authorize", "params": ["alice.rig", "x"]}),
        ]
    );
}

#[test]
fn job_is_mined_once_everything_is_granted() {
    let mut rig = Rig::new();
    rig.say(&json!({"id": 1, "result": [[], "a1a2a3a4", 8], "error": null}));
    rig.say(&notify("j1", true));
    assert!(rig.out.events.is_empty());
    rig.say(&json!({"id": 2, "result": true, "error": null}));
    assert!(matches!(rig.out.events[0], Event::Opened { rollable: 8, .. }));
    let (job, new_tip) = rig.assigned().remove(0);
    assert!(new_tip);
    let prev_hash: Vec<u8> = (0..32).collect();
    assert_eq!(job.prev_hash.as_slice(), prev_hash);
    assert_eq!((job.version, job.nbits, job.min_ntime), (0x2000_0000, 0x207f_ffff, 0x6600_0001));
    assert_eq!(
        (job.extranonce_prefix.as_slice(), job.rollable),
        (&[0xa1, 0xa2, 0xa3, 0xa4][..], 8)
    );
    // Whoever is told no difficulty has 1.
    let mut target = [0; 32];
    target[26..28].fill(0xff);
    assert_eq!(job.target, Target::from_le_bytes(target));
}

#[test]
fn share_is_sent_as_devices_send_it_and_answered_by_itself() {
    let mut rig = Rig::mining();
    let (job, _) = rig.assigned().remove(0);
    for _ in 0..3 {
        assert!(rig.client.submit(&share(&job), START_US, &mut rig.out));
    }
    let params = json!(["alice.rig", "j1", "000000000000002a", "66000002", "deadbeef"]);
    let first = json!({"id": 3, "method": "mining.submit", "params": params});
    assert_eq!(rig.sent()[0], first);
    rig.line(br#"{"id":5,"result":true,"error":null}"#, START_US + 7);
    rig.line(br#"{"id":3,"result":null,"error":[22,"Duplicate share",null]}"#, START_US + 8);
    rig.line(br#"{"id":5,"result":true,"error":null}"#, START_US + 9);
    assert_eq!(rig.client.unanswered(), 1);
    let [Event::Accepted { count: 1, hashes, waited_us }, Event::Rejected { code, .. }] =
        rig.out.events.as_slice()
    else {
        panic!("{:?}", rig.out.events)
    };
    assert_eq!((*hashes, waited_us.as_slice()), (1 << 20, &[7][..]));
    assert_eq!(code, "Duplicate share");
}

#[test]
fn difficulty_and_extranonce_hold_from_the_next_job_on() {
    let mut rig = Rig::mining();
    let (first, _) = rig.assigned().remove(0);
    rig.say(&json!({"id": null, "method": "mining.set_difficulty", "params": [1024]}));
    rig.say(&json!({"id": null, "method": "mining.set_extranonce", "params": ["b1b2", 4]}));
    assert!(rig.out.events.is_empty());
    rig.say(&notify("j2", false));
    let (second, new_tip) = rig.assigned().remove(0);
    assert!(!new_tip);
    assert_eq!((second.extranonce_prefix.as_slice(), second.rollable), (&[0xb1, 0xb2][..], 4));
    assert_eq!(second.target.exponent_at_most(), Exponent::new(43).ok(), "a hair below 2^-42");
    // The first job's shares are still worth what they were.
    assert!(rig.client.submit(&share(&first), START_US, &mut rig.out));
    rig.say(&json!({"id": 3, "result": true, "error": null}));
    assert!(matches!(rig.out.events[..], [Event::Accepted { hashes, .. }] if hashes == 1 << 20));
}

#[test]
fn clean_job_ends_those_before() {
    let mut rig = Rig::mining();
    let (first, _) = rig.assigned().remove(0);
    rig.say(&notify("j2", true));
    assert!(!rig.client.submit(&share(&first), START_US, &mut rig.out));
}

#[test]
fn refusals_end_it_for_good() {
    let mut rig = Rig::new();
    rig.say(&json!({"id": 1, "result": null, "error": [20, "full", null]}));
    assert_eq!(rig.ended(), Ended::refused("the subscription", b"full"));
    let mut rig = Rig::new();
    rig.say(&json!({"id": 2, "result": false, "error": null}));
    assert!(rig.ended().is_lasting());
}

#[test]
fn pool_may_send_the_miner_elsewhere() {
    let mut rig = Rig::mining();
    rig.say(&json!({"id": null, "method": "client.reconnect", "params": ["b.example", "3334", 5]}));
    assert_eq!(rig.ended(), Ended::sent_elsewhere(b"b.example", 3334));
}

#[test]
fn question_of_the_pool_is_answered_and_news_are_not() {
    let mut rig = Rig::mining();
    rig.say(&json!({"id": null, "method": "client.show_message", "params": ["hello"]}));
    rig.say(&json!({"id": 7, "method": "client.get_version", "params": []}));
    let refused = json!({"id": 7, "result": null, "error": [20, "Unknown method", null]});
    assert_eq!(rig.sent(), [refused]);
}

#[test]
fn silent_pool_is_left() {
    let mut rig = Rig::new();
    assert_eq!(rig.client.next_deadline(), Some(START_US + ANSWER_US_MAX));
    rig.client.handle_deadline(START_US + ANSWER_US_MAX - 1, &mut rig.out);
    assert!(rig.out.events.is_empty());
    rig.client.handle_deadline(START_US + ANSWER_US_MAX, &mut rig.out);
    assert_eq!(rig.ended(), Ended::Silent { awaited: "a job" });
    let mut rig = Rig::mining();
    assert_eq!(rig.client.next_deadline(), None);
    let (job, _) = rig.assigned().remove(0);
    rig.client.submit(&share(&job), START_US + 5, &mut rig.out);
    rig.client.handle_deadline(START_US + 5 + ANSWER_US_MAX, &mut rig.out);
    assert_eq!(rig.ended(), Ended::Silent { awaited: "a share's answer" });
}

#[test]
fn what_makes_no_sense_ends_it() {
    for params in [
        json!([]),
        json!(["j", "00", "", "", [], "0", "0", "0", true]),
        json!(["j", "00".repeat(32), "x", "", [], "0", "0", "0", true]),
        json!(["j", "00".repeat(32), "", "", ["00"], "0", "0", "0", true]),
        json!(["j", "00".repeat(32), "", "", [], "123456789", "0", "0", true]),
    ] {
        let mut rig = Rig::mining();
        rig.say(&json!({"id": null, "method": "mining.notify", "params": params}));
        assert!(matches!(rig.ended(), Ended::Broken(_)), "{params}");
    }
    for difficulty in [json!(0), json!(-1), json!("x"), json!(1e300), Value::Null] {
        let mut rig = Rig::mining();
        rig.say(&json!({"id": null, "method": "mining.set_difficulty", "params": [difficulty]}));
        assert!(matches!(rig.ended(), Ended::Broken(_)), "{difficulty}");
    }
    for (part, len) in [("a", 4), ("", 0), ("", 33)] {
        let mut rig = Rig::mining();
        rig.say(&json!({"id": null, "method": "mining.set_extranonce", "params": [part, len]}));
        assert!(matches!(rig.ended(), Ended::Broken(_)), "{part} {len}");
    }
    let mut rig = Rig::mining();
    rig.line(b"{", START_US);
    assert!(matches!(rig.ended(), Ended::Malformed(_)));
}

proptest! {
    #[test]
    fn any_line_is_survived(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut rig = Rig::mining();
        rig.line(&line, START_US);
    }

    /// The target is the quotient itself, rounded down: compared with arithmetic on 128 bits.
    #[test]
    fn target_is_the_exact_quotient(difficulty in 1_u32..) {
        let mut rig = Rig::mining();
        rig.assigned();
        rig.say(&json!({"id": null, "method": "mining.set_difficulty", "params": [difficulty]}));
        rig.say(&notify("j2", true));
        let target = rig.assigned().remove(0).0.target.to_be_bytes();
        // 0xffff * 2^208 = 0xffff * 2^112 * 2^96; the bits below come from the remainder.
        let high = 0xffff_u128 << 96;
        let quotient = high / u128::from(difficulty);
        prop_assert_eq!(&target[2..18], &quotient.to_be_bytes()[..]);
        prop_assert_eq!(&target[..2], &[0, 0][..]);
    }
}
