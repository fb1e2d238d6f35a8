//! The messages of every share and every job, coded by hand.
//!
//! SRI's decoder takes 18 allocations for one SubmitSharesExtended; this one takes none.

use super::{CORE, DecodeError, EncodeError, fields::Fields};
use crate::message::{
    Message, NewExtendedMiningJob, NewMiningJob, SetCustomMiningJob, SetCustomMiningJobSuccess,
    SetNewPrevHash, SetTarget, SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard,
    SubmitSharesSuccess,
};

/// The longest extranonce: the field is a B0_32.
const EXTRANONCE_LEN_MAX: usize = 32;

pub(super) const fn is_hot(extension_type: u16, msg_type: u8) -> bool {
    extension_type == CORE && matches!(msg_type, 0x15 | 0x1a..=0x1d | 0x1f..=0x23)
}

pub(super) fn decode<'frame>(
    message: &'static str,
    msg_type: u8,
    payload: &'frame [u8],
) -> Result<Message<'frame>, DecodeError> {
    let mut fields = Fields::new(message, payload);
    Ok(match msg_type {
        0x15 => Message::NewMiningJob(new_mining_job(&mut fields)?),
        0x1a => Message::SubmitSharesStandard(submit_shares_standard(&mut fields)?),
        0x1b => Message::SubmitSharesExtended(submit_shares_extended(&mut fields)?),
        0x1c => Message::SubmitSharesSuccess(SubmitSharesSuccess {
            channel_id: fields.u32()?,
            last_sequence_number: fields.u32()?,
            new_submits_accepted_count: fields.u32()?,
            new_shares_sum: fields.u64()?,
        }),
        0x1d => Message::SubmitSharesError(SubmitSharesError {
            channel_id: fields.u32()?,
            sequence_number: fields.u32()?,
            error_code: fields.bytes_by_u8_length()?.to_vec(),
        }),
        0x1f => Message::NewExtendedMiningJob(new_extended_mining_job(&mut fields)?),
        0x20 => Message::SetNewPrevHash(SetNewPrevHash {
            channel_id: fields.u32()?,
            job_id: fields.u32()?,
            prev_hash: fields.array()?,
            min_ntime: fields.u32()?,
            nbits: fields.u32()?,
        }),
        0x21 => Message::SetTarget(SetTarget {
            channel_id: fields.u32()?,
            maximum_target: fields.array()?,
        }),
        0x22 => Message::SetCustomMiningJob(set_custom_mining_job(&mut fields)?),
        0x23 => Message::SetCustomMiningJobSuccess(SetCustomMiningJobSuccess {
            channel_id: fields.u32()?,
            request_id: fields.u32()?,
            job_id: fields.u32()?,
        }),
        _ => return Err(DecodeError::UnknownMessage { extension_type: CORE, msg_type }),
    })
}

fn submit_shares_standard(fields: &mut Fields<'_>) -> Result<SubmitSharesStandard, DecodeError> {
    Ok(SubmitSharesStandard {
        channel_id: fields.u32()?,
        sequence_number: fields.u32()?,
        job_id: fields.u32()?,
        nonce: fields.u32()?,
        ntime: fields.u32()?,
        version: fields.u32()?,
    })
}

fn submit_shares_extended<'frame>(
    fields: &mut Fields<'frame>,
) -> Result<SubmitSharesExtended<'frame>, DecodeError> {
    let SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version } =
        submit_shares_standard(fields)?;
    let extranonce = fields.bytes_by_u8_length()?;
    if extranonce.len() > EXTRANONCE_LEN_MAX {
        return Err(fields.invalid("the extranonce has more than 32 bytes"));
    }
    Ok(SubmitSharesExtended {
        channel_id,
        sequence_number,
        job_id,
        nonce,
        ntime,
        version,
        extranonce,
        tail: fields.rest(),
    })
}

