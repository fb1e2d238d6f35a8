//! One connection to the node: what it can do, the templates it keeps for us, and its questions.
//!
//! The node runs each call on a thread that the call names. Calls of one lane wait for each other;
//! the lanes do not: a verdict on a block never delays the next template, nor a solution.

use std::{cell::RefCell, collections::HashMap, path::Path};

use bitcoin_capnp_types::{
    capnp::{self, message::ReaderOptions, text},
    capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty::VatNetwork},
    init_capnp::init,
    mining_capnp::{block_template, coinbase_tx, mining},
    proxy_capnp::{thread, thread_map},
    rpc_capnp::rpc,
};
use tokio::{io, net::UnixStream, task};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::{
    error::IpcError,
    request::{Answer, Capabilities, Request, TemplateOptions},
    template::{CoinbaseParts, CoreTemplate, RawTemplate},
};

/// Templates that the node keeps for this connection; the caller forgets those it no longer needs.
pub const TEMPLATES_MAX: usize = 128;
/// The largest answer that is read: a block, or as many transactions, with room to spare.
const ANSWER_WORDS_MAX: usize = 8 << 20;

/// Makes a request on a lane.
macro_rules! on {
    ($lane:expr, $request:expr) => {{
        let mut request = $request;
        request.get().init_context().set_thread($lane.clone());
        request
    }};
}

/// Sends a request and names it in whatever goes wrong.
macro_rules! ask {
    ($method:literal, $request:expr) => {
        $request.send().promise.await.map_err(|error| IpcError::of($method, error))?
    };
}

/// Reads a field of an answer.
macro_rules! read {
    ($method:literal, $field:expr) => {
        $field.map_err(|error| IpcError::of($method, error))?
    };
}

/// The node's threads that work for us.
struct Lanes {
    /// New templates, and waiting for the next one.
    template: thread::Client,
    /// What a template consists of.
    read: thread::Client,
    /// Solutions and whole blocks.
    submit: thread::Client,
    /// Verdicts on blocks.
    check: thread::Client,
    /// All other questions.
    query: thread::Client,
}

/// A connection that is set up.
pub(crate) struct Session {
    lanes: Lanes,
    mining: mining::Client,
    rpc: Option<rpc::Client>,
    templates: RefCell<HashMap<u64, block_template::Client>>,
    next_handle: RefCell<u64>,
    capabilities: Capabilities,
}

impl Session {
    /// Connects and finds out what the node can do. Its tasks live on the current `LocalSet`.
    pub(crate) async fn open(path: &Path, trusted_uids: &[u32]) -> Result<Self, IpcError> {
        let stream = connect(path, trusted_uids).await?;
        let (reader, writer) = stream.into_split();
        let mut options = ReaderOptions::new();
        options.traversal_limit_in_words(Some(ANSWER_WORDS_MAX));
        let network = VatNetwork::new(
            io::BufReader::new(reader).compat(),
            io::BufWriter::new(writer).compat_write(),
            Side::Client,
            options,
        );
        let mut system = RpcSystem::new(Box::new(network), None);
        let init: init::Client = system.bootstrap(Side::Server);
        // Every request that is under way fails when this task ends, and the task with the stream.
        task::spawn_local(system);
        let constructed = ask!("construct", init.construct_request());
        let threads = read!("construct", constructed.get());
        let threads = read!("construct", threads.get_thread_map());
        let lanes = Lanes {
            template: lane(&threads, "radpool-template").await?,
            read: lane(&threads, "radpool-read").await?,
            submit: lane(&threads, "radpool-submit").await?,
            check: lane(&threads, "radpool-check").await?,
            query: lane(&threads, "radpool-query").await?,
        };
        let made = ask!("makeMining", on!(lanes.query, init.make_mining_request()));
        let mining = read!("makeMining", read!("makeMining", made.get()).get_result());
        let rpc = make_rpc(&init, &lanes.query).await?;
        let mut session = Self {
            lanes,
            mining,
            rpc,
            templates: RefCell::default(),
            next_handle: RefCell::new(1),
            capabilities: Capabilities::default(),
        };
        session.capabilities = session.find_capabilities().await?;
        Ok(session)
    }

    pub(crate) const fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Ends whatever waits in the node; to be called before the connection is left.
    pub(crate) fn interrupt(&self) {
        for template in self.templates.borrow().values() {
            drop(template.interrupt_wait_request().send());
        }
        drop(self.mining.interrupt_request().send());
    }

