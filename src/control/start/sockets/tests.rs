//! Binding on loopback, with ports from the kernel and socket files in a temporary directory.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

use nix::errno::Errno;
use ringlane_core::ids::BackendId;
use ringlane_core::machine::sys::SocketSetting;
use ringlane_core::settings::Timeout;

use super::*;

fn snapshot(bind: Vec<Address>) -> Snapshot {
    let second = Duration::from_secs(1);
    let frontend = Frontend {
        name: "web".into(),
        bind,
        backend: BackendId(0),
        max_connections: 10,
        timeout: Timeout {
            greeting: second,
            connect: second,
            client: second,
            server: second,
            fin: None,
        },
        congestion: Congestion::Host,
        ..Frontend::default()
    };
    Snapshot {
        generation: 1,
        max_connections: 10,
        log_sessions: false,
        frontends: vec![frontend],
        backends: Vec::new(),
        servers: Vec::new(),
    }
}

fn inet(text: &str) -> Address {
    Address::Inet(text.parse().unwrap())
}

#[track_caller]
fn refuses(address: Address, congestion: Congestion, sentence: &str) {
    let mut snapshot = snapshot(vec![address]);
    snapshot.frontends[0].congestion = congestion;
    let error = bind(&snapshot, 2, None).unwrap_err().to_string();
    assert!(error.starts_with("frontend \"web\" cannot listen on "), "{error}");
    assert!(error.contains(sentence), "{error}");
}

#[test]
fn port_zero_is_one_port_for_all_shards() {
    let snapshot = snapshot(vec![inet("127.0.0.1:0")]);
    assert_eq!(count(&snapshot, 3), 3);
    let listeners = bind(&snapshot, 3, None).unwrap();
    let [Address::Inet(bound)] = listeners.addresses.addresses[0][..] else {
        panic!("{:?}", listeners.addresses)
    };
    assert_ne!(bound.port(), 0);
    assert_eq!(listeners.shards.len(), 3);
    for shard in &listeners.shards {
        let [(_, socket)] = &shard[..] else { panic!("{shard:?}") };
        assert_eq!(sys::local_address(socket).unwrap(), Some(bound));
    }
}

#[test]
fn a_port_that_is_shared_by_reuse_port_is_in_use_all_the_same() {
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    other.listen(1).unwrap();
    let address = other.local_addr().unwrap().as_socket().unwrap();
    refuses(Address::Inet(address), Congestion::Host, "another program listens there");
}

#[test]
fn a_plain_listener_is_in_use_and_free_when_it_is_gone() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Inet(other.local_addr().unwrap());
    refuses(address.clone(), Congestion::Host, "another program listens there");
    drop(other);
    bind(&snapshot(vec![address]), 1, None).unwrap();
}

#[test]
fn an_address_of_another_machine_is_refused() {
    refuses(inet("192.0.2.1:80"), Congestion::Host, "no interface of this machine");
}

#[test]
fn a_congestion_control_that_the_kernel_lacks_is_named() {
    let named = Congestion::Named("no_such".into());
    refuses(inet("127.0.0.1:0"), named, "congestion control \"no_such\"");
}

#[test]
fn unix_sockets_go_round_the_shards_and_their_files_go_away() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b", "c"].map(|name| dir.path().join(name));
    let snapshot = snapshot(paths.iter().cloned().map(Address::Unix).collect());
    assert_eq!(count(&snapshot, 2), 3);
    let listeners = bind(&snapshot, 2, None).unwrap();
    assert_eq!(listeners.shards.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(listeners.addresses.addresses[0], snapshot.frontends[0].bind);
    assert!(paths.iter().all(|path| path.exists()));
    // Another process takes one over while we drain.
    fs::remove_file(&paths[1]).unwrap();
    let _other = UnixListener::bind(&paths[1]).unwrap();
    drop(listeners);
    assert_eq!(paths.map(|path| path.exists()), [false, true, false]);
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stale");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    bind(&snapshot(vec![Address::Unix(path)]), 1, None).unwrap();
}

#[test]
fn a_socket_file_in_use_and_any_other_file_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let unix = |name: &str| Address::Unix(path(name));
    let _live = UnixListener::bind(path("live")).unwrap();
    refuses(unix("live"), Congestion::Host, "another program listens there");
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    refuses(unix("datagram"), Congestion::Host, "another program listens there");
    fs::write(path("file"), "precious").unwrap();
    refuses(unix("file"), Congestion::Host, "not a socket exists there");
    refuses(unix("missing/deeper/sock"), Congestion::Host, "does not exist and cannot be created");
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "precious");
}

#[test]
fn an_option_that_is_denied_names_what_it_needs() {
    let refused = |setting, errno| {
        let error = io::Error::from_raw_os_error(errno);
        Problem::from_listen(Refused { setting: Some(setting), error }, &Congestion::Host)
            .to_string()
    };
    let denied = refused(SocketSetting::Mark, Errno::EPERM as i32);
    assert!(denied.starts_with("tcp.mark needs CAP_NET_ADMIN"), "{denied}");
    let unknown = refused(SocketSetting::FastOpen, Errno::ENOPROTOOPT as i32);
    assert!(unknown.starts_with("the kernel refused tcp.fast_open (Protocol not"), "{unknown}");
}
