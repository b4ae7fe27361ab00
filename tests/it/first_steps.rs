//! What a new operator does first: the README's configuration and the examples, as they stand, on a
//! machine where nothing is prepared; and what `check` says about mistakes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::balancer::path_str;
use crate::harness::program::{Beside, bound_to_us};
use crate::harness::{namespace, wait_for};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first TOML block of the README, and every example.
fn configurations() -> Vec<(String, String)> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut all = vec![("README.md".to_owned(), block.to_owned())];
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.extension() == Some("toml".as_ref()) {
            all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(all.len() >= 3, "the README and the examples");
    all
}

fn check(file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
    command.arg("check").arg("--config").arg(file).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_first_configuration_and_the_examples_start_as_they_stand() {
    namespace::inside(|| {
        for (name, toml) in configurations() {
            let dir = TempDir::with_prefix("ringlane-it-").unwrap();
            // Where /run and /var/log would be written to, there is a folder of the story's own.
            let run = dir.path().join("run");
            fs::create_dir(&run).unwrap();
            let toml = toml.replace("/run/", &format!("{}/", path_str(&run)));
            let file = dir.path().join("ringlane.toml");
            fs::write(&file, &toml).unwrap();
            let checked = check(&file, &[]);
            assert!(checked.status.success(), "{name}: {}", text(&checked.stderr));

            let errors = dir.path().join("stderr");
            let mut command = bound_to_us();
            command.arg(env!("CARGO_BIN_EXE_ringlane")).arg("run").arg("--config").arg(&file);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(fs::File::create(&errors).unwrap());
            let mut balancer = Beside::start(&mut command, Signal::SIGTERM);
            let said = wait_for("the ready line", || {
                let said = fs::read_to_string(&errors).unwrap();
                assert!(!balancer.has_ended(), "{name} ended: {said}");
                said.contains(" ready: ").then_some(said)
            });
            if name == "README.md" {
                let (before, _) = said.split_once(" ready: ").unwrap();
                assert!(
                    before.contains("password") && before.contains(" warning ringlane: /"),
                    "{said}"
                );
            }
        }
    });
}

#[test]
fn what_the_host_lacks_is_a_warning_and_with_strict_an_error() {
    let dir = TempDir::with_prefix("ringlane-it-").unwrap();
    let (file, secret) = (dir.path().join("ringlane.toml"), dir.path().join("pass"));
    let folder = path_str(dir.path());
    let toml = format!(
        r#"
[global]
admin = {{ socket = "{folder}/missing/admin.sock" }}
access_log = {{ to = "file:{folder}/none/access.log" }}
[[frontend]]
name = "front"
bind = "127.0.0.1:0"
backend = "sql"
[[backend]]
name = "sql"
check = {{ kind = "mysql", password = {{ file = "{folder}/pass" }} }}
server = [{{ address = "127.0.0.1:9" }}]
"#
    );
    fs::write(&file, &toml).unwrap();
    let checked = check(&file, &[]);
    let (said, warned) = (text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.success() && said.contains(": ok, 3 warnings (1 frontend"), "{said}");
    for part in
        ["the password of the check of backend \"sql\" is missing", "missing\\\" does", "/none"]
    {
        assert!(warned.contains(&part.replace('\\', "")), "no {part} in {warned}");
    }
    assert_eq!(warned.matches("warning: ").count(), 3, "{warned}");

    fs::create_dir(dir.path().join("missing")).unwrap();
    fs::create_dir(dir.path().join("none")).unwrap();
    fs::write(&secret, "x\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let checked = check(&file, &["--strict"]);
    let said = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("error: all users of this host can read the password"), "{said}");
    assert!(said.contains("has mode 0644") && said.trim_end().ends_with(": 1 error"), "{said}");

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let checked = check(&file, &["--strict"]);
    let (said, warned) = (text(&checked.stdout), text(&checked.stderr));
    assert!(checked.status.success() && said.contains(": ok (1 frontend"), "{said}{warned}");
}

#[test]
fn the_file_of_another_balancer_gets_one_sentence() {
    let file = root().join("src/config/tests/reports/haproxy.cfg");
    let said = text(&check(&file, &[]).stderr);
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("HAProxy") && said.contains("docs/configuration.md"), "{said}");
}
