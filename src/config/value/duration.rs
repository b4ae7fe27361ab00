//! Durations as people write them: `500ms`, `2s`, `1m30s`, `1h`, `1d`.
//!
//! Whole numbers with units, largest unit first. Every duration is at most a year, so sums never
//! overflow. Not here: narrower limits of single keys.

use std::time::Duration;

/// The longest duration that is accepted.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Digits that are repeated in an error message.
const DIGITS_SHOWN: usize = 9;

/// Units with their milliseconds, largest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of other programs, and ours.
const FOREIGN_UNITS: [(&str, &str); 12] = [
    ("msec", "ms"),
    ("millis", "ms"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hours", "h"),
    ("days", "d"),
];

/// Reads a duration greater than zero; the error is a label for the report.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match parse_or_none(text)? {
        Duration::ZERO => Err("must be greater than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// As above, but zero is allowed, such as `0s`.
pub(in crate::config) fn parse_or_none(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut units = UNITS.iter();
    if rest.is_empty() {
        return Err("must not be empty".to_owned());
    }
    while !rest.is_empty() {
        let (digits, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| !c.is_ascii_digit());
        if digits.is_empty() || unit.starts_with(['.', ',']) {
            return Err("must be whole numbers with units, such as 500ms, 2s, 1m30s".to_owned());
        }
        if unit.is_empty() {
            return Err(match digits.len() {
                ..=DIGITS_SHOWN => {
                    format!("the unit is missing: {digits}s, {digits}ms or {digits}m?")
                }
                _ => "the unit is missing".to_owned(),
            });
        }
        let Some((_, unit_ms)) = units.find(|(name, _)| *name == unit) else {
            return Err(wrong_unit(unit));
        };
        let part = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(*unit_ms));
        let Some(sum) = part.and_then(|part| total_ms.checked_add(part)) else {
            return Err("must be at most a year (365d)".to_owned());
        };
        total_ms = sum;
        rest = after;
    }
    match Duration::from_millis(total_ms) {
        total if total > LONGEST => Err("must be at most a year (365d)".to_owned()),
        total => Ok(total),
    }
}

/// Why `unit` is not valid at its place.
fn wrong_unit(unit: &str) -> String {
    if UNITS.iter().any(|(name, _)| *name == unit) {
        return "units must go from large to small, each at most once: 1h30m".to_owned();
    }
    let meant = FOREIGN_UNITS.iter().find(|(foreign, _)| *foreign == unit.trim());
    match meant {
        Some((_, meant)) => format!("write the unit as {meant}"),
        None => "units must be d, h, m, s or ms, without spaces".to_owned(),
    }
}

/// `text` cut where `accept` first fails.
fn split(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !accept(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_texts_are_read() {
        for (text, ms) in [
            ("500ms", 500),
            ("2s", 2000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90s", 90_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(parse_or_none(text), parse(text), "{text}");
        }
        assert_eq!(parse_or_none("0s"), Ok(Duration::ZERO));
        parse("0s").unwrap_err();
    }

    #[test]
    fn errors_name_the_cause() {
        for (text, expected) in [
            ("", "empty"),
            ("0s", "greater than zero"),
            ("0h0m", "greater than zero"),
            ("30", "the unit is missing: 30s"),
            ("1m30", "the unit is missing: 30s"),
            ("s", "whole numbers"),
            ("-1s", "whole numbers"),
            ("1.5s", "whole numbers"),
            ("30s1m", "large to small"),
            ("1s1s", "large to small"),
            ("5min", "unit as m"),
            ("5 seconds", "unit as s"),
            ("5 parsecs", "d, h, m, s or ms"),
            ("1s ", "d, h, m, s or ms"),
            ("366d", "at most a year"),
            ("99999999999999999999s", "at most a year"),
            ("18446744073709551615d", "at most a year"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
