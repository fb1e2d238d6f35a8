//! `radpool_sv2._native.ecash`: points, DLEQ proofs, keysets and the mint's side.

use pyo3::{
    prelude::*,
    pybacked::{PyBackedBytes, PyBackedStr},
    types::PyBytes,
};
use radpool_ecash::{self as ecash, Dleq, KeysetId, Point, Scalar, in_parallel};
use zeroize::Zeroizing;

use crate::{
    argument::Int,
    error::{config_error, local_error},
    keys::random_bytes,
};

/// A compressed point as Python sees it.
pub(crate) type PointBytes = [u8; ecash::POINT_LEN];
/// `(C_, e, s)`.
type SignatureBytes = (PointBytes, [u8; 32], [u8; 32]);

/// Reads an argument that the caller should have checked.
pub(crate) fn point(name: &str, index: usize, bytes: &[u8]) -> PyResult<Point> {
    Point::from_bytes(bytes).map_err(|error| local_error(format!("{name} {index}: {error}")))
}

fn scalar(name: &str, index: usize, bytes: &[u8]) -> PyResult<Scalar> {
    Scalar::from_be_bytes(bytes).map_err(|error| local_error(format!("{name} {index}: {error}")))
}

/// The id of a keyset whose version is understood.
pub(crate) fn id(bytes: &[u8]) -> PyResult<KeysetId> {
    KeysetId::from_bytes(bytes).map_err(local_error)
}

/// Reads challenge and response; `None` when one is not of 32 bytes.
pub(crate) fn dleq(e: &[u8], s: &[u8]) -> Option<Dleq> {
    Some(Dleq { e: e.try_into().ok()?, s: s.try_into().ok()? })
}

#[pyfunction]
pub(crate) fn hash_to_curve(py: Python<'_>, messages: Vec<PyBackedBytes>) -> Vec<PointBytes> {
    py.detach(|| in_parallel(&messages, |message| ecash::hash_to_curve(message).to_bytes()))
}

#[pyfunction]
pub(crate) fn check_points(py: Python<'_>, points: Vec<PyBackedBytes>) -> Vec<bool> {
    py.detach(|| in_parallel(&points, |point| Point::from_bytes(point).is_ok()))
}

#[pyfunction]
#[pyo3(
    signature = (keys, unit, input_fee_ppk = Int(0), final_expiry = None),
    text_signature = "(keys, unit, input_fee_ppk=0, final_expiry=None)"
)]
pub(crate) fn keyset_id(
    keys: Vec<(Int<u64>, PyBackedBytes)>,
    unit: &str,
    input_fee_ppk: Int<u64>,
    final_expiry: Option<Int<u64>>,
) -> PyResult<PointBytes> {
    let keys = keys.iter().enumerate();
    let keys: Vec<_> = keys
        .map(|(index, (amount, bytes))| Ok((amount.0, point("key", index, bytes)?)))
        .collect::<PyResult<_>>()?;
    KeysetId::of(&keys, unit, input_fee_ppk.0, final_expiry.map(|expiry| expiry.0))
        .map(|id| *id.as_bytes())
        .map_err(local_error)
}

#[pyfunction]
pub(crate) fn blind(
    py: Python<'_>,
    items: Vec<(PyBackedBytes, PyBackedBytes)>,
) -> PyResult<Vec<PointBytes>> {
    let factors = items.iter().enumerate();
    let factors: Vec<_> = factors
        .map(|(index, (message, factor))| Ok((message, scalar("factor", index, factor)?)))
        .collect::<PyResult<_>>()?;
    let blinded =
        py.detach(|| in_parallel(&factors, |(message, factor)| ecash::blind(message, factor)));
    blinded
        .into_iter()
        .map(|point| point.map(|point| point.to_bytes()))
        .collect::<Option<_>>()
        .ok_or_else(|| local_error("a factor blinds its message to the identity: take another"))
}

#[pyfunction]
pub(crate) fn unblind(
    py: Python<'_>,
    items: Vec<(PyBackedBytes, PyBackedBytes, PyBackedBytes)>,
) -> PyResult<Vec<PointBytes>> {
    let parsed = items.iter().enumerate();
    let parsed: Vec<_> = parsed
        .map(|(index, (signature, factor, public))| {
            let signature = point("signature", index, signature)?;
            Ok((signature, scalar("factor", index, factor)?, point("key", index, public)?))
        })
        .collect::<PyResult<_>>()?;
    let unblinded = py.detach(|| {
        in_parallel(&parsed, |(signature, factor, public)| {
            ecash::unblind(signature, factor, public)
        })
    });
    unblinded
        .into_iter()
        .map(|point| point.map(|point| point.to_bytes()))
        .collect::<Option<_>>()
        .ok_or_else(|| local_error("a signature unblinds to the identity: it is none"))
}

type SignedItem = (PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes);

#[pyfunction]
pub(crate) fn verify_signature_dleqs(py: Python<'_>, items: Vec<SignedItem>) -> Vec<bool> {
    let proves = |(public, blinded, signature, e, s): &SignedItem| {
        let public = Point::from_bytes(public).ok()?;
        let blinded = Point::from_bytes(blinded).ok()?;
        let signature = Point::from_bytes(signature).ok()?;
        Some(dleq(e, s)?.proves(&public, &blinded, &signature))
    };
    py.detach(|| in_parallel(&items, |item| proves(item) == Some(true)))
}

