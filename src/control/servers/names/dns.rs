//! One DNS lookup: what a name resolves to now.
//!
//! `/etc/hosts` is read first, as everywhere else on the machine; then DNS servers are queried,
//! those of `/etc/resolv.conf` or the configured ones, over UDP and, if an answer is too long, TCP.
//! Both files are read again when they change. Not here: when to query, and what an answer means
//! for servers. Invariant: a name counts as empty only if every server and every search domain that
//! was queried agrees; whatever else goes wrong is a failure.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use ringlane_health::addresses::SrvRecord;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config;
use crate::control::servers::blocking::Blocking;

/// Where DNS servers are found if none is configured.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long an entry of `/etc/hosts` is valid.
const HOSTS_VALID: Duration = Duration::from_secs(10);

/// How long an answer is valid that is partly an older one, since a query failed.
const PARTLY_VALID: Duration = Duration::from_secs(5);

/// How often a query without an answer is repeated.
const REPEATED: usize = 1;

/// Queries under way at once; others wait for their turn.
pub(super) const QUERIES_MAX: usize = 32;

/// Sockets that one query may use: the client queries two DNS servers at once.
pub(super) const SOCKETS_PER_QUERY: usize = 2;

/// Lines of an SRV answer that are looked at; more are ignored.
const SRV_MAX: usize = 256;

/// Records, and how long they are valid.
pub(in crate::control) type Answered<T> = Result<(Vec<T>, Duration), Unresolved>;

/// Why there is nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::control) enum Unresolved {
    /// An authoritative answer without records; why, in words.
    Empty(String),
    /// No usable answer; why, in words.
    Failed(String),
}

/// Addresses of IPv4, then of IPv6.
type Families = [Answered<IpAddr>; 2];

/// The last addresses of each name and family, for when that question fails.
pub(super) type Memory = HashMap<(String, usize), Vec<IpAddr>>;

/// The DNS client and its configuration.
#[derive(Debug)]
pub(super) struct Dns {
    configured: config::Resolver,
    queries: Semaphore,
    client: Mutex<Option<(Option<SystemTime>, Client)>>,
}

#[derive(Clone, Debug)]
struct Client {
    resolver: TokioResolver,
    without_edns: TokioResolver,
    /// A server answered only without EDNS.
    lacks_edns: Arc<AtomicBool>,
    /// Domains that are tried behind a name without enough dots.
    search: Arc<[Name]>,
    dots: usize,
}

impl Dns {
    pub(super) fn new(configured: config::Resolver) -> Self {
        Self { configured, queries: Semaphore::new(QUERIES_MAX), client: Mutex::new(None) }
    }

    /// The addresses of a name, those of IPv4 first. If only one family fails, its last addresses
    /// are taken from `memory`.
    pub(super) async fn addresses(&self, name: &str, memory: &mut Memory) -> Answered<IpAddr> {
        match self.families(name).await {
            [Err(Unresolved::Failed(why)), Err(Unresolved::Failed(_))] => {
                Err(Unresolved::Failed(why))
            }
            families => joined(remembered(name, families, memory)),
        }
    }

