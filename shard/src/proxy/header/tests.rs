//! Headers written and read, good ones and those that other receivers refuse.

use ringlane_core::settings::ProxyDetails;

use super::*;

const V2: SendProxy =
    SendProxy::V2(ProxyDetails { unique_id: false, authority: false, alpn: false });

fn ends(client: &str, server: &str) -> Ends {
    Ends::new(client.parse().unwrap(), server.parse().unwrap())
}

fn v4() -> Ends {
    ends("192.0.2.1:1000", "192.0.2.2:2000")
}

/// A header of version 2.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [v2::START, &[command, family], &len, body].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &len[..], value].concat()
}

/// Addresses and ports as version 2 has them, and what follows.
fn body(ip: &[u8], tlvs: &[u8]) -> Vec<u8> {
    [ip, ip, &1000u16.to_be_bytes(), &2000u16.to_be_bytes(), tlvs].concat()
}

const IPV4: [u8; 4] = [192, 0, 2, 1];
const IPV6: [u8; 16] = [0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// A header whose last value is a checksum, damaged by `damage`.
fn with_checksum(damage: u32) -> Vec<u8> {
    let mut header = v2(0x21, 0x11, &body(&IPV4, &tlv(3, &[0; 4])));
    let place = header.len() - 4;
    let crc = v2::checksum(&header, place) ^ damage;
    header[place..].copy_from_slice(&crc.to_be_bytes());
    header
}

#[test]
fn writes_what_the_protocol_says() {
    let ends = ends("192.0.2.1:40000", "192.0.2.9:5432");
    let write = |send, ends| write(send, ends, Vec::new());
    let v1 = write(SendProxy::V1, Some(ends));
    assert_eq!(v1, b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 5432\r\n");
    assert_eq!(write(SendProxy::V1, None), b"PROXY UNKNOWN\r\n");
    let of_both = write(V2, Some(ends));
    assert!(of_both.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"), "{of_both:?}");
    assert!(write(V2, None).starts_with(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"));
}

#[test]
fn ipv4_in_the_form_of_ipv6_is_ipv4_and_only_written_so_beside_ipv6() {
    let line = b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1000 2000\r\n";
    let Parsed::Whole((_, Some(said))) = read(line) else { panic!("not read") };
    assert_eq!(said.ends, v4());
    let v1 = write(SendProxy::V1, Some(said.ends), Vec::new());
    assert_eq!(v1, b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n");
    let mixed = ends("192.0.2.1:1000", "[2001:db8::2]:2000");
    let v1 = write(SendProxy::V1, Some(mixed), Vec::new());
    assert_eq!(v1, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1000 2000\r\n");
    let Parsed::Whole((_, Some(said))) = read(&v1) else { panic!("not read") };
    assert_eq!(said.ends, mixed);
}

#[test]
fn what_a_header_says_besides_addresses_is_kept() {
    let of_itself = [tlv(4, b"12345"), tlv(0x20, b"\x01")].concat();
    let said = [Tlv::Authority("db.example.org".into()), Tlv::Custom(0xEA, b"aws"[..].into())];
    let mut header = write(V2, Some(v4()), said.to_vec());
    header.extend_from_slice(&of_itself);
    let len = u16::try_from(header.len() - 16).unwrap();
    header[14..16].copy_from_slice(&len.to_be_bytes());
    let Parsed::Whole((len, Some(proxied))) = read(&header) else { panic!("not read") };
    assert_eq!(len, header.len());
    let [authority, custom] = said;
    // A value of TLS that is too short to be one goes on as it came.
    assert_eq!(proxied.tlvs, [authority, custom, Tlv::Custom(0x20, b"\x01"[..].into())]);
}

#[test]
fn a_checksum_is_that_of_the_specification() {
    // RFC 3720, appendix B.4: 32 bytes of zeros.
    assert_eq!(v2::checksum(&[0; 32], 0), 0x8A91_36AA);
    assert!(
        matches!(read(&with_checksum(0)), Parsed::Whole((_, Some(said))) if said.ends == v4_to_itself())
    );
    assert_eq!(read(&with_checksum(1)), Parsed::Invalid);
}

fn v4_to_itself() -> Ends {
    ends("192.0.2.1:1000", "192.0.2.1:2000")
}

#[test]
fn headers_of_version_2_that_break_the_protocol_are_refused() {
    let good = |family, body: &[u8]| v2(0x21, family, body);
    for (what, header) in [
        ("checksum of three bytes", good(0x11, &body(&IPV4, &tlv(3, &[0; 3])))),
        ("two checksums", good(0x11, &body(&IPV4, &[0x03, 0, 4, 0, 0, 0, 0].repeat(2)))),
        ("a value that overruns", good(0x11, &body(&IPV4, b"\x02\0\x50ab"))),
        ("the stub of a value", good(0x11, &body(&IPV4, b"\x02\0"))),
        ("a value that overruns behind no address", good(0x00, b"\x02\0\x50ab")),
        ("datagrams of IPv4", good(0x12, &body(&IPV4, b""))),
        ("datagrams of IPv6", good(0x22, &body(&IPV6, b""))),
        ("datagrams of unix sockets", good(0x32, &[0; 216])),
        ("no transport", good(0x10, &body(&IPV4, b""))),
        ("no family", good(0x01, b"")),
        ("a family of another protocol", good(0x41, &body(&IPV4, b""))),
        ("addresses cut short", good(0x11, &body(&IPV4, b"")[..11])),
        ("IPv6 addresses cut short", good(0x21, &body(&IPV4, b""))),
        ("unix addresses cut short", good(0x31, &[0; 215])),
        ("a name of 256 bytes", good(0x11, &body(&IPV4, &tlv(2, &[b'a'; 256])))),
        ("an id of 129 bytes", good(0x11, &body(&IPV4, &tlv(5, &[b'a'; 129])))),
        ("command 2", v2(0x22, 0x11, &body(&IPV4, b""))),
        ("version 1", v2(0x11, 0x11, &body(&IPV4, b""))),
        ("version 3", v2(0x31, 0x11, &body(&IPV4, b""))),
        ("more than is read", good(0x11, &body(&IPV4, &tlv(4, &[0; HEADER_MAX])))),
    ] {
        assert_eq!(read(&header), Parsed::Invalid, "{what}");
        // As soon as it can be seen: the wrong version does not wait for the rest.
        if what.starts_with("version") || what.starts_with("command") {
            assert_eq!(read(&header[..13]), Parsed::Invalid, "{what}");
        }
    }
}

#[test]
fn headers_that_name_nobody_are_stepped_over() {
    for (what, header) in [
        ("local", v2(0x20, 0x00, b"")),
        ("local, of a family without addresses", v2(0x20, 0x11, b"")),
        ("local, of an unknown family", v2(0x20, 0x77, b"abc")),
        ("local, with a wrong checksum", v2(0x20, 0x11, &body(&IPV4, &tlv(3, &[1; 4])))),
        ("of no known family", v2(0x21, 0x00, &tlv(4, b"x"))),
        ("of unix sockets", v2(0x21, 0x31, &[0; 216])),
        ("unknown", b"PROXY UNKNOWN\r\n".to_vec()),
        ("unknown, with words", b"PROXY UNKNOWN ::1 ::1  x\r\n".to_vec()),
        ("unknown, as long as may be", [b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat()),
    ] {
        let len = header.len();
        assert_eq!(read(&[&header[..], b"data"].concat()), Parsed::Whole((len, None)), "{what}");
    }
}

#[test]
fn lines_that_break_the_protocol_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\rX",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000 x\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1000 2000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01000 2000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1000 2000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 -1 2000\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2  2000\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1000 2000\r\n",
        "PROXY TCP4 ::1 ::2 1000 2000\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1000 2000\r\n",
        "PROXY TCP6 fe80::1%lo ::2 1000 2000\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1000 2000\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1000 2000\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXYxTCP4 192.0.2.1 192.0.2.2 1000 2000\r\n",
        "PROXY\tTCP4",
        "proxy ",
        "GET ",
        "\r\n\r\nX",
    ] {
        assert_eq!(read(line.as_bytes()), Parsed::Invalid, "{line:?}");
    }
    let long = [b"PROXY UNKNOWN ", &[b'x'; 92][..], b"\r\n"].concat();
    assert_eq!(read(&long), Parsed::Invalid);
    assert_eq!(read(&long[..106]), Parsed::Part);
    assert_eq!(read(b""), Parsed::Part);
    assert_eq!(read(b"\r\n\r"), Parsed::Part);
}
