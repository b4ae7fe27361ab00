//! Configuration files of other programs: one error instead of one per line.
//!
//! Most of them are no valid TOML; those that are (Traefik) have tables that Ringlane has not. Not
//! here: single words of other balancers (`synonyms`).

use super::report::{Diagnostic, quoted};

/// Lines that are examined.
const LINES_MAX: usize = 2000;

/// The diagnostic for a file of another program. `is_toml`: it is valid TOML, as few of them are.
pub(in crate::config) fn recognise(name: &str, text: &str, is_toml: bool) -> Option<Diagnostic> {
    let whose = if is_toml { whose_toml(text)? } else { whose(text)? };
    let title =
        format!("{} is a configuration of {whose}, which Ringlane can't read", quoted(name));
    Some(Diagnostic::whole(title).hint(
        "Ringlane is configured in TOML: examples/tcp.toml is a complete file, \
         docs/configuration.md has every key, docs/migrating.md translates from HAProxy and nginx",
    ))
}

/// Said instead of a program.
const PEM: &str = "no program but a certificate or key";

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().take(LINES_MAX).map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a line is one of ours, even if it has errors: a table of ours, or a key with a value
/// that could be TOML. `location = /50x.html {` is neither.
fn is_ours(line: &str) -> bool {
    const TABLES: [&str; 3] = ["[[frontend", "[[backend", "[global"];
    let has_value = |(key, value): (&str, &str)| {
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.\"".contains(&byte);
        let value = value.trim_start();
        let begins = value.starts_with(|c: char| "\"'[{+-".contains(c) || c.is_ascii_digit());
        key.trim_end().bytes().all(is_key) && (begins || value == "true" || value == "false")
    };
    TABLES.iter().any(|table| line.starts_with(table))
        || line.split_once('=').is_some_and(has_value)
}

/// Programs whose files may be valid TOML.
fn whose_toml(text: &str) -> Option<&'static str> {
    let starts = |words: &[&str]| lines(text).any(|line| words.iter().any(|w| line.starts_with(w)));
    if starts(&["[[frontend", "[[backend", "[global"]) {
        return None;
    }
    let traefik = ["[entryPoints", "[providers", "[http.routers", "[http.services"];
    if starts(&traefik) || starts(&["[tcp.routers", "[tcp.services", "[certificatesResolvers"]) {
        return Some("Traefik");
    }
    starts(&["backend_hostname"]).then_some("Pgpool-II")
}

fn whose(text: &str) -> Option<&'static str> {
    let lines = || lines(text);
    let is = |names: &[&str]| lines().any(|line| names.contains(&line));
    if is(&["[databases]", "[pgbouncer]"]) {
        return Some("PgBouncer");
    }
    if is(&["[Unit]", "[Service]", "[Install]"]) {
        return Some("systemd");
    }
    if let Some(toml) = whose_toml(text) {
        return Some(toml);
    }
    if lines().any(is_ours) {
        return None;
    }
    if lines().next().is_some_and(|line| line.starts_with("-----BEGIN ")) {
        return Some(PEM);
    }
    if let Some(braces) = with_braces(text) {
        return Some(braces);
    }
    let section = |line: &str, names: &[&str]| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|first| names.contains(&first)) && words.count() <= 1
    };
    if lines().any(|line| section(line, &["global", "defaults", "frontend", "backend", "listen"])) {
        return Some("HAProxy");
    }
    let starts =
        |words: &[&str]| lines().any(|line| words.iter().any(|word| line.starts_with(word)));
    if starts(&["static_resources:", "dynamic_resources:"]) {
        return Some("Envoy");
    }
    if starts(&["entryPoints:", "providers:"]) {
        return Some("Traefik");
    }
    if starts(&["apiVersion:"]) {
        return Some("Kubernetes");
    }
    match lines().next()? {
        line if line.starts_with('{') => Some("another program in JSON"),
        "---" => Some("another program in YAML"),
        _ => None,
    }
}

/// Programs whose files have blocks in braces.
fn with_braces(text: &str) -> Option<&'static str> {
    let opens = |line: &str| {
        let word = line.strip_suffix('{').and_then(|start| start.split_whitespace().next());
        matches!(word, Some("http" | "stream" | "events" | "upstream" | "server" | "mail"))
    };
    if lines(text).any(opens) && lines(text).any(|line| line.ends_with(';')) {
        return Some("nginx");
    }
    let starts = |words: &[&str]| lines(text).any(|line| words.iter().any(|w| line.starts_with(w)));
    if starts(&["global_defs", "vrrp_instance", "virtual_server"]) {
        return Some("keepalived");
    }
    let has_block = lines(text).any(|line| line.ends_with('{'));
    (has_block && starts(&["reverse_proxy", "file_server", "php_fastcgi", "respond ", "encode "]))
        .then_some("Caddy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_programs_are_recognised() {
        for (text, expected) in [
            (
                "# x\nglobal\n    daemon\n    maxconn 256\n\nfrontend web\n  bind *:80\n",
                Some("HAProxy"),
            ),
            ("listen stats\n\tbind :9000\n", Some("HAProxy")),
            ("worker_processes auto;\nevents {\n}\nstream {\n  upstream a {\n", Some("nginx")),
            ("vrrp_instance VI_1 {\n  state MASTER\n}\n", Some("keepalived")),
            ("static_resources:\n  listeners:\n", Some("Envoy")),
            ("entryPoints:\n  web:\n", Some("Traefik")),
            ("{\n  \"a\": 1\n}\n", Some("another program in JSON")),
            (
                "worker_processes 1;\nhttp {\n  server {\n    location = /50x.html {\n    }\n",
                Some("nginx"),
            ),
            (
                "frontend web\n  bind *:80\n  http-request set-var(txn.a) path = /x\n",
                Some("HAProxy"),
            ),
            ("defaults\n  errorfile x = y\n", Some("HAProxy")),
            ("example.org {\n  reverse_proxy 10.0.0.1:80\n}\n", Some("Caddy")),
            ("[entryPoints]\n  [entryPoints.web]\n    address = \":80\"\n", Some("Traefik")),
            ("{ \"static_resources\": { \"listeners\": [] } }", Some("another program in JSON")),
            ("[Unit]\nDescription=x\n\n[Service]\nExecStart=/bin/x\n", Some("systemd")),
            ("-----BEGIN CERTIFICATE-----\nMIIB\n", Some(PEM)),
            ("backend_hostname0 = 'host1'\nload_balance_mode = on\n", Some("Pgpool-II")),
            ("name = \"a\"\nbind = 0.0.0.0:80\nbackend\n", None),
            ("[databases]\n* = host=10.0.0.1\n", Some("PgBouncer")),
            ("[[frontend]\nname = front\n", None),
            ("global\n[[frontend]]\nname = \"a\"\n", None),
            ("", None),
        ] {
            assert_eq!(whose(text), expected, "{text}");
        }
    }

    #[test]
    fn valid_toml_of_other_programs_is_recognised_too() {
        let traefik = "[entryPoints.web]\naddress = \":80\"\n[providers.file]\nfilename = \"x\"\n";
        assert_eq!(whose_toml(traefik), Some("Traefik"));
        assert_eq!(whose_toml(&format!("{traefik}[[frontend]]\nname = \"a\"\n")), None);
        assert_eq!(whose_toml("[global]\nshards = 2\n"), None);
        assert!(recognise("traefik.toml", traefik, true).is_some());
        assert!(recognise("nginx.conf", "http {\n  server {\n  x;\n", true).is_none());
    }
}
