//! A PostgreSQL client that shows a story each message.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::stamped::Stamped;

/// A session in clear text, with simple queries only.
pub(crate) struct Session {
    stream: Stamped,
}

/// What became of a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// The server's last word was ReadyForQuery: its status, and the first column of the last row.
    Ready(u8, Option<String>),
    /// The server said an error of this code first.
    Error(String),
    /// The session ended.
    Gone,
}

impl Session {
    /// Logs in as `it`; `None` if the session ends instead.
    pub(crate) fn try_begin(address: SocketAddr) -> Option<Self> {
        let mut stream = Stamped::connect(address);
        let parameters = b"user\0it\0database\0postgres\0\0";
        let mut packet = (parameters.len() as u32 + 8).to_be_bytes().to_vec();
        packet.extend([0, 3, 0, 0]);
        packet.extend(parameters);
        stream.write_all(&packet).ok()?;
        let mut session = Self { stream };
        matches!(session.answer(), Answer::Ready(..)).then_some(session)
    }

    /// Logs in as `it`.
    #[track_caller]
    pub(crate) fn begin(address: SocketAddr) -> Self {
        Self::try_begin(address).expect("a session")
    }

    /// When the last message came.
    pub(crate) fn heard(&self) -> Duration {
        self.stream.heard()
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; len as usize - 4];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// What comes up to ReadyForQuery or the first error.
    fn answer(&mut self) -> Answer {
        let mut value = None;
        loop {
            match self.message() {
                Ok((b'Z', status)) => return Answer::Ready(status[0], value),
                Ok((b'E', error)) => return Answer::Error(code(&error)),
                Ok((b'D', row)) => {
                    let text = row.get(6..).unwrap_or_default();
                    value = Some(String::from_utf8_lossy(text).into_owned());
                }
                Ok(_) => {}
                Err(_) => return Answer::Gone,
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, query: &str) -> Answer {
        let mut packet = vec![b'Q'];
        packet.extend((query.len() as u32 + 5).to_be_bytes());
        packet.extend(query.as_bytes());
        packet.push(0);
        match self.stream.write_all(&packet) {
            Ok(()) => self.answer(),
            Err(_) => Answer::Gone,
        }
    }

    /// The status after a query that must succeed.
    #[track_caller]
    pub(crate) fn query(&mut self, query: &str) -> u8 {
        match self.ask(query) {
            Answer::Ready(status, _) => status,
            other => panic!("{query}: {other:?}"),
        }
    }

    /// Waits for the end; the error code that was said before.
    #[track_caller]
    pub(crate) fn ended_with(mut self) -> String {
        let (kind, error) = self.message().expect("a last word");
        assert_eq!(kind, b'E');
        self.message().expect_err("the end");
        code(&error)
    }
}

/// The code in an ErrorResponse.
fn code(error: &[u8]) -> String {
    let text = String::from_utf8_lossy(error).into_owned();
    text.split('\0').find_map(|field| field.strip_prefix('C')).unwrap_or_default().to_owned()
}
