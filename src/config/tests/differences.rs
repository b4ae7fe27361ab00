//! What differs between two files: cases as files, and one difference for every single edit.
//!
//! Each folder below `differences/` has an `old.toml` and a `new.toml`, which give exactly the
//! lines in `lines.txt`. `UPDATE=1 cargo test -p ringlane --lib config::tests::differences`
//! rewrites them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use toml::{Table, Value};

use super::super::text::effect::Effect;
use super::super::text::keys::OnReload;
use super::super::text::schema::Section;
use super::super::{Alteration, Difference, ObjectKind, describe, diff};
use super::edits::{BASE, CHECKS, EDITS};
use super::{BACKEND, defaults, parse};

fn between(old: &str, new: &str) -> Vec<Difference> {
    let read = |text: &str| parse(text).unwrap_or_else(|report| panic!("{text}\n{report}"));
    diff(&read(old).objects, &read(new).objects)
}

#[test]
fn every_folder_gives_its_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/differences");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let case = entry.unwrap().path();
        let [old, new] =
            ["old.toml", "new.toml"].map(|n| fs::read_to_string(case.join(n)).unwrap());
        let differences = between(&old, &new);
        let json: Vec<String> = differences.iter().map(|one| one.json().to_string()).collect();
        let found = format!("{}\n{}\n", describe(&differences, |_| None), json.join("\n"));
        let lines = case.join("lines.txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&lines, &found).unwrap();
        }
        let expected = fs::read_to_string(&lines).unwrap_or_default();
        assert_eq!(expected, found, "{}: UPDATE=1 rewrites it", case.display());
        count += 1;
    }
    assert!(count >= 3, "{count} cases");
}

/// A text with one key set, or without it.
fn edited(base: &str, path: &str, value: Option<&str>) -> String {
    let mut root: Table = base.parse().unwrap();
    let (object, path) = path.split_once('.').unwrap();
    let mut table = match object {
        "global" => &mut root["global"],
        "server" => &mut root["backend"][0]["server"][0],
        _ => &mut root[object][0],
    };
    let (holders, key) = match path.rsplit_once('.') {
        Some((holders, key)) => (holders.split('.').collect(), key),
        None => (Vec::new(), path),
    };
    for holder in holders {
        let inner = table.as_table_mut().unwrap().entry(holder);
        table = inner.or_insert_with(|| Value::Table(Table::new()));
    }
    let table = table.as_table_mut().unwrap();
    match value {
        Some(value) => {
            let value = format!("{key} = {value}").parse::<Table>().unwrap().remove(key).unwrap();
            table.insert(key.to_owned(), value);
        }
        None => {
            table.remove(key);
        }
    }
    toml::to_string(&root).unwrap()
}

/// The one difference that an edit makes.
#[track_caller]
fn single(old: &str, new: &str) -> (String, Option<String>, Option<String>, Effect) {
    let found = between(old, new);
    let [Difference { change: Alteration::Changed { key, from, to }, effect, .. }] = &found[..]
    else {
        panic!("{found:#?}\n{new}")
    };
    (key.clone(), from.clone(), to.clone(), *effect)
}

#[test]
fn every_single_edit_is_one_difference() {
    let mut edits: Vec<(String, String, &str)> = Vec::new();
    for (path, value) in EDITS {
        edits.push((BASE.to_owned(), (*path).to_owned(), value));
    }
    for (check, keys) in CHECKS {
        let base = BASE.replace("kind = \"postgres\", password = { file = \"/a\" }", check);
        let base = base.replace("max_lag = \"10s\"\n", "");
        edits
            .extend(keys.iter().map(|(key, v)| (base.clone(), format!("backend.check.{key}"), *v)));
    }
    let mut removed = 0;
    for (base, path, value) in &edits {
        let new = edited(base, path, Some(value));
        let (key, from, to, _) = single(base, &new);
        let of_object = path.split_once('.').unwrap().1;
        assert!(of_object == key || of_object.starts_with(&format!("{key}.")), "{path}: {key}");
        if !key.ends_with("password") {
            assert!(from != to, "{path}: {from:?}");
        }
        assert_eq!(single(&new, base), (key, to, from, single(base, &new).3), "{path}, back");
        let without = edited(&new, path, None);
        if parse(&without).is_ok() {
            assert!(between(&new, &without).len() <= 1, "{path} removed");
            removed += 1;
        }
    }
    assert!(removed > 100, "{removed} keys could be removed");
}

