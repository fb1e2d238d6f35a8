//! An accepted share costs no allocation.

#![allow(clippy::unwrap_used)]

#[path = "machine/harness/mod.rs"]
#[allow(dead_code)]
mod harness;

use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{GlobalAlloc, Layout, System};

use harness::*;
use radpool_wire::frame::{FrameHeader, HEADER_LEN};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

/// The only test of its program: the counter is everyone's.
#[test]
fn an_accepted_share_costs_no_allocation() {
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
