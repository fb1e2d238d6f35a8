//! `radpool_sv2._native.ecash`: the claims of a batch of shares, and the tree over a keyset's claims.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use pyo3::{prelude::*, pybacked::PyBackedBytes};
use radpool_ecash::{
    self as ecash, CLAIM_LEAF_LEN, Claim, ClaimError, Claimant, ClaimedShare, SlotState,
    channel_claimant,
};
use radpool_ledger::Weight;
use radpool_mining::ShareRecord;
use radpool_wire::tlv::Tlvs;

use crate::{
    argument::{Int, exponent, hash},
    batch::ShareBatch,
    ecash::{KeysetKeys, PointBytes},
    error::local_error,
    ledger::MspKey,
};

/// The field of the extension's TLV.
const CLAIM_FIELD: u8 = 1;

/// What a claim is admitted by.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug)]
pub struct ClaimSlot(ecash::ClaimSlot);

#[pymethods]
impl ClaimSlot {
    #[new]
    #[pyo3(signature = (short, number, account, epoch, height, z0, state, unit_value = Int(0)))]
    #[expect(clippy::too_many_arguments, reason = "they are what a keyset is to a claim")]
    fn new(
        short: &[u8],
        number: Int<u64>,
        account: Int<u64>,
        epoch: Int<u32>,
        height: Option<Int<u32>>,
        z0: Int<u8>,
        state: &str,
        unit_value: Int<u128>,
    ) -> PyResult<Self> {
        let keyset_short = short.try_into().map_err(|_| {
            let (wanted, found) = (ecash::KEYSET_SHORT_LEN, short.len());
            local_error(format!("a short keyset id has {wanted} bytes, not {found}"))
        })?;
        let state = match state {
            "open" => SlotState::Open,
            "closed" => SlotState::Closed,
            "stale" => SlotState::Stale,
            _ => {
                return Err(local_error(format!("state {state:?}: give open, closed or stale")));
            }
        };
        Ok(Self(ecash::ClaimSlot {
            keyset_short,
            number: number.0,
            account: account.0,
            epoch: epoch.0,
            height: height.map(|height| height.0),
            unit_exponent: exponent(z0.0.into())?,
            unit_value: unit_value.0,
            state,
        }))
    }

    fn __repr__(&self) -> String {
        format!("ClaimSlot(keyset {}, {:?})", self.0.number, self.0.state)
    }
}

/// The claims of a batch of shares.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug)]
pub struct ClaimBatch(Mutex<ecash::ClaimBatch>);

/// Finds what a share brought along for the mint; `None` when that is nothing.
fn claim_of(
    share: &ShareRecord,
    extension_type: u16,
    submit_type: u8,
) -> Option<(Result<Claim, ClaimError>, bool)> {
    let attachment = share.attachment.as_ref()?;
    if attachment.error_type.is_some() {
        let is_ours =
            (attachment.extension_type, attachment.msg_type) == (extension_type, submit_type);
        return is_ours.then(|| (Claim::from_tail(&attachment.bytes), true));
    }
    let mut ours = Tlvs::new(&attachment.bytes)
        .filter_map(Result::ok)
        .filter(|tlv| tlv.extension_type == extension_type);
    let first = ours.next()?;
    let claim = match (first.field, ours.next()) {
        (CLAIM_FIELD, None) => Claim::from_value(first.value),
        _ => Err(ClaimError::InvalidBlindedMessage),
    };
    Some((claim, false))
}

/// What reading a batch goes by.
struct Terms {
    extension_type: u16,
    submit_type: u8,
    /// How shares are weighed; `None` where prices say nothing of value.
    weight: Option<Weight>,
    /// The claim keys that channels have given.
    claimants: Option<Py<Claimants>>,
}

fn read(
    batch: &ShareBatch,
    terms: &Terms,
    slots: &[ecash::ClaimSlot],
) -> Result<ecash::ClaimBatch, ecash::ClaimBatchError> {
    let found: Vec<_> = batch.shares.iter().enumerate().collect();
    // Reading a point costs a square root.
    let claims = ecash::in_parallel(&found, |(_, share)| {
        claim_of(share, terms.extension_type, terms.submit_type)
    });
    let claimed = found.into_iter().zip(claims).filter_map(|((index, share), claim)| {
        let (claim, by_message) = claim?;
        let channel = (share.connection, share.channel_id);
        let claimant = terms.claimants.as_ref().map(|known| known.get().of(channel));
        let value = terms.weight.and_then(|weight| weight.value(share.price, share.exponent));
        Some(ClaimedShare {
            index,
            connection: share.connection,
            channel: share.channel_id,
            sequence: share.sequence,
            account: share.account,
            epoch: share.owner.epoch,
            height: share.body.height,
            exponent: share.exponent,
            value: value.map(|value| value.0),
            claimant: claimant.unwrap_or_else(|| channel_claimant(channel.0, channel.1)),
            hash: share.hash,
            by_message,
            claim,
        })
    });
    ecash::ClaimBatch::read(claimed, slots)
}

