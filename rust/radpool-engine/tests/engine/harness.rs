//! An engine with the decisions of a pool, and a blocking client.

use std::{
    collections::HashMap,
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use radpool_engine::{Completion, Engine, EngineEvent, EngineSettings};
use radpool_ledger::Rail;
use radpool_mining::{
    ChannelGrant, ChannelOwner, Command, Event, Limits, SeenLimits, Settings, ShareRecord,
    Template, Tip,
};
use radpool_units::{Exponent, Target};
use radpool_wire::{
    frame::FrameHeader,
    keys::{AuthorityPublicKey, AuthoritySecretKey},
    message::*,
    noise::{ACT2_LEN, Certificate, Initiator, Opener, Sealer, ServerIdentity, StaticKey},
    reader::FrameReader,
};

/// Longer than anything may take here; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings under which every hash is a share and nothing is in the way.
pub(crate) fn settings() -> EngineSettings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let log = env::temp_dir().join(format!("radpool-blocks-{}-{number}.jsonl", process::id()));
    EngineSettings {
        mining: Settings {
            msp_key: [7; 32],
            pool_text: b"test".to_vec(),
            shares_per_minute: 1_000_000,
            exponent_min: Exponent::MIN,
            exponent_max: Exponent::MIN,
            version_rolling: true,
            group_jobs: false,
            work_selection: true,
            rollable_fixed: None,
            job_past_ms: 60_000,
            job_stale_ms: 60_000,
            ntime_slack_s: 120,
            report_interval_ms: 10_000,
            supported_extensions: vec![0x4e45],
            required_extensions: vec![],
            share_messages: vec![],
            open_messages: vec![],
            limits: Limits {
                setup_deadline_ms: 10_000,
                channel_deadline_ms: 10_000,
                extension_retry_ms: 10_000,
                channels: 100,
                workers: 100,
                submits_per_second: 1_000_000,
                submits_burst: 1_000_000,
                requests_per_second: 1_000_000,
                requests_burst: 1_000_000,
                extension_bytes_pending: 1 << 20,
                custom_jobs_pending: 4,
                custom_jobs_kept: 6,
                setup_frame_bytes: 2048,
                mining_frame_bytes: 2048,
                custom_job_frame_bytes: 8_192,
                extension_frame_bytes: 1 << 16,
                ignored_frame_bytes: 1 << 20,
                seen: SeenLimits { tips: 3, shares_expected: 1000, shares_max: 1_000_000 },
            },
        },
        io_threads: 2,
        connections_max: 10_000,
        connections_per_address_max: 10_000,
        handshakes_per_second_max: 1_000_000,
        handshakes_burst_max: 10_000,
        handshakes_per_second_per_address_max: 1_000_000,
        handshakes_burst_per_address_max: 10_000,
        handshake_deadline_ms: 10_000,
        frame_deadline_ms: 10_000,
        write_deadline_ms: 10_000,
        outbound_bytes_max: 1 << 20,
        ring_records_max: 100_000,
        events_max: 100_000,
        prefixes_low: 10,
        solution_log: log,
        solution_socket: None,
    }
}

pub(crate) fn template(id: u64) -> Template {
    let mut template_outputs = vec![0; 8];
    template_outputs.extend([0x26, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
    template_outputs.extend([id as u8; 32]);
    let mut pool_outputs = 5_000_000_000_u64.to_le_bytes().to_vec();
    pool_outputs.extend([0x01, 0x51]);
    Template {
        id,
        epoch: 3,
        height: 100,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![0x01, 0x64],
        coinbase_sequence: 0xffff_ffff,
        pool_outputs,
        pool_output_count: 1,
        template_outputs,
        template_output_count: 1,
        coinbase_locktime: 99,
        merkle_path: vec![[id as u8; 32]; 3],
        owner_output: None,
        extranonce_head: vec![],
    }
}

/// A tip that no hash solves a block on, unless `target` says otherwise.
pub(crate) fn tip(template_id: u64, block: u8) -> Tip {
    Tip {
        template_id,
        prev_hash: [block; 32],
        min_ntime: unix_s() - 60,
        nbits: 0x207f_ffff,
        target: Target::from_le_bytes([0; 32]),
        price: 1_000 + u128::from(block),
    }
}

pub(crate) fn unix_s() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32
}

/// An engine on loopback and what was drained of it.
pub(crate) struct Pool {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) authority: AuthorityPublicKey,
    pub(crate) shares: Vec<ShareRecord>,
    pub(crate) events: Vec<EngineEvent>,
    pub(crate) completions: Vec<Completion>,
    pub(crate) log: PathBuf,
    pub(crate) stopped: bool,
}