    /// The SRV records of a name, with the addresses of their targets: of IPv4 if there are any,
    /// else of IPv6, since both lead to one server.
    pub(super) async fn srv(
        self: &Arc<Self>,
        name: &str,
        memory: &mut Memory,
    ) -> Answered<SrvRecord> {
        let (records, mut valid_for) = self.query(name, RecordType::SRV).await?;
        let records = records.iter().filter_map(|data| match data {
            // RFC 2782: a target "." means that the service is not available.
            RData::SRV(srv) if !srv.target.is_root() => Some(srv),
            _ => None,
        });
        let records: Vec<_> =
            records.take(SRV_MAX).map(|srv| (srv.target.to_ascii(), srv)).collect();
        let mut asked = JoinSet::new();
        let mut targets: HashMap<String, Answered<IpAddr>> = HashMap::new();
        for (target, _) in &records {
            if targets.insert(target.clone(), Err(Unresolved::Empty(String::new()))).is_none() {
                let (dns, target) = (Arc::clone(self), target.clone());
                asked.spawn(async move { (dns.families(&target).await, target) });
            }
        }
        while let Some(Ok((families, target))) = asked.join_next().await {
            let families = remembered(&target, families, memory);
            targets.insert(target, first_of(families));
        }
        memory.retain(|(target, _), _| targets.contains_key(target));
        let (mut found, mut failed) = (Vec::new(), None);
        for (target, srv) in records {
            match &targets[&target] {
                Ok((addresses, time)) => {
                    valid_for = valid_for.min(*time);
                    found.extend(addresses.iter().map(|ip| SrvRecord {
                        address: SocketAddr::from((*ip, srv.port)),
                        priority: srv.priority,
                        weight: srv.weight,
                    }));
                }
                Err(Unresolved::Failed(why)) => failed = Some(format!("{target}: {why}")),
                Err(Unresolved::Empty(_)) => (),
            }
        }
        match (found.is_empty(), failed) {
            (true, Some(why)) => Err(Unresolved::Failed(why)),
            (true, None) => Err(Unresolved::Empty("its SRV records have no addresses".to_owned())),
            (false, Some(_)) => Ok((found, valid_for.min(PARTLY_VALID))),
            (false, None) => Ok((found, valid_for)),
        }
    }

    /// Both families of a name, queried at once.
    async fn families(&self, name: &str) -> Families {
        let unread = match self.in_hosts(name).await {
            Ok(Some(families)) => return families,
            Ok(None) => None,
            Err(why) => Some(why),
        };
        let ips = |answer: Answered<RData>| {
            let (records, valid_for) = answer?;
            Ok((records.iter().filter_map(canonical).collect(), valid_for))
        };
        let (four, six) =
            tokio::join!(self.query(name, RecordType::A), self.query(name, RecordType::AAAA));
        [ips(four), ips(six)].map(|answer| uncertain(answer, unread.as_deref()))
    }

    /// Records of one type, of the first of a name's full forms that has some.
    async fn query(&self, name: &str, kind: RecordType) -> Answered<RData> {
        let client = self.client().await.map_err(Unresolved::Failed)?;
        let mut nothing = Unresolved::Empty("not a valid DNS name".to_owned());
        // The semaphore is never closed; the permit is returned at the end.
        let _permit = self.queries.acquire().await;
        for full in client.full_forms(name) {
            match client.lookup(full, kind).await {
                Ok(lookup) => {
                    let records = lookup.answers().iter().map(|record| record.data.clone());
                    let records: Vec<_> = records.filter(|d| d.record_type() == kind).collect();
                    let valid_for = lookup.valid_until().saturating_duration_since(Instant::now());
                    if !records.is_empty() {
                        return Ok((records, valid_for));
                    }
                }
                Err(error) => {
                    let why = self.unresolved(&error, kind);
                    // One failure spoils the certainty that there is nothing.
                    if !matches!(nothing, Unresolved::Failed(_)) {
                        nothing = why;
                    }
                }
            }
        }
        Err(nothing)
    }

