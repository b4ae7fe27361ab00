//! Keys of checks: what each kind accepts and refuses.

use super::{backend, parse};
use crate::config::{Check, Kind, Tls, Trust};

const SERVER: &str = "server = [{ name = \"s\", address = \"10.0.0.1:5432\" }]\n";

/// The check of a backend that has these keys in it.
#[track_caller]
fn check(keys: &str) -> Check {
    let text = backend(&format!("{SERVER}check = {{ {keys} }}"));
    let config = parse(&text).unwrap_or_else(|report| panic!("{report}"));
    config.watches[0].check.clone().unwrap()
}

/// The report on a check with these keys.
#[track_caller]
fn refused(keys: &str) -> String {
    let text = backend(&format!("{SERVER}check = {{ {keys} }}"));
    parse(&text).expect_err(keys).to_string()
}

/// The TLS of a check with these keys.
#[track_caller]
fn tls(keys: &str) -> Option<Tls> {
    match check(keys).kind {
        Kind::Tls(tls, _) => Some(tls),
        Kind::Http(http) => http.tls,
        Kind::Postgres(login) | Kind::Mysql(login) | Kind::Redis(login) => login.tls,
        other => panic!("{other:?} has no TLS"),
    }
}

#[test]
fn how_much_of_a_certificate_is_verified() {
    for (keys, trust) in [
        ("kind = \"tls\"", Some(Trust::Name)),
        ("kind = \"tls\", verify = false, min_days = 14", Some(Trust::Anybody)),
        ("kind = \"tls\", ca = \"/ca.pem\", alpn = \"h2\"", Some(Trust::Name)),
        ("kind = \"http\"", None),
        ("kind = \"http\", tls = false", None),
        ("kind = \"http\", tls = true", Some(Trust::Name)),
        ("kind = \"postgres\", tls = \"off\"", None),
        ("kind = \"postgres\", tls = \"prefer\"", Some(Trust::Anybody)),
        ("kind = \"redis\", tls = \"require\", server_name = \"db.lan\"", Some(Trust::Anybody)),
        ("kind = \"postgres\", tls = \"require\", ca = \"/ca.pem\"", Some(Trust::Signer)),
        ("kind = \"mysql\", tls = \"require\", ca = \"/ca.pem\"", Some(Trust::Name)),
        (
            "kind = \"mysql\", tls = \"require\", ca = \"/ca.pem\", server_name = \"db.lan\"",
            Some(Trust::Name),
        ),
    ] {
        assert_eq!(tls(keys).map(|tls| tls.trust), trust, "{keys}");
    }
    assert!(tls("kind = \"mysql\", tls = \"require\"").unwrap().required);
    assert!(!tls("kind = \"mysql\", tls = \"prefer\"").unwrap().required);
}

#[test]
fn tls_keys_without_effect_are_refused() {
    for (keys, expected) in [
        ("kind = \"tls\", verify = false, ca = \"/ca.pem\"", "remove one of the two"),
        ("kind = \"tls\", server_name = \"no name\"", "db.example.org"),
        ("kind = \"tls\", alpn = []", "protocol names"),
        ("kind = \"tls\", ca = \"ca.pem\"", "starting with /"),
        ("kind = \"http\", ca = \"/ca.pem\"", "only valid with tls = true"),
        ("kind = \"http\", tls = \"require\"", "true or false"),
        ("kind = \"http\", min_days = 3", "min_days is a key of checks of kind tls"),
        ("kind = \"postgres\", server_name = \"db\"", "only valid with tls = \"require\""),
        ("kind = \"postgres\", tls = \"off\", ca = \"/ca.pem\"", "tls = \"require\""),
        ("kind = \"postgres\", tls = \"verify-full\"", "require"),
        ("kind = \"postgres\", tls = true", "check.tls of"),
        ("kind = \"redis\", tls = \"prefer\"", "no way to ask for TLS"),
        ("kind = \"tcp\", tls = \"require\"", "not valid for kind = \"tcp\""),
    ] {
        let report = refused(keys);
        assert!(report.contains(expected), "{keys}: {report}");
    }
}

#[test]
fn the_most_specific_address_of_a_check_counts() {
    for (keys, own, place) in [
        ("", "", "10.0.0.1:5432"),
        ("port = 80", "", "10.0.0.1:80"),
        ("address = \"10.0.0.9\"", "", "10.0.0.9:5432"),
        ("address = \"10.0.0.9\", port = 80", "", "10.0.0.9:80"),
        ("address = \"10.0.0.9:70\", port = 80", "", "10.0.0.9:70"),
        ("address = \"unix:/run/x\", port = 80", "", "unix:/run/x"),
        ("address = \"10.0.0.9:70\"", "10.0.0.8", "10.0.0.8:5432"),
        ("address = \"10.0.0.9:70\", port = 80", "10.0.0.8", "10.0.0.8:80"),
        ("port = 80", "10.0.0.8:60", "10.0.0.8:60"),
    ] {
        let own = if own.is_empty() { String::new() } else { format!(", check_address = {own:?}") };
        let text = backend(&format!(
            "server = [{{ address = \"10.0.0.2:1\" }}, {{ address = \"10.0.0.1:5432\"{own} }}]\n\
             check = {{ kind = \"tcp\", {keys} }}"
        ));
        let config = parse(&text).unwrap_or_else(|report| panic!("{report}"));
        let (watch, server) = (&config.watches[0], &config.snapshot.servers[1]);
        let check = watch.check.as_ref().unwrap();
        let found = check.place(server.address.as_ref().unwrap(), watch.addresses[1].as_ref());
        assert_eq!(found.to_string(), place, "{keys}{own}");
    }
    let report = refused("kind = \"tcp\", address = \"agent.lan\"");
    assert!(report.contains("a check needs an IP address, not a DNS name"), "{report}");
}

#[test]
fn check_address_without_check_is_refused() {
    let servers = "server = [
  { address = \"10.0.0.1:5432\" },
  { address = \"10.0.0.2:5432\", check_address = \"10.0.0.2:8008\" },
]";
    let report = parse(&backend(servers)).expect_err(servers).to_string();
    assert_eq!(report.matches("error:").count(), 1, "{report}");
    for part in ["server \"10.0.0.2:5432\"", "the backend has no check", "remove the key"] {
        assert!(report.contains(part), "{report}");
    }
    let unknown = format!("check = {{ kind = \"ping\" }}\n{servers}");
    let report = parse(&backend(&unknown)).expect_err(&unknown).to_string();
    assert!(!report.contains("has no check"), "an invalid check is still a check: {report}");
}
