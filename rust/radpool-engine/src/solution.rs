//! What happens to a solved block, without Python: to disk, to the template source, then the event.
//!
//! A thread of its own does it, because the disk blocks. The line in the log is durable before
//! anything else is tried. A disk that fails does not hold a block back: it is worth more than its
//! log line. The template source's socket is connected when there is something to send; what cannot
//! be sent is tried again until it is sent or pushed out by newer blocks.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use radpool_mining::{DECLARED_TEMPLATES, Solution};
use serde_json::json;

use crate::{EngineEvent, clock::Clock, handover::Handover};

/// Blocks that wait for a template source that is away. It answers within seconds of its restart;
/// more blocks than these would be of tips long gone.
const UNSENT_MAX: usize = 64;

/// How long to wait before a template source that was away is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// How long a template source may take no byte before it counts as away.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Counts what became of solved blocks.
#[derive(Debug, Default)]
pub(crate) struct SolutionCounters {
    pub(crate) logged: AtomicU64,
    pub(crate) log_failures: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) send_failures: AtomicU64,
    pub(crate) dropped_unsent: AtomicU64,
}

/// The way of solved blocks; dropping it ends the thread once all are logged.
#[derive(Debug)]
pub(crate) struct SolutionPath {
    sender: Sender<Solution>,
    handover: Arc<Handover>,
}

impl SolutionPath {
    /// Opens the log and starts the thread.
    pub(crate) fn start(
        log: &Path,
        socket: Option<&Path>,
        clock: Clock,
        handover: Arc<Handover>,
        counters: Arc<SolutionCounters>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let log = OpenOptions::new().create(true).read(true).append(true).open(log)?;
        let (sender, receiver) = channel();
        let outlet = socket.map(|path| Outlet::new(path.to_owned()));
        let worker = Worker { log, outlet, clock, handover: Arc::clone(&handover), counters };
        let thread = thread::Builder::new()
            .name("radpool-blocks".into())
            .spawn(move || worker.run(&receiver))?;
        Ok((Self { sender, handover }, thread))
    }

    pub(crate) fn submit(&self, solution: Solution) {
        self.handover.solution_waits();
        // The thread ends after all senders only, so there is always somebody to take it.
        let _ = self.sender.send(solution);
    }
}

struct Worker {
    log: File,
    outlet: Option<Outlet>,
    clock: Clock,
    handover: Arc<Handover>,
    counters: Arc<SolutionCounters>,
}

impl Worker {
    fn run(mut self, receiver: &Receiver<Solution>) {
        loop {
            let waiting = self.outlet.as_ref().is_some_and(|outlet| !outlet.unsent.is_empty());
            let next = match waiting {
                true => receiver.recv_timeout(RETRY),
                false => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(solution) => self.handle(solution),
                Err(RecvTimeoutError::Timeout) => self.send(),
                Err(RecvTimeoutError::Disconnected) => return self.send(),
            }
        }
    }

    fn handle(&mut self, solution: Solution) {
        if let Err(error) = self.append(&solution) {
            self.counters.log_failures.fetch_add(1, Ordering::Relaxed);
            let message = format!(
                "a solved block could not be written to the solution log ({error}); it is submitted \
                 all the same: make room on the disk or correct solution_log"
            );
            self.handover.push_event(EngineEvent::Failed { message });
        } else {
            self.counters.logged.fetch_add(1, Ordering::Relaxed);
        }
        // The source does not know a client's template: Python puts that block together.
        if solution.template_id < DECLARED_TEMPLATES
            && let Some(outlet) = &mut self.outlet
        {
            let dropped = outlet.queue(request(&solution));
            self.counters.dropped_unsent.fetch_add(dropped, Ordering::Relaxed);
        }
        self.send();
        self.handover.push_event(EngineEvent::BlockFound(Box::new(solution)));
        self.handover.solution_done();
    }

    fn append(&mut self, solution: &Solution) -> io::Result<()> {
        let mut line = json!({
            "unix_ms": self.clock.now().unix_ms,
            "template_id": solution.template_id,
            "account": solution.account,
            "header": hex::encode(solution.header),
            "coinbase_tx": hex::encode(&solution.coinbase_tx),
            "version": solution.version,
            "ntime": solution.ntime,
            "nonce": solution.nonce,
            "hash": hex::encode(solution.hash.0),
        })
        .to_string();
        line.push('\n');
        if ends_within_line(&self.log)? {
            line.insert(0, '\n');
        }
        self.log.write_all(line.as_bytes())?;
        self.log.sync_data()
    }

