//! The effective configuration is the one that is in force: read again, it gives the same settings.
//!
//! So every default that `show` and `diff` know is the one that the readers have.

use std::fs;
use std::path::Path;

use toml::Table;

use super::super::text::keys::{Key, OnReload};
use super::super::text::schema::Section;
use super::super::{Config, Input, check};
use super::{backend, frontend, global, parse};

/// Everything that the rest of the program gets.
fn settings(config: &Config) -> String {
    let Config { global, snapshot, watches, lookups, .. } = config;
    format!("{global:#?}\n{snapshot:#?}\n{watches:#?}\n{lookups:#?}").replace("***", "secret")
}

/// Checks that the shown configuration has the same settings.
#[track_caller]
fn shows_itself(text: &str) -> Config {
    let config = parse(text).unwrap_or_else(|report| panic!("{text}\n{report}"));
    let shown = config.to_toml();
    let again = parse(&shown).unwrap_or_else(|report| panic!("{shown}\n{report}"));
    let (before, after) = (settings(&config), settings(&again));
    let differs = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    assert_eq!(before, after, "{differs:?} in\n{shown}");
    assert_eq!(again.to_toml(), shown, "it shows itself");
    config
}

/// Files with as many kinds of table as there are.
pub(super) fn files() -> Vec<String> {
    let servers = "server = [{ address = \"10.0.0.1:5432\" }, { name = \"b\", address = \
                   \"10.0.0.2:5432\", max_connections = 5 }]";
    let in_backend = |lines: &str| backend(&format!("{lines}\n{servers}"));
    let check = |keys: &str| in_backend(&format!("check = {{ {keys} }}"));
    let mut files = vec![
        frontend(""),
        global("admin = { tokens = [{ name = \"a\", secret = { env = \"A\" } }] }"),
        global("access_log = {}\nadmin = { http = \"127.0.0.1:9000\" }"),
        frontend("timeout = { idle = \"5m\", connect = \"1s\" }\nper_client = { rate = 2.5 }"),
        frontend("per_client = { max_connections = 3 }\naccept_proxy = true\ntcp = { mark = 7 }"),
        frontend("accept_proxy = { trusted = [\"10.0.0.0/8\"] }\ntcp = { keepalive = true }"),
        frontend("protocol = \"tls\"\nroute = [{ sni = \"a.b\", backend = \"pg\" }]"),
        frontend("protocol = \"postgres\"\nno_sni = \"reject\""),
        frontend("protocol = \"redis\"\ntcp = { keepalive = { idle = \"60s\" } }"),
        in_backend("balance = \"maglev\"\naffinity = {}\nmirror = { server = \"10.0.0.9:1\" }"),
        in_backend("outlier = {}\nqueue = {}\nsend_proxy = \"v2\"\nrace_after = \"p95\""),
        in_backend("on_drain = \"drain\"\nbandwidth = { per_session = \"10Mbit\" }"),
        backend(
            "server = [{ address = \"srv:_a._tcp.example\" }, { address = \"a.example:5\" }, { \
             address = \"b.example:5\", slots = 3 }]",
        ),
        check("kind = \"tcp\", interval = \"20s\""),
        check("kind = \"tcp\", steps = [{ send = \"$${a}\\n\" }, { expect = \"+\" }]"),
        check("kind = \"http\""),
        check("kind = \"http\", tls = true"),
        check("kind = \"tls\", min_days = 14"),
        check("kind = \"postgres\", password = { env = \"A\" }"),
        check("kind = \"mysql\", password = \"secret\", tls = \"prefer\""),
        check("kind = \"exec\", command = [\"/bin/true\", \"a b\"]"),
        check("kind = \"agent\""),
        in_backend("check = { kind = \"redis\" }\nmax_lag = 500\non_lag = \"drain\""),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some("toml".as_ref()) {
            files.push(fs::read_to_string(path).unwrap());
        }
    }
    files.push(super::accepted::EVERYTHING.to_owned());
    files
}

#[test]
fn the_effective_configuration_has_the_same_settings() {
    for text in files() {
        shows_itself(&text);
    }
}

#[test]
fn passwords_are_never_shown() {
    let text = backend(
        "server = [{ address = \"10.0.0.1:5432\" }]\ncheck = { kind = \"mysql\", password = \
         \"xyzzy\" }\n[[backend]]\nname = \"b\"\nserver = [{ address = \"10.0.0.1:5432\" }]\ncheck \
         = { kind = \"tcp\", steps = [{ send = \"AUTH ${SECRET}\" }] }",
    );
    let environment = |name: &str| (name == "SECRET").then(|| "xyzzy".into());
    let config = check(Input::Text("test.toml", &text), &environment).unwrap();
    let shown = config.to_toml();
    assert!(!format!("{shown}{}{config:?}", config.to_json()).contains("xyzzy"));
    assert_eq!(shown.matches("\"***\"").count(), 2, "{shown}");
}

#[test]
fn a_default_says_nothing_about_what_changes_at_a_reload() {
    // An identity can't change, and only tables without a meaning of their own are containers.
    for section in Section::ALL {
        for Key { name, on_reload, example } in section.keys() {
            match on_reload {
                OnReload::Identity => assert_eq!(*name, "name", "{example}"),
                OnReload::Container => assert!(section.inner(name).is_some() || *name == "include"),
                OnReload::AsHolder | OnReload::Has(_) => {}
            }
        }
    }
}

#[test]
fn json_has_the_keys_of_the_file() {
    let page = parse(&frontend("max_connections = 5")).unwrap().to_json();
    assert_eq!(page["frontend"][0]["max_connections"], 5);
    assert_eq!(page["frontend"][0]["timeout"]["client"], "1h");
    assert_eq!(page["backend"][0]["server"][0]["name"], "10.0.0.1:5432");
    assert_eq!(page["global"]["pin"], true);
    let table: Table = parse(&frontend("")).unwrap().to_toml().parse().unwrap();
    assert_eq!(table["frontend"][0]["mode"].as_str(), Some("tcp"));
}
