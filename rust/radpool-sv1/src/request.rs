//! Reads a line of a device into a request, strictly where it matters and leniently where firmware
//! differs.
//!
//! A line is one JSON object. Keys that stand twice, numbers that are none and anything behind the
//! object make it malformed; keys that are not known are passed over. A line without `method` is an
//! answer to one of our notifications, and says nothing. Values are looked at only where a method
//! needs them, so that depth and size are bounded by the line alone.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest id that is echoed.
const ID_LEN_MAX: usize = 64;

/// The most parameters of any method: more are not looked at.
const PARAMETERS_MAX: usize = 8;

/// The line is no JSON object of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

#[derive(Deserialize)]
struct Line<'line> {
    #[serde(borrow, default)]
    id: Option<&'line RawValue>,
    #[serde(borrow, default)]
    method: Option<&'line RawValue>,
    #[serde(borrow, default)]
    params: Option<&'line RawValue>,
}

/// A request of a device.
#[derive(Debug)]
pub(crate) struct Request<'line> {
    /// The id as it came, if it is a scalar of a sane length; else `null`.
    pub(crate) id: &'line str,
    pub(crate) method: Cow<'line, str>,
    /// The parameters as they came; `null` when there are none.
    pub(crate) params: &'line str,
}

impl<'line> Request<'line> {
    /// Reads a line; `None` when it is an answer.
    pub(crate) fn parse(line: &'line [u8]) -> Result<Option<Self>, Malformed> {
        // A list would be read as the fields in their order.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err(Malformed);
        }
        let line: Line<'line> = serde_json::from_slice(line).map_err(|_| Malformed)?;
        let Some(method) = line.method else { return Ok(None) };
        Ok(Some(Self {
            id: line.id.map_or("null", |id| echo(id.get())),
            method: text(method.get()).ok_or(Malformed)?,
            params: line.params.map_or("null", RawValue::get),
        }))
    }

    /// The parameters one by one, as they came; one that stands alone counts as a list of it.
    pub(crate) fn parameters(&self) -> Parameters<'line> {
        let mut parameters = Parameters::default();
        if !self.params.starts_with('[') {
            if self.params != "null" {
                parameters.push(self.params);
            }
            return parameters;
        }
        // The text is valid already: anything else was malformed.
        if let Ok(list) = serde_json::from_str::<Vec<&'line RawValue>>(self.params) {
            list.into_iter().take(PARAMETERS_MAX).for_each(|value| parameters.push(value.get()));
        }
        parameters
    }
}

/// The parameters of a request, as raw JSON.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parameters<'line> {
    items: [&'line str; PARAMETERS_MAX],
    count: usize,
}

impl<'line> Parameters<'line> {
    fn push(&mut self, item: &'line str) {
        self.items[self.count] = item;
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A parameter as raw JSON; `null` when there is none.
    pub(crate) fn raw(&self, index: usize) -> &'line str {
        self.items[..self.count].get(index).copied().unwrap_or("null")
    }

    /// A parameter that is a string.
    pub(crate) fn text(&self, index: usize) -> Option<Cow<'line, str>> {
        text(self.raw(index))
    }

    /// A parameter that is a string, or a number taken as the text that stands there.
    pub(crate) fn word(&self, index: usize) -> Option<Cow<'line, str>> {
        let raw = self.raw(index);
        let is_number = raw.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { Some(Cow::Borrowed(raw)) } else { text(raw) }
    }

    /// A parameter of 32 bits: hexadecimal in a string of up to eight digits, or a number.
    pub(crate) fn bits(&self, index: usize) -> Option<u32> {
        let raw = self.raw(index);
        match text(raw) {
            Some(digits) => parse_hex_u32(&digits),
            None => raw.parse().ok(),
        }
    }
}

/// The string that raw JSON stands for.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(raw).ok().map(Cow::Owned),
    }
}

/// The number that raw JSON stands for, in a string or not.
pub(crate) fn number(raw: &str) -> Option<f64> {
    match text(raw) {
        Some(digits) => digits.parse().ok(),
        None => serde_json::from_str(raw).ok(),
    }
}

/// One to eight hexadecimal digits and nothing else.
fn parse_hex_u32(digits: &str) -> Option<u32> {
    let digits = digits.as_bytes();
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0, |number: u32, digit| Some(number << 4 | u32::from(nibble(*digit)?)))
}

