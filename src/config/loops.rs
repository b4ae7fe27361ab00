//! Loops: frontends whose sessions reach the same frontend again, so that one session would open
//! others without end.
//!
//! A frontend leads to another if that one listens at the address of one of its servers or mirrors.
//! A chain that ends at other servers is fine. Fixed addresses and `localhost` are compared; a
//! wildcard listener matches loopback addresses and those of the interfaces of this host; unix
//! sockets are the same whatever the spelling of their paths. Not here:
//! loops through other programs, which limits stop (docs/operations.md). Invariant: every error
//! names all hops.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ringlane_core::machine::Address;

use super::read::backend::BackendTable;
use super::read::frontend::FrontendTable;
use super::text::report::Diagnostic;
use super::text::schema::Section;
use super::text::table::Table;

/// Symbolic links from one socket to another that are followed, as many as the kernel follows.
const LINKS_MAX: u32 = 40;

/// A step from one frontend to the next.
struct Hop {
    to: usize,
    /// The place of the address of the server.
    span: Range<usize>,
    /// The server or mirror in between, as named in messages.
    by: String,
}

/// A server or mirror whose address is that of a listener in the same file.
struct Exit {
    /// The frontends that listen there.
    to: Vec<usize>,
    /// The place of its address.
    span: Range<usize>,
    /// Its name in messages.
    called: String,
}

