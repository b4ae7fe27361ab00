//! Other programs: each is needed, and one that is missing fails with the name of its package.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::{env, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_for;

/// A program in the search path, or in one of the places where Debian keeps those of root and of
/// PostgreSQL.
#[track_caller]
pub(crate) fn find(program: &str, package: &str) -> String {
    let path = env::var("PATH").unwrap_or_default();
    let mut folders: Vec<String> = path.split(':').map(str::to_owned).collect();
    folders.extend(["/usr/sbin".to_owned(), "/sbin".to_owned()]);
    folders.extend(postgres_folders());
    let mut found = folders.iter().map(|folder| format!("{folder}/{program}"));
    let found = found.find(|path| Path::new(path).is_file());
    found.unwrap_or_else(|| {
        panic!("`{program}` is missing: it is in the Debian package {package} (apt-get install {package})")
    })
}

/// Where Debian has the programs of PostgreSQL's server, the newest version first.
fn postgres_folders() -> Vec<String> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| format!("/usr/lib/postgresql/{version}/bin")).collect()
}

/// A command whose process ends with the thread that starts it, however that ends. The program and
/// its arguments are to be added.
pub(crate) fn bound_to_us() -> Command {
    let mut command = Command::new(find("setpriv", "util-linux"));
    command.args(["--pdeathsig", "KILL"]);
    command
}

/// Runs a program to its end, which must be a good one.
#[track_caller]
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> Output {
    let output = bound_to_us()
        .arg(find(program, package))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A program that runs beside the story and is ended with it.
pub(crate) struct Beside {
    child: Child,
    /// What it is asked to end with.
    last_word: Signal,
}

impl Beside {
    /// Starts it; `last_word` is the signal that ends it in its own way.
    pub(crate) fn start(command: &mut Command, last_word: Signal) -> Self {
        Self { child: command.spawn().unwrap(), last_word }
    }

    /// The process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), self.last_word);
        if thread::panicking() {
            let _ = self.child.kill();
        }
        let child = &mut self.child;
        wait_for("a program to end", || child.try_wait().unwrap());
    }
}
