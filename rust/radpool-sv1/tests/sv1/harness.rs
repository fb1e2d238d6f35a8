//! A device's machine with a clock, a hasher that shares nothing with it, and a pool's jobs.

use std::sync::Arc;

use radpool_miner::assignment::{Assignment, Coinbase, JobSource};
use radpool_mining::{SeenLimits, SeenShares};
use radpool_sv1::{
    Device, DeviceClose, DeviceEvent, DeviceOutbox, DeviceSettings, Feed, PoolShare,
};
use radpool_units::{Exponent, Hash256, Now, Target, sha256d};
use serde_json::Value;

pub(crate) const START_MS: u64 = 1_000_000;
pub(crate) const UNIX_S: u32 = 1_700_000_000;

pub(crate) fn settings() -> DeviceSettings {
    DeviceSettings {
        shares_per_minute: 6,
        exponent_start: Exponent::MAX,
        exponent_min: Exponent::MIN,
        handshake_deadline_ms: 30_000,
        silence_ms: 30_000,
        keepalive_ms: 45_000,
        ntime_ahead_s: 7_200,
        submits_per_second: 100,
        submits_burst: 500,
        requests_per_second: 10,
        requests_burst: 50,
        malformed_max: 8,
        names_max: 8,
        jobs_max: 16,
    }
}

pub(crate) fn seen() -> Arc<SeenShares> {
    let limits = SeenLimits { tips: 3, shares_expected: 100, shares_max: 100_000 };
    Arc::new(SeenShares::new([7; 16], limits))
}

pub(crate) fn zeros(z: u32) -> Exponent {
    Exponent::new(z).unwrap()
}

/// A job of a pool at step `z` on block `tip`.
pub(crate) fn job(id: u32, z: u32, tip: u8) -> Assignment {
    Assignment {
        channel_id: 5,
        job_id: id,
        version: 0x2000_0000,
        version_rolling: true,
        prev_hash: core::array::from_fn(|index| tip.wrapping_add(index as u8)),
        nbits: 0x1d00_ffff,
        min_ntime: UNIX_S,
        target: zeros(z).target(),
        extranonce_prefix: vec![0xaa, 0xbb, 0xcc, 0xdd],
        rollable: 12,
        source: JobSource::Coinbase(Arc::new(Coinbase::new(
            vec![0x01, 0x02, id as u8],
            vec![0x03, 0x04],
            vec![[0x11; 32], [0x22; 32]],
        ))),
    }
}