/// Records an error for every loop. `own` are the addresses of this host, unless it is not to be
/// looked at.
pub(super) fn refuse(
    root: &Table<'_>,
    frontends: &[FrontendTable<'_>],
    backends: &[BackendTable<'_>],
    own: Option<&[IpAddr]>,
) {
    let listeners = ListenersByAddress::of(frontends, own);
    let mut by_name: HashMap<&str, Vec<Exit>> = HashMap::new();
    for backend in backends {
        let Some(name) = &backend.name else { continue };
        let exits = destinations(backend).filter_map(|(addresses, span, called)| {
            let to: Vec<usize> = addresses.iter().flat_map(|at| listeners.at(at)).collect();
            (!to.is_empty()).then_some(Exit { to, span, called })
        });
        by_name.entry(name.value).or_insert_with(|| exits.collect());
    }
    let hops: Vec<Vec<Hop>> = frontends.iter().map(|frontend| hops(frontend, &by_name)).collect();
    for chain in circles(&hops) {
        report(root, frontends, &hops, &chain);
    }
}

/// The addresses of a backend's servers and mirror, with their places and names.
fn destinations(
    backend: &BackendTable<'_>,
) -> impl Iterator<Item = (Vec<Address>, Range<usize>, String)> {
    let servers = backend.servers.iter().filter_map(|server| {
        let span = server.table.value("address")?.span;
        let addresses = server.place.as_ref()?.known();
        Some((addresses, span, server.table.called()))
    });
    let mirror = backend.settings.mirror.as_ref().and_then(|mirror| {
        let inner = backend.table.table("mirror", Section::Mirror)?;
        let by = format!("mirror of {}", backend.table.called());
        Some((vec![mirror.server.clone()], inner.value("server")?.span, by))
    });
    servers.chain(mirror)
}

fn hops(frontend: &FrontendTable<'_>, exits: &HashMap<&str, Vec<Exit>>) -> Vec<Hop> {
    let routed = frontend.routes.iter().map(|entry| entry.backend.as_ref());
    let mut names: Vec<&str> = std::iter::once(frontend.backend.as_ref())
        .chain(routed)
        .flatten()
        .map(|name| name.value)
        .collect();
    names.sort_unstable();
    names.dedup();
    let exits = names.iter().filter_map(|name| exits.get(name)).flatten();
    let hops_of = |exit: &Exit| {
        let hop = |to: &usize| Hop { to: *to, span: exit.span.clone(), by: exit.called.clone() };
        exit.to.iter().map(hop).collect::<Vec<_>>()
    };
    exits.flat_map(hops_of).collect()
}

/// The frontends by the addresses that they listen on.
struct ListenersByAddress<'a> {
    by_address: HashMap<Address, usize>,
    /// Unix sockets are compared as this host resolves their paths, else as they are spelt.
    is_host: bool,
    /// Wildcard listeners, by port and whether they are IPv4.
    anywhere: HashMap<(u16, bool), usize>,
    own: &'a [IpAddr],
}

impl<'a> ListenersByAddress<'a> {
    fn of(frontends: &[FrontendTable<'_>], own: Option<&'a [IpAddr]>) -> Self {
        let is_host = own.is_some();
        let (mut by_address, mut anywhere) = (HashMap::new(), HashMap::new());
        for (index, frontend) in frontends.iter().enumerate() {
            for bind in &frontend.bind {
                match &bind.value {
                    Address::Inet(inet) if inet.port() == 0 => continue,
                    Address::Inet(inet) if inet.ip().is_unspecified() => {
                        anywhere.entry((inet.port(), inet.is_ipv4())).or_insert(index);
                    }
                    _ => {}
                }
                by_address.entry(resolved(&bind.value, is_host)).or_insert(index);
            }
        }
        Self { by_address, anywhere, own: own.unwrap_or_default(), is_host }
    }

    /// The frontend that takes connections to an address.
    fn at(&self, address: &Address) -> Option<usize> {
        if let Some(index) = self.by_address.get(&resolved(address, self.is_host)) {
            return Some(*index);
        }
        let Address::Inet(inet) = address else { return None };
        let ip = inet.ip();
        if ip.is_unspecified() {
            // The kernel then connects to the loopback address of the family.
            let local: IpAddr = match ip {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            let local = Address::Inet(SocketAddr::new(local, inet.port()));
            return self.by_address.get(&local).copied();
        }
        let is_local = ip.is_loopback() || self.own.contains(&ip);
        let index = self.anywhere.get(&(inet.port(), ip.is_ipv4())).filter(|_| is_local);
        index.copied()
    }
}

/// A unix socket by the one path that all its spellings lead to: without symbolic links and `..` if
/// the host is looked at, otherwise without `.` and repeated slashes. A socket need not exist yet.
fn resolved(address: &Address, is_host: bool) -> Address {
    let Address::Unix(path) = address else { return address.clone() };
    let plain: PathBuf = path.components().collect();
    let found = is_host.then(|| followed(&plain, LINKS_MAX)).flatten();
    Address::Unix(found.unwrap_or(plain))
}

/// Where a path leads whose directory exists, following symbolic links even to what does not exist.
fn followed(path: &Path, links: u32) -> Option<PathBuf> {
    let folder = fs::canonicalize(path.parent()?).ok()?;
    let socket = folder.join(path.file_name()?);
    match fs::read_link(&socket) {
        Ok(to) if links > 0 => followed(&folder.join(to), links - 1),
        _ => Some(socket),
    }
}

/// One chain per hop that closes a loop: the frontends and the hop that each takes, by index.
fn circles(hops: &[Vec<Hop>]) -> Vec<Vec<(usize, usize)>> {
    let mut found = Vec::new();
    let mut is_done = vec![false; hops.len()];
    let mut place = vec![None; hops.len()];
    for start in 0..hops.len() {
        let mut chain: Vec<(usize, usize)> = Vec::new();
        let mut next = (!is_done[start]).then_some(start);
        loop {
            if let Some(entered) = next.take() {
                place[entered] = Some(chain.len());
                chain.push((entered, 0));
            }
            let Some((frontend, hop)) = chain.last_mut() else { break };
            let Some(way) = hops[*frontend].get(*hop) else {
                place[*frontend] = None;
                is_done[*frontend] = true;
                chain.pop();
                if let Some((_, hop)) = chain.last_mut() {
                    *hop += 1;
                }
                continue;
            };
            match place[way.to] {
                Some(first) => {
                    found.push(chain[first..].to_vec());
                    if let Some((_, hop)) = chain.last_mut() {
                        *hop += 1;
                    }
                }
                None if is_done[way.to] => *hop += 1,
                None => next = Some(way.to),
            }
        }
    }
    found
}

fn report(
    root: &Table<'_>,
    frontends: &[FrontendTable<'_>],
    hops: &[Vec<Hop>],
    chain: &[(usize, usize)],
) {
    let Some(&(last, hop)) = chain.last() else { return };
    let closing = &hops[last][hop];
    let first = frontends[closing.to].table.called();
    let mut way = String::new();
    for &(frontend, hop) in chain {
        way += &format!("{} → {} → ", frontends[frontend].table.called(), hops[frontend][hop].by);
    }
    root.report(
        Diagnostic::at(closing.span.clone(), format!("sessions of {first} loop back to it"))
            .label(format!("{first} itself listens on this address"))
            .hint(format!("the loop: {way}{first}"))
            .hint(
                "each session would open another, without end; use the address of the real server",
            ),
    );
}

/// The addresses of the interfaces of this host, from /proc.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    local_v4(&v4).chain(local_v6(&v6)).collect()
}

/// Leaves of the routing trie that are local addresses: `|-- 10.0.0.5`, then `/32 host LOCAL`.
fn local_v4(trie: &str) -> impl Iterator<Item = IpAddr> {
    let mut leaf = None;
    trie.lines().filter_map(move |line| {
        if let Some((_, ip)) = line.split_once("|-- ") {
            leaf = ip.trim().parse().ok().map(IpAddr::V4);
            return None;
        }
        line.trim().starts_with("/32 host LOCAL").then_some(leaf).flatten()
    })
}

/// Lines that begin with an address of 32 hexadecimal digits.
fn local_v6(lines: &str) -> impl Iterator<Item = IpAddr> {
    lines.lines().filter_map(|line| {
        let bits = u128::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_interfaces_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    \x20    |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.255\n        \
                    /32 link BROADCAST\n";
        assert_eq!(local_v4(trie).collect::<Vec<_>>(), [IpAddr::from([10, 0, 0, 5])]);
        let lines = "20010db8000000000000000000000001 02 40 00 80 eth0\nx\n";
        let expected: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(local_v6(lines).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn circles_are_found_once_each_and_long_chains_take_no_stack() {
        let hop = |to| Hop { to, span: 0..0, by: String::new() };
        let graph = |edges: &[&[usize]]| -> Vec<Vec<Hop>> {
            edges.iter().map(|to| to.iter().map(|to| hop(*to)).collect()).collect()
        };
        let found = |edges: &[&[usize]]| circles(&graph(edges));
        assert!(found(&[&[1, 2], &[2], &[]]).is_empty(), "a diamond is none");
        assert_eq!(found(&[&[0]]), [[(0, 0)]]);
        assert_eq!(found(&[&[1], &[2], &[0]]), [[(0, 0), (1, 0), (2, 0)]]);
        assert_eq!(found(&[&[1], &[2], &[1]]), [[(1, 0), (2, 0)]], "without what leads there");
        assert_eq!(found(&[&[1], &[0, 1]]).len(), 2);
        let long: Vec<Vec<Hop>> = (1..=100_000).map(|n| vec![hop(n % 100_000)]).collect();
        assert_eq!(circles(&long)[0].len(), 100_000);
    }
}
