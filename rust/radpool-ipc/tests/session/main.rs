//! A connection to a node that is not there: one of ours answers in its place, on a real socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has to stop")]

mod node;

use std::os::unix::fs::MetadataExt;

use node::{Behaviour, FakeNode};
use radpool_ipc::{
    Answer, CONNECTED, Capabilities, CoreTemplate, IpcError, Node, NodeSettings, Outcome,
    REQUESTS_MAX, Request, RequestError, TEMPLATES_MAX, TemplateOptions,
};

const DEADLINE_MS: u32 = 60_000;
/// Long enough that a test which waits for it would be noticed.
const LONG_MS: u32 = 600_000;
const OPTIONS: TemplateOptions = TemplateOptions {
    use_mempool: true,
    reserved_weight: 8000,
    coinbase_sigops: 400,
    cooldown: true,
};

fn connect_as(fake: &FakeNode, trusted_uids: Vec<u32>) -> Node {
    let path = fake.path().to_owned();
    Node::start(NodeSettings { path, trusted_uids, connect_deadline_ms: DEADLINE_MS }).unwrap()
}

/// Connects and takes the answer to that.
fn connect(fake: &FakeNode) -> (Node, Capabilities) {
    let node = connect_as(fake, vec![own_uid()]);
    match answers(&node, 1).remove(0) {
        (CONNECTED, Ok(Answer::Connected(capabilities))) => (node, capabilities),
        other => panic!("{other:?}"),
    }
}

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// Waits for as many answers.
fn answers(node: &Node, count: usize) -> Vec<Outcome> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let mut poll = libc::pollfd { fd: node.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd is passed with a count of one.
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 60_000) }, 1, "no answer in a minute");
        taken.extend(node.take());
    }
    taken.sort_by_key(|(token, _)| *token);
    taken
}

/// Asks one thing and waits for the answer.
fn ask(node: &Node, request: Request) -> Result<Answer, IpcError> {
    node.ask(7, request, DEADLINE_MS).unwrap();
    let (token, outcome) = answers(node, 1).remove(0);
    assert_eq!(token, 7);
    outcome
}

fn template(node: &Node) -> CoreTemplate {
    match ask(node, Request::CreateTemplate(OPTIONS)) {
        Ok(Answer::Template(template)) => *template,
        other => panic!("{other:?}"),
    }
}

fn verdict(good: bool, reason: &str, detail: &str) -> Answer {
    Answer::Verdict { good, reason: reason.to_owned(), detail: detail.to_owned() }
}

fn solution(template: u64, coinbase: Vec<u8>) -> Request {
    Request::SubmitSolution { template, version: 1, time: 2, nonce: 3, coinbase }
}

#[test]
fn a_template_comes_whole() {
    let fake = FakeNode::start("whole", Behaviour::default());
    let (node, capabilities) = connect(&fake);
    let all = Capabilities { is_test_chain: true, finds_transactions: true, answers_rpc: true };
    assert_eq!(capabilities, all);
    let template = template(&node);
    assert_eq!(fake.calls(), ["createNewBlock true 8000 400 true"]);
    assert_eq!((template.height, template.nbits), (200_000, 0x1d00_ffff));
    assert_eq!((template.version, template.time), (0x2020_2020, 0x2020_2020));
    assert_eq!((template.prev_hash, template.fees_sats), ([9; 32], vec![1000, 1001]));
    assert_eq!(template.transactions, [node::transaction(1), node::transaction(2)]);
    assert_eq!(template.merkle_path, [[1; 32], [2; 32]]);
    assert_eq!(template.coinbase.value_sats, 312_502_001);
    assert_eq!(template.coinbase.lock_time, 199_999);
}

#[test]
fn an_older_node_can_do_less_and_takes_solutions_all_the_same() {
    let behaviour = Behaviour { is_old: true, ..Behaviour::default() };
    let fake = FakeNode::start("older", behaviour);
    let (node, capabilities) = connect(&fake);
    assert!(!capabilities.finds_transactions && !capabilities.answers_rpc);
    let handle = template(&node).handle;
    assert_eq!(ask(&node, solution(handle, vec![1, 2, 3])), Ok(verdict(true, "", "")));
    assert_eq!(ask(&node, solution(handle, vec![4])), Ok(verdict(false, "", "")));
    for request in [
        Request::SubmitBlock(node::block()),
        Request::Transactions(vec![[2; 32]]),
        Request::Rpc("{}".to_owned()),
    ] {
        let error = ask(&node, request).unwrap_err();
        assert_eq!(error.kind(), "unsupported", "{error}");
    }
}