fn new_mining_job(fields: &mut Fields<'_>) -> Result<NewMiningJob, DecodeError> {
    Ok(NewMiningJob {
        channel_id: fields.u32()?,
        job_id: fields.u32()?,
        min_ntime: fields.optional_u32()?,
        version: fields.u32()?,
        merkle_root: fields.array()?,
    })
}

fn new_extended_mining_job(fields: &mut Fields<'_>) -> Result<NewExtendedMiningJob, DecodeError> {
    Ok(NewExtendedMiningJob {
        channel_id: fields.u32()?,
        job_id: fields.u32()?,
        min_ntime: fields.optional_u32()?,
        version: fields.u32()?,
        // Of a BOOL, readers look at the lowest bit only (sv2-spec, section 3.1).
        version_rolling_allowed: fields.u8()? & 1 == 1,
        merkle_path: fields.hashes_by_u8_count()?,
        coinbase_tx_prefix: fields.bytes_by_u16_length()?.to_vec(),
        coinbase_tx_suffix: fields.bytes_by_u16_length()?.to_vec(),
    })
}

fn set_custom_mining_job(fields: &mut Fields<'_>) -> Result<SetCustomMiningJob, DecodeError> {
    Ok(SetCustomMiningJob {
        channel_id: fields.u32()?,
        request_id: fields.u32()?,
        token: fields.bytes_by_u8_length()?.to_vec(),
        version: fields.u32()?,
        prev_hash: fields.array()?,
        min_ntime: fields.u32()?,
        nbits: fields.u32()?,
        coinbase_tx_version: fields.u32()?,
        coinbase_prefix: fields.bytes_by_u8_length()?.to_vec(),
        coinbase_tx_input_n_sequence: fields.u32()?,
        coinbase_tx_outputs: fields.bytes_by_u16_length()?.to_vec(),
        coinbase_tx_locktime: fields.u32()?,
        merkle_path: fields.hashes_by_u8_count()?,
    })
}

/// Appends the payload of a hot message; `None` for any other.
pub(super) fn encode(message: &Message<'_>, out: &mut Vec<u8>) -> Option<Result<(), EncodeError>> {
    match message {
        Message::NewMiningJob(job) => {
            put_u32s(out, &[job.channel_id, job.job_id]);
            put_optional_u32(out, job.min_ntime);
            put_u32s(out, &[job.version]);
            out.extend_from_slice(&job.merkle_root);
        }
        Message::NewExtendedMiningJob(job) => return Some(encode_extended_job(job, out)),
        Message::SubmitSharesStandard(share) => put_u32s(
            out,
            &[
                share.channel_id,
                share.sequence_number,
                share.job_id,
                share.nonce,
                share.ntime,
                share.version,
            ],
        ),
        Message::SubmitSharesExtended(share) => return Some(encode_extended_share(share, out)),
        Message::SubmitSharesSuccess(success) => {
            put_u32s(
                out,
                &[
                    success.channel_id,
                    success.last_sequence_number,
                    success.new_submits_accepted_count,
                ],
            );
            out.extend_from_slice(&success.new_shares_sum.to_le_bytes());
        }
        Message::SubmitSharesError(error) => {
            put_u32s(out, &[error.channel_id, error.sequence_number]);
            let length = u8::try_from(error.error_code.len());
            return Some(put_bytes(
                out,
                length,
                &error.error_code,
                "SubmitShares.Error",
                "error_code",
            ));
        }
        Message::SetNewPrevHash(tip) => {
            put_u32s(out, &[tip.channel_id, tip.job_id]);
            out.extend_from_slice(&tip.prev_hash);
            put_u32s(out, &[tip.min_ntime, tip.nbits]);
        }
        Message::SetTarget(target) => {
            put_u32s(out, &[target.channel_id]);
            out.extend_from_slice(&target.maximum_target);
        }
        Message::SetCustomMiningJob(job) => return Some(encode_custom_job(job, out)),
        Message::SetCustomMiningJobSuccess(success) => {
            put_u32s(out, &[success.channel_id, success.request_id, success.job_id]);
        }
        _ => return None,
    }
    Some(Ok(()))
}

