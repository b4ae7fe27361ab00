//! The life of one TCP session: first message, server, relay, end.
//!
//! Not here: the client's half that every carrier has (`ringlane_shard::Session`), moving bytes
//! (`relay`). Invariant: whatever ends a session, each side gets an end or a reset that means what
//! has happened.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringlane_core::counters::{Cause, Close, Ending, Phase, Reason};
use ringlane_core::limits::LAST_WORDS;
use ringlane_core::machine::reactor::{Receiver, Stream};
use ringlane_core::machine::sys::{Buffer, Socket};
use ringlane_shard::{Seat, Session, Waiting};

use crate::cancel;
use crate::copy::Source;
use crate::first_byte::Timed;
use crate::greet::{self, GreetingReader, Step};
use crate::mirror::Mirror;
use crate::relay::{End, Relay};
use crate::side::{Broken, Side};
use crate::taps::Taps;
use crate::tcp::Tcp;
use crate::throttle::Throttle;
use crate::traffic::Traffic;
use crate::transactions::Tracker;

/// The time between two looks at whether what was sent before a reset has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A session of which fewer segments were sent again was just unlucky.
const RESENT_MIN: u32 = 3;

/// A session whose server has accepted.
struct Opened<'a> {
    client: Source<'a>,
    server: Stream,
    seat: Seat,
    /// Bytes of the client that the server has been sent.
    passed_on: usize,
    taps: Option<Box<Taps>>,
}

/// Begins to carry an accepted session, in a task of its own: connects and relays, to the end.
pub fn begin(tcp: &Rc<Tcp>, mut session: Session, connection: Socket) {
    let reactor = session.generation.reactor().clone();
    let client = Stream::new(&reactor, connection);
    let tcp = Rc::clone(tcp);
    // One block, since the arguments of an async function would take up their room in the task
    // twice.
    reactor.spawn(async move {
        // Apart, since this needs more room than all that follows, and is over soon: on the heap a
        // burst of openings would leave its holes between what the sessions keep.
        let opened = match client.reactor().brief(open(&tcp, &client, &mut session)).await {
            Ok(opened) => opened,
            Err(close) => return session.end(close),
        };
        let Opened { client: source, server, seat, passed_on, taps } = opened;
        session.trail.enter(Phase::Data);
        let traffic = Traffic::new(&tcp.pipes, &session, seat, taps);
        if passed_on > 0 {
            traffic.received(Side::Client, passed_on);
        }
        let ended = match traffic.first_byte_limit() {
            None => Relay::new(source, &server, &traffic).await,
            Some(limit) => {
                let relay = Relay::new(source, &server, &traffic);
                Box::pin(Timed::new(relay, &session, &server, limit)).await
            }
        };
        if let Err(End::Broken(Broken(side))) = &ended {
            let other = if *side == Side::Client { &server } else { &client };
            if other.unacknowledged() > 0 {
                Box::pin(let_arrive(other)).await;
            }
            other.reset_on_close();
        }
        let close = close(ended, &client, &server, &traffic);
        drop(traffic);
        session.end(close);
    });
}

/// Ends both sides as it should be after what ended the relay; how the session is to be logged.
fn close(ended: Result<(), End>, client: &Stream, server: &Stream, traffic: &Traffic<'_>) -> Close {
    count_loss(traffic, server);
    match ended {
        Ok(()) => Close::NORMAL,
        Err(End::Broken(Broken(side))) => Close::data(side.cause()),
        Err(End::Silent(cause)) => Close::data(cause),
        Err(End::Drained(why)) => ended_by_order(traffic, Ending::Drain, why),
        Err(End::Fenced { explained, why }) => {
            // A reset each way: neither side must take what was sent for all of it.
            if !explained {
                client.reset_on_close();
            }
            server.reset_on_close();
            ended_by_order(traffic, Ending::Fence, why)
        }
    }
}

fn ended_by_order(traffic: &Traffic<'_>, how: Ending, why: Reason) -> Close {
    traffic.server.ended.count(how, why);
    traffic.session.trail.because(why);
    Close::data(Cause::Killed)
}

/// Waits until what was sent has arrived, or none of it does any more: the reset that follows would
/// overtake it.
async fn let_arrive(stream: &Stream) {
    let reactor = stream.reactor();
    let (mut left, mut until) = (u64::MAX, reactor.now() + LAST_WORDS);
    loop {
        let now_left = stream.unacknowledged();
        if now_left < left {
            (left, until) = (now_left, reactor.now() + LAST_WORDS);
        }
        if left == 0 || reactor.now() >= until {
            return;
        }
        reactor.sleep(LOOK_AGAIN).await;
    }
}

