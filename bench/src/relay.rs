//! The relays that are compared, each as a process on one core that ends with its value.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Where every relay listens for round trips. The namespace is ours, so the port is free.
pub(crate) const LISTEN_ECHO: &str = "127.0.0.1:7001";

/// Where every relay listens for bulk.
pub(crate) const LISTEN_SOURCE: &str = "127.0.0.1:7002";

/// What a relay gets to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which relay.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, ValueEnum)]
pub(crate) enum Relay {
    /// This balancer.
    Ringlane,
    /// HAProxy, copying.
    Haproxy,
    /// HAProxy with `option splice-auto`.
    HaproxySplice,
    /// nginx with its stream module.
    Nginx,
}

impl Relay {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ringlane => "ringlane",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy splice",
            Self::Nginx => "nginx",
        }
    }

    /// The version that it says it has.
    pub(crate) fn version(self) -> Result<String, String> {
        let (program, argument) = match self {
            Self::Ringlane => (sibling("ringlane")?, "--version"),
            Self::Haproxy | Self::HaproxySplice => ("haproxy".into(), "-v"),
            Self::Nginx => ("nginx".into(), "-v"),
        };
        let output = Command::new(&program).arg(argument).output().map_err(|error| {
            format!(
                "{}: {error}; install the Debian packages haproxy, nginx and \
                     libnginx-mod-stream, or leave it out with --relays",
                program.display()
            )
        })?;
        let said = [output.stdout, output.stderr].concat(); // nginx says it on stderr
        let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
        Ok(line)
    }

    fn template(self) -> &'static str {
        match self {
            Self::Ringlane => include_str!("../peers/ringlane.toml"),
            Self::Haproxy | Self::HaproxySplice => include_str!("../peers/haproxy.cfg"),
            Self::Nginx => include_str!("../peers/nginx.conf"),
        }
    }

    fn command(self, config: &Path, folder: &Path) -> Result<(PathBuf, Vec<String>), String> {
        let config = config.display().to_string();
        let (program, arguments) = match self {
            Self::Ringlane => (sibling("ringlane")?, vec!["run".into(), "--config".into(), config]),
            Self::Haproxy | Self::HaproxySplice => {
                ("haproxy".into(), vec!["-db".into(), "-f".into(), config])
            }
            Self::Nginx => {
                let folder = folder.display().to_string();
                ("nginx".into(), vec!["-p".into(), folder, "-c".into(), config])
            }
        };
        Ok((program, arguments))
    }
}

/// What a relay's configuration depends on.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) core: usize,
    pub(crate) congestion: String,
    pub(crate) server_echo: String,
    pub(crate) server_source: String,
}

impl Setting {
    fn fill(&self, relay: Relay, folder: &Path) -> String {
        let splice = if relay == Relay::HaproxySplice {
            "option splice-auto        # moves bulk by splice(2) when it sees it"
        } else {
            "no option splice-auto     # the default"
        };
        relay
            .template()
            .replace("@LISTEN_ECHO@", LISTEN_ECHO)
            .replace("@LISTEN_SOURCE@", LISTEN_SOURCE)
            .replace("@SERVER_ECHO@", &self.server_echo)
            .replace("@SERVER_SOURCE@", &self.server_source)
            .replace("@CONGESTION@", &self.congestion)
            .replace("@SPLICE@", splice)
            .replace("@FOLDER@", &folder.display().to_string())
    }
}

/// A program on one core. Asked to end when it is dropped, and made to if it does not.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Its configuration and what it said; gone with it.
    folder: TempDir,
}

impl Running {
    /// Starts a relay and waits until it accepts connections.
    pub(crate) fn start(relay: Relay, setting: &Setting) -> Result<Self, String> {
        let cannot = |error| format!("cannot prepare {}: {error}", relay.name());
        let folder = tempfile::tempdir().map_err(cannot)?;
        let config = folder.path().join("config");
        fs::write(&config, setting.fill(relay, folder.path())).map_err(cannot)?;
        let (program, arguments) = relay.command(&config, folder.path())?;
        let said = File::create(folder.path().join("said")).map_err(cannot)?;
        let child = on_core(setting.core, &program)
            .args(arguments)
            .stdout(said.try_clone().map_err(cannot)?)
            .stderr(said)
            .spawn()
            .map_err(cannot)?;
        let mut running = Self { child, folder };
        for address in [LISTEN_ECHO, LISTEN_SOURCE] {
            running.wait_for(address).map_err(|why| format!("{}: {why}", relay.name()))?;
        }
        Ok(running)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_for(&mut self, address: &str) -> Result<(), String> {
        let socket: SocketAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if TcpStream::connect_timeout(&socket, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                let said = fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
                let what = if ended { "it ended" } else { "it does not listen" };
                return Err(format!("{what} ({address}); it said:\n{said}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx must be asked: a master that is killed leaves its worker behind.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A command on one core, with nothing to read from.
pub(crate) fn on_core(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program).stdin(Stdio::null());
    command
}

/// A program of this workspace, built beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let path = own.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is not built: `cargo xtask bench l4` builds it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled_to_the_last_word() {
        let setting = Setting {
            core: 0,
            congestion: "cubic".to_owned(),
            server_echo: "127.0.0.1:8001".to_owned(),
            server_source: "127.0.0.1:8002".to_owned(),
        };
        for relay in Relay::value_variants() {
            let text = setting.fill(*relay, Path::new("/nowhere"));
            assert!(!text.contains('@'), "{text}");
            for address in [LISTEN_ECHO, LISTEN_SOURCE, "127.0.0.1:8001", "127.0.0.1:8002"] {
                assert!(text.contains(address), "{address} in {text}");
            }
        }
    }
}
