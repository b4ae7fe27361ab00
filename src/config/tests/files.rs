//! Configurations of several files and with variables: each folder below `files/` has a `main.toml`
//! that gives exactly the report in its `report.txt`.
//!
//! `UPDATE=1 cargo test -p ringlane --lib config::tests::files` rewrites the reports. The variables
//! are those of `environment`, never those of the process.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::super::include::{DEPTH_MAX, FILES_MAX, Input};
use super::super::{Config, Report, check, load, load_again, load_text};
use super::{BACKEND, frontend};

/// Least number of cases.
const CASES_MIN: usize = 11;

/// A value that no report may show.
const SECRET: &str = "xyzzy";

fn environment(name: &str) -> Option<OsString> {
    Some(match name {
        "FOLDER" => "conf.d".into(),
        "SHARDS" | "WEIGHT" => "3".into(),
        "YES" => "true".into(),
        "SECONDS" | "PORT" | "DSCP" => "15".into(),
        "NAME" => "pg".into(),
        "RATE" => "2.5".into(),
        "SHARE" => "0.25".into(),
        "ZERO" => "0".into(),
        "SECRET" => SECRET.into(),
        "BYTES" => OsString::from_vec(vec![0xff]),
        _ => return None,
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests/files")
}

fn read(case: &str) -> Result<Config, Report> {
    check(Input::File(&folder().join(case).join("main.toml")), &environment)
}

/// What is reported about a folder, with paths from there.
fn report(case: &str) -> String {
    let outcome = read(case);
    let files = outcome.as_ref().map(|config| config.sources.paths().count()).unwrap_or_default();
    let report = outcome.map_or_else(|report| report, |config| config.warnings);
    let (errors, warnings) = (report.errors(), report.warnings());
    let text = format!("{report}\n\n{errors} errors, {warnings} warnings, {files} files\n");
    let lines: Vec<String> = text
        .replace(&format!("{}/{case}/", folder().display()), "")
        .replace(&folder().join(case).display().to_string(), "its directory")
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

#[test]
fn every_folder_gives_its_report() {
    let mut cases: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    cases.sort();
    let mut failures = Vec::new();
    for case in &cases {
        let (found, file) = (report(case), folder().join(case).join("report.txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(file).unwrap_or_default();
        if expected != found {
            failures.push(format!("{case}, expected:\n{expected}\nfound:\n{found}"));
        }
        assert!(!found.contains(SECRET), "{case} shows a secret:\n{found}");
    }
    assert!(failures.is_empty(), "UPDATE=1 rewrites the reports\n\n{}", failures.join("\n"));
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
}

#[test]
fn objects_of_all_files_are_in_one_configuration() {
    let config = read("accepted").unwrap();
    let names: Vec<&str> = config.sources.texts().map(|(name, _)| name).collect();
    let expected = ["main.toml", "conf.d/10-front.toml", "conf.d/20-back.toml", "extra.toml"];
    assert_eq!(names.len(), expected.len());
    assert!(names.iter().zip(expected).all(|(name, end)| name.ends_with(end)), "{names:?}");
    assert_eq!(config.snapshot.servers.len(), 1, "a file that two patterns match is read once");
    assert_eq!(config.global.drain_timeout.as_secs(), 5);
}

#[test]
fn variables_stand_for_numbers_and_booleans_too() {
    let config = read("variables").unwrap();
    let (global, snapshot) = (&config.global, &config.snapshot);
    assert_eq!(global.shards, super::super::ShardCount::Count(3));
    assert_eq!((global.pin, global.max_connections), (true, Some(1000)));
    assert_eq!(global.drain_timeout.as_secs(), 15);
    let bind: Vec<String> = snapshot.frontends[0].bind.iter().map(ToString::to_string).collect();
    assert_eq!(bind, ["127.0.0.1:15", "127.0.0.2:15"]);
    let rate = snapshot.frontends[0].per_client.as_ref().unwrap().rate.unwrap();
    assert_eq!(rate.per_100_seconds, 250);
    assert_eq!(snapshot.backends[0].tcp.dscp, Some(15));
    assert_eq!(snapshot.backends[0].mirror.as_ref().unwrap().per_million, 250_000);
    assert_eq!(snapshot.servers[0].weight, 3);
    assert_eq!(snapshot.servers[0].address.as_ref().unwrap().to_string(), "10.0.0.1:5432");
}

#[test]
fn a_text_includes_nothing_and_one_in_place_of_a_file_what_the_file_would() {
    let text = format!("include = \"extra.toml\"\n{}", frontend(""));
    let error = super::parse(&text).unwrap_err().to_string();
    assert!(error.contains("include works only in a file on disk"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("extra.toml"), "[global]\nshards = 3\n").unwrap();
    let config = load_text(&dir.path().join("main.toml"), &text).unwrap();
    assert_eq!(config.global.shards, super::super::ShardCount::Count(3));
    assert_eq!(config.sources.paths().count(), 2);
}

#[test]
fn texts_that_were_read_once_are_read_again_without_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("main.toml");
    fs::write(&main, format!("include = \"*.inc\"\n{}", frontend(""))).unwrap();
    fs::write(dir.path().join("a.inc"), "[global]\nshards = 3\n").unwrap();
    let first = load(&main).unwrap();
    fs::write(&main, "broken = ").unwrap();
    fs::remove_file(dir.path().join("a.inc")).unwrap();
    let again = load_again(&first.sources).unwrap();
    assert_eq!(again.global, first.global);
    assert!(first.sources.texts().eq(again.sources.texts()));
    assert!(first.sources.paths().eq(again.sources.paths()));
}

#[test]
fn a_configuration_can_be_read_on_another_thread() {
    const fn is_send<T: Send>() {}
    const { is_send::<Result<Config, Report>>() };
    let read = || super::parse(&frontend("")).map(|config| config.snapshot.frontends.len());
    assert_eq!(std::thread::spawn(read).join().unwrap().unwrap(), 1);
}

#[test]
fn files_are_bounded_in_number_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("main.toml");
    fs::write(&main, format!("include = \"*.inc\"\n{}", frontend(""))).unwrap();
    for n in 1..FILES_MAX {
        fs::write(dir.path().join(format!("{n}.inc")), "").unwrap();
    }
    assert_eq!(load(&main).unwrap().sources.texts().count(), FILES_MAX);
    fs::write(dir.path().join("more.inc"), "").unwrap();
    let error = load(&main).unwrap_err().to_string();
    assert!(error.contains("at most 1000 files"), "{error}");
    fs::remove_file(dir.path().join("more.inc")).unwrap();
    fs::write(dir.path().join("1.inc"), "#".repeat(5 << 20)).unwrap();
    let error = load(&main).unwrap_err().to_string();
    assert!(error.contains("1.inc") && error.contains("larger than 4 MiB"), "{error}");
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("main.toml");
    nix::unistd::mkfifo(&dir.path().join("a.inc"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(&main, format!("include = \"a.inc\"\n{}", frontend(""))).unwrap();
    let error = load(&main).unwrap_err().to_string();
    assert!(error.contains("it is not a regular file"), "{error}");
}

#[test]
fn includes_are_followed_to_the_documented_depth() {
    let dir = tempfile::tempdir().unwrap();
    for depth in 0..DEPTH_MAX {
        let text = format!("include = \"{}.toml\"\n", depth + 1);
        let own = if depth == 0 { frontend("").replace(BACKEND, "") } else { String::new() };
        fs::write(dir.path().join(format!("{depth}.toml")), text + &own).unwrap();
    }
    fs::write(dir.path().join(format!("{DEPTH_MAX}.toml")), BACKEND).unwrap();
    assert_eq!(load(&dir.path().join("0.toml")).unwrap().sources.texts().count(), DEPTH_MAX + 1);
}
