//! Why a socket can't listen or connect as configured, and what to do about it, in a sentence.
//!
//! Not here: which object it is about (`sockets`, `probe`, `report::admin`). Settings are an enum
//! in the core; their keys in the configuration file are spelled here.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use ringlane_core::machine::Congestion;
use ringlane_core::machine::sys::{Refused, SocketSetting};

/// What is in the way of a listening socket.
#[derive(Debug)]
pub(in crate::control) enum Problem {
    /// Something already listens there.
    InUse,
    /// The path names a file of another kind.
    NotASocket,
    /// Its folder is missing and could not be created.
    Folder(PathBuf, io::Error),
    /// A stale socket file could not be removed.
    Stale(io::Error),
    /// The kernel has no such congestion control.
    CongestionUnknown(String),
    /// The kernel has it, but not for this user.
    CongestionDenied(String),
    /// No interface of this machine has the address.
    NotLocal,
    /// Not without more rights.
    Denied,
    /// The setting needs more rights.
    SettingDenied(SocketSetting),
    /// The kernel has no such option, or not with that value.
    SettingRefused(SocketSetting, io::Error),
    /// Anything else.
    Other(io::Error),
}

impl Problem {
    /// Of an error met while binding.
    pub(super) fn from_bind(error: io::Error) -> Self {
        match errno(&error) {
            Errno::EADDRINUSE => Self::InUse,
            Errno::EADDRNOTAVAIL => Self::NotLocal,
            Errno::EACCES => Self::Denied,
            _ => Self::Other(error),
        }
    }

    /// Of an error met while making a socket listen, or while telling it what is configured.
    pub(in crate::control) fn from_listen(refused: Refused, congestion: &Congestion) -> Self {
        let Refused { setting, error } = refused;
        let Some(setting) = setting else { return Self::from_bind(error) };
        match (setting, errno(&error), congestion) {
            (SocketSetting::Congestion, Errno::ENOENT, Congestion::Named(name)) => {
                Self::CongestionUnknown(name.clone())
            }
            (SocketSetting::Congestion, Errno::EPERM, Congestion::Named(name)) => {
                Self::CongestionDenied(name.clone())
            }
            (_, Errno::EADDRNOTAVAIL, _) => Self::NotLocal,
            (_, Errno::EPERM, _) => Self::SettingDenied(setting),
            _ => Self::SettingRefused(setting, error),
        }
    }
}

/// The key of a setting in the configuration file.
fn key(setting: SocketSetting) -> &'static str {
    match setting {
        SocketSetting::Congestion => "congestion",
        SocketSetting::Keepalive => "tcp.keepalive",
        SocketSetting::UserTimeout => "tcp.user_timeout",
        SocketSetting::Mark => "tcp.mark",
        SocketSetting::Dscp => "tcp.dscp",
        SocketSetting::FastOpen => "tcp.fast_open",
        SocketSetting::Transparent => "transparent",
        SocketSetting::Source => "source",
        SocketSetting::SourcePorts => "source_ports",
    }
}

pub(super) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder, error) => write!(
                f,
                "the directory {} does not exist and cannot be created ({error}): create it, or let \
                 systemd do so (RuntimeDirectory)",
                folder.display()
            ),
            Self::InUse => write!(
                f,
                "another program listens there, perhaps a ringlane that has not begun to drain: \
                 stop it (`ss -lpn` shows which) or choose another address"
            ),
            Self::NotASocket => write!(
                f,
                "a file that is not a socket exists there: remove it or choose another path"
            ),
            Self::Stale(error) => {
                write!(f, "a stale socket file is there and cannot be removed ({error}): remove it")
            }
            Self::CongestionUnknown(name) => write!(
                f,
                "this kernel has no congestion control \"{name}\": load it (`modprobe tcp_{name}`) \
                 or choose one of net.ipv4.tcp_available_congestion_control"
            ),
            Self::CongestionDenied(name) => write!(
                f,
                "congestion control \"{name}\" is not permitted for this user: add it to \
                 net.ipv4.tcp_allowed_congestion_control, or start with CAP_NET_ADMIN"
            ),
            Self::NotLocal => write!(
                f,
                "no interface of this machine has that address: correct it, or set \
                 net.ipv4.ip_nonlocal_bind = 1 if it is added later"
            ),
            Self::Denied => write!(
                f,
                "permission denied: a port below 1024 needs root or CAP_NET_BIND_SERVICE, a \
                 socket file needs write access to its directory"
            ),
            Self::SettingDenied(setting) => write!(
                f,
                "{} needs CAP_NET_ADMIN: start with it (AmbientCapabilities=CAP_NET_ADMIN in \
                 the systemd unit; [global] user gives it up), or remove the key",
                key(*setting)
            ),
            Self::SettingRefused(setting, error) => write!(
                f,
                "the kernel refused {} ({error}): correct or remove the key",
                key(*setting)
            ),
            Self::Other(error) => error.fmt(f),
        }
    }
}