    pub(crate) fn interrupt_wait(&self, handle: u64) {
        if let Some(template) = self.templates.borrow().get(&handle) {
            drop(template.interrupt_wait_request().send());
        }
    }

    pub(crate) fn forget(&self, handle: u64) {
        self.templates.borrow_mut().remove(&handle);
    }

    pub(crate) async fn answer(&self, request: Request) -> Result<Answer, IpcError> {
        match request {
            Request::CreateTemplate(options) => self.create(options).await,
            Request::NextTemplate { template, timeout_ms, fee_rise_sats } => {
                self.next(template, timeout_ms, fee_rise_sats).await
            }
            Request::SubmitSolution { template, version, time, nonce, coinbase } => {
                self.submit_solution(template, version, time, nonce, &coinbase).await
            }
            Request::CheckBlock(block) => self.check_block(&block).await,
            Request::SubmitBlock(block) => self.submit_block(&block).await,
            Request::Transactions(wtxids) => self.transactions(&wtxids).await,
            Request::Rpc(json) => self.rpc(&json).await,
            Request::Tip => self.tip().await,
            Request::IsSyncing => self.is_syncing().await,
        }
    }

    async fn find_capabilities(&self) -> Result<Capabilities, IpcError> {
        let asked = ask!("isTestChain", on!(self.lanes.query, self.mining.is_test_chain_request()));
        let is_test_chain = read!("isTestChain", asked.get()).get_result();
        // A question about nothing, which old nodes refuse; they do not take whole blocks either.
        let finds_transactions = match self.transactions(&[]).await {
            Ok(_) => true,
            Err(IpcError::Unsupported(_)) => false,
            Err(error) => return Err(error),
        };
        Ok(Capabilities { is_test_chain, finds_transactions, answers_rpc: self.rpc.is_some() })
    }

    async fn create(&self, options: TemplateOptions) -> Result<Answer, IpcError> {
        let mut request = on!(self.lanes.template, self.mining.create_new_block_request());
        request.get().set_cooldown(options.cooldown);
        let mut wanted = request.get().init_options();
        wanted.set_use_mempool(options.use_mempool);
        wanted.set_block_reserved_weight(options.reserved_weight);
        wanted.set_coinbase_output_max_additional_sigops(options.coinbase_sigops);
        let made = ask!("createNewBlock", request);
        let made = read!("createNewBlock", made.get());
        match made.has_result() {
            false => Ok(Answer::NoTemplate),
            true => self.keep(read!("createNewBlock", made.get_result())).await,
        }
    }

    async fn next(
        &self,
        handle: u64,
        timeout_ms: u32,
        fee_rise_sats: Option<u64>,
    ) -> Result<Answer, IpcError> {
        let template = self.template(handle)?;
        let mut request = on!(self.lanes.template, template.wait_next_request());
        let mut wanted = request.get().init_options();
        wanted.set_timeout(timeout_ms.into());
        if let Some(sats) = fee_rise_sats.and_then(|sats| i64::try_from(sats).ok()) {
            wanted.set_fee_threshold(sats);
        }
        let made = ask!("waitNext", request);
        let made = read!("waitNext", made.get());
        match made.has_result() {
            false => Ok(Answer::NoTemplate),
            true => self.keep(read!("waitNext", made.get_result())).await,
        }
    }

    fn template(&self, handle: u64) -> Result<block_template::Client, IpcError> {
        self.templates.borrow().get(&handle).cloned().ok_or(IpcError::NoTemplate(handle))
    }

