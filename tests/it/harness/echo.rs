//! An echo server for thousands of sessions: one thread, or a process of its own that can be
//! killed.
//!
//! Says a letter first if it has one, so that clients know which of several servers they got. The
//! process is this test binary itself, started with one test that serves instead of testing.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;

use super::client;
use super::program::{self, Beside};

/// Set for the process that serves; its value is the letter.
const LETTER: &str = "RINGLANE_IT_ECHO";

/// What the process says when it serves, before its address.
const MARK: &str = "echo on ";

/// An echo server in a thread. Dropping it closes all its sessions.
pub(crate) struct Echo {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one that only echoes.
    pub(crate) fn start() -> Self {
        Self::on(Ipv4Addr::LOCALHOST, None)
    }

    /// Starts one that greets.
    pub(crate) fn greeting(letter: char) -> Self {
        Self::on(Ipv4Addr::LOCALHOST, u8::try_from(letter).ok())
    }

    /// Starts one on this address.
    pub(crate) fn on(address: Ipv4Addr, letter: Option<u8>) -> Self {
        Self::at(SocketAddr::new(IpAddr::V4(address), 0), letter)
    }

    /// Starts one on this address and port.
    pub(crate) fn at(address: SocketAddr, letter: Option<u8>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || serve(&listener, &stopped, letter));
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An echo server in a process of its own.
pub(crate) struct EchoProcess {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    process: Beside,
}

impl EchoProcess {
    /// Starts one that greets.
    pub(crate) fn greeting(letter: char) -> Self {
        let mut command = program::bound_to_us();
        command
            .arg(env::current_exe().unwrap())
            .args(["--exact", "harness::echo::an_echo_answers", "--nocapture"])
            .env(LETTER, letter.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Beside::start(&mut command, Signal::SIGKILL);
        let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.rsplit_once(MARK)?.1.trim().parse().ok())
            .expect("the echo process says where it listens");
        Self { address, process }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

#[test]
fn an_echo_answers() {
    if let Ok(letter) = env::var(LETTER) {
        let echo = Echo::greeting(letter.chars().next().unwrap());
        println!("{MARK}{}", echo.address);
        loop {
            thread::park();
        }
    }
    let echo = Echo::greeting('e');
    let mut stream = client::connect(echo.address);
    assert_eq!(client::greeting(&mut stream).unwrap(), 'e');
    client::round_trip(&mut stream, b"hello");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client::read_to_end(&mut stream), b"");
}

/// A session: what came and has not been sent back.
struct Session {
    stream: TcpStream,
    pending: Vec<u8>,
    ended: bool,
}

impl Session {
    /// Does what can be done now; `false` when the session is over.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            while !self.pending.is_empty() {
                let sent = self.stream.write(&self.pending)?;
                self.pending.drain(..sent);
            }
            if self.ended {
                return Ok(false);
            }
            match self.stream.read(buffer)? {
                0 => self.ended = true,
                read => self.pending.extend_from_slice(&buffer[..read]),
            }
        }
    }

    fn interest(&self) -> EpollFlags {
        if self.pending.is_empty() { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT }
    }
}

fn serve(listener: &TcpListener, stopped: &UnixStream, letter: Option<u8>) {
    listener.set_nonblocking(true).unwrap();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let name = |fd: i32| u64::try_from(fd).unwrap();
    let event = |fd: i32, flags| EpollEvent::new(flags, name(fd));
    epoll.add(listener, event(listener.as_raw_fd(), EpollFlags::EPOLLIN)).unwrap();
    epoll.add(stopped, event(stopped.as_raw_fd(), EpollFlags::EPOLLIN)).unwrap();
    let mut sessions: HashMap<u64, Session> = HashMap::new();
    let mut events = [EpollEvent::empty(); 256];
    let mut buffer = vec![0; 65_536];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            ready => ready.unwrap(),
        };
        for fd in events[..ready].iter().map(EpollEvent::data) {
            if fd == name(stopped.as_raw_fd()) {
                return;
            }
            if fd == name(listener.as_raw_fd()) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let pending: Vec<u8> = letter.into_iter().collect();
                    let session = Session { stream, pending, ended: false };
                    let fd = session.stream.as_raw_fd();
                    epoll.add(&session.stream, event(fd, EpollFlags::EPOLLOUT)).unwrap();
                    sessions.insert(name(fd), session);
                }
                continue;
            }
            let Some(session) = sessions.get_mut(&fd) else { continue };
            let goes_on = match session.step(&mut buffer) {
                Err(error) => error.kind() == ErrorKind::WouldBlock,
                Ok(goes_on) => goes_on,
            };
            if goes_on {
                let mut event = EpollEvent::new(session.interest(), fd);
                epoll.modify(&session.stream, &mut event).unwrap();
            } else {
                sessions.remove(&fd);
            }
        }
    }
}
