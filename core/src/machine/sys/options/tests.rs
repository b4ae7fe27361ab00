//! What was told is read back from the kernel, on the socket itself and on what a listener accepts.
//!
//! Marks are tried where this process may set them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, SockRef, Type};

use super::*;
use crate::machine::sys::{self, ListenOptions, socket};
use crate::machine::{Address, Keepalive, SourceAddress, SourcePorts};

fn everything() -> TcpOptions {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let keepalive = Keepalive { idle: seconds(61), interval: seconds(11), count: Some(4) };
    TcpOptions {
        keepalive: Some(keepalive),
        user_timeout: seconds(31),
        fast_open: true,
        mark: may_mark().then_some(7),
        dscp: Some(18),
    }
}

fn may_mark() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().set_mark(1).is_ok()
}

fn number(socket: &SockRef<'_>, level: i32, name: i32) -> i32 {
    let (mut value, mut len) = (0_i32, libc::socklen_t::try_from(size_of::<i32>()).unwrap());
    // SAFETY: the pointers name an integer and its length, and the kernel writes at most that.
    let outcome = unsafe {
        let fd = socket.as_raw_fd();
        libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len)
    };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    value
}

/// Finds on a socket what `everything` says.
fn check(socket: &SockRef<'_>, is_ipv4: bool) {
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(61));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(11));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(31)));
    let octet = if is_ipv4 { socket.tos_v4() } else { socket.tclass_v6() };
    assert_eq!(octet.unwrap() & 0xfc, 18 << 2);
    if may_mark() {
        assert_eq!(socket.mark().unwrap(), 7);
    }
}

#[test]
fn accepted_sockets_inherit_what_their_listener_was_told() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (congestion, tcp) = (&Congestion::Host, &everything());
        let options =
            ListenOptions { congestion, tcp, transparent: false, reuse_port: true, backlog: 8 };
        let listener = sys::listen(&Address::Inet(address.parse().unwrap()), &options).unwrap();
        let at = sys::local_address(&listener).unwrap().unwrap();
        check(&SockRef::from(&listener.os().unwrap()), at.is_ipv4());
        assert!(
            number(&SockRef::from(&listener.os().unwrap()), libc::IPPROTO_TCP, libc::TCP_FASTOPEN)
                > 0
        );
        let _client = TcpStream::connect(at).unwrap();
        let accepted = loop {
            if let Some(accepted) = sys::accept_now(&listener).unwrap() {
                break accepted;
            }
            std::thread::yield_now();
        };
        check(&SockRef::from(&accepted.os().unwrap()), at.is_ipv4());
    }
}

#[test]
fn sockets_towards_servers_are_told_before_they_connect() {
    for to in ["127.0.0.1:1", "[::1]:1"] {
        let to: SocketAddr = to.parse().unwrap();
        let (congestion, tcp, source) = (&Congestion::Host, &everything(), &Source::default());
        let options = ConnectOptions { congestion, tcp, source, client: None };
        sys::probe_connect(to, &options).unwrap();
        let (socket, _) = socket::towards(&Address::Inet(to), &options).unwrap();
        let socket = socket.os().unwrap();
        check(&SockRef::from(&socket), to.is_ipv4());
        let fast = number(&SockRef::from(&socket), libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT);
        assert_eq!(fast, 1);
    }
}

/// Where a server sees a connection come from.
fn seen(source: &Source, client: Option<&str>) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (congestion, tcp) = (&Congestion::Host, &TcpOptions::default());
    let client = client.map(|client| client.parse().unwrap());
    let options = ConnectOptions { congestion, tcp, source, client };
    let to = Address::Inet(server.local_addr().unwrap());
    let (socket, address) = socket::towards(&to, &options).unwrap();
    let _ = socket::connect_now(&socket, &address);
    let (mut accepted, from) = server.accept().unwrap();
    // It is a connection like any other.
    accepted.write_all(b"!").unwrap();
    let mut socket =
        TcpStream::from(OwnedFd::from(SockRef::from(&socket.os().unwrap()).try_clone().unwrap()));
    socket.set_nonblocking(false).unwrap();
    socket.read_exact(&mut [0]).unwrap();
    from
}

#[test]
fn a_connection_comes_from_the_configured_address_and_ports() {
    let address = SourceAddress::Fixed(Some(Ipv4Addr::new(127, 0, 0, 9)), None);
    assert_eq!(seen(&Source { address, ports: None }, None).ip(), Ipv4Addr::new(127, 0, 0, 9));
    let ports = |first, last, by_kernel| Some(SourcePorts { first, last, by_kernel });
    let from = seen(&Source { address, ports: ports(21_000, 22_999, false) }, None);
    assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 9));
    assert!((21_000..23_000).contains(&from.port()), "{from}");
    // Within the default of ip_local_port_range.
    if has_port_ranges() {
        for address in [address, SourceAddress::Host] {
            let from = seen(&Source { address, ports: ports(50_000, 50_999, true) }, None);
            assert!((50_000..51_000).contains(&from.port()), "{from}");
        }
    }
}

#[test]
fn a_client_of_this_machine_is_a_source_like_any_other_where_it_is_allowed() {
    let is_allowed =
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().set_ip_transparent_v4(true).is_ok();
    let source = |address| Source { address, ports: None };
    if is_allowed {
        let client = "127.0.0.77:4567";
        let from = seen(&source(SourceAddress::Client), Some(client));
        assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 77));
        assert_eq!(
            seen(&source(SourceAddress::ClientAndPort), Some(client)),
            client.parse().unwrap()
        );
    } else {
        let (congestion, tcp) = (&Congestion::Host, &TcpOptions::default());
        let (source, client) = (&source(SourceAddress::Client), "192.0.2.1:0".parse().ok());
        let options = ConnectOptions { congestion, tcp, source, client };
        let refused = sys::probe_connect(([127, 0, 0, 1], 1).into(), &options).unwrap_err();
        assert_eq!(
            (refused.setting, refused.error.raw_os_error()),
            (Some(SocketSetting::Transparent), Some(libc::EPERM))
        );
    }
}

#[test]
fn what_the_kernel_refuses_is_named() {
    let elsewhere = SourceAddress::Fixed(Some(Ipv4Addr::new(192, 0, 2, 1)), None);
    for (source, congestion, setting) in [
        (Source { address: elsewhere, ports: None }, Congestion::Host, SocketSetting::Source),
        (Source::default(), Congestion::Named("no_such".into()), SocketSetting::Congestion),
    ] {
        let options = ConnectOptions {
            congestion: &congestion,
            tcp: &TcpOptions::default(),
            source: &source,
            client: None,
        };
        let refused = sys::probe_connect(([127, 0, 0, 1], 1).into(), &options).unwrap_err();
        assert_eq!(refused.setting, Some(setting));
    }
}
