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
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::plan::Setting;

/// Where every relay listens for round trips. The namespace is ours, so the port is free.
pub(crate) const LISTEN_ECHO: &str = "127.0.0.1:7001";

/// Where every relay listens for bulk.
pub(crate) const LISTEN_SOURCE: &str = "127.0.0.1:7002";

/// What a relay gets to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which relay.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Relay {
    /// None: straight to the server.
    Direct,
    /// This balancer on io_uring.
    Ringlane,
    /// This balancer on epoll.
    RinglaneEpoll,
    /// HAProxy, copying.
    Haproxy,
    /// HAProxy with `option splice-auto`.
    HaproxySplice,
    /// nginx with its stream module.
    Nginx,
    /// A minimal relay in C on io_uring.
    Floor,
    /// A minimal relay on monoio.
    Monoio,
    /// A minimal relay on glommio.
    Glommio,
}

impl Relay {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ringlane => "ringlane",
            Self::RinglaneEpoll => "ringlane, epoll",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy, splice",
            Self::Nginx => "nginx",
            Self::Floor => "floor (C, io_uring)",
            Self::Monoio => "yardstick: monoio",
            Self::Glommio => "yardstick: glommio",
        }
    }

    /// The version that it says it has, or has been built with.
    pub(crate) fn version(self) -> Result<String, String> {
        let (program, argument) = match self {
            Self::Direct => return Ok("no relay".to_owned()),
            Self::Monoio => {
                let version = locked_version("monoio").unwrap_or_default();
                return Ok(format!("monoio {version}, SINGLE_ISSUER and DEFER_TASKRUN"));
            }
            Self::Glommio => {
                return Ok(format!("glommio {}", locked_version("glommio").unwrap_or_default()));
            }
            Self::Floor => (PathBuf::from("cc"), "--version"),
            Self::Ringlane | Self::RinglaneEpoll => (sibling("ringlane")?, "--version"),
            Self::Haproxy | Self::HaproxySplice => ("haproxy".into(), "-v"),
            Self::Nginx => ("nginx".into(), "-v"),
        };
        let output = Command::new(&program).arg(argument).output().map_err(|error| {
            format!(
                "{}: {error}; install the Debian packages haproxy, nginx, libnginx-mod-stream and \
                 gcc, or leave it out with --relays",
                program.display()
            )
        })?;
        let said = [output.stdout, output.stderr].concat(); // nginx says it on stderr
        let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
        Ok(line)
    }

    /// Its configuration, unless its arguments are all.
    fn template(self) -> Option<&'static str> {
        match self {
            Self::Ringlane | Self::RinglaneEpoll => Some(include_str!("../peers/ringlane.toml")),
            Self::Haproxy | Self::HaproxySplice => Some(include_str!("../peers/haproxy.cfg")),
            Self::Nginx => Some(include_str!("../peers/nginx.conf")),
            Self::Direct | Self::Floor | Self::Monoio | Self::Glommio => None,
        }
    }

    /// The program and its arguments; `None` if there is none to start.
    fn command(
        self,
        wiring: &Wiring,
        config: &Path,
        folder: &Path,
    ) -> Result<Option<(PathBuf, Vec<String>)>, String> {
        let config = config.display().to_string();
        let pairs = vec![
            format!("{LISTEN_ECHO}={}", wiring.server_echo),
            format!("{LISTEN_SOURCE}={}", wiring.server_source),
        ];
        Ok(Some(match self {
            Self::Direct => return Ok(None),
            Self::Floor => (wiring.floor.clone(), pairs),
            Self::Monoio => (sibling("yardstick-monoio")?, pairs),
            Self::Glommio => (sibling("yardstick-glommio")?, pairs),
            Self::Ringlane | Self::RinglaneEpoll => {
                (sibling("ringlane")?, vec!["run".into(), "--config".into(), config])
            }
            Self::Haproxy | Self::HaproxySplice => {
                ("haproxy".into(), vec!["-db".into(), "-f".into(), config])
            }
            Self::Nginx => {
                let folder = folder.display().to_string();
                ("nginx".into(), vec!["-p".into(), folder, "-c".into(), config])
            }
        }))
    }
}

