//! A yardstick: the smallest sensible TCP relay on monoio, one thread, nothing but the bytes.
//!
//! Compared with the balancer, never shipped. It has no limits, timeouts, choice or counters. The
//! ring is set up as monoio leaves it to its users: one submitter, completions run when asked for.
//!
//! usage: `yardstick-monoio LISTEN=SERVER ...`

#![forbid(unsafe_code)]

use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};

/// What one receive may bring: as much as the balancer's own buffers hold.
const BUFFER_SIZE: usize = 16 * 1024;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("yardstick-monoio: {message}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let pairs = env::args().skip(1).map(|pair| read_pair(&pair)).collect::<Result<Vec<_>, _>>()?;
    let mut ring = io_uring_of_monoio::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(1024)
        .build()
        .map_err(|error| format!("cannot start monoio: {error}"))?;
    runtime.block_on(async {
        let listeners: Vec<_> = pairs
            .into_iter()
            .map(|(address, server)| monoio::spawn(listen(address, server)))
            .collect();
        for listener in listeners {
            listener.await?;
        }
        Ok(())
    })
}

fn read_pair(pair: &str) -> Result<(SocketAddr, SocketAddr), String> {
    let parsed = pair
        .split_once('=')
        .and_then(|(listen, server)| Some((listen.parse().ok()?, server.parse().ok()?)));
    parsed.ok_or_else(|| format!("{pair}: say LISTEN=SERVER"))
}

async fn listen(address: SocketAddr, server: SocketAddr) -> Result<(), String> {
    let options = ListenerOpts::new().backlog(4096);
    let listener = TcpListener::bind_with_config(address, &options)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    loop {
        let accepted = listener.accept().await;
        let (client, _) = accepted.map_err(|error| format!("cannot accept: {error}"))?;
        // A session that fails ends; there is nobody to tell.
        drop(monoio::spawn(session(client, server)));
    }
}

async fn session(client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let server = TcpStream::connect_addr(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = monoio::spawn(async move { relay(&mut from_client, &mut to_server).await });
    relay(&mut from_server, &mut to_client).await?;
    up.await
}

async fn relay(from: &mut impl AsyncReadRent, to: &mut impl AsyncWriteRent) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_SIZE);
    loop {
        let (read, filled) = from.read(buffer).await;
        if read? == 0 {
            return to.shutdown().await;
        }
        let (written, emptied) = to.write_all(filled).await;
        written?;
        buffer = emptied;
        buffer.clear();
    }
}
