//! `radpool_sv2._native.ipc`: a connection to Bitcoin Core's unix socket.

use std::path::PathBuf;

use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyList},
};
use radpool_ipc::{self as ipc, Answer, Request, TemplateOptions};

use crate::{
    argument::{Int, hash},
    error::{internal_error, local_error},
};

/// A block template of the node.
#[pyclass(frozen, module = "radpool_sv2._native.ipc")]
#[derive(Debug)]
pub(crate) struct CoreTemplate(ipc::CoreTemplate);

#[pymethods]
impl CoreTemplate {
    #[getter]
    fn handle(&self) -> u64 {
        self.0.handle
    }

    #[getter]
    fn version(&self) -> u32 {
        self.0.version
    }

    #[getter]
    fn prev_hash(&self) -> &[u8] {
        &self.0.prev_hash
    }

    #[getter]
    fn time(&self) -> u32 {
        self.0.time
    }

    #[getter]
    fn nbits(&self) -> u32 {
        self.0.nbits
    }

    #[getter]
    fn target(&self) -> &[u8] {
        &self.0.target
    }

    #[getter]
    fn height(&self) -> u32 {
        self.0.height
    }

    #[getter]
    fn coinbase_tx_version(&self) -> u32 {
        self.0.coinbase.version
    }

    #[getter]
    fn coinbase_prefix(&self) -> &[u8] {
        &self.0.coinbase.script_prefix
    }

    #[getter]
    fn coinbase_sequence(&self) -> u32 {
        self.0.coinbase.sequence
    }

    #[getter]
    fn coinbase_locktime(&self) -> u32 {
        self.0.coinbase.lock_time
    }

    #[getter]
    fn value_sats(&self) -> u64 {
        self.0.coinbase.value_sats
    }

    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.coinbase.outputs.iter().map(|output| PyBytes::new(py, output)).collect()
    }

    #[getter]
    fn merkle_path<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.merkle_path.iter().map(|sibling| PyBytes::new(py, sibling)).collect()
    }

    #[getter]
    fn fees_sats(&self) -> Vec<u64> {
        self.0.fees_sats.clone()
    }

    #[getter]
    fn transactions<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.transactions.iter().map(|raw| PyBytes::new(py, raw)).collect()
    }

    #[getter]
    fn transactions_weight(&self) -> u64 {
        self.0.transactions_weight
    }

    fn __repr__(&self) -> String {
        format!("CoreTemplate({}, height {})", self.0.handle, self.0.height)
    }
}

/// What the node can do.
#[pyclass(frozen, get_all, module = "radpool_sv2._native.ipc")]
#[derive(Debug)]
pub(crate) struct Capabilities {
    is_test_chain: bool,
    finds_transactions: bool,
    answers_rpc: bool,
}

/// What the node says of a block.
#[pyclass(frozen, get_all, module = "radpool_sv2._native.ipc")]
#[derive(Debug)]
pub(crate) struct Verdict {
    good: bool,
    reason: String,
    detail: String,
}

/// What came instead of an answer.
#[pyclass(frozen, get_all, module = "radpool_sv2._native.ipc")]
#[derive(Debug)]
pub(crate) struct Failure {
    kind: &'static str,
    text: String,
}

/// A connection to a node, on a thread of its own.
#[pyclass(frozen, module = "radpool_sv2._native.ipc")]
#[derive(Debug)]
pub(crate) struct CoreNode(Mutex<Option<ipc::Node>>);

#[pymethods]
impl CoreNode {
    #[new]
    #[pyo3(signature = (path, *, trusted_uids, connect_deadline_ms))]
    fn new(
        path: PathBuf,
        trusted_uids: Vec<Int<u32>>,
        connect_deadline_ms: Int<u32>,
    ) -> PyResult<Self> {
        let trusted_uids = trusted_uids.into_iter().map(|uid| uid.0).collect();
        let connect_deadline_ms = connect_deadline_ms.0;
        let settings = ipc::NodeSettings { path, trusted_uids, connect_deadline_ms };
        let node = ipc::Node::start(settings)
            .map_err(|error| internal_error(format!("the system gives no thread: {error}")))?;
        Ok(Self(Mutex::new(Some(node))))
    }

    fn event_fd(&self) -> PyResult<i32> {
        self.with(|node| Ok(node.descriptor()))
    }