fn encode_extended_share(
    share: &SubmitSharesExtended<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    put_u32s(
        out,
        &[
            share.channel_id,
            share.sequence_number,
            share.job_id,
            share.nonce,
            share.ntime,
            share.version,
        ],
    );
    let too_long = |field| EncodeError::TooLong { message: "SubmitSharesExtended", field };
    if share.extranonce.len() > EXTRANONCE_LEN_MAX {
        return Err(too_long("extranonce"));
    }
    // Far above any tail, far below what a frame's length can say.
    if share.tail.len() > usize::from(u16::MAX) {
        return Err(too_long("tail"));
    }
    out.push(share.extranonce.len() as u8);
    out.extend_from_slice(share.extranonce);
    out.extend_from_slice(share.tail);
    Ok(())
}

fn encode_extended_job(job: &NewExtendedMiningJob, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    const NAME: &str = "NewExtendedMiningJob";
    put_u32s(out, &[job.channel_id, job.job_id]);
    put_optional_u32(out, job.min_ntime);
    put_u32s(out, &[job.version]);
    out.push(u8::from(job.version_rolling_allowed));
    let path = job.merkle_path.as_flattened();
    put_bytes(out, u8::try_from(job.merkle_path.len()), path, NAME, "merkle_path")?;
    for (field, bytes) in [
        ("coinbase_tx_prefix", &job.coinbase_tx_prefix),
        ("coinbase_tx_suffix", &job.coinbase_tx_suffix),
    ] {
        put_bytes(out, u16::try_from(bytes.len()).map(u16::to_le_bytes), bytes, NAME, field)?;
    }
    Ok(())
}

fn encode_custom_job(job: &SetCustomMiningJob, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    const NAME: &str = "SetCustomMiningJob";
    put_u32s(out, &[job.channel_id, job.request_id]);
    put_bytes(out, u8::try_from(job.token.len()), &job.token, NAME, "token")?;
    put_u32s(out, &[job.version]);
    out.extend_from_slice(&job.prev_hash);
    put_u32s(out, &[job.min_ntime, job.nbits, job.coinbase_tx_version]);
    let prefix = &job.coinbase_prefix;
    put_bytes(out, u8::try_from(prefix.len()), prefix, NAME, "coinbase_prefix")?;
    put_u32s(out, &[job.coinbase_tx_input_n_sequence]);
    let outputs = &job.coinbase_tx_outputs;
    let outputs_len = u16::try_from(outputs.len()).map(u16::to_le_bytes);
    put_bytes(out, outputs_len, outputs, NAME, "coinbase_tx_outputs")?;
    put_u32s(out, &[job.coinbase_tx_locktime]);
    let path = job.merkle_path.as_flattened();
    put_bytes(out, u8::try_from(job.merkle_path.len()), path, NAME, "merkle_path")
}

fn put_u32s(out: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_optional_u32(out: &mut Vec<u8>, number: Option<u32>) {
    out.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_u32s(out, &[number]);
    }
}

/// Appends a length, when it could be said, and the bytes.
fn put_bytes<Length: LengthBytes, E>(
    out: &mut Vec<u8>,
    length: Result<Length, E>,
    bytes: &[u8],
    message: &'static str,
    field: &'static str,
) -> Result<(), EncodeError> {
    let length = length.map_err(|_| EncodeError::TooLong { message, field })?;
    length.put(out);
    out.extend_from_slice(bytes);
    Ok(())
}

trait LengthBytes {
    fn put(self, out: &mut Vec<u8>);
}

impl LengthBytes for u8 {
    fn put(self, out: &mut Vec<u8>) {
        out.push(self);
    }
}

impl LengthBytes for [u8; 2] {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self);
    }
}
