//! A yardstick: the smallest sensible TCP relay on glommio, one thread, nothing but the bytes.
//!
//! Compared with the balancer, never shipped. It has no limits, timeouts, choice or counters.
//!
//! usage: `yardstick-glommio LISTEN=SERVER ...`

#![forbid(unsafe_code)]

use std::env;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

/// What one receive may bring: as much as the balancer's own buffers hold.
const BUFFER_SIZE: usize = 16 * 1024;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("yardstick-glommio: {message}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let pairs = env::args().skip(1).map(|pair| read_pair(&pair)).collect::<Result<Vec<_>, _>>()?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .make()
        .map_err(|error| format!("cannot start glommio: {error}"))?;
    executor.run(async {
        let listeners: Vec<_> = pairs
            .into_iter()
            .map(|(address, server)| glommio::spawn_local(listen(address, server)))
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
    let listener = TcpListener::bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    loop {
        let client = listener.accept().await.map_err(|error| format!("cannot accept: {error}"))?;
        // A session that fails ends; there is nobody to tell.
        glommio::spawn_local(session(client, server)).detach();
    }
}

async fn session(client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let up = glommio::spawn_local(relay(from_client, to_server));
    relay(from_server, to_client).await?;
    up.await
}

async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.close().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
