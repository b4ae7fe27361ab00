//! The relays that are compared, each as a process on one core that ends with its value.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::cpu;
use crate::listening::{self, Ports};
use crate::plan::Setting;

/// Where one relay listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen {
    /// For round trips.
    echo: SocketAddr,
    /// For bulk.
    source: SocketAddr,
}

/// What a relay gets to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether a program has started or ended.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

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
    /// Another build of this balancer on io_uring: what `--before` names.
    Before,
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
            Self::Before => "ringlane, before",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy, splice",
            Self::Nginx => "nginx",
            Self::Floor => "floor (C, io_uring)",
            Self::Monoio => "yardstick: monoio",
            Self::Glommio => "yardstick: glommio",
        }
    }

    /// Whether it is this balancer, in whatever build.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Ringlane | Self::RinglaneEpoll | Self::Before)
    }

    /// The version that it prints, or has been built with; `before` is the other build, if any.
    pub(crate) fn version(self, before: &Path) -> Result<String, String> {
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
            Self::Before => (before.to_owned(), "--version"),
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
            _ if self.is_own() => Some(include_str!("../peers/ringlane.toml")),
            Self::Haproxy | Self::HaproxySplice => Some(include_str!("../peers/haproxy.cfg")),
            Self::Nginx => Some(include_str!("../peers/nginx.conf")),
            _ => None,
        }
    }

    /// The program and its arguments; `None` if there is none to start.
    fn command(
        self,
        wiring: &Wiring,
        listen: Listen,
        config: &Path,
        folder: &Path,
    ) -> Result<Option<(PathBuf, Vec<String>)>, String> {
        let config = config.display().to_string();
        let pairs = vec![
            format!("{}={}", listen.echo, wiring.server_echo),
            format!("{}={}", listen.source, wiring.server_source),
        ];
        Ok(Some(match self {
            Self::Direct => return Ok(None),
            Self::Floor => (wiring.floor.clone(), pairs),
            Self::Monoio => (sibling("yardstick-monoio")?, pairs),
            Self::Glommio => (sibling("yardstick-glommio")?, pairs),
            Self::Ringlane | Self::RinglaneEpoll | Self::Before => {
                let before = self == Self::Before;
                let program = if before { wiring.before.clone() } else { sibling("ringlane")? };
                (program, vec!["run".into(), "--config".into(), config])
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
    pub(crate) ports: Ports,
    pub(crate) server_echo: String,
    pub(crate) server_source: String,
    /// The compiled floor.
    pub(crate) floor: PathBuf,
    /// The program of [`Relay::Before`].
    pub(crate) before: PathBuf,
}

impl Wiring {
    /// Where the load goes: to the relay, or straight to the server.
    pub(crate) fn address(&self, relay: Option<&Running>, bulk: bool) -> String {
        match (relay, bulk) {
            (None, false) => self.server_echo.clone(),
            (None, true) => self.server_source.clone(),
            (Some(relay), false) => relay.listen.echo.to_string(),
            (Some(relay), true) => relay.listen.source.to_string(),
        }
    }

    fn fill(
        &self,
        template: &str,
        relay: Relay,
        setting: Setting,
        listen: Listen,
        folder: &Path,
    ) -> String {
        let splice = if relay == Relay::HaproxySplice {
            "option splice-auto        # moves bulk by splice(2) when it sees it"
        } else {
            "no option splice-auto     # the default"
        };
        let driver = if relay == Relay::RinglaneEpoll { "epoll" } else { "io_uring" };
        template
            .replace("@LISTEN_ECHO@", &listen.echo.to_string())
            .replace("@LISTEN_SOURCE@", &listen.source.to_string())
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
    listen: Listen,
    /// Its processes when it was ready.
    processes: Vec<u32>,
    /// Its configuration and what it said; gone with it.
    folder: TempDir,
}

impl Running {
    /// Starts a relay and waits until a byte goes through it and back; `None` if there is none to
    /// start.
    pub(crate) fn start(
        relay: Relay,
        setting: Setting,
        wiring: &Wiring,
    ) -> Result<Option<Self>, String> {
        let cannot = |error| format!("cannot prepare {}: {error}", relay.name());
        let folder = tempfile::tempdir().map_err(cannot)?;
        let config = folder.path().join("config");
        let listen = Listen { echo: wiring.ports.next()?, source: wiring.ports.next()? };
        if let Some(template) = relay.template() {
            let text = wiring.fill(template, relay, setting, listen, folder.path());
            fs::write(&config, text).map_err(cannot)?;
        }
        let command = relay.command(wiring, listen, &config, folder.path())?;
        let Some((program, arguments)) = command else { return Ok(None) };
        let said = File::create(folder.path().join("said")).map_err(cannot)?;
        let child = on_core(wiring.core, &program)
            .args(arguments)
            .stdout(said.try_clone().map_err(cannot)?)
            .stderr(said)
            .spawn()
            .map_err(cannot)?;
        let mut running = Self { child, listen, processes: Vec::new(), folder };
        running.wait_until_ready().map_err(|why| format!("{}: {why}", relay.name()))?;
        Ok(Some(running))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it, or a process of it, has ended since it was ready: what is measured of it
    /// then means nothing.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        let Listen { echo, .. } = self.listen;
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("the relay on {echo} ended ({status}); it said:\n{}", self.said()));
        }
        if cpu::processes(self.pid())? == self.processes {
            return Ok(());
        }
        let said = self.said();
        Err(format!("the relay on {echo} lost or replaced a process of its own; it said:\n{said}"))
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let Listen { echo, source } = self.listen;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pid = self.pid();
            let listens = [echo, source].iter().all(|&at| listening::is_held_by(pid, at));
            if listens && listening::converse(echo).is_ok() {
                self.processes = cpu::processes(pid)?;
                return Ok(());
            }
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                let what = match (ended, listens) {
                    (true, _) => "it ended",
                    (_, false) => "it does not listen",
                    (_, true) => "it listens and returns no byte of the echo server",
                };
                return Err(format!("{what} ({echo}, {source}); it said:\n{}", self.said()));
            }
            thread::sleep(LOOK);
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks a relay to end, and makes it if it does not.
pub(crate) fn end(child: &mut Child) {
    // nginx must be asked: a master that is killed leaves its worker behind.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(LOOK);
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
            ports: Ports::new(),
            server_echo: "127.0.0.1:8001".to_owned(),
            server_source: "127.0.0.1:8002".to_owned(),
            floor: PathBuf::new(),
            before: PathBuf::new(),
        };
        let listen = Listen {
            echo: "127.0.0.1:7001".parse().unwrap(),
            source: "127.0.0.1:7002".parse().unwrap(),
        };
        for relay in Relay::value_variants() {
            let Some(template) = relay.template() else { continue };
            let text = wiring.fill(template, *relay, Setting::Guide, listen, Path::new("/nowhere"));
            assert!(!text.contains('@'), "{text}");
            for address in ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:8001", "127.0.0.1:8002"]
            {
                assert!(text.contains(address), "{address} in {text}");
            }
        }
    }
}
