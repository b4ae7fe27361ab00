//! Why something failed, in a few kinds that can be counted.

use std::error::Error;
use std::fmt;
use std::io;

/// Why something failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Failure {
    /// The connection was refused.
    Refused,
    /// No connection, or no answer, in time.
    Timeout,
    /// The connection was reset.
    Reset,
    /// The stream ended before all bytes had come.
    ClosedEarly,
    /// Bytes are not those that were sent.
    Corrupt,
    /// The server answered, and said no.
    ServerSaidNo,
    /// Still waiting when the time was over.
    Unfinished,
    /// Anything else.
    Other,
}

impl Failure {
    /// The kind of an error.
    pub(crate) fn of(error: &io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<ServerSaidNo>()) {
            return Self::ServerSaidNo;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => Self::ClosedEarly,
            io::ErrorKind::InvalidData => Self::Corrupt,
            io::ErrorKind::Interrupted => Self::Unfinished,
            _ => Self::Other,
        }
    }

    /// As in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed_early",
            Self::Corrupt => "corrupt",
            Self::ServerSaidNo => "server_said_no",
            Self::Unfinished => "unfinished",
            Self::Other => "other",
        }
    }
}

/// What a server that speaks a protocol answered instead of the result.
#[derive(Debug)]
pub(crate) struct ServerSaidNo(String);

impl ServerSaidNo {
    /// As an error, for the way up.
    pub(crate) fn error(words: impl Into<String>) -> io::Error {
        io::Error::other(Self(words.into()))
    }
}

impl fmt::Display for ServerSaidNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server says: {}", self.0)
    }
}

impl Error for ServerSaidNo {}

/// An error about bytes that make no sense.
pub(crate) fn corrupt(words: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_kinds() {
        assert_eq!(Failure::of(&ServerSaidNo::error("no")), Failure::ServerSaidNo);
        assert_eq!(Failure::of(&corrupt("x")), Failure::Corrupt);
        assert_eq!(Failure::of(&io::Error::from_raw_os_error(104)), Failure::Reset);
        assert_eq!(Failure::of(&io::Error::other("x")), Failure::Other);
    }
}