/// What a relay's configuration depends on.
#[derive(Clone, Debug)]
pub(crate) struct Wiring {
    /// The relay's core.
    pub(crate) core: usize,
    pub(crate) server_echo: String,
    pub(crate) server_source: String,
    /// The compiled floor.
    pub(crate) floor: PathBuf,
}

impl Wiring {
    /// Where the load goes: to the relay, or straight to the server.
    pub(crate) fn address(&self, relay: Relay, bulk: bool) -> &str {
        match (relay, bulk) {
            (Relay::Direct, false) => &self.server_echo,
            (Relay::Direct, true) => &self.server_source,
            (_, false) => LISTEN_ECHO,
            (_, true) => LISTEN_SOURCE,
        }
    }

    fn fill(&self, template: &str, relay: Relay, setting: Setting, folder: &Path) -> String {
        let splice = if relay == Relay::HaproxySplice {
            "option splice-auto        # moves bulk by splice(2) when it sees it"
        } else {
            "no option splice-auto     # the default"
        };
        let driver = if relay == Relay::RinglaneEpoll { "epoll" } else { "io_uring" };
        template
            .replace("@LISTEN_ECHO@", LISTEN_ECHO)
            .replace("@LISTEN_SOURCE@", LISTEN_SOURCE)
            .replace("@SERVER_ECHO@", &self.server_echo)
            .replace("@SERVER_SOURCE@", &self.server_source)
            .replace("@CONGESTION@", setting.own())
            .replace("@DRIVER@", driver)
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
    /// Starts a relay and waits until it accepts connections; `None` if there is none to start.
    pub(crate) fn start(
        relay: Relay,
        setting: Setting,
        wiring: &Wiring,
    ) -> Result<Option<Self>, String> {
        let cannot = |error| format!("cannot prepare {}: {error}", relay.name());
        let folder = tempfile::tempdir().map_err(cannot)?;
        let config = folder.path().join("config");
        if let Some(template) = relay.template() {
            let text = wiring.fill(template, relay, setting, folder.path());
            fs::write(&config, text).map_err(cannot)?;
        }
        let command = relay.command(wiring, &config, folder.path())?;
        let Some((program, arguments)) = command else { return Ok(None) };
        let said = File::create(folder.path().join("said")).map_err(cannot)?;
        let child = on_core(wiring.core, &program)
            .args(arguments)
            .stdout(said.try_clone().map_err(cannot)?)
            .stderr(said)
            .spawn()
            .map_err(cannot)?;
        let mut running = Self { child, folder };
        for address in [LISTEN_ECHO, LISTEN_SOURCE] {
            running.wait_for(address).map_err(|why| format!("{}: {why}", relay.name()))?;
        }
        Ok(Some(running))
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

/// The version of a package that this workspace is built with.
pub(crate) fn locked_version(package: &str) -> Option<&'static str> {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
    entry.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_yardsticks_are_known() {
        assert!(locked_version("monoio").is_some() && locked_version("glommio").is_some());
        assert_eq!(locked_version("no such package"), None);
    }

    #[test]
    fn every_template_is_filled_to_the_last_word() {
        let wiring = Wiring {
            core: 0,
            server_echo: "127.0.0.1:8001".to_owned(),
            server_source: "127.0.0.1:8002".to_owned(),
            floor: PathBuf::new(),
        };
        for relay in Relay::value_variants() {
            let Some(template) = relay.template() else { continue };
            let text = wiring.fill(template, *relay, Setting::Guide, Path::new("/nowhere"));
            assert!(!text.contains('@'), "{text}");
            for address in [LISTEN_ECHO, LISTEN_SOURCE, "127.0.0.1:8001", "127.0.0.1:8002"] {
                assert!(text.contains(address), "{address} in {text}");
            }
        }
    }
}
