//! The way of a solved block.

use std::{fs, io::Read, os::unix::net::UnixListener};

use radpool_engine::{EngineEvent, EngineSettings};
use radpool_units::{Target, sha256d};

use crate::harness::{Pool, settings, template, tip};

#[test]
fn a_solved_block_is_on_disk_and_with_its_source_before_python_hears_of_it() {
    let socket = settings().solution_log.with_extension("sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let limits = EngineSettings { solution_socket: Some(socket.clone()), ..settings() };
    let mut pool = Pool::start(limits);
    let mut easy = tip(2, 2);
    easy.target = Target::from_compact(easy.nbits).unwrap();
    pool.engine.publish_template(template(2), Some(easy)).unwrap();
    let (mut client, channel) = pool.miner();
    // Every second hash meets a regtest target.
    client.submit(channel, 30);
    let (mut stream, _) = listener.accept().unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let request: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(request["params"]["template_id"], 2);
    assert!(!fs::read_to_string(&pool.log).unwrap().is_empty(), "the disk comes first");
    pool.until(|pool| {
        let solved = |event: &&EngineEvent| matches!(event, EngineEvent::BlockFound(_));
        pool.shares.len() == 30
            && pool.events.iter().filter(solved).count() as u64 == pool.metric("solutions_total")
    });
    for event in &pool.events {
        let EngineEvent::BlockFound(solution) = event else { continue };
        assert_eq!(sha256d(&solution.header), solution.hash);
        assert!(pool.shares.iter().any(|share| share.hash == solution.hash), "it is a share too");
    }
    assert!(pool.metric("solutions_sent_total") > 0);
    fs::remove_file(socket).unwrap();
}