fn claim_error(code: &str) -> PyResult<ClaimError> {
    let errors = [
        ClaimError::InvalidBlindedMessage,
        ClaimError::BlindedMessageReused,
        ClaimError::StaleKeyset,
        ClaimError::UnknownKeyset,
        ClaimError::EpochClosed,
        ClaimError::MintUnavailable,
    ];
    errors.into_iter().find(|error| error.to_string() == code).ok_or_else(|| {
        let known = errors.map(|error| error.to_string()).join(", ");
        local_error(format!("{code:?} refuses no claim: give one of {known}"))
    })
}

/// Connection and channel, and where the channel's running hash stands.
type Root = ((u64, u32), ecash::ReceiptRoot);
/// A connection and the payload of a message for it.
type Payload = (u64, Vec<u8>);
/// Blinded message, keyset number, z, place, index.
type Row = (PointBytes, u64, u8, usize, usize);
/// Account and claimant.
type ResidueKey = (u64, PointBytes);

fn tuples(rows: Vec<ecash::ClaimRow>) -> Vec<Row> {
    rows.into_iter()
        .map(|row| (row.blinded, row.number, row.exponent, row.place, row.index))
        .collect()
}

/// Reads 33 bytes that name whose residue it is.
fn claimant(bytes: &[u8]) -> PyResult<Claimant> {
    bytes
        .try_into()
        .map_err(|_| local_error(format!("a claimant has 33 bytes, not {}", bytes.len())))
}

#[pymethods]
impl ClaimBatch {
    #[new]
    #[pyo3(signature = (
        batch, *, extension_type, submit_type, slots, weight = None, claimants = None
    ))]
    fn new(
        py: Python<'_>,
        batch: &Bound<'_, ShareBatch>,
        extension_type: Int<u16>,
        submit_type: Int<u8>,
        slots: Vec<Py<ClaimSlot>>,
        weight: Option<(Int<u8>, Int<u8>, Int<u8>)>,
        claimants: Option<Py<Claimants>>,
    ) -> PyResult<Self> {
        let slots: Vec<_> = slots.iter().map(|slot| slot.get().0).collect();
        let weight = weight
            .map(|(mode, scale, base)| Weight::new(mode.0, scale.0, base.0))
            .transpose()
            .map_err(local_error)?;
        let terms = Terms {
            extension_type: extension_type.0,
            submit_type: submit_type.0,
            weight,
            claimants,
        };
        let batch = batch.get();
        py.detach(|| read(batch, &terms, &slots))
            .map(|claims| Self(Mutex::new(claims)))
            .map_err(local_error)
    }

    fn __len__(&self) -> usize {
        self.0.lock().len()
    }

    #[getter]
    fn indices(&self) -> Vec<usize> {
        self.0.lock().indices()
    }

    #[getter]
    fn statuses(&self) -> Vec<(usize, String)> {
        let statuses = self.0.lock().statuses();
        statuses.into_iter().map(|(index, error)| (index, error.to_string())).collect()
    }

    #[getter]
    fn residue_keys(&self) -> Vec<ResidueKey> {
        self.0.lock().residue_keys().into_iter().collect()
    }

    #[getter]
    fn residues(&self) -> Vec<(ResidueKey, u128)> {
        self.0.lock().residues().iter().map(|(key, value)| (*key, *value)).collect()
    }

    #[getter]
    fn values(&self) -> Vec<(u64, u128)> {
        self.0.lock().values().into_iter().collect()
    }

    #[getter]
    fn standing(&self) -> Vec<Row> {
        tuples(self.0.lock().standing())
    }

    #[pyo3(signature = (excluded, residues = None))]
    fn rows(
        &self,
        py: Python<'_>,
        excluded: Vec<Int<usize>>,
        residues: Option<HashMap<(u64, PyBackedBytes), u128>>,
    ) -> PyResult<Vec<Row>> {
        let excluded: Vec<_> = excluded.into_iter().map(|index| index.0).collect();
        let before = residues
            .unwrap_or_default()
            .iter()
            .map(|((account, key), value)| Ok(((*account, claimant(key)?), *value)))
            .collect::<PyResult<_>>()?;
        Ok(tuples(py.detach(|| self.0.lock().rows(&excluded, before))))
    }

    fn refuse(&self, indices: Vec<Int<usize>>, code: &str) -> PyResult<()> {
        let indices: Vec<_> = indices.into_iter().map(|index| index.0).collect();
        self.0.lock().refuse(&indices, claim_error(code)?).map_err(local_error)
    }

    #[pyo3(signature = (keys, *, lazy = None))]
    fn sign(
        &self,
        py: Python<'_>,
        keys: HashMap<u64, Py<KeysetKeys>>,
        lazy: Option<HashSet<(u64, u32)>>,
    ) -> PyResult<()> {
        let lazy = lazy.unwrap_or_default();
        let keys: HashMap<_, _> =
            keys.iter().map(|(number, keys)| (*number, &keys.get().0)).collect();
        py.detach(|| {
            let is_lazy = |connection, channel| lazy.contains(&(connection, channel));
            self.0.lock().sign(|number| keys.get(&number).copied(), is_lazy)
        })
        .map_err(local_error)
    }

    #[pyo3(signature = (key, roots = None))]
    fn replies(
        &self,
        py: Python<'_>,
        key: &MspKey,
        roots: Option<HashMap<(u64, u32), PyBackedBytes>>,
    ) -> PyResult<(Vec<Payload>, Vec<Root>)> {
        let mut roots: HashMap<_, _> = roots
            .unwrap_or_default()
            .into_iter()
            .map(|(channel, root)| Ok((channel, hash("a receipt root", &root)?)))
            .collect::<PyResult<_>>()?;
        let replies =
            py.detach(|| self.0.lock().replies(&key.0, &mut roots)).map_err(local_error)?;
        let replies = replies.into_iter().map(|reply| (reply.connection, reply.payload));
        Ok((replies.collect(), roots.into_iter().collect()))
    }

    fn __repr__(&self) -> String {
        let claims = self.0.lock();
        format!("ClaimBatch({} claims, {} refused)", claims.len(), claims.statuses().len())
    }
}

