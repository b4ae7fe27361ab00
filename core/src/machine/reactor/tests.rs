//! The promises of the reactor over real sockets: nothing lent is lost, nothing leaks on drop.
//!
//! Each story runs on a shard of its own and ends with [`Reactor::lent`] back at zero. That a
//! descriptor was closed is seen from the other side: it reads the end of the stream.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::limits::{BUFFER_SIZE, BUFFERS_MAX, RECEIVE_QUEUE};
use crate::machine::sys::{Buffer, ConnectOptions, Interest, Pipe};
use crate::machine::{Address, Congestion, Source, SourceAddress, TcpOptions};

/// Nothing but what every relay wants.
const PLAIN: ConnectOptions<'static> = ConnectOptions {
    congestion: &Congestion::Host,
    tcp: &TcpOptions {
        keepalive: None,
        user_timeout: None,
        fast_open: false,
        mark: None,
        dscp: None,
    },
    source: &Source { address: SourceAddress::Host, ports: None },
    client: None,
};

fn reactor(driver: DriverKind) -> Reactor {
    let bell = Arc::new(Doorbell::new().unwrap());
    Reactor::new(driver, 0, bell, Arc::default()).unwrap()
}

const DRIVERS: [DriverKind; 2] = [DriverKind::Uring, DriverKind::Epoll];

/// Runs a story to its end on each driver, then lets the kernel finish what the story dropped.
fn story<F: Future<Output = ()> + 'static>(tell: impl Fn(Reactor) -> F) {
    for driver in DRIVERS {
        let reactor = reactor(driver);
        reactor.run(tell(reactor.clone())).unwrap();
        for _ in 0..100 {
            if reactor.lent() == (0, 0) {
                break;
            }
            reactor.visit_kernel(reactor.wait()).unwrap();
        }
        assert_eq!(reactor.lent(), (0, 0), "operations and buffers still lent on {driver:?}");
    }
}

/// A connected pair: ours on the shard, theirs a blocking socket of the standard library.
fn pair(reactor: &Reactor) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Stream::new(reactor, ours.into()), theirs)
}

async fn receive(receiver: &mut Receiver<'_>) -> Buffer {
    receiver.next().await.unwrap().expect("bytes, not the end of the stream")
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener, and where it listens.
fn listener(reactor: &Reactor) -> (Listener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    (Listener::new(reactor, socket.into()), address)
}

fn sees_the_end(mut theirs: TcpStream) {
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}

#[test]
fn bytes_are_received_in_order_and_sent_from_the_same_buffer() {
    story(|reactor| async move {
        let (ours, mut theirs) = pair(&reactor);
        let mut receiver = ours.receiver();
        for message in [b"one", b"two"] {
            theirs.write_all(message).unwrap();
            let buffer = receive(&mut receiver).await;
            assert_eq!(buffer.bytes(), message);
            let mut sender = ours.sender();
            sender.send(buffer).await.unwrap();
            sender.flush().await.unwrap();
            let mut echo = [0; 3];
            theirs.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, message);
        }
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(receiver.next().await.unwrap().is_none());
    });
}

#[test]
fn dropping_an_armed_receive_closes_the_socket() {
    story(|reactor| async move {
        let (ours, theirs) = pair(&reactor);
        let mut receiver = ours.receiver();
        let soon = reactor.now() + Duration::from_millis(1);
        assert_eq!(reactor.timeout_at(soon, receiver.next()).await.err(), Some(Elapsed));
        drop(receiver);
        drop(ours);
        // The cancellation needs a visit to the kernel, and the close one more.
        while reactor.lent().0 > 0 {
            reactor.yield_now().await;
        }
        sees_the_end(theirs);
    });
}

#[test]
fn a_dropped_task_gives_everything_back() {
    for driver in DRIVERS {
        let reactor = reactor(driver);
        let (ours, theirs) = pair(&reactor);
        reactor.spawn(async move {
            let mut receiver = ours.receiver();
            let _ = receiver.next().await;
            panic!("nobody sends");
        });
        let sleep = reactor.sleep(Duration::from_millis(1));
        reactor.run(sleep).unwrap();
        drop(reactor);
        sees_the_end(theirs);
    }
}

