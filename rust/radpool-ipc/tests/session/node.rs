//! A node in Bitcoin Core's place: the same schemas, answers made up here.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bitcoin_capnp_types::{
    capnp::Error,
    capnp_rpc::{RpcSystem, new_client, rpc_twoparty_capnp::Side, twoparty::VatNetwork},
    init_capnp::init,
    mining_capnp::{block_template, mining},
    proxy_capnp::{thread as ipc_thread, thread_map},
    rpc_capnp::rpc,
};
use tokio::{
    net::UnixListener,
    runtime::Builder,
    sync::Notify,
    task::{self, LocalSet},
};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

/// What the node is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// Bitcoin Core 31: no JSON-RPC, no whole blocks, an older way to take solutions.
    pub(crate) is_old: bool,
    /// Answers no verdict, ever.
    pub(crate) hangs_at_checks: bool,
    /// Says that fees are other than there are transactions.
    pub(crate) is_mad: bool,
}

/// What the node was told, for tests to look at.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) templates: AtomicU32,
}

impl Seen {
    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }
}

/// A running fake.
pub(crate) struct FakeNode {
    path: PathBuf,
    pub(crate) seen: Arc<Seen>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl FakeNode {
    pub(crate) fn start(name: &str, behaviour: Behaviour) -> Self {
        let path = std::env::temp_dir().join(format!("radpool-ipc-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(Notify::new()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (told, ended) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = UnixListener::from_std(listener).unwrap();
                let serving = task::spawn_local(async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let (reader, writer) = stream.into_split();
                        let network = VatNetwork::new(
                            reader.compat(),
                            writer.compat_write(),
                            Side::Server,
                            Default::default(),
                        );
                        let shared = Rc::new((behaviour.clone(), Arc::clone(&told)));
                        let init: init::Client = new_client(Face(shared));
                        task::spawn_local(RpcSystem::new(Box::new(network), Some(init.client)));
                    }
                });
                ended.notified().await;
                serving.abort();
            });
        });
        Self { path, seen, stop, thread: Some(thread) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the node and with it all connections.
    pub(crate) fn stop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        let _ = fs::remove_file(&self.path);
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen.calls.lock().unwrap().clone()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop();
    }
}

type Shared = Rc<(Behaviour, Arc<Seen>)>;

/// All interfaces of the node but that of a template.
struct Face(Shared);

impl Face {
    fn is_old(&self) -> bool {
        self.0.0.is_old
    }