    fn send(&mut self) {
        let Some(outlet) = &mut self.outlet else { return };
        let (sent, result) = outlet.send();
        self.counters.sent.fetch_add(sent, Ordering::Relaxed);
        if result.is_err() {
            self.counters.send_failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether a full disk or a crash has cut the last line off: the next one must not continue it.
fn ends_within_line(log: &File) -> io::Result<bool> {
    let Some(last) = log.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    log.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// The connection to the template source.
struct Outlet {
    path: PathBuf,
    stream: Option<UnixStream>,
    unsent: VecDeque<Vec<u8>>,
}

impl Outlet {
    fn new(path: PathBuf) -> Self {
        Self { path, stream: None, unsent: VecDeque::new() }
    }

    /// Adds a request and returns how many older ones had to go for it.
    fn queue(&mut self, request: Vec<u8>) -> u64 {
        self.unsent.push_back(request);
        let excess = self.unsent.len().saturating_sub(UNSENT_MAX);
        self.unsent.drain(..excess);
        excess as u64
    }

    /// Sends what is waiting; returns how many went out.
    fn send(&mut self) -> (u64, io::Result<()>) {
        let mut sent = 0;
        while let Some(request) = self.unsent.front() {
            // A connection that was idle may have died unnoticed: once more on a new one.
            let first = send_on(&mut self.stream, &self.path, request);
            let result = first.or_else(|_| send_on(&mut self.stream, &self.path, request));
            if let Err(error) = result {
                return (sent, Err(error));
            }
            self.unsent.pop_front();
            sent += 1;
        }
        (sent, Ok(()))
    }
}

/// Sends one request, over a new connection when there is none; forgets one that failed.
fn send_on(stream: &mut Option<UnixStream>, path: &Path, request: &[u8]) -> io::Result<()> {
    let mut connection = match stream.take() {
        Some(connection) => connection,
        None => UnixStream::connect(path)?,
    };
    discard_replies(&mut connection)?;
    connection.set_write_timeout(Some(WRITE_TIMEOUT))?;
    connection.write_all(request)?;
    *stream = Some(connection);
    Ok(())
}

/// Reads away what the template source has answered: whether it took the block shows on the chain,
/// and Python asks it too. Its end is an error here.
fn discard_replies(connection: &mut UnixStream) -> io::Result<()> {
    connection.set_nonblocking(true)?;
    let mut bytes = [0; 4096];
    let result = loop {
        match connection.read(&mut bytes) {
            Ok(0) => break Err(io::ErrorKind::BrokenPipe.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    connection.set_nonblocking(false)?;
    result
}

/// The request as it goes over the socket: length, then JSON.
fn request(solution: &Solution) -> Vec<u8> {
    let body = json!({
        "method": "submit_solution",
        "params": {
            "template_id": solution.template_id,
            "version": solution.version,
            "ntime": solution.ntime,
            "nonce": solution.nonce,
            "coinbase_tx": hex::encode(&solution.coinbase_tx),
            "hash": hex::encode(solution.hash.0),
        },
    })
    .to_string();
    let length = u32::try_from(body.len()).expect("a coinbase is shorter than a block");
    let mut request = length.to_le_bytes().to_vec();
    request.extend_from_slice(body.as_bytes());
    request
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener, time::Instant};

    use radpool_units::Hash256;

    use super::*;
    use crate::settings::tests::{Folder, settings};

    fn solution(nonce: u32) -> Solution {
        Solution {
            template_id: 3,
            connection: 1,
            channel: 2,
            account: 4,
            header: [7; 80],
            coinbase_tx: vec![1, 2],
            version: 5,
            ntime: 6,
            nonce,
            extranonce: vec![10; 12],
            hash: Hash256([9; 32]),
        }
    }

    struct Fixture {
        folder: Folder,
        handover: Arc<Handover>,
        counters: Arc<SolutionCounters>,
    }

    impl Fixture {
        fn new() -> Self {
            let handover = Arc::new(Handover::new(&settings()).unwrap());
            Self { folder: Folder::new(), handover, counters: Arc::default() }
        }

        fn start(&self, log: &Path) -> (SolutionPath, JoinHandle<()>) {
            let socket = self.folder.path("chain.sock");
            let (handover, counters) = (Arc::clone(&self.handover), Arc::clone(&self.counters));
            SolutionPath::start(log, Some(&socket), Clock::start(), handover, counters).unwrap()
        }

        fn nonce(listener: &UnixListener) -> u64 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut body = vec![0; u32::from_le_bytes(length) as usize];
            stream.read_exact(&mut body).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["method"], "submit_solution");
            assert_eq!(body["params"]["coinbase_tx"], "0102");
            body["params"]["nonce"].as_u64().unwrap()
        }
    }

    #[test]
    fn blocks_are_logged_and_sent_even_to_a_source_that_comes_later_or_again() {
        let fixture = Fixture::new();
        let log = fixture.folder.path("blocks.jsonl");
        let (path, thread) = fixture.start(&log);
        path.submit(solution(41));
        let socket = fixture.folder.path("chain.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(Fixture::nonce(&listener), 41);
        // The connection of the first block is closed by now.
        path.submit(solution(42));
        assert_eq!(Fixture::nonce(&listener), 42);
        drop(path);
        thread.join().unwrap();
        let lines = fs::read_to_string(&log).unwrap();
        assert_eq!(lines.lines().count(), 2);
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!((&first["nonce"], &first["template_id"]), (&41.into(), &3.into()));
        assert_eq!(fixture.counters.sent.load(Ordering::Relaxed), 2);
        let events = fixture.handover.drain(1).events;
        assert!(matches!(&events[..], [EngineEvent::BlockFound(_), EngineEvent::BlockFound(_)]));
    }

    #[test]
    fn a_block_of_a_clients_template_is_logged_but_not_sent() {
        let fixture = Fixture::new();
        let log = fixture.folder.path("blocks.jsonl");
        let listener = UnixListener::bind(fixture.folder.path("chain.sock")).unwrap();
        let (path, thread) = fixture.start(&log);
        for (template_id, nonce) in [(DECLARED_TEMPLATES, 51), (DECLARED_TEMPLATES - 1, 52)] {
            path.submit(Solution { template_id, ..solution(nonce) });
        }
        // What comes first is the second block, and its source does not know the other.
        assert_eq!(Fixture::nonce(&listener), 52);
        drop(path);
        thread.join().unwrap();
        assert_eq!(fixture.counters.sent.load(Ordering::Relaxed), 1);
        let text = fs::read_to_string(&log).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let logged = lines.iter().map(|line| (&line["template_id"], &line["nonce"]));
        let expected =
            [(DECLARED_TEMPLATES.into(), 51.into()), ((DECLARED_TEMPLATES - 1).into(), 52.into())];
        assert!(logged.eq(expected.iter().map(|(id, nonce)| (id, nonce))));
        let events = fixture.handover.drain(1).events;
        assert!(matches!(&events[..], [EngineEvent::BlockFound(_), EngineEvent::BlockFound(_)]));
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_spoil_the_next_one() {
        let fixture = Fixture::new();
        let log = fixture.folder.path("blocks.jsonl");
        fs::write(&log, "{\"nonce\": 4").unwrap();
        let (path, thread) = fixture.start(&log);
        path.submit(solution(44));
        path.submit(solution(45));
        drop(path);
        thread.join().unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let nonces: Vec<_> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|line| line["nonce"].clone())
            .collect();
        assert_eq!(nonces, [44, 45]);
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_full_disk_is_told_and_the_block_goes_out_all_the_same() {
        let fixture = Fixture::new();
        let listener = UnixListener::bind(fixture.folder.path("chain.sock")).unwrap();
        let (path, thread) = fixture.start(Path::new("/dev/full"));
        path.submit(solution(43));
        assert_eq!(Fixture::nonce(&listener), 43);
        drop(path);
        thread.join().unwrap();
        let events = fixture.handover.drain(1).events;
        assert!(
            matches!(&events[..], [EngineEvent::Failed { message }, EngineEvent::BlockFound(_)]
                if message.contains("No space left"))
        );
    }

    #[test]
    fn the_oldest_unsent_blocks_go_first() {
        let mut outlet = Outlet::new("/nonexistent/socket".into());
        let dropped: u64 = (0..UNSENT_MAX as u8 + 2).map(|byte| outlet.queue(vec![byte])).sum();
        assert_eq!(dropped, 2);
        assert_eq!(outlet.unsent.front(), Some(&vec![2]));
        let begun = Instant::now();
        assert!(outlet.send().1.is_err());
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
