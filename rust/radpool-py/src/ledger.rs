//! `radpool_sv2._native.ledger`: signed share batches.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};
use radpool_identity::IdentityKey;
use radpool_ledger as ledger;
use zeroize::Zeroizing;

use crate::{
    error::{config_error, faulty_msp, internal_error, local_error},
    keys::random_bytes,
};

/// Signs batches: the identity of an MSP.
#[pyclass(frozen, module = "radpool_sv2._native.ledger")]
#[derive(Debug)]
pub struct MspKey(pub(crate) IdentityKey);

#[pymethods]
impl MspKey {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        let secret = Zeroizing::new(random_bytes()?);
        IdentityKey::from_secret(&secret).map(Self).map_err(internal_error)
    }

    #[staticmethod]
    fn from_secret(secret: &[u8]) -> PyResult<Self> {
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(secret.try_into().map_err(|_| {
            config_error(format!("an MSP's secret key has 32 bytes, not {}", secret.len()))
        })?);
        IdentityKey::from_secret(&secret).map(Self).map_err(config_error)
    }

    fn expose_secret<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.expose_secret().as_slice())
    }

    #[getter]
    fn public(&self) -> [u8; 32] {
        *self.0.public()
    }

    fn sign(&self, hash: &[u8]) -> PyResult<[u8; 64]> {
        let hash = hash
            .try_into()
            .map_err(|_| local_error(format!("a hash to sign has 32 bytes, not {}", hash.len())))?;
        Ok(self.0.sign(&hash))
    }

    fn __repr__(&self) -> String {
        format!("MspKey(secret redacted, public {})", hex::encode(self.0.public()))
    }
}

/// A batch of shares, signed and chained, ready to be made durable.
#[pyclass(frozen, module = "radpool_sv2._native.ledger")]
#[derive(Debug)]
pub struct SealedBatch(pub(crate) ledger::SealedBatch);

#[pymethods]
impl SealedBatch {
    #[getter]
    fn blob<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.blob)
    }

    #[getter]
    fn hash(&self) -> [u8; 32] {
        self.0.hash
    }

    #[getter]
    fn root(&self) -> [u8; 32] {
        self.0.root
    }

    #[getter]
    fn count(&self) -> u32 {
        self.0.count
    }

    #[getter]
    fn work(&self) -> u128 {
        self.0.work.0
    }

    #[getter]
    fn value(&self) -> u128 {
        self.0.value.0
    }

    #[getter]
    fn sums(&self) -> Vec<(u64, u32, u8, u64, u128, u128)> {
        let row = |sum: &ledger::AccountSum| {
            (sum.account, sum.epoch, sum.rail, sum.count, sum.work.0, sum.value.0)
        };
        self.0.sums.iter().map(row).collect()
    }

    #[getter]
    fn header_hashes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.header_hashes)
    }

    #[getter]
    fn share_keys<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.share_keys)
    }

    #[getter]
    fn bodies<'py>(&self, py: Python<'py>) -> Vec<SealedBodyRow<'py>> {
        let bodies = self.0.bodies.iter();
        bodies
            .map(|sealed| {
                let digest = PyBytes::new(py, &sealed.digest);
                (digest, PyBytes::new(py, &sealed.body), sealed.height, sealed.price)
            })
            .collect()
    }

    #[getter]
    fn channel_sums(&self) -> Vec<(u64, u32, u64, u128)> {
        let sums = self.0.channel_sums.iter();
        sums.map(|sum| (sum.connection, sum.channel, sum.count, sum.work.0)).collect()
    }
}

/// Digest, body, height, price.
type SealedBodyRow<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, u32, u128);

/// What the verifier has recomputed.
#[pyclass(frozen, get_all, module = "radpool_sv2._native.ledger")]
#[derive(Debug)]
pub(crate) struct BatchSummary {
    hash: [u8; 32],
    msp_key: [u8; 32],
    sequence: u64,
    previous: [u8; 32],
    time_ms: u64,
    epoch_min: u32,
    count: u32,
    work: u128,
    value: u128,
    weight: Option<(u8, u8, u8)>,
    root: [u8; 32],
    header_hashes: Vec<u8>,
    template_shares: Vec<TemplateSharesRow>,
}

/// Digest, price, lowest exponent, fingerprints.
type TemplateSharesRow = ([u8; 32], u128, u8, Vec<u8>);

