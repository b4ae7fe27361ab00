//! Socket options: every accepted form, and what is refused.

use std::time::Duration;

use ringlane_core::machine::{Keepalive, Source, SourceAddress, SourcePorts, TcpOptions};

use super::{backend, frontend, parse};

fn tcp_of(lines: &str) -> TcpOptions {
    parse(&frontend(lines)).unwrap().snapshot.frontends[0].tcp.clone()
}

fn source_of(lines: &str) -> Source {
    let text = format!("{lines}\nserver = [{{ address = \"10.0.0.1:1\" }}]");
    parse(&backend(&text)).unwrap().snapshot.backends[0].source.clone()
}

#[test]
fn no_options_are_set_by_default() {
    assert_eq!(tcp_of(""), TcpOptions::default());
    assert_eq!(tcp_of("tcp = { keepalive = false, fast_open = false }"), TcpOptions::default());
    assert_eq!(source_of("transparent = false"), Source::default());
}

#[test]
fn options_are_the_same_on_both_sides() {
    let line = "tcp = { keepalive = { idle = \"60s\", count = 5 }, user_timeout = \"30s\", \
                fast_open = true, mark = 7, dscp = \"af21\" }";
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let options = TcpOptions {
        keepalive: Some(Keepalive { idle: seconds(60), interval: None, count: Some(5) }),
        user_timeout: seconds(30),
        fast_open: true,
        mark: Some(7),
        dscp: Some(18),
    };
    assert_eq!(tcp_of(line), options);
    let text = backend(&format!("{line}\nserver = [{{ address = \"10.0.0.1:1\" }}]"));
    assert_eq!(parse(&text).unwrap().snapshot.backends[0].tcp, options);
    assert_eq!(tcp_of("tcp = { keepalive = true }").keepalive, Some(Keepalive::default()));
}

#[test]
fn listeners_may_be_transparent() {
    let is_transparent =
        |line: &str| parse(&frontend(line)).unwrap().snapshot.frontends[0].transparent;
    assert!(is_transparent("transparent = true"));
    assert!(!is_transparent("transparent = false") && !is_transparent(""));
    let report = parse(&frontend("transparent = \"address\"")).unwrap_err().to_string();
    assert!(report.contains("true or false"), "{report}");
}

#[test]
fn code_points_have_names() {
    for (text, dscp) in [
        ("0", 0),
        ("63", 63),
        ("\"default\"", 0),
        ("\"le\"", 1),
        ("\"cs1\"", 8),
        ("\"AF11\"", 10),
        ("\"af43\"", 38),
        ("\"va\"", 44),
        ("\"ef\"", 46),
        ("\"cs7\"", 56),
    ] {
        assert_eq!(tcp_of(&format!("tcp = {{ dscp = {text} }}")).dscp, Some(dscp), "{text}");
    }
    for text in ["64", "-1", "\"af44\"", "\"af53\"", "\"cs8\"", "\"ef1\"", "\"\"", "true"] {
        assert!(parse(&frontend(&format!("tcp = {{ dscp = {text} }}"))).is_err(), "{text}");
    }
}

#[test]
fn sources_are_fixed_or_those_of_the_client() {
    let (v4, v6) = ("10.0.0.5".parse().ok(), "2001:db8::5".parse().ok());
    let ports = |first, last| Some(SourcePorts { first, last, by_kernel: false });
    for (lines, address, ports) in [
        ("source = \"10.0.0.5\"", SourceAddress::Fixed(v4, None), None),
        ("source = [\"2001:db8::5\", \"10.0.0.5\"]", SourceAddress::Fixed(v4, v6), None),
        ("source_ports = \"20000-29999\"", SourceAddress::Host, ports(20_000, 29_999)),
        ("transparent = true\nsource_ports = \"1 - 2\"", SourceAddress::Client, ports(1, 2)),
        ("transparent = \"address\"", SourceAddress::Client, None),
        ("transparent = \"address_and_port\"", SourceAddress::ClientAndPort, None),
    ] {
        assert_eq!(source_of(lines), Source { address, ports }, "{lines}");
    }
}

#[test]
fn invalid_sources_are_refused() {
    for (lines, why) in [
        ("source = \"10.0.0.5:80\"", "must be an IP address, without a port"),
        ("source = \"0.0.0.0\"", "not usable as a source address"),
        ("source = [\"10.0.0.5\", \"10.0.0.6\"]", "only one address per family"),
        ("source = 7", "must be an IP address, or an array"),
        ("source_ports = \"200\"", "must be two ports"),
        ("source_ports = \"2-1\"", "must be two ports"),
        ("source_ports = \"0-1\"", "must be two ports"),
        ("source_ports = \"1-65536\"", "must be two ports"),
        ("transparent = \"yes\"", "must be address or address_and_port"),
        ("transparent = 1", "must be true, false"),
        ("usesrc = true", "here this is called \"transparent\""),
    ] {
        let text = format!("{lines}\nserver = [{{ address = \"10.0.0.1:1\" }}]");
        let report = parse(&backend(&text)).unwrap_err().to_string();
        assert!(report.contains(why), "{lines}: {report}");
    }
}
