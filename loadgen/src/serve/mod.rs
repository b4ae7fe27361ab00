//! The other side of the traffic: an echo, a sink, or a source, for TCP and UDP on the same port.
//!
//! One listener and one socket per thread on the same port; the bound address is printed when all
//! of them are there. What each role does is in `tcp` and `udp`.

mod tcp;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

use clap::ValueEnum;
use monoio::{FusionDriver, RuntimeBuilder};

use crate::{machine, output};

/// Ports that are tried until one is free for both TCP and UDP.
const TRIES: usize = 50;

/// What a server does with what it gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Role {
    /// Returns every byte and every datagram.
    Echo,
    /// Swallows a stream and says at its end what arrived; the same for datagrams.
    Sink,
    /// Sends what it is asked for.
    Source,
}

/// What to serve, where.
#[derive(Debug)]
pub(crate) struct ServePlan {
    pub(crate) role: Role,
    pub(crate) listen: SocketAddr,
    pub(crate) threads: usize,
    pub(crate) cpus: Vec<usize>,
}

/// What one thread serves.
type Sockets = (TcpListener, UdpSocket);

/// Serves until the process is ended.
pub(crate) fn run(plan: &ServePlan) -> Result<(), String> {
    let cannot = |error| format!("cannot listen on {}: {error}", plan.listen);
    let shared = plan.threads > 1;
    let first = bind(plan.listen, shared).map_err(cannot)?;
    let address = first.0.local_addr().map_err(cannot)?;
    let mut sockets = vec![first];
    while sockets.len() < plan.threads {
        sockets.push(bind(address, true).map_err(cannot)?);
    }
    let mut threads = Vec::new();
    for (index, sockets) in (0..).zip(sockets) {
        let (role, cpus) = (plan.role, plan.cpus.clone());
        let builder = thread::Builder::new().name(format!("serve-{index}"));
        let thread = builder.spawn(move || serve(role, &cpus, index, sockets));
        threads.push(thread.map_err(|error| format!("cannot start a thread: {error}"))?);
    }
    output::print(&address.to_string())?;
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked".to_owned())??;
    }
    Ok(())
}

/// Both sockets on the same port; a port of the kernel's choice may be taken for the other one.
fn bind(address: SocketAddr, shared: bool) -> io::Result<Sockets> {
    let mut tries = if address.port() == 0 { TRIES } else { 1 };
    loop {
        let listener = tcp::listen(address, shared)?;
        match udp::bind(listener.local_addr()?, shared) {
            Ok(socket) => return Ok((listener, socket)),
            Err(error) if tries <= 1 => return Err(error),
            Err(_) => tries -= 1,
        }
    }
}

fn serve(role: Role, cpus: &[usize], index: usize, sockets: Sockets) -> Result<(), String> {
    machine::pin(cpus, index)?;
    let mut runtime = RuntimeBuilder::<FusionDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| format!("cannot start monoio: {error}"))?;
    runtime.block_on(async {
        let (listener, socket) = sockets;
        let datagrams = monoio::spawn(udp::serve(role, socket));
        tcp::accept_all(role, listener).await?;
        datagrams.await
    })
}
