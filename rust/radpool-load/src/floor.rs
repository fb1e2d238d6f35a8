//! What no pool can avoid: measured here with the same libraries, in the same run.
//!
//! A share costs its hashes (coinbase, twelve merkle nodes, header), the opening of its frame, and
//! its part of a read and of the write that answers. A new tip costs each connection one sealed
//! message and one write.

use std::{
    hint::black_box,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Instant,
};

use radpool_miner::header::Header;
use radpool_units::{merkle_root_from_path, sha256d};
use radpool_wire::{
    keys::AuthoritySecretKey,
    message::{Message, SetNewPrevHash, SubmitSharesExtended, SubmitSharesSuccess},
    noise::{Certificate, Initiator, Opener, Responder, Sealer, ServerIdentity, StaticKey},
    reader::FrameReader,
};
use serde_json::{Value, json};

use crate::{arguments::Arguments, machine::cpu_ns, report};

const SHARES: u64 = 100_000;
/// A coinbase with the pool's output, the owner output and the witness commitment.
const COINBASE_LEN: usize = 234;
const PATH_LEN: usize = 12;
/// Shares that one read brings: alone, and as many as more and less busy connections bring.
const SHARES_PER_READ: [usize; 3] = [1, 4, 16];

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let writes: usize = arguments.take("writes", 10_000)?;
    let rounds: usize = arguments.take("rounds", 5)?;
    let sink_cpu: Option<usize> = arguments.take_optional("sink-cpu")?;
    arguments.end()?;
    let hash_ns = best_of(rounds, hash_shares);
    report::line(&json!({"event": "floor", "what": "hash", "ns_per_share": hash_ns}));
    let (mut sealer, mut opener) = connection(&identity()?)?;
    let mut open_ns = u64::MAX;
    for _ in 0..rounds {
        open_ns = open_ns.min(open_shares(&mut sealer, &mut opener)?);
    }
    report::line(&json!({"event": "floor", "what": "open", "ns_per_share": open_ns}));
    for shares in SHARES_PER_READ {
        let (read_ns, write_ns) = system_calls(shares)?;
        report::line(&json!({
            "event": "floor",
            "what": "system calls",
            "shares_per_read": shares,
            "read_ns_per_share": read_ns,
            "write_ns_per_share": write_ns,
        }));
    }
    if writes > 0 {
        report::line(&encrypted_writes(writes, rounds, sink_cpu)?);
    }
    Ok(())
}

fn best_of(rounds: usize, measure: impl Fn() -> u64) -> u64 {
    (0..rounds.max(1)).map(|_| measure()).min().unwrap_or(u64::MAX)
}

fn per_share(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX) / SHARES
}

fn hash_shares() -> u64 {
    let mut coinbase = [7; COINBASE_LEN];
    let path = [[9; 32]; PATH_LEN];
    let started = Instant::now();
    for share in 0..SHARES {
        coinbase[40..48].copy_from_slice(&share.to_le_bytes());
        let header = Header {
            version: 0x2000_0000,
            prev_hash: [1; 32],
            merkle_root: merkle_root_from_path(sha256d(&coinbase), &path).0,
            ntime: 1,
            nbits: 0x1d00_ffff,
        };
        black_box(sha256d(&header.to_bytes(5)));
    }
    per_share(started)
}

/// A server that nobody needs to trust: its keys stand here.
fn identity() -> Result<ServerIdentity, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let authority = AuthoritySecretKey::from_bytes([5; 32]).map_err(|error| text(&error))?;
    let key = StaticKey::from_bytes([7; 32]).map_err(|error| text(&error))?;
    let certificate = Certificate::sign(&authority, &key, 0, u32::MAX, [0; 32]);
    Ok(ServerIdentity::new(key, certificate))
}

/// Both ends of an encrypted connection, without a socket: sealer of one, opener of the other.
fn connection(server: &ServerIdentity) -> Result<(Sealer, Opener), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (initiator, act1) = Initiator::new([3; 32], [4; 32]).map_err(|error| text(&error))?;
    let (act2, sealer, _) =
        Responder::respond(server, &act1, [6; 32], [8; 32]).map_err(|error| text(&error))?;
    let (_, opener) = initiator.finish(&act2, None, 0).map_err(|error| text(&error))?;
    Ok((sealer, opener))
}

fn share_frame() -> Result<Vec<u8>, String> {
    encoded(&Message::SubmitSharesExtended(SubmitSharesExtended {
        channel_id: 1,
        sequence_number: 2,
        job_id: 3,
        nonce: 4,
        ntime: 5,
        version: 6,
        extranonce: &[0; 8],
        tail: &[],
    }))
}

fn encoded(message: &Message<'_>) -> Result<Vec<u8>, String> {
    let mut frame = Vec::new();
    message.encode(&mut frame).map_err(|error| error.to_string())?;
    Ok(frame)
}

