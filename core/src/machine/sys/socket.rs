//! Sockets: making, binding, and the options that a relay sets.
//!
//! Everything goes through `socket2`; what it has no name for goes through `libc` here. All sockets
//! are non-blocking and close-on-exec: `splice(2)` looks at `O_NONBLOCK` and nothing else, and ring
//! operations wait by themselves either way.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::kernel::{Interest, Presence};
use super::options::{self, ConnectOptions, Refused, SocketSetting, refused};
use super::sim::SimSocket;
use crate::machine::{Address, Congestion, TcpOptions};

/// A socket of a shard, closed on drop.
#[derive(Debug)]
pub struct Socket(Descriptor);

#[derive(Debug)]
enum Descriptor {
    /// The kernel's; `watched`: whether the epoll driver has been told of it.
    Os { fd: OwnedFd, watched: Cell<bool> },
    /// One of a simulated world. Boxed, since it is larger than what all others need.
    Sim(Box<SimSocket>),
}

impl<F: Into<OwnedFd>> From<F> for Socket {
    /// Takes over a non-blocking socket.
    fn from(socket: F) -> Self {
        Self(Descriptor::Os { fd: socket.into(), watched: Cell::new(false) })
    }
}

/// A socket of a simulated world met a driver of the real one, or the other way round.
pub(super) fn wrong_world() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

impl Socket {
    /// A socket of a simulated world.
    pub(super) fn from_sim(socket: SimSocket) -> Self {
        Self(Descriptor::Sim(Box::new(socket)))
    }

    /// The number that the driver knows it by; one that the kernel refuses if it is simulated.
    pub(super) fn fd(&self) -> RawFd {
        match &self.0 {
            Descriptor::Os { fd, .. } => fd.as_raw_fd(),
            Descriptor::Sim(_) => -1,
        }
    }

    /// The kernel's descriptor.
    pub(super) fn os(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.0 {
            Descriptor::Os { fd, .. } => Ok(fd.as_fd()),
            Descriptor::Sim(_) => Err(wrong_world()),
        }
    }

    /// The socket of the simulated world that it is, if it is one.
    pub(super) fn simulated(&self) -> Option<&SimSocket> {
        match &self.0 {
            Descriptor::Os { .. } => None,
            Descriptor::Sim(socket) => Some(socket),
        }
    }

    /// What an accept on this listener has just made.
    pub(super) fn accepted(&self, fd: RawFd) -> Self {
        match &self.0 {
            // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
            Descriptor::Os { .. } => Self::from(unsafe { OwnedFd::from_raw_fd(fd) }),
            Descriptor::Sim(listener) => Self::from_sim(listener.accepted(fd)),
        }
    }

    /// Whether this is the first request on this socket, which the epoll driver must be told of.
    pub(super) fn begin_watch(&self) -> bool {
        match &self.0 {
            Descriptor::Os { watched, .. } => !watched.replace(true),
            Descriptor::Sim(_) => false,
        }
    }
}

/// How a listening socket is made.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions<'a> {
    /// Congestion control of the accepted connections, which inherit it.
    pub congestion: &'a Congestion,
    /// What else they inherit.
    pub tcp: &'a TcpOptions,
    /// Whether the address, and those that clients connect to, may be another machine's.
    pub transparent: bool,
    /// Whether several sockets share the address, one per shard.
    pub reuse_port: bool,
    /// Connections that the kernel keeps for us before they are accepted.
    pub backlog: u32,
}

/// Makes a listening socket. Options are set once, here: accepted sockets inherit them.
///
/// # Errors
/// Those of `socket`, `setsockopt`, `bind` and `listen`; with the setting where the kernel
/// refused one.
pub fn listen(address: &Address, options: &ListenOptions<'_>) -> Result<Socket, Refused> {
    let (socket, socket_address) = open(address)?;
    if let Address::Inet(inet) = address {
        prepare_listener(&socket, inet, options.reuse_port)?;
        set_congestion(&socket, options.congestion).map_err(refused(SocketSetting::Congestion))?;
        options::apply_tcp_options(&socket, inet.is_ipv4(), options.tcp)?;
        if options.tcp.fast_open {
            options::accept_fast(&socket)?;
        }
        if options.transparent {
            options::set_transparent(&socket, inet.is_ipv4())?;
        }
    }
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    socket.bind(&socket_address).and_then(|()| socket.listen(backlog))?;
    Ok(Socket::from(socket))
}

