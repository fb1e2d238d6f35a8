//! A job as a device gets it, and what becomes of a share of it.

use std::sync::Arc;

use radpool_miner::{
    assignment::{Assignment, Coinbase, CoinbaseLines, JobSource},
    header::Header,
};
use radpool_units::{Exponent, Hash256, sha256d};

use crate::request::write_hex;

/// Bytes of extranonce that a device is given: the same for every one, whatever the pool's prefix is.
pub const EXTRANONCE1_LEN: usize = 4;

/// The version bits that SV1 devices roll. Source: BIP320.
pub const VERSION_MASK: u32 = 0x1fff_e000;

/// A job that a device was sent.
#[derive(Clone, Debug)]
pub(crate) struct DeviceJob {
    /// The number behind its id; never used twice on a connection.
    pub(crate) number: u32,
    /// Which upstream it is of.
    pub(crate) source: u64,
    /// `None` once nobody needs it: most of the jobs that a device may still name are stale.
    pub(crate) assignment: Option<Arc<Assignment>>,
    /// What the device was asked for.
    pub(crate) exponent: Exponent,
    /// Whether its shares are of no use any more.
    pub(crate) stale: bool,
    pub(crate) sent_ms: u64,
    /// The time that it was sent with.
    pub(crate) ntime: u32,
}

impl DeviceJob {
    /// Has its shares be of no use any more, because a job of `source` begins anew. Of another source
    /// it may be sent again, and has to be known then.
    pub(crate) fn end(&mut self, source: u64) {
        self.stale = true;
        if self.source == source {
            self.assignment = None;
        }
    }
}

/// What a device rolled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rolled {
    pub(crate) version: u32,
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
    /// Everything behind the pool's prefix, then zeros.
    pub(crate) extranonce: [u8; 32],
}

/// The share of bytes behind the pool's prefix that are nobody's: what is left of them when both
/// parts of the device's extranonce are taken off the end. `None` when they do not fit.
pub(crate) fn padding(assignment: &Assignment, extranonce2_len: usize) -> Option<usize> {
    assignment.rollable.checked_sub(EXTRANONCE1_LEN + extranonce2_len)
}

/// The hash of the header that a device has found.
pub(crate) fn header_hash(assignment: &Assignment, rolled: &Rolled) -> Hash256 {
    let header = Header {
        version: rolled.version,
        prev_hash: assignment.prev_hash,
        merkle_root: assignment.merkle_root(&rolled.extranonce[..assignment.rollable]).0,
        ntime: rolled.ntime,
        nbits: assignment.nbits,
    };
    sha256d(&header.to_bytes(rolled.nonce))
}

/// Writes mining.notify. The pool's prefix and the padding are part of the coinbase's first half.
pub(crate) fn write_notify(job: &DeviceJob, padding: usize, clean: bool, out: &mut Vec<u8>) {
    let Some(assignment) = &job.assignment else { return };
    let JobSource::Coinbase(coinbase) = &assignment.source else {
        return; // only standard channels have such jobs, and none is ever opened
    };
    // A pool has one coinbase for thousands of devices.
    let CoinbaseLines { prefix, suffix, path } = coinbase.lines(coinbase_lines);
    let extranonce_prefix = &assignment.extranonce_prefix;
    // 264 bytes are more than the previous hash, all numbers, quotes and brackets.
    let bytes = prefix.len() + suffix.len() + path.len();
    out.reserve_exact(bytes + 2 * (extranonce_prefix.len() + padding) + 264);
    out.extend_from_slice(b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"");
    write_number(job.number, out);
    out.extend_from_slice(b"\",\"");
    for word in assignment.prev_hash.chunks_exact(4) {
        write_hex(&[word[3], word[2], word[1], word[0]], out);
    }
    out.extend_from_slice(b"\",\"");
    out.extend_from_slice(prefix);
    write_hex(extranonce_prefix, out);
    write_hex(&[0; 32][..padding], out);
    out.extend_from_slice(b"\",\"");
    out.extend_from_slice(suffix);
    out.extend_from_slice(b"\",[");
    out.extend_from_slice(path);
    out.extend_from_slice(b"],\"");
    write_hex(&assignment.version.to_be_bytes(), out);
    out.extend_from_slice(b"\",\"");
    write_hex(&assignment.nbits.to_be_bytes(), out);
    out.extend_from_slice(b"\",\"");
    write_hex(&job.ntime.to_be_bytes(), out);
    out.extend_from_slice(if clean { b"\",true]}\n" } else { b"\",false]}\n" });
}

/// Writes a number without leading zeros; none of them is 0.
fn write_number(number: u32, out: &mut Vec<u8>) {
    let start = out.len();
    write_hex(&number.to_be_bytes(), out);
    let zeros = (number.leading_zeros() / 4).min(7) as usize;
    out.drain(start..start + zeros);
}

fn coinbase_lines(coinbase: &Coinbase) -> CoinbaseLines {
    let hex = |bytes: &[u8]| {
        let mut out = Vec::with_capacity(2 * bytes.len());
        write_hex(bytes, &mut out);
        out.into_boxed_slice()
    };
    let mut path = Vec::with_capacity(67 * coinbase.path().len());
    for (index, node) in coinbase.path().iter().enumerate() {
        path.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        write_hex(node, &mut path);
        path.push(b'"');
    }
    let (prefix, suffix) = (hex(coinbase.prefix()), hex(coinbase.suffix()));
    CoinbaseLines { prefix, suffix, path: path.into() }
}
