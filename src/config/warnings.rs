//! Warnings about settings that are valid but most likely a mistake.
//!
//! Checked once all tables are read, and shown only if there are no errors, which could cause wrong
//! warnings. Not here: what the host lacks (`machine`), loops (`loops`), and errors (the readers).
//! Invariant: a warning names the object, the effect, and how to write what was most likely meant.

use std::collections::HashMap;
use std::net::SocketAddr;

use ringlane_core::machine::Address;
use ringlane_core::settings::{Protocol, RoleWanted};
use ringlane_health::OnChange;

use super::model::{Admin, Global, Http, Kind};
use super::read::backend::{BackendTable, ServerTable};
use super::read::frontend::FrontendTable;
use super::routes;
use super::text::report::{Diagnostic, quoted};
use super::text::schema::Section;
use super::text::table::{At, Table};
use super::value::address::ServerAddress;

/// Records every warning about a file whose tables were read without errors.
pub(super) fn look(
    root: &Table<'_>,
    global: &Global,
    frontends: &[FrontendTable<'_>],
    backends: &[BackendTable<'_>],
) {
    if let Some(table) = root.table("global", Section::Global) {
        look_at_admin(&table, &global.admin);
    }
    for frontend in frontends {
        look_at_frontend(frontend, global);
        routes::look(frontend);
    }
    for backend in backends {
        let users: Vec<User<'_, '_>> = users(frontends, backend).collect();
        look_at_backend(backend, &users);
        look_at_servers(backend);
        look_at_mirror(backend);
        look_at_check(backend, &users);
    }
}

/// A frontend that uses a backend, and the role that it needs there.
type User<'f, 'a> = (&'f FrontendTable<'a>, RoleWanted);

fn users<'f, 'a>(
    frontends: &'f [FrontendTable<'a>],
    backend: &BackendTable<'_>,
) -> impl Iterator<Item = User<'f, 'a>> {
    let own = backend.name.as_ref().map(|name| name.value.to_owned());
    let is_it = move |name: Option<&At<&str>>| {
        own.as_deref().is_some_and(|own| name.is_some_and(|name| name.value == own))
    };
    frontends.iter().flat_map(move |frontend| {
        let default = (frontend.backend.as_ref(), frontend.settings.role);
        let routes = frontend.routes.iter().map(|e| (e.backend.as_ref(), e.route.role));
        let wanted = std::iter::once(default).chain(routes).filter(|(name, _)| is_it(*name));
        wanted.map(|(_, role)| (frontend, role)).collect::<Vec<_>>()
    })
}

/// Warns that a key has no effect, and why.
fn idle(table: &Table<'_>, key: &'static str, why: &str, hint: &str) {
    if let Some(value) = table.value(key) {
        let title = format!("{} has no effect", table.key_called(key));
        table.report(Diagnostic::at(value.span, title).label(why).hint(hint).warning());
    }
}

fn look_at_admin(global: &Table<'_>, admin: &Admin) {
    let Some(table) = global.table("admin", Section::Admin) else { return };
    let Some(address) = admin.http else {
        for key in ["tokens", "allow_hosts"] {
            idle(&table, key, "it is about admin.http, which is not set", "set http, or remove it");
        }
        return;
    };
    let span = table.value("http").map_or(0..0, |value| value.span);
    if admin.tokens.is_empty() {
        let title = format!("the admin API on {address} refuses everything but /healthz");
        let hint = format!("add {}", Section::Admin.example("tokens"));
        let label = "its clients need a token, and there is none";
        global.report(Diagnostic::at(span, title).label(label).hint(hint).warning());
    } else if !address.ip().is_loopback() {
        let title = format!("the admin API on {address} can be reached from other machines");
        let hint =
            format!("use \"127.0.0.1:{}\", or restrict access with a firewall", address.port());
        let label = "it is not encrypted: tokens can be read on the way";
        global.report(Diagnostic::at(span, title).label(label).hint(hint).warning());
    }
}

fn look_at_frontend(frontend: &FrontendTable<'_>, global: &Global) {
    let (table, settings) = (&frontend.table, &frontend.settings);
    let own = settings.max_connections;
    if let Some(all) = global.max_connections.filter(|all| own != u32::MAX && own > *all) {
        let why = format!("[global] allows {all} for all frontends together");
        idle(
            table,
            "max_connections",
            &why,
            "raise max_connections in [global], or lower this one",
        );
    }
    if frontend.routes.is_empty() {
        let hint =
            "add route = [{ sni = \"db.example.org\", backend = \"postgres\" }], or remove the key";
        idle(table, "unmatched", "this frontend has no routes", hint);
    }
    if settings.protocol == Protocol::Any
        && let Some(timeout) = table.table("timeout", Section::Timeout)
    {
        let why = "without protocol, nothing is read before a server is chosen";
        idle(&timeout, "greeting", why, "set protocol, or remove the key");
    }
    if let Some(limits) = table.table("per_client", Section::PerClient)
        && limits.value("rate").is_none()
    {
        idle(&limits, "burst", "it is used only with rate", "set rate, or remove the key");
    }
    let believes_all = settings.accept_proxy.as_ref().is_some_and(|accept| {
        accept.trusted.is_empty() || accept.trusted.iter().any(|net| net.prefix_len() == 0)
    });
    let is_open = |bind: &At<Address>| match &bind.value {
        Address::Inet(inet) => !inet.ip().is_loopback(),
        Address::Unix(_) => false,
    };
    if believes_all
        && frontend.bind.iter().any(is_open)
        && let Some(value) = table.value("accept_proxy")
    {
        let title = format!("{} accepts PROXY headers from any address", table.called());
        table.report(
            Diagnostic::at(value.span, title)
                .label("any client can pretend to have any address")
                .hint("list the trusted proxies: accept_proxy = { trusted = [\"10.0.0.0/8\"] }")
                .warning(),
        );
    }
}

fn look_at_backend(backend: &BackendTable<'_>, users: &[User<'_, '_>]) {
    let (table, rules) = (&backend.table, &backend.watch.rules);
    if users.is_empty()
        && let Some(name) = &backend.name
    {
        let title = format!("no frontend uses {}", table.called());
        table.report(
            Diagnostic::at(name.span.clone(), title)
                .label("its servers get no sessions")
                .hint("use it in a frontend or route, or remove it")
                .warning(),
        );
    }
    let wants = |wanted: fn(RoleWanted) -> bool| users.iter().any(|(_, role)| wanted(*role));
    if rules.max_lag.is_none() {
        let hint = "set max_lag, for example max_lag = \"10s\", or remove the key";
        idle(table, "on_lag", "without max_lag, no replica is ever stale", hint);
    } else if !users.is_empty()
        && !wants(|role| role != RoleWanted::Any && role != RoleWanted::Primary)
    {
        let hint = "set role = \"replica\" on the frontend for reads, or remove the key";
        idle(table, "on_lag", "no frontend or route uses replicas of this backend", hint);
    }
    if !users.is_empty() && !wants(|role| role != RoleWanted::Any) {
        let hint = "set role on a frontend or route that leads here, or remove the key";
        idle(
            table,
            "on_role_change",
            "no frontend or route that uses this backend has a role",
            hint,
        );
    }
    let on_all = [rules.on_down, rules.on_role_change, rules.on_lag, rules.on_drain];
    if !on_all.contains(&OnChange::Drain) {
        let why = "none of on_down, on_role_change, on_lag and on_drain is \"drain\"";
        idle(table, "drain_idle", why, "set one of them to \"drain\", or remove the key");
    }
    if backend.watch.check.is_none() && backend.watch.outlier.is_none() {
        let why = "without check or outlier, no server is ever down";
        for key in ["on_down", "fail_open"] {
            idle(table, key, why, "add check = { kind = \"tcp\" }, or remove the key");
        }
    }
}

fn look_at_servers(backend: &BackendTable<'_>) {
    let (table, servers) = (&backend.table, &backend.servers);
    let Some(value) = table.value("server") else { return };
    let span_of = |server: &ServerTable<'_>, key| {
        server.table.value(key).map_or_else(|| value.span.clone(), |value| value.span)
    };
    if let Some(first) = servers.first().filter(|_| servers.iter().all(|server| server.backup)) {
        let title = format!("all servers of {} are backups", table.called());
        table.report(
            Diagnostic::at(span_of(first, "backup"), title)
                .label("there is no other server to take over from")
                .hint("remove backup = true from the regular servers")
                .warning(),
        );
    }
    if let Some(first) = servers.first().filter(|_| servers.iter().all(|server| server.weight == 0))
    {
        let title = format!("every server of {} has weight 0", table.called());
        table.report(
            Diagnostic::at(span_of(first, "weight"), title)
                .label("a server of weight 0 gets no new sessions")
                .hint("give at least one server a weight from 1 to 1000")
                .warning(),
        );
    }
    let slots: u32 = servers.iter().map(|server| server.slots).sum();
    if slots == 1 {
        let why = "there is no second server to try";
        idle(table, "race_after", why, "add another server, or remove the key");
    }
    let mut seen: HashMap<String, &ServerTable<'_>> = HashMap::new();
    for server in servers {
        let Some(place) = &server.place else { continue };
        let text = match place {
            ServerAddress::Fixed(address) => address.to_string(),
            ServerAddress::Named(name) => name.to_string(),
        };
        if let Some(first) = seen.get(&text) {
            let title = format!("two servers of {} have the address {text}", table.called());
            table.report(
                Diagnostic::at(span_of(server, "address"), title)
                    .label("again here")
                    .also(span_of(first, "address"), "first here")
                    .hint("use one server with a higher weight instead: the same share, one check")
                    .warning(),
            );
            continue;
        }
        seen.insert(text, server);
    }
}

