//! A PROXY header of version 1: one line of text.
//!
//! As strict as its specification: one space between words, numbers without leading zeros, CR and
//! LF at the end, 107 bytes at most. What can no longer become such a line is refused at once, not
//! when its time is over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringlane_core::parsed::Parsed;

use super::Ends;

/// What every line begins with.
pub(super) const START: &[u8] = b"PROXY ";

/// Bytes of the longest line, its end included.
pub(super) const LINE_MAX: usize = 107;

/// Reads a line: how long it is, and the addresses in it. A proxy that does not know them may write
/// anything behind `UNKNOWN`.
pub(super) fn read(bytes: &[u8]) -> Parsed<(usize, Option<Ends>)> {
    let bytes = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() < LINE_MAX { Parsed::Part } else { Parsed::Invalid };
    };
    match &bytes[end..] {
        [b'\r'] if end + 1 < LINE_MAX => return Parsed::Part,
        [b'\r', b'\n', ..] => {}
        _ => return Parsed::Invalid,
    }
    match bytes.get(START.len()..end).and_then(words) {
        Some(ends) => Parsed::Whole((end + 2, ends)),
        None => Parsed::Invalid,
    }
}

/// What stands behind the start of a line, `None` if it is wrong.
fn words(line: &[u8]) -> Option<Option<Ends>> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Some(None);
    }
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let family = words.next()?;
    let mut ip = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (client, server) = (ip()?, ip()?);
    let mut port = || port(words.next()?);
    let ends = Ends::new((client, port()?).into(), (server, port()?).into());
    words.next().is_none().then_some(Some(ends))
}

fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let leads_with_zero = word.len() > 1 && word.starts_with('0');
    (is_plain && !leads_with_zero).then(|| word.parse().ok()).flatten()
}