    /// What an error means.
    fn unresolved(&self, error: &NetError, kind: RecordType) -> Unresolved {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Unresolved::Empty("no such name".to_owned()),
                ResponseCode::NoError => Unresolved::Empty(format!("no {kind} record")),
                code => Unresolved::Failed(format!("the DNS server answered \"{code}\"")),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => {
                Unresolved::Failed(format!("the DNS server answered \"{code}\""))
            }
            NetError::Timeout => {
                let time = self.configured.timeout;
                Unresolved::Failed(format!("no answer from the DNS server within {time:?}"))
            }
            NetError::Io(error) => {
                Unresolved::Failed(format!("cannot query the DNS server: {error}"))
            }
            other => Unresolved::Failed(other.to_string()),
        }
    }

    /// The client, rebuilt when the file that configures it has changed.
    async fn client(&self) -> Result<Client, String> {
        let stamp = match self.configured.servers.is_empty() {
            true => {
                let changed = || fs::metadata(RESOLV_CONF).and_then(|data| data.modified()).ok();
                self.read(&STAMPS, RESOLV_CONF, changed).await?
            }
            false => None,
        };
        // What is inside is whole at any time.
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((made_of, client)) = known
            && made_of == stamp
        {
            return Ok(client);
        }
        let client = if self.configured.servers.is_empty() {
            let read = || read_system_conf().map_err(|error| error.to_string());
            let why = |error| format!("no usable DNS server in {RESOLV_CONF}: {error}");
            let (config, options) = self.read(&CONFS, RESOLV_CONF, read).await?.map_err(why)?;
            Client::new(&self.configured, config, options)?
        } else {
            let servers = self.configured.servers.iter().map(|server| {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                let on_its_port = |c: &mut ConnectionConfig| c.port = server.port();
                config.connections.iter_mut().for_each(on_its_port);
                config
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            Client::new(&self.configured, config, ResolverOpts::default())?
        };
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((stamp, client.clone()));
        Ok(client)
    }

    /// The entries of a name in `/etc/hosts`. A missing file has none; one that can't be read now
    /// is an error.
    async fn in_hosts(&self, name: &str) -> Result<Option<Families>, String> {
        let hosts = || match Hosts::from_system() {
            Ok(hosts) => Ok(Some(Arc::new(hosts))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read /etc/hosts: {error}")),
        };
        let hosts = self.read(&HOSTS, "/etc/hosts", hosts).await.flatten()?;
        Ok(hosts.and_then(|hosts| in_hosts(&hosts, name)))
    }

    /// Reads a file off the control thread, in the time that a DNS server has to answer.
    async fn read<T: Clone + Send + Sync + 'static>(
        &self,
        files: &'static Files<T>,
        path: &str,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let time = self.configured.timeout;
        let found = timeout(time, files.run((), read)).await;
        let found = found.map_err(|_| format!("reading {path} took longer than {time:?}"))?;
        found.map_err(|error| format!("cannot read {path}: {error}"))
    }
}

/// The readings of one file.
type Files<T> = LazyLock<Blocking<(), T>>;

static STAMPS: Files<Option<SystemTime>> = LazyLock::new(Blocking::new);
static CONFS: Files<Result<(ResolverConfig, ResolverOpts), String>> = LazyLock::new(Blocking::new);
static HOSTS: Files<Result<Option<Arc<Hosts>>, String>> = LazyLock::new(Blocking::new);

impl Client {
    fn new(
        configured: &config::Resolver,
        config: ResolverConfig,
        mut options: ResolverOpts,
    ) -> Result<Self, String> {
        options.timeout = configured.timeout;
        options.attempts = REPEATED;
        // Read here, for both families at once.
        options.use_hosts_file = ResolveHosts::Never;
        // Negative answers are not cached: a name that does not exist yet is queried again and
        // again.
        options.negative_max_ttl = Some(Duration::ZERO);
        let search = match config.search() {
            [] => config.domain().cloned().into_iter().collect(),
            search => search.into(),
        };
        let dots = options.ndots;
        let resolver = |edns0| {
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config.clone(), provider);
            *builder.options_mut() = options.clone();
            builder.options_mut().edns0 = edns0;
            builder.build().map_err(|error| format!("cannot set up the DNS client: {error}"))
        };
        let (resolver, without_edns) = (resolver(true)?, resolver(false)?);
        Ok(Self { resolver, without_edns, lacks_edns: Arc::default(), search, dots })
    }

    /// Queries, and once more without EDNS if the server may not have understood it (RFC 6891,
    /// section 6.2.2). What has worked once is tried first from then on.
    async fn lookup(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        if self.lacks_edns.load(Ordering::Relaxed) {
            let answer = self.without_edns.lookup(name.clone(), kind).await;
            if !matches!(&answer, Err(error) if !is_answer(error)) {
                return answer;
            }
            self.lacks_edns.store(false, Ordering::Relaxed);
        }
        let answer = self.resolver.lookup(name.clone(), kind).await;
        if !matches!(&answer, Err(error) if may_lack_edns(error)) {
            return answer;
        }
        let again = self.without_edns.lookup(name, kind).await;
        match &again {
            Err(error) if !is_answer(error) => answer,
            _ => {
                self.lacks_edns.store(true, Ordering::Relaxed);
                again
            }
        }
    }

    /// What a name may stand for, in the order of `resolv.conf(5)`.
    fn full_forms(&self, name: &str) -> Vec<Name> {
        let Ok(mut whole) = Name::from_ascii(name) else { return Vec::new() };
        if whole.is_fqdn() {
            return vec![whole];
        }
        let inside = |domain: &Name| whole.clone().append_domain(domain).ok();
        let mut forms: Vec<Name> = self.search.iter().filter_map(inside).collect();
        whole.set_fqdn(true);
        let has_dots = name.matches('.').count() >= self.dots;
        forms.insert(if has_dots { 0 } else { forms.len() }, whole);
        forms
    }
}