impl Pool {
    pub(crate) fn start(settings: EngineSettings) -> Self {
        let authority = AuthoritySecretKey::from_bytes([3; 32]).unwrap();
        let static_key = StaticKey::from_bytes([4; 32]).unwrap();
        let certificate =
            Certificate::sign(&authority, &static_key, unix_s() - 60, unix_s() + 3600, [0; 32]);
        let log = settings.solution_log.clone();
        let engine = Engine::start(settings, ServerIdentity::new(static_key, certificate)).unwrap();
        engine.add_prefixes(0, 1 << 20).unwrap();
        engine.publish_template(template(1), Some(tip(1, 1))).unwrap();
        let address = engine.listen("127.0.0.1", 0).unwrap();
        Self {
            engine,
            address,
            authority: authority.public_key(),
            shares: Vec::new(),
            events: Vec::new(),
            completions: Vec::new(),
            log,
            stopped: false,
        }
    }

    /// Waits for the descriptor, drains, and grants every channel.
    pub(crate) fn turn(&mut self) {
        let mut poll =
            libc::pollfd { fd: self.engine.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd is passed with a count of one.
        unsafe { libc::poll(&raw mut poll, 1, 20) };
        let drained = self.engine.drain(100_000).unwrap();
        for event in &drained.events {
            if let EngineEvent::Mining {
                connection,
                event: Event::ChannelRequested { request, .. },
                ..
            } = event
            {
                let owner = ChannelOwner { account: 1, commitment: [1; 32], rail: Rail::Account };
                let grant = ChannelGrant::to(owner);
                let command = Command::OpenChannel { request: *request, grant };
                self.engine.command(*connection, command).unwrap();
            }
        }
        self.shares.extend(drained.shares);
        self.events.extend(drained.events);
        self.completions.extend(drained.completions);
        self.stopped |= drained.stopped;
    }

    /// Turns until something holds.
    #[track_caller]
    pub(crate) fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            self.turn();
            assert!(begun.elapsed() < PATIENCE, "did not come: {:?}", self.metrics());
        }
    }

    /// Takes drained shares and acknowledges them as durable.
    pub(crate) fn acknowledge(&mut self) -> Vec<ShareRecord> {
        let shares = core::mem::take(&mut self.shares);
        self.engine.acknowledge(&shares, &[]).unwrap();
        shares
    }

    pub(crate) fn metrics(&self) -> HashMap<String, u64> {
        self.engine.metrics().into_iter().collect()
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.metrics().get(name).copied().unwrap_or(0)
    }

    /// A client with one extended channel, and the channel's number.
    pub(crate) fn miner(&mut self) -> (Client, u32) {
        let mut client = Client::connect(self);
        client.set_up();
        client.send(&open(1));
        let channel = self.opened(&mut client);
        (client, channel)
    }

    /// Answers an open request of `client` and takes the first job.
    pub(crate) fn opened(&mut self, client: &mut Client) -> u32 {
        let opened = self.metric("channels_opened_total");
        self.until(|pool| pool.metric("channels_opened_total") > opened);
        let channel = client.expect(|message| match message {
            Message::OpenExtendedMiningChannelSuccess(success) => Some(success.channel_id),
            _ => None,
        });
        client.job = client.expect(|message| match message {
            Message::SetNewPrevHash(prev) => Some(prev.job_id),
            _ => None,
        });
        channel
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.engine.stop(Duration::from_millis(200));
        let _ = fs::remove_file(&self.log);
    }
}

pub(crate) fn open(request_id: u32) -> Message<'static> {
    Message::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
        request_id,
        user_identity: b"miner".to_vec(),
        nominal_hash_rate: 0.0,
        max_target: [0xff; 32],
        min_extranonce_size: 8,
    })
}

