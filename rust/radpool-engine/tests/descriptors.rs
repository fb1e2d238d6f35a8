//! An engine that runs out of file descriptors. A process of its own: the limit holds for all of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "the harness is that of the other tests")]

#[path = "engine/harness.rs"]
mod harness;

use std::{fs, net::TcpStream};

use harness::{Client, Pool, settings};

fn limit_descriptors(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid structure of the kind that they expect.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[test]
fn accepting_pauses_and_goes_on_when_there_are_descriptors_again() {
    let mut pool = Pool::start(settings());
    let (mut client, channel) = pool.miner();
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    limit_descriptors(open + 12);
    // Each takes one here and one in the engine, until one side gets none.
    let crowd: Vec<_> = (0..).map_while(|_| TcpStream::connect(pool.address).ok()).collect();
    assert!(crowd.len() >= 6);
    pool.until(|pool| pool.metric("accept_pauses_total") > 0);
    client.submit(channel, 1);
    pool.until(|pool| pool.shares.len() == 1);
    drop(crowd);
    Client::connect(&pool).set_up();
    assert_eq!(pool.metric("tasks_panicked_total"), 0);
}