fn look_at_mirror(backend: &BackendTable<'_>) {
    let Some(mirror) = &backend.settings.mirror else { return };
    let mirror_at = plain(&mirror.server);
    let is_there = |server: &&ServerTable<'_>| {
        let addresses = server.place.as_ref().map(ServerAddress::known).unwrap_or_default();
        addresses.iter().any(|address| plain(address) == mirror_at)
    };
    if let Some(server) = backend.servers.iter().find(is_there)
        && let Some(inner) = backend.table.table("mirror", Section::Mirror)
        && let Some(value) = inner.value("server")
    {
        let title = format!("the mirror of {} is one of its servers", backend.table.called());
        let label = format!("{} gets every mirrored session twice", server.table.called());
        inner.report(
            Diagnostic::at(value.span, title)
                .label(label)
                .hint("writes would be made twice: use the address of another server")
                .warning(),
        );
    }
}

/// An address in one of its spellings.
fn plain(address: &Address) -> Address {
    match address {
        Address::Inet(inet) => {
            Address::Inet(SocketAddr::new(inet.ip().to_canonical(), inet.port()))
        }
        // Compared by their components, without `.` and repeated slashes.
        Address::Unix(path) => Address::Unix(path.components().collect()),
    }
}

fn look_at_http(table: &Table<'_>, http: &Http) {
    let warn = |key: &'static str, why: &str, hint: &str| {
        if let Some(value) = table.value(key) {
            let title = format!("{} is most likely wrong", table.key_called(key));
            table.report(Diagnostic::at(value.span, title).label(why).hint(hint).warning());
        }
    };
    let is_absolute = ["/", "http://", "https://"].iter().any(|at| http.path.starts_with(at));
    let is_asterisk = http.method == "OPTIONS" && http.path == "*";
    if !is_absolute && !is_asterisk {
        let hint = format!("write path = {}", quoted(&format!("/{}", http.path)));
        warn("path", "it does not start with /, which most servers answer with 400", &hint);
    }
    let upper = http.method.to_ascii_uppercase();
    if http.method != upper {
        let hint = format!("write {}", quoted(&upper));
        warn("method", "HTTP methods are case-sensitive", &hint);
    }
}

