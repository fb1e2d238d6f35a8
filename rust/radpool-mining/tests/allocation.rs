//! An accepted share costs no allocation, and an idle connection little memory.

#![allow(clippy::unwrap_used)]

#[path = "machine/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{Arc, Mutex},
};

use harness::*;
use radpool_mining::{ChannelGrant, Command, Connection, Outbox};
use radpool_wire::frame::{FrameHeader, HEADER_LEN};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);

/// Held by the test that counts: the counters are everyone's.
static COUNTING: Mutex<()> = Mutex::new(());

// SAFETY: every call goes to the system's allocator unchanged; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(size as u64, Ordering::Relaxed);
        LIVE_BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn submit(client: &mut Client, frame: &[u8]) {
    let header = FrameHeader::from_bytes(frame.first_chunk().unwrap());
    let mut payload = [0; 256];
    let payload = &mut payload[..frame.len() - HEADER_LEN];
    payload.copy_from_slice(&frame[HEADER_LEN..]);
    client.pass(60_000);
    client.connection.handle_frame(header, payload, client.now, &mut client.out);
}

#[test]
fn an_idle_connection_with_a_channel_takes_little_memory() {
    let _alone = COUNTING.lock().unwrap();
    let mut settings = settings();
    settings.limits.channel_deadline_ms = 1_000_000;
    let pool = Pool::new(settings);
    let mut out = Outbox::default();
    let mut connections = Vec::with_capacity(1_000);
    let mut connect = |id| {
        let mut connection = Connection::new(id, Arc::clone(&pool.shared), START);
        let open = open_extended(RATE_Z8, [0xff; 32], 0);
        for message in [setup(0), open] {
            let mut frame = vec![];
            message.encode(&mut frame).unwrap();
            let header = FrameHeader::of_frame(&frame).unwrap();
            connection.handle_frame(header, &mut frame[HEADER_LEN..], START, &mut out);
        }
        let grant = ChannelGrant::to(owner(1));
        let open = Command::OpenChannel { request: 1, grant };
        connection.handle_command(open, START, &mut out);
        assert_eq!((connection.channel_count(), out.close), (1, None));
        out.clear();
        connection
    };
    connections.push(connect(0));
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    connections.extend((1..1_000).map(&mut connect));
    let heap = (LIVE_BYTES.load(Ordering::Relaxed) - before) / 999;
    let inline = size_of::<Connection>() as u64;
    println!("{heap} bytes on the heap and {inline} in the connection itself");
    // A quarter of the goal for the whole server, which has socket and ciphers to pay besides.
    assert!(heap + inline <= 1_536, "{heap} + {inline} bytes");
}

#[test]
fn an_accepted_share_costs_no_allocation() {
    let _alone = COUNTING.lock().unwrap();
    for standard in [false, true] {
        let mut settings = settings();
        // One share a minute is wanted and 60 s pass between shares, so that vardiff keeps still.
        settings.shares_per_minute = 1;
        let mut pool = Pool::new(settings);
        let mut client = pool.set_up(0);
        let open = if standard {
            open_standard(4.0, [0xff; 32])
        } else {
            open_extended(4.0, [0xff; 32], 0)
        };
        let (id, _) = client.open(&open, owner(1));
        let frames: Vec<Vec<u8>> = (0..100)
            .map(|_| {
                let share = client.mine(id);
                let mut frame = vec![];
                share.message().encode(&mut frame).unwrap();
                frame
            })
            .collect();
        // Room for all, the channel's statistics and the tip's table of hashes are made once.
        submit(&mut client, &frames[0]);
        client.out.shares.reserve(100);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for frame in &frames[1..] {
            submit(&mut client, frame);
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(client.out.shares.len(), 100);
        assert_eq!(allocations, 0);
    }
}
