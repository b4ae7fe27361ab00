//! The other side of the traffic: an echo, a sink, or a source.
//!
//! The echo returns every byte. The sink swallows a stream and answers its end with a
//! [`Receipt`]. The source reads an [`Order`], sends those bytes, and closes. One listener per
//! thread on the same port; the bound address is printed when all of them listen.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use monoio::io::{AsyncReadRent, AsyncReadRentExt, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{FusionDriver, RuntimeBuilder};
use socket2::{Domain, Protocol, Socket, Type};
use xxhash_rust::xxh3::Xxh3;

use crate::content::{CHUNK, Content, ORDER_SIZE, Order, Receipt};
use crate::machine;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// What accepting waits after it failed, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(10);

/// What a server does with what it gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Role {
    /// Returns every byte.
    Echo,
    /// Swallows a stream and says at its end what arrived.
    Sink,
    /// Sends what it is asked for.
    Source,
}

/// What to serve, where.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) role: Role,
    pub(crate) listen: SocketAddr,
    pub(crate) threads: usize,
    pub(crate) cpus: Vec<usize>,
}

/// Serves until the process is ended.
pub(crate) fn run(plan: &Plan) -> Result<(), String> {
    let cannot = |error| format!("cannot listen on {}: {error}", plan.listen);
    let first = listen(plan.listen, plan.threads > 1).map_err(cannot)?;
    let address = first.local_addr().map_err(cannot)?;
    let mut listeners = vec![first];
    while listeners.len() < plan.threads {
        listeners.push(listen(address, true).map_err(cannot)?);
    }
    let threads: Vec<_> = (0..)
        .zip(listeners)
        .map(|(index, listener)| {
            let (role, cpus) = (plan.role, plan.cpus.clone());
            thread::spawn(move || serve_thread(role, &cpus, index, listener))
        })
        .collect();
    println!("{address}");
    io::stdout().flush().map_err(|error| format!("cannot say where it listens: {error}"))?;
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked".to_owned())??;
    }
    Ok(())
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<StdListener> {
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

fn serve_thread(
    role: Role,
    cpus: &[usize],
    index: usize,
    listener: StdListener,
) -> Result<(), String> {
    machine::pin(cpus, index)?;
    let mut runtime = RuntimeBuilder::<FusionDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| format!("cannot start monoio: {error}"))?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)
            .map_err(|error| format!("cannot use the listener: {error}"))?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(monoio::spawn(serve(role, stream))),
                Err(_) => monoio::time::sleep(PAUSE).await,
            }
        }
    })
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