/// A machine and everything that it said.
pub(crate) struct Rig {
    pub(crate) device: Device,
    pub(crate) now: Now,
    pub(crate) out: DeviceOutbox,
    pub(crate) extranonce1: [u8; 4],
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(settings(), &seen(), 1)
    }

    pub(crate) fn with(settings: DeviceSettings, seen: &Arc<SeenShares>, number: u32) -> Self {
        let now = Now { mono_ms: START_MS, unix_ms: u64::from(UNIX_S) * 1000 };
        let extranonce1 = number.to_be_bytes();
        let device = Device::new(Arc::new(settings), Arc::clone(seen), extranonce1, 8, now);
        Self { device, now, out: DeviceOutbox::default(), extranonce1 }
    }

    /// A device that mines at step `z`.
    pub(crate) fn mining(z: u32) -> Self {
        let mut rig = Self::new();
        rig.greet();
        rig.work(job(1, z, 0), true);
        rig.lines();
        rig
    }

    pub(crate) fn greet(&mut self) {
        let mask = r#"{"version-rolling.mask":"ffffffff"}"#;
        self.say(&format!(
            r#"{{"id":1,"method":"mining.configure","params":[["version-rolling"],{mask}]}}"#
        ));
        self.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
        self.say(r#"{"id":3,"method":"mining.authorize","params":["a.b","x"]}"#);
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.device.handle_line(line.as_bytes(), self.now, &mut self.out);
    }

    /// Says a line and returns what it is answered.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.lines();
        self.say(line);
        self.lines().concat()
    }

    pub(crate) fn work(&mut self, assignment: Assignment, new_tip: bool) {
        self.work_of(1, assignment, new_tip);
    }

    pub(crate) fn work_of(&mut self, source: u64, assignment: Assignment, new_tip: bool) {
        let (assignment, since_ms) = (Arc::new(assignment), self.now.mono_ms);
        let feed = Feed::Work { source, assignment, new_tip, since_ms };
        self.device.handle_feed(feed, self.now, &mut self.out);
    }

    pub(crate) fn lose(&mut self, source: u64) {
        self.device.handle_feed(Feed::Lost { source }, self.now, &mut self.out);
    }

    /// Lets time pass, deadline by deadline.
    /// Lets time pass; returns how often the machine wanted to be called.
    pub(crate) fn pass(&mut self, ms: u64) -> u32 {
        let end = self.now.mono_ms + ms;
        let mut calls = 0;
        while self.device.next_deadline() <= end {
            let step = self.device.next_deadline().max(self.now.mono_ms) - self.now.mono_ms;
            self.step(step);
            self.device.handle_deadline(self.now, &mut self.out);
            calls += 1;
        }
        let rest = end - self.now.mono_ms;
        self.step(rest);
        calls
    }

    fn step(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    /// Takes the lines that were said.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let lines = core::mem::take(&mut self.out.lines);
        let text = String::from_utf8(lines).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "whole lines: {text:?}");
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn shares(&mut self) -> Vec<PoolShare> {
        core::mem::take(&mut self.out.shares)
    }

    pub(crate) fn events(&mut self) -> Vec<DeviceEvent> {
        core::mem::take(&mut self.out.events)
    }

    pub(crate) fn closed(&self) -> Option<DeviceClose> {
        self.out.close
    }

    /// Says a share; `fields` are the parameters behind the job's id, as JSON.
    pub(crate) fn submit(&mut self, job: &str, fields: &str) -> String {
        self.ask(&format!(r#"{{"id":9,"method":"mining.submit","params":["a.b",{job},{fields}]}}"#))
    }

    /// Finds and submits a share of a job as notified; returns the answer.
    pub(crate) fn mine(&mut self, notify: &str, z: u32, start: u32) -> String {
        let notified = Notified::read(notify);
        let nonce = notified.search(self.extranonce1, [0; 8], z, start);
        let fields = format!(r#""0000000000000000","{}","{nonce:08x}""#, notified.ntime);
        self.submit(&format!("\"{}\"", notified.job), &fields)
    }
}

/// A job as a device reads it from the line.
pub(crate) struct Notified {
    pub(crate) job: String,
    pub(crate) ntime: String,
    pub(crate) clean: bool,
    prev_hash: Vec<u8>,
    coinbase: [Vec<u8>; 2],
    path: Vec<[u8; 32]>,
    version: u32,
    nbits: u32,
}

impl Notified {
    pub(crate) fn read(line: &str) -> Self {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["method"], "mining.notify", "{line}");
        let text = |index: usize| line["params"][index].as_str().unwrap().to_owned();
        let bytes = |index: usize| hex::decode(text(index)).unwrap();
        let word = |index: usize| u32::from_str_radix(&text(index), 16).unwrap();
        let nodes = line["params"][4].as_array().unwrap().iter();
        Self {
            job: text(0),
            prev_hash: bytes(1).chunks(4).flat_map(|word| word.iter().rev().copied()).collect(),
            coinbase: [bytes(2), bytes(3)],
            path: nodes
                .map(|node| hex::decode(node.as_str().unwrap()).unwrap().try_into().unwrap())
                .collect(),
            version: word(5),
            nbits: word(6),
            ntime: text(7),
            clean: line["params"][8].as_bool().unwrap(),
        }
    }

    pub(crate) fn hash(&self, extranonce1: [u8; 4], extranonce2: &[u8], nonce: u32) -> Hash256 {
        let [first, last] = &self.coinbase;
        let coinbase = [first, &extranonce1[..], extranonce2, last].concat();
        let mut root = sha256d(&coinbase);
        for node in &self.path {
            root = sha256d(&[root.0, *node].concat());
        }
        let ntime = u32::from_str_radix(&self.ntime, 16).unwrap();
        let header = [
            &self.version.to_le_bytes()[..],
            &self.prev_hash,
            &root.0,
            &ntime.to_le_bytes(),
            &self.nbits.to_le_bytes(),
            &nonce.to_le_bytes(),
        ];
        sha256d(&header.concat())
    }

    /// The first nonce from `start` whose hash has `z` zero bits and not one more.
    pub(crate) fn search(
        &self,
        extranonce1: [u8; 4],
        extranonce2: [u8; 8],
        z: u32,
        start: u32,
    ) -> u32 {
        (start..)
            .find(|nonce| self.hash(extranonce1, &extranonce2, *nonce).leading_zero_bits() == z)
            .unwrap()
    }
}

/// The hash of a share as the pool computes it.
pub(crate) fn pool_hash(share: &PoolShare) -> Hash256 {
    share.share.hash()
}

/// Whether a pool takes it at its job's target.
pub(crate) fn meets(share: &PoolShare) -> bool {
    let target: Target = share.share.assignment.target;
    target.is_met_by(&pool_hash(share))
}
