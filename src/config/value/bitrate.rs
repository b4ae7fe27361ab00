//! Bit rates as people write them: `500kbit`, `10Mbit`, `2.5Gbit`.
//!
//! Decimal, as usual for networks: 1 kbit is 1000 bits per second. The result is in bytes per
//! second.

use std::ops::RangeInclusive;

/// Bits per unit, and other spellings.
const UNITS: [(&str, f64, &[&str]); 3] = [
    ("kbit", 1e3, &["k", "kb", "kbps", "kbit/s", "kb/s"]),
    ("Mbit", 1e6, &["m", "mb", "mbps", "mbit/s", "mb/s"]),
    ("Gbit", 1e9, &["g", "gb", "gbps", "gbit/s", "gb/s"]),
];

/// Bytes per second. Below, one buffer takes seconds; above, the limit has no effect.
const RATES: RangeInclusive<f64> = 8e3..=1.25e12;

/// Reads a bit rate as bytes per second; the error is a label for the report.
pub(in crate::config) fn parse(text: &str) -> Result<u64, String> {
    let cut = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(cut);
    let Ok(number) = number.parse::<f64>() else {
        return Err("must be a number with a unit, such as 500kbit, 10Mbit, 2.5Gbit".to_owned());
    };
    if unit.is_empty() {
        return Err("the unit is missing: kbit, Mbit or Gbit".to_owned());
    }
    if unit.contains('B') {
        return Err("must be in bits per second, 8 per byte: kbit, Mbit or Gbit".to_owned());
    }
    let Some((_, bits, _)) = UNITS.iter().find(|(name, ..)| *name == unit) else {
        let plain = unit.trim().to_ascii_lowercase();
        let meant = UNITS.iter().find(|(name, _, others)| {
            name.to_ascii_lowercase() == plain || others.contains(&&*plain)
        });
        return Err(match meant {
            Some((name, ..)) => format!("write the unit as {name} (bits per second)"),
            None => "the unit must be kbit, Mbit or Gbit".to_owned(),
        });
    };
    let bytes = number * bits / 8.0;
    if !RATES.contains(&bytes) {
        return Err("must be from 64kbit to 10000Gbit".to_owned());
    }
    // In range, so it fits in 64 bits.
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_texts_are_read() {
        for (text, bytes) in [
            ("64kbit", 8000),
            ("10Mbit", 1_250_000),
            ("2.5Gbit", 312_500_000),
            ("10000Gbit", 1_250_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn errors_name_the_cause() {
        for (text, why) in [
            ("", "such as 500kbit"),
            ("fast", "such as 500kbit"),
            ("1.2.3Mbit", "such as 500kbit"),
            ("10", "the unit is missing"),
            ("10mbps", "unit as Mbit"),
            ("10 Mbit", "unit as Mbit"),
            ("10MB/s", "8 per byte"),
            ("10parsec", "must be kbit, Mbit or Gbit"),
            ("1kbit", "from 64kbit"),
            ("0Mbit", "from 64kbit"),
            ("99999Gbit", "to 10000Gbit"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
