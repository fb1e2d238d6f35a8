//! `radpool_sv2._native.engine.ShareBatch`: validated shares on their way to the disk.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use pyo3::{
    exceptions::PyBufferError,
    ffi,
    prelude::*,
    types::{PyBytes, PyMemoryView},
};
use radpool_ledger::{Link, ShareView, Weight};
use radpool_mining::ShareRecord;
use radpool_wire::tlv::Tlvs;

use crate::{
    argument::{self, Int},
    error::local_error,
    ledger::{MspKey, SealedBatch, seal},
};

/// Length of a packed record.
pub(crate) const RECORD_LEN: usize = 4 * 8 + 8 * 4 + 4 + 32 + 32;

/// Validated shares that are neither durable nor acknowledged yet.
#[pyclass(frozen, module = "radpool_sv2._native.engine")]
#[derive(Debug)]
pub struct ShareBatch {
    pub(crate) shares: Vec<ShareRecord>,
    /// Whether miners were told about these shares.
    pub(crate) acknowledged: AtomicBool,
    /// The packed form, made when somebody asks for it.
    packed: OnceLock<Box<[u8]>>,
}

impl ShareBatch {
    pub(crate) fn new(shares: Vec<ShareRecord>) -> Self {
        let acknowledged = AtomicBool::new(false);
        Self { shares, acknowledged, packed: OnceLock::new() }
    }

    fn share(&self, index: usize) -> PyResult<&ShareRecord> {
        let count = self.shares.len();
        self.shares
            .get(index)
            .ok_or_else(|| local_error(format!("there is no share {index} in a batch of {count}")))
    }
}

#[pymethods]
impl ShareBatch {
    #[classattr]
    #[expect(non_snake_case, reason = "a constant in Python")]
    fn RECORD_LEN() -> usize {
        RECORD_LEN
    }

    fn __len__(&self) -> usize {
        self.shares.len()
    }