/// Recomputes everything that a batch claims, without the GIL.
#[pyfunction]
pub(crate) fn verify_batch(
    py: Python<'_>,
    blob: Vec<u8>,
    bodies: &Bound<'_, PyDict>,
) -> PyResult<BatchSummary> {
    let decoded = py.detach(|| ledger::Batch::decode(&blob));
    let named = decoded.as_ref().map_or(&[][..], |batch| &batch.head.templates);
    let bodies = named_bodies(bodies, named)?;
    let verified = py.detach(|| {
        let body = |digest: &[u8; 32]| bodies.get(digest).map(Vec::as_slice);
        let batch = ledger::verify_decoded(decoded?, body)?;
        let head = &batch.batch.head;
        Ok(BatchSummary {
            hash: batch.batch.hash,
            msp_key: head.msp_key,
            sequence: head.link.sequence,
            previous: head.link.previous,
            time_ms: head.link.time_ms,
            epoch_min: head.link.epoch_min,
            count: head.count,
            work: head.work.0,
            value: head.value.0,
            weight: head.weight.map(|weight| weight.to_bytes().into()),
            root: head.root,
            header_hashes: batch.header_hashes.iter().flat_map(|hash| *hash.as_bytes()).collect(),
            template_shares: batch
                .template_shares()
                .into_iter()
                .map(|shares| {
                    let (template, exponent) = (shares.template, shares.exponent_min.get());
                    (template.digest, template.price, exponent, shares.fingerprints)
                })
                .collect(),
        })
    });
    verified.map_err(|error: ledger::BatchError| {
        let batch = if error.is_evidence() { ledger::Batch::decode(&blob).ok() } else { None };
        let msp = batch.map(|batch| batch.head.msp_key);
        faulty_msp(error, msp.as_ref().map_or(&[][..], |key| &key[..]), &blob)
    })
}

/// Copies the bodies that a batch names: its MSP may keep thousands.
fn named_bodies(
    bodies: &Bound<'_, PyDict>,
    templates: &[ledger::PricedTemplate],
) -> PyResult<HashMap<[u8; 32], Vec<u8>>> {
    let mut named = HashMap::with_capacity(templates.len());
    for ledger::PricedTemplate { digest, .. } in templates {
        if let Some(body) = bodies.get_item(PyBytes::new(bodies.py(), digest))? {
            named.insert(*digest, body.extract()?);
        }
    }
    Ok(named)
}

/// Writes the coinbase of one share of a batch that was verified before.
#[pyfunction]
pub(crate) fn share_coinbase<'py>(
    py: Python<'py>,
    blob: Vec<u8>,
    bodies: &Bound<'_, PyDict>,
    index: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let decoded = py.detach(|| ledger::Batch::decode(&blob).ok());
    let named = decoded.as_ref().map_or(&[][..], |batch| &batch.head.templates);
    let bodies = named_bodies(bodies, named)?;
    let coinbase = decoded.and_then(|batch| {
        ledger::coinbase_of(&batch, index, |digest| bodies.get(digest).map(Vec::as_slice))
    });
    let coinbase = coinbase.ok_or_else(|| {
        local_error(format!("no batch with a share {index} and the template body that it names"))
    })?;
    Ok(PyBytes::new(py, &coinbase))
}

/// Digest, price, commitment, epoch, rail, count, work, value.
type TemplateSumRow = ([u8; 32], u128, [u8; 32], u32, u8, u64, u128, u128);

/// Sums a batch up by template and owner, without the GIL; nothing is verified.
#[pyfunction]
pub(crate) fn template_sums(py: Python<'_>, blob: Vec<u8>) -> PyResult<Vec<TemplateSumRow>> {
    let row = |sum: &ledger::TemplateSum| {
        let (template, earned) = (sum.template, sum.earned);
        let (work, value) = (earned.work.0, earned.value.0);
        let (digest, price) = (template.digest, template.price);
        (digest, price, sum.commitment, sum.epoch, sum.rail, sum.count, work, value)
    };
    py.detach(|| {
        let batch = ledger::Batch::decode(&blob).map_err(local_error)?;
        let sums = ledger::template_sums(&batch)
            .ok_or_else(|| local_error("the values of the batch exceed 2^128 - 1"))?;
        Ok(sums.iter().map(row).collect())
    })
}

/// Seals shares for `ShareBatch.seal`: a mistake here is the caller's.
pub(crate) fn seal<'a>(
    key: &MspKey,
    link: ledger::Link,
    weight: ledger::Weight,
    shares: impl IntoIterator<Item = ledger::ShareView<'a>>,
    excluding: &[usize],
) -> PyResult<SealedBatch> {
    ledger::seal(&key.0, link, weight, shares, excluding)
        .map(SealedBatch)
        .map_err(crate::error::local_error)
}

/// Shares that have counted, by the first bytes of their header hashes.
#[pyclass(frozen, module = "radpool_sv2._native.ledger")]
#[derive(Debug)]
pub(crate) struct Fingerprints(Mutex<HashSet<Fingerprint>>);

type Fingerprint = [u8; ledger::FINGERPRINT_LEN];

#[pymethods]
impl Fingerprints {
    #[new]
    #[pyo3(signature = (fingerprints, /))]
    fn new(py: Python<'_>, fingerprints: &[u8]) -> Self {
        let known = py.detach(|| fingerprints.as_chunks().0.iter().copied().collect());
        Self(Mutex::new(known))
    }

    #[pyo3(signature = (fingerprints, /))]
    fn meet(&self, py: Python<'_>, fingerprints: &[u8]) -> bool {
        py.detach(|| {
            let known = self.0.lock();
            fingerprints.as_chunks().0.iter().any(|each| known.contains(each))
        })
    }

    #[pyo3(signature = (fingerprints, /))]
    fn add(&self, py: Python<'_>, fingerprints: &[u8]) {
        py.detach(|| self.0.lock().extend(fingerprints.as_chunks().0));
    }
}
