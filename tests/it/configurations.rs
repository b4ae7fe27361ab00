//! Configurations of several files and with variables, and what `ringlane config` says about them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::balancer::{Setup, path_str};
use crate::harness::client::{connect, greeting};
use crate::harness::echo::Echo;

fn ringlane(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringlane")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file with one frontend, one backend and these lines of `[global]`.
fn file(folder: &Path, name: &str, global: &str, server: &str) -> PathBuf {
    let path = folder.join(name);
    let frontend = "[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\nbackend = \"b\"\n";
    let backend = format!("[[backend]]\nname = \"b\"\nserver = [{{ address = \"{server}\" }}]\n");
    fs::write(&path, format!("[global]\n{global}\n{frontend}{backend}")).unwrap();
    path
}

#[test]
fn a_backend_of_an_included_file_serves_at_an_address_from_a_variable() {
    let server = Echo::greeting('i');
    let setup = Setup::of(
        "[[frontend]]\nname = \"front\"\nbind = \"${BIND}:${PORT:-0}\"\nbackend = \"b\"\n",
    )
    .include("conf.d/*.toml")
    .environment("BIND", "127.0.0.1")
    .environment("ADDRESS", &server.address.to_string())
    .environment("WEIGHT", "7");
    fs::create_dir(setup.path("conf.d")).unwrap();
    let backend = "[[backend]]\nname = \"b\"\nserver = [{ address = \"${ADDRESS}\", weight = \
                   \"${WEIGHT}\" }]\n";
    fs::write(setup.path("conf.d/b.toml"), backend).unwrap();
    let ringlane = setup.start();
    assert_eq!(greeting(&mut connect(ringlane.address())).unwrap(), 'i');
    assert_eq!(ringlane.server_field(0, "/weight"), 7);
    ringlane.end();
}

#[test]
fn a_start_with_an_unset_variable_is_refused_with_file_and_line() {
    let setup = Setup::of("[[frontend]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\nbackend = \"b\"\n")
        .include("conf.d/*.toml");
    fs::create_dir(setup.path("conf.d")).unwrap();
    let backend = "[[backend]]\nname = \"b\"\nserver = [{ address = \"${RINGLANE_UNSET}:80\" }]\n";
    fs::write(setup.path("conf.d/b.toml"), backend).unwrap();
    let said = setup.refused();
    assert!(said.contains("conf.d/b.toml:3:"), "{said}");
    assert!(said.contains("environment variable RINGLANE_UNSET is not set"), "{said}");
}

#[test]
fn the_exit_code_of_a_comparison_says_whether_files_differ() {
    let dir = TempDir::with_prefix("ringlane-it-").unwrap();
    let old = file(dir.path(), "old.toml", "", "127.0.0.1:1");
    let same = file(dir.path(), "same.toml", "pin = true", "127.0.0.1:1");
    let other = file(dir.path(), "other.toml", "", "127.0.0.1:2");
    let refused = file(dir.path(), "refused.toml", "driver = \"epoll\"", "127.0.0.1:1");
    let broken = file(dir.path(), "broken.toml", "pim = true", "127.0.0.1:1");
    for (new, code, word) in [
        (&same, 0, "no difference"),
        (&other, 2, "- server b/127.0.0.1:1"),
        (&refused, 1, "driver auto → epoll"),
    ] {
        let output = ringlane(&["config", "diff", path_str(&old), path_str(new)]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
        assert!(text(&output.stdout).contains(word), "{}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "");
        let output = ringlane(&["config", "diff", "--json", path_str(&old), path_str(new)]);
        assert_eq!(output.status.code(), Some(code));
        let page: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(page["differences"].as_array().unwrap().is_empty(), code == 0, "{page}");
        assert_eq!(page["refused"], u64::from(code == 1));
    }
    for files in [[&old, &broken], [&broken, &old]] {
        let output = ringlane(&["config", "diff", path_str(files[0]), path_str(files[1])]);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        assert!(text(&output.stderr).contains("broken.toml:2"), "{}", text(&output.stderr));
    }
}

#[test]
fn what_is_shown_is_accepted_and_is_the_same_configuration() {
    let dir = TempDir::with_prefix("ringlane-it-").unwrap();
    let old = file(dir.path(), "old.toml", "shards = 2", "127.0.0.1:1");
    let output = ringlane(&["config", "show", path_str(&old)]);
    let shown = dir.path().join("shown.toml");
    fs::write(&shown, &output.stdout).unwrap();
    let checked = ringlane(&["check", "--strict", "--config", path_str(&shown)]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let compared = ringlane(&["config", "diff", path_str(&old), path_str(&shown)]);
    assert_eq!(compared.status.code(), Some(0), "{}", text(&compared.stdout));
    let json = ringlane(&["config", "show", "--json", path_str(&old)]);
    let page: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&page["global"]["shards"], &page["files"][0]), (&2.into(), &path_str(&old).into()));
}