/// Whether an error is a DNS server's answer about the name.
fn is_answer(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
        }
        _ => false,
    }
}

/// Whether an error may come from a DNS server without EDNS: it can't parse the query, or its
/// answer can't be parsed.
fn may_lack_edns(error: &NetError) -> bool {
    let code = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        NetError::Timeout => return true,
        _ => return false,
    };
    matches!(code, ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS)
}

/// The entries of a name in `/etc/hosts`, if it has any.
fn in_hosts(hosts: &Hosts, name: &str) -> Option<Families> {
    let name = Name::from_ascii(name).ok()?;
    let families = [RecordType::A, RecordType::AAAA].map(|kind| {
        let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let answers = lookup.iter().flat_map(|lookup| lookup.answers());
        let ips: Vec<_> = answers.filter_map(|record| canonical(&record.data)).collect();
        match ips.is_empty() {
            true => Err(Unresolved::Empty(format!("no {kind} entry in /etc/hosts"))),
            false => Ok((ips, HOSTS_VALID)),
        }
    });
    families.iter().any(Result::is_ok).then_some(families)
}

/// An answer of DNS while `/etc/hosts` is `unread`: a name that DNS does not have may be there.
fn uncertain(answer: Answered<IpAddr>, unread: Option<&str>) -> Answered<IpAddr> {
    match (answer, unread) {
        (Err(Unresolved::Empty(_)), Some(why)) => Err(Unresolved::Failed(why.to_owned())),
        (answer, _) => answer,
    }
}

/// Keeps what is there, and puts it where a question has failed.
fn remembered(name: &str, families: Families, memory: &mut Memory) -> Families {
    let mut family = 0;
    families.map(|answer| {
        let key = (name.to_owned(), family);
        family += 1;
        match &answer {
            Ok((ips, _)) => {
                memory.insert(key, ips.clone());
            }
            Err(Unresolved::Empty(_)) => {
                memory.remove(&key);
            }
            Err(Unresolved::Failed(_)) => {
                if let Some(ips) = memory.get(&key) {
                    return Ok((ips.clone(), PARTLY_VALID));
                }
            }
        }
        answer
    })
}

/// The address of a record; IPv4-mapped IPv6 addresses count as IPv4.
fn canonical(data: &RData) -> Option<IpAddr> {
    data.ip_addr().map(|ip| ip.to_canonical())
}

/// All addresses of both families. The name is empty only if both families are.
fn joined([four, six]: Families) -> Answered<IpAddr> {
    match (four, six) {
        (Ok((mut ips, four)), Ok((more, six))) => {
            let more: Vec<_> = more.into_iter().filter(|ip| !ips.contains(ip)).collect();
            ips.extend(more);
            Ok((ips, four.min(six)))
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(failed @ Unresolved::Failed(_)), _) | (_, Err(failed)) => Err(failed),
    }
}