/// Changes the options of a listening socket; those that are not set become the host's defaults.
///
/// # Errors
/// The kernel's, with the setting that it refused. Settings before it have been changed.
pub(crate) fn set_listen_options(
    socket: &Socket,
    congestion: &Congestion,
    tcp: &TcpOptions,
    transparent: bool,
) -> Result<(), Refused> {
    if socket.simulated().is_some() {
        return Ok(());
    }
    // A unix socket has none of them.
    let Some(address) = local_address(socket)? else { return Ok(()) };
    let socket = socket.os()?;
    let socket = SockRef::from(&socket);
    options::reset_tcp_options(&socket, address.is_ipv4())?;
    set_congestion(&socket, congestion).map_err(refused(SocketSetting::Congestion))?;
    options::apply_tcp_options(&socket, address.is_ipv4(), tcp)?;
    if tcp.fast_open {
        options::accept_fast(&socket)?;
    }
    if transparent {
        options::set_transparent(&socket, address.is_ipv4())?;
    }
    Ok(())
}

fn prepare_listener(
    socket: &socket2::Socket,
    address: &SocketAddr,
    reuse_port: bool,
) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // "[::]:80" and "0.0.0.0:80" are two listeners, as both are in the configuration.
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)
}

/// Makes a socket towards a server, not connected yet, and the address to connect it to.
///
/// # Errors
/// Those of `socket` and `setsockopt`; `EMFILE` and `ENFILE` when descriptors ran out.
pub(super) fn towards(
    address: &Address,
    options: &ConnectOptions<'_>,
) -> io::Result<(Socket, SockAddr)> {
    let (socket, socket_address) = open(address)?;
    if let Address::Inet(inet) = address {
        prepare(&socket, *inet, options)?;
    }
    Ok((Socket::from(socket), socket_address))
}

fn prepare(
    socket: &socket2::Socket,
    to: SocketAddr,
    options: &ConnectOptions<'_>,
) -> Result<(), Refused> {
    socket.set_tcp_nodelay(true)?;
    set_congestion(socket, options.congestion).map_err(refused(SocketSetting::Congestion))?;
    options::apply_tcp_options(socket, to.is_ipv4(), options.tcp)?;
    if options.tcp.fast_open {
        options::connect_fast(socket)?;
    }
    options::bind_source(socket, to, (options.source, options.client))
}

/// Tries these options on a socket towards `to`; nothing is connected.
///
/// # Errors
/// The setting that the kernel refuses. That a port is taken, or that no such socket can be made,
/// is no error here: sessions meet it, or they don't.
pub fn probe_connect(to: SocketAddr, options: &ConnectOptions<'_>) -> Result<(), Refused> {
    let Ok((socket, _)) = open(&Address::Inet(to)) else { return Ok(()) };
    match prepare(&socket, to, options) {
        Err(Refused { error, .. }) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        outcome => outcome,
    }
}

/// A non-blocking socket towards `to` with these options, bound where they say and not connected
/// yet, for programs that connect it on another runtime than a shard's.
///
/// # Errors
/// Those of `socket` and `bind`, and what the kernel refuses: see [`super::is_refusal`].
pub fn socket_towards(to: SocketAddr, options: &ConnectOptions<'_>) -> io::Result<TcpStream> {
    let (socket, _) = open(&Address::Inet(to))?;
    prepare(&socket, to, options)?;
    Ok(socket.into())
}

fn open(address: &Address) -> io::Result<(socket2::Socket, SockAddr)> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Ok(match address {
        Address::Inet(inet) => (
            socket2::Socket::new_raw(Domain::for_address(*inet), kind, Some(Protocol::TCP))?,
            (*inet).into(),
        ),
        Address::Unix(path) => {
            (socket2::Socket::new_raw(Domain::UNIX, kind, None)?, SockAddr::unix(path)?)
        }
    })
}

fn set_congestion(socket: &socket2::Socket, congestion: &Congestion) -> io::Result<()> {
    match congestion {
        Congestion::Named(name) => socket.set_tcp_congestion(name.as_bytes()),
        Congestion::Auto | Congestion::Host => Ok(()),
    }
}

/// Round-trip time under which pacing costs more than it can give, microseconds.
const SHORT_PATH_RTT_US: u32 = 1000;