    #[pyo3(signature = (
        token, *, use_mempool, reserved_weight, coinbase_sigops, cooldown, deadline_ms
    ))]
    fn create_template(
        &self,
        token: Int<u64>,
        use_mempool: bool,
        reserved_weight: Int<u64>,
        coinbase_sigops: Int<u64>,
        cooldown: bool,
        deadline_ms: Int<u32>,
    ) -> PyResult<()> {
        let (reserved_weight, coinbase_sigops) = (reserved_weight.0, coinbase_sigops.0);
        let options = TemplateOptions { use_mempool, reserved_weight, coinbase_sigops, cooldown };
        self.ask(token, Request::CreateTemplate(options), deadline_ms)
    }

    #[pyo3(signature = (token, template, *, timeout_ms, fee_rise_sats, deadline_ms))]
    fn next_template(
        &self,
        token: Int<u64>,
        template: Int<u64>,
        timeout_ms: Int<u32>,
        fee_rise_sats: Option<Int<u64>>,
        deadline_ms: Int<u32>,
    ) -> PyResult<()> {
        let (template, timeout_ms) = (template.0, timeout_ms.0);
        let fee_rise_sats = fee_rise_sats.map(|sats| sats.0);
        let request = Request::NextTemplate { template, timeout_ms, fee_rise_sats };
        self.ask(token, request, deadline_ms)
    }

    #[pyo3(signature = (token, template, *, version, ntime, nonce, coinbase_tx, deadline_ms))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn submit_solution(
        &self,
        token: Int<u64>,
        template: Int<u64>,
        version: Int<u32>,
        ntime: Int<u32>,
        nonce: Int<u32>,
        coinbase_tx: Vec<u8>,
        deadline_ms: Int<u32>,
    ) -> PyResult<()> {
        let (template, version) = (template.0, version.0);
        let (time, nonce, coinbase) = (ntime.0, nonce.0, coinbase_tx);
        let request = Request::SubmitSolution { template, version, time, nonce, coinbase };
        self.ask(token, request, deadline_ms)
    }

    #[pyo3(signature = (token, block, *, deadline_ms))]
    fn check_block(
        &self,
        py: Python<'_>,
        token: Int<u64>,
        block: Vec<u8>,
        deadline_ms: Int<u32>,
    ) -> PyResult<()> {
        py.detach(|| self.ask(token, Request::CheckBlock(block), deadline_ms))
    }

    #[pyo3(signature = (token, block, *, deadline_ms))]
    fn submit_block(
        &self,
        py: Python<'_>,
        token: Int<u64>,
        block: Vec<u8>,
        deadline_ms: Int<u32>,
    ) -> PyResult<()> {
        py.detach(|| self.ask(token, Request::SubmitBlock(block), deadline_ms))
    }

    #[pyo3(signature = (token, wtxids, *, deadline_ms))]
    fn find_transactions(
        &self,
        token: Int<u64>,
        wtxids: Vec<Vec<u8>>,
        deadline_ms: Int<u32>,
    ) -> PyResult<()> {
        let wtxids = wtxids.iter().map(|wtxid| hash("a wtxid", wtxid));
        let request = Request::Transactions(wtxids.collect::<PyResult<_>>()?);
        self.ask(token, request, deadline_ms)
    }

    #[pyo3(signature = (token, json, *, deadline_ms))]
    fn rpc(&self, token: Int<u64>, json: String, deadline_ms: Int<u32>) -> PyResult<()> {
        self.ask(token, Request::Rpc(json), deadline_ms)
    }

    #[pyo3(signature = (token, *, deadline_ms))]
    fn tip(&self, token: Int<u64>, deadline_ms: Int<u32>) -> PyResult<()> {
        self.ask(token, Request::Tip, deadline_ms)
    }

    #[pyo3(signature = (token, *, deadline_ms))]
    fn is_syncing(&self, token: Int<u64>, deadline_ms: Int<u32>) -> PyResult<()> {
        self.ask(token, Request::IsSyncing, deadline_ms)
    }

    fn interrupt_wait(&self, template: Int<u64>) -> PyResult<()> {
        self.with(|node| {
            node.interrupt_wait(template.0);
            Ok(())
        })
    }

    fn forget(&self, template: Int<u64>) -> PyResult<()> {
        self.with(|node| {
            node.forget(template.0);
            Ok(())
        })
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let outcomes = self.with(|node| Ok(node.take()))?;
        let answers = PyList::empty(py);
        for (token, outcome) in outcomes {
            answers.append((token, to_python(py, outcome)?))?;
        }
        Ok(answers)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

impl CoreNode {
    fn with<T>(&self, act: impl FnOnce(&ipc::Node) -> PyResult<T>) -> PyResult<T> {
        match self.0.lock().as_ref() {
            Some(node) => act(node),
            None => Err(local_error("the connection to the node was closed: make a new one")),
        }
    }

    fn ask(&self, token: Int<u64>, request: Request, deadline_ms: Int<u32>) -> PyResult<()> {
        self.with(|node| node.ask(token.0, request, deadline_ms.0).map_err(local_error))
    }
}

fn to_python(py: Python<'_>, outcome: Result<Answer, ipc::IpcError>) -> PyResult<Py<PyAny>> {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            let failure = Failure { kind: error.kind(), text: error.to_string() };
            return Ok(Py::new(py, failure)?.into_any());
        }
    };
    Ok(match answer {
        Answer::Connected(can) => Py::new(
            py,
            Capabilities {
                is_test_chain: can.is_test_chain,
                finds_transactions: can.finds_transactions,
                answers_rpc: can.answers_rpc,
            },
        )?
        .into_any(),
        Answer::Template(template) => Py::new(py, CoreTemplate(*template))?.into_any(),
        Answer::NoTemplate => py.None(),
        Answer::Verdict { good, reason, detail } => {
            Py::new(py, Verdict { good, reason, detail })?.into_any()
        }
        Answer::Transactions(found) => {
            let found = found.iter().map(|raw| PyBytes::new(py, raw));
            PyList::new(py, found)?.into_any().unbind()
        }
        Answer::Rpc(json) => json.into_pyobject(py)?.into_any().unbind(),
        Answer::Tip(tip) => match tip {
            Some((height, hash)) => {
                (height, PyBytes::new(py, &hash)).into_pyobject(py)?.into_any().unbind()
            }
            None => py.None(),
        },
        Answer::Syncing(syncing) => syncing.into_pyobject(py)?.to_owned().into_any().unbind(),
    })
}