#[test]
fn a_buffer_being_sent_stays_lent_until_the_kernel_is_done() {
    story(|reactor| async move {
        let (ours, mut theirs) = pair(&reactor);
        let (source, mut feed) = pair(&reactor);
        let mut receiver = source.receiver();
        // Fill the way to a reader that does not read, until a send gets stuck.
        let (mut sender, mut sent) = (ours.sender(), 0);
        loop {
            feed.write_all(&[7; 1000]).unwrap();
            let buffer = receive(&mut receiver).await;
            let len = buffer.len();
            let soon = reactor.now() + Duration::from_millis(20);
            sender.send(buffer).await.unwrap();
            match reactor.timeout_at(soon, sender.flush()).await {
                Ok(done) => done.unwrap(),
                Err(Elapsed) => break,
            }
            sent += len;
        }
        // The sender is gone, the buffer is not: the kernel may still be reading it.
        drop(sender);
        assert_eq!(reactor.lent().1, 1);
        while reactor.lent().1 > 0 {
            reactor.yield_now().await;
        }
        drop(ours);
        while reactor.lent().0 > 1 {
            reactor.yield_now().await;
        }
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        assert!(got.len() >= sent && got.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn a_dropped_connect_leaves_nothing_behind() {
    story(|reactor| async move {
        // A listener that never accepts: once its queue is full, a connect hangs.
        let listener =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = Address::Inet(listener.local_addr().unwrap().as_socket().unwrap());
        let mut connected = Vec::new();
        loop {
            let soon = reactor.now() + Duration::from_millis(50);
            let connect = Stream::connect(&reactor, &address, &PLAIN);
            match reactor.timeout_at(soon, connect).await {
                Ok(stream) => connected.push(stream.unwrap()),
                Err(Elapsed) => break,
            }
            assert!(connected.len() < 100, "the queue never filled");
        }
        while reactor.lent().0 > 0 {
            reactor.yield_now().await;
        }
    });
}

#[test]
fn a_refused_connect_says_so() {
    story(|reactor| async move {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = Address::Inet(port);
        let connect = Stream::connect(&reactor, &address, &PLAIN);
        assert_eq!(connect.await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn connections_that_nobody_took_are_closed_with_the_listener() {
    story(|reactor| async move {
        let (mut listener, address) = listener(&reactor);
        let first = TcpStream::connect(address).unwrap();
        let accepted = listener.accept().await.unwrap();
        let second = TcpStream::connect(address).unwrap();
        reactor.yield_now().await;
        drop(accepted);
        sees_the_end(first);
        drop(listener);
        while reactor.lent().0 > 0 {
            reactor.yield_now().await;
        }
        // Accepted and dropped is an end; still in the kernel's queue is a reset. A connection that
        // leaked is silent.
        second.set_read_timeout(Some(PATIENCE)).unwrap();
        match (&second).read(&mut [0]) {
            Ok(0) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            Ok(_) => panic!("a byte of nobody"),
        }
    });
}

#[test]
fn a_closing_listener_hands_out_its_queue() {
    story(|reactor| async move {
        let (mut listener, address) = listener(&reactor);
        let _one = TcpStream::connect(address).unwrap();
        let _accepted = listener.accept().await.unwrap();
        listener.pause();
        let _two = TcpStream::connect(address).unwrap();
        let _three = TcpStream::connect(address).unwrap();
        assert_eq!(listener.close().await.len(), 2);
        assert!(TcpStream::connect(address).is_err(), "closed");
    });
}

#[test]
fn a_stalled_reader_holds_a_bounded_number_of_buffers() {
    for chunk in [1, BUFFER_SIZE] {
        story(move |reactor| async move {
            let (ours, mut theirs) = pair(&reactor);
            let mut receiver = ours.receiver();
            theirs.write_all(b"?").unwrap();
            let first = receive(&mut receiver).await;
            // Nobody asks for what comes next; every piece travels alone.
            theirs.set_nonblocking(true).unwrap();
            for _ in 0..100 {
                let _ = theirs.write(&vec![1; chunk]);
                reactor.sleep(Duration::from_millis(1)).await;
            }
            let (_, buffers) = reactor.lent();
            assert!(buffers <= 1 + RECEIVE_QUEUE + 1, "{buffers} buffers of {chunk} bytes");
            drop(first);
            assert!(!receive(&mut receiver).await.is_empty());
        });
    }
}

#[test]
fn a_receive_waits_for_a_buffer_when_all_are_held_and_goes_on_when_one_is_back() {
    story(|reactor| async move {
        let (hoarder, mut feed) = pair(&reactor);
        let mut receiver = hoarder.receiver();
        let mut hoard = Vec::new();
        let full = loop {
            feed.write_all(b"x").unwrap();
            let soon = reactor.now() + Duration::from_millis(100);
            match reactor.timeout_at(soon, receiver.next()).await {
                Ok(received) => hoard.push(received.unwrap().unwrap()),
                Err(Elapsed) => break hoard.len(),
            }
        };
        assert_eq!(full, BUFFERS_MAX);
        assert!(reactor.counters().buffers_exhausted.get() > 0);
        hoard.pop();
        assert_eq!(receive(&mut receiver).await.bytes(), b"x");
    });
}

#[test]
fn what_came_before_a_stop_is_not_lost_and_the_rest_is_spliced() {
    story(|reactor| async move {
        let (from, mut source) = pair(&reactor);
        let (to, mut sink) = pair(&reactor);
        let (mut receiver, mut sender) = (from.receiver(), to.sender());
        source.write_all(b"a").unwrap();
        sender.send(receive(&mut receiver).await).await.unwrap();
        source.write_all(b"b").unwrap();
        reactor.sleep(Duration::from_millis(5)).await;
        while let Some(received) = receiver.remainder().await {
            sender.send(received.unwrap().unwrap()).await.unwrap();
        }
        sender.flush().await.unwrap();
        source.write_all(b"c").unwrap();
        from.ready(Interest::Readable).await.unwrap();
        let mut pipe = Pipe::new().unwrap();
        assert_eq!(from.splice_into(&mut pipe, 100).unwrap(), 1);
        assert_eq!(to.splice_from(&mut pipe).unwrap(), 1);
        let mut got = [0; 3];
        sink.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"abc");
    });
}

#[test]
fn a_bell_wakes_a_sleeping_shard() {
    story(|reactor| {
        let bell = Arc::clone(&reactor.0.bell);
        let rings = std::thread::spawn(move || {
            for _ in 0..100 {
                // Whether it comes before or after the shard has gone to sleep, it must arrive.
                bell.ring();
                while bell.is_rung() {
                    std::thread::yield_now();
                }
            }
        });
        async move {
            for _ in 0..100 {
                reactor.rung().await;
            }
            rings.join().unwrap();
        }
    });
}

#[test]
fn a_signal_wakes_those_who_waited_before_it() {
    story(|reactor| async move {
        let signal = Rc::new(Signal::new(&reactor));
        signal.raise();
        let (theirs, other) = (Rc::clone(&signal), reactor.clone());
        reactor.spawn(async move {
            other.yield_now().await;
            theirs.raise();
        });
        signal.wait().await;
    });
}

#[test]
fn a_send_that_ends_well_wakes_nobody_and_one_that_fails_is_heard_of() {
    story(|reactor| async move {
        let (from, mut source) = pair(&reactor);
        let (to, mut sink) = pair(&reactor);
        let (mut receiver, mut sender) = (from.receiver(), to.sender());
        source.write_all(b"a").unwrap();
        sender.send(receive(&mut receiver).await).await.unwrap();
        // The buffer comes back although nobody asks.
        while reactor.lent().1 > 0 {
            reactor.yield_now().await;
        }
        sink.read_exact(&mut [0]).unwrap();
        drop(sink);
        loop {
            // The first message after the close may still be taken; the answer to it is a reset.
            source.write_all(b"b").unwrap();
            let next = std::future::poll_fn(|_| {
                sender.check()?;
                receiver.poll_next()
            });
            match next.await {
                Ok(buffer) => sender.start(buffer.unwrap()).unwrap(),
                Err(_) => break,
            }
            if sender.flush().await.is_err() {
                break;
            }
        }
    });
}