    /// Asks a template for all its parts at once and keeps it under a handle.
    async fn keep(&self, template: block_template::Client) -> Result<Answer, IpcError> {
        if self.templates.borrow().len() >= TEMPLATES_MAX {
            return Err(IpcError::Busy(TEMPLATES_MAX));
        }
        let lane = &self.lanes.read;
        let header = on!(lane, template.get_block_header_request()).send();
        let coinbase = on!(lane, template.get_coinbase_tx_request()).send();
        let path = on!(lane, template.get_coinbase_merkle_path_request()).send();
        let fees = on!(lane, template.get_tx_fees_request()).send();
        let block = on!(lane, template.get_block_request()).send();

        let header = read!("getBlockHeader", header.promise.await);
        let coinbase = read!("getCoinbaseTx", coinbase.promise.await);
        let path = read!("getCoinbaseMerklePath", path.promise.await);
        let fees = read!("getTxFees", fees.promise.await);
        let block = read!("getBlock", block.promise.await);

        let parts = read!("getCoinbaseTx", read!("getCoinbaseTx", coinbase.get()).get_result());
        let path = read!("getCoinbaseMerklePath", path.get());
        let path = read!("getCoinbaseMerklePath", path.get_result());
        let fees = read!("getTxFees", read!("getTxFees", fees.get()).get_result());
        let raw = RawTemplate {
            header: read!("getBlockHeader", read!("getBlockHeader", header.get()).get_result())
                .to_vec(),
            coinbase: coinbase_parts(parts)?,
            merkle_path: read!("getCoinbaseMerklePath", byte_strings(path.iter())),
            fees: fees.iter().collect(),
            block: read!("getBlock", read!("getBlock", block.get()).get_result()).to_vec(),
        };
        let handle = self.next_handle.replace_with(|next| *next + 1);
        let checked: CoreTemplate = raw.check(handle)?;
        self.templates.borrow_mut().insert(handle, template);
        Ok(Answer::Template(Box::new(checked)))
    }

    /// Bitcoin Core 32 tells the reason of a refusal; 31 has an older method of another number.
    async fn submit_solution(
        &self,
        handle: u64,
        version: u32,
        time: u32,
        nonce: u32,
        coinbase: &[u8],
    ) -> Result<Answer, IpcError> {
        let template = self.template(handle)?;
        let mut request = on!(self.lanes.submit, template.submit_solution_request());
        let mut solution = request.get();
        solution.set_version(version);
        solution.set_timestamp(time);
        solution.set_nonce(nonce);
        solution.set_coinbase(coinbase);
        let newer = request.send().promise.await;
        match newer.map_err(|error| IpcError::of("submitSolution", error)) {
            Ok(answer) => {
                let answer = read!("submitSolution", answer.get());
                verdict(answer.get_result(), answer.get_reason(), answer.get_debug())
            }
            Err(IpcError::Unsupported(_)) => {
                let mut request = on!(self.lanes.submit, template.submit_solution_old7_request());
                let mut solution = request.get();
                solution.set_version(version);
                solution.set_timestamp(time);
                solution.set_nonce(nonce);
                solution.set_coinbase(coinbase);
                let answer = ask!("submitSolution", request);
                let taken = read!("submitSolution", answer.get()).get_result();
                verdict(taken, Ok("".into()), Ok("".into()))
            }
            Err(error) => Err(error),
        }
    }

    async fn check_block(&self, block: &[u8]) -> Result<Answer, IpcError> {
        let mut request = on!(self.lanes.check, self.mining.check_block_request());
        request.get().set_block(block);
        let mut options = request.get().init_options();
        options.set_check_merkle_root(true);
        options.set_check_pow(false);
        let answer = ask!("checkBlock", request);
        let answer = read!("checkBlock", answer.get());
        verdict(answer.get_result(), answer.get_reason(), answer.get_debug())
    }

    async fn submit_block(&self, block: &[u8]) -> Result<Answer, IpcError> {
        let mut request = on!(self.lanes.submit, self.mining.submit_block_request());
        request.get().set_block(block);
        let answer = ask!("submitBlock", request);
        let answer = read!("submitBlock", answer.get());
        verdict(answer.get_result(), answer.get_reason(), answer.get_debug())
    }

    async fn transactions(&self, wtxids: &[[u8; 32]]) -> Result<Answer, IpcError> {
        let mut request =
            on!(self.lanes.query, self.mining.get_transactions_by_witness_i_d_request());
        let mut wanted = request.get().init_wtxids(wtxids.len() as u32);
        for (index, wtxid) in wtxids.iter().enumerate() {
            wanted.set(index as u32, wtxid);
        }
        let answer = ask!("getTransactionsByWitnessID", request);
        let found = read!("getTransactionsByWitnessID", answer.get());
        let found = read!("getTransactionsByWitnessID", found.get_result());
        let found = read!("getTransactionsByWitnessID", byte_strings(found.iter()));
        if found.len() != wtxids.len() {
            let (asked, told) = (wtxids.len(), found.len());
            return Err(IpcError::Nonsense(format!("{told} transactions instead of {asked}")));
        }
        Ok(Answer::Transactions(found))
    }

