//! A PROXY header of version 2: bytes with a length, addresses and typed values.
//!
//! Everything that a receiver can check is checked: command, family, that values fit, the checksum.
//! A header of a datagram is none of a TCP connection. Headers of a proxy's own connections
//! (`LOCAL`) are stepped over whatever is in them, as their specification says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_header::Tlv;

use ringlane_core::parsed::Parsed;

use super::{Ends, HEADER_MAX, Proxied};

/// What every header begins with.
pub(super) const START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses: the start, version and command, family, length.
const FIXED: usize = START.len() + 4;

/// Types of values that are about the header itself, and lengths of others that HAProxy bounds.
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const NOOP: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const AUTHORITY_MAX: usize = 255;
const UNIQUE_ID_MAX: usize = 128;

/// Bytes of the addresses of two unix sockets, which are stepped over.
const UNIX_ADDRESSES: usize = 216;

/// Reads a header: how long it is, and what it said of the connection.
pub(super) fn read(bytes: &[u8]) -> Parsed<(usize, Option<Proxied>)> {
    let Some((head, _)) = bytes.split_at_checked(FIXED) else {
        let version = bytes.get(START.len()).is_none_or(|byte| matches!(byte, 0x20 | 0x21));
        return if version { Parsed::Part } else { Parsed::Invalid };
    };
    let is_local = match head[START.len()] {
        0x20 => true,
        0x21 => false,
        _ => return Parsed::Invalid,
    };
    let len = FIXED + usize::from(u16::from_be_bytes([head[FIXED - 2], head[FIXED - 1]]));
    if len > HEADER_MAX {
        return Parsed::Invalid;
    }
    let Some(header) = bytes.get(..len) else { return Parsed::Part };
    if is_local {
        return Parsed::Whole((len, None));
    }
    match proxied(header, head[FIXED - 3]) {
        Some(proxied) => Parsed::Whole((len, proxied)),
        None => Parsed::Invalid,
    }
}

/// What a whole header said, `None` if it is wrong.
fn proxied(header: &[u8], family: u8) -> Option<Option<Proxied>> {
    let body = &header[FIXED..];
    let (ends, values) = match family {
        // Of a family that the proxy could not name, and of unix sockets: no addresses to go by.
        0x00 => (None, body),
        0x31 => (None, body.get(UNIX_ADDRESSES..)?),
        0x11 => ends::<4>(body, |ip| Ipv4Addr::from(ip).into())?,
        0x21 => ends::<16>(body, |ip| Ipv6Addr::from(ip).into())?,
        _ => return None,
    };
    let tlvs = tlvs(header, values)?;
    Some(ends.map(|ends| Proxied { ends, tlvs }))
}

/// Both addresses, then both ports; and what comes behind them.
fn ends<const N: usize>(
    body: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Option<(Option<Ends>, &[u8])> {
    let (client, rest) = body.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let ([a, b, c, d], rest) = rest.split_first_chunk::<4>()?;
    let end = |of: &[u8; N], port: [u8; 2]| SocketAddr::new(ip(*of), u16::from_be_bytes(port));
    Some((Some(Ends::new(end(client, [*a, *b]), end(server, [*c, *d]))), rest))
}

/// What a header said besides addresses, but for what is about its own bytes; `None` if a value
/// does not fit, or the checksum is wrong.
fn tlvs(header: &[u8], mut values: &[u8]) -> Option<Vec<Tlv<'static>>> {
    let (mut kept, mut is_checked) = (Vec::new(), false);
    while !values.is_empty() {
        let ([kind, high, low], rest) = values.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(len)?;
        match *kind {
            AUTHORITY if len > AUTHORITY_MAX => return None,
            UNIQUE_ID if len > UNIQUE_ID_MAX => return None,
            // One at most: each costs a look at all bytes.
            CRC32C if is_checked => return None,
            CRC32C => {
                is_checked = true;
                let place = header.len() - rest.len() - len;
                let said = u32::from_be_bytes(value.try_into().ok()?);
                if checksum(header, place) != said {
                    return None;
                }
            }
            NOOP => {}
            // What cannot be read as what it claims to be is passed on as it came.
            kind => kept.push(
                Tlv::decode(kind, value)
                    .unwrap_or_else(|_| Tlv::Custom(kind, value.into()))
                    .into_owned(),
            ),
        }
        values = rest;
    }
    Some(kept)
}

/// The checksum of a header: CRC32c, with its own four bytes at `place` taken for zeros.
pub(super) fn checksum(header: &[u8], place: usize) -> u32 {
    let step = |crc: u32, (nth, byte): (usize, &u8)| {
        let byte = if (place..place + 4).contains(&nth) { 0 } else { *byte };
        TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ crc >> 8
    };
    !header.iter().enumerate().fold(!0, step)
}

/// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The remainder of each byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
