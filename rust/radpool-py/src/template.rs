//! `radpool_sv2._native.template`: declared templates.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyBytes};
use radpool_template::{self as template, BlockError, BuildError, Ground};
use radpool_units::Hash256;

use crate::{
    argument::{Int, hash},
    error::{local_error, remote_error, remote_error_with_code},
};

const HASH_LEN: usize = 32;
/// What the protocol says of a declaration whose coinbase is none.
const INVALID_COINBASE: &str = "invalid-coinbase-tx";

/// Cuts joined hashes apart.
fn hashes(joined: &[u8]) -> Option<Vec<Hash256>> {
    let (hashes, rest) = joined.as_chunks::<HASH_LEN>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash256(*hash)).collect())
}

fn joined<'py>(py: Python<'py>, hashes: &[Hash256]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>())
}

/// Transactions of earlier declarations by wtxid, within a budget of bytes.
#[pyclass(frozen, module = "radpool_sv2._native.template")]
#[derive(Debug)]
pub(crate) struct TransactionCache(Arc<template::TransactionCache>);

#[pymethods]
impl TransactionCache {
    #[new]
    fn new(bytes_max: Int<usize>) -> Self {
        Self(Arc::new(template::TransactionCache::new(bytes_max.0)))
    }

    fn add(&self, py: Python<'_>, raws: Vec<PyBackedBytes>) -> PyResult<Vec<[u8; HASH_LEN]>> {
        py.detach(|| {
            let parsed = template::parse_all(&raws).map_err(remote_error)?;
            let parsed: Vec<_> = parsed.into_iter().map(Arc::new).collect();
            self.0.add(&parsed);
            Ok(parsed.iter().map(|each| each.wtxid().0).collect())
        })
    }

    fn missing(&self, py: Python<'_>, wtxids: PyBackedBytes) -> PyResult<Vec<usize>> {
        let wtxids = hashes(&wtxids)
            .ok_or_else(|| local_error(format!("{} bytes are no list of hashes", wtxids.len())))?;
        Ok(py.detach(|| self.0.missing(&wtxids)))
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.count()
    }

    #[getter]
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The transactions of one declaration, held.
#[pyclass(frozen, module = "radpool_sv2._native.template")]
#[derive(Debug)]
pub(crate) struct Selection(Mutex<template::Selection>);

#[pymethods]
impl Selection {
    #[new]
    fn new(py: Python<'_>, cache: &TransactionCache, wtxids: PyBackedBytes) -> PyResult<Self> {
        let cache = Arc::clone(&cache.0);
        let list = hashes(&wtxids)
            .ok_or_else(|| remote_error(format!("{} bytes are no list of hashes", wtxids.len())))?;
        let selection = py.detach(|| template::Selection::new(cache, list));
        selection.map(Mutex::new).map(Self).map_err(remote_error)
    }

    #[getter]
    fn wtxids<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let wtxids = py.detach(|| self.0.lock().wtxids().to_vec());
        joined(py, &wtxids)
    }

    #[getter]
    fn missing(&self, py: Python<'_>) -> Vec<usize> {
        py.detach(|| self.0.lock().missing())
    }

    fn offer(&self, py: Python<'_>, raws: Vec<PyBackedBytes>) -> PyResult<()> {
        py.detach(|| self.0.lock().offer(&raws)).map_err(remote_error)
    }

    fn supply(&self, py: Python<'_>, raws: Vec<PyBackedBytes>) -> PyResult<()> {
        py.detach(|| self.0.lock().supply(&raws)).map_err(remote_error)
    }
}

/// A whole declared template.
#[pyclass(frozen, module = "radpool_sv2._native.template")]
#[derive(Debug)]
pub(crate) struct Declaration(template::Declaration);

#[pymethods]
impl Declaration {
    #[staticmethod]
    #[pyo3(signature = (
        selection, *, version, prev_hash, nbits, height, coinbase_prefix, coinbase_suffix,
        extranonce_len=None, median_time=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments: each is named at the call")]
    fn build(
        py: Python<'_>,
        selection: &Selection,
        version: Int<u32>,
        prev_hash: &[u8],
        nbits: Int<u32>,
        height: Int<u32>,
        coinbase_prefix: PyBackedBytes,
        coinbase_suffix: PyBackedBytes,
        extranonce_len: Option<Int<usize>>,
        median_time: Option<Int<u32>>,
    ) -> PyResult<Self> {
        let ground = Ground {
            version: version.0,
            prev_hash: Hash256(hash("prev_hash", prev_hash)?),
            nbits: nbits.0,
            height: height.0,
            median_time: median_time.map(|time| time.0),
        };
        let len = extranonce_len.map(|len| len.0);
        let built = py.detach(|| {
            let selection = selection.0.lock();
            let (prefix, suffix) = (&coinbase_prefix, &coinbase_suffix);
            template::Declaration::build(&selection, ground, prefix, suffix, len)
        });
        built.map(Self).map_err(|error| match error {
            BuildError::Coinbase(error) => remote_error_with_code(error, INVALID_COINBASE),
            BuildError::Missing(_) => local_error(error),
        })
    }

