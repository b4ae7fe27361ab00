//! One request to the admin API, and the reply or the stream of messages.
//!
//! Not here: what is requested. Invariants: a request ends after [`PATIENCE`] at the latest,
//! whatever the other side does, and a stream after [`SILENCE_MAX`] without a byte; an incomplete
//! reply is an error; an error names the cause and what to do.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::table::printable;

/// The time limit of a whole request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest time without a byte of a stream, which has a comment every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Bytes in the head of a reply that is a stream.
const HEAD_MAX: usize = 64 * 1024;

/// Bytes in the longest line of a stream.
const LINE_MAX: u64 = 16 * 1024 * 1024;

/// Bytes in the largest reply.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// The address of a balancer's admin API.
#[derive(Debug)]
pub(super) enum AdminAddress {
    /// A unix socket.
    Socket(PathBuf),
    /// A TCP address, and the token for it.
    Http(SocketAddr, Option<String>),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Http(address, _) => address.fmt(f),
        }
    }
}

/// A request to the admin API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    method: &'static str,
    path: &'a str,
    /// Empty for a GET.
    body: &'a str,
}

impl<'a> Request<'a> {
    pub(super) const fn get(path: &'a str) -> Self {
        Self { method: "GET", path, body: "" }
    }

    pub(super) const fn delete(path: &'a str) -> Self {
        Self { method: "DELETE", path, body: "" }
    }

    pub(super) const fn put(path: &'a str, body: &'a str) -> Self {
        Self { method: "PUT", path, body }
    }

    pub(super) const fn post(path: &'a str, body: &'a str) -> Self {
        Self { method: "POST", path, body }
    }
}

/// The body of the reply; the cause in a sentence unless the status is 200.
pub(super) fn ask(place: &AdminAddress, request: Request<'_>) -> Result<String, String> {
    let until = Instant::now() + PATIENCE;
    let mut stream = connect(place, until).map_err(|error| no_connection(place, &error))?;
    let head = head(place, request, "application/json");
    let answer = talk(&mut stream, &head, until).map_err(|error| no_answer(place, &error))?;
    read(place, &answer)
}

/// Calls `each` with every message of a stream, until it returns an error or the stream ends.
pub(super) fn follow(
    place: &AdminAddress,
    path: &str,
    mut each: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let mut stream = connect(place, until).map_err(|error| no_connection(place, &error))?;
    let gone = |error: io::Error| no_answer(place, &error);
    stream.set_write_timeout(Some(PATIENCE)).map_err(gone)?;
    stream
        .write_all(head(place, Request::get(path), "text/event-stream").as_bytes())
        .map_err(gone)?;
    stream.set_read_timeout(Some(SILENCE_MAX)).map_err(gone)?;
    let mut lines = BufReader::new(stream);
    let mut begin = Vec::new();
    while !begin.ends_with(b"\r\n\r\n") && begin.len() < HEAD_MAX {
        if lines.read_until(b'\n', &mut begin).map_err(gone)? == 0 {
            break;
        }
    }
    if !begin.starts_with(b"HTTP/1.0 200 ") && !begin.starts_with(b"HTTP/1.1 200 ") {
        // An error is a whole reply.
        lines.take(HEAD_MAX as u64).read_to_end(&mut begin).map_err(gone)?;
        return read(place, &begin).map(|_| ());
    }
    let mut line = String::new();
    loop {
        line.clear();
        match lines.by_ref().take(LINE_MAX).read_line(&mut line) {
            Ok(0) => return Err(format!("{place} ended the stream: the balancer has ended")),
            Ok(_) => {}
            Err(error) if timed_out(&error) => {
                let seconds = SILENCE_MAX.as_secs();
                return Err(format!("no sign of life from {place} for {seconds} s"));
            }
            Err(error) => return Err(format!("the stream from {place} was cut off: {error}")),
        }
        if let Some(data) = line.strip_prefix("data: ") {
            each(data.trim_end())?;
        }
    }
}

