//! Sessions that are kept: one exchange per turn, whatever the protocol; a session that failed is
//! opened anew.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::database::{pgsql, redis};
use super::lane::Lane;
use super::{Kind, tcp, udp};
use crate::failure::Failure;

/// What a session waits after a failure, so that a server that is away is not hammered.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// An open session of a kind that asks and waits for the answer.
#[derive(Debug)]
pub(super) enum Talk {
    /// The same bytes there and back.
    RoundTrip(tcp::rr::Talk),
    /// A numbered datagram there and back.
    Datagram(udp::rr::Talk),
    /// A query and its rows.
    Pgsql(pgsql::Talk),
    /// A pipeline of commands and their answers.
    Redis(redis::Talk),
}

/// What one exchange carried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchanged {
    pub(super) operations: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Talk {
    /// Opens a session of the plan's kind; `None` for a kind that keeps none.
    pub(super) async fn open(lane: &Rc<Lane>) -> io::Result<Option<Self>> {
        Ok(Some(match &lane.plan.kind {
            Kind::RoundTrip { size } => {
                Self::RoundTrip(tcp::rr::Talk::new(lane.connect().await?, *size))
            }
            Kind::Datagrams { size, timeout } => {
                Self::Datagram(udp::rr::Talk::open(lane, *size, *timeout)?)
            }
            Kind::Pgsql(login) => Self::Pgsql(pgsql::Talk::open(lane, login).await?),
            Kind::Redis(setting) => Self::Redis(redis::Talk::open(lane, setting).await?),
            _ => return Ok(None),
        }))
    }

    async fn exchange(&mut self) -> io::Result<Exchanged> {
        match self {
            Self::RoundTrip(talk) => talk.exchange().await,
            Self::Datagram(talk) => talk.exchange().await,
            Self::Pgsql(talk) => talk.exchange().await,
            Self::Redis(talk) => talk.exchange().await,
        }
    }

    /// Whether the session is as good as before after this error.
    fn survives(&self, error: &io::Error) -> bool {
        match self {
            Self::RoundTrip(_) => false,
            Self::Datagram(_) => error.kind() == io::ErrorKind::TimedOut,
            Self::Pgsql(_) | Self::Redis(_) => Failure::of(error) == Failure::ServerSaidNo,
        }
    }

    /// Says goodbye where the protocol has a word for it.
    async fn close(self) {
        if let Self::Pgsql(talk) = self {
            talk.close().await;
        }
    }
}

/// The life of one session.
pub(super) async fn session(lane: Rc<Lane>, mut talk: Talk) {
    while let Some(turn) = lane.turn().await {
        match talk.exchange().await {
            Ok(exchanged) => lane.answered(turn, exchanged),
            Err(error) => {
                lane.failed("in a session with", &error);
                if talk.survives(&error) {
                    continue;
                }
                match reopen(&lane).await {
                    Some(opened) => talk = opened,
                    None => return,
                }
            }
        }
    }
    talk.close().await;
}

/// Tries until a session is open or the run ends.
async fn reopen(lane: &Rc<Lane>) -> Option<Talk> {
    while !lane.is_stopping() {
        monoio::time::sleep(PAUSE).await;
        match Talk::open(lane).await {
            Ok(opened) => return opened,
            Err(error) => lane.failed("connecting again to", &error),
        }
    }
    None
}
