//! `kind = "http"`: ask for a page and look at status and body.
//!
//! HTTP/1.0 with a `Host` header, so that no server answers in chunks and each closes at the end.

use std::io::ErrorKind;

use ringlane_core::health::Seen;
use ringlane_core::snapshot::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ANSWER_MAX, Outcome, connect, plain, printable, tls};
use crate::config::{Body, Http};

/// Header fields that an answer may have.
const FIELDS_MAX: usize = 100;

pub(super) async fn check(http: &Http, address: &Address) -> Outcome {
    let mut outcome = Outcome::from(Ok(Seen::default()));
    outcome.seen = ask(http, address, &mut outcome.certificate_days).await;
    outcome
}

async fn ask(http: &Http, address: &Address, days: &mut Option<i64>) -> Result<Seen, String> {
    let mut connection = connect(address).await?;
    if let Some(over) = &http.tls {
        connection = tls::secure(connection, over, address, days).await?;
    }
    let host = http.host.clone().unwrap_or_else(|| match address {
        Address::Inet(inet) => inet.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    });
    let request = format!(
        "{} {} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: ringlane-check\r\nAccept: */*\r\n\r\n",
        http.method, http.path
    );
    let broken = |error| format!("{address}: {}", plain(&error));
    connection.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    let wants_body = http.body.is_some();
    loop {
        let read = match connection.read_buf(&mut answer).await {
            // With TLS, many a server ends without a word.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
            read => read.map_err(broken)?,
        };
        let is_over = read == 0 || answer.len() > ANSWER_MAX;
        match parse(&answer)? {
            Some((status, body_at)) if is_over || !wants_body => {
                return judge(http, status, &answer[body_at..]);
            }
            None if is_over => {
                return Err(format!("answers no HTTP but \"{}\"", printable(&answer)));
            }
            _ => {}
        }
    }
}

/// The status and where the body begins; `None` while the header is not complete.
fn parse(answer: &[u8]) -> Result<Option<(u16, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(answer) {
        Ok(httparse::Status::Complete(at)) => Ok(Some((response.code.unwrap_or(0), at))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(format!("answers no HTTP ({error}) but \"{}\"", printable(answer))),
    }
}

fn judge(http: &Http, status: u16, body: &[u8]) -> Result<Seen, String> {
    if !http.status.iter().any(|good| good.contains(&status)) {
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
    Err(format!("status {status}, but \"{missing}\" is not in the body"))
}
