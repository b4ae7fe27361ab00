//! Numbers with units, as they stand on the command line.

use std::time::Duration;

/// The most bytes of one message: they are all held in memory for every session.
const MESSAGE_MOST: u64 = 16 << 20;

/// The bytes of one message.
pub(super) fn message(option: &str, size: u64) -> Result<usize, String> {
    between(option, size, 1, MESSAGE_MOST)
}

/// A number of bytes between two others.
pub(super) fn between(option: &str, size: u64, least: u64, most: u64) -> Result<usize, String> {
    match usize::try_from(size) {
        Ok(bytes) if (least..=most).contains(&size) => Ok(bytes),
        _ => Err(format!("{option} {size}: between {least} and {most} bytes")),
    }
}

/// Reads `128`, `64k`, `16m`, `1g` (powers of 1024).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if lower.ends_with('k') => (digits, 10),
        Some(digits) if lower.ends_with('m') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (lower.as_str(), 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    number.ok_or_else(|| "a number of bytes such as 128, 64k, 16m or 1g".to_owned())
}

/// Reads `500ms`, `5s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)) {
        // A century is enough, and does not overflow any clock.
        Some(millis @ 1..=3_200_000_000_000) => Ok(Duration::from_millis(millis)),
        _ => Err("a time such as 500ms, 5s, 2m or 1h".to_owned()),
    }
}

/// Reads `1000`, `0.5`, `20k`, `1.5m` (powers of 1000) a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1e3),
        (_, Some(digits)) => (digits, 1e6),
        _ => (lower.as_str(), 1.0),
    };
    let number = digits.parse::<f64>().ok().map(|n| n * factor);
    let orderly = number.filter(|n| (0.001..=1e9).contains(n));
    orderly.ok_or_else(|| "a number a second such as 0.5, 1000, 20k or 1.5m".to_owned())
}

/// The same, or `0` for none at all.
pub(super) fn rate_or_none(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { rate(text) }
}

/// Reads a percentage such as `5%`.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|digits| digits.parse::<f64>().ok());
    let orderly = number.filter(|n| (0.1..=100.0).contains(n));
    orderly.map(|n| n / 100.0).ok_or_else(|| "a percentage from 0.1% to 100%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read_or_refused() {
        for (text, bytes) in [("128", 128), ("64k", 65_536), ("1G", 1 << 30), ("0", 0)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for (text, millis) in [("500ms", 500), ("5s", 5000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for (text, number) in [("0.5", 0.5), ("20k", 20_000.0), ("1.5m", 1.5e6)] {
            assert_eq!(rate(text), Ok(number));
        }
        assert_eq!((rate_or_none("0"), rate_or_none("2k")), (Ok(0.0), Ok(2000.0)));
        assert_eq!(percent("5%"), Ok(0.05));
        for text in ["", "k", "1t", "-1", "99999999999g"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "5", "0s", "s", "1.5s", "1d", "99999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "0", "-5", "nan", "inf", "1x", "1e30"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["5", "0%", "101%", "x%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
