//! Clients: plain blocking sockets that never wait for ever.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;

/// As in linux/socket.h.
const MSG_FASTOPEN: i32 = 0x2000_0000;

/// Connects; every later wait has a deadline.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    prepare(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
}

/// Connects from an address of the loopback network.
pub(crate) fn connect_from(
    source: impl Into<IpAddr>,
    address: SocketAddr,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source.into(), 0).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    Ok(prepare(socket.into()))
}

/// Connects with these bytes in the first packet, where the server is known to take them (RFC
/// 7413).
pub(crate) fn connect_fast(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    let sent = socket.send_to_with_flags(bytes, &address.into(), MSG_FASTOPEN).unwrap();
    assert_eq!(sent, bytes.len());
    prepare(socket.into())
}

fn prepare(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends some bytes to an echo and gets them back.
pub(crate) fn try_round_trip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer)?;
    if answer == bytes { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Sends some bytes to an echo and gets them back.
#[track_caller]
pub(crate) fn round_trip(stream: &mut TcpStream, bytes: &[u8]) {
    try_round_trip(stream, bytes).unwrap();
}

/// Connects and gets one answer; the session goes on.
#[track_caller]
pub(crate) fn session(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    round_trip(&mut stream, b"hello");
    stream
}

/// The letter with which an echo greets.
pub(crate) fn greeting(stream: &mut TcpStream) -> io::Result<char> {
    let mut letter = [0];
    stream.read_exact(&mut letter)?;
    Ok(char::from(letter[0]))
}

/// Whether nothing comes for this long.
pub(crate) fn is_silent(stream: &mut TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).unwrap();
    let outcome = stream.read(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Reads to the end of the stream; what came.
#[track_caller]
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Waits for the end of the stream, which must be a reset.
#[track_caller]
pub(crate) fn expect_reset(stream: &mut TcpStream) {
    let mut bytes = [0; 65_536];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => panic!("an end of the stream instead of a reset"),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                return;
            }
        }
    }
}
