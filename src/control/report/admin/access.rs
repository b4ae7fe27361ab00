//! Who may ask for what: tokens and host names on TCP, and the process behind a unix socket.
//!
//! The unix socket needs no token: the permissions of its file decide, and the kernel names the
//! process that connected. On TCP every page but `/healthz` needs a token, in the header
//! `Authorization: Bearer` and nowhere else. Not here: what a request may do once it is admitted
//! (`routes`). Invariants: no answer and no log line has a secret; the time of a comparison does
//! not depend on how much of a token is right; every refusal is counted. Next: `origin`.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::orders::answer;
use super::origin::{Origin, Requester};
use super::routes;
use crate::config::{self, Secret, TokenRole, credential_file, usable_token};
use crate::control::log::{self, Level, Notice};

/// The time between two lines about refused requests: whoever reaches the address can make them.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes of a token file that are read; the first line is the token.
const TOKEN_FILE_MAX: u64 = 4096;

/// A client that was admitted, and what it may do. Its text names it in logs and in changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) struct Caller {
    /// What it may do.
    pub(super) role: TokenRole,
    by: By,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum By {
    /// A process on the unix socket, as it was when it connected.
    Process { uid: u32, pid: Option<i32> },
    /// A client on TCP, with the name of its token.
    Token { name: String, from: SocketAddr },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Process { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            By::Process { uid, pid: None } => write!(f, "uid {uid}"),
            By::Token { name, from } => write!(f, "token \"{name}\" from {}", from.ip()),
        }
    }
}

/// The rules that hold now, and how many requests they refused.
#[derive(Debug, Default)]
pub(in crate::control) struct Access {
    rules: RwLock<Arc<Rules>>,
    refused: [AtomicU64; REFUSALS.len()],
    complaints: Mutex<Complaints>,
}

/// Refusals on TCP that are not logged yet.
#[derive(Debug, Default)]
struct Complaints {
    logged_at: Option<Instant>,
    count: u64,
}

/// Statuses of refusals that are counted.
pub(in crate::control) const REFUSALS: [u16; 3] = [401, 403, 503];

/// Tokens and host names, as configured.
#[derive(Debug, Default)]
pub(in crate::control) struct Rules {
    tokens: Vec<KnownToken>,
    /// The address of the TCP listener.
    bound: Option<IpAddr>,
    /// In lower case.
    hosts: Vec<String>,
}

/// A token, of which only the digest is kept.
struct KnownToken {
    name: String,
    digest: [u8; 32],
    role: TokenRole,
}

impl fmt::Debug for KnownToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, {})", self.name, self.role.word())
    }
}

/// Why a request is refused, in a sentence for its sender.
#[derive(Debug)]
pub(super) struct Denial {
    status: StatusCode,
    why: String,
}

impl Denial {
    fn unauthorized(why: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, why: why.into() }
    }

    pub(super) fn forbidden(why: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, why: why.into() }
    }
}