    async fn rpc(&self, json: &str) -> Result<Answer, IpcError> {
        let rpc = self.rpc.as_ref().ok_or(IpcError::Unsupported("makeRpc"))?;
        let mut request = on!(self.lanes.query, rpc.execute_rpc_request());
        request.get().set_request(json);
        request.get().set_uri("/");
        request.get().set_user("radpool");
        let answer = ask!("executeRpc", request);
        let told = read!("executeRpc", read!("executeRpc", answer.get()).get_result());
        Ok(Answer::Rpc(told.to_string().map_err(|error| IpcError::Nonsense(error.to_string()))?))
    }

    async fn tip(&self) -> Result<Answer, IpcError> {
        let answer = ask!("getTip", on!(self.lanes.query, self.mining.get_tip_request()));
        let answer = read!("getTip", answer.get());
        if !answer.get_has_result() {
            return Ok(Answer::Tip(None));
        }
        let tip = read!("getTip", answer.get_result());
        let hash = read!("getTip", tip.get_hash()).try_into();
        match (u32::try_from(tip.get_height()), hash) {
            (Ok(height), Ok(hash)) => Ok(Answer::Tip(Some((height, hash)))),
            _ => Err(IpcError::Nonsense("a tip without a height or a hash".to_owned())),
        }
    }

    async fn is_syncing(&self) -> Result<Answer, IpcError> {
        let request = on!(self.lanes.query, self.mining.is_initial_block_download_request());
        let answer = ask!("isInitialBlockDownload", request);
        Ok(Answer::Syncing(read!("isInitialBlockDownload", answer.get()).get_result()))
    }
}

/// Connects to the socket, if somebody listens there who may be trusted with blocks.
async fn connect(path: &Path, trusted_uids: &[u32]) -> Result<UnixStream, IpcError> {
    let unreachable = |error: io::Error| IpcError::Unreachable {
        path: path.display().to_string(),
        cause: error.to_string(),
    };
    let stream = UnixStream::connect(path).await.map_err(unreachable)?;
    let uid = stream.peer_cred().map_err(unreachable)?.uid();
    if trusted_uids.contains(&uid) {
        return Ok(stream);
    }
    let trusted: Vec<_> = trusted_uids.iter().map(u32::to_string).collect();
    let path = path.display().to_string();
    Err(IpcError::Foreign { path, uid, trusted: trusted.join(", ") })
}

async fn lane(threads: &thread_map::Client, name: &str) -> Result<thread::Client, IpcError> {
    let mut request = threads.make_thread_request();
    request.get().set_name(name);
    let made = ask!("makeThread", request);
    Ok(read!("makeThread", read!("makeThread", made.get()).get_result()))
}

async fn make_rpc(
    init: &init::Client,
    lane: &thread::Client,
) -> Result<Option<rpc::Client>, IpcError> {
    let made = on!(lane, init.make_rpc_request()).send().promise.await;
    match made.map_err(|error| IpcError::of("makeRpc", error)) {
        Ok(made) => Ok(Some(read!("makeRpc", read!("makeRpc", made.get()).get_result()))),
        Err(IpcError::Unsupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn verdict(
    good: bool,
    reason: capnp::Result<text::Reader<'_>>,
    detail: capnp::Result<text::Reader<'_>>,
) -> Result<Answer, IpcError> {
    let word = |told: text::Reader<'_>| String::from_utf8_lossy(told.as_bytes()).into_owned();
    let (reason, detail) = (read!("a verdict", reason), read!("a verdict", detail));
    Ok(Answer::Verdict { good, reason: word(reason), detail: word(detail) })
}

fn coinbase_parts(told: coinbase_tx::Reader<'_>) -> Result<CoinbaseParts, IpcError> {
    let value = told.get_block_reward_remaining();
    let outputs = read!("getCoinbaseTx", told.get_required_outputs());
    Ok(CoinbaseParts {
        version: told.get_version(),
        sequence: told.get_sequence(),
        script_prefix: read!("getCoinbaseTx", told.get_script_sig_prefix()).to_vec(),
        witness: read!("getCoinbaseTx", told.get_witness()).to_vec(),
        value_sats: u64::try_from(value)
            .map_err(|_| IpcError::Nonsense(format!("a coinbase of {value} sats")))?,
        outputs: read!("getCoinbaseTx", byte_strings(outputs.iter())),
        lock_time: told.get_lock_time(),
    })
}

fn byte_strings<'a>(
    strings: impl Iterator<Item = capnp::Result<&'a [u8]>>,
) -> capnp::Result<Vec<Vec<u8>>> {
    strings.map(|string| string.map(<[u8]>::to_vec)).collect()
}
