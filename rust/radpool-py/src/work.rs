//! `radpool_sv2._native.engine`: templates and tips.

use pyo3::prelude::*;
use radpool_units::Target;

use crate::argument::{Int, hash};

/// A block template with the pool's outputs.
#[pyclass(frozen, module = "radpool_sv2._native.engine")]
#[derive(Debug)]
pub struct Template(pub(crate) radpool_mining::Template);

#[pymethods]
impl Template {
    #[new]
    #[pyo3(signature = (
        *, id, epoch, height, version, coinbase_tx_version, coinbase_prefix, coinbase_sequence,
        pool_outputs, pool_output_count, template_outputs, template_output_count,
        coinbase_locktime, merkle_path, owner_output = None, extranonce_head = vec![]
    ), text_signature = "(*, id, epoch, height, version, coinbase_tx_version, coinbase_prefix, \
coinbase_sequence, pool_outputs, pool_output_count, template_outputs, template_output_count, \
coinbase_locktime, merkle_path, owner_output=None, extranonce_head=b'')")]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        id: Int<u64>,
        epoch: Int<u32>,
        height: Int<u32>,
        version: Int<u32>,
        coinbase_tx_version: Int<u32>,
        coinbase_prefix: Vec<u8>,
        coinbase_sequence: Int<u32>,
        pool_outputs: Vec<u8>,
        pool_output_count: Int<u16>,
        template_outputs: Vec<u8>,
        template_output_count: Int<u16>,
        coinbase_locktime: Int<u32>,
        merkle_path: Vec<Vec<u8>>,
        owner_output: Option<Vec<u8>>,
        extranonce_head: Vec<u8>,
    ) -> PyResult<Self> {
        let siblings = merkle_path.iter().map(|sibling| hash("a sibling in merkle_path", sibling));
        Ok(Self(radpool_mining::Template {
            id: id.0,
            epoch: epoch.0,
            height: height.0,
            version: version.0,
            coinbase_tx_version: coinbase_tx_version.0,
            coinbase_prefix,
            coinbase_sequence: coinbase_sequence.0,
            pool_outputs,
            pool_output_count: pool_output_count.0,
            template_outputs,
            template_output_count: template_output_count.0,
            coinbase_locktime: coinbase_locktime.0,
            merkle_path: siblings.collect::<PyResult<_>>()?,
            owner_output: owner_output.map(Into::into),
            extranonce_head,
        }))
    }

    fn __repr__(&self) -> String {
        format!("Template({}, height {}, epoch {})", self.0.id, self.0.height, self.0.epoch)
    }
}

/// The tip that makes a template the current one.
#[pyclass(frozen, module = "radpool_sv2._native.engine")]
#[derive(Debug)]
pub struct Tip(pub(crate) radpool_mining::Tip);

#[pymethods]
impl Tip {
    #[new]
    #[pyo3(signature = (*, template_id, prev_hash, min_ntime, nbits, target, price))]
    fn new(
        template_id: Int<u64>,
        prev_hash: &[u8],
        min_ntime: Int<u32>,
        nbits: Int<u32>,
        target: &[u8],
        price: Int<u128>,
    ) -> PyResult<Self> {
        Ok(Self(radpool_mining::Tip {
            template_id: template_id.0,
            prev_hash: hash("prev_hash", prev_hash)?,
            min_ntime: min_ntime.0,
            nbits: nbits.0,
            target: Target::from_le_bytes(hash("target", target)?),
            price: price.0,
        }))
    }

    fn __repr__(&self) -> String {
        let prev_hash = radpool_units::Hash256(self.0.prev_hash);
        format!("Tip({prev_hash}, template {})", self.0.template_id)
    }
}