impl Access {
    /// Other rules hold from now on.
    pub(in crate::control) fn replace(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Requests that were refused with this status.
    pub(in crate::control) fn refused(&self, status: u16) -> u64 {
        let place = REFUSALS.iter().position(|counted| *counted == status);
        place.map_or(0, |place| self.refused[place].load(Ordering::Relaxed))
    }

    /// The answer to a request that is refused.
    pub(super) fn refuse(&self, Denial { status, why }: Denial) -> Response {
        self.count(status);
        let mut response = answer(status, &json!({ "error": why }));
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"ringlane\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }

    /// Counts a refusal.
    pub(in crate::control::report) fn count(&self, status: StatusCode) {
        if let Some(place) = REFUSALS.iter().position(|counted| *counted == status.as_u16()) {
            self.refused[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs a refusal on TCP, with those since the last line, unless that was a moment ago.
    fn complain(&self, from: SocketAddr, denial: &Denial, now: Instant) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.count += 1;
        if complaints.logged_at.is_some_and(|at| now < at + COMPLAINT_INTERVAL) {
            return;
        }
        let Complaints { count, .. } =
            std::mem::replace(&mut *complaints, Complaints { logged_at: Some(now), count: 0 });
        let requests = if count == 1 { "request" } else { "requests" };
        let text = format!(
            "admin.http: {count} {requests} refused, the last from {}: {}",
            from.ip(),
            denial.why
        );
        log::write(&Notice::new(Level::Warning, "admin_refused", text).count(count));
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rules {
    /// The rules of a configuration, with its secrets read; `bound` is where the TCP side listens.
    ///
    /// # Errors
    /// A sentence for the operator when a secret can't be read or is none.
    pub(in crate::control) fn read(admin: &config::Admin) -> Result<Self, String> {
        let known = |token: &config::Token| {
            let name = token.name.clone();
            let secret = reveal(&token.secret);
            let secret = secret.and_then(|secret| {
                usable_token(&secret).map_err(|why| format!("it {why}"))?;
                Ok(secret)
            });
            let secret =
                secret.map_err(|why| format!("[global] admin.tokens, token \"{name}\": {why}"))?;
            Ok(KnownToken { name, digest: digest(&secret), role: token.role })
        };
        Ok(Self {
            tokens: admin.tokens.iter().map(known).collect::<Result<_, String>>()?,
            bound: admin.http.map(|http| http.ip()),
            hosts: admin.allow_hosts.clone(),
        })
    }

    /// Admits a request from TCP, or not.
    fn judge(&self, from: SocketAddr, request: &RequestHead<'_>) -> Result<Caller, Denial> {
        self.check_host(request)?;
        if self.tokens.is_empty() {
            return Err(Denial::unauthorized(
                "this address needs a token, and no token is configured: set admin.tokens in \
                 [global], or use the unix socket (admin.socket)",
            ));
        }
        let given = given(request.headers)?;
        let token = self.find(&given).ok_or_else(|| {
            Denial::unauthorized("the token is wrong: compare it with admin.tokens in [global]")
        })?;
        Ok(Caller { role: token.role, by: By::Token { name: token.name.clone(), from } })
    }

    /// The token with this text; looks at all of them, whichever it is.
    fn find(&self, given: &str) -> Option<&KnownToken> {
        let given = digest(given);
        let (mut found, mut place) = (Choice::from(0), 0_u64);
        for (index, token) in (0_u64..).zip(&self.tokens) {
            let is_it = token.digest.ct_eq(&given);
            place.conditional_assign(&index, is_it);
            found |= is_it;
        }
        let place = usize::try_from(place).ok()?;
        if bool::from(found) { self.tokens.get(place) } else { None }
    }

    /// Refuses requests for another host: a web page in a browser could send them by giving its own
    /// name this address (DNS rebinding).
    fn check_host(&self, request: &RequestHead<'_>) -> Result<(), Denial> {
        let bad = |why: &str| Denial { status: StatusCode::BAD_REQUEST, why: why.to_owned() };
        let mut named = request.headers.get_all(HOST).iter();
        let host = named.next();
        if named.next().is_some() {
            return Err(bad("the request has more than one Host header"));
        }
        // That of the request line takes precedence (RFC 9112, section 3.2.2), but no client needs
        // two that differ, so both must be right.
        let line = request.uri.authority().map(|authority| authority.as_str().to_owned());
        let field = match host {
            Some(host) => Some(host.to_str().map_err(|_| bad("the Host header is not ASCII"))?),
            // No browser leaves it out.
            None if request.version <= Version::HTTP_10 || line.is_some() => None,
            None => return Err(bad("the request has no Host header")),
        };
        for host in line.as_deref().into_iter().chain(field) {
            if !self.is_ours(host) {
                let shown: String = host.chars().take(80).filter(|c| !c.is_control()).collect();
                return Err(Denial::forbidden(format!(
                    "this address is not served under the name \"{shown}\": use the address of \
                     admin.http, or add the name to admin.allow_hosts in [global]"
                )));
            }
        }
        Ok(())
    }

    /// Whether a host, with or without port, is one of this address. The port may be any: it is
    /// another one where connections are forwarded.
    fn is_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || self.hosts.contains(&name) {
            return true;
        }
        let Ok(ip) = name.parse::<IpAddr>() else { return false };
        let is_listed = self.hosts.iter().any(|host| host.parse() == Ok(ip));
        is_listed || self.bound.is_some_and(|bound| bound == ip || bound.is_unspecified())
    }
}

/// A host without its port and without the brackets of an IPv6 address.
fn without_port(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
        return (is_v6 && (port.is_empty() || is_port(port.strip_prefix(':')?))).then_some(address);
    }
    match host.split_once(':') {
        None => Some(host),
        Some((name, port)) => is_port(port).then_some(name),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 5
}

/// What of a request is looked at.
struct RequestHead<'a> {
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

/// The token that a request presents.
fn given(headers: &HeaderMap) -> Result<String, Denial> {
    const HOW: &str = "send the header `Authorization: Bearer TOKEN`";
    let one = only(headers, AUTHORIZATION)
        .map_err(|()| Denial::unauthorized("the request has more than one Authorization header"))?;
    let Some(value) = one else {
        return Err(Denial::unauthorized(format!("this address needs a token: {HOW}")));
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        // The name of a scheme has no case (RFC 9110, section 11.1); a token has.
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    token.ok_or_else(|| {
        Denial::unauthorized(format!("the Authorization header has no token: {HOW}"))
    })
}

/// The header that may be there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The secret itself.
fn reveal(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => read_file(path),
        Secret::Credential(name) => read_file(&credential_file(name)?),
        Secret::Variable(name) => std::env::var(name)
            .map_err(|_| format!("environment variable {name} with the token is not set")),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let cannot = |why: &dyn fmt::Display| format!("cannot read it from {}: {why}", path.display());
    // Opening a FIFO would wait for its writer.
    let is_file = path.metadata().map_err(|error| cannot(&error))?.is_file();
    if !is_file {
        return Err(cannot(&"not a regular file"));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| cannot(&error))?;
    file.take(TOKEN_FILE_MAX).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Lets a request through if it may be answered, with its [`Caller`].
pub(super) async fn admit(
    State(access): State<Arc<Access>>,
    ConnectInfo(requester): ConnectInfo<Requester>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match requester.origin {
        Origin::Unix { uid, pid } => {
            Caller { role: TokenRole::Write, by: By::Process { uid, pid } }
        }
        Origin::Tcp(_) if routes::is_open(request.uri().path()) => return next.run(request).await,
        Origin::Tcp(from) => {
            let head = RequestHead {
                version: request.version(),
                uri: request.uri(),
                headers: request.headers(),
            };
            match access.rules().judge(from, &head) {
                Ok(caller) => caller,
                Err(denial) => {
                    access.complain(from, &denial, Instant::now());
                    return access.refuse(denial);
                }
            }
        }
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}