/// A client that blocks.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) sealer: Sealer,
    opener: Opener,
    reader: FrameReader,
    waiting: Vec<(FrameHeader, Vec<u8>)>,
    pub(crate) job: u32,
    pub(crate) sequence: u32,
}

impl Client {
    pub(crate) fn connect(pool: &Pool) -> Self {
        let mut socket = TcpStream::connect(pool.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut random = [[0; 32]; 2];
        random.iter_mut().for_each(|bytes| getrandom::fill(bytes).unwrap());
        let (initiator, act1) = Initiator::new(random[0], random[1]).unwrap();
        socket.write_all(&act1).unwrap();
        let mut act2 = [0; ACT2_LEN];
        socket.read_exact(&mut act2).unwrap();
        let (sealer, opener) = initiator.finish(&act2, Some(&pool.authority), unix_s()).unwrap();
        let (reader, waiting) = (FrameReader::new(), Vec::new());
        Self { socket, sealer, opener, reader, waiting, job: 0, sequence: 0 }
    }

    pub(crate) fn sealed(&mut self, message: &Message<'_>) -> Vec<u8> {
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        message.encode(&mut plain).unwrap();
        self.sealer.seal_frame(&plain, &mut sealed).unwrap();
        sealed
    }

    pub(crate) fn send(&mut self, message: &Message<'_>) {
        let sealed = self.sealed(message);
        self.socket.write_all(&sealed).unwrap();
    }

    pub(crate) fn set_up(&mut self) {
        self.send(&Message::SetupConnection(SetupConnection {
            protocol: Protocol::Mining,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: b"pool".to_vec(),
            endpoint_port: 1,
            vendor: b"test".to_vec(),
            hardware_version: vec![],
            firmware: vec![],
            device_id: vec![],
        }));
        self.expect(|message| match message {
            Message::SetupConnectionSuccess(_) => Some(()),
            _ => None,
        });
    }

    /// The next share of a channel: never the same twice.
    pub(crate) fn share(&mut self, channel_id: u32) -> Vec<u8> {
        self.sequence += 1;
        let extranonce = u64::from(self.sequence).to_be_bytes();
        self.sealed(&Message::SubmitSharesExtended(SubmitSharesExtended {
            channel_id,
            sequence_number: self.sequence,
            job_id: self.job,
            nonce: self.sequence,
            ntime: unix_s() - 30,
            version: 0x2000_0000,
            extranonce: &extranonce,
            tail: &[],
        }))
    }

    pub(crate) fn submit(&mut self, channel_id: u32, count: u32) {
        let bytes: Vec<u8> = (0..count).flat_map(|_| self.share(channel_id)).collect();
        self.socket.write_all(&bytes).unwrap();
    }

    /// Reads until a message fits, and drops those before.
    #[track_caller]
    pub(crate) fn expect<T>(&mut self, mut fits: impl FnMut(Message<'_>) -> Option<T>) -> T {
        loop {
            let (header, mut payload) = self.next().expect("the pool has closed the connection");
            let message = Message::decode(header, &mut payload).unwrap();
            if let Some(found) = fits(message) {
                return found;
            }
        }
    }

    /// The next frame, or `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        let mut bytes = [0; 65536];
        while self.waiting.is_empty() {
            let length = match self.socket.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            };
            let waiting = &mut self.waiting;
            self.reader
                .feed(
                    &mut bytes[..length],
                    &mut self.opener,
                    |_| Ok::<_, core::convert::Infallible>(()),
                    |header, payload| waiting.push((header, payload.to_vec())),
                )
                .unwrap();
        }
        Some(self.waiting.remove(0))
    }

    /// Reads acknowledgements until `count` shares are; returns the last sequence number.
    pub(crate) fn acknowledged(&mut self, count: u32) -> u32 {
        let (mut sum, mut last) = (0, 0);
        while sum < count {
            self.expect(|message| match message {
                Message::SubmitSharesSuccess(success) => {
                    sum += success.new_submits_accepted_count;
                    last = success.last_sequence_number;
                    Some(())
                }
                Message::SubmitSharesError(error) => panic!("{error:?}"),
                _ => None,
            });
        }
        assert_eq!(sum, count);
        last
    }

    /// Waits for the end of the connection.
    pub(crate) fn closed(&mut self) {
        while self.next().is_some() {}
    }
}
