//! TCP connections: an echo, a sink, or a source.
//!
//! The echo returns every byte. The sink swallows a stream and answers its end with a
//! [`Receipt`]. The source reads an [`Order`], sends those bytes, and closes.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};
use xxhash_rust::xxh3::Xxh3;

use super::Role;
use crate::content::{CHUNK, Content, ORDER_SIZE, Order, Receipt};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// What accepting waits after it failed, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(10);

/// Listens on an address, alone or with others.
pub(super) fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_tcp_nodelay(true)?; // accepted sockets inherit it
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // monoio wants a blocking socket under io_uring and a non-blocking one under epoll.
    socket.set_nonblocking(!monoio::utils::detect_uring())?;
    Ok(socket.into())
}

/// Accepts for ever.
pub(super) async fn accept_all(role: Role, listener: StdListener) -> Result<(), String> {
    let listener = TcpListener::from_std(listener)
        .map_err(|error| format!("cannot use the listener: {error}"))?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(monoio::spawn(serve(role, stream))),
            Err(_) => monoio::time::sleep(PAUSE).await,
        }
    }
}

/// The life of one connection. How it ended is the client's to tell: it knows what was due.
async fn serve(role: Role, mut stream: TcpStream) {
    let _ = match role {
        Role::Echo => echo(&mut stream).await,
        Role::Sink => sink(&mut stream).await,
        Role::Source => source(&mut stream).await,
    };
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        let read;
        (read, buffer) = stream.read(buffer).await;
        if read? == 0 {
            return stream.shutdown().await;
        }
        let written;
        (written, buffer) = stream.write_all(buffer).await;
        written?;
    }
}

async fn sink(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut sum = Xxh3::new();
    let mut bytes = 0;
    loop {
        let read;
        (read, buffer) = stream.read(buffer).await;
        let read = read?;
        if read == 0 {
            break;
        }
        sum.update(&buffer[..read]);
        bytes += read as u64;
    }
    let receipt = Receipt { bytes, seed: sum.digest() };
    stream.write_all(receipt.encode()).await.0?;
    stream.shutdown().await
}

async fn source(stream: &mut TcpStream) -> io::Result<()> {
    let (read, wire) = stream.read_exact(vec![0; ORDER_SIZE].into_boxed_slice()).await;
    read?;
    let Some(order) = Order::decode(&wire) else { return Ok(()) };
    let content = Content::new(order.seed);
    let mut sent = 0;
    while sent < order.bytes {
        let length = (order.bytes - sent).min(CHUNK as u64);
        stream.write_all(content.piece(sent, length as usize)).await.0?;
        sent += length;
    }
    stream.shutdown().await
}