/// The addresses of the first family that has some.
fn first_of([four, six]: Families) -> Answered<IpAddr> {
    match (four, six) {
        (Ok(four), _) => Ok(four),
        // It may have some of IPv4, which can't be looked up now.
        (Err(failed @ Unresolved::Failed(_)), _) => Err(failed),
        (Err(Unresolved::Empty(_)), six) => six,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Answered<IpAddr> {
        Ok((texts.iter().map(|text| text.parse().unwrap()).collect(), Duration::from_secs(9)))
    }

    fn empty() -> Answered<IpAddr> {
        Err(Unresolved::Empty("no record".to_owned()))
    }

    fn failed() -> Answered<IpAddr> {
        Err(Unresolved::Failed("no answer".to_owned()))
    }

    #[test]
    fn while_the_hosts_file_cannot_be_read_no_name_is_known_not_to_exist() {
        let why = Some("cannot read /etc/hosts: Too many open files");
        assert!(
            matches!(uncertain(empty(), why), Err(Unresolved::Failed(said)) if Some(&*said) == why)
        );
        assert_eq!(uncertain(empty(), None), empty());
        assert_eq!(uncertain(failed(), why), failed());
        assert_eq!(uncertain(ips(&["10.0.0.1"]), why), ips(&["10.0.0.1"]));
    }

    #[test]
    fn that_there_is_nothing_is_certain_only_if_both_families_say_so() {
        for (four, six, all, first) in [
            (ips(&["10.0.0.1"]), ips(&["::1"]), ips(&["10.0.0.1", "::1"]), ips(&["10.0.0.1"])),
            (ips(&["10.0.0.1"]), failed(), ips(&["10.0.0.1"]), ips(&["10.0.0.1"])),
            (empty(), ips(&["::1"]), ips(&["::1"]), ips(&["::1"])),
            (failed(), ips(&["::1"]), ips(&["::1"]), failed()),
            (empty(), empty(), empty(), empty()),
            (empty(), failed(), failed(), failed()),
            (failed(), empty(), failed(), failed()),
        ] {
            assert_eq!(joined([four.clone(), six.clone()]), all);
            assert_eq!(first_of([four, six]), first);
        }
    }

    #[test]
    fn a_family_that_fails_keeps_what_it_had() {
        let mut memory = Memory::new();
        let mut take = |families| remembered("web.test", families, &mut memory);
        assert!(take([ips(&["10.0.0.1"]), ips(&["::1"])]).iter().all(Result::is_ok));
        let [four, six] = take([ips(&["10.0.0.2"]), failed()]);
        assert_eq!(four, ips(&["10.0.0.2"]));
        assert_eq!(six, Ok((vec!["::1".parse().unwrap()], PARTLY_VALID)));
        let [four, six] = take([failed(), empty()]);
        assert_eq!((four.unwrap().0.len(), six), (1, empty()));
        assert_eq!(take([empty(), failed()])[1], failed(), "it said that it has none");
    }

    #[test]
    fn short_names_are_looked_for_in_the_search_domains() {
        let dns = Dns::new(config::Resolver {
            servers: vec![([127, 0, 0, 1], 53).into()],
            ..config::Resolver::default()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut client = runtime.block_on(dns.client()).unwrap();
        client.search = ["a.test", "b.test"].map(|name| Name::from_ascii(name).unwrap()).into();
        let forms = |name: &str| -> Vec<String> {
            client.full_forms(name).iter().map(Name::to_ascii).collect()
        };
        assert_eq!(forms("db"), ["db.a.test.", "db.b.test.", "db."]);
        assert_eq!(
            forms("_x._tcp.db"),
            ["_x._tcp.db.", "_x._tcp.db.a.test.", "_x._tcp.db.b.test."]
        );
        assert_eq!(forms("db."), ["db."]);
        assert!(forms("a..b").is_empty());
    }
}
