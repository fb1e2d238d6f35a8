//! Every line that a device can be sent, to the byte.

use radpool_sv1::DeviceEvent;

use crate::harness::{Rig, job, zeros};

#[test]
fn a_whole_beginning() {
    let mut rig = Rig::new();
    let configure = r#"{"id":1,"method":"mining.configure","params":[["minimum-difficulty","version-rolling","subscribe-extranonce","info","frobnicate"],{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2,"minimum-difficulty.value":2048}]}"#;
    assert_eq!(
        rig.ask(configure),
        r#"{"id":1,"result":{"minimum-difficulty":true,"version-rolling":true,"version-rolling.mask":"1fffe000","subscribe-extranonce":true,"info":true,"frobnicate":false},"error":null}"#
    );
    assert_eq!(
        rig.ask(r#"{"id":2,"method":"mining.subscribe","params":["bosminer/1.0",null]}"#),
        r#"{"id":2,"result":[[["mining.set_difficulty","00000001"],["mining.notify","00000001"]],"00000001",8],"error":null}"#
    );
    assert_eq!(rig.events(), []);
    assert_eq!(
        rig.ask(r#"{"id":"x","method":"mining.authorize","params":["a.b","x"]}"#),
        r#"{"id":"x","result":true,"error":null}"#
    );
    let asked = Some(zeros(43));
    assert_eq!(rig.events(), [DeviceEvent::Ready { user: "a.b".into(), asked }]);
    rig.work(job(0x2a, 45, 0), true);
    // The pool's 2^13 is more than was asked for at first: the device begins with that.
    assert_eq!(
        rig.lines(),
        [
            r#"{"id":null,"method":"mining.set_difficulty","params":[2048]}"#,
            concat!(
                r#"{"id":null,"method":"mining.notify","params":["1","#,
                r#""0302010007060504"#,
                r#"0b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c","#,
                r#""01022aaabbccdd","0304",["#,
                r#""1111111111111111111111111111111111111111111111111111111111111111","#,
                r#""2222222222222222222222222222222222222222222222222222222222222222"],"#,
                r#""20000000","1d00ffff","6553f100",true]}"#
            ),
        ]
    );
}

#[test]
fn other_requests_have_fixed_answers() {
    let mut rig = Rig::new();
    for (request, answer) in [
        (
            r#"{"id":1,"method":"mining.ping","params":[]}"#,
            r#"{"id":1,"result":"pong","error":null}"#,
        ),
        (r#"{"id":null,"method":"mining.ping"}"#, r#"{"id":null,"result":"pong","error":null}"#),
        (
            r#"{"id":-1,"method":"mining.get_transactions","params":["1"]}"#,
            r#"{"id":-1,"result":[],"error":null}"#,
        ),
        (
            r#"{"id":2,"method":"mining.extranonce.subscribe","params":[]}"#,
            r#"{"id":2,"result":true,"error":null}"#,
        ),
        (
            r#"{"id":2,"method":"mining.suggest_difficulty","params":[1000]}"#,
            r#"{"id":2,"result":true,"error":null}"#,
        ),
        (
            r#"{"id":2,"method":"mining.suggest_target","params":["00"]}"#,
            r#"{"id":2,"result":true,"error":null}"#,
        ),
        (
            r#"{"id":2,"method":"eth_submitLogin","params":["x"]}"#,
            r#"{"id":2,"result":null,"error":[20,"Unknown method",null]}"#,
        ),
        (
            r#"{"id":2,"method":"mining.authorize","params":[]}"#,
            r#"{"id":2,"result":null,"error":[24,"Unauthorized worker",null]}"#,
        ),
        (
            r#"{"id":2,"method":"mining.submit","params":["a","1","00","00","00"]}"#,
            r#"{"id":2,"result":null,"error":[25,"Not subscribed",null]}"#,
        ),
        (
            r#"{"id":2,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"00001fff"}]}"#,
            r#"{"id":2,"result":{"version-rolling":false,"version-rolling.mask":"00000000"},"error":null}"#,
        ),
        (
            r#"{"id":2,"method":"mining.configure","params":[["info","info","a\"b"]]}"#,
            r#"{"id":2,"result":null,"error":[20,"Bad parameters",null]}"#,
        ),
        (
            r#"{"id":2,"method":"mining.configure","params":[["info","info","{}"]]}"#,
            r#"{"id":2,"result":{"info":true},"error":null}"#,
        ),
    ] {
        assert_eq!(rig.ask(request), answer, "{request}");
    }
}

#[test]
fn subscribe_is_answered_in_every_shape() {
    for parameters in
        ["[]", r#"["ua"]"#, r#"["ua",null]"#, r#"["ua","1"]"#, r#"["ua",null,"host",null]"#, "null"]
    {
        let mut rig = Rig::new();
        let line = format!(r#"{{"id":1,"method":"mining.subscribe","params":{parameters}}}"#);
        assert!(rig.ask(&line).contains(r#""00000001",8],"error":null}"#), "{parameters}");
    }
    let without = Rig::new().ask(r#"{"id":1,"method":"mining.subscribe"}"#);
    assert!(without.contains(r#""00000001",8],"error":null}"#));
}

#[test]
fn suggestions_come_in_three_shapes_and_count_from_the_next_job_on() {
    for parameters in ["[1000]", "1000", r#"{"difficulty":1000}"#, r#"["1000"]"#, "[512.5]"] {
        let mut rig = Rig::mining(45);
        let line =
            format!(r#"{{"id":1,"method":"mining.suggest_difficulty","params":{parameters}}}"#);
        assert_eq!(rig.ask(&line), r#"{"id":1,"result":true,"error":null}"#);
        assert_eq!(rig.events().last(), Some(&DeviceEvent::Paced { exponent: zeros(41) }));
        rig.work(job(2, 45, 0), false);
        let lines = rig.lines();
        assert_eq!(lines[0], r#"{"id":null,"method":"mining.set_difficulty","params":[512]}"#);
        assert!(lines[1].ends_with(",false]}"), "a difficulty makes no job clean");
    }
    let mut rig = Rig::mining(45);
    let target = format!("{}ff{}", "00".repeat(5), "ff".repeat(26));
    rig.say(&format!(r#"{{"id":1,"method":"mining.suggest_target","params":["{target}"]}}"#));
    assert_eq!(rig.events().last(), Some(&DeviceEvent::Paced { exponent: zeros(40) }));
}

#[test]
fn answers_come_before_difficulty_and_job_in_any_order_of_greeting() {
    let configure = r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{}]}"#;
    let subscribe = r#"{"id":2,"method":"mining.subscribe","params":[]}"#;
    let authorize = r#"{"id":3,"method":"mining.authorize","params":["a.b","d=4"]}"#;
    for order in [[configure, subscribe, authorize], [authorize, subscribe, configure]] {
        let mut rig = Rig::new();
        rig.work(job(1, 40, 0), true);
        order.iter().for_each(|line| rig.say(line));
        let lines = rig.lines();
        let place = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
        assert!(
            place("\"method\":\"mining.notify\"") > place("\"method\":\"mining.set_difficulty\"")
        );
        assert!(place("\"id\":2") < place("\"method\":\"mining.set_difficulty\""));
        assert!(place("\"id\":3") < place("\"method\":\"mining.set_difficulty\""));
    }
}

#[test]
fn version_rolling_is_taken_back_for_jobs_that_forbid_it() {
    let mut rig = Rig::mining(0);
    let mut fixed = job(2, 0, 0);
    fixed.version_rolling = false;
    rig.work(fixed, false);
    assert_eq!(
        rig.lines()[0],
        r#"{"id":null,"method":"mining.set_version_mask","params":["00000000"]}"#
    );
    let refused = rig.submit("\"2\"", r#""0000000000000000","6553f100","00000001","00002000""#);
    assert!(refused.contains("[20,\"Version bits outside of the mask\",null]"));
    rig.work(job(3, 0, 0), false);
    assert_eq!(
        rig.lines()[0],
        r#"{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}"#
    );
}
