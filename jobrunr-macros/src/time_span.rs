//! Spans of time as they are written in an attribute: `30s`, `5m`, `1h30m`, `250ms`.

use std::time::Duration;

const HELP: &str = "write a number with a unit (ms, s, m, h, d), as in \"30s\", \"5m\" or \"1h30m\"";

/// The span that the text says, or what to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut milliseconds = Some(0_u64);
    while !rest.is_empty() {
        let (count, unit, after) = split_term(rest);
        let term = count.parse::<u64>().ok().zip(milliseconds_in(unit));
        let (count, factor) = term.ok_or_else(|| format!("{text:?} is no span of time: {HELP}"))?;
        milliseconds =
            milliseconds.zip(count.checked_mul(factor)).and_then(|(sum, term)| sum.checked_add(term));
        rest = after;
    }
    match milliseconds {
        Some(0) => Err(format!("{text:?} is no time at all: {HELP}")),
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => Err(format!("{text:?} is longer than can be counted: {HELP}")),
    }
}

/// The digits, the letters and what follows them.
fn split_term(text: &str) -> (&str, &str, &str) {
    let (count, rest) = split_where(text, |c| !c.is_ascii_digit());
    let (unit, rest) = split_where(rest.trim_start(), |c| !c.is_ascii_alphabetic());
    (count, unit, rest.trim_start())
}

fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

fn milliseconds_in(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("5 min", 300), ("1h30m", 5_400), ("1d 1s", 86_401)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn what_has_no_unit_or_no_number_or_no_length_is_refused() {
        for text in
            ["", "30", "s", "30x", "-1s", "1.5s", "0s", "99999999999999999999s", "9999999999999999d", "30s,"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
