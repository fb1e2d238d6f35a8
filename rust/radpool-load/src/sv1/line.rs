//! What a line of the pool says, as far as a generator must know. Nothing is copied.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// A line of the pool.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    id: Option<u64>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Job id, previous hash, coinbase in two parts, path, version, bits, time, clean_jobs.
#[derive(Debug, Deserialize)]
struct Job<'a>(
    IgnoredAny,
    &'a str,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    IgnoredAny,
    bool,
);

/// What a generator reacts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// A request of the generator was answered: with true, or else with what.
    Answer { id: u64, refusal: Option<&'a str> },
    /// A job on this previous hash, in internal byte order.
    Job { prev_hash: [u8; 32], clean: bool },
    /// Anything else.
    Other,
}

/// Reads a line.
///
/// # Errors
/// It is no message of the protocol.
pub(crate) fn read(line: &[u8]) -> Result<Said<'_>, String> {
    let wrong = |what: &str| {
        let start = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        format!("{what}: {start}")
    };
    let Line { id, method, params, result, error } =
        serde_json::from_slice(line).map_err(|error| wrong(&error.to_string()))?;
    match (method, id) {
        (Some("mining.notify"), _) => {
            let Job(_, prev_hash, .., clean) = params
                .and_then(|params| serde_json::from_str(params.get()).ok())
                .ok_or_else(|| wrong("a job that cannot be read"))?;
            let mut bytes = [0; 32];
            hex::decode_to_slice(prev_hash, &mut bytes)
                .map_err(|error| wrong(&error.to_string()))?;
            // Each word of the hash comes with its bytes the other way round.
            bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
            Ok(Said::Job { prev_hash: bytes, clean })
        }
        (None, Some(id)) => {
            let granted = result.is_some_and(|result| result.get() == "true");
            let refusal = error.or(result).map_or("no reason", RawValue::get);
            Ok(Said::Answer { id, refusal: (!granted).then_some(refusal) })
        }
        _ => Ok(Said::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_shapes() {
        for (line, expected) in [
            (r#"{"id":7,"result":true,"error":null}"#, None),
            (r#"{"result": true, "error": null, "id": 7}"#, None),
            (r#"{"id":7,"error":[23,"Low",null],"result":null}"#, Some(r#"[23,"Low",null]"#)),
            (r#"{"id":7,"result":false,"error":null}"#, Some("false")),
            (r#"{"id":7}"#, Some("no reason")),
        ] {
            let expected = Ok(Said::Answer { id: 7, refusal: expected });
            assert_eq!(read(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn jobs_name_their_previous_hash() {
        let prev_hash = format!("04030201{}", "00".repeat(28));
        let line = format!(
            r#"{{"params":["1","{prev_hash}","01","02",[],"20000000","1d00ffff","65000000",true],"id":null,"method":"mining.notify"}}"#
        );
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(read(line.as_bytes()), Ok(Said::Job { prev_hash: bytes, clean: true }));
        assert!(read(line.replace("04030201", "").as_bytes()).unwrap_err().contains("notify"));
        assert!(read(line.replace(",true]", "]").as_bytes()).is_err());
    }

    #[test]
    fn the_rest_is_passed_over_and_garbage_is_told() {
        let line = br#"{"id":null,"method":"mining.set_difficulty","params":[0.5]}"#;
        assert_eq!(read(line), Ok(Said::Other));
        assert!(read(b"{").is_err());
    }
}