/// Takes a connection that is about to carry bulk off a pacing congestion control (bbr), if its
/// path is shorter than about a millisecond. Says whether it did.
///
/// # Errors
/// Those of `getsockopt` and `setsockopt`; the connection goes on as it was.
pub(crate) fn leave_pacing_on_a_short_path(socket: &Socket) -> io::Result<bool> {
    if socket.simulated().is_some() {
        return Ok(false);
    }
    let socket = socket.os()?;
    let socket = SockRef::from(&socket);
    let name = socket.tcp_congestion()?;
    if !name.starts_with(b"bbr") || tcp_info(&socket)?.tcpi_rtt > SHORT_PATH_RTT_US {
        return Ok(false);
    }
    // cubic is the kernel's own default and reno is always built in.
    socket.set_tcp_congestion(b"cubic").or_else(|_| socket.set_tcp_congestion(b"reno"))?;
    Ok(true)
}

/// Segments that a TCP connection has sent, and how many of them were sent again; `None` for
/// others.
pub(crate) fn segments(socket: &Socket) -> Option<(u32, u32)> {
    if socket.simulated().is_some() {
        return None;
    }
    let info = tcp_info(&SockRef::from(&socket.os().ok()?)).ok()?;
    Some((info.tcpi_segs_out, info.tcpi_total_retrans))
}

/// Bytes that were sent and not acknowledged, roughly; 0 only if there are none or the connection
/// has gone.
pub(crate) fn unacknowledged(socket: &Socket) -> u64 {
    if let Some(socket) = socket.simulated() {
        return socket.unacknowledged();
    }
    let Ok(fd) = socket.os() else { return 0 };
    let Ok(info) = tcp_info(&SockRef::from(&fd)) else { return 0 };
    if info.tcpi_state == TCP_CLOSE {
        return 0;
    }
    let in_flight = u64::from(info.tcpi_unacked) * u64::from(info.tcpi_snd_mss.max(1));
    in_flight + u64::from(info.tcpi_notsent_bytes)
}

/// How long ago a TCP connection last received bytes from the other side, read or not; `None` for
/// others.
pub(crate) fn since_last_bytes(socket: &Socket) -> Option<Duration> {
    if socket.simulated().is_some() {
        return None;
    }
    let info = tcp_info(&SockRef::from(&socket.os().ok()?)).ok()?;
    Some(Duration::from_millis(info.tcpi_last_data_recv.into()))
}

/// As in include/net/tcp_states.h.
const TCP_CLOSE: u8 = 7;

/// Whether a receive would tell something: bytes, the end of the stream or an error.
pub(crate) fn is_readable(socket: &Socket) -> bool {
    match socket.simulated() {
        Some(socket) => socket.is_readable(),
        None => is_ready(socket, Interest::Readable).unwrap_or(false),
    }
}

