//! The addresses of the admin API, and what keeps it from listening there.
//!
//! Not here: whether the process that holds an address is terminating (`takeover`). Invariants: a
//! socket file of another process is replaced only if that process is terminating, and removed at
//! the end only if it is ours.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use socket2::{Domain, SockAddr, Socket, Type};

use super::access::Rules;
use super::takeover;
use crate::config;
use crate::control::start::privileges::{FileOwner, Identity, PrivilegesError};
use crate::control::start::problem::Problem;
use crate::control::start::socket_files::{SocketFiles, prepare_path};
use crate::control::start::sockets::{FREE_WAIT, when_free};

/// Connections that wait in the kernel.
const BACKLOG: i32 = 128;

/// The owner and the group may use the unix socket.
pub(super) const SOCKET_MODE: u32 = 0o660;

/// The sockets of the admin API, listening. A socket file is removed when this is dropped.
#[derive(Debug, Default)]
pub struct Bound {
    pub(super) socket: Option<UnixListener>,
    pub(super) http: Option<AdminHttp>,
    /// What clients must present.
    pub(super) rules: Rules,
    /// Whose the socket file is, as far as that is configured.
    owner: FileOwner,
    pub(super) files: SocketFiles,
}

/// The TCP side of the admin API.
#[derive(Debug)]
pub(super) enum AdminHttp {
    Listening(TcpListener),
    /// A process that is about to end still listens there.
    Held(SocketAddr),
}

impl Bound {
    /// Makes the user and group that the process is about to become the owners of the socket file.
    pub(in crate::control) fn give_to(&self, identity: &Identity) -> Result<(), PrivilegesError> {
        self.files.paths().try_for_each(|path| identity.own(path, self.owner))
    }

    /// Whether the TCP address listens already.
    pub(in crate::control) fn listens_on_http(&self) -> bool {
        matches!(self.http, Some(AdminHttp::Listening(_)))
    }

    /// The TCP address with the port that the kernel chose, if there is one.
    pub fn http(&self) -> Option<SocketAddr> {
        match self.http.as_ref()? {
            AdminHttp::Listening(listener) => listener.local_addr().ok(),
            AdminHttp::Held(address) => Some(*address),
        }
    }
}

/// The admin API can't listen where it should, or as it should.
#[derive(Debug)]
pub struct AdminBindError(Reason);

#[derive(Debug)]
enum Reason {
    Listen {
        place: BindAddress,
        problem: Problem,
    },
    /// An owner, a group or a token, in a sentence.
    Setting(String),
}

#[derive(Debug)]
enum BindAddress {
    Socket(PathBuf),
    Http(SocketAddr),
}

impl fmt::Display for AdminBindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, problem) = match &self.0 {
            Reason::Listen { place, problem } => (place, problem),
            Reason::Setting(why) => return f.write_str(why),
        };
        match place {
            BindAddress::Socket(path) => {
                write!(f, "[global] admin.socket cannot listen on {}: {problem}", path.display())
            }
            BindAddress::Http(address) => {
                write!(f, "[global] admin.http cannot listen on {address}: {problem}")
            }
        }
    }
}

impl std::error::Error for AdminBindError {}

/// Makes the sockets listen. A stale socket file is removed first; that of a terminating balancer
/// is replaced, and its TCP address is taken over later.
///
/// # Errors
/// When an address is in use, not ours or not permitted, in a sentence for the operator.
pub fn bind(admin: &config::Admin) -> Result<Bound, AdminBindError> {
    let setting = |why: String| AdminBindError(Reason::Setting(why));
    let file = &admin.socket_file;
    let owner = FileOwner::find(file.owner.as_deref(), file.group.as_deref())
        .map_err(|error| setting(error.to_string()))?;
    let rules = Rules::read(admin).map_err(setting)?;
    let mut bound = Bound { rules, owner, ..Bound::default() };
    let look = FileAccess { mode: file.mode.unwrap_or(SOCKET_MODE), owner };
    let until = Instant::now() + FREE_WAIT;
    if let Some(path) = &admin.socket {
        let place = || BindAddress::Socket(path.clone());
        let error = |problem| AdminBindError(Reason::Listen { place: place(), problem });
        let is_free = || match prepare_path(path) {
            Err(Problem::InUse) if takeover::is_terminating_unix(path) => Ok(false),
            outcome => outcome.map(|()| true),
        };
        let is_free = when_free(until, is_free).map_err(error)?;
        let listener = if is_free { bind_unix(path, look) } else { replace_unix(path, look) };
        bound.socket = Some(listener.map_err(|e| error(problem(e)))?);
        bound.files.add(path).map_err(|e| error(problem(e)))?;
    }
    if let Some(address) = admin.http {
        let listen = || match bind_http(address).map_err(problem) {
            Err(Problem::InUse) if takeover::is_terminating_tcp(address) => {
                Ok(AdminHttp::Held(address))
            }
            outcome => outcome.map(AdminHttp::Listening),
        };
        let place = BindAddress::Http(address);
        let error = |problem| AdminBindError(Reason::Listen { place, problem });
        bound.http = Some(when_free(until, listen).map_err(error)?);
    }
    Ok(bound)
}

/// Mode and owner of a socket file.
#[derive(Clone, Copy)]
struct FileAccess {
    mode: u32,
    owner: FileOwner,
}

/// Nothing can connect before `listen`, so that mode and owner apply from the first client on.
fn bind_unix(path: &Path, look: FileAccess) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    look.owner.apply(path)?;
    fs::set_permissions(path, Permissions::from_mode(look.mode))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listens in place of another process that still listens at this path, without a gap. The other
/// process keeps its clients, and will notice that the file is no longer its own.
fn replace_unix(path: &Path, look: FileAccess) -> io::Result<UnixListener> {
    let beside = path.with_file_name(format!(".{}", process::id()));
    // What a process of the same number has left there; anything else makes `bind` fail.
    let _ = prepare_path(&beside);
    let listener = match bind_unix(&beside, look) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            // The name is too long for a socket: there is none for a moment.
            fs::remove_file(path)?;
            return bind_unix(path, look);
        }
        outcome => outcome?,
    };
    let renamed = fs::rename(&beside, path);
    if renamed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    renamed.map(|()| listener)
}

/// For the runtime, which needs it not to block.
pub(super) fn bind_http(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn problem(error: io::Error) -> Problem {
    match error.kind() {
        ErrorKind::AddrInUse => Problem::InUse,
        ErrorKind::AddrNotAvailable => Problem::NotLocal,
        ErrorKind::PermissionDenied => Problem::Denied,
        _ => Problem::Other(error),
    }
}
