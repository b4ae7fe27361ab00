//! Addresses as people write them: `10.0.0.1:5432`, `[::1]:5432`, `unix:/run/x.sock`, `name:port`.
//!
//! A listener needs an IP address or socket path; a server may be given by DNS name.
//! Not here: resolving names, and whether an address can be bound or reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use ringlane_core::machine::Address;

use super::lookup::Name;
use super::quoted::quoted;

/// Longest path of a unix socket in bytes: `sun_path` without its final zero.
const SOCKET_PATH_MAX: usize = 107;

/// Longest DNS name and label in bytes (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Prefix length of IPv4-mapped IPv6 addresses.
const MAPPED_PREFIX: u8 = 96;

/// The error for a port without address.
const NO_ADDRESS: &str = "the address before the port is missing";

/// Prefix of a name that is resolved by SRV records.
const SRV: &str = "srv:";

/// The address of a server in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) enum ServerAddress {
    /// A fixed address.
    Fixed(Address),
    /// A DNS name, resolved while the balancer runs.
    Named(Name),
}

impl ServerAddress {
    /// The addresses that are known without DNS: a fixed one, or those of `localhost`.
    pub(in crate::config) fn known(&self) -> Vec<Address> {
        match self {
            Self::Fixed(address) => vec![address.clone()],
            Self::Named(Name::Addresses { name, port }) if is_localhost(name) => {
                let local = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
                local.map(|ip| Address::Inet(SocketAddr::new(ip, *port))).into()
            }
            Self::Named(_) => Vec::new(),
        }
    }
}

/// Whether a name always resolves to loopback addresses (RFC 6761, section 6.3).
fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

/// Why a text is not a valid address, and what to do about it.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::config) struct AddressError {
    pub(in crate::config) why: String,
    pub(in crate::config) hint: Option<String>,
}

impl AddressError {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Reads an IP address. An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) becomes an IPv4 address,
/// because the kernel treats the two as equal.
pub(in crate::config) fn ip(text: &str) -> Option<IpAddr> {
    text.parse().map(|ip: IpAddr| ip.to_canonical()).ok()
}

/// Reads an IP address with a port, as [`ip`] does.
pub(in crate::config) fn inet(text: &str) -> Option<SocketAddr> {
    text.parse().map(canonical).ok()
}

