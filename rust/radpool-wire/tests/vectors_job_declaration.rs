//! The messages of `spec/10-job-declaration.md`, as SRI's crates read and write them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "other tests need more of what is shared")]

mod sri;

use std::{fs, path::PathBuf};

use radpool_wire::frame::{FrameHeader, HEADER_LEN};
use serde_json::Value;
use sri::sri_frame;
use stratum_core::{framing_sv2::header::Header, parsers_sv2::AnyMessage};

/// SRI reads the payload of each vector as a message of that number and writes the same bytes.
#[test]
fn messages_are_those_of_sri() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors/10-job-declaration.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let cases = vectors["messages"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let mut payload = hex::decode(case["expected"]["payload"].as_str().unwrap()).unwrap();
        let header = FrameHeader {
            extension_type: 0,
            channel_msg: false,
            msg_type: u8::try_from(case["expected"]["msg_type"].as_u64().unwrap()).unwrap(),
            payload_len: u32::try_from(payload.len()).unwrap(),
        };
        let frame = [&header.to_bytes()[..], &payload].concat();
        let sri_header = Header::from_bytes(&frame[..HEADER_LEN]).unwrap();
        let read: AnyMessage<'_> = (sri_header, payload.as_mut_slice()).try_into().unwrap();
        assert_eq!(sri_frame(read.into_owned()), frame, "{}", case["id"]);
    }
}
