//! Where the tasks of TCP sessions begin.

use std::rc::Rc;

use ringlane_core::machine::reactor::Stream;
use ringlane_core::machine::sys::Socket;
use ringlane_shard::{MakeCarrier, Session};

use crate::session::serve;
use crate::tcp::Tcp;

/// A carrier for shards that carry nothing but TCP, with so many pipes.
pub fn tcp_alone(pipes: usize) -> MakeCarrier {
    Box::new(move |_| {
        let tcp = Tcp::new(pipes);
        Box::new(move |session, connection| begin(&tcp, session, connection))
    })
}

/// Begins to carry an accepted session, in a task of its own.
pub fn begin(tcp: &Rc<Tcp>, mut session: Session, connection: Socket) {
    let reactor = session.generation.reactor().clone();
    let client = Stream::new(&reactor, connection);
    let tcp = Rc::clone(tcp);
    // A block, since a function's arguments would take up their room in the task twice.
    reactor.spawn(async move {
        let close = serve(&tcp, &client, &mut session).await;
        session.end(close);
    });
}