/// Exactly as many bytes as `out` holds, in hexadecimal of either case and nothing else.
pub(crate) fn read_hex(digits: &str, out: &mut [u8]) -> Option<()> {
    let digits = digits.as_bytes();
    if digits.len() != out.len() * 2 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Writes bytes in lower-case hexadecimal.
pub(crate) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    for (pair, byte) in out[start..].chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn echo(id: &str) -> &str {
    let is_scalar = !id.starts_with(['{', '[']);
    if is_scalar && id.len() <= ID_LEN_MAX { id } else { "null" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Request<'_> {
        Request::parse(line.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn ids_of_any_scalar_type_are_echoed_as_they_came() {
        for id in ["1", "-7", "1.50", "1e400", "null", "true", "\"a\\u00e9\"", "\"\""] {
            assert_eq!(parse(&format!(r#"{{"id":{id},"method":"m"}}"#)).id, id);
        }
        for id in ["[1]", "{}", &"9".repeat(65), &format!("\"{}\"", "x".repeat(63))] {
            assert_eq!(parse(&format!(r#"{{"id": {id} ,"method":"m"}}"#)).id, "null", "{id}");
        }
        assert_eq!(parse(r#"{"method":"m"}"#).id, "null");
    }

    #[test]
    fn what_is_no_request_is_malformed_or_an_answer() {
        let deep = format!(r#"{{"method":"m","params":{}1}}"#, "[".repeat(4000));
        for line in [
            "",
            "1",
            "null",
            "[]",
            "{",
            "{]}",
            r#"{"method":"m"} x"#,
            r#"{"method":"m","id":NaN}"#,
            r#"{"method":"m","method":"n"}"#,
            r#"{"id":1,"id":2,"method":"m"}"#,
            r#"{"method":1}"#,
            r#"{"method":"m","params":[01]}"#,
            r#"{"method":["m"]}"#,
            "\u{feff}{}",
            &deep,
        ] {
            assert_eq!(Request::parse(line.as_bytes()).err(), Some(Malformed), "{line}");
        }
        assert_eq!(Request::parse(b"{\"method\":\"\xff\"}").err(), Some(Malformed));
        assert!(Request::parse(br#"{"id":1,"result":true,"error":null}"#).unwrap().is_none());
        assert!(Request::parse(br#"{"method":null}"#).unwrap().is_none());
    }

    #[test]
    fn depth_costs_nothing() {
        let line =
            format!(r#"{{"method":"m","params":{}1{}}}"#, "[".repeat(3000), "]".repeat(3000));
        assert_eq!(parse(&line).parameters().len(), 1);
    }

    #[test]
    fn parameters_are_a_list_or_one_value() {
        let list = parse(r#"{"method":"m","params":["a",2,[3],null,"\u0062"]}"#).parameters();
        assert_eq!((list.len(), list.raw(2), list.raw(9)), (5, "[3]", "null"));
        assert_eq!((list.text(0), list.text(1)), (Some("a".into()), None));
        assert_eq!(list.text(4), Some("b".into()));
        assert_eq!(parse(r#"{"method":"m","params":512}"#).parameters().raw(0), "512");
        assert_eq!(parse(r#"{"method":"m","params":{"a":1}}"#).parameters().raw(0), r#"{"a":1}"#);
        assert_eq!(parse(r#"{"method":"m"}"#).parameters().len(), 0);
        assert_eq!(parse(r#"{"method":"m","params":[1,2,3,4,5,6,7,8,9]}"#).parameters().len(), 8);
    }

    #[test]
    fn bits_are_hexadecimal_in_strings_and_decimal_in_numbers() {
        let read = |value: &str| {
            let line = format!(r#"{{"method":"m","params":[{value}]}}"#);
            parse(&line).parameters().bits(0)
        };
        assert_eq!(
            (read("\"ff\""), read("\"FF\""), read("255")),
            (Some(255), Some(255), Some(255))
        );
        assert_eq!((read("\"ffffffff\""), read("4294967295")), (Some(u32::MAX), Some(u32::MAX)));
        for wrong in [
            "\"\"",
            "\"0ffffffff\"",
            "\"0x1\"",
            "\" 1\"",
            "\"+1\"",
            "-1",
            "1.0",
            "1e3",
            "4294967296",
            "null",
            "[1]",
            "true",
            "\"g\"",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_has_exactly_the_wanted_length() {
        let mut bytes = [0; 2];
        assert_eq!(read_hex("aBcD", &mut bytes), Some(()));
        assert_eq!(bytes, [0xab, 0xcd]);
        for wrong in ["", "abc", "abcde", "abcdef", "abc ", " abc", "0xab", "ab\u{e9}"] {
            assert_eq!(read_hex(wrong, &mut bytes), None, "{wrong}");
        }
        let mut out = Vec::new();
        write_hex(&[0x00, 0xab, 0xff], &mut out);
        assert_eq!(out, b"00abff");
    }
}