    fn attachments<'py>(&self, py: Python<'py>) -> Vec<(usize, u16, u8, Bound<'py, PyBytes>)> {
        let shares = self.shares.iter().enumerate();
        shares
            .filter_map(|(index, share)| Some((index, share.attachment.as_ref()?)))
            .map(|(index, attachment)| {
                let bytes = PyBytes::new(py, &attachment.bytes);
                (index, attachment.extension_type, attachment.msg_type, bytes)
            })
            .collect()
    }

    fn attachment_types(&self, py: Python<'_>) -> Vec<u16> {
        py.detach(|| {
            let mut types = Vec::new();
            for attachment in self.shares.iter().filter_map(|share| share.attachment.as_ref()) {
                let first = attachment.extension_type;
                if !types.contains(&first) {
                    types.push(first);
                }
                if attachment.error_type.is_none() {
                    for tlv in Tlvs::new(&attachment.bytes).flatten() {
                        if !types.contains(&tlv.extension_type) {
                            types.push(tlv.extension_type);
                        }
                    }
                }
            }
            types.sort_unstable();
            types
        })
    }

    #[pyo3(
        signature = (
            key, sequence, previous, time_ms, *, weight, epoch_min = Int(0), excluding = vec![]
        ),
        text_signature = "($self, key, sequence, previous, time_ms, *, weight, epoch_min=0, \
                          excluding=())"
    )]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn seal(
        &self,
        py: Python<'_>,
        key: &MspKey,
        sequence: Int<u64>,
        previous: &[u8],
        time_ms: Int<u64>,
        weight: (Int<u8>, Int<u8>, Int<u8>),
        epoch_min: Int<u32>,
        excluding: Vec<Int<usize>>,
    ) -> PyResult<SealedBatch> {
        let previous = previous.try_into().map_err(|_| {
            local_error(format!("previous has {} bytes: give the 32 of a hash", previous.len()))
        })?;
        let mut excluding: Vec<usize> = excluding.into_iter().map(|index| index.0).collect();
        excluding.sort_unstable();
        excluding.dedup();
        if let Some(index) = excluding.last() {
            self.share(*index)?;
        }
        let link =
            Link { sequence: sequence.0, previous, time_ms: time_ms.0, epoch_min: epoch_min.0 };
        let weight = Weight::new(weight.0.0, weight.1.0, weight.2.0).map_err(local_error)?;
        py.detach(|| seal(key, link, weight, self.shares.iter().map(view), &excluding))
    }

    fn connection_of(&self, index: Int<usize>) -> PyResult<u64> {
        self.share(index.0).map(|share| share.connection)
    }

    fn channel_of(&self, index: Int<usize>) -> PyResult<u32> {
        self.share(index.0).map(|share| share.channel_id)
    }

    fn sequence_of(&self, index: Int<usize>) -> PyResult<u32> {
        self.share(index.0).map(|share| share.sequence)
    }

    fn account_of(&self, index: Int<usize>) -> PyResult<u64> {
        self.share(index.0).map(|share| share.account)
    }

    fn price_of(&self, index: Int<usize>) -> PyResult<u128> {
        self.share(index.0).map(|share| share.price)
    }

    fn hash_of(&self, index: Int<usize>) -> PyResult<[u8; 32]> {
        self.share(index.0).map(|share| share.hash.0)
    }

    fn template_of(&self, index: Int<usize>) -> PyResult<u64> {
        self.share(index.0).map(|share| share.template_id)
    }

    fn job_of(&self, index: Int<usize>) -> PyResult<u32> {
        self.share(index.0).map(|share| share.job)
    }

    fn version_of(&self, index: Int<usize>) -> PyResult<u32> {
        self.share(index.0).map(|share| share.version)
    }

    fn ntime_of(&self, index: Int<usize>) -> PyResult<u32> {
        self.share(index.0).map(|share| share.ntime)
    }

    fn nonce_of(&self, index: Int<usize>) -> PyResult<u32> {
        self.share(index.0).map(|share| share.nonce)
    }

    fn extranonce_of<'py>(
        &self,
        py: Python<'py>,
        index: Int<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let share = self.share(index.0)?;
        Ok(PyBytes::new(py, &share.extranonce[..usize::from(share.extranonce_len)]))
    }

    fn meeting(&self, py: Python<'_>, exponent: Int<u32>) -> PyResult<Vec<usize>> {
        let exponent = argument::exponent(exponent.0)?;
        Ok(py.detach(|| {
            let shares = self.shares.iter().enumerate();
            let met = shares.filter(|(_, share)| exponent.is_met_by(&share.hash));
            met.map(|(index, _)| index).collect()
        }))
    }

    /// What Python before 3.12 has no method for; type checkers know the protocol by it.
    fn __buffer__<'py>(slf: &Bound<'py, Self>, flags: c_int) -> PyResult<Bound<'py, PyMemoryView>> {
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a batch of shares cannot be written to"));
        }
        PyMemoryView::from(slf)
    }

    fn __repr__(&self) -> String {
        let acknowledged = match self.acknowledged.load(Ordering::Relaxed) {
            true => "acknowledged",
            false => "not acknowledged",
        };
        format!("ShareBatch({} shares, {acknowledged})", self.shares.len())
    }

    /// Lends the packed records.
    ///
    /// # Safety
    /// As the buffer protocol has it: `view` is valid for writes or null.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a batch of shares cannot be written to"));
        }
        let py = slf.py();
        let this = slf.get();
        let packed = py.detach(|| this.packed.get_or_init(|| pack(&this.shares)));
        let format: *mut c_char = match flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
            true => FORMAT.as_ptr().cast_mut(),
            false => ptr::null_mut(),
        };
        // SAFETY: the caller gives a valid view. The bytes live as long as the batch, which the view's
        // `obj` keeps alive; `shape` and `strides` point into the view itself, which holds them.
        unsafe {
            (*view).obj = slf.clone().into_any().into_ptr();
            (*view).buf = packed.as_ptr().cast_mut().cast::<c_void>();
            (*view).len = isize::try_from(packed.len()).expect("an allocation fits isize");
            (*view).readonly = 1;
            (*view).itemsize = 1;
            (*view).format = format;
            (*view).ndim = 1;
            (*view).shape = match flags & ffi::PyBUF_ND == ffi::PyBUF_ND {
                true => &raw mut (*view).len,
                false => ptr::null_mut(),
            };
            (*view).strides = match flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                true => &raw mut (*view).itemsize,
                false => ptr::null_mut(),
            };
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = ptr::null_mut();
        }
        Ok(())
    }

    /// Ends a loan; the bytes belong to the batch, so there is nothing to give back.
    ///
    /// # Safety
    /// As the buffer protocol has it.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

const FORMAT: &CStr = c"B";

fn view(share: &ShareRecord) -> ShareView<'_> {
    ShareView {
        connection: share.connection,
        channel: share.channel_id,
        account: share.account,
        owner: &share.owner,
        body: &share.body,
        price: share.price,
        exponent: share.exponent,
        version: share.version,
        ntime: share.ntime,
        nonce: share.nonce,
        extranonce: &share.extranonce[..usize::from(share.extranonce_len)],
        hash: &share.hash,
    }
}

/// Packs records as `ShareBatch` in the stubs describes them.
fn pack(shares: &[ShareRecord]) -> Box<[u8]> {
    let mut packed = Vec::with_capacity(shares.len() * RECORD_LEN);
    for share in shares {
        for number in [share.unix_ms, share.connection, share.account, share.template_id] {
            packed.extend_from_slice(&number.to_le_bytes());
        }
        let (epoch, rail) = (share.owner.epoch, share.owner.rail as u8);
        let (channel, sequence) = (share.channel_id, share.sequence);
        let numbers = [channel, sequence, share.version, share.ntime, share.nonce, epoch];
        for number in numbers.into_iter().chain([share.worker, share.body.height]) {
            packed.extend_from_slice(&number.to_le_bytes());
        }
        let flags = u8::from(share.attachment.is_some());
        packed.extend_from_slice(&[share.exponent.get(), rail, share.extranonce_len, flags]);
        packed.extend_from_slice(&share.hash.0);
        packed.extend_from_slice(&share.extranonce);
    }
    packed.into()
}