type ProofItem =
    (PyBackedStr, PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes);

#[pyfunction]
pub(crate) fn verify_proof_dleqs(py: Python<'_>, items: Vec<ProofItem>) -> Vec<bool> {
    let proves = |(secret, signature, e, s, factor, public): &ProofItem| {
        let signature = Point::from_bytes(signature).ok()?;
        let factor = Scalar::from_be_bytes(factor).ok()?;
        let public = Point::from_bytes(public).ok()?;
        let (secret, dleq) = (secret.as_bytes(), dleq(e, s)?);
        Some(ecash::verify_proof_dleq(secret, &signature, &factor, &dleq, &public))
    };
    py.detach(|| in_parallel(&items, |item| proves(item) == Some(true)))
}

#[pyfunction]
#[pyo3(signature = (residue, value, z0, unit_value = None))]
pub(crate) fn denominate(
    residue: Int<u128>,
    value: Int<u128>,
    z0: Int<u8>,
    unit_value: Option<Int<u128>>,
) -> PyResult<(Option<u8>, u128)> {
    let work = 1u128.checked_shl(z0.0.into()).unwrap_or(1);
    let unit_value = unit_value.map_or(work, |value| value.0);
    ecash::denominate(residue.0, value.0, z0.0, unit_value)
        .map(|token| (token.exponent, token.residue))
        .map_err(local_error)
}

/// The seed that all of a mint's keys come of.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug)]
pub struct MintSeed(ecash::MintSeed);

#[pymethods]
impl MintSeed {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        Ok(Self(ecash::MintSeed::new(Zeroizing::new(random_bytes()?))))
    }

    #[staticmethod]
    fn from_secret(secret: &[u8]) -> PyResult<Self> {
        let seed = secret.try_into().map_err(|_| {
            let (wanted, found) = (ecash::SEED_LEN, secret.len());
            config_error(format!("a mint's seed has {wanted} bytes, not {found}"))
        })?;
        Ok(Self(ecash::MintSeed::new(Zeroizing::new(seed))))
    }

    fn expose_secret<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.expose())
    }

    fn __repr__(&self) -> &'static str {
        "MintSeed(redacted)"
    }
}

/// The mint's keys of one keyset.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug)]
pub struct KeysetKeys(pub(crate) ecash::KeysetKeys);

#[pymethods]
impl KeysetKeys {
    #[staticmethod]
    fn derive(
        py: Python<'_>,
        seed: &MintSeed,
        unit: &str,
        number: Int<u64>,
        first_exponent: Int<u8>,
        count: Int<u8>,
    ) -> PyResult<Self> {
        py.detach(|| ecash::KeysetKeys::derive(&seed.0, unit, number.0, first_exponent.0, count.0))
            .map(Self)
            .map_err(local_error)
    }

    #[staticmethod]
    fn from_secrets(
        py: Python<'_>,
        secrets: Vec<(Int<u64>, PyBackedBytes)>,
        unit: &str,
    ) -> PyResult<Self> {
        py.detach(|| {
            let keys = secrets.iter().enumerate().map(|(index, (amount, secret))| {
                Ok((amount.0, ecash::AmountKey::new(scalar("secret", index, secret)?)))
            });
            ecash::KeysetKeys::from_keys(keys.collect::<PyResult<_>>()?, unit)
                .map(Self)
                .map_err(local_error)
        })
    }

    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.id().as_bytes())
    }

    #[getter]
    fn public(&self) -> Vec<(u64, PointBytes)> {
        self.0.keys().iter().map(|(amount, key)| (*amount, key.public().to_bytes())).collect()
    }

    fn sign(
        &self,
        py: Python<'_>,
        items: Vec<(Int<u64>, PyBackedBytes)>,
    ) -> PyResult<Vec<SignatureBytes>> {
        let mut wanted = Vec::with_capacity(items.len());
        for (index, (amount, blinded)) in items.iter().enumerate() {
            let key = self.0.key(amount.0).map_err(local_error)?;
            wanted.push((key, point("blinded message", index, blinded)?));
        }
        Ok(py.detach(|| {
            in_parallel(&wanted, |(key, blinded)| {
                let signature = key.sign(blinded);
                (signature.point, signature.dleq.e, signature.dleq.s)
            })
        }))
    }

    fn verify(
        &self,
        py: Python<'_>,
        proofs: Vec<(Int<u64>, PyBackedStr, PyBackedBytes)>,
    ) -> Vec<bool> {
        let verify = |(amount, secret, signature): &(Int<u64>, PyBackedStr, PyBackedBytes)| {
            let key = self.0.key(amount.0).ok()?;
            Some(key.verify(secret.as_bytes(), &Point::from_bytes(signature).ok()?))
        };
        py.detach(|| in_parallel(&proofs, |proof| verify(proof) == Some(true)))
    }

    #[staticmethod]
    fn ys(py: Python<'_>, secrets: Vec<PyBackedStr>) -> Vec<PointBytes> {
        py.detach(|| {
            in_parallel(&secrets, |secret| ecash::hash_to_curve(secret.as_bytes()).to_bytes())
        })
    }

    fn __repr__(&self) -> String {
        format!("KeysetKeys({}, secrets redacted)", self.0.id())
    }
}