/// The canonical form of an address: IPv4-mapped addresses become IPv4.
pub(in crate::config) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Reads a network, or an address as a network of one. `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
pub(in crate::config) fn network(text: &str) -> Option<IpNet> {
    let net = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip))).ok()?;
    let IpNet::V6(v6) = net else { return Some(net) };
    let (ip, prefix) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_PREFIX));
    let mapped = ip.zip(prefix).and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok());
    Some(mapped.map_or(net, IpNet::V4))
}

/// Reads the address of a listener.
pub(in crate::config) fn listener(text: &str) -> Result<Address, AddressError> {
    if let Some(port) = bare_port(text) {
        return Err(AddressError::new(NO_ADDRESS).hint(format!(
            "for all IPv4 and all IPv6 addresses write both: \"0.0.0.0:{port}\", \"[::]:{port}\""
        )));
    }
    if let Some(address) = literal(text)? {
        return Ok(address);
    }
    let (name, port) = name_and_port(text)?;
    let problem = AddressError::new("a listener needs an IP address, not a DNS name");
    if name == "localhost" {
        return Err(problem.hint(format!("use \"127.0.0.1:{port}\" or \"[::1]:{port}\"")));
    }
    Err(problem.hint("use the address of this host that clients connect to"))
}

/// Reads the address of a server, which may be a name.
pub(in crate::config) fn server(text: &str) -> Result<ServerAddress, AddressError> {
    if let Some(name) = text.strip_prefix(SRV) {
        if !is_name(name) {
            let hint = "for example: \"srv:_postgresql._tcp.example.org\"";
            return Err(
                AddressError::new("srv: must be followed by a DNS name, without a port").hint(hint)
            );
        }
        return Ok(ServerAddress::Named(Name::Srv(name.to_owned())));
    }
    match literal(text)? {
        Some(Address::Inet(inet)) if inet.port() == 0 => {
            Err(AddressError::new("the port must not be 0"))
        }
        Some(address) => Ok(ServerAddress::Fixed(address)),
        None => match name_and_port(text)? {
            (_, 0) => Err(AddressError::new("the port must not be 0")),
            (name, port) => {
                Ok(ServerAddress::Named(Name::Addresses { name: name.to_owned(), port }))
            }
        },
    }
}

/// Reads the address of a check; port 0 if it has none, which means the port of the server.
pub(in crate::config) fn check(text: &str) -> Result<Address, AddressError> {
    if let Some(ip) = ip(text.trim_start_matches('[').trim_end_matches(']')) {
        return Ok(Address::Inet((ip, 0).into()));
    }
    let problem = "a check needs an IP address, not a DNS name";
    literal(text)?.ok_or_else(|| {
        AddressError::new(problem)
            .hint("for example: \"10.0.0.9\", \"10.0.0.9:8008\" or \"unix:/run/x.sock\"")
    })
}

/// Whether a text is a valid DNS name; it may end with a dot.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= NAME_MAX && text.split('.').all(is_label)
}

/// Reads an address that needs no DNS; `None` if it may be `name:port`.
fn literal(text: &str) -> Result<Option<Address>, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(|path| Some(Address::Unix(path))).map_err(AddressError::new);
    }
    if let Some(address) = inet(text) {
        return Ok(Some(Address::Inet(address)));
    }
    if text.is_empty() {
        return Err(AddressError::new("must not be empty"));
    }
    if text.starts_with(['/', '.', '@']) {
        return Err(AddressError::new("this looks like the path of a unix socket")
            .hint("put unix: before the absolute path: \"unix:/run/x.sock\""));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        let scheme = quoted(&format!("{scheme}://"));
        return Err(
            AddressError::new("an address must not have a scheme").hint(format!("remove {scheme}"))
        );
    }
    if let Some(ip) = ip(text.trim_matches(['[', ']'])) {
        let why = "the port is missing";
        return Err(match ip {
            IpAddr::V4(ip) => AddressError::new(why).hint(format!("write \"{ip}:PORT\"")),
            IpAddr::V6(ip) => AddressError::new(why)
                .hint(format!("put IPv6 addresses in brackets: \"[{ip}]:PORT\"")),
        });
    }
    if let Some(port) = bare_port(text) {
        let problem = AddressError::new(NO_ADDRESS);
        return Err(problem.hint(format!("for example: \"10.0.0.1:{port}\"")));
    }
    Ok(None)
}

/// The port of a text that is only a port: `5432`, `:5432` or `*:5432`.
fn bare_port(text: &str) -> Option<u16> {
    let bare = text.strip_prefix('*').unwrap_or(text);
    bare.strip_prefix(':').unwrap_or(bare).parse().ok()
}

/// Splits `name:port`, and checks the syntax of both.
fn name_and_port(text: &str) -> Result<(&str, u16), AddressError> {
    let not_an_address = || {
        AddressError::new("not a valid address")
            .hint("for example: \"10.0.0.1:5432\", \"[::1]:5432\" or \"unix:/run/x.sock\"")
    };
    let Some((name, port)) = text.rsplit_once(':') else {
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
        return Err(if is_name {
            AddressError::new("the port is missing").hint(format!("write \"{text}:PORT\""))
        } else {
            not_an_address()
        });
    };
    // Only digits and dots: meant as an IP address.
    if !is_name(name) || name.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(not_an_address());
    }
    match port.parse::<u16>() {
        Ok(port) => Ok((name, port)),
        Err(_) => Err(AddressError::new("the port must be a number from 1 to 65535")),
    }
}

/// Reads an absolute path.
pub(in crate::config) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("a path must not contain a zero byte".to_owned());
    }
    if !Path::new(text).is_absolute() {
        return Err("must be an absolute path, starting with /".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// Reads the absolute path of a unix socket.
pub(in crate::config) fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > SOCKET_PATH_MAX {
        return Err("the path of a unix socket must be at most 107 bytes long".to_owned());
    }
    absolute_path(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_they_were_read() {
        for text in ["0.0.0.0:5432", "127.0.0.1:0", "[::]:5432", "[fe80::1%2]:1", "unix:/run/x"] {
            assert_eq!(listener(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in ["10.0.0.1:5432", "[::1]:5432", "unix:/run/pg"] {
            let Ok(ServerAddress::Fixed(address)) = server(text) else { panic!("{text}") };
            assert_eq!(address.to_string(), text);
        }
        for text in ["db:5432", "db.example.:1", "_x._tcp.a-b:1", "srv:_pg._tcp.example.org"] {
            let Ok(ServerAddress::Named(name)) = server(text) else { panic!("{text}") };
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn ipv4_mapped_addresses_become_ipv4() {
        let shown = |text| listener(text).map(|address| address.to_string());
        assert_eq!(shown("[::ffff:127.0.0.1]:80"), Ok("127.0.0.1:80".to_owned()));
        assert_eq!(shown("[::ffff:0.0.0.0]:80"), Ok("0.0.0.0:80".to_owned()));
        assert_eq!(shown("[::ffff:7f00:1]:80"), Ok("127.0.0.1:80".to_owned()));
        assert_eq!(shown("[::127.0.0.1]:80"), Ok("[::7f00:1]:80".to_owned()), "another one");
        let checked = check("::ffff:10.0.0.9").map(|address| address.to_string());
        assert_eq!(checked, Ok("10.0.0.9:0".to_owned()));
        for (text, expected) in [
            ("::ffff:10.1.2.0/120", "10.1.2.0/24"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).map(|net| net.to_string()).as_deref(), Some(expected));
        }
        assert_eq!(network("10.0.0.0/33"), None);
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(address: Result<T, AddressError>, expected: &str) {
        let problem = address.expect_err(expected);
        let shown = format!("{} / {}", problem.why, problem.hint.unwrap_or_default());
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn invalid_listeners_are_refused_with_a_reason() {
        for (text, expected) in [
            ("", "empty"),
            (":5432", "\"0.0.0.0:5432\", \"[::]:5432\""),
            ("*:5432", "\"0.0.0.0:5432\", \"[::]:5432\""),
            ("5432", "\"0.0.0.0:5432\", \"[::]:5432\""),
            ("10.0.0.1", "\"10.0.0.1:PORT\""),
            ("::1", "\"[::1]:PORT\""),
            ("[::1]", "\"[::1]:PORT\""),
            ("::1:5432", "in brackets"),
            ("localhost:80", "127.0.0.1:80"),
            ("db.example:80", "not a DNS name"),
            ("10.0.0.1:99999", "not a valid address"),
            ("10.0.0.256:80", "not a valid address"),
            ("tcp://10.0.0.1:80", "remove \"tcp://\""),
            ("/run/x.sock", "\"unix:/run/x.sock\""),
            ("unix:x.sock", "absolute"),
            ("unix:/a\0b", "zero byte"),
            ("what is this", "not a valid address"),
        ] {
            refused(listener(text), expected);
        }
        refused(listener(&format!("unix:/{}", "x".repeat(107))), "107 bytes");
    }

    #[test]
    fn invalid_servers_are_refused_with_a_reason() {
        for (text, expected) in [
            ("10.0.0.1:0", "port must not be 0"),
            ("db:0", "port must not be 0"),
            ("srv:", "a DNS name"),
            ("srv:_pg._tcp.example.org:5432", "without a port"),
            ("srv:a b", "\"srv:_postgresql._tcp.example.org\""),
            (&format!("{}:1", "x".repeat(64)), "not a valid address"),
            ("a..b:1", "not a valid address"),
            ("db", "\"db:PORT\""),
            (":5432", "\"10.0.0.1:5432\""),
            ("db:http", "number from 1 to 65535"),
            ("db example:80", "not a valid address"),
        ] {
            refused(server(text), expected);
        }
    }
}
