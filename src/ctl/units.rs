//! Numbers and times in few characters: `1.2M`, `3m`, `2d`.
//!
//! Not here: exact numbers, which `--wide` and `--json` show.

use jiff::Timestamp;

/// Numbers below this are shown as they are.
const EXACT_BELOW: u64 = 100_000;

/// Factors of a thousand.
const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];

/// Seconds of a minute, an hour, a day and a year.
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// A count: exact up to five digits.
pub(super) fn count(number: u64) -> String {
    if number < EXACT_BELOW { number.to_string() } else { short(number) }
}

/// At most five characters: `999`, `1.2k`, `12k`, `123M`.
pub(super) fn short(number: u64) -> String {
    let (mut unit, mut index) = (1_u64, 0);
    while number / unit >= 1000 && index + 1 < PREFIXES.len() {
        unit *= 1000;
        index += 1;
    }
    let (whole, tenth) = (number / unit, number % unit / (unit / 10).max(1));
    match index {
        0 => whole.to_string(),
        _ if whole < 10 => format!("{whole}.{tenth}{}", PREFIXES[index]),
        _ => format!("{whole}{}", PREFIXES[index]),
    }
}

/// A time in its largest unit: `45s`, `3m`, `2h`, `2d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        DAY..YEAR => format!("{}d", seconds / DAY),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// How long ago a time of the status was; nothing if it is none. The clock of another host may be
/// ahead of this one: that is no time at all.
pub(super) fn seconds_since(time: &str, now: Timestamp) -> Option<u64> {
    let time: Timestamp = time.parse().ok()?;
    Some(u64::try_from(now.duration_since(time).as_secs()).unwrap_or(0))
}

/// How far a replica is behind.
pub(super) fn lag(seconds: Option<f64>, bytes: Option<u64>) -> String {
    match (seconds, bytes) {
        (Some(seconds), _) if seconds < 9.95 => format!("{seconds:.1}s"),
        // A float beyond the range becomes its bound.
        (Some(seconds), _) => age(seconds.round() as u64),
        (None, Some(bytes)) => format!("{}B", short(bytes)),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_get_short() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (1999, "1.9k"),
            (10_000, "10k"),
            (999_999, "999k"),
            (1_234_567, "1.2M"),
            (u64::MAX, "18446P"),
        ] {
            assert_eq!(short(number), expected);
        }
        assert_eq!(count(99_999), "99999");
        assert_eq!(count(100_000), "100k");
    }

    #[test]
    fn times_have_one_unit() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (86_399, "23h"),
            (86_400, "1d"),
            (864_000, "10d"),
            (2 * 366 * 86_400, "2y"),
        ] {
            assert_eq!(age(seconds), expected);
        }
        let now = "2026-01-01T00:03:00Z".parse().unwrap();
        assert_eq!(seconds_since("2026-01-01T00:00:00.500Z", now), Some(179));
        assert_eq!(seconds_since("2026-01-01T01:00:00Z", now), Some(0), "a clock ahead");
        assert_eq!(seconds_since("-", now), None);
    }

    #[test]
    fn lag_is_time_or_bytes() {
        assert_eq!(lag(Some(1.25), Some(9)), "1.2s");
        assert_eq!(lag(Some(9.96), None), "10s");
        assert_eq!(lag(Some(4000.0), None), "1h");
        assert_eq!(lag(None, Some(1_500_000)), "1.5MB");
        assert_eq!(lag(None, None), "-");
    }
}