    fn structural(&self) -> Option<(&'static str, &str)> {
        self.0.fault().map(|fault| (fault.reason, fault.detail.as_str()))
    }

    #[getter]
    fn digest(&self) -> [u8; HASH_LEN] {
        *self.0.digest()
    }

    #[getter]
    fn version(&self) -> u32 {
        self.0.ground().version
    }

    #[getter]
    fn prev_hash(&self) -> [u8; HASH_LEN] {
        self.0.ground().prev_hash.0
    }

    #[getter]
    fn nbits(&self) -> u32 {
        self.0.ground().nbits
    }

    #[getter]
    fn height(&self) -> u32 {
        self.0.ground().height
    }

    #[getter]
    fn wtxids<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        joined(py, self.0.wtxids())
    }

    #[getter]
    fn tx_count(&self) -> usize {
        self.0.wtxids().len()
    }

    #[getter]
    fn weight(&self) -> usize {
        self.0.weight()
    }

    #[getter]
    fn size(&self) -> usize {
        self.0.size()
    }

    #[getter]
    fn merkle_path(&self) -> Vec<[u8; HASH_LEN]> {
        self.0.path().to_vec()
    }

    #[getter]
    fn extranonce_len(&self) -> usize {
        self.0.coinbase().extranonce_len()
    }

    #[getter]
    fn coinbase_tx_version(&self) -> u32 {
        self.0.coinbase().version()
    }

    #[getter]
    fn script_prefix<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.coinbase().script_prefix())
    }

    #[getter]
    fn script_suffix<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.coinbase().script_suffix())
    }

    #[getter]
    fn coinbase_sequence(&self) -> u32 {
        self.0.coinbase().sequence()
    }

    #[getter]
    fn coinbase_locktime(&self) -> u32 {
        self.0.coinbase().locktime()
    }

    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> Vec<(i64, Bound<'py, PyBytes>)> {
        let outputs = self.0.coinbase().outputs();
        outputs.map(|(sats, script)| (sats, PyBytes::new(py, script))).collect()
    }

    #[getter]
    fn outputs_raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.coinbase().outputs_raw())
    }

    #[pyo3(signature = (extranonce, *, witness=true))]
    fn coinbase<'py>(
        &self,
        py: Python<'py>,
        extranonce: &[u8],
        witness: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let coinbase = match witness {
            true => self.0.coinbase_with(extranonce),
            false => self.0.stripped_coinbase_with(extranonce),
        };
        Ok(PyBytes::new(py, &coinbase.map_err(local_error)?))
    }

    fn merkle_root(&self, extranonce: &[u8]) -> PyResult<[u8; HASH_LEN]> {
        self.0.merkle_root(extranonce).map(|root| root.0).map_err(local_error)
    }

    #[pyo3(signature = (extranonce, *, version, ntime, nonce))]
    fn block<'py>(
        &self,
        py: Python<'py>,
        extranonce: PyBackedBytes,
        version: Int<u32>,
        ntime: Int<u32>,
        nonce: Int<u32>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let block = || self.0.block(&extranonce, version.0, ntime.0, nonce.0);
        bytes_of(py, py.detach(block))
    }

    fn proposal<'py>(&self, py: Python<'py>, ntime: Int<u32>) -> PyResult<Bound<'py, PyBytes>> {
        let extranonce = vec![0; self.0.coinbase().extranonce_len()];
        let block = || self.0.block(&extranonce, self.0.ground().version, ntime.0, 0);
        bytes_of(py, py.detach(block))
    }

    fn block_of<'py>(
        &self,
        py: Python<'py>,
        header: &[u8],
        coinbase_tx: PyBackedBytes,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let header = header
            .try_into()
            .map_err(|_| local_error(format!("a header has 80 bytes, not {}", header.len())))?;
        bytes_of(py, py.detach(|| self.0.block_of(header, &coinbase_tx)))
    }

    fn __repr__(&self) -> String {
        let (count, height) = (self.0.wtxids().len(), self.0.ground().height);
        format!("Declaration(height {height}, {count} transactions)")
    }
}

fn bytes_of(py: Python<'_>, block: Result<Vec<u8>, BlockError>) -> PyResult<Bound<'_, PyBytes>> {
    block.map(|block| PyBytes::new(py, &block)).map_err(local_error)
}

/// Txid and wtxid of exactly one transaction.
#[pyfunction]
pub(crate) fn parse_transaction_ids(raw: &[u8]) -> PyResult<([u8; HASH_LEN], [u8; HASH_LEN])> {
    let transaction = template::Transaction::parse(raw).map_err(remote_error)?;
    Ok((transaction.txid().0, transaction.wtxid().0))
}
