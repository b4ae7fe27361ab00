//! `kind = "http"`: requests a page and checks status and body.
//!
//! HTTP/1.1 with `Host` and `Connection: close`, or HTTP/1.0 with `version = "1.0"`. Interim
//! responses (1xx) are skipped. A response is complete with its header, or, if its body is checked,
//! with its body: by its length, by its last chunk, or by the end of the connection. A body
//! without length is searched as it comes, since some connections stay open. Whatever follows, even
//! a reset, is ignored.

use std::io::ErrorKind;
use std::time::Duration;

use ringlane_core::machine::Address;
use ringlane_health::Seen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::destination::Destination;
use super::{ANSWER_MAX, Outcome, printable, tls};
use crate::config::{Body, Http};

/// Header fields that an answer may have.
const FIELDS_MAX: usize = 100;

/// Number of bytes that are enough to see whether this is HTTP at all.
const FIRST_LOOK: usize = 16;

/// The shortest time between two searches of a body that is still coming, however it is cut up.
const SEARCH_PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn check(http: &Http, destination: &Destination) -> Outcome {
    let mut outcome = Outcome::from(Ok(Seen::default()));
    outcome.seen = ask(http, destination, &mut outcome.certificate_days).await;
    outcome
}

async fn ask(
    http: &Http,
    destination: &Destination,
    days: &mut Option<i64>,
) -> Result<Seen, String> {
    let mut connection = destination.connect().await?;
    if let Some(over) = &http.tls {
        connection = tls::secure(connection, over, destination, days).await?;
    }
    let broken = |error| format!("{destination}: {}", destination.text(&error));
    connection.write_all(request(http, destination).as_bytes()).await.map_err(broken)?;
    let mut answer = Answer::new(http.method == "HEAD", http.body.is_some());
    let mut search_at = Instant::now();
    loop {
        if answer.is_unsearched() && Instant::now() >= search_at {
            if let Some(verdict) = answer.search(http, destination) {
                return verdict;
            }
            search_at = Instant::now() + SEARCH_PAUSE;
        }
        let is_unsearched = answer.is_unsearched();
        let reading = connection.read_buf(&mut answer.bytes);
        let read = match is_unsearched {
            false => reading.await,
            true => match timeout_at(search_at, reading).await {
                Ok(read) => read,
                Err(_) => continue,
            },
        };
        let read = match read {
            // Many servers close a TLS connection without close_notify.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            // One that does not read all of the request resets the connection behind its answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && answer.has_header() => 0,
            read => read.map_err(broken)?,
        };
        let is_over = read == 0 || answer.bytes.len() > ANSWER_MAX;
        if let Some((status, body)) = answer.read(is_over)? {
            return judge(http, status, &body);
        }
    }
}

fn request(http: &Http, destination: &Destination) -> String {
    let host = http.host.clone().unwrap_or_else(|| match &destination.address {
        Address::Inet(inet) => inet.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    });
    format!(
        "{} {} HTTP/1.{}\r\nHost: {host}\r\nUser-Agent: ringlane-check\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        http.method, http.path, http.minor_version
    )
}

/// A response, as far as it has arrived.
struct Answer {
    bytes: Vec<u8>,
    /// Up to here no header ends.
    searched: usize,
    /// Up to here a body without length has been searched.
    body_searched: usize,
    head: Option<Head>,
    /// The request was `HEAD`: there is no body, whatever the header announces.
    to_head: bool,
    wants_body: bool,
}

/// The header of the answer that counts.
struct Head {
    status: u16,
    body_at: usize,
    end: End,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// After this many bytes.
    Length(usize),
    /// With an empty chunk.
    Chunks,
    /// The connection ends.
    Connection,
}

impl Answer {
    fn new(to_head: bool, wants_body: bool) -> Self {
        Self { bytes: Vec::new(), searched: 0, body_searched: 0, head: None, to_head, wants_body }
    }

    fn has_header(&self) -> bool {
        self.head.is_some()
    }

