//! Texts that people write: the configuration, and in it addresses and durations.

use std::time::Duration;

use ringlane::config::{self, Config};
use ringlane_core::machine::Address;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Any bytes as a configuration file: refused with a reason, or consistent.
pub fn config(bytes: &[u8]) {
    if let Some(config) = read(bytes.to_vec()) {
        check(&config);
    }
}

/// Any text where an address stands: one that is accepted is printed as what it is.
pub fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let with = |bind: &str, address: &str| {
        let (bind, address) = (quoted(bind), quoted(address));
        read(file(&format!("bind = {bind}"), &format!("address = {address}")).into_bytes())
    };
    if let Some(config) = with(&text, "127.0.0.1:2") {
        check(&config);
        let bind = config.snapshot.frontends[0].bind[0].clone();
        let again = with(&bind.to_string(), "127.0.0.1:2");
        let again = again.expect("an address is printed as it is written");
        assert_eq!(again.snapshot.frontends[0].bind, [bind]);
    }
    if let Some(config) = with("127.0.0.1:1", &text) {
        check(&config);
    }
}

/// Any text where a duration stands.
pub fn duration(bytes: &[u8]) {
    let text = quoted(&String::from_utf8_lossy(bytes));
    let frontend = format!("bind = \"127.0.0.1:1\"\ntimeout = {{ connect = {text} }}");
    if let Some(config) = read(file(&frontend, "address = \"127.0.0.1:2\"").into_bytes()) {
        check(&config);
    }
}

/// Reads a configuration; a refusal must have something to say, in colours and without.
fn read(bytes: Vec<u8>) -> Option<Config> {
    match config::parse_bytes("fuzz.toml", bytes) {
        Ok(config) => Some(config),
        Err(report) => {
            assert!(report.errors() > 0);
            assert!(report.render(false).starts_with("error: "));
            assert!(!report.render(true).is_empty());
            None
        }
    }
}

/// What shards rely on without looking, and that the effective configuration is accepted again.
fn check(config: &Config) {
    let shown = config.to_toml();
    // Masked values need not be valid where they stand.
    if !shown.contains("\"***\"") {
        let again = config::parse("shown.toml", &shown).expect("the effective configuration");
        assert_eq!(config::diff(&config.objects, &again.objects), [], "{shown}");
    }
    let snapshot = &config.snapshot;
    assert!(!snapshot.frontends.is_empty());
    for frontend in &snapshot.frontends {
        assert!(!frontend.name.is_empty() && !frontend.bind.is_empty());
        assert!(!snapshot.servers_of(frontend.backend).is_empty());
        let timeout = frontend.timeout;
        for duration in [timeout.connect, timeout.client, timeout.server] {
            assert!(duration > Duration::ZERO && duration <= YEAR, "{duration:?}");
        }
    }
    let named: u32 = config.lookups.iter().map(|lookup| lookup.slots).sum();
    let absent = snapshot.servers.iter().filter(|server| server.address.is_none()).count();
    assert_eq!(absent, named as usize);
    for server in &snapshot.servers {
        assert!(!server.name.is_empty());
        assert!((server.backend.0 as usize) < snapshot.backends.len());
        assert!(!matches!(server.address, Some(Address::Inet(inet)) if inet.port() == 0));
    }
}

/// A configuration around lines of its frontend and of its server.
fn file(frontend: &str, server: &str) -> String {
    format!(
        "[[frontend]]\nname = \"f\"\nbackend = \"b\"\n{frontend}\n\
         [[backend]]\nname = \"b\"\n[[backend.server]]\n{server}\n"
    )
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' | '\u{0}'..='\u{1f}' | '\u{7f}' => format!("\\u{:04X}", u32::from(c)),
        _ => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