/// The body of a complete reply.
fn read(place: &AdminAddress, answer: &[u8]) -> Result<String, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(at)) = head.parse(answer) else {
        return Err(match answer {
            [] => format!(
                "{place} closed the connection without a reply: it may be overloaded, try again"
            ),
            _ => format!(
                "the reply from {place} is not from a balancer: check that it is the admin address"
            ),
        });
    };
    let length =
        head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.trim().parse().ok());
    let body = &answer[at..];
    if length.is_some_and(|length: usize| body.len() < length) {
        let got = body.len();
        return Err(format!("the reply from {place} was cut off after {got} bytes: try again"));
    }
    let body = String::from_utf8_lossy(body).into_owned();
    if head.code == Some(200) {
        return Ok(body);
    }
    let error = serde_json::from_str::<Value>(&body).ok();
    let text = error.as_ref().and_then(|error| error["error"].as_str());
    // Another program's page may be long, and may have anything in it.
    let text = text.unwrap_or_else(|| body.trim().lines().next().unwrap_or_default());
    if text.is_empty() {
        let code = head.code.unwrap_or_default();
        let reason = printable(head.reason.unwrap_or_default());
        return Err(format!(
            "{place} refuses without a reason: {}",
            format!("{code} {reason}").trim()
        ));
    }
    Err(printable(text))
}

fn connect(place: &AdminAddress, until: Instant) -> io::Result<Socket> {
    let address = match place {
        AdminAddress::Socket(path) => SockAddr::unix(path)?,
        AdminAddress::Http(address, _) => (*address).into(),
    };
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
    match place {
        // A unix socket whose queue is full makes a connect wait for as long as a write may
        // (unix(7)), or refuses one that does not wait at all, as `connect_timeout` tries it.
        AdminAddress::Socket(_) => {
            socket.set_write_timeout(Some(left(until)?))?;
            socket.connect(&address)?;
        }
        AdminAddress::Http(..) => socket.connect_timeout(&address, left(until)?)?,
    }
    Ok(socket)
}

/// A request. Uses HTTP/1.0, so the reply ends with the connection and is not chunked.
fn head(place: &AdminAddress, request: Request<'_>, kind: &str) -> String {
    let Request { method, path, body } = request;
    let length = body.len();
    let (host, token) = match place {
        AdminAddress::Socket(_) => ("ringlane".to_owned(), None),
        AdminAddress::Http(address, token) => (address.to_string(), token.as_ref()),
    };
    let token =
        token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    // Events are a stream for whoever does not ask for JSON.
    let fields = format!("Host: {host}\r\n{token}Accept: {kind}\r\nContent-Length: {length}");
    format!("{method} {path} HTTP/1.0\r\n{fields}\r\n\r\n{body}")
}

/// Sends a request and reads all of the reply.
fn talk(stream: &mut Socket, request: &str, until: Instant) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut piece)? {
            0 => return Ok(answer),
            read => answer.extend_from_slice(&piece[..read]),
        }
        if answer.len() as u64 > ANSWER_MAX {
            return Err(io::Error::other(format!("the reply is longer than {ANSWER_MAX} bytes")));
        }
    }
}

/// The time that is left; an error if there is none.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Why there is no connection, and what to do.
fn no_connection(place: &AdminAddress, error: &io::Error) -> String {
    let why = match (place, error.kind()) {
        (AdminAddress::Socket(_), ErrorKind::NotFound) => {
            "the socket does not exist: is the balancer running, and is this its admin.socket?"
                .to_owned()
        }
        (AdminAddress::Socket(_), ErrorKind::PermissionDenied) => {
            "permission denied: run this as root, or as the user or group that owns the socket"
                .to_owned()
        }
        (AdminAddress::Socket(path), _) if is_no_stream_socket(path, error) => {
            "it is not the socket of a balancer: check that this is its admin.socket".to_owned()
        }
        (AdminAddress::Socket(_), ErrorKind::InvalidInput) => {
            "the path is too long for a unix socket: it may have 107 bytes".to_owned()
        }
        (AdminAddress::Socket(_), ErrorKind::ConnectionRefused) => {
            "nothing listens on the socket: the balancer crashed or was killed, start it".to_owned()
        }
        (AdminAddress::Http(..), ErrorKind::ConnectionRefused) => {
            "nothing listens there: is the balancer running, and is this its admin.http?".to_owned()
        }
        _ if timed_out(error) => {
            let seconds = PATIENCE.as_secs();
            format!("no connection within {seconds} s: the balancer is stopped or overloaded")
        }
        _ => error.to_string(),
    };
    format!("no balancer answers at {place}: {why}")
}

/// Whether something else has the path of a socket: the kernel refuses the connect to a file as it
/// does where nothing listens, and that to a socket for datagrams with `EPROTOTYPE`.
fn is_no_stream_socket(path: &Path, error: &io::Error) -> bool {
    let is_refused = error.kind() == ErrorKind::ConnectionRefused;
    let is_file = || fs::metadata(path).is_ok_and(|file| !file.file_type().is_socket());
    error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) || (is_refused && is_file())
}