fn look_at_check(backend: &BackendTable<'_>, users: &[User<'_, '_>]) {
    let Some(check) = &backend.watch.check else { return };
    let Some(table) = backend.table.table("check", Section::Check) else { return };
    if check.timeout > check.interval
        && let Some(value) = table.value("timeout").or_else(|| table.value("interval"))
    {
        let title = format!("{} is longer than its interval", table.key_called("timeout"));
        let label = format!("timeout is {:?}, interval {:?}", check.timeout, check.interval);
        table.report(
            Diagnostic::at(value.span, title)
                .label(label)
                .hint("a slow check delays the next one: lower timeout or raise interval")
                .warning(),
        );
    }
    if check.fast_interval >= check.interval {
        let why = format!("not shorter than interval ({:?})", check.interval);
        idle(&table, "fast_interval", &why, "set a shorter one, or remove the key");
    }
    if matches!(&check.address, Some(Address::Inet(inet)) if inet.port() != 0) {
        let hint = "remove one of the two";
        idle(&table, "port", "the address of the check already has a port", hint);
    }
    if let Kind::Http(http) = &check.kind {
        look_at_http(&table, http);
    }
    let serves = |protocol| users.iter().any(|(f, _)| f.settings.protocol == protocol);
    let is_bare = matches!(&check.kind, Kind::Tcp(steps) if steps.is_empty());
    if is_bare
        && serves(Protocol::Mysql)
        && let Some(value) = table.value("kind")
    {
        let title = format!("{} looks like an attack to MySQL", table.called());
        table.report(
            Diagnostic::at(value.span, title)
                .label("MySQL counts each check as an aborted connection")
                .hint(
                    "after max_connect_errors of them MySQL blocks this host: use kind = \"mysql\"",
                )
                .warning(),
        );
    }
}
