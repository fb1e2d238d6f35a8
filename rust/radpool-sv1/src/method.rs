//! The requests of a device but for shares.

use radpool_units::{Now, Target};

use crate::{
    Device, DeviceOutbox,
    difficulty::{exponent_asked, exponent_of},
    reply::{Refusal, write_result, write_subscribed},
    request::{Parameters, Request, number, read_hex},
};

/// The longest name of a worker: what SV2 can carry.
const NAME_LEN_MAX: usize = 255;
/// Of what a device says that it is, so much is kept.
const AGENT_LEN_MAX: usize = 64;
/// Extensions that one mining.configure can ask for.
const EXTENSIONS_MAX: usize = 16;

impl Device {
    pub(crate) fn on_request(&mut self, request: &Request<'_>, now: Now, out: &mut DeviceOutbox) {
        let (id, parameters) = (request.id, request.parameters());
        match &*request.method {
            "mining.configure" => self.on_configure(id, &parameters, now, out),
            "mining.subscribe" => self.on_subscribe(id, &parameters, now, out),
            "mining.authorize" => self.on_authorize(id, &parameters, now, out),
            "mining.extranonce.subscribe" => {
                self.takes_extranonce = true;
                write_result(id, "true", &mut out.lines);
            }
            "mining.suggest_difficulty" => {
                if let Some(exponent) = number(first(&parameters)).and_then(exponent_asked) {
                    self.ask_for(exponent, now, out);
                }
                write_result(id, "true", &mut out.lines);
            }
            "mining.suggest_target" => {
                if let Some(target) = parameters.text(0).and_then(|digits| read_target(&digits)) {
                    self.ask_for(exponent_of(target), now, out);
                }
                write_result(id, "true", &mut out.lines);
            }
            // What there is would be a list of thousands of transactions, which nobody needs.
            "mining.get_transactions" => write_result(id, "[]", &mut out.lines),
            "mining.ping" => write_result(id, "\"pong\"", &mut out.lines),
            "mining.multi_version" => write_result(id, "true", &mut out.lines),
            _ => self.refuse(id, Refusal::UnknownMethod, out),
        }
    }

    fn on_subscribe(
        &mut self,
        id: &str,
        parameters: &Parameters<'_>,
        now: Now,
        out: &mut DeviceOutbox,
    ) {
        if let Some(agent) = parameters.text(0) {
            let agent = agent.chars().filter(|letter| (' '..='~').contains(letter));
            self.figures.lock().agent = agent.take(AGENT_LEN_MAX).collect();
        }
        write_subscribed(id, self.extranonce1, self.extranonce2_len, &mut out.lines);
        if !self.subscribed {
            self.subscribed = true;
            self.become_ready(now, out);
        }
    }

    fn on_authorize(
        &mut self,
        id: &str,
        parameters: &Parameters<'_>,
        now: Now,
        out: &mut DeviceOutbox,
    ) {
        let Some(name) = parameters.text(0).filter(|name| is_name(name)) else {
            return self.refuse(id, Refusal::Unauthorized, out);
        };
        let is_first = self.names.is_empty();
        if !self.names.iter().any(|known| **known == *name) {
            if self.names.len() >= self.settings.names_max {
                return self.refuse(id, Refusal::TooMany, out);
            }
            self.add_name(&name);
            let password = parameters.text(1).unwrap_or_default();
            if is_first && let Some(exponent) = asked_by(&password).and_then(exponent_asked) {
                self.ask_for(exponent, now, out);
            }
        }
        write_result(id, "true", &mut out.lines);
        if is_first {
            self.become_ready(now, out);
        }
    }

    fn on_configure(
        &mut self,
        id: &str,
        parameters: &Parameters<'_>,
        now: Now,
        out: &mut DeviceOutbox,
    ) {
        let asked = serde_json::from_str::<Vec<&str>>(parameters.raw(0));
        let Ok(asked) = asked else {
            return self.refuse(id, Refusal::BadParameters, out);
        };
        let options: serde_json::Value =
            serde_json::from_str(parameters.raw(1)).unwrap_or_default();
        let mut result = String::from("{");
        for (index, extension) in asked.iter().copied().enumerate().take(EXTENSIONS_MAX) {
            if !is_plain(extension) || asked[..index].contains(&extension) {
                continue;
            }
            if result.len() > 1 {
                result.push(',');
            }
            match extension {
                "version-rolling" => {
                    let mask = options["version-rolling.mask"].as_str();
                    let mask = mask.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    let mask = Self::grant_mask(mask.unwrap_or(u32::MAX));
                    (self.mask, self.mask_told) = (Some(mask), mask);
                    let grants = mask != 0;
                    result.push_str(&format!(
                        "\"version-rolling\":{grants},\"version-rolling.mask\":\"{mask:08x}\""
                    ));
                }
                "minimum-difficulty" => {
                    let value = options["minimum-difficulty.value"].as_f64();
                    if let Some(exponent) = value.and_then(exponent_asked) {
                        self.ask_for(exponent, now, out);
                    }
                    result.push_str("\"minimum-difficulty\":true");
                }
                "subscribe-extranonce" => {
                    self.takes_extranonce = true;
                    result.push_str("\"subscribe-extranonce\":true");
                }
                "info" => result.push_str("\"info\":true"),
                other => result.push_str(&format!("\"{other}\":false")),
            }
        }
        write_result(id, &format!("{result}}}"), &mut out.lines);
    }
}

/// The first parameter, or the first value of an object that stands in its place.
fn first<'line>(parameters: &Parameters<'line>) -> &'line str {
    let raw = parameters.raw(0);
    // {"difficulty":1000} and the like.
    match raw.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some(inner) => inner.split_once(':').map_or("null", |(_, value)| value.trim()),
        None => raw,
    }
}

/// The difficulty that a password asks for: `d=N` or `diff=N` among parts cut by commas, semicolons
/// or blanks. Everything else in a password means nothing.
fn asked_by(password: &str) -> Option<f64> {
    password.split([',', ';', ' ']).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        matches!(key.trim(), "d" | "diff").then(|| value.trim().parse().ok())?
    })
}

/// Names are opaque bytes for the pool; but they stand in logs and on pages.
fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Whether a name can be repeated in JSON as it is.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

/// 64 hexadecimal digits, most significant first.
fn read_target(digits: &str) -> Option<Target> {
    let mut bytes = [0; 32];
    read_hex(digits, &mut bytes)?;
    bytes.reverse();
    Some(Target::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_ask_for_a_difficulty_in_two_ways() {
        for (password, asked) in [
            ("x", None),
            ("", None),
            ("d=1024", Some(1024.0)),
            ("x,diff=0.5", Some(0.5)),
            ("foo; d=8", Some(8.0)),
            ("id=5", None),
            ("d=abc", None),
            ("d=", None),
        ] {
            assert_eq!(asked_by(password), asked, "{password}");
        }
    }

    #[test]
    fn names_are_printable_and_short() {
        assert!(is_name("bc1q.rig 1\u{e9}") && is_name(&"x".repeat(255)));
        assert!(
            !is_name("") && !is_name(&"x".repeat(256)) && !is_name("a\nb") && !is_name("\u{7f}")
        );
    }
}
