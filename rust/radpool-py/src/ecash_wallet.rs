//! `radpool_sv2._native.ecash`: a wallet's side.

use pyo3::{prelude::*, pybacked::PyBackedBytes};
use radpool_ecash::{self as ecash, Point, SignedOutput, in_parallel};
use zeroize::Zeroizing;

use crate::{
    argument::Int,
    ecash::{PointBytes, dleq, id},
    error::{config_error, internal_error, local_error},
};

/// What a wallet keeps and sends for tokens to be.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug)]
pub struct DerivedOutputs(Vec<ecash::DerivedOutput>);

#[pymethods]
impl DerivedOutputs {
    #[getter]
    fn secrets(&self) -> Vec<&str> {
        self.0.iter().map(|output| output.secret.as_str()).collect()
    }

    #[getter]
    fn blinded(&self) -> Vec<PointBytes> {
        self.0.iter().map(|output| output.blinded.to_bytes()).collect()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("DerivedOutputs({}, secrets redacted)", self.0.len())
    }
}

/// `(counter, C_, e, s, A)`.
type SignedItem = (Int<u64>, PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes);

fn signed((counter, signature, e, s, public): &SignedItem) -> Option<SignedOutput> {
    Some(SignedOutput {
        counter: counter.0,
        signature: Point::from_bytes(signature).ok()?,
        dleq: dleq(e, s)?,
        public: Point::from_bytes(public).ok()?,
    })
}

/// The seed that all of a wallet's secrets come of.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug)]
pub struct WalletSeed(ecash::WalletSeed);

#[pymethods]
impl WalletSeed {
    #[staticmethod]
    fn from_seed(seed: &[u8]) -> PyResult<Self> {
        let seed = seed.try_into().map_err(|_| {
            let (wanted, found) = (ecash::WALLET_SEED_LEN, seed.len());
            config_error(format!("a wallet's seed has {wanted} bytes, not {found}"))
        })?;
        Ok(Self(ecash::WalletSeed::new(Zeroizing::new(seed))))
    }

    fn derive(
        &self,
        py: Python<'_>,
        keyset_id: &[u8],
        start: Int<u64>,
        count: Int<u32>,
    ) -> PyResult<DerivedOutputs> {
        let keyset = id(keyset_id)?;
        let (start, count) = (start.0, u64::from(count.0));
        if start.checked_add(count.saturating_sub(1)).is_none() {
            return Err(local_error(format!("{count} counters from {start} on exceed 2^64 - 1")));
        }
        py.detach(|| {
            let counters: Vec<u64> = (0..count).map(|offset| start + offset).collect();
            let outputs = in_parallel(&counters, |counter| self.0.output(&keyset, *counter));
            outputs.into_iter().collect::<Option<_>>().map(DerivedOutputs)
        })
        .ok_or_else(|| internal_error("a counter derives no blinding factor: skip it"))
    }

    fn unblind(
        &self,
        py: Python<'_>,
        keyset_id: &[u8],
        items: Vec<SignedItem>,
    ) -> PyResult<Vec<Option<PointBytes>>> {
        let keyset = id(keyset_id)?;
        let unblind = |item: &SignedItem| {
            self.0.unblind(&keyset, &signed(item)?).map(|point| point.to_bytes())
        };
        Ok(py.detach(|| in_parallel(&items, unblind)))
    }

    fn expose_blinding_factors(
        &self,
        py: Python<'_>,
        keyset_id: &[u8],
        counters: Vec<Int<u64>>,
    ) -> PyResult<Vec<[u8; 32]>> {
        let keyset = id(keyset_id)?;
        py.detach(|| {
            let factors = counters.iter().map(|counter| {
                self.0.blinding_factor(&keyset, counter.0).map(|factor| *factor.expose())
            });
            factors.collect::<Option<_>>()
        })
        .ok_or_else(|| internal_error("a counter derives no blinding factor: skip it"))
    }

    fn __repr__(&self) -> &'static str {
        "WalletSeed(redacted)"
    }
}