    /// Whether bytes have come of a body of which only the end of the connection shows the end.
    fn is_unsearched(&self) -> bool {
        let is_endless = self.head.as_ref().is_some_and(|head| head.end == End::Connection);
        self.wants_body && is_endless && self.body_searched < self.bytes.len()
    }

    /// Searches what has come of such a body; nothing is decided while the text may still come.
    fn search(&mut self, http: &Http, destination: &Destination) -> Option<Result<Seen, String>> {
        let Head { status, body_at, .. } = self.head.as_ref()?;
        self.body_searched = self.bytes.len();
        let verdict = judge(http, *status, &self.bytes[*body_at..]);
        match verdict {
            Err(why) if is_wanted(http, *status) => {
                destination.lacks(format!("{why}, which did not end"));
                None
            }
            verdict => Some(verdict),
        }
    }

    /// Status and body once the response is complete; `is_over`: no more bytes will be read.
    fn read(&mut self, is_over: bool) -> Result<Option<(u16, Vec<u8>)>, String> {
        while self.head.is_none() {
            // Parsed only when a header may be complete, since a server may send it byte by byte.
            let Some(len) = self.find_header(is_over)? else { return Ok(None) };
            if self.head.is_none() {
                // It only announced the answer.
                self.bytes.drain(..len);
                self.searched = 0;
            }
        }
        let Some(Head { status, body_at, end }) = &self.head else { return Ok(None) };
        let body = &self.bytes[*body_at..];
        if !self.wants_body {
            return Ok(Some((*status, Vec::new())));
        }
        let is_cut = self.bytes.len() > ANSWER_MAX;
        let body = match *end {
            End::Length(length) if body.len() >= length => Some(body[..length].to_vec()),
            End::Length(_) if is_cut => Some(body.to_vec()),
            End::Length(length) if is_over => {
                let came = body.len();
                return Err(format!("response body ended after {came} of {length} bytes"));
            }
            End::Chunks => match unchunked(body)? {
                (body, is_whole) if is_whole || is_cut => Some(body),
                _ if is_over => return Err("response body ended before its last chunk".to_owned()),
                _ => None,
            },
            End::Connection if is_over => Some(body.to_vec()),
            End::Length(_) | End::Connection => None,
        };
        Ok(body.map(|body| (*status, body)))
    }

    /// The length of a header that is complete; the answer's own becomes `head`.
    fn find_header(&mut self, is_over: bool) -> Result<Option<usize>, String> {
        let from = self.searched.saturating_sub(3);
        let new = &self.bytes[from..];
        let may_end = new.windows(2).any(|two| two == b"\n\n")
            || new.windows(4).any(|four| four == b"\r\n\r\n");
        let first_look = self.searched < FIRST_LOOK && self.bytes.len() >= FIRST_LOOK;
        self.searched = self.bytes.len();
        if !may_end && !first_look && !is_over {
            return Ok(None);
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let not_http = || format!("not an HTTP response: \"{}\"", printable(&self.bytes));
        let len = match response.parse(&self.bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if is_over => return Err(not_http()),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("{} ({error})", not_http())),
        };
        let status = response.code.unwrap_or(0);
        if !is_interim(status) {
            let bodiless = self.to_head || matches!(status, 101 | 204 | 304);
            let end = if bodiless { End::Length(0) } else { end_of_body(response.headers)? };
            self.head = Some(Head { status, body_at: len, end });
        }
        Ok(Some(len))
    }
}

/// Whether the final response is yet to come (RFC 9110, section 15.2); 101 ends HTTP.
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// How a body ends (RFC 9112, section 6.3).
fn end_of_body(fields: &[httparse::Header<'_>]) -> Result<End, String> {
    let all = |name: &'static str| {
        let named = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        fields.iter().filter(named).map(|field| String::from_utf8_lossy(field.value))
    };
    if all("transfer-encoding").any(|value| value.to_ascii_lowercase().contains("chunked")) {
        return Ok(End::Chunks);
    }
    let lengths = all("content-length").flat_map(|value| {
        value.split(',').map(|length| length.trim().parse::<usize>().ok()).collect::<Vec<_>>()
    });
    let lengths: Vec<Option<usize>> = lengths.collect();
    match lengths[..] {
        [] => Ok(End::Connection),
        [Some(length), ref others @ ..] if others.iter().all(|other| *other == Some(length)) => {
            Ok(End::Length(length))
        }
        _ => Err("invalid Content-Length".to_owned()),
    }
}

