//! Arguments from Python, checked: what is out of range is the caller's fault and told as such.

use pyo3::{exceptions::PyOverflowError, prelude::*};
use radpool_ledger::Rail;
use radpool_mining::ChannelOwner;
use radpool_units::Exponent;

use crate::error::local_error;

/// A number from Python; one that does not fit is the caller's fault, told as such.
pub(crate) struct Int<T>(pub(crate) T);

impl<'a, 'py, T> FromPyObject<'a, 'py> for Int<T>
where
    T: FromPyObject<'a, 'py, Error = PyErr>,
{
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        value.extract::<T>().map(Self).map_err(|error| {
            match error.is_instance_of::<PyOverflowError>(value.py()) {
                true => local_error(format!("{} is out of range", &*value)),
                false => error,
            }
        })
    }
}

/// Bytes from Python that are to be a hash.
pub(crate) fn hash(name: &str, bytes: &[u8]) -> PyResult<[u8; 32]> {
    bytes.try_into().map_err(|_| local_error(format!("{name} has {} bytes, not 32", bytes.len())))
}

/// A step of the ladder.
pub(crate) fn exponent(zeros: u32) -> PyResult<Exponent> {
    Exponent::new(zeros).map_err(local_error)
}

/// Whose a channel's shares are to be.
pub(crate) fn owner(account: u64, commitment: &[u8], rail: u8) -> PyResult<ChannelOwner> {
    let commitment = hash("commitment", commitment)?;
    let rail = Rail::try_from(rail).map_err(local_error)?;
    Ok(ChannelOwner { account, commitment, rail })
}

/// A code or reason for the wire: SV2 wants printable ASCII, and a STR0_255 holds no more.
pub(crate) fn code(text: &str, len_min: usize) -> PyResult<String> {
    let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !printable || !(len_min..=255).contains(&text.len()) {
        return Err(local_error(format!(
            "{text:?} cannot be sent as a code: give {len_min} to 255 printable ASCII characters"
        )));
    }
    Ok(text.to_owned())
}
