//! Servers in threads of the test: whatever a story wants a server to be.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// A server that does the same with each connection, in a thread each. It takes no new ones after
/// it was dropped; those that it has go on until their other side ends them.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Serves every connection with `serve`.
    pub(crate) fn each(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&ended);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if has_ended.load(Ordering::SeqCst) {
                    break;
                }
                let serve = Arc::clone(&serve);
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, ended }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Only to wake it.
        let _ = TcpStream::connect(self.address);
    }
}

/// A server that is there and never answers: its queue is full and nobody accepts.
pub(crate) struct BlackHole {
    /// Where it does not answer.
    pub(crate) address: SocketAddr,
    listener: Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // A queue of length 0 takes one; what does not fit into it stays unanswered.
        let queued = TcpStream::connect(address).unwrap();
        Self { address, listener, _queued: vec![queued] }
    }

    /// Accepts what fills the queue, and then the first connection that waited for its turn.
    pub(crate) fn accepts_one(&self) -> Socket {
        let _filler = self.listener.accept().unwrap();
        self.listener.accept().unwrap().0
    }
}

/// An address where nobody listens. The port is held, so that nobody else gets it.
pub(crate) struct Nobody {
    /// The address.
    pub(crate) address: SocketAddr,
    socket: Socket,
}

impl Nobody {
    /// Finds one.
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        Self { address: socket.local_addr().unwrap().as_socket().unwrap(), socket }
    }

    /// From now on somebody listens.
    pub(crate) fn becomes_somebody(self) -> Socket {
        self.socket.listen(128).unwrap();
        self.socket
    }
}

/// An address for a program that can't be told to take a port of the kernel's choice. Addresses
/// of the loopback network are used in turn, so that nobody else is given the port before it is.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let address = Ipv4Addr::new(127, 0, 3, NEXT.fetch_add(1, Ordering::SeqCst));
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}