fn open_shares(sealer: &mut Sealer, opener: &mut Opener) -> Result<u64, String> {
    let frame = share_frame()?;
    let mut sealed = Vec::new();
    for _ in 0..SHARES {
        sealer.seal_frame(&frame, &mut sealed).map_err(|error| error.to_string())?;
    }
    let mut reader = FrameReader::new();
    let cap = |_: &_| Ok::<(), &str>(());
    let length = sealed.len() / usize::try_from(SHARES).unwrap_or(1);
    let started = Instant::now();
    // Sixteen frames a read, as a busy connection has them: the bytes are in the cache.
    for input in sealed.chunks_mut(16 * length) {
        reader
            .feed(input, opener, cap, |_, payload| {
                black_box(payload);
            })
            .map_err(|error| error.to_string())?;
    }
    Ok(per_share(started))
}

/// Reads so many sealed shares at a time and writes one sealed answer; nanoseconds per share each.
fn system_calls(shares_per_read: usize) -> Result<(u64, u64), String> {
    const SEALED_SHARE_LEN: usize = 71;
    const READS: u64 = 20_000;
    let failed = |error: std::io::Error| format!("loopback: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    let mut client = TcpStream::connect(listener.local_addr().map_err(failed)?).map_err(failed)?;
    let (mut server, _) = listener.accept().map_err(failed)?;
    client.set_nodelay(true).map_err(failed)?;
    server.set_nodelay(true).map_err(failed)?;
    let sent = vec![1; SEALED_SHARE_LEN * shares_per_read];
    let mut received = vec![0; sent.len()];
    let answer = vec![
        2;
        encoded(&Message::SubmitSharesSuccess(SubmitSharesSuccess {
            channel_id: 1,
            last_sequence_number: 2,
            new_submits_accepted_count: 3,
            new_shares_sum: 4,
        }))?
        .len()
            + 32
    ];
    let mut answered = vec![0; answer.len()];
    let (mut read_ns, mut write_ns) = (0, 0);
    for _ in 0..READS {
        client.write_all(&sent).map_err(failed)?;
        let before = Instant::now();
        server.read_exact(&mut received).map_err(failed)?;
        let between = Instant::now();
        server.write_all(&answer).map_err(failed)?;
        write_ns += between.elapsed().as_nanos();
        read_ns += (between - before).as_nanos();
        client.read_exact(&mut answered).map_err(failed)?;
    }
    let count = u128::from(READS) * shares_per_read as u128;
    let narrow = |ns: u128| u64::try_from(ns / count).unwrap_or(u64::MAX);
    Ok((narrow(read_ns), narrow(write_ns)))
}

/// Seals and writes one new tip to each of many connections.
fn encrypted_writes(
    connections: usize,
    rounds: usize,
    sink_cpu: Option<usize>,
) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("sink: {error}");
    let mut sink = Sink::start(connections, sink_cpu)?;
    let mut streams = Vec::with_capacity(connections);
    let server = identity()?;
    for _ in 0..connections {
        let stream = TcpStream::connect(("127.0.0.1", sink.port)).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        // Every connection has keys of its own: whether they are in the cache is part of the cost.
        streams.push((stream, connection(&server)?.0));
    }
    sink.read_line()?;
    let frame = encoded(&Message::SetNewPrevHash(SetNewPrevHash {
        channel_id: 1,
        job_id: 2,
        prev_hash: [3; 32],
        min_ntime: 4,
        nbits: 5,
    }))?;
    let (mut wall_us, mut cpu_us) = (Vec::new(), Vec::new());
    let mut sealed = Vec::new();
    for _ in 0..rounds.max(1) {
        // Lets the sink empty its sockets, as clients do between two tips.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (started, cpu_before) = (Instant::now(), cpu_ns());
        for (stream, sealer) in &mut streams {
            sealed.clear();
            sealer.seal_frame(&frame, &mut sealed).map_err(|error| error.to_string())?;
            stream.write_all(&sealed).map_err(failed)?;
        }
        wall_us.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        cpu_us.push((cpu_ns() - cpu_before) / 1_000);
    }
    drop(streams);
    sink.end()?;
    Ok(json!({
        "event": "floor",
        "what": "encrypted writes",
        "connections": connections,
        "wall_us": report::distribution(&mut wall_us),
        "cpu_us": report::distribution(&mut cpu_us),
    }))
}

/// A child process that takes what is written: both ends in one process would need twice the
/// descriptors, and would share its time.
struct Sink {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Sink {
    fn start(connections: usize, cpu: Option<usize>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["sink", "--connections", &connections.to_string()]);
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the sink does not start: {error}"))?;
        let stdout = child.stdout.take().ok_or("the sink has no output")?;
        let mut sink = Self { child, lines: BufReader::new(stdout), port: 0 };
        let port = sink.read_line()?["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        sink.port = port.ok_or("the sink names no port")?;
        Ok(sink)
    }

    fn read_line(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(|error| format!("sink: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("sink said {line:?}: {error}"))
    }

    fn end(&mut self) -> Result<(), String> {
        self.child.wait().map(drop).map_err(|error| format!("sink: {error}"))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // After `end` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
