//! The messages that Python writes, field by field, as SRI's crates read them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use radpool_wire::frame::{FrameHeader, HEADER_LEN};
use serde_json::Value;
use stratum_core::{
    binary_sv2::{self, B016M, B032, B064K, B0255, Seq064K, Seq0255, U256},
    job_declaration_sv2::*,
    mining_sv2::{SetCustomMiningJob, SetCustomMiningJobError, SetCustomMiningJobSuccess},
    template_distribution_sv2::*,
};

/// A field as the file shows it: numbers, hex digits, lists.
trait Shown {
    fn shown(self) -> Value;
}

macro_rules! shown {
    ($($type:ty),*: $value:ident => $shown:expr) => {
        $(impl Shown for $type {
            fn shown(self) -> Value {
                let $value = self;
                Value::from($shown)
            }
        })*
    };
}

shown!(u16, u32, u64, bool: value => value);
shown!(U256<'_>, B032<'_>, B0255<'_>, B064K<'_>, B016M<'_>:
    value => hex::encode(value.to_owned_bytes()));
shown!(Seq0255<'_, U256<'_>>, Seq064K<'_, U256<'_>>, Seq064K<'_, u16>, Seq064K<'_, B016M<'_>>:
    value => value.into_inner().into_iter().map(Shown::shown).collect::<Vec<_>>());

/// Reads a payload as SRI's `$type`, compares its fields, and writes it again.
macro_rules! check {
    ($payload:ident, $fields:ident, $type:ident { $($field:ident $(as $name:literal)?),* }) => {{
        let mut bytes = $payload.to_vec();
        let message: $type = binary_sv2::from_bytes(&mut bytes).unwrap();
        assert_eq!(binary_sv2::to_bytes(message.clone()).unwrap(), *$payload);
        let $type { $($field),* } = message;
        let mut seen = BTreeSet::new();
        $(
            let name = [$($name,)? stringify!($field)][0];
            assert_eq!($field.shown(), $fields[name], "{name}");
            seen.insert(name.to_owned());
        )*
        assert_eq!(seen, $fields.keys().cloned().collect());
    }};
}

fn check_mining(name: &str, payload: &[u8], fields: &serde_json::Map<String, Value>) -> bool {
    match name {
        "SetCustomMiningJob" => check!(
            payload,
            fields,
            SetCustomMiningJob {
                channel_id,
                request_id,
                token,
                version,
                prev_hash,
                min_ntime,
                nbits,
                coinbase_tx_version,
                coinbase_prefix,
                coinbase_tx_input_n_sequence,
                coinbase_tx_outputs,
                coinbase_tx_locktime,
                merkle_path
            }
        ),
        "SetCustomMiningJobSuccess" => {
            check!(payload, fields, SetCustomMiningJobSuccess { channel_id, request_id, job_id });
        }
        "SetCustomMiningJobError" => {
            check!(payload, fields, SetCustomMiningJobError { channel_id, request_id, error_code });
        }
        _ => return false,
    }
    true
}

fn check_declaration(name: &str, payload: &[u8], fields: &serde_json::Map<String, Value>) -> bool {
    match name {
        "AllocateMiningJobToken" => {
            check!(payload, fields, AllocateMiningJobToken { user_identifier, request_id });
        }
        "AllocateMiningJobTokenSuccess" => check!(payload, fields, AllocateMiningJobTokenSuccess {
            request_id, mining_job_token, coinbase_outputs as "coinbase_tx_outputs"
        }),
        "ProvideMissingTransactions" => check!(
            payload,
            fields,
            ProvideMissingTransactions { request_id, unknown_tx_position_list }
        ),
        "ProvideMissingTransactionsSuccess" => {
            check!(
                payload,
                fields,
                ProvideMissingTransactionsSuccess { request_id, transaction_list }
            );
        }
        "DeclareMiningJob" => check!(
            payload,
            fields,
            DeclareMiningJob {
                request_id,
                mining_job_token,
                version,
                coinbase_tx_prefix,
                coinbase_tx_suffix,
                wtxid_list,
                excess_data
            }
        ),
        "DeclareMiningJobSuccess" => {
            check!(payload, fields, DeclareMiningJobSuccess { request_id, new_mining_job_token })
        }
        "DeclareMiningJobError" => {
            check!(payload, fields, DeclareMiningJobError { request_id, error_code, error_details })
        }
        "PushSolution" => check!(
            payload,
            fields,
            PushSolution { extranonce, prev_hash, nonce, ntime, nbits, version }
        ),
        _ => return false,
    }
    true
}

fn check_templates(name: &str, payload: &[u8], fields: &serde_json::Map<String, Value>) -> bool {
    match name {
        "CoinbaseOutputConstraints" => check!(
            payload,
            fields,
            CoinbaseOutputConstraints {
                coinbase_output_max_additional_size,
                coinbase_output_max_additional_sigops
            }
        ),
        "NewTemplate" => check!(
            payload,
            fields,
            NewTemplate {
                template_id,
                future_template,
                version,
                coinbase_tx_version,
                coinbase_prefix,
                coinbase_tx_input_sequence,
                coinbase_tx_value_remaining,
                coinbase_tx_outputs_count,
                coinbase_tx_outputs,
                coinbase_tx_locktime,
                merkle_path
            }
        ),
        "SetNewPrevHash" => check!(payload, fields, SetNewPrevHash {
            template_id, prev_hash, header_timestamp, n_bits as "nbits", target
        }),
        "RequestTransactionData" => {
            check!(payload, fields, RequestTransactionData { template_id });
        }
        "RequestTransactionDataSuccess" => check!(
            payload,
            fields,
            RequestTransactionDataSuccess { template_id, excess_data, transaction_list }
        ),
        "RequestTransactionDataError" => {
            check!(payload, fields, RequestTransactionDataError { template_id, error_code })
        }
        "SubmitSolution" => check!(
            payload,
            fields,
            SubmitSolution { template_id, version, header_timestamp, header_nonce, coinbase_tx }
        ),
        _ => return false,
    }
    true
}

#[test]
fn sri_reads_what_python_writes() {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/sv2-messages.json");
    let cases: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 18);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let frame = hex::decode(case["frame"].as_str().unwrap()).unwrap();
        let header = FrameHeader::of_frame(&frame).unwrap();
        assert_eq!(header.extension_type, 0, "{name}");
        assert_eq!(header.channel_msg, name.starts_with("SetCustom"), "{name}");
        let payload = frame[HEADER_LEN..].to_vec();
        let fields = case["fields"].as_object().unwrap();
        assert!(
            check_mining(name, &payload, fields)
                || check_declaration(name, &payload, fields)
                || check_templates(name, &payload, fields),
            "{name} is not known here"
        );
    }
}