/// Cuts packed leaves apart.
fn leaves(packed: &[u8]) -> PyResult<&[[u8; CLAIM_LEAF_LEN]]> {
    match packed.as_chunks() {
        (leaves, []) => Ok(leaves),
        (_, rest) => Err(local_error(format!(
            "packed claims have {CLAIM_LEAF_LEN} bytes each: {} are left over",
            rest.len()
        ))),
    }
}

/// The claim keys of channels, by connection and channel.
#[pyclass(frozen, module = "radpool_sv2._native.ecash")]
#[derive(Debug, Default)]
pub struct Claimants(Mutex<HashMap<(u64, u32), Claimant>>);

impl Claimants {
    fn of(&self, channel: (u64, u32)) -> Claimant {
        let known = self.0.lock().get(&channel).copied();
        known.unwrap_or_else(|| channel_claimant(channel.0, channel.1))
    }
}

#[pymethods]
impl Claimants {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __len__(&self) -> usize {
        self.0.lock().len()
    }

    fn put(&self, connection: Int<u64>, channel: Int<u32>, key: &[u8]) -> PyResult<()> {
        self.0.lock().insert((connection.0, channel.0), claimant(key)?);
        Ok(())
    }

    fn forget(&self, connection: Int<u64>, channel: Int<u32>) -> bool {
        self.0.lock().remove(&(connection.0, channel.0)).is_some()
    }

    fn clear(&self) {
        self.0.lock().clear();
    }

    #[pyo3(name = "of")]
    fn of_channel(&self, connection: Int<u64>, channel: Int<u32>) -> PointBytes {
        self.of((connection.0, channel.0))
    }

    fn __repr__(&self) -> String {
        format!("Claimants({})", self.0.lock().len())
    }
}

#[pyfunction]
pub(crate) fn claims_root(py: Python<'_>, packed: PyBackedBytes) -> PyResult<([u8; 32], u128)> {
    let leaves = leaves(&packed)?;
    let root = py.detach(|| ecash::claims_root(leaves));
    Ok((root.hash, root.sum.0))
}

#[pyfunction]
pub(crate) fn claims_path(
    py: Python<'_>,
    packed: PyBackedBytes,
    index: Int<usize>,
) -> PyResult<Vec<([u8; 32], u128)>> {
    let leaves = leaves(&packed)?;
    let path = py.detach(|| ecash::claims_path(leaves, index.0)).ok_or_else(|| {
        local_error(format!("there is no claim {} among {}", index.0, leaves.len()))
    })?;
    Ok(path.into_iter().map(|node| (node.hash, node.sum.0)).collect())
}
