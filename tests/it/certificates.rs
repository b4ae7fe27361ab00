//! Checks over TLS: which certificates pass, and what is said of those that don't.

use nix::sys::signal::Signal;

use crate::harness::balancer::{Setup, path_str};
use crate::harness::certificates::{Authority, show};
use crate::harness::checked::{checked, verdict};
use crate::harness::wait_until;

#[test]
fn a_certificate_passes_for_its_name_until_it_ends() {
    let authority = Authority::new();
    let ca = format!("ca = {:?}", path_str(&authority.certificate()));
    let good = authority.issue("good", "DNS:db.lan,DNS:www.lan", 20);
    let (address, _server) = show(&good, &["-alpn", "h2"]);
    for (keys, state, said) in [
        (format!("{ca}, server_name = \"db.lan\""), "up", "certificate expires in"),
        (format!("{ca}, server_name = \"db.lan\", min_days = 19"), "up", "TLS 1.3"),
        (format!("{ca}, server_name = \"db.lan\", min_days = 21"), "down", "days (minimum 21)"),
        (format!("{ca}, server_name = \"db.lan\", alpn = \"h2\""), "up", "TLS 1.3, h2"),
        (format!("{ca}, server_name = \"db.lan\", alpn = \"h9\""), "down", "protocol"),
        (format!("{ca}, server_name = \"db2.lan\""), "down", "not valid for db2.lan, only for"),
        (ca.clone(), "down", "not valid for 127.0.3."),
        ("server_name = \"db.lan\"".to_owned(), "down", "unknown issuer"),
        ("verify = false".to_owned(), "up", "certificate expires in"),
    ] {
        let (found, why) = verdict(address, &format!("kind = \"tls\", {keys}"));
        assert!(found == state && why.contains(said), "{keys}: {found}, {why}");
    }
}

#[test]
fn days_left_are_known_of_bad_certificates_too() {
    let authority = Authority::new();
    let ca = format!("ca = {:?}", path_str(&authority.certificate()));
    let expired = authority.issue("expired", "DNS:db.lan", -1);
    let (address, _server) = show(&expired, &[]);
    let keys = format!("kind = \"tls\", {ca}, server_name = \"db.lan\"");
    let ringlane = checked(address, &keys);
    assert_eq!(ringlane.server_field(0, "/state"), "down");
    let said = ringlane.server_field(0, "/check/said");
    assert!(said.as_str().unwrap().contains("expired"), "{said}");
    // It ended a day and a moment ago.
    let left = ringlane.server_field(0, "/certificate_days").as_i64().unwrap();
    assert!((-2..=-1).contains(&left), "{left}");
    let metric = "ringlane_server_certificate_expiry_seconds{backend=\"back\",server=\"s1\"}";
    let days = ringlane.metrics()[metric] / 86_400.0;
    assert!((-2.0..=-1.0).contains(&days), "{days}");
    ringlane.end();
}

#[test]
fn a_page_over_tls() {
    let authority = Authority::new();
    let good = authority.issue("good", "DNS:www.lan", 20);
    let (address, _server) = show(&good, &[]);
    let ca = path_str(&authority.certificate()).to_owned();
    let over = format!("tls = true, ca = {ca:?}, server_name = \"www.lan\"");
    for (keys, state, said) in [
        (format!("{over}, body = \"Ciphers supported\""), "up", "status 200"),
        (format!("{over}, body = \"is lost\""), "down", "not found in the body"),
        ("tls = true".to_owned(), "down", "unknown issuer"),
    ] {
        let (found, why) = verdict(address, &format!("kind = \"http\", {keys}"));
        assert!(found == state && why.contains(said), "{keys}: {found}, {why}");
    }
}

#[test]
fn a_server_that_hangs_falls_and_rises_again() {
    let authority = Authority::new();
    let (address, server) = show(&authority.issue("good", "DNS:db.lan", 20), &[]);
    let check = "check = { kind = \"tls\", verify = false, interval = \"50ms\", \
                 timeout = \"500ms\", rise = 2, fall = 2 }";
    let ringlane = Setup::to(&[address]).backend(check).start();
    wait_until("the first check", || ringlane.server_field(0, "/check")["ok"] == true);
    server.signal(Signal::SIGSTOP);
    wait_until("the fall", || ringlane.server_field(0, "/state") == "down");
    assert_eq!(ringlane.server_field(0, "/changes/0/reason"), "no answer within 500ms");
    server.signal(Signal::SIGCONT);
    wait_until("the rise", || ringlane.server_field(0, "/state") == "up");
    ringlane.end();
}