#[test]
fn a_newer_node_tells_why_it_refuses_a_solution() {
    let fake = FakeNode::start("newer", Behaviour::default());
    let (node, _) = connect(&fake);
    let handle = template(&node).handle;
    assert_eq!(ask(&node, solution(handle, vec![1, 2, 3])), Ok(verdict(true, "", "")));
    assert_eq!(ask(&node, solution(handle, vec![4])), Ok(verdict(false, "high-hash", "")));
    assert_eq!(ask(&node, solution(99, vec![4])), Err(IpcError::NoTemplate(99)));
}

#[test]
fn questions_have_their_answers() {
    let fake = FakeNode::start("questions", Behaviour::default());
    let (node, _) = connect(&fake);
    // The fake says yes when proof of work was to be checked: a template has none.
    let expected = verdict(false, "bad-cb-amount", "coinbase pays too much");
    assert_eq!(ask(&node, Request::CheckBlock(node::block())), Ok(expected));
    assert_eq!(ask(&node, Request::SubmitBlock(node::block())), Ok(verdict(true, "", "")));
    let found = ask(&node, Request::Transactions(vec![[2; 32], [3; 32]]));
    assert_eq!(found, Ok(Answer::Transactions(vec![vec![2; 32], vec![]])));
    let told = ask(&node, Request::Rpc("[1]".to_owned()));
    assert_eq!(told, Ok(Answer::Rpc("{\"result\": [1]}".to_owned())));
    assert_eq!(ask(&node, Request::Tip), Ok(Answer::Tip(Some((199_999, [9; 32])))));
    assert_eq!(ask(&node, Request::IsSyncing), Ok(Answer::Syncing(true)));
}

#[test]
fn waiting_ends_by_fees_by_time_and_by_interruption() {
    let fake = FakeNode::start("waiting", Behaviour::default());
    let (node, _) = connect(&fake);
    let handle = template(&node).handle;
    let wait = |timeout_ms, fee_rise_sats| Request::NextTemplate {
        template: handle,
        timeout_ms,
        fee_rise_sats,
    };
    assert!(matches!(ask(&node, wait(LONG_MS, Some(1))), Ok(Answer::Template(_))));
    assert_eq!(ask(&node, wait(1, None)), Ok(Answer::NoTemplate));
    node.ask(8, wait(LONG_MS, None), 2 * LONG_MS).unwrap();
    node.interrupt_wait(handle);
    assert_eq!(answers(&node, 1), [(8, Ok(Answer::NoTemplate))]);
    let calls = fake.calls();
    let most = 2_100_000_000_000_000_u64;
    assert_eq!(calls[1..3], ["waitNext 600000 1".to_owned(), format!("waitNext 1 {most}")]);
}

#[test]
fn a_verdict_that_hangs_is_late_and_delays_nothing_else() {
    let behaviour = Behaviour { hangs_at_checks: true, ..Behaviour::default() };
    let fake = FakeNode::start("hangs", behaviour);
    let (node, _) = connect(&fake);
    node.ask(1, Request::CheckBlock(node::block()), 10).unwrap();
    node.ask(2, Request::CheckBlock(node::block()), LONG_MS).unwrap();
    assert_eq!(answers(&node, 1), [(1, Err(IpcError::Late(10)))]);
    template(&node);
    let tip = ask(&node, Request::Tip);
    assert!(matches!(tip, Ok(Answer::Tip(Some(_)))));
}

#[test]
fn as_many_questions_as_may_wait_and_no_more() {
    let behaviour = Behaviour { hangs_at_checks: true, ..Behaviour::default() };
    let fake = FakeNode::start("many", behaviour);
    let (node, _) = connect(&fake);
    let check = || Request::CheckBlock(node::block());
    for token in 1..=REQUESTS_MAX as u64 {
        node.ask(token, check(), 1).unwrap();
    }
    assert_eq!(node.ask(99, check(), 1), Err(RequestError::TooMany(REQUESTS_MAX)));
    assert_eq!(answers(&node, REQUESTS_MAX).len(), REQUESTS_MAX);
    // All are given up, but the node has them still.
    assert_eq!(ask(&node, Request::Tip), Err(IpcError::Busy(REQUESTS_MAX)));
}

