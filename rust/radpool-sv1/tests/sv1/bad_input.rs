//! Lines that no firmware sends, and what exactly becomes of them and of the connection.

use radpool_sv1::DeviceClose;

use crate::harness::{Rig, job, settings};

const BAD: &str = r#"{"id":null,"result":null,"error":[20,"Bad parameters",null]}"#;

#[test]
fn malformed_lines_are_answered_and_after_eight_the_device_is_closed() {
    let nested = format!(r#"{{"id":1,"method":"mining.ping","params":{}"#, "[".repeat(4000));
    for line in [
        "{",
        "[]",
        "null",
        "\"mining.ping\"",
        r#"{"id":1,"method":"mining.ping"} {}"#,
        r#"{"id":NaN,"method":"mining.ping"}"#,
        r#"{"id":1,"id":2,"method":"mining.ping"}"#,
        r#"{"id":1,"method":"mining.ping","method":"mining.submit"}"#,
        "\u{0}",
        &nested,
        r#"{"id":1,"method":7}"#,
        r#"{"id":Infinity}"#,
        r#"{'id':1}"#,
    ] {
        let mut rig = Rig::mining(0);
        for _ in 0..settings().malformed_max {
            assert_eq!(rig.ask(line), BAD, "{line}");
        }
        assert_eq!((rig.ask(line), rig.closed()), (String::new(), Some(DeviceClose::Malformed)));
        // It hears nothing more.
        assert_eq!(rig.ask(r#"{"id":1,"method":"mining.ping"}"#), "");
    }
}

#[test]
fn bytes_that_are_no_text_are_malformed() {
    let mut rig = Rig::mining(0);
    rig.device.handle_line(b"{\"id\":1,\"method\":\"\xff\xfe\"}", rig.now, &mut rig.out);
    assert_eq!(rig.lines(), [BAD]);
}

#[test]
fn deep_and_strange_values_are_passed_over() {
    let deep = format!("{}1{}", "[".repeat(3000), "]".repeat(3000));
    let mut rig = Rig::mining(0);
    let answer = rig.ask(&format!(r#"{{"id":1,"method":"mining.ping","params":{deep}}}"#));
    assert_eq!(answer, r#"{"id":1,"result":"pong","error":null}"#);
    let answer = rig.submit("\"1\"", &format!(r#"{deep},"6553f100","00000001""#));
    assert!(answer.contains("[20,\"Bad parameters\",null]"));
    let answer =
        rig.ask(&format!(r#"{{"id":1,"method":"mining.suggest_difficulty","params":{deep}}}"#));
    assert_eq!(answer, r#"{"id":1,"result":true,"error":null}"#);
    assert_eq!(rig.ask(r#"{"id":1,"result":{"a":[1,2]},"error":null}"#), "");
}

#[test]
fn thousands_of_names_are_refused_and_then_the_device_is_closed() {
    let mut rig = Rig::new();
    rig.say(r#"{"id":1,"method":"mining.subscribe"}"#);
    let mut granted = 0;
    for number in 0..5_000 {
        let answer =
            rig.ask(&format!(r#"{{"id":1,"method":"mining.authorize","params":["w{number}"]}}"#));
        granted += u32::from(answer.contains("\"result\":true"));
        if rig.closed().is_some() {
            break;
        }
        assert!(
            granted <= 8 && (granted == number + 1 || answer.contains("[20,\"Too many requests\""))
        );
    }
    assert_eq!((granted, rig.closed()), (8, Some(DeviceClose::RequestRate)));
    assert_eq!(rig.events().len(), 1);
    assert_eq!(rig.device.figures().lock().workers.len(), 8);
}

#[test]
fn authorizing_again_is_no_news() {
    let mut rig = Rig::mining(0);
    rig.events();
    assert_eq!(
        rig.ask(r#"{"id":1,"method":"mining.authorize","params":["a.b","y"]}"#),
        r#"{"id":1,"result":true,"error":null}"#
    );
    assert!(rig.ask(r#"{"id":1,"method":"mining.subscribe"}"#).contains("00000001"));
    assert_eq!((rig.events(), rig.lines()), (vec![], vec![]));
}

#[test]
fn shares_before_their_time_or_of_others_are_refused() {
    let mut rig = Rig::new();
    let share = r#"{"id":9,"method":"mining.submit","params":["a.b","1","0000000000000000","6553f100","00000001"]}"#;
    assert!(rig.ask(share).contains("[25,"));
    rig.say(r#"{"id":1,"method":"mining.subscribe"}"#);
    assert!(rig.ask(share).contains("[24,"));
    rig.say(r#"{"id":1,"method":"mining.authorize","params":["a.c"]}"#);
    rig.work(job(1, 0, 0), true);
    assert!(rig.ask(share).contains("[24,"));
    assert!(rig.ask(&share.replace("a.b", "a.c")).contains("\"result\":true"));
    assert!(
        rig.ask(&share.replace("a.b", "a.c").replace("\"1\"", "\"2\""))
            .contains("[21,\"Job not found\"")
    );
    for short in [r#"["a.c"]"#, "[]", "null", r#"{"a":1}"#, r#"["a.c","1","00","00"]"#] {
        let answer = rig.ask(&format!(r#"{{"id":9,"method":"mining.submit","params":{short}}}"#));
        assert!(answer.contains("[20,") || answer.contains("[24,"), "{short}: {answer}");
    }
}

#[test]
fn times_outside_of_their_bounds_are_refused_on_both_sides() {
    let mut rig = Rig::mining(0);
    let at = |ntime: u32| format!(r#""0000000000000000","{ntime:08x}","00000001""#);
    let start = crate::harness::UNIX_S;
    assert!(rig.submit("\"1\"", &at(start - 1)).contains("Time out of range"));
    assert!(rig.submit("\"1\"", &at(start)).contains("true"));
    assert!(rig.submit("\"1\"", &at(start + 7_200)).contains("true"));
    assert!(rig.submit("\"1\"", &at(start + 7_201)).contains("Time out of range"));
}

#[test]
fn floods_are_refused_and_then_closed() {
    let mut rig = Rig::mining(0);
    let mut refused = 0;
    for nonce in 0..2_000 {
        let answer = rig.submit("\"1\"", &format!(r#""0000000000000000","6553f100",{nonce}"#));
        refused += u32::from(answer.contains("[20,\"Too many requests\",null]"));
        if rig.closed().is_some() {
            break;
        }
    }
    assert_eq!((refused, rig.closed()), (500, Some(DeviceClose::SubmitRate)));
    assert_eq!(rig.shares().len(), 500);
    let mut rig = Rig::mining(0);
    (0..100).for_each(|_| rig.say(r#"{"id":1,"method":"mining.ping"}"#));
    assert_eq!(rig.closed(), Some(DeviceClose::RequestRate));
}
