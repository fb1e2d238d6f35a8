//! Each device of `tests/devices/devices.json` against the machine, with the limits of its firmware:
//! it mines shares that a pool takes, over job changes, difficulty changes, tips and another pool.

use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Notified, Rig, job, meets};

const DEVICES: &str = include_str!("../../../../tests/devices/devices.json");

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Firmware>,
}

#[derive(Deserialize)]
struct Firmware {
    name: String,
    greeting: Vec<Value>,
    extranonce1_max: usize,
    extranonce2_max: u64,
    rolls_version: bool,
    restarts_extranonce2: bool,
    nonce: String,
}

/// What a device knows after the lines that it has read; it panics where the firmware would fail.
struct Machine<'firmware> {
    firmware: &'firmware Firmware,
    extranonce1: Vec<u8>,
    extranonce2_len: u64,
    extranonce2: u64,
    answers: usize,
    difficulty: Option<f64>,
    mask: u32,
    job: Option<Notified>,
}

impl<'firmware> Machine<'firmware> {
    fn new(firmware: &'firmware Firmware) -> Self {
        Self {
            firmware,
            extranonce1: vec![],
            extranonce2_len: 0,
            extranonce2: 0,
            answers: 0,
            difficulty: None,
            mask: 0,
            job: None,
        }
    }

    fn read(&mut self, text: &str) {
        let line: Value = serde_json::from_str(text).unwrap();
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        match line["method"].as_str() {
            None => {
                // A line that lacks one of them crashed some firmware.
                assert_eq!(keys.len(), 3, "{text}");
                assert!(line["error"].is_null() && !line["result"].is_null(), "{text}");
                self.answers += 1;
                self.read_result(&line["result"]);
            }
            Some("mining.set_difficulty") => {
                let difficulty = line["params"][0].as_f64().unwrap();
                let whole = line["params"][0].is_u64();
                // Firmware of whole difficulties takes a fraction for 0: no pool of a real chain
                // asks for one.
                assert!(difficulty > 0.0 && whole == (difficulty >= 1.0), "{text}");
                assert_eq!(difficulty.log2().fract(), 0.0, "{text}");
                self.difficulty = Some(difficulty);
            }
            Some("mining.notify") => {
                assert!(
                    self.difficulty.is_some() && !self.extranonce1.is_empty(),
                    "too early: {text}"
                );
                assert_eq!(
                    self.answers,
                    self.firmware.greeting.len(),
                    "before the answers: {text}"
                );
                self.job = Some(Notified::read(text));
                if self.firmware.restarts_extranonce2 {
                    self.extranonce2 = 0;
                }
            }
            Some("mining.set_version_mask") => {}
            Some(other) => panic!("{}: {other} is not known to it", self.firmware.name),
        }
    }

    fn read_result(&mut self, result: &Value) {
        if let Some(mask) = result["version-rolling.mask"].as_str() {
            assert_eq!(mask.len(), 8);
            self.mask = u32::from_str_radix(mask, 16).unwrap();
        }
        if let Some(subscription) = result.as_array().filter(|list| list.len() == 3) {
            let extranonce1 = subscription[1].as_str().unwrap();
            self.extranonce1 = hex::decode(extranonce1).unwrap();
            self.extranonce2_len = subscription[2].as_u64().unwrap();
            assert!(self.extranonce1.len() <= self.firmware.extranonce1_max);
            assert!((1..=self.firmware.extranonce2_max).contains(&self.extranonce2_len));
        }
    }

    /// Hashes the present job and submits the first share of it.
    fn mine(&mut self, rig: &mut Rig, z: u32) -> String {
        let job = self.job.as_ref().unwrap();
        let extranonce2 = self.extranonce2.to_be_bytes();
        self.extranonce2 += 1;
        let nonce = job.search(rig.extranonce1, extranonce2, z, 0);
        let nonce = match self.firmware.nonce.as_str() {
            "number" => nonce.to_string(),
            "HEX" => format!("\"{nonce:08X}\""),
            _ => format!("\"{nonce:08x}\""),
        };
        let version = match self.firmware.rolls_version {
            true => ",\"00000000\"",
            false => "",
        };
        let fields = format!("\"{}\",\"{}\",{nonce}{version}", hex::encode(extranonce2), job.ntime);
        rig.submit(&format!("\"{}\"", job.job), &fields)
    }
}

fn devices() -> Vec<Firmware> {
    serde_json::from_str::<Devices>(DEVICES).unwrap().devices
}

fn greet(firmware: &Firmware, rig: &mut Rig) {
    for request in &firmware.greeting {
        rig.say(&request.to_string().replace("$USER", "a.b"));
    }
}

fn read(machine: &mut Machine<'_>, rig: &mut Rig) {
    rig.lines().iter().for_each(|line| machine.read(line));
}

#[test]
fn every_device_mines_over_jobs_difficulties_tips_and_pools() {
    let devices = devices();
    assert!(devices.len() >= 9);
    for firmware in &devices {
        let (mut rig, mut machine) = (Rig::new(), Machine::new(firmware));
        greet(firmware, &mut rig);
        // A step that any test can hash, and that pools of real chains have: both sides of 1.
        rig.work(job(1, 45, 0), true);
        read(&mut machine, &mut rig);
        assert!(machine.difficulty.unwrap() <= 8192.0);
        let mut good = 0;
        for (step, (z, tip, new_tip, source)) in
            [(4, 1, true, 1), (4, 1, false, 1), (6, 1, false, 1), (5, 9, true, 1), (5, 9, true, 2)]
                .into_iter()
                .enumerate()
        {
            rig.work_of(source, job(step as u32 + 2, z, tip), new_tip);
            read(&mut machine, &mut rig);
            assert_eq!(machine.job.as_ref().unwrap().clean, new_tip);
            for _ in 0..2 {
                let answer = machine.mine(&mut rig, z);
                assert!(answer.contains("\"result\":true"), "{}: {answer}", firmware.name);
                good += 1;
            }
        }
        // Firmware that begins anew with the same job finds other headers.
        rig.pass(45_000);
        read(&mut machine, &mut rig);
        let answer = machine.mine(&mut rig, 5);
        assert!(answer.contains("\"result\":true"), "{}: {answer}", firmware.name);
        good += 1;
        let shares = rig.shares();
        assert!(shares.len() == good && shares.iter().all(meets), "{}", firmware.name);
        assert_eq!(rig.closed(), None, "{}", firmware.name);
    }
}

#[test]
fn masks_are_what_each_device_asked_for_and_no_more() {
    for firmware in &devices() {
        let (mut rig, mut machine) = (Rig::new(), Machine::new(firmware));
        greet(firmware, &mut rig);
        rig.work(job(1, 40, 0), true);
        read(&mut machine, &mut rig);
        let expected = if firmware.rolls_version { 0x1fff_e000 } else { 0 };
        assert_eq!(machine.mask, expected, "{}", firmware.name);
    }
}
