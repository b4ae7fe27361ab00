//! One request to the admin API, and its answer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the largest answer.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Where a balancer is asked.
#[derive(Debug)]
pub(super) enum Place {
    /// Its unix socket.
    Socket(PathBuf),
    /// Its TCP address, which takes no orders.
    Http(SocketAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Http(address) => address.fmt(f),
        }
    }
}

/// The body of the answer; what went wrong, in a sentence, unless the status is 200.
pub(super) fn ask(place: &Place, method: &str, path: &str, body: &str) -> Result<String, String> {
    let answer = exchange(place, method, path, body).map_err(|error| {
        format!("no balancer answers at {place}: {error}; is it running, and is this its socket?")
    })?;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(at)) = head.parse(&answer) else {
        return Err(format!("{place} does not answer as a balancer does"));
    };
    let body = String::from_utf8_lossy(&answer[at..]).into_owned();
    if head.code == Some(200) {
        return Ok(body);
    }
    let error = serde_json::from_str::<Value>(&body).ok();
    let said = error.as_ref().and_then(|error| error["error"].as_str());
    Err(said.unwrap_or_else(|| body.trim()).to_owned())
}

fn exchange(place: &Place, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
    match place {
        Place::Socket(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, method, path, body)
        }
        Place::Http(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, method, path, body)
        }
    }
}

/// HTTP/1.0, so that the answer ends with the connection and comes in one piece.
fn talk(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<Vec<u8>> {
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: ringlane\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