#[test]
fn every_key_is_among_the_edits() {
    let edited: Vec<String> = EDITS.iter().map(|(path, value)| format!("{path} {value}")).collect();
    let in_checks = CHECKS.iter().flat_map(|(check, keys)| {
        keys.iter().map(move |(key, value)| format!("backend.check.{key} {check} {value}"))
    });
    let all = [edited, in_checks.collect()].concat().join("\n");
    let words: HashSet<&str> = all.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    // What has one value only, or is edited as a whole.
    let others = ["name", "include", "global", "frontend", "backend", "server", "mode", "alpn"];
    for section in Section::ALL {
        for key in section.keys() {
            let is_edited = words.contains(key.name) || others.contains(&key.name);
            assert!(is_edited, "{} of {section:?} is not among the edits", key.name);
        }
    }
}

#[test]
fn what_means_the_same_is_no_difference() {
    for (path, one, other) in [
        ("frontend.timeout.client", "\"60s\"", "\"1m\""),
        ("frontend.timeout.client", "\"1500ms\"", "\"1s500ms\""),
        ("frontend.timeout.idle", "\"1h\"", "\"60m\""),
        ("frontend.bind", "\"127.0.0.1:80\"", "[\"127.0.0.1:80\"]"),
        ("frontend.per_client.rate", "10", "10.0"),
        ("frontend.max_connections", "16", "0x10"),
        ("global.pin", "true", "true"),
        ("backend.bandwidth.per_session", "\"1Gbit\"", "\"1000Mbit\""),
        ("global.shutdown_delay", "\"0s\"", "\"0ms\""),
    ] {
        let [one, other] = [one, other].map(|value| edited(BASE, path, Some(value)));
        assert_eq!(between(&one, &other), [], "{path}");
    }
    for (path, default) in [
        ("global.pin", "true"),
        ("frontend.timeout.idle", "\"1h\""),
        ("frontend.timeout.client", "\"1h\""),
        ("server.slots", "1"),
        ("server.state", "\"ready\""),
        ("frontend.per_client.burst", "10"),
        ("backend.check.timeout", "\"2s\""),
        ("frontend.route", "[{ sni = \"x\", backend = \"pg\", role = \"any\" }]"),
        ("frontend.tcp", "{ keepalive = { idle = \"60s\" } }"),
    ] {
        assert_eq!(between(BASE, &edited(BASE, path, Some(default))), [], "{path}");
    }
    let head = "[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\nbackend = \"pg\"\n";
    let (one, other) = (format!("{head}{BACKEND}"), format!("{BACKEND}{head}"));
    assert_eq!(between(&one, &other), [], "the order of objects");
}

#[test]
fn another_order_of_servers_is_a_difference() {
    let server = |names: &[&str]| {
        let list: Vec<String> =
            names.iter().map(|n| format!("{{ name = {n:?}, address = \"10.0.0.1:1\" }}")).collect();
        super::backend(&format!("server = [{}]", list.join(", ")))
    };
    let (key, from, to, _) = single(&server(&["a", "b", "c"]), &server(&["c", "a", "b"]));
    assert_eq!(
        (key.as_str(), from.unwrap(), to.unwrap()),
        ("server", "a, b, c".into(), "c, a, b".into())
    );
    let found = between(&server(&["a", "b", "c"]), &server(&["new", "a", "c"]));
    assert_eq!(found.len(), 2, "one comes, one goes, the rest stays in order: {found:?}");
}