    fn again(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

fn unknown(method: &str) -> Error {
    Error::unimplemented(format!("Method not implemented: {method}"))
}

impl init::Server for Face {
    async fn construct(
        self: Rc<Self>,
        _: init::ConstructParams,
        mut results: init::ConstructResults,
    ) -> Result<(), Error> {
        results.get().set_thread_map(new_client(self.again()));
        Ok(())
    }

    async fn make_mining(
        self: Rc<Self>,
        params: init::MakeMiningParams,
        mut results: init::MakeMiningResults,
    ) -> Result<(), Error> {
        // As the real node: a call that names no thread is an error.
        params.get()?.get_context()?.get_thread()?;
        results.get().set_result(new_client(self.again()));
        Ok(())
    }

    async fn make_rpc(
        self: Rc<Self>,
        _: init::MakeRpcParams,
        mut results: init::MakeRpcResults,
    ) -> Result<(), Error> {
        if self.is_old() {
            return Err(unknown("makeRpc"));
        }
        results.get().set_result(new_client(self.again()));
        Ok(())
    }
}

impl thread_map::Server for Face {
    async fn make_thread(
        self: Rc<Self>,
        _: thread_map::MakeThreadParams,
        mut results: thread_map::MakeThreadResults,
    ) -> Result<(), Error> {
        results.get().set_result(new_client(self.again()));
        Ok(())
    }
}

impl ipc_thread::Server for Face {}

impl rpc::Server for Face {
    async fn execute_rpc(
        self: Rc<Self>,
        params: rpc::ExecuteRpcParams,
        mut results: rpc::ExecuteRpcResults,
    ) -> Result<(), Error> {
        let asked = params.get()?.get_request()?.to_string()?;
        results.get().set_result(format!("{{\"result\": {asked}}}"));
        Ok(())
    }
}

impl mining::Server for Face {
    async fn is_test_chain(
        self: Rc<Self>,
        _: mining::IsTestChainParams,
        mut results: mining::IsTestChainResults,
    ) -> Result<(), Error> {
        results.get().set_result(true);
        Ok(())
    }

    async fn is_initial_block_download(
        self: Rc<Self>,
        _: mining::IsInitialBlockDownloadParams,
        mut results: mining::IsInitialBlockDownloadResults,
    ) -> Result<(), Error> {
        results.get().set_result(true);
        Ok(())
    }

    async fn get_tip(
        self: Rc<Self>,
        _: mining::GetTipParams,
        mut results: mining::GetTipResults,
    ) -> Result<(), Error> {
        results.get().set_has_result(true);
        let mut tip = results.get().init_result();
        tip.set_height(199_999);
        tip.set_hash(&[9; 32]);
        Ok(())
    }

    async fn interrupt(
        self: Rc<Self>,
        _: mining::InterruptParams,
        _: mining::InterruptResults,
    ) -> Result<(), Error> {
        self.0.1.note("interrupt");
        Ok(())
    }

    async fn create_new_block(
        self: Rc<Self>,
        params: mining::CreateNewBlockParams,
        mut results: mining::CreateNewBlockResults,
    ) -> Result<(), Error> {
        let options = params.get()?.get_options()?;
        self.0.1.note(format!(
            "createNewBlock {} {} {} {}",
            options.get_use_mempool(),
            options.get_block_reserved_weight(),
            options.get_coinbase_output_max_additional_sigops(),
            params.get()?.get_cooldown(),
        ));
        results.get().set_result(new_client(Template::new(&self.0)));
        Ok(())
    }

    async fn check_block(
        self: Rc<Self>,
        params: mining::CheckBlockParams,
        mut results: mining::CheckBlockResults,
    ) -> Result<(), Error> {
        if self.0.0.hangs_at_checks {
            std::future::pending::<()>().await;
        }
        let options = params.get()?.get_options()?;
        let mut answer = results.get();
        answer.set_result(options.get_check_pow());
        answer.set_reason("bad-cb-amount");
        answer.set_debug("coinbase pays too much");
        Ok(())
    }

    async fn submit_block(
        self: Rc<Self>,
        params: mining::SubmitBlockParams,
        mut results: mining::SubmitBlockResults,
    ) -> Result<(), Error> {
        if self.is_old() {
            return Err(unknown("submitBlock"));
        }
        results.get().set_result(!params.get()?.get_block()?.is_empty());
        Ok(())
    }

    async fn get_transactions_by_witness_i_d(
        self: Rc<Self>,
        params: mining::GetTransactionsByWitnessIDParams,
        mut results: mining::GetTransactionsByWitnessIDResults,
    ) -> Result<(), Error> {
        if self.is_old() {
            return Err(unknown("getTransactionsByWitnessID"));
        }
        // Knows what begins with an even byte.
        let asked = params.get()?.get_wtxids()?;
        let mut found = results.get().init_result(asked.len());
        for (index, wtxid) in asked.iter().enumerate() {
            let wtxid = wtxid?;
            found.set(index as u32, if wtxid[0] % 2 == 0 { wtxid } else { &[] });
        }
        Ok(())
    }
}

/// A template: at height 200,000 with two transactions.
struct Template(Shared, Arc<Notify>);

impl Template {
    fn new(shared: &Shared) -> Self {
        shared.1.templates.fetch_add(1, Ordering::SeqCst);
        Self(Rc::clone(shared), Arc::new(Notify::new()))
    }

    fn take(&self, coinbase: &[u8]) -> bool {
        self.0.1.note(format!("solution {coinbase:?}"));
        coinbase == [1, 2, 3]
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        self.0.1.templates.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn header() -> Vec<u8> {
    let mut header = vec![0x20; 80];
    header[4..36].fill(9);
    header[72..76].copy_from_slice(&0x1d00_ffff_u32.to_le_bytes());
    header
}

pub(crate) fn transaction(mark: u8) -> Vec<u8> {
    [vec![2, 0, 0, 0, 1], vec![mark; 36], vec![0; 10]].concat()
}

pub(crate) fn block() -> Vec<u8> {
    [header(), vec![3], transaction(0), transaction(1), transaction(2)].concat()
}

impl block_template::Server for Template {
    async fn get_block_header(
        self: Rc<Self>,
        _: block_template::GetBlockHeaderParams,
        mut results: block_template::GetBlockHeaderResults,
    ) -> Result<(), Error> {
        results.get().set_result(&header());
        Ok(())
    }

    async fn get_block(
        self: Rc<Self>,
        _: block_template::GetBlockParams,
        mut results: block_template::GetBlockResults,
    ) -> Result<(), Error> {
        results.get().set_result(&block());
        Ok(())
    }

    async fn get_tx_fees(
        self: Rc<Self>,
        _: block_template::GetTxFeesParams,
        mut results: block_template::GetTxFeesResults,
    ) -> Result<(), Error> {
        let count = if self.0.0.is_mad { 3 } else { 2 };
        let mut fees = results.get().init_result(count);
        (0..count).for_each(|index| fees.set(index, 1000 + i64::from(index)));
        Ok(())
    }

    async fn get_coinbase_tx(
        self: Rc<Self>,
        _: block_template::GetCoinbaseTxParams,
        mut results: block_template::GetCoinbaseTxResults,
    ) -> Result<(), Error> {
        let mut coinbase = results.get().init_result();
        coinbase.set_version(2);
        coinbase.set_sequence(0xffff_fffe);
        coinbase.set_script_sig_prefix(&[3, 0x40, 0x0d, 0x03]);
        coinbase.set_witness(&[0; 32]);
        coinbase.set_block_reward_remaining(312_502_001);
        coinbase.set_lock_time(199_999);
        let commitment = [vec![0; 8], vec![3, 0x6a, 1, 7]].concat();
        coinbase.init_required_outputs(1).set(0, &commitment);
        Ok(())
    }

    async fn get_coinbase_merkle_path(
        self: Rc<Self>,
        _: block_template::GetCoinbaseMerklePathParams,
        mut results: block_template::GetCoinbaseMerklePathResults,
    ) -> Result<(), Error> {
        results.get().init_result(2).set(0, &[1; 32]);
        results.get().get_result()?.set(1, &[2; 32]);
        Ok(())
    }

    async fn submit_solution(
        self: Rc<Self>,
        params: block_template::SubmitSolutionParams,
        mut results: block_template::SubmitSolutionResults,
    ) -> Result<(), Error> {
        if self.0.0.is_old {
            return Err(unknown("submitSolution"));
        }
        let taken = self.take(params.get()?.get_coinbase()?);
        results.get().set_result(taken);
        results.get().set_reason(if taken { "" } else { "high-hash" });
        Ok(())
    }

    async fn submit_solution_old7(
        self: Rc<Self>,
        params: block_template::SubmitSolutionOld7Params,
        mut results: block_template::SubmitSolutionOld7Results,
    ) -> Result<(), Error> {
        if !self.0.0.is_old {
            return Err(Error::failed("Old method is not supported".to_owned()));
        }
        results.get().set_result(self.take(params.get()?.get_coinbase()?));
        Ok(())
    }

    async fn wait_next(
        self: Rc<Self>,
        params: block_template::WaitNextParams,
        mut results: block_template::WaitNextResults,
    ) -> Result<(), Error> {
        let options = params.get()?.get_options()?;
        let (timeout, fees) = (options.get_timeout(), options.get_fee_threshold());
        self.0.1.note(format!("waitNext {timeout} {fees}"));
        // A threshold that any fee reaches ends the wait at once.
        if fees <= 1 {
            results.get().set_result(new_client(Template::new(&self.0)));
            return Ok(());
        }
        let patience = Duration::from_millis(timeout as u64);
        let _ = tokio::time::timeout(patience, self.1.notified()).await;
        Ok(())
    }

    async fn interrupt_wait(
        self: Rc<Self>,
        _: block_template::InterruptWaitParams,
        _: block_template::InterruptWaitResults,
    ) -> Result<(), Error> {
        self.0.1.note("interruptWait");
        self.1.notify_one();
        Ok(())
    }
}
