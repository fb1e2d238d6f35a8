//! JSON lines on stdout.

use std::io::{self, Write};

use serde_json::{Value, json};

/// Prints one line. Whoever started this program may be gone: then nobody wants the line.
pub(crate) fn line(value: &Value) {
    text(&format!("{value}\n"));
}

pub(crate) fn text(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "radpool-load: {}", text.trim_end());
}

/// Sorts `values` and names the usual points of their distribution.
pub(crate) fn distribution(values: &mut [u64]) -> Value {
    values.sort_unstable();
    let at = |percent: usize| {
        let rank = (values.len() * percent).div_ceil(100);
        rank.checked_sub(1).and_then(|index| values.get(index)).copied()
    };
    json!({
        "count": values.len(),
        "min": values.first(),
        "p50": at(50),
        "p90": at(90),
        "p99": at(99),
        "max": values.last(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_names_values_that_occurred() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        let expected = json!({
            "count": 200, "min": 1, "p50": 100, "p90": 180, "p99": 198, "max": 200
        });
        assert_eq!(distribution(&mut values), expected);
        assert_eq!(distribution(&mut [])["p50"], Value::Null);
    }
}