#[test]
fn servers_that_leave_do_what_the_backend_orders() {
    let file = |order: &str, server: &str| {
        let servers = format!("{{ address = \"10.0.0.1:1\" }}{server}");
        super::backend(&format!("{order}\nserver = [{servers}]"))
    };
    for (order, phrase) in [
        ("", "live sessions go on"),
        ("on_drain = \"drain\"", "live sessions end when idle"),
        ("on_drain = \"fence\"", "live sessions end at once"),
    ] {
        let old = file(order, ", { name = \"a/b\", address = \"10.0.0.2:1\" }");
        let found = between(&old, &file(order, ""));
        let kinds: Vec<_> = found.iter().map(|one| (one.kind, one.name.as_str())).collect();
        assert_eq!(kinds, [(ObjectKind::Server, "pg/a/b")]);
        assert_eq!(found[0].effect.phrase(), phrase);
        assert_eq!(between(&file(order, ""), &old)[0].effect, Effect::New);
    }
}

#[test]
fn a_password_that_changes_is_a_difference_that_shows_neither() {
    let file = |password: &str| {
        let check = format!("check = {{ kind = \"redis\", password = {password:?} }}");
        super::backend(&format!("{check}\nserver = [{{ address = \"10.0.0.1:1\" }}]"))
    };
    let found = between(&file("xyzzy1"), &file("xyzzy2"));
    assert_eq!(found.len(), 1);
    assert!(!format!("{found:?}{}", describe(&found, |_| None)).contains("xyzzy"));
    assert_eq!(between(&file("xyzzy1"), &file("xyzzy1")), []);
}

#[test]
fn every_changeable_key_has_an_effect_of_its_own_or_of_its_holder() {
    for section in Section::ALL {
        for key in section.keys().iter().filter(|key| key.on_reload == OnReload::AsHolder) {
            assert!(matches!(section, Section::Tcp | Section::Keepalive), "{}", key.name);
        }
    }
    let tcp = |object: &str| {
        single(BASE, &edited(BASE, &format!("{object}.tcp.user_timeout"), Some("\"9s\""))).3
    };
    assert_eq!((tcp("frontend"), tcp("backend")), (Effect::Listener, Effect::New));
    let driver = single(BASE, &edited(BASE, "global.driver", Some("\"epoll\""))).3;
    assert!(matches!(driver, Effect::Refused(why) if why.contains("restart")));
}

proptest! {
    #[test]
    fn edits_add_up(chosen in prop::collection::vec(0..EDITS.len(), 0..8)) {
        // Edits of different keys that do not touch one another.
        let mut seen = HashSet::new();
        let independent: Vec<_> = chosen
            .into_iter()
            .map(|index| EDITS[index])
            .filter(|(path, _)| {
                let parts: Vec<&str> = path.splitn(3, '.').collect();
                seen.insert(parts[..2].join("."))
            })
            .collect();
        let mut text = BASE.to_owned();
        for (path, value) in &independent {
            text = edited(&text, path, Some(value));
        }
        prop_assume!(parse(&text).is_ok());
        let found = between(BASE, &text);
        prop_assert_eq!(found.len(), independent.len(), "{:?}", found);
        prop_assert_eq!(between(&text, BASE).len(), independent.len());
        prop_assert_eq!(between(&text, &text), []);
        let shown = parse(&text).unwrap().to_toml();
        prop_assert!(parse(&shown).is_ok(), "{}\n{}", shown, parse(&shown).unwrap_err());
        prop_assert_eq!(without_passwords(between(&text, &shown)), []);
    }
}

#[test]
fn a_file_and_itself_do_not_differ_nor_do_files_that_show_themselves() {
    for text in defaults::files() {
        assert_eq!(between(&text, &text), []);
        let shown = parse(&text).unwrap().to_toml();
        assert_eq!(without_passwords(between(&text, &shown)), [], "{shown}");
    }
}

/// Passwords are masked, so a file that shows itself has others.
fn without_passwords(mut differences: Vec<Difference>) -> Vec<Difference> {
    differences.retain(|difference| {
        !matches!(&difference.change, Alteration::Changed { key, .. } if key == "check.password")
    });
    differences
}
