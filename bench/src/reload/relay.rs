//! A relay that is reloaded: its process, how a reload is ordered, how it is seen that the new
//! configuration is in force, and what processes and memory it has.

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::change::{self, Addresses, Kind, State};
use crate::load::Server;
use crate::relay::{LOOK, Relay, end, on_core, sibling};
use crate::{cpu, listening};

/// What a relay gets to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that show whether a server is in use: of three servers each gets three.
const PROBES: usize = 9;

/// Of those, what the third server must get at least if it is in use. Connections of the load that
/// come and go at the same time make the number uncertain by one.
const PROBES_LEAST: usize = 2;

/// How often a process list that changes while it is read is read anew.
const READS: usize = 20;

/// The configuration of a relay; `None` for those that can't be reloaded.
pub(super) fn template(relay: Relay) -> Option<&'static str> {
    match relay {
        Relay::Ringlane | Relay::RinglaneEpoll => Some(include_str!("../../peers/reload.toml")),
        Relay::Haproxy => Some(include_str!("../../peers/reload.cfg")),
        Relay::Nginx => Some(include_str!("../../peers/reload.conf")),
        _ => None,
    }
}

/// The processes of a relay and their memory.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Size {
    pub(super) processes: usize,
    /// The sum of all resident bytes; pages that processes share count in each of them.
    pub(super) resident: u64,
    /// Bytes with each shared page counted once.
    pub(super) proportional: u64,
}

/// A relay under way. Asked to end when it is dropped, and made to if it does not.
#[derive(Debug)]
pub(super) struct Reloadable {
    relay: Relay,
    child: Child,
    addresses: Addresses,
    core: usize,
    /// Its configuration and its output; gone with it.
    folder: TempDir,
}

impl Reloadable {
    /// Starts it, and waits until a byte goes through it and back.
    pub(super) fn start(
        relay: Relay,
        state: State,
        addresses: &Addresses,
        core: usize,
    ) -> Result<Self, String> {
        let cannot = |error| format!("cannot prepare {}: {error}", relay.name());
        let folder = tempfile::tempdir().map_err(cannot)?;
        write(relay, state, addresses, folder.path())?;
        let (program, arguments) = command(relay, folder.path())?;
        let said = File::create(folder.path().join("said")).map_err(cannot)?;
        let child = on_core(core, &program)
            .args(arguments)
            .stdout(said.try_clone().map_err(cannot)?)
            .stderr(said)
            .spawn()
            .map_err(cannot)?;
        let mut own = Self { relay, child, addresses: addresses.clone(), core, folder };
        own.wait_until_ready()?;
        Ok(own)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while listening::converse(self.addresses.listen).is_err() {
            self.check()?;
            if Instant::now() > deadline {
                return Err(format!("{} is not ready: {}", self.relay.name(), self.said()));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// An error if its first process has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                Err(format!("{} ended ({status}): {}", self.relay.name(), self.said()))
            }
            _ => Ok(()),
        }
    }

    /// Writes the configuration; the next reload reads it.
    pub(super) fn write(&self, state: State) -> Result<(), String> {
        write(self.relay, state, &self.addresses, self.folder.path())
    }

    /// Orders a reload, as the manual of the relay says.
    pub(super) fn reload(&self) -> Result<(), String> {
        match self.relay {
            Relay::Haproxy => self.signal(Signal::SIGUSR2),
            Relay::Nginx => {
                let (program, arguments) = command(self.relay, self.folder.path())?;
                let output = on_core(self.core, &program)
                    .args(arguments)
                    .args(["-s", "reload"])
                    .stdout(Stdio::null())
                    .output()
                    .map_err(|error| format!("cannot run nginx -s reload: {error}"))?;
                if output.status.success() {
                    return Ok(());
                }
                Err(format!("nginx -s reload: {}", String::from_utf8_lossy(&output.stderr)))
            }
            _ => self.signal(Signal::SIGHUP),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal)
            .map_err(|error| format!("cannot send {signal} to {}: {error}", self.relay.name()))
    }

    /// Whether new connections meet the new state.
    pub(super) fn is_in_force(&self, kind: Kind, state: State, third: &Server) -> bool {
        match kind {
            Kind::Listeners => match listening::converse(self.addresses.extra) {
                Ok(()) => state.has_extra,
                Err(error) => !state.has_extra && error.kind() == io::ErrorKind::ConnectionRefused,
            },
            Kind::Servers => {
                let is_used = self.uses(third);
                is_used.is_some_and(|is_used| is_used == state.has_third)
            }
        }
    }

    /// Whether new connections reach a server; `None` if they fail.
    fn uses(&self, server: &Server) -> Option<bool> {
        let before = server.descriptors()?;
        let probes: io::Result<Vec<TcpStream>> =
            (0..PROBES).map(|_| listening::open(self.addresses.listen)).collect();
        let added = server.descriptors()?.saturating_sub(before);
        probes.ok().map(|_| added >= PROBES_LEAST)
    }

    /// A session that is to be kept, if it can be opened.
    pub(super) fn open_session(&self) -> Option<TcpStream> {
        listening::open(self.addresses.listen).ok()
    }

    /// Its processes and their memory now.
    pub(super) fn size(&self) -> Result<Size, String> {
        let mut size = size_of_tree(self.child.id());
        for _ in 0..READS {
            if size.is_ok() {
                break;
            }
            thread::sleep(LOOK); // a process ended in between
            size = size_of_tree(self.child.id());
        }
        size
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Drop for Reloadable {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn write(relay: Relay, state: State, addresses: &Addresses, folder: &Path) -> Result<(), String> {
    let name = relay.name();
    let template = template(relay).ok_or_else(|| format!("{name} can't be reloaded"))?;
    let driver = if relay == Relay::RinglaneEpoll { "epoll" } else { "io_uring" };
    let text = change::fill(template, state, addresses, driver, folder);
    fs::write(folder.join("config"), text)
        .map_err(|error| format!("cannot write the configuration of {name}: {error}"))
}

fn command(relay: Relay, folder: &Path) -> Result<(PathBuf, Vec<String>), String> {
    let config = folder.join("config").display().to_string();
    Ok(match relay {
        // A master and its workers, in the foreground.
        Relay::Haproxy => {
            ("haproxy".into(), ["-W", "-db", "-f", &config].map(str::to_owned).to_vec())
        }
        Relay::Nginx => {
            let folder = folder.display().to_string();
            ("nginx".into(), ["-p", &folder, "-c", &config].map(str::to_owned).to_vec())
        }
        _ => (sibling("ringlane")?, ["run", "--config", &config].map(str::to_owned).to_vec()),
    })
}

fn size_of_tree(pid: u32) -> Result<Size, String> {
    let mut size = Size::default();
    for pid in cpu::processes(pid)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let bytes = |name| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        };
        // One that has just ended has no memory.
        let (Some(resident), Some(proportional)) = (bytes("Rss:"), bytes("Pss:")) else { continue };
        size.processes += 1;
        size.resident += resident;
        size.proportional += proportional;
    }
    Ok(size)
}

/// The version that a relay prints.
pub(super) fn version(relay: Relay) -> Result<String, String> {
    relay.version(Path::new(""))
}