/// Why there is no reply, and what to do.
fn no_answer(place: &AdminAddress, error: &io::Error) -> String {
    if timed_out(error) {
        let seconds = PATIENCE.as_secs();
        return format!(
            "no reply from {place} within {seconds} s: the balancer is stopped or overloaded, or \
             another program listens there; an order may still be carried out"
        );
    }
    format!("{place} closed the connection before it replied: {error}")
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::thread;

    use super::*;

    #[test]
    fn a_reply_counts_only_if_it_is_complete_and_good() {
        let place = AdminAddress::Socket("/run/a.sock".into());
        let reply = |answer: &str| read(&place, answer.as_bytes());
        assert_eq!(reply("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"), Ok("ok".to_owned()));
        for (answer, why) in [
            ("", "closed the connection without a reply"),
            ("SSH-2.0-OpenSSH\r\n", "is not from a balancer"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok", "cut off after 2 bytes"),
            ("HTTP/1.0 404 Not Found\r\n\r\n{\"error\": \"no server\"}", "no server"),
            ("HTTP/1.0 502 Bad Gateway\r\n\r\nnothing\n", "nothing"),
            ("HTTP/1.0 405 Method Not Allowed\r\n\r\n", "a reason: 405 Method Not Allowed"),
            ("HTTP/1.0 500 \r\n\r\n", "/run/a.sock refuses without a reason: 500"),
            ("HTTP/1.0 500 X\r\n\r\na \x1b[2Jpage\nof many lines", "a \\u{1b}[2Jpage"),
        ] {
            let refusal = reply(answer).unwrap_err();
            assert!(refusal.contains(why) && !refusal.contains(char::is_control), "{refusal:?}");
        }
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_waited_for_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let place = AdminAddress::Socket(path);
        let soon = || Instant::now() + Duration::from_millis(50);
        let mut queue = Vec::new();
        let error = loop {
            match connect(&place, soon()) {
                Ok(client) => queue.push(client),
                Err(error) => break error,
            }
        };
        assert!(!queue.is_empty());
        let why = no_connection(&place, &error);
        assert!(why.contains("no connection within 10 s"), "{why}");
        let late = thread::spawn(move || connect(&place, Instant::now() + PATIENCE));
        listener.accept().unwrap();
        late.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_socket_is_not_a_balancer_that_crashed() {
        let dir = tempfile::tempdir().unwrap();
        let [file, datagrams] = ["file", "datagrams"].map(|name| dir.path().join(name));
        fs::write(&file, "").unwrap();
        let _socket = UnixDatagram::bind(&datagrams).unwrap();
        let long = PathBuf::from("x".repeat(108));
        for (path, why) in [
            (file, "it is not the socket of a balancer"),
            (dir.path().to_owned(), "it is not the socket of a balancer"),
            (datagrams, "it is not the socket of a balancer"),
            (long, "the path is too long"),
        ] {
            let place = AdminAddress::Socket(path);
            let error =
                no_connection(&place, &connect(&place, Instant::now() + PATIENCE).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_reply_without_end_is_given_up() {
        let (mut ours, mut theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        let endless = thread::spawn(move || while theirs.write_all(b"H").is_ok() {});
        let until = Instant::now() + Duration::from_millis(100);
        let error = talk(&mut ours, "GET /status HTTP/1.0\r\n\r\n", until).unwrap_err();
        assert!(timed_out(&error), "{error}");
        drop(ours);
        endless.join().unwrap();
    }

    #[test]
    fn an_error_names_the_cause_and_what_to_do() {
        let socket = AdminAddress::Socket("/run/a.sock".into());
        let http = AdminAddress::Http(([127, 0, 0, 1], 9000).into(), None);
        for (place, kind, why) in [
            (&socket, ErrorKind::NotFound, "/run/a.sock: the socket does not exist"),
            (&socket, ErrorKind::PermissionDenied, "/run/a.sock: permission denied: run this as"),
            (&socket, ErrorKind::ConnectionRefused, "nothing listens on the socket"),
            (&http, ErrorKind::ConnectionRefused, "127.0.0.1:9000: nothing listens there"),
            (&http, ErrorKind::TimedOut, "no connection within 10 s"),
        ] {
            let error = no_connection(place, &kind.into());
            assert!(error.contains(why), "{error}");
        }
        let error = no_answer(&socket, &ErrorKind::WouldBlock.into());
        assert!(error.contains("no reply from /run/a.sock within 10 s"), "{error}");
    }
}