#[test]
fn a_number_in_use_and_bytes_that_are_no_block_are_refused_unsent() {
    let behaviour = Behaviour { hangs_at_checks: true, ..Behaviour::default() };
    let fake = FakeNode::start("refused", behaviour);
    let (node, _) = connect(&fake);
    node.ask(1, Request::CheckBlock(node::block()), LONG_MS).unwrap();
    assert_eq!(node.ask(1, Request::Tip, LONG_MS), Err(RequestError::Token(1)));
    let cut = node::block()[..100].to_vec();
    assert!(matches!(node.ask(2, Request::CheckBlock(cut), 1), Err(RequestError::Block(_))));
}

#[test]
fn forgotten_templates_leave_the_node() {
    let fake = FakeNode::start("forgotten", Behaviour::default());
    let (node, _) = connect(&fake);
    let handles: Vec<_> = (0..TEMPLATES_MAX).map(|_| template(&node).handle).collect();
    let one_more = ask(&node, Request::CreateTemplate(OPTIONS));
    assert_eq!(one_more, Err(IpcError::Busy(TEMPLATES_MAX)));
    handles.iter().for_each(|handle| node.forget(*handle));
    template(&node);
    // Asking once more gives the releases their time to arrive.
    while fake.seen.templates.load(std::sync::atomic::Ordering::SeqCst) > 1 {
        ask(&node, Request::Tip).unwrap();
    }
    assert!(matches!(ask(&node, solution(handles[0], vec![])), Err(IpcError::NoTemplate(_))));
}

#[test]
fn a_node_that_ends_answers_every_question_with_that() {
    let behaviour = Behaviour { hangs_at_checks: true, ..Behaviour::default() };
    let mut fake = FakeNode::start("ends", behaviour);
    let (node, _) = connect(&fake);
    for token in 1..4 {
        node.ask(token, Request::CheckBlock(node::block()), LONG_MS).unwrap();
    }
    ask(&node, Request::Tip).unwrap();
    fake.stop();
    for (_, outcome) in answers(&node, 3) {
        assert_eq!(outcome.unwrap_err().kind(), "disconnected");
    }
    assert_eq!(ask(&node, Request::Tip).unwrap_err().kind(), "disconnected");
}

#[test]
fn whoever_leaves_interrupts_what_waits() {
    let fake = FakeNode::start("leaves", Behaviour::default());
    let (node, _) = connect(&fake);
    let handle = template(&node).handle;
    let wait = Request::NextTemplate { template: handle, timeout_ms: LONG_MS, fee_rise_sats: None };
    node.ask(1, wait, LONG_MS).unwrap();
    drop(node);
    let calls = fake.calls();
    assert!(calls.contains(&"interruptWait".to_owned()), "{calls:?}");
    assert!(calls.contains(&"interrupt".to_owned()), "{calls:?}");
}

#[test]
fn a_process_of_another_user_is_not_trusted() {
    let fake = FakeNode::start("another", Behaviour::default());
    let node = connect_as(&fake, vec![own_uid() + 1]);
    let (token, outcome) = answers(&node, 1).remove(0);
    let error = outcome.unwrap_err();
    assert_eq!((token, error.kind()), (CONNECTED, "foreign"), "{error}");
    assert_eq!(ask(&node, Request::Tip).unwrap_err().kind(), "foreign");
}

#[test]
fn a_socket_that_is_not_there_says_what_to_do() {
    let mut fake = FakeNode::start("absent", Behaviour::default());
    fake.stop();
    let node = connect_as(&fake, vec![own_uid()]);
    let error = answers(&node, 1).remove(0).1.unwrap_err();
    assert_eq!(error.kind(), "unreachable");
    assert!(error.to_string().contains("-ipcbind=unix"), "{error}");
}

#[test]
fn answers_that_do_not_fit_each_other_are_nonsense() {
    let behaviour = Behaviour { is_mad: true, ..Behaviour::default() };
    let fake = FakeNode::start("mad", behaviour);
    let (node, _) = connect(&fake);
    let error = ask(&node, Request::CreateTemplate(OPTIONS)).unwrap_err();
    assert_eq!(error.kind(), "nonsense", "{error}");
}