/// The content of the chunks so far, and whether the last chunk has arrived.
fn unchunked(mut bytes: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(bytes) {
            // What follows are fields, which are of no interest.
            Ok(httparse::Status::Complete((_, 0))) => return Ok((body, true)),
            Ok(httparse::Status::Complete((at, size))) => {
                let rest = &bytes[at..];
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                body.extend_from_slice(&rest[..size.min(rest.len())]);
                // Including the line end after the chunk.
                match size.checked_add(2).and_then(|size| rest.get(size..)) {
                    Some(rest) => bytes = rest,
                    None => return Ok((body, false)),
                }
            }
            Ok(httparse::Status::Partial) => return Ok((body, false)),
            Err(_) => return Err("invalid chunk size in the response body".to_owned()),
        }
    }
}

fn is_wanted(http: &Http, status: u16) -> bool {
    http.status.iter().any(|good| good.contains(&status))
}

fn judge(http: &Http, status: u16, body: &[u8]) -> Result<Seen, String> {
    if !is_wanted(http, status) {
        let good = http.status.iter().map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
        let good: Vec<String> = good.collect();
        return Err(format!("status {status}, expected {}", good.join(", ")));
    }
    let text = String::from_utf8_lossy(body);
    let missing = match &http.body {
        Some(Body::Text(part)) if !text.contains(part) => part.as_str(),
        Some(Body::Pattern(pattern)) if !pattern.is_match(&text) => pattern.as_str(),
        _ => return Ok(Seen { detail: Some(format!("status {status}")), ..Seen::default() }),
    };
    Err(format!("status {status}, but \"{missing}\" not found in the body"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a response byte by byte; returns status, body and the number of bytes that were
    /// needed.
    fn whole(text: &str, wants_body: bool) -> Result<Option<(u16, String, usize)>, String> {
        let mut answer = Answer::new(false, wants_body);
        let mut taken = 0;
        for byte in text.bytes() {
            answer.bytes.push(byte);
            taken += 1;
            if let Some((status, body)) = answer.read(false)? {
                return Ok(Some((status, String::from_utf8(body).unwrap(), taken)));
            }
        }
        let rest = answer.read(true)?;
        Ok(rest.map(|(status, body)| (status, String::from_utf8(body).unwrap(), taken + 1)))
    }

    #[test]
    fn an_answer_is_whole_when_its_own_words_say_so() {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n";
        let counted = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                       2;x=y\r\nfi\r\n2\r\nne\r\n0\r\n";
        for (text, body) in [
            (counted.to_owned(), "fine"),
            (format!("{early}{counted}"), "fine"),
            (chunked.to_owned(), "fine"),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n".to_owned(), ""),
        ] {
            let (status, found, taken) = whole(&text, true).unwrap().unwrap();
            assert!(matches!(status, 200 | 204));
            assert_eq!((found.as_str(), taken), (body, text.len()), "{text}");
            let header = whole(&text, false).unwrap().unwrap();
            assert!(header.1.is_empty() && header.2 <= taken);
        }
        let open = "HTTP/1.0 200 OK\r\n\r\nfine";
        assert_eq!(whole(open, true), Ok(Some((200, "fine".to_owned(), open.len() + 1))));
    }

    #[test]
    fn what_is_no_whole_answer_is_refused() {
        for text in [
            "",
            "SSH-2.0-OpenSSH_9.2 and more",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfine",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nfine!",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nfi\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ] {
            assert!(whole(text, true).is_err(), "{text}");
        }
    }
}