/// Looks once, at the end, whether much had to be sent to the server again, where that is watched.
fn count_loss(traffic: &Traffic<'_>, server: &Stream) {
    if let Some(limit) = traffic.loss_limit()
        && let Some((sent, again)) = server.segments()
        && again >= RESENT_MIN
        && u64::from(again) * 100 > u64::from(sent) * u64::from(limit)
    {
        traffic.server.sessions_lossy.add(1);
    }
}

/// Reads what must be known of the client, and connects to a server. What few sessions need is
/// boxed once more: the room of all others would be as large.
async fn open<'a>(
    tcp: &Rc<Tcp>,
    client: &'a Stream,
    session: &mut Session,
) -> Result<Opened<'a>, Close> {
    let mut receiver = client.receiver();
    let mut read = None;
    if session.frontend().accept_proxy.is_some() {
        read = client.reactor().brief(session.read_proxy_header(&mut receiver)).await?;
    }
    let protocol = session.frontend().protocol;
    if protocol.begins_with_the_client() {
        return client.reactor().brief(open_by_greeting(tcp, receiver, session, read)).await;
    }
    let (server, seat) = session.reach(&Waiting::new(&receiver, read.is_some())).await?;
    let mirror = Mirror::begin(&tcp.mirrors, session, client, &[]);
    let taps = taps(session, Tracker::new(protocol), mirror);
    Ok(Opened { client: Source { receiver, read }, server, seat, passed_on: 0, taps })
}

fn taps(session: &Session, tracker: Option<Tracker>, mirror: Option<Mirror>) -> Option<Box<Taps>> {
    let throttle = Throttle::new(&session.generation, session.backend());
    Taps { tracker: tracker.map(RefCell::new), mirror, throttle }.boxed()
}

/// Reads the client's first message, and connects to the server that is chosen by it.
async fn open_by_greeting<'a>(
    tcp: &Rc<Tcp>,
    receiver: Receiver<'a>,
    session: &mut Session,
    read: Option<Buffer>,
) -> Result<Opened<'a>, Close> {
    let client = receiver.stream();
    let mut reader = GreetingReader::new(session, receiver, read);
    // The server that had to be asked for TLS, and where the session was to go then.
    let mut asked: Option<(Stream, Seat)> = None;
    let mut greeting = loop {
        let step = reader.next(session.frontend()).await;
        match step.map_err(|refusal| refusal.note(session))? {
            Step::Done(greeting) => break greeting,
            Step::Cancel(key) => {
                return Err(cancel::pass_on(session, reader.receiver(), &key).await);
            }
            Step::AskServer if asked.is_some() => return Err(reader.refuse().note(session)),
            Step::AskServer => {
                // The client can send nothing more before it is answered.
                let waiting = Waiting::new(reader.receiver(), false);
                let reached = session.reach(&waiting).await;
                let (server, seat) = reached.inspect_err(|close| {
                    greet::explain_to_postgres(session, client, *close);
                })?;
                let offers_tls = greet::ask_for_tls(session, &server, &waiting).await;
                let offers_tls = offers_tls.inspect_err(|close| {
                    greet::explain_to_postgres(session, client, *close);
                })?;
                reader.answer(offers_tls).map_err(|refusal| refusal.note(session))?;
                if offers_tls {
                    let (receiver, read) = (reader.into_receiver(), None);
                    let mirror = Mirror::begin(&tcp.mirrors, session, client, &[]);
                    let taps = taps(session, None, mirror);
                    let client = Source { receiver, read };
                    return Ok(Opened { client, server, seat, passed_on: 0, taps });
                }
                asked = Some((server, seat));
            }
        }
    };
    let before = (session.backend(), session.role());
    let hints = std::mem::take(&mut greeting.hints);
    session.set_route(greeting.backend, greeting.role, hints);
    let receiver = reader.into_receiver();
    let waiting = Waiting::new(&receiver, !greeting.bytes.is_empty());
    let kept = asked.filter(|_| before == (session.backend(), session.role()));
    let (server, seat) = match kept {
        Some(reached) => reached,
        None => {
            session.trail.give_up_seat();
            let reached = session.reach(&waiting).await;
            reached.inspect_err(|close| {
                if greeting.is_clear_postgres {
                    greet::explain_to_postgres(session, client, *close);
                }
            })?
        }
    };
    greet::pass_on(session, &server, &greeting, &waiting).await?;
    let mirror = Mirror::begin(&tcp.mirrors, session, client, &greeting.bytes);
    session.forget_hints();
    let tracker = greeting.is_clear_postgres.then(|| Tracker::Postgres(Default::default()));
    let taps = taps(session, tracker, mirror);
    let passed_on = greeting.bytes.len();
    Ok(Opened { client: Source { receiver, read: None }, server, seat, passed_on, taps })
}
