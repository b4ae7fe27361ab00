//! Configuration files of other programs: one error instead of one per line.
//!
//! Used only if the text is not valid TOML. Not here: single words of other balancers (`synonyms`).
//! (`synonyms`).

use super::report::{Diagnostic, quoted};

/// Lines that are examined.
const LINES_MAX: usize = 2000;

/// The diagnostic for a file of another program.
pub(in crate::config) fn recognise(name: &str, text: &str) -> Option<Diagnostic> {
    let whose = whose(text)?;
    let title =
        format!("{} is a configuration of {whose}, which Ringlane can't read", quoted(name));
    Some(Diagnostic::whole(title).hint(
        "Ringlane is configured in TOML: examples/tcp.toml is a complete file, \
         docs/configuration.md has every key, docs/migrating.md translates from HAProxy and nginx",
    ))
}

fn whose(text: &str) -> Option<&'static str> {
    let lines = || {
        let lines = text.lines().take(LINES_MAX).map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    // A table or a key of ours: TOML with errors.
    let is_ours = |line: &str| line.starts_with('[') || line.contains(" = ");
    if lines().any(is_ours) {
        return lines().next().filter(|line| *line == "[databases]").map(|_| "PgBouncer");
    }
    let opens = |line: &str| {
        let word = line.strip_suffix('{').and_then(|start| start.split_whitespace().next());
        matches!(word, Some("http" | "stream" | "events" | "upstream" | "server" | "mail"))
    };
    if lines().any(opens) && lines().any(|line| line.ends_with(';')) {
        return Some("nginx");
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
    if starts(&["global_defs", "vrrp_instance", "virtual_server"]) {
        return Some("keepalived");
    }
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
        "{" | "{}" => Some("another program in JSON"),
        "---" => Some("another program in YAML"),
        _ => None,
    }
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
            ("[databases]\n* = host=10.0.0.1\n", Some("PgBouncer")),
            ("[[frontend]\nname = front\n", None),
            ("global\n[[frontend]]\nname = \"a\"\n", None),
            ("", None),
        ] {
            assert_eq!(whose(text), expected, "{text}");
        }
    }
}
