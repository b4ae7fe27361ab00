//! A session with a database of either kind: questions and answers, and when each answer came.
//!
//! Just as much of each protocol as the stories need: no password, one question after the other,
//! one value in the answer. PostgreSQL's is in `session`, which shows a story every message.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::session::{Answer, Session};
use super::stamped::Stamped;

/// A kind of database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Database {
    Postgres,
    Redis,
    Mariadb,
}

/// A session with one.
pub(crate) enum Talk {
    Postgres(Session),
    Redis(BufReader<Stamped>),
    Mariadb(BufReader<Stamped>),
}

/// What user `it` says to MariaDB after its greeting: protocol 4.1, an authentication by name, no
/// database, an empty password (MariaDB's documentation, "Handshake response packet").
const LOGIN: &[u8] = b"\x01\x82\x08\0\0\0\0\x01\x2d\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0it\0\0mysql_native_password\0";

impl Talk {
    /// Logs in as `it` if need be; `None` if the session ends instead.
    pub(crate) fn try_begin(database: Database, address: SocketAddr) -> Option<Self> {
        match database {
            Database::Postgres => Session::try_begin(address).map(Self::Postgres),
            Database::Redis => Some(Self::Redis(BufReader::new(Stamped::connect(address)))),
            Database::Mariadb => {
                let mut talk = BufReader::new(Stamped::connect(address));
                packet(&mut talk).ok()?;
                send(&mut talk, 1, LOGIN).ok()?;
                (packet(&mut talk).ok()?.first() == Some(&0)).then_some(Self::Mariadb(talk))
            }
        }
    }

    /// What the server answers: the (last) value, or nothing for an error or the end.
    pub(crate) fn ask(&mut self, words: &str) -> Option<String> {
        match self {
            Self::Postgres(session) => match session.ask(words) {
                Answer::Ready(_, value) => Some(value.unwrap_or_default()),
                Answer::Error(_) | Answer::Gone => None,
            },
            Self::Redis(talk) => {
                talk.get_mut().write_all(format!("{words}\r\n").as_bytes()).ok()?;
                reply(talk).ok()
            }
            Self::Mariadb(talk) => {
                send(talk, 0, &[b"\x03", words.as_bytes()].concat()).ok()?;
                result(talk).ok()
            }
        }
    }

    /// When the last answer came.
    pub(crate) fn heard(&self) -> Duration {
        match self {
            Self::Postgres(session) => session.heard(),
            Self::Redis(talk) | Self::Mariadb(talk) => talk.get_ref().heard(),
        }
    }
}

/// A reply of Redis (RESP2): the text, or of a list the last element.
fn reply(talk: &mut BufReader<Stamped>) -> io::Result<String> {
    let mut line = String::new();
    talk.read_line(&mut line)?;
    let rest = line.get(1..).unwrap_or_default().trim_end().to_owned();
    match line.bytes().next() {
        Some(b'+' | b':') => Ok(rest),
        Some(b'$') if rest.starts_with('-') => Ok(String::new()),
        Some(b'$') => {
            line.clear();
            talk.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        }
        Some(b'*') => {
            let elements = rest.parse().map_err(|_| ErrorKind::InvalidData)?;
            (0..elements).try_fold(String::new(), |_, _: u32| reply(talk))
        }
        _ => Err(io::Error::other(line)),
    }
}

/// A packet of MariaDB.
fn packet(talk: &mut BufReader<Stamped>) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    talk.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    talk.read_exact(&mut body)?;
    Ok(body)
}

fn send(talk: &mut BufReader<Stamped>, number: u8, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).unwrap().to_le_bytes();
    talk.get_mut().write_all(&[&len[..3], &[number], body].concat())
}

/// The first column of the last row of a query's result, if it is a table.
fn result(talk: &mut BufReader<Stamped>) -> io::Result<String> {
    /// What ends a list.
    const EOF: u8 = 0xFE;
    match packet(talk)?.first() {
        Some(0) => return Ok(String::new()),
        Some(0xFF) | None => return Err(ErrorKind::Other.into()),
        Some(_columns) => {}
    }
    while packet(talk)?.first() != Some(&EOF) {}
    let mut value = String::new();
    loop {
        let row = packet(talk)?;
        match row.first() {
            Some(&EOF) | None => return Ok(value),
            Some(&len) => value = String::from_utf8_lossy(&row[1..=usize::from(len)]).into_owned(),
        }
    }
}
