//! What is said to a device: canonical JSON, one line each, with the types that all firmware reads.
//!
//! Every answer has `id`, `result` and `error`, in this order; `error` is `null` or an array of a
//! number, a text and `null`. Nothing that a device sent is repeated but its id.

use radpool_units::Exponent;

use crate::{difficulty::write_difficulty, job::EXTRANONCE1_LEN, request::write_hex};

/// Why a request is refused. Source: the numbers that pools have used since the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A parameter is missing or is none that can be.
    BadParameters,
    /// The method is none that is known.
    UnknownMethod,
    /// The job is not known, or not any more.
    JobNotFound,
    /// The job builds on an earlier block, or its pool is gone.
    Stale,
    /// The header was submitted before.
    Duplicate,
    /// The hash is above what the job asked for.
    LowDifficulty,
    /// The name was not authorized on this connection.
    Unauthorized,
    /// mining.subscribe has not been called.
    NotSubscribed,
    /// The time is out of its bounds.
    BadTime,
    /// Version bits outside of the mask are rolled.
    BadVersion,
    /// The second extranonce has another length than was told.
    BadExtranonce,
    /// More than may be asked for.
    TooMany,
}

impl Refusal {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 12] = [
        Self::BadParameters,
        Self::UnknownMethod,
        Self::JobNotFound,
        Self::Stale,
        Self::Duplicate,
        Self::LowDifficulty,
        Self::Unauthorized,
        Self::NotSubscribed,
        Self::BadTime,
        Self::BadVersion,
        Self::BadExtranonce,
        Self::TooMany,
    ];

    /// The number that devices know.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::JobNotFound | Self::Stale => 21,
            Self::Duplicate => 22,
            Self::LowDifficulty => 23,
            Self::Unauthorized => 24,
            Self::NotSubscribed => 25,
            _ => 20,
        }
    }

    /// What people read.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::BadParameters => "Bad parameters",
            Self::UnknownMethod => "Unknown method",
            Self::JobNotFound => "Job not found",
            Self::Stale => "Stale share",
            Self::Duplicate => "Duplicate share",
            Self::LowDifficulty => "Low difficulty share",
            Self::Unauthorized => "Unauthorized worker",
            Self::NotSubscribed => "Not subscribed",
            Self::BadTime => "Time out of range",
            Self::BadVersion => "Version bits outside of the mask",
            Self::BadExtranonce => "Wrong length of extranonce2",
            Self::TooMany => "Too many requests",
        }
    }

    /// The name in figures and counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BadParameters => "bad-parameters",
            Self::UnknownMethod => "unknown-method",
            Self::JobNotFound => "job-not-found",
            Self::Stale => "stale-share",
            Self::Duplicate => "duplicate-share",
            Self::LowDifficulty => "difficulty-too-low",
            Self::Unauthorized => "unauthorized",
            Self::NotSubscribed => "not-subscribed",
            Self::BadTime => "bad-ntime",
            Self::BadVersion => "bad-version-bits",
            Self::BadExtranonce => "bad-extranonce-size",
            Self::TooMany => "rate-exceeded",
        }
    }
}

/// Answers with a result that is JSON already.
pub(crate) fn write_result(id: &str, result: &str, out: &mut Vec<u8>) {
    for part in ["{\"id\":", id, ",\"result\":", result, ",\"error\":null}\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Answers with a refusal.
pub(crate) fn write_refusal(id: &str, refusal: Refusal, out: &mut Vec<u8>) {
    let (number, text) = (refusal.number(), refusal.text());
    let line = format!("{{\"id\":{id},\"result\":null,\"error\":[{number},\"{text}\",null]}}\n");
    out.extend_from_slice(line.as_bytes());
}

/// Answers mining.subscribe.
pub(crate) fn write_subscribed(
    id: &str,
    extranonce1: [u8; EXTRANONCE1_LEN],
    extranonce2_len: usize,
    out: &mut Vec<u8>,
) {
    let mut session = Vec::with_capacity(2 * EXTRANONCE1_LEN);
    write_hex(&extranonce1, &mut session);
    let session = String::from_utf8(session).expect("hexadecimal is ASCII");
    let result = format!(
        "[[[\"mining.set_difficulty\",\"{session}\"],[\"mining.notify\",\"{session}\"]],\
         \"{session}\",{extranonce2_len}]"
    );
    write_result(id, &result, out);
}

pub(crate) fn write_set_difficulty(exponent: Exponent, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[");
    write_difficulty(exponent, out);
    out.extend_from_slice(b"]}\n");
}

pub(crate) fn write_set_version_mask(mask: u32, out: &mut Vec<u8>) {
    let line = format!(
        "{{\"id\":null,\"method\":\"mining.set_version_mask\",\"params\":[\"{mask:08x}\"]}}\n"
    );
    out.extend_from_slice(line.as_bytes());
}

pub(crate) fn write_set_extranonce(
    extranonce1: [u8; EXTRANONCE1_LEN],
    extranonce2_len: usize,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"id\":null,\"method\":\"mining.set_extranonce\",\"params\":[\"");
    write_hex(&extranonce1, out);
    out.extend_from_slice(format!("\",{extranonce2_len}]}}\n").as_bytes());
}

pub(crate) fn write_reconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":null,\"method\":\"client.reconnect\",\"params\":[]}\n");
}

/// Firmware whose sources know client.show_message, by the beginning of its name.
const SHOWS_MESSAGES: [&str; 6] =
    ["bfgminer", "bitaxe", "bmminer", "cgminer", "cpuminer", "sgminer"];

/// The longest text that is shown, in bytes: a line of a log.
const MESSAGE_LEN_MAX: usize = 200;

/// Whether a device that says that it is `agent` can show a text; to others it would be a method that
/// they do not know.
pub(crate) fn shows_messages(agent: &str) -> bool {
    let agent = agent.to_ascii_lowercase();
    SHOWS_MESSAGES.iter().any(|known| agent.starts_with(known))
}

/// Shows a text, of which only printable ASCII is left: it stands on small displays and in logs.
pub(crate) fn write_show_message(text: &str, out: &mut Vec<u8>) {
    let plain = text.chars().filter(|letter| (' '..='~').contains(letter));
    let text: String =
        plain.filter(|letter| !"\"\\".contains(*letter)).take(MESSAGE_LEN_MAX).collect();
    let line =
        format!("{{\"id\":null,\"method\":\"client.show_message\",\"params\":[\"{text}\"]}}\n");
    out.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_firmware_that_shows_them_and_break_no_line() {
        assert!(shows_messages("cgminer/4.12.1") && shows_messages("Bitaxe/BM1370/v2.9"));
        assert!(
            !shows_messages("") && !shows_messages("NerdMinerV2") && !shows_messages("xcgminer")
        );
        let mut out = vec![];
        write_show_message(&format!("a\"b\\c\nd\u{e9}{}", "x".repeat(1_000)), &mut out);
        let text = "abcd".to_owned() + &"x".repeat(MESSAGE_LEN_MAX - 4);
        let line =
            format!("{{\"id\":null,\"method\":\"client.show_message\",\"params\":[\"{text}\"]}}\n");
        assert_eq!(String::from_utf8(out).unwrap(), line);
    }
}
