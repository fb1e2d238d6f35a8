//! A template provider without a node, so that foreign pools can be put under the same load.
//!
//! It serves one pool: the first template and tip at once, and a new tip for each line on stdin. The
//! tip's template goes out half a second ahead, as our own pool gets it in these benchmarks.
//!
//! Source: SV2, section 7 (template distribution).

use std::{
    io::{BufRead, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use radpool_wire::{
    frame::FrameHeader,
    message::{Message, SetupConnectionSuccess},
    noise::{ACT1_LEN, Opener, Responder, Sealer},
    reader::FrameReader,
};
use serde_json::json;

use crate::{arguments::Arguments, floor, machine::monotonic_ns, report};

const SETUP_CONNECTION: u8 = 0x00;
const COINBASE_OUTPUT_CONSTRAINTS: u8 = 0x70;
const NEW_TEMPLATE: u8 = 0x71;
const SET_NEW_PREV_HASH: u8 = 0x72;
/// Siblings in the merkle path: a block of some 4,000 transactions.
const PATH_LEN: u8 = 12;
/// Difficulty 1, so that hardly any share is a block.
const NBITS: u32 = 0x1d00_ffff;
const AHEAD: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let port: u16 = arguments.take("port", 0)?;
    arguments.end()?;
    let failed = |error: std::io::Error| format!("template provider: {error}");
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    report::line(&json!({"event": "listening", "port": port}));
    let (stream, _) = listener.accept().map_err(failed)?;
    let mut provider = Provider::accept(stream)?;
    provider.wait_for(SETUP_CONNECTION)?;
    let mut success = Vec::new();
    Message::SetupConnectionSuccess(SetupConnectionSuccess { used_version: 2, flags: 0 })
        .encode(&mut success)
        .map_err(|error| error.to_string())?;
    provider.send(&success)?;
    provider.wait_for(COINBASE_OUTPUT_CONSTRAINTS)?;
    provider.send_template()?;
    provider.send_tip()?;
    report::line(&json!({"event": "serving"}));
    provider.discard_input()?;
    for line in std::io::stdin().lock().lines() {
        line.map_err(failed)?;
        provider.send_template()?;
        thread::sleep(AHEAD);
        let sent_ns = monotonic_ns();
        let hash = provider.send_tip()?;
        report::line(&json!({"event": "tip", "prev_hash": hash, "sent_ns": sent_ns}));
    }
    Ok(())
}

struct Provider {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    reader: FrameReader,
    number: u8,
}

impl Provider {
    fn accept(mut stream: TcpStream) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("handshake: {error}");
        stream.set_nodelay(true).map_err(failed)?;
        let mut act1 = [0; ACT1_LEN];
        stream.read_exact(&mut act1).map_err(failed)?;
        let (act2, sealer, opener) =
            Responder::respond(&floor::identity()?, &act1, [6; 32], [8; 32])
                .map_err(|error| error.to_string())?;
        stream.write_all(&act2).map_err(failed)?;
        Ok(Self { stream, sealer, opener, reader: FrameReader::new(), number: 0 })
    }

    /// Reads until a message of this type has come.
    fn wait_for(&mut self, msg_type: u8) -> Result<(), String> {
        let mut scratch = [0; 4096];
        let mut seen = false;
        while !seen {
            let length = self.stream.read(&mut scratch).map_err(|error| error.to_string())?;
            if length == 0 {
                return Err("the pool has left".into());
            }
            let cap = |_: &FrameHeader| Ok::<(), &str>(());
            let note = |header: FrameHeader, _: &mut [u8]| seen |= header.msg_type == msg_type;
            self.reader
                .feed(&mut scratch[..length], &mut self.opener, cap, note)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Reads on in the background: what the pool says from now on does not matter.
    fn discard_input(&self) -> Result<(), String> {
        let mut stream = self.stream.try_clone().map_err(|error| error.to_string())?;
        thread::spawn(move || {
            let mut scratch = [0; 4096];
            while matches!(stream.read(&mut scratch), Ok(1..)) {}
        });
        Ok(())
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        let mut sealed = Vec::new();
        self.sealer.seal_frame(frame, &mut sealed).map_err(|error| error.to_string())?;
        self.stream.write_all(&sealed).map_err(|error| format!("the pool has left: {error}"))
    }

    /// Sends a future template: the next number.
    fn send_template(&mut self) -> Result<(), String> {
        self.number = self.number.checked_add(1).ok_or("255 tips are the most of one run")?;
        let mut payload = Vec::new();
        payload.extend_from_slice(&u64::from(self.number).to_le_bytes());
        payload.push(1);
        payload.extend_from_slice(&0x2000_0000_u32.to_le_bytes());
        payload.extend_from_slice(&2_u32.to_le_bytes());
        // BIP34: a push of the height, three bytes.
        payload.extend_from_slice(&[4, 3, self.number, 0x35, 0x0c]);
        payload.extend_from_slice(&u32::MAX.to_le_bytes());
        payload.extend_from_slice(&312_500_000_u64.to_le_bytes());
        payload.extend_from_slice(&1_u32.to_le_bytes());
        // One output: no value, and a script of 38 bytes with the witness commitment.
        let mut output = vec![0; 8];
        output.extend_from_slice(&[38, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
        output.extend_from_slice(&[0; 32]);
        payload.extend_from_slice(&[output.len() as u8, 0]);
        payload.extend_from_slice(&output);
        payload.extend_from_slice(&0_u32.to_le_bytes());
        payload.push(PATH_LEN);
        for level in 0..PATH_LEN {
            payload.extend_from_slice(&[level; 32]);
        }
        self.send(&frame(NEW_TEMPLATE, &payload))
    }

    /// Makes the last template's parent the tip; returns its hash in hex, internal order.
    fn send_tip(&mut self) -> Result<String, String> {
        let prev_hash = [self.number; 32];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let mut target = [0; 32];
        target[26..28].copy_from_slice(&[0xff, 0xff]);
        let mut payload = Vec::new();
        payload.extend_from_slice(&u64::from(self.number).to_le_bytes());
        payload.extend_from_slice(&prev_hash);
        payload.extend_from_slice(&time.to_le_bytes());
        payload.extend_from_slice(&NBITS.to_le_bytes());
        payload.extend_from_slice(&target);
        self.send(&frame(SET_NEW_PREV_HASH, &payload))?;
        Ok(prev_hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn frame(msg_type: u8, payload: &[u8]) -> Vec<u8> {
    let payload_len = u32::try_from(payload.len()).expect("templates of this module are small");
    let header = FrameHeader { extension_type: 0, channel_msg: false, msg_type, payload_len };
    [&header.to_bytes()[..], payload].concat()
}