/// What the kernel knows of a TCP connection. An older kernel leaves the newest fields at 0.
fn tcp_info(socket: &SockRef<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: `tcp_info` is plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the pointers name a `tcp_info` and its length, and the kernel writes at most that.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    if outcome == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

/// Sends a FIN after what was sent. Never through the ring, which would hand it to a worker thread.
///
/// # Errors
/// `ENOTCONN` when the connection is gone already.
pub(crate) fn shutdown_write(socket: &Socket) -> io::Result<()> {
    match &socket.0 {
        Descriptor::Os { fd, .. } => SockRef::from(fd).shutdown(Shutdown::Write),
        Descriptor::Sim(socket) => socket.shutdown_write(),
    }
}

/// Makes the close that follows a reset: the other side sees RST instead of FIN.
pub fn reset_on_close(socket: &Socket) {
    match &socket.0 {
        // Fails only for sockets that know no linger, and those have no reset either.
        Descriptor::Os { fd, .. } => {
            let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
        }
        Descriptor::Sim(socket) => socket.reset_on_close(),
    }
}

/// The address of the other side; `None` for unix sockets and for connections that are gone. An
/// IPv4 address is one whichever kind of socket it came in by.
pub fn peer_address(socket: &Socket) -> Option<SocketAddr> {
    match &socket.0 {
        Descriptor::Os { fd, .. } => SockRef::from(fd).peer_addr().ok()?.as_socket().map(canonical),
        Descriptor::Sim(socket) => socket.peer_address(),
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Sends a few bytes at once, as many as there is room for.
///
/// # Errors
/// Those of `send`.
pub(crate) fn send_few(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    match &socket.0 {
        Descriptor::Os { fd, .. } => {
            SockRef::from(fd).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        }
        Descriptor::Sim(socket) => socket.send(bytes),
    }
}

/// The address that a socket is bound to; `None` for unix sockets.
///
/// # Errors
/// Those of `getsockname`.
pub fn local_address(socket: &Socket) -> io::Result<Option<SocketAddr>> {
    match &socket.0 {
        Descriptor::Os { fd, .. } => Ok(SockRef::from(fd).local_addr()?.as_socket().map(canonical)),
        Descriptor::Sim(socket) => Ok(Some(socket.local_address())),
    }
}

/// Accepts what is left in a listener's queue without waiting; `None` when it is empty.
///
/// # Errors
/// Those of `accept4`.
pub(crate) fn accept_now(listener: &Socket) -> io::Result<Option<Socket>> {
    match &listener.0 {
        Descriptor::Os { fd, .. } => {
            let accepted = accept_fd(fd)?;
            Ok(accepted.map(Socket::from))
        }
        Descriptor::Sim(listener) => Ok(listener.accept_now()?.map(Socket::from_sim)),
    }
}

/// As `accept_now`, from and to a bare descriptor.
pub(super) fn accept_fd(listener: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    // `accept` of socket2 sets close-on-exec; the rest of the flags are set after.
    match SockRef::from(listener).accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            Ok(Some(socket.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Begins to connect; `EINPROGRESS` when the answer will come later.
pub(super) fn connect_now(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    SockRef::from(&socket.os()?).connect(address)
}

/// The error that struck a socket, if any.
pub(super) fn take_error(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).take_error()?.map_or(Ok(()), Err)
}

/// Whether a socket can be read or written now.
pub(super) fn is_ready(socket: &Socket, interest: Interest) -> io::Result<bool> {
    let events = match interest {
        Interest::Readable => libc::POLLIN,
        Interest::Writable => libc::POLLOUT,
        Interest::Hangup => libc::POLLRDHUP,
    };
    Ok(poll_now(&socket.os()?, events)? != 0)
}

/// What a socket is now of all that was asked for; errors and hang-ups always are.
fn poll_now(socket: &impl AsFd, events: i16) -> io::Result<i16> {
    let mut poll = libc::pollfd { fd: socket.as_fd().as_raw_fd(), events, revents: 0 };
    // SAFETY: one entry, which lives until the call returns.
    let polled = unsafe { libc::poll(&raw mut poll, 1, 0) };
    if polled < 0 { Err(io::Error::last_os_error()) } else { Ok(poll.revents) }
}

/// What the other side of a connection has done with it. Reads nothing.
pub fn presence(socket: &Socket) -> Presence {
    match &socket.0 {
        Descriptor::Os { fd, .. } => os_presence(fd),
        Descriptor::Sim(socket) => socket.presence(),
    }
}

fn os_presence(fd: &OwnedFd) -> Presence {
    // A socket that can't be polled tells its next receive why.
    let Ok(state) = poll_now(fd, libc::POLLRDHUP) else { return Presence::Open };
    let socket = SockRef::from(fd);
    // A reset that a receive has reported already leaves the hang-up alone, which a unix socket
    // also shows for a plain end.
    let is_reset = || socket.domain().is_ok_and(|domain| domain != Domain::UNIX);
    if state & libc::POLLERR != 0 || state & libc::POLLHUP != 0 && is_reset() {
        return Presence::Broken;
    }
    if state & (libc::POLLRDHUP | libc::POLLHUP) == 0 {
        return Presence::Open;
    }
    match socket.peek(&mut [std::mem::MaybeUninit::uninit()]) {
        Ok(0) => Presence::Ended,
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Presence::Broken,
        _ => Presence::Open,
    }
}

/// Receives what is there.
///
/// # Safety
/// `start` must be valid for writes of `len` bytes.
pub(super) unsafe fn receive_now(fd: RawFd, start: *mut u8, len: usize) -> io::Result<usize> {
    // SAFETY: the caller's promise.
    count(unsafe { libc::recv(fd, start.cast(), len, libc::MSG_DONTWAIT) })
}

/// Sends what there is room for.
///
/// # Safety
/// `start` must be valid for reads of `len` bytes.
pub(super) unsafe fn send_now(fd: RawFd, start: *const u8, len: usize) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the caller's promise.
    count(unsafe { libc::send(fd, start.cast(), len, flags) })
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
