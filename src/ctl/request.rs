//! One request to the admin API, and its answer.
//!
//! Not here: what is asked. Invariants: whatever the other side does, it is over after [`PATIENCE`];
//! an answer that did not come whole is none; an error says what went wrong, and what to do.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

/// How long it may all take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a socket whose queue is full is tried again.
const QUEUE_STEP: Duration = Duration::from_millis(20);

/// Bytes of the largest answer.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Where a balancer is asked.
#[derive(Debug)]
pub(super) enum AdminAddress {
    /// Its unix socket.
    Socket(PathBuf),
    /// Its TCP address, which takes no orders.
    Http(SocketAddr),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Http(address) => address.fmt(f),
        }
    }
}

/// The body of the answer; what went wrong, in a sentence, unless the status is 200.
pub(super) fn ask(
    place: &AdminAddress,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String, String> {
    let until = Instant::now() + PATIENCE;
    let mut stream = connect(place, until).map_err(|error| no_connection(place, &error))?;
    let answer =
        talk(&mut stream, (method, path, body), until).map_err(|error| no_answer(place, &error))?;
    read(place, &answer)
}

/// The body of a whole answer.
fn read(place: &AdminAddress, answer: &[u8]) -> Result<String, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(at)) = head.parse(answer) else {
        return Err(match answer {
            [] => format!("{place} closed the connection without an answer: is it overloaded?"),
            _ => format!("{place} does not answer as a balancer does: is it the admin address?"),
        });
    };
    let length =
        head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| str::from_utf8(field.value).ok()?.trim().parse().ok());
    let body = &answer[at..];
    if length.is_some_and(|length: usize| body.len() < length) {
        let got = body.len();
        return Err(format!("the answer of {place} was cut off after {got} bytes: try again"));
    }
    let body = String::from_utf8_lossy(body).into_owned();
    if head.code == Some(200) {
        return Ok(body);
    }
    let error = serde_json::from_str::<Value>(&body).ok();
    let said = error.as_ref().and_then(|error| error["error"].as_str());
    Err(said.unwrap_or_else(|| body.trim()).to_owned())
}

fn connect(place: &AdminAddress, until: Instant) -> io::Result<Socket> {
    let address = match place {
        AdminAddress::Socket(path) => SockAddr::unix(path)?,
        AdminAddress::Http(address) => (*address).into(),
    };
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
    loop {
        match socket.connect_timeout(&address, left(until)?) {
            // A unix socket whose queue is full says so at once.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(QUEUE_STEP),
            outcome => return outcome.map(|()| socket),
        }
    }
}

/// HTTP/1.0, so that the answer ends with the connection and comes in one piece.
fn talk(
    stream: &mut Socket,
    (method, path, body): (&str, &str, &str),
    until: Instant,
) -> io::Result<Vec<u8>> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: ringlane\r\nContent-Length: {length}");
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut piece)? {
            0 => return Ok(answer),
            read => answer.extend_from_slice(&piece[..read]),
        }
        if answer.len() as u64 > ANSWER_MAX {
            return Err(io::Error::other(format!("it is longer than {ANSWER_MAX} bytes")));
        }
    }
}

/// The time that is left; an error when there is none.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Why nobody could be asked.
fn no_connection(place: &AdminAddress, error: &io::Error) -> String {
    let why = match (place, error.kind()) {
        (AdminAddress::Socket(_), ErrorKind::NotFound) => {
            "there is no such socket: is it running, and is this its [global] admin.socket?"
                .to_owned()
        }
        (AdminAddress::Socket(_), ErrorKind::PermissionDenied) => {
            "permission denied: run this as root or as the user or group that owns the socket"
                .to_owned()
        }
        (AdminAddress::Socket(_), ErrorKind::ConnectionRefused) => {
            "the socket is there, but nobody listens: it has crashed or was killed".to_owned()
        }
        (AdminAddress::Http(_), ErrorKind::ConnectionRefused) => {
            "nobody listens: is it running, and is this its [global] admin.http?".to_owned()
        }
        _ if timed_out(error) => format!("it takes no connection within {} s", PATIENCE.as_secs()),
        _ => error.to_string(),
    };
    format!("no balancer answers at {place}: {why}")
}

/// Why nothing came back.
fn no_answer(place: &AdminAddress, error: &io::Error) -> String {
    if timed_out(error) {
        let seconds = PATIENCE.as_secs();
        return format!(
            "{place} has not answered within {seconds} s: the balancer is stopped or overloaded, or \
             another program listens there; an order may still be carried out"
        );
    }
    format!("{place} ended the connection before it had answered: {error}")
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_if_it_is_whole_and_good() {
        let place = AdminAddress::Socket("/run/a.sock".into());
        let told = |answer: &str| read(&place, answer.as_bytes());
        assert_eq!(told("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"), Ok("ok".to_owned()));
        for (answer, why) in [
            ("", "closed the connection without an answer"),
            ("SSH-2.0-OpenSSH\r\n", "does not answer as a balancer does"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok", "cut off after 2 bytes"),
            ("HTTP/1.0 404 Not Found\r\n\r\n{\"error\": \"no server\"}", "no server"),
            ("HTTP/1.0 502 Bad Gateway\r\n\r\nnothing\n", "nothing"),
        ] {
            let refusal = told(answer).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let (mut ours, mut theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        let endless = thread::spawn(move || while theirs.write_all(b"H").is_ok() {});
        let until = Instant::now() + Duration::from_millis(100);
        let error = talk(&mut ours, ("GET", "/status", ""), until).unwrap_err();
        assert!(timed_out(&error), "{error}");
        drop(ours);
        endless.join().unwrap();
    }

    #[test]
    fn an_error_names_its_reason_and_what_to_do() {
        let socket = AdminAddress::Socket("/run/a.sock".into());
        let http = AdminAddress::Http(([127, 0, 0, 1], 9000).into());
        for (place, kind, why) in [
            (&socket, ErrorKind::NotFound, "/run/a.sock: there is no such socket"),
            (&socket, ErrorKind::PermissionDenied, "/run/a.sock: permission denied: run this as"),
            (&socket, ErrorKind::ConnectionRefused, "the socket is there, but nobody listens"),
            (&http, ErrorKind::ConnectionRefused, "127.0.0.1:9000: nobody listens"),
            (&http, ErrorKind::TimedOut, "takes no connection within 10 s"),
        ] {
            let error = no_connection(place, &kind.into());
            assert!(error.contains(why), "{error}");
        }
        let error = no_answer(&socket, &ErrorKind::WouldBlock.into());
        assert!(error.contains("has not answered within 10 s"), "{error}");
    }
}
