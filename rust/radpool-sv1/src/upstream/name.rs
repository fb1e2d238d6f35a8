//! How devices of one channel are told apart by the pool.

use radpool_units::sha256d;
use radpool_wire::tlv::{
    Tlv, WORKER_IDENTITY_EXTENSION, WORKER_IDENTITY_FIELD, WORKER_IDENTITY_LEN_MAX,
};

use crate::request::write_hex;

/// Bytes of a long name's hash that stand at its end.
const NAME_HASH_LEN: usize = 4;

/// The field that names a device on its shares: the worker's part of its user name, as far as there
/// is room. A longer one ends in a part of its hash, so that two of them stay two.
pub(super) fn name_tlv(user: &str) -> Vec<u8> {
    let worker = user.split_once('.').map_or(user, |(_, worker)| worker);
    let mut name = worker.as_bytes().to_vec();
    if name.len() > WORKER_IDENTITY_LEN_MAX {
        let hash = sha256d(&name).0;
        name.truncate(WORKER_IDENTITY_LEN_MAX - 2 * NAME_HASH_LEN);
        write_hex(&hash[..NAME_HASH_LEN], &mut name);
    }
    let tlv = Tlv {
        extension_type: WORKER_IDENTITY_EXTENSION,
        field: WORKER_IDENTITY_FIELD,
        value: &name,
    };
    let mut bytes = Vec::with_capacity(name.len() + 5);
    tlv.encode(&mut bytes).expect("a name of 32 bytes has a length that fits");
    bytes
}
