//! Likely mistakes: one warning or error each, where it is, and no second one that is false.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::super::load;
use super::{backend, frontend, parse};

const SERVER: &str = "server = [{ name = \"s\", address = \"10.0.0.1:5432\" }]\n";

/// The lines of the report on a text.
fn lines(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(config) => config.warnings.lines().collect(),
        Err(report) => report.lines().collect(),
    }
}

/// There is one line, and it says this.
#[track_caller]
fn one(text: &str, expected: &str) {
    let lines = lines(text);
    assert!(lines.len() == 1 && lines[0].contains(expected), "{text}: {lines:#?}");
}

#[test]
fn a_check_with_a_mistake_gives_one_report() {
    for (keys, expected) in [
        ("kind = \"http\", path = \"/a b\"", "error: test.toml:8: check.path of"),
        ("kind = \"http\", path = \"health\"", "does not start with /"),
        ("kind = \"http\", method = \"get\"", "write \"GET\""),
        ("kind = \"http\", method = \"HEAD\", body = \"x\"", "HEAD has no body"),
        ("kind = \"http\", method = \"HEAD\", body_regex = \"x\"", "HEAD has no body"),
        ("kind = \"http\", status = \"2xx\"", "\"2xx\" is not a status code"),
        ("kind = \"exec\", command = []", "has no command"),
        ("kind = \"exec\", command = [\"/bin/true\", 5]", "must be a string"),
        ("kind = \"exec\", command = [\"\"]", "no program"),
        ("kind = \"tcp\", steps = [{ expect = \"\" }]", "must not be empty"),
        ("kind = \"tcp\", steps = [{ expect_hex = \"\" }]", "must not be empty"),
        ("kind = \"tcp\", steps = [{ expect_hex = \"0\" }]", "pairs of hex digits"),
    ] {
        one(&backend(&format!("{SERVER}check = {{ {keys} }}")), expected);
    }
    for keys in [
        "method = \"OPTIONS\", path = \"*\"",
        "path = \"http://a.lan/health\"",
        "method = \"HEAD\", path = \"/\"",
    ] {
        let text = backend(&format!("{SERVER}check = {{ kind = \"http\", {keys} }}"));
        assert_eq!(lines(&text), [""; 0]);
    }
}

#[test]
fn a_mirror_at_a_server_of_its_backend_is_warned_of() {
    let with = |server: &str, mirror: &str| {
        backend(&format!(
            "server = [{{ name = \"s\", address = {server:?} }}]\n\
             mirror = {{ server = {mirror:?} }}"
        ))
    };
    for (server, mirror) in [
        ("10.0.0.1:5432", "10.0.0.1:5432"),
        ("10.0.0.1:5432", "[::ffff:10.0.0.1]:5432"),
        ("localhost:5432", "127.0.0.1:5432"),
        ("unix:/run/a.sock", "unix:/run//a.sock"),
    ] {
        one(&with(server, mirror), "gets every mirrored session twice");
    }
    assert_eq!(lines(&with("10.0.0.1:5432", "10.0.0.1:5433")), [""; 0]);
}

#[test]
fn routes_that_no_session_reaches_are_warned_of() {
    let routes = |routes: &[&str]| {
        let entries: Vec<String> =
            routes.iter().map(|route| format!("{{ {route}, backend = \"pg\" }}")).collect();
        frontend(&format!("protocol = \"tls\"\nroute = [{}]", entries.join(", ")))
    };
    let never = "can never be used";
    for case in [
        ["sni = \"a.lan\"", "sni = \"a.lan\""],
        ["sni = \"a.lan\"", "sni = \"A.lan\", alpn = \"h2\""],
        ["sni = \"*.lan\"", "sni = \"a.lan\""],
        ["sni = \"*.lan\"", "sni = \"*.b.lan\""],
        ["alpn = [\"h2\", \"h3\"]", "alpn = \"h3\""],
    ] {
        one(&routes(&case), never);
    }
    one(&routes(&["sni = [\"a.lan\", \"b.lan\"]", "sni = [\"c.lan\", \"b.lan\"]"]), "b.lan");
    for case in [
        ["sni = \"a.lan\"", "sni = \"*.lan\""],
        ["sni = \"a.lan\", alpn = \"h2\"", "sni = \"a.lan\""],
        ["alpn = \"h2\"", "alpn = [\"h2\", \"h3\"]"],
        ["sni = \"*.b.lan\"", "sni = \"b.lan\""],
    ] {
        assert_eq!(lines(&routes(&case)), [""; 0], "{case:?}");
    }
}

#[test]
fn very_many_routes_are_read_in_no_time() {
    let all: String =
        (0..30_000).map(|n| format!("{{ sni = \"{n}.lan\", backend = \"pg\" }},")).collect();
    assert!(parse(&frontend(&format!("protocol = \"tls\"\nroute = [{all}]"))).is_ok());
}

/// The report on a file that is on this host.
fn on_disk(dir: &TempDir, text: &str) -> Vec<String> {
    let file = dir.path().join("ringlane.toml");
    fs::write(&file, text).unwrap();
    match load(&file) {
        Ok(config) => config.warnings.lines().collect(),
        Err(report) => report.lines().collect(),
    }
}

#[test]
fn loops_through_unix_sockets_are_found_however_they_are_spelt() {
    let dir = TempDir::new().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, dir.path().join("link")).unwrap();
    symlink(real.join("a.sock"), real.join("alias.sock")).unwrap();
    let dir_text = dir.path().display().to_string();
    for server in
        ["real/a.sock", "real//a.sock", "real/../real/./a.sock", "link/a.sock", "link/alias.sock"]
    {
        let text = format!(
            "[[frontend]]\nname = \"a\"\nbind = \"unix:{dir_text}/real/a.sock\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nserver = [{{ address = \"unix:{dir_text}/{server}\" }}]\n"
        );
        let lines = on_disk(&dir, &text);
        assert!(lines.iter().any(|line| line.contains("loop back")), "{server}: {lines:#?}");
    }
}

#[test]
fn programs_are_looked_for_in_the_search_path() {
    let dir = TempDir::new().unwrap();
    let report = |program: &str| {
        let check = format!("{SERVER}check = {{ kind = \"exec\", command = [{program:?}] }}");
        on_disk(&dir, &backend(&check))
    };
    assert_eq!(report("true"), [""; 0]);
    assert_eq!(report("/bin/true"), [""; 0]);
    let lines = report("no-such-program-of-ringlane");
    assert!(lines.len() == 1 && lines[0].contains("not in the search path"), "{lines:#?}");
}
