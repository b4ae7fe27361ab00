//! What a check may say, and what each kind refuses.

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

/// What is said about a check with these keys.
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
        ("kind = \"mysql\", tls = \"require\", ca = \"/ca.pem\"", Some(Trust::Signer)),
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
fn what_is_said_of_tls_in_vain_is_refused() {
    for (keys, said) in [
        ("kind = \"tls\", verify = false, ca = \"/ca.pem\"", "remove one of the two"),
        ("kind = \"tls\", server_name = \"no name\"", "db.example.org"),
        ("kind = \"tls\", alpn = []", "names of protocols"),
        ("kind = \"tls\", ca = \"ca.pem\"", "beginning with /"),
        ("kind = \"http\", ca = \"/ca.pem\"", "it belongs to tls = true"),
        ("kind = \"http\", tls = \"require\"", "true or false"),
        ("kind = \"http\", min_days = 3", "min_days belongs to tls"),
        ("kind = \"postgres\", server_name = \"db\"", "it belongs to tls = \"require\""),
        ("kind = \"postgres\", tls = \"off\", ca = \"/ca.pem\"", "tls = \"require\""),
        ("kind = \"postgres\", tls = \"verify-full\"", "require"),
        ("kind = \"postgres\", tls = true", "tls of"),
        ("kind = \"redis\", tls = \"prefer\"", "can't be asked"),
        ("kind = \"tcp\", tls = \"require\"", "a check of kind tcp has no tls"),
    ] {
        let report = refused(keys);
        assert!(report.contains(said), "{keys}: {report}");
    }
}
