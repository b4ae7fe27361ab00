//! Why a session ended: HAProxy's two letters, who × in which phase.
//!
//! The meaning is that of `termination_state` in HAProxy's configuration manual, section 8.5, cut
//! down to what a TCP session can meet. Invariant: every session ends with exactly one `Close`.

use std::fmt;

/// Who ended the session.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Cause {
    /// `-`: both sides said all they had to say.
    #[default]
    Normal,
    /// `C`: the client reset the connection or went away.
    Client,
    /// `S`: the server refused, reset or failed.
    Server,
    /// `c`: the client was silent for longer than its timeout.
    ClientTimeout,
    /// `s`: the server was silent for longer than its timeout, or did not answer the connect.
    ServerTimeout,
    /// `P`: refused here, by a rule or for what the client said.
    Refused,
    /// `R`: a resource of this machine ran out (descriptors, ports, memory).
    Resource,
    /// `K`: it was ended (stop, a drain that ran out of time, a server that is not what it was).
    Killed,
    /// `I`: an error of our own.
    Internal,
}

/// In which phase it ended.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Phase {
    /// `R`: before the client had said what must be known to choose a server.
    Request,
    /// `Q`: while it waited for a server with room.
    Queue,
    /// `C`: before a server had accepted the connection.
    Connect,
    /// `D`: while data was relayed.
    Data,
    /// `-`: after both sides had finished.
    #[default]
    Finished,
}

/// Who × when, printed as two letters.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Close {
    /// Who ended the session.
    pub cause: Cause,
    /// In which phase.
    pub phase: Phase,
}

impl Close {
    /// `--`, the ordinary end.
    pub const NORMAL: Self = Self { cause: Cause::Normal, phase: Phase::Finished };

    /// A close in the queue.
    pub const fn queue(cause: Cause) -> Self {
        Self { cause, phase: Phase::Queue }
    }

    /// A close in the connect phase.
    pub const fn connect(cause: Cause) -> Self {
        Self { cause, phase: Phase::Connect }
    }

    /// A close in the data phase.
    pub const fn data(cause: Cause) -> Self {
        Self { cause, phase: Phase::Data }
    }

    /// How many kinds of close there are.
    pub const KINDS: usize = Self::CAUSES.len() * Self::PHASES.len();

    const CAUSES: [Cause; 9] = [
        Cause::Normal,
        Cause::Client,
        Cause::Server,
        Cause::ClientTimeout,
        Cause::ServerTimeout,
        Cause::Refused,
        Cause::Resource,
        Cause::Killed,
        Cause::Internal,
    ];

    const PHASES: [Phase; 5] =
        [Phase::Request, Phase::Queue, Phase::Connect, Phase::Data, Phase::Finished];

    /// A number below [`Close::KINDS`], another one for each kind.
    pub const fn index(self) -> usize {
        self.cause as usize * Self::PHASES.len() + self.phase as usize
    }

    /// Every kind, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |cause| Self::PHASES.into_iter().map(move |phase| Self { cause, phase });
        Self::CAUSES.into_iter().flat_map(of)
    }

    /// The two letters.
    pub fn code(self) -> [u8; 2] {
        let cause = match self.cause {
            Cause::Normal => b'-',
            Cause::Client => b'C',
            Cause::Server => b'S',
            Cause::ClientTimeout => b'c',
            Cause::ServerTimeout => b's',
            Cause::Refused => b'P',
            Cause::Resource => b'R',
            Cause::Killed => b'K',
            Cause::Internal => b'I',
        };
        let phase = match self.phase {
            Phase::Request => b'R',
            Phase::Queue => b'Q',
            Phase::Connect => b'C',
            Phase::Data => b'D',
            Phase::Finished => b'-',
        };
        [cause, phase]
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cause, phase] = self.code();
        write!(f, "{}{}", char::from(cause), char::from(phase))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_has_a_number_and_letters_of_its_own() {
        let numbers: Vec<usize> = Close::all().map(Close::index).collect();
        assert_eq!(numbers, (0..Close::KINDS).collect::<Vec<_>>());
        let letters: HashSet<[u8; 2]> = Close::all().map(Close::code).collect();
        assert_eq!(letters.len(), Close::KINDS);
    }

    #[test]
    fn prints_haproxys_letters() {
        for (close, letters) in [
            (Close::NORMAL, "--"),
            (Close::data(Cause::Client), "CD"),
            (Close::data(Cause::ServerTimeout), "sD"),
            (Close::connect(Cause::Server), "SC"),
            (Close::connect(Cause::Resource), "RC"),
        ] {
            assert_eq!(close.to_string(), letters);
        }
    }
}
