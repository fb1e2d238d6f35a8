//! One device's connection.

use std::{cell::RefCell, io, sync::Arc};

use radpool_miner::{
    Assignment,
    client::{Event, Outbox},
    sv1::{LINE_LEN_MAX, Sv1Client},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{Duration, timeout},
};

use crate::{arguments::Arguments, peer::now_us};

/// A pool under load may be slow, but a device that has no job after this long was forgotten.
const JOIN_MAX: Duration = Duration::from_secs(120);
/// Connections that are made at a time.
const JOINING_MAX: usize = 64;
const SCRATCH_LEN: usize = 64 << 10;
/// What a device calls itself.
const AGENT: &str = concat!("radpool-load/", env!("CARGO_PKG_VERSION"));

thread_local! {
    /// What all connections of a thread read into: it is empty again before anyone waits.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where the pool is and whom it is to pay: each device is a worker of `user`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    address: String,
    user: String,
}

impl Place {
    pub(crate) fn take(arguments: &Arguments) -> Result<Self, String> {
        let address = arguments.take_optional("connect")?.ok_or("--connect HOST:PORT is needed")?;
        Ok(Self { address, user: arguments.take("user", "load".to_string())? })
    }
}

/// A device that has its first job.
#[derive(Debug)]
pub(crate) struct Miner {
    stream: TcpStream,
    /// The start of a line whose end has not arrived.
    begun: Vec<u8>,
}

/// What a device knows after it has joined: needed to find shares, and by nobody else.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) miner: Miner,
    pub(crate) client: Sv1Client,
    pub(crate) assignment: Arc<Assignment>,
}

impl Joined {
    async fn new(place: &Place, index: usize) -> Result<Self, String> {
        let joined = timeout(JOIN_MAX, Self::unbounded(place, index)).await;
        joined.unwrap_or_else(|_| Err("it got no job in two minutes".into()))
    }

    async fn unbounded(place: &Place, index: usize) -> Result<Self, String> {
        let stream = TcpStream::connect(&place.address).await.map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        let mut miner = Miner { stream, begun: Vec::new() };
        let mut out = Outbox::default();
        let user = format!("{}.{index}", place.user);
        let mut client = Sv1Client::new(user, AGENT, now_us(), &mut out);
        let mut newest = None;
        loop {
            miner.write(&out.frames).await?;
            out.frames.clear();
            if let Some(assignment) = newest {
                return Ok(Self { miner, client, assignment });
            }
            miner.stream.readable().await.map_err(told)?;
            miner.hear(&mut client, &mut out)?;
            newest = newest_of(&mut out)?;
        }
    }

    /// Takes in what has come since it joined; does not wait for anything.
    pub(crate) fn catch_up(&mut self) -> Result<(), String> {
        let mut out = Outbox::default();
        while self.miner.hear(&mut self.client, &mut out)? {}
        if let Some(assignment) = newest_of(&mut out)? {
            self.assignment = assignment;
        }
        Ok(())
    }
}

fn newest_of(out: &mut Outbox) -> Result<Option<Arc<Assignment>>, String> {
    let mut newest = None;
    for event in out.events.drain(..) {
        match event {
            Event::Assigned { assignment, .. } => newest = Some(assignment),
            Event::Ended(ended) => return Err(ended.to_string()),
            _ => {}
        }
    }
    Ok(newest)
}

impl Miner {
    /// Waits for bytes and hands every whole line to `handle`.
    ///
    /// # Errors
    /// The pool has closed the connection, or `handle` fails.
    pub(crate) async fn read(
        &mut self,
        mut handle: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.stream.readable().await.map_err(told)?;
        self.take(&mut handle).map(drop)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Most of the time there is room: that saves a turn of the runtime.
        let written = match self.stream.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(told(error)),
        };
        if written == bytes.len() {
            return Ok(());
        }
        self.stream.write_all(&bytes[written..]).await.map_err(told)
    }

    fn hear(&mut self, client: &mut Sv1Client, out: &mut Outbox) -> Result<bool, String> {
        self.take(&mut |line| {
            client.handle_line(line, now_us(), out);
            Ok(())
        })
    }

    /// Hands over the lines of one read; false when there was nothing to read.
    fn take(
        &mut self,
        handle: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<bool, String> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH_LEN, 0);
            let length = match self.stream.try_read(scratch) {
                Ok(0) => return Err("the pool closed the connection".into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(told(error)),
            };
            let mut fresh = &scratch[..length];
            while let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                if self.begun.is_empty() {
                    handle(&fresh[..end])?;
                } else {
                    self.begun.extend_from_slice(&fresh[..end]);
                    handle(&self.begun)?;
                    self.begun.clear();
                }
                fresh = &fresh[end + 1..];
            }
            self.begun.extend_from_slice(fresh);
            if self.begun.len() > LINE_LEN_MAX {
                return Err(format!("a line of more than {LINE_LEN_MAX} bytes"));
            }
            Ok(true)
        })
    }
}

fn told(error: io::Error) -> String {
    error.to_string()
}

/// Connects so many devices; each has a job then. They are named by their numbers.
pub(crate) async fn join_all(place: &Place, connections: usize) -> Result<Vec<Joined>, String> {
    let joining = Arc::new(Semaphore::new(JOINING_MAX));
    let mut joins = JoinSet::new();
    for index in 0..connections {
        let (place, joining) = (place.clone(), Arc::clone(&joining));
        joins.spawn(async move {
            let _turn = joining.acquire().await;
            Joined::new(&place, index).await
        });
    }
    let mut all = Vec::with_capacity(connections);
    while let Some(joined) = joins.join_next().await {
        let joined = joined.map_err(|error| format!("a joining task died: {error}"))?;
        all.push(joined.map_err(|reason| {
            format!("a device could not join when {} had: {reason}", all.len())
        })?);
    }
    Ok(all)
}
